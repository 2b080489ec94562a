//! Finds for each word of a page an earlier one that is like it.
//!
//! In steps over a few blocks at a time, so that a compiler can make vectors of all but the reads and writes of tables
//! themselves: hashes and entries, look-ups, remembering, and at last the comparison, which is the caller's. An
//! entry holds the word beside its position, so that nobody fetches it from there.

use super::encode::{FRONT, Window};
use super::format::{BLOCK, BLOCKS, LANES};
use super::search::{self, Search, TABLE, TOGETHER};

/// A position in the upper half, the word there in the lower.
pub(super) type Entry = u64;

/// Words of the blocks that are looked up together, and most offsets at which words are remembered.
pub(super) const GROUP: usize = TOGETHER * LANES;
const OFFSETS: usize = 4;

/// A table, and beside it the hashes of a group's words at each offset, and what was found.
struct Table {
    entries: [Entry; TABLE],
    hashes: [[u16; GROUP]; OFFSETS],
    found: [Entry; GROUP],
}

impl Table {
    const EMPTY: Table = Table { entries: [0; TABLE], hashes: [[0; GROUP]; OFFSETS], found: [0; GROUP] };

    /// Reads the entries of all aligned words.
    #[inline(always)]
    fn look_up(&mut self) {
        for (found, &hash) in self.found.iter_mut().zip(&self.hashes[0]) {
            *found = self.entries[usize::from(hash) % TABLE];
        }
    }

    /// Enters all words at an offset; of those with one hash the last stays.
    #[inline(always)]
    fn remember(&mut self, offset: usize, made: &[Entry; GROUP]) {
        for (&made, &hash) in made.iter().zip(&self.hashes[offset]) {
            self.entries[usize::from(hash) % TABLE] = made;
        }
    }
}

/// The tables, by words' upper three bytes and by whole words, and the entries that the words of a group become.
pub(super) struct Dictionary {
    by_upper: Table,
    by_word: Table,
    made: [[Entry; GROUP]; OFFSETS],
}

/// What the tables hold for the words of a group.
pub(super) struct Candidates<'a> {
    pub(super) by_upper: &'a [Entry; GROUP],
    /// Not looked up, and of no meaning, unless whole words are searched.
    pub(super) by_word: &'a [Entry; GROUP],
}

impl Dictionary {
    pub(super) const EMPTY: Dictionary =
        Dictionary { by_upper: Table::EMPTY, by_word: Table::EMPTY, made: [[0; GROUP]; OFFSETS] };

    /// Looks up the words of all blocks, and tells `compare` what was found for a group, and its first block.
    ///
    /// A position found may be any of the page that was entered before, or 0. A window's page begins at [`FRONT`], and
    /// behind it are three bytes more.
    #[inline(always)]
    pub(super) fn search<S: Search>(
        &mut self,
        window: &Window,
        mut compare: impl FnMut(usize, Candidates<'_>),
    ) {
        let Dictionary { by_upper, by_word, made } = self;
        // What no word was entered for leads to the page's first word.
        let first = Entry::from(words_at(window, FRONT)[0]);
        by_upper.entries.fill(first);
        if S::WHOLE_WORDS {
            by_word.entries.fill(first);
        }
        for first in (0..BLOCKS).step_by(TOGETHER) {
            for offset in 0..S::OFFSETS {
                for block in 0..TOGETHER {
                    let start = (first + block) * BLOCK + offset;
                    let words = words_at(window, FRONT + start);
                    let lanes = block * LANES..(block + 1) * LANES;
                    if S::WHOLE_WORDS {
                        hash(&words, &mut by_word.hashes[offset][lanes.clone()]);
                    }
                    if offset == 0 || S::UPPER_AT_ALL_OFFSETS {
                        let upper = words.map(|word| word >> 8);
                        hash(&upper, &mut by_upper.hashes[offset][lanes.clone()]);
                    }
                    for (lane, (made, word)) in made[offset][lanes].iter_mut().zip(words).enumerate() {
                        *made = Entry::from((start + 4 * lane) as u32) << 32 | Entry::from(word);
                    }
                }
            }
            by_upper.look_up();
            if S::WHOLE_WORDS {
                by_word.look_up();
            }
            for offset in (0..S::OFFSETS).rev() {
                if offset == 0 || S::UPPER_AT_ALL_OFFSETS {
                    by_upper.remember(offset, &made[offset]);
                }
                if S::WHOLE_WORDS {
                    by_word.remember(offset, &made[offset]);
                }
            }
            // Between the writes and the reads of the next group, so that these do not run ahead of those.
            compare(first, Candidates { by_upper: &by_upper.found, by_word: &by_word.found });
        }
    }
}

#[inline(always)]
fn hash(keys: &[u32; LANES], hashes: &mut [u16]) {
    hashes.iter_mut().zip(keys).for_each(|(hash, &key)| *hash = search::hash(key) as u16);
}

/// Sixteen words, from any byte of the window on.
#[inline(always)]
pub(super) fn words_at(window: &[u8], at: usize) -> [u32; LANES] {
    let mut words = [0; LANES];
    let bytes = window[at..at + BLOCK].as_chunks::<4>().0;
    words.iter_mut().zip(bytes).for_each(|(word, bytes)| *word = u32::from_le_bytes(*bytes));
    words
}
