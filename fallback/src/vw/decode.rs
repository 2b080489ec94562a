//! The portable decoder: what the format says, in safe code that any CPU runs.
//!
//! The oracle of every test, and the reader where the CPU has no fast path. Every read goes through a checked
//! slice, so a wrong stream ends in `None`.
//!
//! A word of any kind is four bytes from somewhere: from the page as far as it is made, from the literals, or zeroes. All
//! three stand in one array, and where each word comes from is known before the first is made. So there is nothing to guess
//! but how many words of a block get a low byte of their own. Masks are used a byte at a time, since a table then tells of
//! each bit how many are set before it, and the loops over so many words are ones that compilers make vectors of.

use super::deposit::Deposit;
use super::format::{
    BLOCK, BLOCKS, FIRST_DISTANCE, GROUP, GROUPS, HEADER_LEN, Header, LANES, MAX_STREAM, PAGE, QUARTER,
    WORDS, classes_len,
};
use super::planes;
use super::ranks::{RANKS, ones};

/// The array that words come from: the page, the literals, and a zero.
type Sources = [u8; ZERO + 4];
const LITERALS: usize = PAGE;
const ZERO: usize = LITERALS + 4 * WORDS;

/// Words whose bits are one byte of a mask.
const STEP: usize = 8;
const GROUP_STEPS: usize = GROUP * LANES / STEP;

/// A number for each word of the page.
type Words = [[[u16; STEP]; GROUP_STEPS]; GROUPS];

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

/// Decodes `src` into `page`; `None` if it is not one whole stream, and then `page` is as it was.
pub(super) fn decode(src: &[u8], page: &mut [u8; PAGE]) -> Option<()> {
    if src.len() > MAX_STREAM {
        return None;
    }
    let header = Header::read(src)?;
    let mut rest = Bytes(&src[HEADER_LEN..]);
    let repeats = repeat_masks(&header, rest.take(2 * header.masks())?);
    let repeating: u32 = repeats.iter().map(|mask| mask.count_ones()).sum();
    let classes = rest.take(classes_len(repeating as usize))?;
    let mut sources: Sources = [0; _];
    let literals = &mut sources[LITERALS..ZERO];
    if header.coded {
        let used = planes::decode(rest.0, header.literals, literals.as_chunks_mut().0.first_chunk_mut()?)?;
        rest.take(used)?;
    } else {
        let raw = rest.take(4 * header.literals)?;
        literals[..raw.len()].copy_from_slice(raw);
    }
    if rest.0.len() != header.tail_len() {
        return None;
    }
    let lows = rest.take(header.lows)?;
    let mut distances = distances(rest.take(header.fresh)?, rest.take(header.fresh.div_ceil(2))?);
    let kinds = Kinds::of(&repeats, classes, rest.0);
    if kinds.counts() != [header.literals, header.lows, header.fresh] {
        return None;
    }
    let mut words: Words = [[[0; _]; _]; _];
    spread(&kinds.fresh, &mut distances, &mut words)?;
    locate(&kinds, &mut words)?;
    make(&header, &kinds, &words, lows, &mut sources)?;
    page.copy_from_slice(&sources[..PAGE]);
    Some(())
}

/// For each group of blocks, the words that equal the word at the distance.
fn repeat_masks(header: &Header, listed: &[u8]) -> [u64; GROUPS] {
    // One more than there can be: the next one is read before it is known whether the block has one.
    let mut masks = [0; 2 * (BLOCKS + 1)];
    masks[..listed.len()].copy_from_slice(listed);
    let (masks, mut next) = (masks.as_chunks().0, 0);
    let mut mask = |block: usize| {
        let (all, none) = (header.all >> block & 1 != 0, header.none >> block & 1 != 0);
        let listed = u16::from_le_bytes(masks[next]);
        next += usize::from(!(all | none));
        if all {
            u16::MAX
        } else if none {
            0
        } else {
            listed
        }
    };
    std::array::from_fn(|group| {
        (0..GROUP).fold(0, |masks, turn| masks | u64::from(mask(group * GROUP + turn)) << (LANES * turn))
    })
}

/// What the words of each group are, a bit for each word.
struct Kinds {
    literal: [u64; GROUPS],
    /// Words that have a source; those of them with a low byte of their own, and with a distance of their own.
    matched: [u64; GROUPS],
    with_low: [u64; GROUPS],
    fresh: [u64; GROUPS],
}

impl Kinds {
    fn of(repeats: &[u64; GROUPS], classes: &[u8], exact: &[u8]) -> Kinds {
        let others = repeats.map(|repeats| !repeats);
        let classes = Bits::<{ WORDS / 4 + 16 }>::of(classes);
        let (mut lower, mut upper, mut bit) = ([0; GROUPS], [0; GROUPS], 0);
        for (group, others) in others.iter().enumerate() {
            let count = others.count_ones() as usize;
            (lower[group], upper[group]) = (classes.at(bit), classes.at(bit + count));
            bit += 2 * count;
        }
        let deposit = Deposit::to(&others);
        let (lower, upper) = (deposit.deposit(&lower), deposit.deposit(&upper));

        let fresh: [u64; GROUPS] = std::array::from_fn(|group| lower[group] & upper[group]);
        let (exact, mut bit) = (Bits::<{ WORDS / 8 + 16 }>::of(exact), 0);
        let exact = fresh.map(|fresh| {
            let exact = exact.at(bit);
            bit += fresh.count_ones() as usize;
            exact
        });
        let exact = Deposit::to(&fresh).deposit(&exact);
        Kinds {
            literal: std::array::from_fn(|group| lower[group] & !upper[group]),
            matched: std::array::from_fn(|group| repeats[group] | upper[group]),
            with_low: std::array::from_fn(|group| upper[group] & !exact[group]),
            fresh,
        }
    }

    /// Literals, low bytes and fresh words.
    fn counts(&self) -> [usize; 3] {
        [&self.literal, &self.with_low, &self.fresh]
            .map(|masks| masks.iter().map(|mask| mask.count_ones() as usize).sum())
    }
}

/// The fresh distances behind the one in force where a quarter begins, which takes the place of the last of the quarter
/// before. So long that a rank, which is a byte, is no index out of bounds from any of them on.
type Distances = [u16; 1 + WORDS + 256];

fn distances(near: &[u8], far: &[u8]) -> Distances {
    let mut all: Distances = [0; _];
    let distances = &mut all[1..];
    for (distance, &near) in distances.iter_mut().zip(near) {
        *distance = u16::from(near) + 1;
    }
    // If they are odd in number, the last four bits are added to what is no distance.
    for (pair, &far) in distances.as_chunks_mut::<2>().0.iter_mut().zip(far) {
        pair[0] += u16::from(far & 15) << 8;
        pair[1] += u16::from(far >> 4) << 8;
    }
    all
}

/// The distance in force at each word.
fn spread(fresh: &[u64; GROUPS], distances: &mut Distances, words: &mut Words) -> Option<()> {
    let mut last = 0;
    for (group, (words, &fresh)) in words.iter_mut().zip(fresh).enumerate() {
        if group % (QUARTER / GROUP) == 0 {
            distances[last] = FIRST_DISTANCE as u16;
        }
        if fresh == 0 {
            *words = [[distances[last]; STEP]; GROUP_STEPS];
            continue;
        }
        for (words, fresh) in words.iter_mut().zip(fresh.to_le_bytes()) {
            let distances: &[u16; 256] = distances[last..].first_chunk()?;
            for (word, &rank) in words.iter_mut().zip(&RANKS[usize::from(fresh)]) {
                *word = distances[usize::from(rank)];
            }
            last += ones(fresh);
        }
    }
    Some(())
}

/// Where each word comes from, in the place of its distance; `None` if that is not where sources may be.
fn locate(kinds: &Kinds, words: &mut Words) -> Option<()> {
    let mut place: [u16; STEP] = std::array::from_fn(|lane| 4 * lane as u16);
    // That of the literal before, since a rank counts the word itself.
    let mut literal = [LITERALS as u16 - 4; STEP];
    let mut wrong = [0; STEP];
    for (group, words) in words.iter_mut().enumerate() {
        let masks = kinds.literal[group].to_le_bytes().into_iter().zip(kinds.matched[group].to_le_bytes());
        for ((step, words), (is_literal, is_matched)) in words.iter_mut().enumerate().zip(masks) {
            let block = BLOCK * (group * GROUP + step * STEP / LANES);
            let ranks = &RANKS[usize::from(is_literal)];
            let (is_literal, is_matched) =
                (&LANES_OF[usize::from(is_literal)], &LANES_OF[usize::from(is_matched)]);
            for lane in 0..STEP {
                let (is_literal, is_matched) =
                    (i16::from(is_literal[lane]) as u16, i16::from(is_matched[lane]) as u16);
                let source = place[lane].wrapping_sub(words[lane]);
                // It ends before the block begins. One before the page is, as an unsigned number, above all that do.
                wrong[lane] |= is_matched & source.saturating_add(4).saturating_sub(block as u16);
                words[lane] = is_matched & source
                    | is_literal & (literal[lane] + 4 * u16::from(ranks[lane]))
                    | !(is_matched | is_literal) & ZERO as u16;
            }
            place = place.map(|place| place + 4 * STEP as u16);
            literal = literal.map(|literal| literal + 4 * u16::from(ranks[STEP - 1]));
        }
    }
    (wrong == [0; STEP]).then_some(())
}

/// For each byte of a mask and each of its bits, all ones if it is set.
static LANES_OF: [[i8; STEP]; 256] = {
    let mut lanes = [[0; STEP]; 256];
    let mut mask = 0;
    while mask < 256 {
        let mut lane = 0;
        while lane < STEP {
            lanes[mask][lane] = -((mask >> lane & 1) as i8);
            lane += 1;
        }
        mask += 1;
    }
    lanes
};

/// Makes the page, in front of the literals.
fn make(header: &Header, kinds: &Kinds, words: &Words, lows: &[u8], sources: &mut Sources) -> Option<()> {
    let mut lows = Bytes(lows);
    for block in 0..BLOCKS {
        let start = BLOCK * block;
        let from: &[u16; LANES] = words.as_flattened().as_flattened()[LANES * block..].first_chunk()?;
        if header.all >> block & 1 != 0 {
            // At one distance.
            let from = usize::from(from[0]);
            sources.copy_within(from..from + BLOCK, start);
            continue;
        }
        for (lane, &from) in from.iter().enumerate() {
            let word: [u8; 4] = *sources.get(usize::from(from)..)?.first_chunk()?;
            sources[start + 4 * lane..start + 4 * lane + 4].copy_from_slice(&word);
        }
        let mut with_low = (kinds.with_low[block / GROUP] >> (LANES * (block % GROUP))) as u16;
        while with_low != 0 {
            sources[start + 4 * with_low.trailing_zeros() as usize] = lows.next()?;
            with_low &= with_low - 1;
        }
    }
    Some(())
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

const _: () = assert!(LANES * 4 == BLOCK && BLOCKS * BLOCK == PAGE && LANES * GROUP == u64::BITS as usize);
