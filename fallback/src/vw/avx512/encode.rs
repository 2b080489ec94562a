//! The encoder: the portable one's three steps, 16 words at a time. It writes the same bytes.
//!
//! All offsets are made here. Of the caller's data come only the distances that are compared at, which `parse` keeps below
//! 4096, and how many of its words are of a kind, at most 16 in each of 64 blocks. The page is copied into the window
//! first, and only the window is read.

use std::arch::x86_64::*;

use super::super::encode::{FRONT, Workspace};
use super::super::format::{BLOCK, BLOCKS, CODED_MIN, GROUP, Header, PAGE, WORDS};
use super::super::search::Search;
use super::super::sections::Sections;
use super::planes::{self, PlaneSpace};
use super::search::{self, SearchSpace};
use super::{load, poke, store, store_half, store_quarter};

/// Where the sections grow; each with room for a vector at its longest.
#[repr(C, align(64))]
pub(super) struct EncodeSpace {
    masks: [u8; 2 * BLOCKS + 2],
    classes: [u8; WORDS / 4 + 16],
    lows: [u8; WORDS + 16],
    /// Distances less 1.
    fresh: [u16; WORDS + 32],
    near: [u8; WORDS + 32],
    far: [u8; WORDS / 2 + 16],
    exact: [u8; WORDS / 8 + 16],
    planes: PlaneSpace,
    search: SearchSpace,
}

impl EncodeSpace {
    pub(super) const EMPTY: EncodeSpace = EncodeSpace {
        masks: [0; 2 * BLOCKS + 2],
        classes: [0; WORDS / 4 + 16],
        lows: [0; WORDS + 16],
        fresh: [0; WORDS + 32],
        near: [0; WORDS + 32],
        far: [0; WORDS / 2 + 16],
        exact: [0; WORDS / 8 + 16],
        planes: PlaneSpace::EMPTY,
        search: SearchSpace::EMPTY,
    };
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
pub(super) fn encode<S: Search>(
    work: &mut Workspace,
    space: &mut EncodeSpace,
    page: &[u8; PAGE],
    dst: &mut [u8],
) -> usize {
    for block in 0..BLOCKS {
        // SAFETY: 64 blocks are the page; the window has it after FRONT bytes.
        unsafe { store(&mut work.window, FRONT + block * BLOCK, load(page, block * BLOCK)) };
    }
    search::search::<S>(work, &mut space.search);
    let Workspace { window, found, chosen, .. } = work;
    let upper = _mm512_set1_epi32(!0xff);
    let compare = |block: usize, distance: usize| {
        let here = FRONT + block * BLOCK;
        debug_assert!(distance < FRONT);
        // SAFETY: `distance` is at most 4095 by `parse`'s promise, and FRONT is 4096.
        let (words, sources) = unsafe { (load(window, here), load(window, here - distance)) };
        let differ = _mm512_xor_si512(words, sources);
        let equal = _mm512_testn_epi32_mask(differ, differ);
        (u32::from(equal), u32::from(_mm512_testn_epi32_mask(differ, upper)))
    };
    S::parse(found, chosen, compare);
    write(work, space, dst)
}

/// Up to 64 bits appended at a bit position of bytes: those before it stay, those behind are as good as zero.
macro_rules! append_bits {
    ($bytes:expr, $at:expr, $bits:expr) => {{
        let (bits, skipped): (u64, _) = ($bits, $at % 8);
        let kept = u64::from($bytes[$at / 8]) & ((1 << skipped) - 1);
        poke(&mut $bytes, $at / 8, kept | bits << skipped);
        poke(&mut $bytes, $at / 8 + 8, bits >> 1 >> (63 - skipped));
    }};
}

/// The masks of a group of blocks, one behind the other.
///
/// # Safety
/// There are three after the `block`th.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn peek_masks(masks: &[u16; BLOCKS], block: usize) -> u64 {
    debug_assert!(block + GROUP <= BLOCKS);
    // SAFETY: the caller's duty; the masks are plain integers.
    unsafe { masks.as_ptr().add(block).cast::<u64>().read_unaligned() }
}

/// Writes header and sections.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn write(work: &Workspace, space: &mut EncodeSpace, dst: &mut [u8]) -> usize {
    let Workspace { window, found, chosen, .. } = work;
    let mut header = Header { literals: 0, coded: false, lows: 0, fresh: 0, all: 0, none: 0 };
    let (mut masks, mut bit) = (0, 0);
    for block in 0..BLOCKS {
        if block % GROUP == 0 {
            // SAFETY: a group of blocks' masks are 64 bits.
            let of = |masks: &[u16; BLOCKS]| unsafe { peek_masks(masks, block) };
            let (partial, fresh) = (of(&chosen.partial), of(&chosen.fresh));
            let (repeats, filled) = (of(&chosen.repeats), of(&found.filled));
            let literal = filled & !(repeats | partial | fresh);
            let count = repeats.count_zeros() as usize;
            // SAFETY: at most 2048 bits of class and 1024 of exactness, these among them, and 16 bytes are written.
            unsafe {
                append_bits!(space.classes, bit, _pext_u64(literal | fresh, !repeats));
                append_bits!(space.classes, bit + count, _pext_u64(partial | fresh, !repeats));
                append_bits!(space.exact, header.fresh, _pext_u64(of(&found.exact), fresh));
            }
            bit += 2 * count;
        }
        let (repeats, partial, fresh) = (chosen.repeats[block], chosen.partial[block], chosen.fresh[block]);
        let (filled, exact) = (found.filled[block], found.exact[block]);
        let literal = filled & !(repeats | partial | fresh);
        // Each block adds at most 2 bytes of mask, and 16 of each other kind. So when the last of 64
        // blocks begins, its part is still within the spaces, which have a vector or an integer more than that.
        // SAFETY: blocks are in the window.
        let words = unsafe { load(window, FRONT + block * BLOCK) };
        // The mask is written in any case, and kept if the maps do not tell it.
        // SAFETY: at most 63 masks are before it.
        unsafe { poke(&mut space.masks, 2 * masks, repeats) };
        let (all, none) = (repeats == u16::MAX, repeats == 0);
        masks += usize::from(!(all | none));
        header.all |= u64::from(all) << block;
        header.none |= u64::from(none) << block;

        let literals = _mm512_maskz_compress_epi32(literal, words);
        // SAFETY: at most 63 x 16 literals are before them, of 1024 and a vector.
        unsafe { store(space.planes.words_mut(), header.literals, literals) };
        header.literals += literal.count_ones() as usize;

        let with_low = partial | fresh & !exact;
        let lows = _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(with_low, words));
        // SAFETY: at most 63 x 16 low bytes are before them, of 1024 and a vector.
        unsafe { store_quarter(&mut space.lows, header.lows, lows) };
        header.lows += with_low.count_ones() as usize;

        // SAFETY: sixteen lanes.
        let back = unsafe { load(&found.back[block], 0) };
        let stored = _mm512_sub_epi32(back, _mm512_set1_epi32(1));
        let stored = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(fresh, stored));
        // SAFETY: at most 63 x 16 distances are before them, of 1024 and a vector.
        unsafe { store_half(&mut space.fresh, header.fresh, stored) };
        header.fresh += fresh.count_ones() as usize;
    }
    for at in (0..header.fresh).step_by(32) {
        // SAFETY: `at` is at most 992.
        unsafe {
            let distances = load(&space.fresh, at);
            let high = _mm512_cvtepi16_epi8(_mm512_srli_epi16::<8>(distances));
            let pairs = _mm256_maddubs_epi16(high, _mm256_set1_epi16(0x1001));
            store_half(&mut space.near, at, _mm512_cvtepi16_epi8(distances));
            store_quarter(&mut space.far, at / 2, _mm256_cvtepi16_epi8(pairs));
        }
    }
    if !header.fresh.is_multiple_of(2) {
        // The distance behind the last is not one.
        space.far[header.fresh / 2] &= 15;
    }
    let coded =
        if header.literals < CODED_MIN { None } else { planes::encode(&mut space.planes, header.literals) };
    header.coded = coded.is_some();
    let sections = Sections {
        masks: &space.masks[..2 * masks],
        classes: &space.classes[..bit.div_ceil(8)],
        lows: &space.lows[..header.lows],
        near: &space.near[..header.fresh],
        far: &space.far[..header.fresh.div_ceil(2)],
        exact: &space.exact[..header.fresh.div_ceil(8)],
    };
    let EncodeSpace { planes, .. } = space;
    sections.assemble(header, dst, |dst| match coded {
        Some(len) => {
            dst[..len].copy_from_slice(&planes.coded()[..len]);
            len
        }
        None => {
            let literals = planes.words();
            let (dst, _) = dst.as_chunks_mut();
            for (dst, word) in dst.iter_mut().zip(&literals[..header.literals]) {
                *dst = word.to_le_bytes();
            }
            4 * header.literals
        }
    })
}
