//! The encoder: one pass, one block, fixed Huffman code, matches of at most 4096 bytes back.
//!
//! A device reads the result, so distances stay within its window whatever the input's length, and no header
//! is sent that it could find fault with. One hash table remembers where four bytes were seen last; whatever
//! it says is compared with the data, so no entry can make a wrong match, only a missed one.
//!
//! Nearly all the time goes into branches that the processor guesses wrong, not into work. Hence the shape of
//! the loop: a match at once and a match after one literal have a branch each, because guessing lets the next
//! search begin early; the two positions after them share one; and how many literals precede a match, and
//! whether it is shorter than sixteen bytes, is arithmetic as far as possible.

use super::bits::{BitWriter, Overflow};
use super::fixed;

/// How far back a match may reach: as far as the device remembers.
pub(super) const WINDOW: usize = 4096;

/// Shortest match searched for. One of three bytes saves at most two bits against its literals.
const MATCH: usize = 4;

const HASH_BITS: u32 = 12;

/// Inputs are searched four positions at a time until fewer than this many bytes are left.
const TAIL: usize = 32;

/// The last position of each hash of four bytes, modulo 65536.
///
/// Cleared for each input, so that equal inputs give equal streams. Zero then means position 0, which is what
/// an empty entry may well say: it is compared like any other.
pub(super) struct Encoder {
    seen: Box<[u16; 1 << HASH_BITS]>,
}

impl Encoder {
    pub(super) fn new() -> Encoder {
        Encoder { seen: Box::new([0; 1 << HASH_BITS]) }
    }

    /// Writes `src` as one fixed block, and its length.
    pub(super) fn fixed_block(&mut self, src: &[u8], dst: &mut [u8]) -> Result<usize, Overflow> {
        self.seen.fill(0);
        // In a short input every earlier position is in reach: no distance needs checking.
        if src.len() <= WINDOW { self.encode::<false>(src, dst) } else { self.encode::<true>(src, dst) }
    }

    fn encode<const LONG: bool>(&mut self, src: &[u8], dst: &mut [u8]) -> Result<usize, Overflow> {
        let seen = &mut *self.seen;
        let mut out = BitWriter::new(dst);
        out.put((fixed::LAST_FIXED_BLOCK, 3));
        let mut pos = 0;
        // Nothing comes before the first byte, and empty entries already name it. From here on every entry
        // is below `pos`: those made ahead of it lie within the match that `pos` then passes.
        if let Some(&first) = src.first() {
            out.put(fixed::literal(first));
            out.flush()?;
            pos = 1;
        }

        while pos + TAIL <= src.len() {
            let (Some(word), Some(next)) = (bytes(src, pos), bytes(src, pos + 1)) else { break };
            let (word, next) = (u64::from_le_bytes(word), u64::from_le_bytes(next));

            if let Some(earlier) = find::<LONG>(seen, src, pos, word as u32) {
                // One position within the match is remembered, whose bytes are at hand. With the match's end as
                // well, streams of process memory are 1 to 2 % shorter and made up to 8 % slower.
                seen[slot(next as u32)] = (pos + 1) as u16;
                pos += put_match(&mut out, src, pos, earlier)?;
                continue;
            }
            if let Some(earlier) = find::<LONG>(seen, src, pos + 1, next as u32) {
                out.put(fixed::literal(word as u8));
                pos += 1;
                pos += put_match(&mut out, src, pos, earlier)?;
                continue;
            }
            let (third, fourth) = ((word >> 16) as u32, (word >> 24) as u32);
            let third = candidate::<LONG>(seen, src, pos + 2, third);
            let fourth = candidate::<LONG>(seen, src, pos + 3, fourth);
            let found = u32::from(third.1) << 2 | u32::from(fourth.1) << 3;

            let (literals, ends) = fixed::four_literals(word);
            if found == 0 {
                out.put((literals, (ends >> 32) as u32 & 63));
                out.flush()?;
                pos += 4;
            } else {
                let before = found.trailing_zeros();
                let len = (ends >> ((8 * before) & 63)) as u32 & 63;
                out.put((literals & ((1 << len) - 1), len));
                pos += before as usize;
                let earlier = std::hint::select_unpredictable(third.1, third.0, fourth.0);
                pos += put_match(&mut out, src, pos, earlier)?;
            }
        }

        while let Some(word) = bytes(src, pos).map(u32::from_le_bytes) {
            match find::<LONG>(seen, src, pos, word) {
                Some(earlier) => {
                    let len = MATCH + common_len(src, pos + MATCH, earlier + MATCH, fixed::LONGEST - MATCH);
                    out.put(fixed::matched(len, pos - earlier));
                    pos += len;
                }
                None => {
                    out.put(fixed::literal(word as u8));
                    pos += 1;
                }
            }
            out.flush()?;
        }
        for &byte in &src[pos..] {
            out.put(fixed::literal(byte));
            out.flush()?;
        }
        out.put((0, fixed::END_OF_BLOCK_LEN));
        out.finish()
    }
}

/// The place of four bytes in the table.
#[inline(always)]
fn slot(word: u32) -> usize {
    // The multiplier is 2^32 divided by the golden ratio.
    (word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

/// Where the four bytes `word` at `pos` were seen last, and whether they are there; remembers `pos`.
#[inline(always)]
fn candidate<const LONG: bool>(
    seen: &mut [u16; 1 << HASH_BITS],
    src: &[u8],
    pos: usize,
    word: u32,
) -> (usize, bool) {
    let entry = &mut seen[slot(word)];
    let earlier = if LONG {
        // The distance is right modulo 65536. A position that many bytes older or more gives a wrong
        // one, and with it other bytes to compare, which is as good.
        let distance = usize::from((pos as u16).wrapping_sub(*entry));
        if distance.wrapping_sub(1) < WINDOW && distance <= pos { pos - distance } else { usize::MAX }
    } else {
        usize::from(*entry)
    };
    *entry = pos as u16;
    (earlier, bytes(src, earlier).is_some_and(|bytes| u32::from_le_bytes(bytes) == word))
}

/// An earlier position with the four bytes `word`, which are at `pos`, if the table knows one; remembers `pos`.
#[inline(always)]
fn find<const LONG: bool>(
    seen: &mut [u16; 1 << HASH_BITS],
    src: &[u8],
    pos: usize,
    word: u32,
) -> Option<usize> {
    let (earlier, same) = candidate::<LONG>(seen, src, pos, word);
    same.then_some(earlier)
}

/// Writes the match between `pos` and `earlier`, at least sixteen bytes before the end, and its length.
#[inline(always)]
fn put_match(out: &mut BitWriter<'_>, src: &[u8], pos: usize, earlier: usize) -> Result<usize, Overflow> {
    let here = bytes(src, pos).map(u128::from_le_bytes).expect("matches begin 16 bytes before the end");
    let there = bytes(src, earlier).map(u128::from_le_bytes).expect("earlier is before pos");
    let len = match here ^ there {
        0 => 16 + common_len(src, pos + 16, earlier + 16, fixed::LONGEST - 16),
        unequal => unequal.trailing_zeros() as usize / 8,
    };
    out.put(fixed::matched(len, pos - earlier));
    out.flush()?;
    Ok(len)
}

/// How many bytes from `a` on equal those from `b` on, up to `max` or the end; `b` is below `a`.
#[inline(always)]
fn common_len(src: &[u8], a: usize, b: usize, max: usize) -> usize {
    let max = max.min(src.len() - a);
    let mut len = 0;
    while len + 8 <= max {
        let (Some(x), Some(y)) = (bytes(src, a + len), bytes(src, b + len)) else { break };
        let unequal = u64::from_le_bytes(x) ^ u64::from_le_bytes(y);
        if unequal != 0 {
            return len + unequal.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    while len < max && src[a + len] == src[b + len] {
        len += 1;
    }
    len
}

/// The `N` bytes at `at`.
#[inline(always)]
fn bytes<const N: usize>(src: &[u8], at: usize) -> Option<[u8; N]> {
    src.get(at..)?.first_chunk().copied()
}
