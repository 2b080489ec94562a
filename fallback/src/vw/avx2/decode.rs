//! The decoder: told apart 64 words at a time, made eight at a time.
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
//!    made. Lanes without a source fetch the zeroes in front of the window.
//! 5. Each block is written at its fixed place in [`DecodeSpace::window`], which later blocks read, and in the page.

use std::arch::x86_64::*;

use super::super::format::{
    BLOCK, BLOCKS, FIRST_DISTANCE, GROUP, GROUPS, HEADER_LEN, Header, LANES, MAX_STREAM, PAGE, QUARTER,
    WORDS, classes_len,
};
use super::planes::{self, PlaneSpace};
use super::{expansion, load, load_half, load_quarter, peek, store, store_half};

/// The longest section is 4096 bytes of literals; a vector may begin where they end.
pub(super) const STREAM_SPACE: usize = (MAX_STREAM + 4 * WORDS + 64).next_multiple_of(64);

/// Entries of fresh distances: one before the first, and what vectors may touch beyond the last.
const FRESH_SPACE: usize = 1 + WORDS + 32;

/// Zeroes in front of the page, which lanes read that have nothing to fetch.
const FRONT: usize = 64;

#[repr(C, align(64))]
pub(super) struct DecodeSpace {
    stream: [u8; STREAM_SPACE],
    /// Words that repeat, and what [`classify`] tells of all words: a bit for each.
    repeats: [u64; GROUPS],
    is_literal: [u64; GROUPS],
    /// With a low byte of their own.
    with_low: [u64; GROUPS],
    /// Where the source of each word is in the window; 0 if it has none.
    fetched: [[u16; LANES]; BLOCKS],
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
        fetched: [[0; LANES]; BLOCKS],
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

#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
pub(super) fn decode(space: &mut DecodeSpace, src: &[u8], page: &mut [u8; PAGE]) -> Option<()> {
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

/// The words of a group's blocks, for each set of blocks.
const WORDS_OF: [u64; 1 << GROUP] = {
    let mut words = [0; 1 << GROUP];
    let mut set = 0;
    while set < words.len() {
        let mut turn = 0;
        while turn < GROUP {
            if set >> turn & 1 != 0 {
                words[set] |= (u16::MAX as u64) << (LANES * turn);
            }
            turn += 1;
        }
        set += 1;
    }
    words
};

/// All blocks' masks of repeating words; how many words that is.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn unpack_masks(space: &mut DecodeSpace, header: &Header) -> usize {
    let listed = !(header.all | header.none);
    let (mut at, mut repeating) = (HEADER_LEN, 0);
    for (group, repeats) in space.repeats.iter_mut().enumerate() {
        let of = |map: u64| WORDS_OF[(map >> (GROUP * group)) as usize % (1 << GROUP)];
        let listed = of(listed);
        // SAFETY: at most 22 + 128 bytes before it, in a space of thousands.
        let masks: u64 = unsafe { peek(&space.stream, at) };
        at += listed.count_ones() as usize / 8;
        *repeats = _pdep_u64(masks, listed) | of(header.all);
        repeating += repeats.count_ones() as usize;
    }
    repeating
}

/// Joins low and high bits of the fresh distances, 16 at a time.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn unpack_fresh(space: &mut DecodeSpace, header: &Header, near: usize) {
    let far = near + header.fresh;
    let nibbles = _mm_set1_epi8(0x0f);
    for at in (0..header.fresh).step_by(16) {
        // SAFETY: `near` and `far` are at most MAX_STREAM, and `at` is below 1024.
        let (low, high) =
            unsafe { (load_half(&space.stream, near + at), load_quarter(&space.stream, far + at / 2)) };
        let high = _mm_unpacklo_epi8(high, _mm_srli_epi16::<4>(high));
        let high = _mm_and_si128(high, nibbles);
        // SAFETY: `at` is at most 1008, and 1008 + 1 + 16 entries are within.
        unsafe {
            store_half(&mut space.fresh, 1 + at, _mm_unpacklo_epi8(low, high));
            store_half(&mut space.fresh, 9 + at, _mm_unpackhi_epi8(low, high));
        }
    }
}

/// 64 bits of the stream, from a bit of a section on.
///
/// # Safety
/// The byte that holds the first bit, and 15 more, are in the space.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn bits(stream: &[u8; STREAM_SPACE], section: usize, bit: usize) -> u64 {
    let (at, skipped) = (section + bit / 8, bit % 8);
    // SAFETY: the caller's duty.
    let (low, high): (u64, u64) = unsafe { (peek(stream, at), peek(stream, at + 7)) };
    // Eight bits are in both, in one place. Joined without these, the compiler makes it a shift of both at once, which is slow.
    low >> skipped | high << (56 - skipped)
}

/// For the upper seven bits of a mask of eight fresh words: how many there are up to each lane, the first not counted; as
/// indices of the bytes of 16-bit numbers.
#[repr(align(64))]
struct Ranks([[u8; 16]; 128]);

static RANKS: Ranks = {
    let mut ranks = [[0; 16]; 128];
    let mut mask = 0;
    while mask < 128 {
        let (mut lane, mut rank) = (0, 0);
        while lane < 8 {
            if lane > 0 {
                rank += mask >> (lane - 1) & 1;
            }
            ranks[mask][2 * lane] = 2 * rank as u8;
            ranks[mask][2 * lane + 1] = 2 * rank as u8 + 1;
            lane += 1;
        }
        mask += 1;
    }
    Ranks(ranks)
};

/// What each word of the page is, and where its source lies; `None` if that is not what the header says, or
/// not where sources may be.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn classify(space: &mut DecodeSpace, header: &Header, sections: Sections) -> Option<()> {
    let lane_bits = _mm256_set_epi16(
        -0x8000, 0x4000, 0x2000, 0x1000, 0x800, 0x400, 0x200, 0x100, 0x80, 0x40, 0x20, 0x10, 8, 4, 2, 1,
    );
    // Where each word of the block is, less the 1 by which distances are stored short; and where the block is.
    let mut place = _mm256_set_epi16(59, 55, 51, 47, 43, 39, 35, 31, 27, 23, 19, 15, 11, 7, 3, -1);
    let mut start = _mm256_setzero_si256();
    let (mut bit, mut literal, mut low, mut fresh) = (0, 0, 0, 0);
    let mut outside = _mm256_setzero_si256();
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

        for turn in 0..GROUP {
            let block = group * GROUP + turn;
            let of = |mask: u64| (mask >> (LANES * turn)) as u16;
            // SAFETY: `fresh` is at most 1016 where eight words are yet to come, 1024 at most later.
            let (one, fresh_then) = unsafe { distances(space, of(is_fresh) as u8, fresh) };
            // SAFETY: as above.
            let (two, fresh_then) = unsafe { distances(space, (of(is_fresh) >> 8) as u8, fresh_then) };
            fresh = fresh_then;
            let distances = _mm256_set_m128i(two, one);
            // A source ends before the block: its offset is below the block's start less 3. One before the page is,
            // as an unsigned number, above all of these.
            let offsets = _mm256_sub_epi16(place, distances);
            let end = _mm256_subs_epu16(start, _mm256_set1_epi16(3));
            let matched = _mm256_and_si256(_mm256_set1_epi16(of(matched) as i16), lane_bits);
            let matched = _mm256_cmpeq_epi16(matched, lane_bits);
            let wrong = _mm256_cmpeq_epi16(_mm256_max_epu16(offsets, end), offsets);
            outside = _mm256_or_si256(outside, _mm256_and_si256(wrong, matched));
            let fetched =
                _mm256_and_si256(_mm256_add_epi16(offsets, _mm256_set1_epi16(FRONT as i16)), matched);
            // SAFETY: sixteen lanes.
            unsafe { store(&mut space.fetched[block], 0, fetched) };
            place = _mm256_add_epi16(place, _mm256_set1_epi16(BLOCK as i16));
            start = _mm256_add_epi16(start, _mm256_set1_epi16(BLOCK as i16));
        }
    }
    let complete = literal == header.literals && low == header.lows && fresh == header.fresh;
    (complete && _mm256_testz_si256(outside, outside) != 0).then_some(())
}

/// The distances of eight words, less 1: each that of the last fresh word up to it, or of entry `fresh`, the one before. And
/// the entry of the last.
///
/// # Safety
/// `fresh` is at most 1024.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn distances(space: &DecodeSpace, is_fresh: u8, fresh: usize) -> (__m128i, usize) {
    // If the first word is fresh, then none has the distance before; so there are at most eight to choose from.
    // SAFETY: 1 + 1024 + 8 entries are within; and 128 ranks are.
    let (ranks, entries) = unsafe {
        (
            load_half(&RANKS.0[usize::from(is_fresh >> 1)], 0),
            load_half(&space.fresh, fresh + usize::from(is_fresh & 1)),
        )
    };
    (_mm_shuffle_epi8(entries, ranks), fresh + is_fresh.count_ones() as usize)
}

/// Makes the words of all blocks. `literals` is where they begin in the stream, if they are there.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn blocks<const CODED: bool>(space: &mut DecodeSpace, page: &mut [u8; PAGE], lows: usize, literals: usize) {
    let (mut literal, mut low) = (0, lows);
    for group in 0..GROUPS {
        let (mut is_literal, mut with_low) = (space.is_literal[group], space.with_low[group]);
        for eight in 8 * group..8 * group + 8 {
            // SAFETY: each is that of a source in an earlier block, behind FRONT bytes, or 0.
            let sources = unsafe { fetch(&space.window, &space.fetched[eight / 2], 8 * (eight % 2)) };
            // SAFETY: 16 bytes from at most MAX_STREAM + 1024 on.
            let lows = unsafe { load_quarter(&space.stream, low) };
            // SAFETY: literals begin at most at MAX_STREAM, and `literal` is at most 1024 words; coded ones have a
            // space of 1024 words and a vector.
            let words = unsafe {
                if CODED {
                    load(space.planes.words(), literal)
                } else {
                    load(&space.stream, literals + 4 * literal)
                }
            };
            let (literal_lanes, low_lanes) = (expansion(is_literal as u8), expansion(with_low as u8));
            literal += (is_literal as u8).count_ones() as usize;
            low += (with_low as u8).count_ones() as usize;
            is_literal >>= 8;
            with_low >>= 8;
            let literal_lanes = _mm256_cvtepi8_epi32(literal_lanes);
            let words = _mm256_permutevar8x32_epi32(words, literal_lanes);
            let words = _mm256_andnot_si256(_mm256_srai_epi32::<31>(literal_lanes), words);
            let lows = _mm256_cvtepu8_epi32(_mm_shuffle_epi8(lows, low_lanes));
            let kept = _mm256_cvtepi8_epi32(low_lanes);
            let kept = _mm256_or_si256(_mm256_srai_epi32::<31>(kept), _mm256_set1_epi32(!0xff));
            let words = _mm256_or_si256(_mm256_or_si256(words, lows), _mm256_and_si256(sources, kept));
            // SAFETY: eight words of 128 times as many.
            unsafe {
                store(&mut space.window, FRONT + 32 * eight, words);
                store(page, 32 * eight, words);
            }
        }
    }
}

/// The words at eight offsets.
///
/// # Safety
/// `at` is 0 or 8, and the word at each offset ends within `from`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn fetch(from: &[u8; FRONT + PAGE], offsets: &[u16; LANES], at: usize) -> __m256i {
    // SAFETY: the caller's duty.
    unsafe {
        let index = _mm256_cvtepu16_epi32(load_half(offsets, at));
        _mm256_i32gather_epi32::<1>(from.as_ptr().cast(), index)
    }
}
