//! The decoder: tells words apart 64 at a time, finds their sources 16 at a time, and makes them 8 at a time.
//!
//! Why no stream can lead it out of its memory:
//!
//! 1. The stream is copied into [`DecodeSpace::stream`] first, so that nobody changes it meanwhile and vectors may be
//!    read beyond its end. It has at most `MAX_STREAM` bytes, or is refused.
//! 2. Header, masks, classes and tail are checked to add up to exactly its length before any word is told. So each
//!    section begins at most at `MAX_STREAM`.
//! 3. A page takes at most 1024 literals, low bytes and fresh distances. So the cursors go at most 1024 entries beyond a section's
//!    beginning, and a vector beyond those is still in the space. That they went exactly as far as the header
//!    says is checked before any source is looked for.
//! 4. A source is read only from where it may be: its offset is compared as an unsigned number with that of the last
//!    word before the block, which also catches those before the page. A word that fails makes the stream invalid before
//!    any word is made. Words without a source fetch the zeroes in front of the window.
//! 5. Words are written at their fixed place in [`DecodeSpace::window`], which later blocks read, and in the page.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::format::{
    BLOCK, BLOCKS, FIRST_DISTANCE, GROUP, GROUPS, HEADER_LEN, Header, LANES, MAX_STREAM, PAGE, QUARTER,
    WORDS, classes_len,
};
use super::planes::{self, PlaneSpace};
use super::{load, load_half, load_quarter, peek, ranks, store, store_half};

/// The longest section is 4096 bytes of literals; a vector may begin where they end.
pub(super) const STREAM_SPACE: usize = (MAX_STREAM + 4 * WORDS + 64).next_multiple_of(64);

/// Entries of fresh distances: one before the first, and what vectors may touch beyond the last.
const FRESH_SPACE: usize = 1 + WORDS + 32;

/// Words are made so many at a time, and a page so many times.
const EIGHT: usize = 8;
const EIGHTS: usize = WORDS / EIGHT;

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
    /// With a source.
    matched: [u64; GROUPS],
    /// Fresh words but for the first of each eight.
    later_fresh: [u64; GROUPS],
    /// A byte for each eight words: the entry of the distance that the first has, counted from the group's first.
    entries: [u64; GROUPS],
    /// Fresh words before each group.
    fresh_before: [usize; GROUPS],
    /// Where the source of each word is in the window; 0 if it has none.
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
        matched: [0; GROUPS],
        later_fresh: [0; GROUPS],
        entries: [0; GROUPS],
        fresh_before: [0; GROUPS],
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
    place_sources(space)?;
    // Two copies of the loop, so that neither asks where the literals are.
    match kind {
        Literals::Coded => words::<true>(space, page, lows, 0),
        Literals::InStream(at) => words::<false>(space, page, lows, at),
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
    // The shift is written so that it is no byte's arithmetic, which would wait for what the register held before.
    low >> skipped | high << (63 ^ (skipped + 7))
}

/// For each mask of eight fresh words, the first not among them: how many there are up to each lane, as indices of the bytes
/// of 16-bit numbers. Sixteen bytes for each two masks.
#[repr(align(64))]
struct Choices([u8; 8 * 256]);

static CHOICES: Choices = {
    let mut choices = [0; 8 * 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut rank) = (0, 0);
        while lane < 8 {
            rank += (mask >> lane & 1) as u8;
            choices[8 * mask + 2 * lane] = 2 * rank;
            choices[8 * mask + 2 * lane + 1] = 2 * rank + 1;
            lane += 1;
        }
        mask += 2;
    }
    Choices(choices)
};

/// What each word of the page is; `None` if that is not what the header says.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn classify(space: &mut DecodeSpace, header: &Header, sections: Sections) -> Option<()> {
    let (mut bit, mut literal, mut low, mut fresh) = (0, 0, 0, 0);
    for group in 0..GROUPS {
        let repeats = space.repeats[group];
        let others = !repeats;
        let count = others.count_ones() as usize;
        // SAFETY: at most 150 bytes before the classes, and 2048 bits before these.
        let (lower, upper) = unsafe {
            (bits(&space.stream, sections.classes, bit), bits(&space.stream, sections.classes, bit + count))
        };
        bit += 2 * count;
        let (lower, upper) = (_pdep_u64(lower, others), _pdep_u64(upper, others));
        let (is_literal, is_fresh) = (lower & !upper, lower & upper);
        // SAFETY: at most MAX_STREAM bytes before the section, and 1024 bits before these.
        let exact = unsafe { bits(&space.stream, sections.exact, fresh) };
        let with_low = upper & !_pdep_u64(exact, is_fresh);
        literal += is_literal.count_ones() as usize;
        low += with_low.count_ones() as usize;
        space.is_literal[group] = is_literal;
        space.with_low[group] = with_low;
        space.matched[group] = repeats | upper;
        let up_to = counts_up_to(is_fresh);
        space.later_fresh[group] = is_fresh & !FIRST_LANES;
        space.entries[group] = (up_to << 8) + (is_fresh & FIRST_LANES);
        space.fresh_before[group] = fresh;
        fresh += (up_to >> 56) as usize;
    }
    (literal == header.literals && low == header.lows && fresh == header.fresh).then_some(())
}

/// A bit for the first of each eight words.
const FIRST_LANES: u64 = 0x0101_0101_0101_0101;

/// For each byte, how many bits are set in it and in those below.
#[inline(always)]
fn counts_up_to(mask: u64) -> u64 {
    let pairs = mask - (mask >> 1 & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let bytes = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    bytes.wrapping_mul(FIRST_LANES)
}

/// Where the source of each word lies; `None` if one is not where sources may be.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn place_sources(space: &mut DecodeSpace) -> Option<()> {
    if space.matched[0] as u16 != 0 {
        // There is no block before the first.
        return None;
    }
    let lanes = _mm256_set_epi16(
        -0x8000, 0x4000, 0x2000, 0x1000, 0x800, 0x400, 0x200, 0x100, 0x80, 0x40, 0x20, 0x10, 8, 4, 2, 1,
    );
    // Where each word of the block is, less the 1 by which distances are stored short; and where the last source may
    // be, which for the first block is anywhere.
    let mut place = _mm256_set_epi16(59, 55, 51, 47, 43, 39, 35, 31, 27, 23, 19, 15, 11, 7, 3, -1);
    let mut last = _mm256_set1_epi16(-4);
    let mut outside = _mm256_setzero_si256();
    for group in 0..GROUPS {
        let first = space.fresh_before[group];
        if group % (QUARTER / GROUP) == 0 {
            // In the place of the last distance of the quarter before, which has been used.
            space.fresh[first] = FIRST_DISTANCE as u16 - 1;
        }
        for block in GROUP * group..GROUP * (group + 1) {
            // SAFETY: that many eights are a page; classify has left at most 64 in `entries` and 1024 in all before.
            let (one, two) =
                unsafe { (distances(space, first, 2 * block), distances(space, first, 2 * block + 1)) };
            let offsets = _mm256_sub_epi16(place, _mm256_set_m128i(two, one));
            // SAFETY: there are so many blocks.
            let matched = _mm256_and_si256(unsafe { broadcast_mask(&space.matched, block) }, lanes);
            let matched = _mm256_cmpeq_epi16(matched, lanes);
            // A source ends before the block. The offset of one before the page is, as an unsigned number, above all others.
            let beyond = _mm256_subs_epu16(offsets, last);
            outside = _mm256_or_si256(outside, _mm256_and_si256(beyond, matched));
            let fetched = _mm256_add_epi16(offsets, _mm256_set1_epi16(FRONT as i16));
            // SAFETY: sixteen of 64 times as many.
            unsafe { store(&mut space.fetched, LANES * block, _mm256_and_si256(fetched, matched)) };
            place = _mm256_add_epi16(place, _mm256_set1_epi16(BLOCK as i16));
            last = _mm256_add_epi16(last, _mm256_set1_epi16(BLOCK as i16));
        }
    }
    (_mm256_testz_si256(outside, outside) != 0).then_some(())
}

/// The distances of eight words, less 1: each that of the last fresh word up to it, or the one before. `first` is the
/// entry where the group begins.
///
/// # Safety
/// There are so many eights, and `first` and the eight's part of `entries` are at most 1024 together.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn distances(space: &DecodeSpace, first: usize, eight: usize) -> __m128i {
    // If the first word is fresh, then none has the distance before; so there are at most eight to choose from.
    // SAFETY: the caller's duty; 1024 + 8 entries are within, and the first bit of `later` is not set.
    unsafe {
        let later = usize::from(mask_of(&space.later_fresh, eight));
        let entry = first + usize::from(mask_of(&space.entries, eight));
        _mm_shuffle_epi8(load_half(&space.fresh, entry), load_half(&CHOICES.0, 8 * later))
    }
}

/// A block's part of the groups' masks, sixteen times.
///
/// # Safety
/// There are so many blocks.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn broadcast_mask(masks: &[u64; GROUPS], block: usize) -> __m256i {
    debug_assert!(block < BLOCKS);
    // SAFETY: the caller's duty; this is a little-endian CPU.
    _mm256_set1_epi16(unsafe { masks.as_ptr().cast::<i16>().add(block).read() })
}

/// Makes all words. `literals` is where they begin in the stream, if they are there.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn words<const CODED: bool>(space: &mut DecodeSpace, page: &mut [u8; PAGE], lows: usize, literals: usize) {
    let (low_byte, last_lane) = (_mm256_set1_epi32(0xff), _mm256_set1_epi32(EIGHT as i32 - 1));
    let (mut literal, mut low) = (0, lows);
    for eight in 0..EIGHTS {
        // SAFETY: each offset is that of a source in an earlier block, behind FRONT bytes, or 0.
        let sources = unsafe { fetch(&space.window, &space.fetched, EIGHT * eight) };
        // SAFETY: 8 bytes from at most MAX_STREAM + 1024 on.
        let lows = unsafe { load_quarter(&space.stream, low) };
        // SAFETY: literals begin at most at MAX_STREAM, and `literal` is at most 1024 words; coded ones have a
        // space of 1024 words and vectors.
        let literals = unsafe {
            if CODED {
                load(space.planes.words(), literal)
            } else {
                load(&space.stream, literals + 4 * literal)
            }
        };
        // SAFETY: so many eights are a page.
        let (is_literal, with_low) =
            unsafe { (mask_of(&space.is_literal, eight), mask_of(&space.with_low, eight)) };
        literal += is_literal.count_ones() as usize;
        low += with_low.count_ones() as usize;
        let (literal_ranks, low_ranks) = (ranks(is_literal), ranks(with_low));
        // Ranks of lanes that are not set are 8 and more: `vpermd` takes their lowest three bits, so these lanes are made zero;
        // the shuffle of bytes finds zeroes there.
        let literal_ranks = widened(literal_ranks);
        let literals = _mm256_permutevar8x32_epi32(literals, literal_ranks);
        let literals = _mm256_andnot_si256(_mm256_cmpgt_epi32(literal_ranks, last_lane), literals);
        let lows = _mm256_cvtepu8_epi32(_mm_shuffle_epi8(lows, low_ranks));
        let whole = _mm256_cmpgt_epi32(widened(low_ranks), last_lane);
        // The source, but for a low byte that the word has of its own.
        let kept = _mm256_andnot_si256(_mm256_andnot_si256(whole, low_byte), sources);
        let words = _mm256_or_si256(_mm256_or_si256(literals, lows), kept);
        // SAFETY: eight words of 128 times as many.
        unsafe {
            store(&mut space.window, FRONT + 4 * EIGHT * eight, words);
            store(page, 4 * EIGHT * eight, words);
        }
    }
}

/// The part of the groups' masks that is of eight words.
///
/// # Safety
/// There are so many.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn mask_of(masks: &[u64; GROUPS], eight: usize) -> u8 {
    debug_assert!(eight < EIGHTS);
    // SAFETY: the caller's duty; this is a little-endian CPU.
    unsafe { masks.as_ptr().cast::<u8>().add(eight).read() }
}

/// Eight bytes as words, which the compiler is not to know: it would compare them as bytes, by four instructions in place of one.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn widened(bytes: __m128i) -> __m256i {
    let mut words = _mm256_cvtepu8_epi32(bytes);
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", inout(ymm_reg) words, options(pure, nomem, nostack, preserves_flags)) };
    words
}

/// The words of the window at eight offsets, from `offsets[at]` on.
///
/// Loads that fill a vector with one word each, and blends, which need no unit that also shuffles; not a gather, which on
/// many of the CPUs that come here is slow. The compiler knows only insertions, hence the assembly.
///
/// # Safety
/// There are eight, and a word at each is within `from`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
unsafe fn fetch(from: &[u8; FRONT + PAGE], offsets: &[u16; WORDS], at: usize) -> __m256i {
    debug_assert!(at + EIGHT <= WORDS);
    let word = |lane: usize| {
        let word: __m256i;
        // SAFETY: reads four bytes at the offset, by the caller's duty within `from`; writes a register only.
        unsafe {
            let offset = usize::from(*offsets.get_unchecked(at + lane));
            debug_assert!(offset + 4 <= FRONT + PAGE);
            asm!(
                "vpbroadcastd {word}, dword ptr [{from} + {offset}]",
                from = in(reg) from.as_ptr(),
                offset = in(reg) offset,
                word = out(ymm_reg) word,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        word
    };
    let (one, two) =
        (_mm256_blend_epi32::<0x02>(word(0), word(1)), _mm256_blend_epi32::<0x08>(word(2), word(3)));
    let (three, four) =
        (_mm256_blend_epi32::<0x20>(word(4), word(5)), _mm256_blend_epi32::<0x80>(word(6), word(7)));
    let (low, high) = (_mm256_blend_epi32::<0x0c>(one, two), _mm256_blend_epi32::<0xc0>(three, four));
    _mm256_blend_epi32::<0xf0>(low, high)
}
