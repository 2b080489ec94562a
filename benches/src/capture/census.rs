//! What is in a set of pages: zero, same-filled and duplicate pages, and the hash that names the set.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zfolio_accel::PAGE_SIZE;

use crate::quantity::share;

/// The answer. Every page is in at most one of the three classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PageFacts {
    pub(crate) pages: u64,
    /// All bytes zero.
    pub(crate) zero_pages: u64,
    pub(crate) zero_share: f64,
    /// One 8-byte word all through, and not zero.
    pub(crate) same_filled_nonzero_pages: u64,
    pub(crate) same_filled_nonzero_share: f64,
    /// Neither, and equal to an earlier page.
    pub(crate) duplicate_pages: u64,
    pub(crate) duplicate_share: f64,
    /// Of all pages, one after another: the hash of the file.
    pub(crate) sha256: String,
}

impl PageFacts {
    /// Enough of the hash to tell two corpora apart in a table.
    pub(crate) fn short_sha256(&self) -> &str {
        self.sha256.get(..12).unwrap_or(&self.sha256)
    }
}

/// Counts pages as they pass.
#[derive(Default)]
pub(crate) struct Census {
    pages: u64,
    zero: u64,
    same_filled: u64,
    duplicate: u64,
    // 64 bits: among a million pages one false duplicate in 10^7 captures.
    seen: HashSet<u64>,
    sha256: Sha256,
}

impl Census {
    /// Counts one page.
    pub(crate) fn add(&mut self, page: &[u8; PAGE_SIZE]) {
        self.pages += 1;
        self.sha256.update(page);
        let (word, _) = page.split_at(8);
        if page.chunks_exact(8).all(|other| other == word) {
            if word == [0; 8] {
                self.zero += 1;
            } else {
                self.same_filled += 1;
            }
        } else {
            let mut hasher = DefaultHasher::new();
            hasher.write(page);
            self.duplicate += u64::from(!self.seen.insert(hasher.finish()));
        }
    }

    /// Pages counted so far.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// Ends the count.
    pub(crate) fn finish(self) -> PageFacts {
        let Self { pages, zero, same_filled, duplicate, sha256, .. } = self;
        PageFacts {
            pages,
            zero_pages: zero,
            zero_share: share(zero, pages),
            same_filled_nonzero_pages: same_filled,
            same_filled_nonzero_share: share(same_filled, pages),
            duplicate_pages: duplicate,
            duplicate_share: share(duplicate, pages),
            sha256: sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// The census of pages that are in memory already.
pub(crate) fn census_of(pages: &[[u8; PAGE_SIZE]]) -> PageFacts {
    let mut census = Census::default();
    pages.iter().for_each(|page| census.add(page));
    census.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_counted_in_one_class() {
        let mut text = [b'a'; PAGE_SIZE];
        text[100] = b'b';
        let mut alternating = [0u8; PAGE_SIZE];
        alternating.iter_mut().step_by(8).for_each(|byte| *byte = 7);
        let pages = [[0; PAGE_SIZE], [0; PAGE_SIZE], alternating, text, text, text];
        let facts = census_of(&pages);
        let PageFacts { zero_pages, same_filled_nonzero_pages, duplicate_pages, .. } = facts;
        assert_eq!((facts.pages, zero_pages, same_filled_nonzero_pages, duplicate_pages), (6, 2, 1, 2));
        assert_eq!(facts.zero_share, 2.0 / 6.0);
    }

    #[test]
    fn the_hash_is_the_one_sha256sum_prints() {
        let facts = census_of(&[[0; PAGE_SIZE]]);
        assert_eq!(facts.sha256, "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7");
        assert_eq!(facts.short_sha256(), "ad7facb2586f");
    }
}
