//! The encoder: one pass, one block, fixed Huffman code, matches of at most 4096 bytes back.
//!
//! A device reads the result, so distances stay within its window whatever the input's length, and no header
//! is sent that it could find fault with.
//!
//! Nearly all the time goes into branches that the processor guesses wrong, not into work. Hence the shape of
//! the loop: a match at once and a match after one literal have a branch each, because guessing lets the next
//! search begin early; the two positions after them share one; and how many literals precede a match, and
//! whether it is shorter than sixteen bytes, is arithmetic as far as possible.

use super::bits::{BitWriter, Overflow};
use super::fixed;
use super::matches::{MATCH, Seen, WINDOW, bytes, common_len};
use super::symbols::LONGEST;

/// Inputs are searched four positions at a time until fewer than this many bytes are left.
const TAIL: usize = 32;

/// Writes `src` as one fixed block, and returns its length.
pub(super) fn fixed_block(seen: &mut Seen, src: &[u8], dst: &mut [u8]) -> Result<usize, Overflow> {
    seen.clear();
    // Pages have code of their own, in which their length is a constant: it is 5 % faster. And in a page every earlier
    // position is in reach: no distance needs checking.
    match src.as_array::<WINDOW>() {
        Some(page) => encode::<false>(seen, page, dst),
        None => encode::<true>(seen, src, dst),
    }
}

#[inline(always)]
fn encode<const LONG: bool>(seen: &mut Seen, src: &[u8], dst: &mut [u8]) -> Result<usize, Overflow> {
    let mut out = BitWriter::new(dst);
    out.put((fixed::LAST_BLOCK, 3));
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

        if let Some(earlier) = seen.find::<LONG>(src, pos, word as u32) {
            // Bytes that are at hand. With more of the match, streams are no shorter to speak of.
            seen.remember(pos + 1, next as u32);
            pos += put_match(&mut out, seen, src, pos, earlier)?;
            continue;
        }
        if let Some(earlier) = seen.find::<LONG>(src, pos + 1, next as u32) {
            out.put(fixed::literal(word as u8));
            pos += 1;
            pos += put_match(&mut out, seen, src, pos, earlier)?;
            continue;
        }
        let (third, fourth) = ((word >> 16) as u32, (word >> 24) as u32);
        let third = seen.candidate::<LONG>(src, pos + 2, third);
        let fourth = seen.candidate::<LONG>(src, pos + 3, fourth);
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
            pos += put_match(&mut out, seen, src, pos, earlier)?;
        }
    }

    while let Some(word) = bytes(src, pos).map(u32::from_le_bytes) {
        match seen.find::<LONG>(src, pos, word) {
            Some(earlier) => {
                let len = MATCH + common_len(src, pos + MATCH, earlier + MATCH, LONGEST - MATCH);
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

/// Writes the match between `pos` and `earlier`, at least sixteen bytes before the end, and its length.
#[inline(always)]
fn put_match(
    out: &mut BitWriter<'_>,
    seen: &mut Seen,
    src: &[u8],
    pos: usize,
    earlier: usize,
) -> Result<usize, Overflow> {
    let here = bytes(src, pos).map(u128::from_le_bytes).expect("matches begin 16 bytes before the end");
    let there = bytes(src, earlier).map(u128::from_le_bytes).expect("earlier is before pos");
    let len = match here ^ there {
        0 => 16 + common_len(src, pos + 16, earlier + 16, LONGEST - 16),
        unequal => unequal.trailing_zeros() as usize / 8,
    };
    // What repeats often goes on where a match ended. Remembered before the match is written, it costs next to nothing.
    let last = pos + len - 1;
    if let Some(word) = bytes(src, last) {
        seen.remember(last, u32::from_le_bytes(word));
    }
    out.put(fixed::matched(len, pos - earlier));
    out.flush()?;
    Ok(len)
}
