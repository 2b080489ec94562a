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
//!    they went exactly as far as the header says is checked before any word is made.
//! 4. A source is read only from where it may be: its offset is compared as an unsigned number with the block's
//!    start, which also catches those before the page. A lane that fails makes the stream invalid before any word is
//!    made. Sources in the two blocks before are taken from registers, where no index is out of bounds; the others are
//!    fetched at their offsets; lanes with neither fetch the zeroes in front of the window.
//! 5. Each block is written at its fixed place in [`DecodeSpace::window`], which later blocks read, and in the page.

use std::arch::x86_64::*;

use super::super::format::{
    BLOCK, FIRST_DISTANCE, GROUP, GROUPS, HEADER_LEN, Header, LANES, MAX_STREAM, PAGE, QUARTER, WORDS,
    classes_len,
};
use super::fetch::{fetch, gather};
use super::planes::{self, PlaneSpace};
use super::{load, load_half, load_quarter, low_bits, peek, store};

/// The longest section is 4096 bytes of literals; a vector may begin where they end.
pub(super) const STREAM_SPACE: usize = (MAX_STREAM + 4 * WORDS + 64).next_multiple_of(64);

/// Entries of fresh distances: one before the first, and what a vector of 32 may touch beyond the last.
const FRESH_SPACE: usize = 1 + WORDS + 64;

/// Sources so many bytes before a block are in registers: the latest even and the latest odd block.
const RECENT: usize = 2 * BLOCK;

/// Zeroes in front of the page, which lanes read that have nothing to fetch. As long as what is recent, so that offsets
/// counted from here are below a block's start exactly if they are older.
pub(super) const FRONT: usize = RECENT;

#[repr(C, align(64))]
pub(super) struct DecodeSpace {
    stream: [u8; STREAM_SPACE],
    /// Words that repeat, and what [`classify`] tells of all words: a bit for each.
    repeats: [u64; GROUPS],
    is_literal: [u64; GROUPS],
    /// With a low byte of their own.
    with_low: [u64; GROUPS],
    /// All but those whose source is in one of the two blocks before.
    older: [u64; GROUPS],
    /// Where the source of each word is in the window, in words if all are aligned, else in bytes; 0 if it has none.
    offsets: [u16; WORDS],
    /// The same, but 0 also for those that are not older, where words are fetched one by one.
    fetched: [u16; WORDS],
    /// The page as far as it is made; in the cache, where the caller's page may not be.
    window: [u8; FRONT + PAGE],
    /// Distances less 1, behind the one in force where a quarter begins.
    fresh: [u16; FRESH_SPACE],
    planes: PlaneSpace,
}

impl DecodeSpace {
    pub(super) const EMPTY: DecodeSpace = DecodeSpace {
        stream: [0; STREAM_SPACE],
        repeats: [0; GROUPS],
        is_literal: [0; GROUPS],
        with_low: [0; GROUPS],
        older: [0; GROUPS],
        offsets: [0; WORDS],
        fetched: [0; WORDS],
        window: [0; FRONT + PAGE],
        fresh: [0; FRESH_SPACE],
        planes: PlaneSpace::EMPTY,
    };
}

/// Where the literals are: as they are in the stream, or decoded.
#[derive(Clone, Copy)]
enum Literals {
    InStream(usize),
    Coded,
}

/// Decodes `src` into `page`; `None` if it is not one whole stream. With `GATHER` older sources are gathered, else loaded
/// one by one: which is faster depends on the CPU.
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
pub(super) fn decode<const GATHER: bool>(
    space: &mut DecodeSpace,
    src: &[u8],
    page: &mut [u8; PAGE],
) -> Option<()> {
    let len = src.len();
    if len > MAX_STREAM {
        return None;
    }
    // All lines of the stream are asked for before any is waited for: a copy alone keeps fewer under way.
    for at in (0..len + BLOCK).step_by(BLOCK) {
        // The last one may be of what lies behind, which does no harm.
        _mm_prefetch::<_MM_HINT_T0>(src.as_ptr().wrapping_add(at).cast());
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
    let aligned = unpack_fresh(space, &header, lows + header.lows);
    let exact = len - header.fresh.div_ceil(8);
    let sections = Sections { classes, exact };
    // Two copies, because an aligned word of a recent block is found by one permutation of words.
    if aligned {
        classify::<true, GATHER>(space, &header, sections)?;
        blocks::<true, GATHER>(space, page, lows, kind);
    } else {
        classify::<false, GATHER>(space, &header, sections)?;
        blocks::<false, GATHER>(space, page, lows, kind);
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
        store(&mut space.repeats, 0, low);
        store(&mut space.repeats, 8, high);
    }
    let counts = _mm512_add_epi64(_mm512_popcnt_epi64(low), _mm512_popcnt_epi64(high));
    _mm512_reduce_add_epi64(counts) as usize
}

/// Joins low and high bits of the fresh distances, 32 at a time. Are all of them whole words?
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn unpack_fresh(space: &mut DecodeSpace, header: &Header, near: usize) -> bool {
    let far = near + header.fresh;
    let mut fractions = _mm512_setzero_si512();
    let nibbles = _mm256_set1_epi16(0x0f0f);
    for at in (0..header.fresh).step_by(32) {
        // SAFETY: `near` and `far` are at most MAX_STREAM, and `at` is below 1024.
        let (low, high) =
            unsafe { (load_half(&space.stream, near + at), load_quarter(&space.stream, far + at / 2)) };
        let high = _mm256_cvtepu8_epi16(high);
        let high = _mm256_and_si256(_mm256_or_si256(high, _mm256_slli_epi16::<4>(high)), nibbles);
        let high = _mm512_slli_epi16::<8>(_mm512_cvtepu8_epi16(high));
        let both = _mm512_or_si512(_mm512_cvtepu8_epi16(low), high);
        // Less 1, those of whole words end in two ones.
        let counted = low_bits(header.fresh - at) as u32;
        let fraction = _mm512_andnot_si512(both, _mm512_maskz_set1_epi16(counted, 3));
        fractions = _mm512_or_si512(fractions, fraction);
        // SAFETY: `at` is at most 992, and 992 + 1 + 32 entries are within.
        unsafe { store(&mut space.fresh, 1 + at, both) };
    }
    _mm512_test_epi64_mask(fractions, fractions) == 0
}

/// 64 bits of the stream, from a bit of a section on.
///
/// # Safety
/// The byte that holds the first bit, and 15 more, are in the space.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
unsafe fn bits(stream: &[u8; STREAM_SPACE], section: usize, bit: usize) -> u64 {
    let (at, skipped) = (section + bit / 8, bit % 8);
    // SAFETY: the caller's duty.
    let (low, high): (u64, u64) = unsafe { (peek(stream, at), peek(stream, at + 7)) };
    // Eight bits are in both, in one place. Joined without these, the compiler makes it a shift of both at once, which is slow.
    // The shift is written so that it is no byte's arithmetic, which would wait for what the register held before.
    low >> skipped | high << (63 ^ (skipped + 7))
}

/// What each word of the page is, and where its source lies; `None` if that is not what the header says, or
/// not where sources may be.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn classify<const ALIGNED: bool, const GATHER: bool>(
    space: &mut DecodeSpace,
    header: &Header,
    sections: Sections,
) -> Option<()> {
    // SAFETY: 64 of 64.
    let (halves, up_to, lane) = unsafe { (load(&HALVES, 0), load(&UP_TO, 0), load(&LANE, 0)) };
    // Two blocks at a time. All offsets are in words if sources are aligned, else in bytes.
    let second = _mm512_maskz_set1_epi16(0xffff_0000, -1);
    let every = |bytes: usize| _mm512_set1_epi16((bytes / const { unit::<ALIGNED>() }) as i16);
    // Where each word is, less the 1 by which distances are stored short; and where its block begins.
    let place = if ALIGNED { lane } else { _mm512_slli_epi16::<2>(lane) };
    let mut place = _mm512_sub_epi16(place, _mm512_set1_epi16(1));
    let mut start = _mm512_and_si512(every(BLOCK), second);
    let (mut bit, mut literal, mut low, mut fresh) = (0, 0, 0, 0);
    let mut outside = _mm512_setzero_si512();
    for group in 0..GROUPS {
        if group % (QUARTER / GROUP) == 0 {
            // In the place of the last distance of the quarter before, which has been used.
            space.fresh[fresh] = FIRST_DISTANCE as u16 - 1;
        }
        let repeats = space.repeats[group];
        let others = !repeats;
        let count = others.count_ones() as usize;
        // SAFETY: at most 150 bytes before the classes, and 2048 bits before these.
        let (lower, upper) = unsafe {
            (bits(&space.stream, sections.classes, bit), bits(&space.stream, sections.classes, bit + count))
        };
        bit += 2 * count;
        let (lower, upper) = (_pdep_u64(lower, others), _pdep_u64(upper, others));
        let (is_literal, is_fresh, matched) = (lower & !upper, lower & upper, repeats | upper);
        // SAFETY: at most MAX_STREAM bytes before the section, and 1024 bits before these.
        let exact = unsafe { bits(&space.stream, sections.exact, fresh) };
        let with_low = upper & !_pdep_u64(exact, is_fresh);
        literal += is_literal.count_ones() as usize;
        low += with_low.count_ones() as usize;
        space.is_literal[group] = is_literal;
        space.with_low[group] = with_low;

        let mut older = 0;
        for half in 0..2 {
            let is_fresh = (is_fresh >> (32 * half)) as u32;
            let matched = (matched >> (32 * half)) as u32;
            // The distance of a lane is that of the last fresh word up to it: entry 0 is the one before these blocks.
            let index = _mm512_shuffle_epi8(_mm512_set1_epi32(is_fresh as i32), halves);
            let index = _mm512_popcnt_epi16(_mm512_and_si512(index, up_to));
            let before = _mm512_set1_epi16((is_fresh as u16).count_ones() as i16);
            let index = _mm512_add_epi16(index, _mm512_and_si512(before, second));
            // SAFETY: `fresh` is at most 1024, and 1024 + 64 entries are within.
            let (near, far) = unsafe { (load(&space.fresh, fresh), load(&space.fresh, fresh + 32)) };
            fresh += is_fresh.count_ones() as usize;
            let distances = _mm512_permutex2var_epi16(near, index, far);
            let distances = if ALIGNED { _mm512_srli_epi16::<2>(distances) } else { distances };
            let offsets = _mm512_sub_epi16(place, distances);
            // Behind the zeroes in front. One before the page is, as an unsigned number, above all others, and
            // stays so where the sum would wrap.
            let offsets = _mm512_maskz_adds_epu16(matched, offsets, every(FRONT));
            // A source ends before the block.
            let last = _mm512_add_epi16(start, every(FRONT - 4));
            outside = _mm512_or_si512(outside, _mm512_subs_epu16(offsets, last));
            let is_older = _mm512_cmplt_epu16_mask(offsets, start);
            older |= u64::from(is_older) << (32 * half);
            let word = GROUP * LANES * group + 32 * half;
            // SAFETY: the second half of the last group is the last of the words.
            unsafe { store(&mut space.offsets, word, offsets) };
            if !GATHER {
                // SAFETY: as above.
                unsafe { store(&mut space.fetched, word, _mm512_maskz_mov_epi16(is_older, offsets)) };
            }
            place = _mm512_add_epi16(place, every(2 * BLOCK));
            start = _mm512_add_epi16(start, every(2 * BLOCK));
        }
        space.older[group] = older;
    }
    // Nothing is recent in the first block, whose lanes cannot be below its start.
    space.older[0] |= 0xffff;
    let complete = literal == header.literals && low == header.lows && fresh == header.fresh;
    (complete && _mm512_test_epi64_mask(outside, outside) == 0).then_some(())
}

/// The bytes in which offsets are counted.
const fn unit<const ALIGNED: bool>() -> usize {
    if ALIGNED { size_of::<u32>() } else { 1 }
}

/// Each lane's number, of those of two blocks.
const LANE: [u16; 2 * LANES] = {
    let mut lanes = [0; 2 * LANES];
    let mut lane = 0;
    while lane < 2 * LANES {
        lanes[lane] = lane as u16;
        lane += 1;
    }
    lanes
};

/// For each lane of two blocks, those of its block up to and with it.
const UP_TO: [u16; 2 * LANES] = {
    let mut masks = [0; 2 * LANES];
    let mut lane = 0;
    while lane < 2 * LANES {
        masks[lane] = (2_u32 << (lane % LANES)).wrapping_sub(1) as u16;
        lane += 1;
    }
    masks
};

/// The bytes of the block's half of a mask of 32 lanes, for each lane.
const HALVES: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut at = 0;
    while at < 64 {
        bytes[at] = (at / 32 * 2 + at % 2) as u8;
        at += 1;
    }
    bytes
};

/// The byte of an offset's lowest eight bits, for each byte of the word that is there.
const SPREAD: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut at = 0;
    while at < 64 {
        bytes[at] = (at / 4 * 2) as u8;
        at += 1;
    }
    bytes
};

/// The lowest byte of each word.
const LOWEST: u64 = 0x1111_1111_1111_1111;

/// Makes the words of all blocks.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn blocks<const ALIGNED: bool, const GATHER: bool>(
    space: &mut DecodeSpace,
    page: &mut [u8; PAGE],
    lows: usize,
    literals: Literals,
) {
    // SAFETY: 64 of 64.
    let spread = unsafe { load(&SPREAD, 0) };
    let within_word = _mm512_set1_epi32(0x0302_0100);
    let (mut literal, mut low) = (0, lows);
    let literals: *const u32 = match literals {
        Literals::Coded => space.planes.words().as_ptr(),
        Literals::InStream(at) => space.stream[at..].as_ptr().cast(),
    };
    // The latest block with an even and with an odd number: a word is found there by the lowest bits of its offset.
    let mut latest = [_mm512_setzero_si512(); 2];
    for group in 0..GROUPS {
        let (is_literal, with_low, older) =
            (space.is_literal[group], space.with_low[group], space.older[group]);
        for turn in 0..GROUP {
            let block = group * GROUP + turn;
            let is_literal = (is_literal >> (LANES * turn)) as u16;
            let older = (older >> (LANES * turn)) as u16;
            let with_low = _pdep_u64(with_low >> (LANES * turn), LOWEST);
            // SAFETY: sixteen lanes of each block.
            let offsets = unsafe { load_half(&space.offsets, LANES * block) };
            let index = _mm512_cvtepu16_epi32(offsets);
            // SAFETY: each offset is that of a source in an earlier block, behind FRONT bytes, or 0; and `fetched` has
            // sixteen lanes of each block.
            let fetched = unsafe {
                match (GATHER, ALIGNED) {
                    (true, true) => gather::<4>(&space.window, older, index),
                    (true, false) => gather::<1>(&space.window, older, index),
                    (false, true) => fetch::<4>(&space.window, &space.fetched, LANES * block),
                    (false, false) => fetch::<1>(&space.window, &space.fetched, LANES * block),
                }
            };
            // The one load that does not go through `load`: where literals are is not asked block by block.
            debug_assert!(literal <= WORDS);
            // SAFETY: literals begin at most at MAX_STREAM, and `literal` is at most 1024 words; coded ones have a
            // space of 1024 words and a vector.
            let words = unsafe { _mm512_loadu_si512(literals.add(literal).cast()) };
            // SAFETY: a vector from at most MAX_STREAM + 1024 on.
            let lows = unsafe { load(&space.stream, low) };
            literal += is_literal.count_ones() as usize;
            low += with_low.count_ones() as usize;
            let words = _mm512_mask_expand_epi32(fetched, is_literal, words);
            let lows = _mm512_maskz_expand_epi8(with_low, lows);
            let recent = if ALIGNED {
                _mm512_permutex2var_epi32(latest[0], index, latest[1])
            } else {
                let index = _mm512_permutexvar_epi8(spread, _mm512_castsi256_si512(offsets));
                _mm512_permutex2var_epi8(latest[0], _mm512_add_epi8(index, within_word), latest[1])
            };
            let words = _mm512_mask_mov_epi32(recent, older, words);
            let words = _mm512_mask_mov_epi8(words, with_low, lows);
            latest[turn % 2] = words;
            // SAFETY: block 63 is the last.
            unsafe {
                store(&mut space.window, FRONT + block * BLOCK, words);
                store(page, block * BLOCK, words);
            }
        }
    }
}
