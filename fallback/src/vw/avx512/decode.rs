//! The decoder: a block of 16 words at a time.
//!
//! Why no stream can lead it out of its memory:
//!
//! 1. The stream is copied into [`DecodeSpace::stream`] first, so that nobody changes it meanwhile and vectors may be
//!    read beyond its end. It has at most `MAX_STREAM` bytes, or is refused.
//! 2. Header, masks, classes and tail are checked to add up to exactly its length before any block is decoded. So each
//!    section begins at most at `MAX_STREAM`.
//! 3. A block takes at most 16 literals, low bytes and fresh distances. So after all 64 blocks the cursors have gone at
//!    most 1024 entries beyond the section's beginning, and a vector beyond those is still in the space. That
//!    they went exactly as far as the header says is checked once, at the end.
//! 4. A source is read only from where it may be: its offset is compared as an unsigned number with the block's
//!    start, which also catches those before the page. A lane that fails makes the stream invalid before any word is
//!    made; lanes without a source read at 0, and what they read is dropped.
//! 5. The page is made in [`DecodeSpace::window`], in 64 vectors at fixed places, and copied when it is whole.

use std::arch::x86_64::*;

use super::super::format::{
    BLOCK, BLOCKS, FIRST_DISTANCE, HEADER_LEN, Header, LANES, MAX_STREAM, PAGE, QUARTER, WORDS, classes_len,
};
use super::planes::{self, PlaneSpace};
use super::{load, load_half, load_quarter, peek, store, store_half};

/// The longest section is 4096 bytes of literals; a vector may begin where they end.
pub(super) const STREAM_SPACE: usize = (MAX_STREAM + 4 * WORDS + 64).next_multiple_of(64);

/// Entries of fresh distances: one before the first, and what a vector of 32 may touch beyond the last.
const FRESH_SPACE: usize = 1 + WORDS + 64;

#[repr(C, align(64))]
pub(super) struct DecodeSpace {
    stream: [u8; STREAM_SPACE],
    masks: [u16; BLOCKS],
    kinds: [Kinds; BLOCKS],
    /// Where the source of each word is, or 0.
    offsets: [[u16; LANES]; BLOCKS],
    /// The page as far as it is made; in the cache, where the caller's page may not be.
    window: [u8; PAGE],
    /// Distances less 1, behind the one in force where a quarter begins.
    fresh: [u16; FRESH_SPACE],
    planes: PlaneSpace,
}

impl DecodeSpace {
    pub(super) const EMPTY: DecodeSpace = DecodeSpace {
        stream: [0; STREAM_SPACE],
        masks: [0; BLOCKS],
        kinds: [Kinds { is_literal: 0, matched: 0, with_low: 0 }; BLOCKS],
        offsets: [[0; LANES]; BLOCKS],
        window: [0; PAGE],
        fresh: [0; FRESH_SPACE],
        planes: PlaneSpace::EMPTY,
    };
}

/// What the words of a block are.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Kinds {
    is_literal: u16,
    /// Made of a source.
    matched: u16,
    /// With a low byte of their own.
    with_low: u16,
}

/// Where the literals are: as they are in the stream, or decoded.
#[derive(Clone, Copy)]
enum Literals {
    InStream(usize),
    Coded,
}

#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
pub(super) fn decode(space: &mut DecodeSpace, src: &[u8], page: &mut [u8; PAGE]) -> Option<()> {
    let len = src.len();
    if len > MAX_STREAM {
        return None;
    }
    space.stream[..len].copy_from_slice(src);
    let header = Header::read(&space.stream[..len])?;
    let classes = HEADER_LEN + 2 * header.masks();
    if classes > len {
        return None;
    }
    let repeating = unpack_masks(space, &header);
    let literals = classes + classes_len(repeating);
    if literals > len {
        return None;
    }
    let (kind, lows) = if header.coded {
        let used = planes::decode(&mut space.planes, &space.stream, literals, len, header.literals)?;
        (Literals::Coded, literals + used)
    } else {
        (Literals::InStream(literals), literals + 4 * header.literals)
    };
    if lows + header.tail_len() != len {
        return None;
    }
    unpack_fresh(space, &header, lows + header.lows);
    let exact = len - header.fresh.div_ceil(8);
    classify(space, &header, Sections { classes, exact })?;
    // Two copies of the loop, so that neither asks where the literals are.
    match kind {
        Literals::Coded => blocks::<true>(space, page, lows, 0),
        Literals::InStream(at) => blocks::<false>(space, page, lows, at),
    }
    Some(())
}

/// Where sections begin in the stream.
#[derive(Clone, Copy)]
struct Sections {
    classes: usize,
    exact: usize,
}

/// All blocks' masks of repeating words; how many words that is.
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn unpack_masks(space: &mut DecodeSpace, header: &Header) -> usize {
    let listed = !(header.all | header.none);
    let ones = _mm512_set1_epi16(-1);
    // SAFETY: at most 22 + 64 bytes before a vector, in a space of thousands.
    let (low, high) = unsafe {
        (
            load(&space.stream, HEADER_LEN),
            load(&space.stream, HEADER_LEN + 2 * (listed as u32).count_ones() as usize),
        )
    };
    let half = |listed: u32, all: u32, masks: __m512i| {
        _mm512_mask_mov_epi16(_mm512_maskz_expand_epi16(listed, masks), all, ones)
    };
    let low = half(listed as u32, header.all as u32, low);
    let high = half((listed >> 32) as u32, (header.all >> 32) as u32, high);
    // SAFETY: two vectors of 32 masks are the 64 masks.
    unsafe {
        store(&mut space.masks, 0, low);
        store(&mut space.masks, 32, high);
    }
    let counts = _mm512_add_epi64(_mm512_popcnt_epi64(low), _mm512_popcnt_epi64(high));
    _mm512_reduce_add_epi64(counts) as usize
}

/// Joins low and high bits of the fresh distances, 32 at a time.
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn unpack_fresh(space: &mut DecodeSpace, header: &Header, near: usize) {
    let far = near + header.fresh;
    let nibbles = _mm256_set1_epi16(0x0f0f);
    for at in (0..header.fresh).step_by(32) {
        // SAFETY: `near` and `far` are at most MAX_STREAM, and `at` is below 1024.
        let (low, high) =
            unsafe { (load_half(&space.stream, near + at), load_quarter(&space.stream, far + at / 2)) };
        let high = _mm256_cvtepu8_epi16(high);
        let high = _mm256_and_si256(_mm256_or_si256(high, _mm256_slli_epi16::<4>(high)), nibbles);
        let high = _mm512_slli_epi16::<8>(_mm512_cvtepu8_epi16(high));
        let both = _mm512_or_si512(_mm512_cvtepu8_epi16(low), high);
        // SAFETY: `at` is at most 992, and 992 + 1 + 32 entries are within.
        unsafe { store(&mut space.fresh, 1 + at, both) };
    }
}

/// What each word of the page is, and where its source lies; `None` if that is not what the header says, or
/// not where sources may be.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn classify(space: &mut DecodeSpace, header: &Header, sections: Sections) -> Option<()> {
    // For each lane the lanes up to and with it.
    let up_to = _mm256_set_epi16(
        -1, 0x7fff, 0x3fff, 0x1fff, 0xfff, 0x7ff, 0x3ff, 0x1ff, 0xff, 0x7f, 0x3f, 0x1f, 0xf, 7, 3, 1,
    );
    // Where each word of the block is, less the 1 by which distances are stored short.
    let mut place = _mm256_set_epi16(59, 55, 51, 47, 43, 39, 35, 31, 27, 23, 19, 15, 11, 7, 3, -1);
    let (mut bit, mut literal, mut low, mut fresh) = (0, 0, 0, 0);
    let mut outside = 0_u16;
    for block in 0..BLOCKS {
        if block % QUARTER == 0 {
            // In the place of the last distance of the quarter before, which has been used.
            space.fresh[fresh] = FIRST_DISTANCE as u16 - 1;
        }
        let repeats = space.masks[block];
        let others = !repeats;
        let count = others.count_ones();
        // SAFETY: 8 bytes from at most 150 + 256 on.
        let class: u64 = unsafe { peek(&space.stream, sections.classes + bit / 8) };
        let class = class >> (bit % 8);
        bit += 2 * count as usize;
        let lower = _pdep_u32(class as u32, u32::from(others)) as u16;
        let higher = _pdep_u32((class >> count) as u32, u32::from(others)) as u16;
        let (is_literal, is_fresh, matched) = (lower & !higher, lower & higher, repeats | higher);

        // The distance of a lane is that of the last fresh word up to it: entry 0 is the one before the block.
        let index = _mm256_popcnt_epi16(_mm256_and_si256(_mm256_set1_epi16(is_fresh as i16), up_to));
        // SAFETY: `fresh` is at most 1024, and 1024 + 32 entries are within.
        let distances = unsafe { load(&space.fresh, fresh) };
        let distances = _mm512_permutexvar_epi16(_mm512_zextsi256_si512(index), distances);
        // A source ends before the block: its offset is below the block's start less 3. One before the page is,
        // as an unsigned number, above all of these.
        let offsets = _mm256_sub_epi16(place, _mm512_castsi512_si256(distances));
        let end = _mm256_set1_epi16((block * BLOCK).saturating_sub(3) as i16);
        let inside = _mm256_mask_cmplt_epu16_mask(matched, offsets, end);
        outside |= matched ^ inside;
        // SAFETY: sixteen lanes.
        unsafe { store_half(&mut space.offsets[block], 0, _mm256_maskz_mov_epi16(inside, offsets)) };
        place = _mm256_add_epi16(place, _mm256_set1_epi16(BLOCK as i16));

        // SAFETY: 4 bytes from at most MAX_STREAM + 128 on.
        let exact: u32 = unsafe { peek(&space.stream, sections.exact + fresh / 8) };
        let exact = _pdep_u32(exact >> (fresh % 8), u32::from(is_fresh)) as u16;
        let with_low = higher & !(is_fresh & exact);
        fresh += is_fresh.count_ones() as usize;
        literal += is_literal.count_ones() as usize;
        low += with_low.count_ones() as usize;
        space.kinds[block] = Kinds { is_literal, matched, with_low };
    }
    let complete = literal == header.literals && low == header.lows && fresh == header.fresh;
    (complete && outside == 0).then_some(())
}

/// Makes the words of all blocks. `literals` is where they begin in the stream, if they are there.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn blocks<const CODED: bool>(space: &mut DecodeSpace, page: &mut [u8; PAGE], lows: usize, literals: usize) {
    let upper = _mm512_set1_epi32(!0xff);
    let (mut literal, mut low) = (0, lows);
    for (block, (&Kinds { is_literal, matched, with_low }, offsets)) in
        space.kinds.iter().zip(&space.offsets).enumerate()
    {
        // SAFETY: an offset is that of a source within the page, or 0.
        let sources = unsafe { fetch(&space.window, offsets) };
        // SAFETY: 16 bytes from at most MAX_STREAM + 1024 on.
        let lows = unsafe { load_quarter(&space.stream, low) };
        let lows = _mm512_cvtepu8_epi32(_mm_maskz_expand_epi8(with_low, lows));
        // SAFETY: literals begin at most at MAX_STREAM, and `literal` is at most 1024 words; coded ones have a
        // space of 1024 words and a vector.
        let words = unsafe {
            if CODED {
                load(space.planes.words(), literal)
            } else {
                load(&space.stream, literals + 4 * literal)
            }
        };
        let words = _mm512_or_si512(_mm512_maskz_expand_epi32(is_literal, words), lows);
        literal += is_literal.count_ones() as usize;
        low += with_low.count_ones() as usize;
        // (sources & upper) | words
        let with_lows = _mm512_mask_ternarylogic_epi32::<0xea>(sources, with_low, upper, words);
        let words = _mm512_mask_mov_epi32(words, matched, with_lows);
        // SAFETY: block 63 is the last.
        unsafe { store(&mut space.window, block * BLOCK, words) };
    }
    *page = space.window;
}

/// The words at sixteen offsets. On Zen 5 loads one by one are faster than a gather, beside which little else runs.
///
/// # Safety
/// Each ends within `from`.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
unsafe fn fetch(from: &[u8; PAGE], offsets: &[u16; LANES]) -> __m512i {
    // SAFETY: the caller's duty.
    let word = |lane: usize| unsafe { peek::<u32, PAGE>(from, usize::from(offsets[lane])) as i32 };
    let four = |lane: usize| {
        let two = _mm_insert_epi32::<1>(_mm_cvtsi32_si128(word(lane)), word(lane + 1));
        _mm_insert_epi32::<3>(_mm_insert_epi32::<2>(two, word(lane + 2)), word(lane + 3))
    };
    let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(four(0)), four(4));
    let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(four(8)), four(12));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}
