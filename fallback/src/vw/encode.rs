//! The portable encoder, in safe code: writes the very bytes that the fast one does.
//!
//! Three steps: search a source for each word, [`parse`](super::parse) to choose distances, and writing the
//! sections. The caller's page is read once, in the first lines, because someone may be writing to it.

use super::format::{BLOCK, BLOCKS, CODED_MIN, GROUP, Header, LANES, PAGE, WORDS};
use super::parse::{Chosen, Found};
use super::planes;
use super::search::{self, Search, TABLE, TOGETHER};
use super::sections::Sections;

/// Zeroes in front of the page, as far as any distance reaches, and behind it, as far as a vector does.
pub(super) const FRONT: usize = 4096;
const BEHIND: usize = 128;

/// The one copy of the page, and what is found and chosen; the memory of both encoders.
///
/// Begins with a page, so that which of its parts get in one another's way in the cache is not up to the heap.
#[repr(C, align(4096))]
pub(super) struct Workspace {
    pub(super) window: [u8; FRONT + PAGE + BEHIND],
    /// Positions by the hash of a word's upper three bytes, and of the whole word.
    pub(super) by_upper: [u32; TABLE],
    pub(super) by_word: [u32; TABLE],
    pub(super) found: Found,
    pub(super) chosen: Chosen,
}

impl Workspace {
    pub(super) const EMPTY: Workspace = Workspace {
        window: [0; FRONT + PAGE + BEHIND],
        by_upper: [0; TABLE],
        by_word: [0; TABLE],
        found: Found::NONE,
        chosen: Chosen::NONE,
    };

    /// The word at a byte position of the page.
    #[inline(always)]
    pub(super) fn word(&self, at: usize) -> u32 {
        let at = FRONT + at;
        u32::from_le_bytes([self.window[at], self.window[at + 1], self.window[at + 2], self.window[at + 3]])
    }
}

/// Encodes `page` into the front of `dst`; the length, which is at most `MAX_STREAM`.
pub(super) fn encode<S: Search>(work: &mut Workspace, page: &[u8; PAGE], dst: &mut [u8]) -> usize {
    work.window[FRONT..FRONT + PAGE].copy_from_slice(page);
    work.by_upper.fill(0);
    work.by_word.fill(0);
    for first in (0..BLOCKS).step_by(TOGETHER) {
        let blocks = first..first + TOGETHER;
        blocks.clone().for_each(|block| look_up::<S>(work, block));
        for offset in (0..S::OFFSETS).rev() {
            blocks.clone().for_each(|block| remember::<S>(work, block, offset));
        }
    }
    let Workspace { window, found, chosen, .. } = work;
    let compare = |block: usize, distance: usize| {
        let here = FRONT + block * BLOCK;
        let words = window[here..here + BLOCK].as_chunks::<4>().0;
        let sources = window[here - distance..here - distance + BLOCK].as_chunks::<4>().0;
        words.iter().zip(sources).enumerate().fold((0, 0), |(equal, upper), (lane, (word, source))| {
            let differ = u32::from_le_bytes(*word) ^ u32::from_le_bytes(*source);
            (equal | u32::from(differ == 0) << lane, upper | u32::from(differ < 256) << lane)
        })
    };
    S::parse(found, chosen, compare);
    write(work, dst)
}

/// Finds the sources of a block's words.
fn look_up<S: Search>(work: &mut Workspace, block: usize) {
    let start = block * BLOCK;
    let (mut exact, mut close, mut filled, mut same) = (0, 0, 0, 0);
    for lane in 0..LANES {
        let at = start + 4 * lane;
        let word = work.word(at);
        let mut source = work.by_upper[search::hash(word >> 8)] as usize;
        // A source must end before the block begins.
        let earlier = |source: usize| source + 4 <= start;
        if S::WHOLE_WORDS {
            let other = work.by_word[search::hash(word)] as usize;
            if work.word(other) == word && earlier(other) {
                source = other;
            }
        }
        let differ = word ^ work.word(source);
        exact |= u16::from(differ == 0) << lane;
        filled |= u16::from(word != 0) << lane;
        close |= u16::from(word != 0 && differ < 256 && earlier(source)) << lane;
        // Wraps where there is no source, which no one then reads.
        work.found.back[block][lane] = (at as u32).wrapping_sub(source as u32);
        let run = lane > 0 && work.found.back[block][lane] == work.found.back[block][lane - 1];
        same |= u16::from(run) << lane;
    }
    work.found.exact[block] = exact;
    work.found.close[block] = close;
    work.found.filled[block] = filled;
    work.found.same[block] = same & close & close << 1;
}

/// Enters a block's words, so many bytes on, into the tables; of words with one hash the last stays.
fn remember<S: Search>(work: &mut Workspace, block: usize, offset: usize) {
    for lane in 0..LANES {
        let at = block * BLOCK + 4 * lane + offset;
        let word = work.word(at);
        if S::WHOLE_WORDS {
            work.by_word[search::hash(word)] = at as u32;
        }
        if offset == 0 || S::UPPER_AT_ALL_OFFSETS {
            work.by_upper[search::hash(word >> 8)] = at as u32;
        }
    }
}

/// Bits one after another, from the lowest of each byte on.
struct Bits<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Bits<N> {
    fn new() -> Bits<N> {
        Bits { bytes: [0; N], len: 0 }
    }

    fn push(&mut self, bit: bool) {
        self.bytes[self.len / 8] |= u8::from(bit) << (self.len % 8);
        self.len += 1;
    }

    fn whole(&self) -> &[u8] {
        &self.bytes[..self.len.div_ceil(8)]
    }
}

/// Words of a block that are nothing else.
fn literals_of(work: &Workspace, block: usize) -> u16 {
    let chosen = &work.chosen;
    work.found.filled[block] & !(chosen.repeats[block] | chosen.partial[block] | chosen.fresh[block])
}

/// Writes header and sections.
fn write(work: &Workspace, dst: &mut [u8]) -> usize {
    let Workspace { found, chosen, .. } = work;
    let mut header = Header { literals: 0, coded: false, lows: 0, fresh: 0, all: 0, none: 0 };
    let (mut literals, mut lows, mut near) = ([0; WORDS], [0; WORDS], [0; WORDS]);
    let mut far = [0; WORDS / 2];
    let (mut classes, mut exact) = (Bits::<{ WORDS / 4 }>::new(), Bits::<{ WORDS / 8 }>::new());
    let (mut masks, mut masks_listed) = ([0; 2 * BLOCKS], 0);
    let of = |mask: u16, lane: usize| mask >> lane & 1 != 0;
    for block in 0..BLOCKS {
        let (repeats, partial, fresh) = (chosen.repeats[block], chosen.partial[block], chosen.fresh[block]);
        let literal = literals_of(work, block);
        if block % GROUP == 0 {
            for upper in [false, true] {
                for block in block..block + GROUP {
                    let also = if upper { chosen.partial[block] } else { literals_of(work, block) };
                    let others = |lane: &usize| !of(chosen.repeats[block], *lane);
                    (0..LANES)
                        .filter(others)
                        .for_each(|lane| classes.push(of(also | chosen.fresh[block], lane)));
                }
            }
        }
        match repeats {
            0 => header.none |= 1 << block,
            u16::MAX => header.all |= 1 << block,
            _ => {
                masks[2 * masks_listed..2 * masks_listed + 2].copy_from_slice(&repeats.to_le_bytes());
                masks_listed += 1;
            }
        }
        for lane in (0..LANES).filter(|&lane| !of(repeats, lane)) {
            let word = work.word(block * BLOCK + 4 * lane);
            if of(literal, lane) {
                literals[header.literals] = word;
                header.literals += 1;
            }
            if of(fresh, lane) {
                let stored = found.back[block][lane] - 1;
                near[header.fresh] = stored as u8;
                far[header.fresh / 2] |= ((stored >> 8) as u8) << (4 * (header.fresh % 2));
                exact.push(of(found.exact[block], lane));
                header.fresh += 1;
            }
            if of(partial | fresh & !found.exact[block], lane) {
                lows[header.lows] = word as u8;
                header.lows += 1;
            }
        }
    }
    let literals = &literals[..header.literals];
    let mut coded = [0; 4 * WORDS];
    let coded_len = if literals.len() < CODED_MIN { None } else { planes::encode(literals, &mut coded) };
    header.coded = coded_len.is_some();
    let sections = Sections {
        masks: &masks[..2 * masks_listed],
        classes: classes.whole(),
        lows: &lows[..header.lows],
        near: &near[..header.fresh],
        far: &far[..header.fresh.div_ceil(2)],
        exact: exact.whole(),
    };
    sections.assemble(header, dst, |dst| match coded_len {
        Some(len) => {
            dst[..len].copy_from_slice(&coded[..len]);
            len
        }
        None => {
            let (dst, _) = dst.as_chunks_mut();
            dst.iter_mut().zip(literals).for_each(|(dst, word)| *dst = word.to_le_bytes());
            4 * literals.len()
        }
    })
}
