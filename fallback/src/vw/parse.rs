//! The choice of distances, shared by all encoders: from candidates to what each word becomes.
//!
//! A distance serves the words that follow until a fresh one replaces it, also over the ends of blocks, and starts
//! anew with each quarter of the page. The four quarters are parsed in turns, a block of each, because each step
//! waits for the one before. Encoders differ in how words are compared, and only in that: see [`parse`].

use super::format::{BLOCKS, FIRST_DISTANCE, LANES, QUARTER, QUARTERS};

/// What a search found: for each word an earlier source, and how well it fits. Bit k of a mask is word k of the block.
#[repr(C, align(64))]
pub(super) struct Found {
    /// Bytes back to the source of each word.
    pub(super) back: [[u32; LANES]; BLOCKS],
    /// Words that equal their source; may also name words that are zero or have no source.
    pub(super) exact: [u16; BLOCKS],
    /// Words other than zero whose upper three bytes are those of a source in an earlier block.
    pub(super) close: [u16; BLOCKS],
    /// Words other than zero.
    pub(super) filled: [u16; BLOCKS],
    /// Close words after a close word with the same way back.
    pub(super) same: [u16; BLOCKS],
}

impl Found {
    pub(super) const NONE: Found = Found {
        back: [[0; LANES]; BLOCKS],
        exact: [0; BLOCKS],
        close: [0; BLOCKS],
        filled: [0; BLOCKS],
        same: [0; BLOCKS],
    };
}

/// What each word becomes; the rest is literal, or zero.
pub(super) struct Chosen {
    /// Equal to the word at the distance.
    pub(super) repeats: [u16; BLOCKS],
    /// Upper three bytes equal to those at the distance.
    pub(super) partial: [u16; BLOCKS],
    /// With a distance of its own, in force from here on.
    pub(super) fresh: [u16; BLOCKS],
}

impl Chosen {
    pub(super) const NONE: Chosen = Chosen { repeats: [0; BLOCKS], partial: [0; BLOCKS], fresh: [0; BLOCKS] };
}

/// No way back is longer, so that whatever a table held, a source lies in the page or in the pad before it.
const BACK: u32 = 4095;

/// Chooses. In each block `ROUNDS` fresh distances are tried on all words after them; beyond those, each word that
/// has a source gets its own.
///
/// `compare(block, distance)` tells which words of the block equal those at the distance (1 to 4095), and of which
/// the upper three bytes do. The distance may lead to before the page for words below a fresh one; these do not count.
#[inline(always)]
pub(super) fn parse<const ROUNDS: usize>(
    found: &Found,
    chosen: &mut Chosen,
    mut compare: impl FnMut(usize, usize) -> (u32, u32),
) {
    let mut distances = [FIRST_DISTANCE; QUARTERS];
    for step in 0..QUARTER {
        for (quarter, carried) in distances.iter_mut().enumerate() {
            let block = quarter * QUARTER + step;
            let back = &found.back[block];
            let (filled, close) = (u32::from(found.filled[block]), u32::from(found.close[block]));
            let mut distance = *carried;
            // Of the words of `among`, those whose source at `distance` ends before the block and equals them.
            let mut at = |distance: usize, among: u32| {
                let (equal, upper) = compare(block, distance);
                let reached = if distance >= 64 { u32::MAX } else { (1 << (distance / 4)) - 1 };
                (equal & among & reached, upper & among & reached)
            };
            let everywhere = if block == 0 { 0 } else { 0xffff };
            let (mut repeats, upper) = at(distance, everywhere);
            let mut partial = upper & filled & !repeats;
            let mut fresh = 0;
            let mut open = close & !upper;
            if open != 0 {
                for round in 0..ROUNDS {
                    // A round without open words changes nothing; leaving early is worth a branch now and then.
                    if (round == 1 || round == 3 || round >= 5) && open == 0 {
                        break;
                    }
                    let lane = (open | 0x1_0000).trailing_zeros();
                    let own = (back[lane as usize % LANES] & BACK) as usize;
                    distance = std::hint::select_unpredictable(open != 0, own, distance);
                    fresh |= 1 << lane;
                    let after = (0xfffe << lane) & 0xffff;
                    let (equal, upper) = at(distance, after);
                    repeats = repeats & !after | equal;
                    partial = partial & !after | upper & filled & !equal;
                    open = close & !upper & after;
                }
                let lane = (open | 0x1_0000).trailing_zeros();
                let tail = (0xffff << lane) & 0xffff;
                let added = close & tail;
                let run = added & (tail << 1) & u32::from(found.same[block]);
                let own = added & !run;
                let exact = u32::from(found.exact[block]);
                fresh |= own;
                repeats = repeats & !tail | run & exact;
                partial = partial & !tail | run & !exact;
                let last = 31 - (own | 1).leading_zeros();
                let own = (back[last as usize % LANES] & BACK) as usize;
                distance = std::hint::select_unpredictable(open != 0, own, distance);
            }
            *carried = distance;
            chosen.repeats[block] = repeats as u16;
            chosen.partial[block] = partial as u16;
            chosen.fresh[block] = fresh as u16;
        }
    }
}
