//! The page encoder: two tables, and few sequences.
//!
//! Earlier places are found by eight bytes first, then by five: the matches are longer than those of one table for four,
//! so the block is denser and has fewer sequences, by which a reader's time goes. Matches of four bytes, which save one, are not
//! looked for; nor is one of five taken from so near that a reader would wait for what it has just written.
//! The page is copied first, so that someone who writes to it meanwhile cannot make a comparison and a copy disagree.

use super::{MIN_MATCH, PAGE};

/// Output bytes that always suffice: all literals, or sequences that are shorter than what they stand for.
pub(super) const MAX_COMPRESSED_LEN: usize = PAGE + PAGE / 255 + 16;

/// No match begins later, or ends less than [`LAST_LITERALS`] before the end: the format's rules for encoders.
const LAST_START: usize = PAGE - 12;
const LAST_LITERALS: usize = 5;

/// Bytes by which the tables are looked up; the fewer are the shortest match.
const LONG: usize = 8;
const SHORT: usize = 5;
const TABLE_BITS: u32 = 12;

/// A shortest match from less far away is left.
const NEAR: usize = 64;

/// Beyond the page, so that eight and sixteen bytes can be read anywhere in it.
const PADDING: usize = 32;

/// Where bytes with a hash were last seen; 0 in the beginning.
type Table = [u16; 1 << TABLE_BITS];

/// Memory that the encoder reuses.
pub(super) struct Encoder {
    long: Table,
    short: Table,
    page: [u8; PAGE + PADDING],
}

/// A place, and an earlier one with the same bytes.
#[derive(Clone, Copy)]
struct Match {
    start: usize,
    source: usize,
    len: usize,
}

impl Encoder {
    pub(super) const EMPTY: Encoder =
        Encoder { long: [0; 1 << TABLE_BITS], short: [0; 1 << TABLE_BITS], page: [0; PAGE + PADDING] };

    /// Compresses `page` into the front of `dst`; the block's length.
    pub(super) fn encode(&mut self, page: &[u8; PAGE], dst: &mut [u8; MAX_COMPRESSED_LEN]) -> usize {
        self.page[..PAGE].copy_from_slice(page);
        self.long.fill(0);
        self.short.fill(0);
        let mut out = Output { dst, len: 0 };
        let mut anchor = 0;
        // The first byte has nothing before it.
        let (mut start, mut misses) = (1, 32);
        while start < LAST_START {
            let Some(found) = self.find(start) else {
                // The longer there is no match, the larger the steps.
                start += misses / 32;
                misses += 1;
                continue;
            };
            let found = found.back_to(anchor, &self.page);
            out.sequence(&self.page, anchor, found);
            anchor = found.start + found.len;
            if anchor < LAST_START {
                for place in [found.start + 2, anchor - 2] {
                    let word = self.word(place);
                    enter::<LONG>(&mut self.long, word, place);
                    enter::<SHORT>(&mut self.short, word, place);
                }
            }
            (start, misses) = (anchor, 32);
        }
        out.literals(&self.page, anchor, PAGE - anchor, 0);
        out.len
    }

    /// A match at `start`, or a long one a byte later.
    #[inline(always)]
    fn find(&mut self, start: usize) -> Option<Match> {
        let word = self.word(start);
        let long = enter::<LONG>(&mut self.long, word, start);
        let short = enter::<SHORT>(&mut self.short, word, start);
        if self.word(long) == word {
            return Some(self.matching::<LONG>(start, long));
        }
        if (self.word(short) ^ word) << (64 - 8 * SHORT) != 0 {
            return None;
        }
        let found = self.matching::<SHORT>(start, short);
        if found.len == SHORT && start - short < NEAR {
            return None;
        }
        let word = self.word(start + 1);
        let long = enter::<LONG>(&mut self.long, word, start + 1);
        Some(if self.word(long) == word { self.matching::<LONG>(start + 1, long) } else { found })
    }

    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        // A mask costs less than a check.
        self.page[at % PAGE..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    #[inline(always)]
    fn matching<const KNOWN: usize>(&self, start: usize, source: usize) -> Match {
        Match { start, source, len: self.common(start, source, KNOWN) }
    }

    /// How many bytes two places have in common, of which the first `known` are known.
    #[inline(always)]
    fn common(&self, start: usize, source: usize, known: usize) -> usize {
        let end = PAGE - LAST_LITERALS - start;
        let mut len = known;
        while len < end {
            let differing = self.word(start + len) ^ self.word(source + len);
            if differing != 0 {
                len += differing.trailing_zeros() as usize / 8;
                break;
            }
            len += 8;
        }
        len.min(end)
    }
}

impl Match {
    /// With the bytes before it that match too, down to `anchor`.
    #[inline(always)]
    fn back_to(mut self, anchor: usize, page: &[u8; PAGE + PADDING]) -> Match {
        while self.start > anchor && self.source > 0 && page[self.start - 1] == page[self.source - 1] {
            self = Match { start: self.start - 1, source: self.source - 1, len: self.len + 1 };
        }
        self
    }
}

/// Enters a place by the first `BYTES` of its bytes, and gives the one that was there.
#[inline(always)]
fn enter<const BYTES: usize>(table: &mut Table, word: u64, place: usize) -> usize {
    let hash = (word << (64 - 8 * BYTES)).wrapping_mul(0x9e37_79b1_85eb_ca87);
    let entry = &mut table[(hash >> (64 - TABLE_BITS)) as usize];
    usize::from(std::mem::replace(entry, place as u16))
}

/// The block as far as it is made.
struct Output<'a> {
    dst: &'a mut [u8; MAX_COMPRESSED_LEN],
    len: usize,
}

impl Output<'_> {
    #[inline(always)]
    fn sequence(&mut self, page: &[u8; PAGE + PADDING], anchor: usize, found: Match) {
        let more = found.len - MIN_MATCH;
        self.literals(page, anchor, found.start - anchor, more.min(15) as u8);
        self.push(&((found.start - found.source) as u16).to_le_bytes());
        if more >= 15 {
            self.count(more - 15);
        }
    }

    /// A token, and the literals.
    #[inline(always)]
    fn literals(&mut self, page: &[u8; PAGE + PADDING], from: usize, len: usize, low: u8) {
        if len < 15 {
            self.push(&[(len as u8) << 4 | low]);
            // Sixteen bytes are copied sooner than a number of them that varies.
            let (to, bytes) = (&mut self.dst[self.len..], &page[from..]);
            match (to.first_chunk_mut::<16>(), bytes.first_chunk::<16>()) {
                (Some(to), Some(bytes)) => *to = *bytes,
                _ => to[..len].copy_from_slice(&bytes[..len]),
            }
        } else {
            self.push(&[0xf0 | low]);
            self.count(len - 15);
            self.dst[self.len..][..len].copy_from_slice(&page[from..][..len]);
        }
        self.len += len;
    }

    /// A number in bytes, of which all but the last are full.
    #[inline(always)]
    fn count(&mut self, mut number: usize) {
        while number >= 255 {
            self.push(&[255]);
            number -= 255;
        }
        self.push(&[number as u8]);
    }

    #[inline(always)]
    fn push<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.dst[self.len..][..N].copy_from_slice(bytes);
        self.len += N;
    }
}
