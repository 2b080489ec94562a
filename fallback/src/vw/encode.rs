//! The portable encoder, in safe code: writes the very bytes that the fast ones do.
//!
//! Three steps: search a source for each word, [`parse`](super::parse) to choose distances, and writing the
//! sections. The caller's page is read once, in the first lines, because someone may be writing to it.

use super::bits;
use super::dictionary::{Candidates, Dictionary, Entry, GROUP as SIZE, words_at};
use super::format::{BLOCK, LANES, PAGE};
use super::parse::{Chosen, Found};
use super::search::{Search, TOGETHER};
use super::write::Lists;

/// Zeroes in front of the page, as far as any distance reaches, and behind it, as far as a vector does.
pub(super) const FRONT: usize = 4096;
const BEHIND: usize = 128;

/// The page, with what is around it.
pub(super) type Window = [u8; FRONT + PAGE + BEHIND];

/// The one copy of the page, and what is found and chosen; the memory of all encoders.
///
/// Begins with a page, so that which of its parts get in one another's way in the cache is not up to the heap.
#[repr(C, align(4096))]
pub(super) struct Workspace {
    pub(super) window: Window,
    pub(super) found: Found,
    pub(super) chosen: Chosen,
}

impl Workspace {
    pub(super) const EMPTY: Workspace =
        Workspace { window: [0; FRONT + PAGE + BEHIND], found: Found::NONE, chosen: Chosen::NONE };
}

/// The memory that the portable encoder needs besides.
pub(super) struct EncodeSpace {
    dictionary: Dictionary,
    lists: Lists,
}

impl EncodeSpace {
    pub(super) const EMPTY: EncodeSpace = EncodeSpace { dictionary: Dictionary::EMPTY, lists: Lists::EMPTY };
}

/// Encodes `page` into the front of `dst`; the length, which is at most `MAX_STREAM`.
pub(super) fn encode<S: Search>(
    work: &mut Workspace,
    space: &mut EncodeSpace,
    page: &[u8; PAGE],
    dst: &mut [u8],
) -> usize {
    let Workspace { window, found, chosen } = work;
    let EncodeSpace { dictionary, lists } = space;
    window[FRONT..FRONT + PAGE].copy_from_slice(page);
    dictionary.search::<S>(window, |block, candidates| judge::<S>(window, found, block, candidates));
    let compare = |block: usize, distance: usize| {
        let here = FRONT + block * BLOCK;
        let (words, sources) = (words_at(window, here), words_at(window, here - distance));
        let (mut equal, mut upper) = ([0; LANES], [0; LANES]);
        for lane in 0..LANES {
            let differ = words[lane] ^ sources[lane];
            equal[lane] = u8::from(differ == 0);
            upper[lane] = u8::from(differ >> 8 == 0);
        }
        (u32::from(mask(&equal)), u32::from(mask(&upper)))
    };
    S::parse(found, chosen, compare);
    lists.write(window, found, chosen, dst)
}

/// The lanes that are 1; the others are 0.
#[inline(always)]
fn mask(lanes: &[u8]) -> u16 {
    let (halves, _) = lanes.as_chunks();
    u16::from(bits::lanes(halves[0])) | u16::from(bits::lanes(halves[1])) << 8
}

/// The words and the positions of entries, apart, because compilers make no good vectors of mixed widths.
#[inline(always)]
fn split(entries: &[Entry; SIZE]) -> ([u32; SIZE], [i32; SIZE]) {
    (entries.map(|entry| entry as u32), entries.map(|entry| (entry >> 32) as i32))
}

/// Chooses a source for each word of a group of blocks of what the dictionary held.
#[inline(always)]
fn judge<S: Search>(window: &Window, found: &mut Found, block: usize, candidates: Candidates<'_>) {
    let blocks = block..block + TOGETHER;
    let words = window[FRONT + block * BLOCK..].as_chunks::<4>().0;
    let back = found.back[blocks.clone()].as_flattened_mut();
    let (by_upper, by_word) = (split(candidates.by_upper), split(candidates.by_word));
    let (mut exact, mut close, mut filled, mut run) = ([0; SIZE], [0; SIZE], [0; SIZE], [0; SIZE]);
    for at in 0..SIZE {
        let word = u32::from_le_bytes(words[at]);
        let position = (block * BLOCK + 4 * at) as i32;
        // A source must end before the block begins.
        let earlier = |source: i32| source <= (position & -(BLOCK as i32)) - 4;
        let (mut theirs, mut source) = (by_upper.0[at], by_upper.1[at]);
        if S::WHOLE_WORDS {
            let (other, from) = (by_word.0[at], by_word.1[at]);
            let better = (other == word) & earlier(from);
            theirs = if better { other } else { theirs };
            source = if better { from } else { source };
        }
        let differ = word ^ theirs;
        exact[at] = u8::from(differ == 0);
        filled[at] = u8::from(word != 0);
        close[at] = u8::from((word != 0) & (differ >> 8 == 0) & earlier(source));
        // Wraps where there is no source, which no one then reads.
        back[at] = (position - source) as u32;
    }
    for at in 1..SIZE {
        run[at] = u8::from(back[at] == back[at - 1]);
    }
    for (index, block) in blocks.enumerate() {
        let lanes = index * LANES..(index + 1) * LANES;
        let close = mask(&close[lanes.clone()]);
        found.exact[block] = mask(&exact[lanes.clone()]);
        found.close[block] = close;
        found.filled[block] = mask(&filled[lanes.clone()]);
        // The first lane does not follow a word of its block.
        found.same[block] = mask(&run[lanes]) & close & close << 1;
    }
}
