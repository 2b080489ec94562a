//! The portable decoder: what the format says, a word at a time, in safe code.
//!
//! The oracle of every test, and the reader where the CPU has no fast path. Every read goes through a checked
//! slice, so a wrong stream ends in `None`.

use super::format::{
    BLOCK, BLOCKS, FIRST_DISTANCE, GROUP, GROUPS, HEADER_LEN, Header, LANES, MAX_STREAM, PAGE, QUARTER,
    WORDS, classes_len,
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

    let classes = Bits::<{ WORDS / 4 + 16 }>::of(rest.take(classes_len(repeating as usize))?);
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
    let exact = Bits::<{ WORDS / 8 + 16 }>::of(rest.0);
    // Behind the one in force where a quarter begins, which takes the place of the last of the quarter before.
    let mut distances = [0; WORDS + 1];
    for (at, (distance, &near)) in distances[1..].iter_mut().zip(near).enumerate() {
        *distance = usize::from(near) + (usize::from(far[at / 2] >> (4 * (at % 2)) & 15) << 8) + 1;
    }

    // A loop over the words of one kind is left once a block, where the kind of each word would be guessed, and wrongly.
    let (mut bit, mut fresh, mut literals) = (0, 0, literals.iter());
    for (group, &repeats) in masks.iter().enumerate() {
        if group % (QUARTER / GROUP) == 0 {
            distances[fresh] = FIRST_DISTANCE;
        }
        let count = repeats.count_zeros() as usize;
        let (lower, upper) = (classes.at(bit), classes.at(bit + count));
        bit += 2 * count;
        let (lower, upper) = deposit(lower, upper, !repeats);
        let (is_fresh, matched) = (lower & upper, repeats | upper);
        let with_low = upper & !deposit(exact.at(fresh), 0, is_fresh).0;
        for turn in 0..GROUP {
            let start = (group * GROUP + turn) * BLOCK;
            let of = |mask: u64| (mask >> (LANES * turn)) as u16;
            let distance = distances[fresh];
            if of(repeats) == u16::MAX && distance >= BLOCK {
                let from = start.checked_sub(distance)?;
                page.copy_within(from..from + BLOCK, start);
                continue;
            }
            let (done, rest) = page.split_at_mut(start);
            let block: &mut [[u8; 4]; LANES] = rest.as_chunks_mut().0.first_chunk_mut()?;
            *block = [[0; 4]; LANES];
            for lane in lanes(of(lower & !upper)) {
                block[lane] = literals.next()?.to_le_bytes();
            }
            let is_fresh = of(is_fresh);
            for lane in lanes(of(matched)) {
                fresh += usize::from(is_fresh >> lane & 1);
                // A source ends before its block begins, so the words of a block do not wait for one another.
                let from = (start + 4 * lane).checked_sub(distances[fresh])?;
                block[lane] = *done.get(from..)?.first_chunk()?;
            }
            for lane in lanes(of(with_low)) {
                block[lane][0] = lows.next()?;
            }
        }
    }
    // What is left over was not part of a page.
    (literals.next().is_none() && lows.0.is_empty() && fresh == header.fresh).then_some(())
}

/// For each group of blocks, the words that equal the word at the distance.
fn repeat_masks(header: &Header, listed: &[u8]) -> [u64; GROUPS] {
    let mut listed = listed.as_chunks().0.iter();
    let mut mask = |block: usize| {
        if header.all >> block & 1 != 0 {
            u16::MAX
        } else if header.none >> block & 1 != 0 {
            0
        } else {
            listed.next().map_or(0, |bytes| u16::from_le_bytes(*bytes))
        }
    };
    std::array::from_fn(|group| {
        (0..GROUP).fold(0, |masks, turn| masks | u64::from(mask(group * GROUP + turn)) << (LANES * turn))
    })
}

/// A section of bits, with at least sixteen bytes more than it can have.
struct Bits<const N: usize>([u8; N]);

impl<const N: usize> Bits<N> {
    fn of(section: &[u8]) -> Bits<N> {
        let mut bytes = [0; N];
        bytes[..section.len()].copy_from_slice(section);
        Bits(bytes)
    }

    /// 64 bits.
    #[inline(always)]
    fn at(&self, bit: usize) -> u64 {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[bit / 8..bit / 8 + 16]);
        (u128::from_le_bytes(bytes) >> (bit % 8)) as u64
    }
}

/// The lowest bits of two numbers, in the places that a mask has.
#[inline(always)]
fn deposit(one: u64, other: u64, mask: u64) -> (u64, u64) {
    let (mut one, mut other, mut left) = (one, other, mask);
    let mut deposited = (0, 0);
    while left != 0 {
        let place = left & left.wrapping_neg();
        deposited.0 |= place & (one & 1).wrapping_neg();
        deposited.1 |= place & (other & 1).wrapping_neg();
        (one, other, left) = (one >> 1, other >> 1, left ^ place);
    }
    deposited
}

/// The lanes of a mask.
#[inline(always)]
fn lanes(mask: u16) -> impl Iterator<Item = usize> {
    let mut left = u32::from(mask);
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

const _: () = assert!(LANES * 4 == BLOCK && BLOCKS * BLOCK == PAGE && LANES * GROUP == u64::BITS as usize);
