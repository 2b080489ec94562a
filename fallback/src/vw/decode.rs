//! The portable decoder: what the format says, a word at a time, in safe code.
//!
//! The oracle of every test, and the reader where the CPU has no fast path. Every read goes through a checked
//! slice, so a wrong stream ends in `None`.

use super::format::{
    BLOCK, BLOCKS, FIRST_DISTANCE, HEADER_LEN, Header, LANES, MAX_STREAM, PAGE, QUARTER, WORDS, classes_len,
};
use super::planes;

/// Bytes of a section, one after another.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    #[inline(always)]
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(front)
    }

    #[inline(always)]
    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }
}

/// Decodes `src` into `page`; `None` if it is not one whole stream, and then `page` holds garbage made of `src` and
/// of what it held before.
pub(super) fn decode(src: &[u8], page: &mut [u8; PAGE]) -> Option<()> {
    if src.len() > MAX_STREAM {
        return None;
    }
    let header = Header::read(src)?;
    let mut rest = Bytes(&src[HEADER_LEN..]);
    let masks = repeat_masks(&header, rest.take(2 * header.masks())?);
    let repeating: u32 = masks.iter().map(|mask| mask.count_ones()).sum();

    // Eight bytes more than there can be, so that any 32 bits are two aligned reads away from the end.
    let mut classes = [0; WORDS / 4 + 8];
    let section = rest.take(classes_len(repeating as usize))?;
    classes[..section.len()].copy_from_slice(section);

    let mut literals = [0; WORDS];
    let literals = &mut literals[..header.literals];
    if header.coded {
        let used = planes::decode(rest.0, literals)?;
        rest.take(used)?;
    } else {
        for (word, bytes) in literals.iter_mut().zip(rest.take(4 * header.literals)?.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
    }
    if rest.0.len() != header.tail_len() {
        return None;
    }
    let mut lows = Bytes(rest.take(header.lows)?);
    let near = rest.take(header.fresh)?;
    let far = rest.take(header.fresh.div_ceil(2))?;
    let exact = rest.0;
    let mut literals = literals.iter();
    let mut fresh = 0;

    let (mut bit, mut distance) = (0, FIRST_DISTANCE);
    for (block, &repeats) in masks.iter().enumerate() {
        let start = block * BLOCK;
        if block % QUARTER == 0 {
            distance = FIRST_DISTANCE;
        }
        if repeats == u16::MAX && distance >= BLOCK {
            let from = start.checked_sub(distance)?;
            page.copy_within(from..from + BLOCK, start);
            continue;
        }
        let others = repeats.count_zeros() as usize;
        let (mut class, mut class_upper) = class_bits(&classes, bit, others);
        bit += 2 * others;
        let (done, block_bytes) = page.split_at_mut(start);
        for (lane, word) in block_bytes[..BLOCK].as_chunks_mut::<4>().0.iter_mut().enumerate() {
            // A source ends before its block begins, so the words of a block do not wait for one another.
            let source = |distance: usize| -> Option<u32> {
                let from = (start + 4 * lane).checked_sub(distance)?;
                Some(u32::from_le_bytes(*done.get(from..)?.first_chunk()?))
            };
            let value = if repeats >> lane & 1 != 0 {
                source(distance)?
            } else {
                let kind = class & 1 | (class_upper & 1) << 1;
                (class, class_upper) = (class >> 1, class_upper >> 1);
                match kind {
                    0 => 0,
                    1 => *literals.next()?,
                    2 => source(distance)? & !0xff | u32::from(lows.next()?),
                    _ => {
                        let far = far.get(fresh / 2)? >> (4 * (fresh % 2)) & 15;
                        distance = usize::from(*near.get(fresh)?) + (usize::from(far) << 8) + 1;
                        let exact = exact.get(fresh / 8)? >> (fresh % 8) & 1;
                        fresh += 1;
                        let word = source(distance)?;
                        if exact != 0 { word } else { word & !0xff | u32::from(lows.next()?) }
                    }
                }
            };
            *word = value.to_le_bytes();
        }
    }
    // What is left over was not part of a page.
    (literals.next().is_none() && lows.0.is_empty() && fresh == header.fresh).then_some(())
}

/// For each block, the words that equal the word at the distance.
fn repeat_masks(header: &Header, listed: &[u8]) -> [u16; BLOCKS] {
    let mut listed = listed.as_chunks().0.iter();
    std::array::from_fn(|block| {
        if header.all >> block & 1 != 0 {
            u16::MAX
        } else if header.none >> block & 1 != 0 {
            0
        } else {
            listed.next().map_or(0, |bytes| u16::from_le_bytes(*bytes))
        }
    })
}

/// The lower and the upper bits of the classes of `count` words.
#[inline(always)]
fn class_bits(classes: &[u8; WORDS / 4 + 8], bit: usize, count: usize) -> (u32, u32) {
    let mut bytes = [0; 8];
    // 16 words of each of 64 blocks at two bits: the read begins at most at the 256th byte.
    bytes.copy_from_slice(&classes[bit / 8..bit / 8 + 8]);
    let bits = u64::from_le_bytes(bytes) >> (bit % 8);
    ((bits & ((1 << count) - 1)) as u32, (bits >> count) as u32)
}

const _: () = assert!(LANES * 4 == BLOCK && BLOCKS * BLOCK == PAGE);
