//! Literal words coded by byte planes; see the portable `planes`.
//!
//! A plane is made in two steps: its codes become symbols, 32 at a time, then symbols and other bytes are merged, eight bits of the
//! mask at a time. The CPU must guess a plane's mode; going one way for all of them takes longer.

use std::arch::x86_64::*;

use super::super::format::WORDS;
use super::super::planes::{Mode, PLANES};
use super::decode::STREAM_SPACE;
use super::{load, load_half, load_halves, load_quarter, peek, ranks, store, store_half, store_quarter};

/// A plane, and two vectors more.
const PLANE: usize = WORDS + 64;

#[repr(C, align(64))]
pub(super) struct PlaneSpace {
    words: [u32; WORDS + 32],
    planes: [[u8; PLANE]; PLANES],
    /// Symbols of one plane's codes.
    coded: [u8; PLANE],
}

impl PlaneSpace {
    pub(super) const EMPTY: PlaneSpace =
        PlaneSpace { words: [0; WORDS + 32], planes: [[0; PLANE]; PLANES], coded: [0; PLANE] };

    /// Decoded literals, and vectors more.
    #[inline(always)]
    pub(super) fn words(&self) -> &[u32; WORDS + 32] {
        &self.words
    }
}

/// Decodes `count` literals (1 to 1024) from `stream[at..len]` into the words; the bytes used.
///
/// `len` is at most `MAX_STREAM`, and every part of a plane is checked to end by `len` before it is read. So a part begins by
/// `len`, and what is read beyond that, at most what 1024 literals take and a vector, is within the space of the stream.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
pub(super) fn decode(
    space: &mut PlaneSpace,
    stream: &[u8; STREAM_SPACE],
    at: usize,
    len: usize,
    count: usize,
) -> Option<usize> {
    if at >= len {
        return None;
    }
    let modes = stream[at];
    let mut end = at + 1;
    for plane in 0..PLANES {
        let mode = Mode::of(modes, plane);
        end = if mode == Mode::Raw {
            raw_plane(&mut space.planes[plane], stream, end, len, count)?
        } else {
            coded_plane(&mut space.planes[plane], &mut space.coded, stream, (end, len), count, mode)?
        };
    }
    for chunk in (0..count).step_by(32) {
        // SAFETY: 32 bytes from at most 992 on.
        let [a, b, c, d] = [0, 1, 2, 3].map(|plane| unsafe { load(&space.planes[plane], chunk) });
        let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
        let (low_upper, high_upper) = (_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d));
        // Of each the first half are words of the first 16, the second half of the last.
        let (one, two) = (_mm256_unpacklo_epi16(low, low_upper), _mm256_unpackhi_epi16(low, low_upper));
        let (three, four) =
            (_mm256_unpacklo_epi16(high, high_upper), _mm256_unpackhi_epi16(high, high_upper));
        // SAFETY: 32 words from at most 992 on.
        unsafe {
            store(&mut space.words, chunk, _mm256_permute2x128_si256::<0x20>(one, two));
            store(&mut space.words, chunk + 8, _mm256_permute2x128_si256::<0x20>(three, four));
            store(&mut space.words, chunk + 16, _mm256_permute2x128_si256::<0x31>(one, two));
            store(&mut space.words, chunk + 24, _mm256_permute2x128_si256::<0x31>(three, four));
        }
    }
    Some(end - at)
}

/// Copies a plane; where it ends.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn raw_plane(
    plane: &mut [u8; PLANE],
    stream: &[u8; STREAM_SPACE],
    at: usize,
    len: usize,
    count: usize,
) -> Option<usize> {
    let end = at + count;
    if end > len {
        return None;
    }
    for chunk in (0..count).step_by(32) {
        // In halves, which are not taken for a call of memcpy.
        // SAFETY: `chunk` is at most 992, in a plane of more than 1024 bytes; and the plane is within the stream.
        unsafe {
            store_half(plane, chunk, load_half(stream, at + chunk));
            store_half(plane, chunk + 16, load_half(stream, at + chunk + 16));
        }
    }
    Some(end)
}

/// Makes a plane some of whose bytes are coded, from `stream[part.0..part.1]`; where it ends.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn coded_plane(
    plane: &mut [u8; PLANE],
    coded_bytes: &mut [u8; PLANE],
    stream: &[u8; STREAM_SPACE],
    part: (usize, usize),
    count: usize,
    mode: Mode,
) -> Option<usize> {
    let (symbols, len) = part;
    let mask = symbols + mode.symbols();
    let codes = mask + count.div_ceil(8);
    if codes > len {
        return None;
    }
    let coded = count_bits(stream, mask, count);
    let raw = codes + (coded * mode.bits()).div_ceil(8);
    let end = raw + (count - coded);
    if end > len {
        return None;
    }
    // SAFETY: the symbols begin by `len`.
    let symbols = unsafe { load_half(stream, symbols) };
    expand(coded_bytes, stream, codes, coded, mode, symbols);
    let mut coded = 0;
    for at in (0..count).step_by(16) {
        // SAFETY: the mask begins by `len`, and `at` is at most 1008.
        let masks: u16 = unsafe { peek(stream, mask + at / 8) };
        for (at, mask) in [(at, masks as u8), (at + 8, (masks >> 8) as u8)] {
            // SAFETY: `at` is at most 1016. Up to it so many bytes are of either kind at most: `coded` and `at - coded` are not
            // above it; and the other bytes begin by `len`.
            let both = unsafe { load_halves((coded_bytes, coded), (stream, raw + at - coded)) };
            // SAFETY: eight bytes from at most 1016 on.
            unsafe { store_quarter(plane, at, _mm_shuffle_epi8(both, ranks(mask))) };
            coded += mask.count_ones() as usize;
        }
    }
    Some(end)
}

/// How many of the first `count` bits from byte `at` on are set.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn count_bits(stream: &[u8; STREAM_SPACE], at: usize, count: usize) -> usize {
    let word = |chunk: usize| {
        // SAFETY: the caller's bits begin by MAX_STREAM, and so many words further, at most 16, eight bytes are within.
        unsafe { peek::<u64, _>(stream, at + 8 * chunk) }
    };
    let whole = count / 64;
    let last = word(whole) & !(u64::MAX << (count % 64));
    (0..whole).fold(last.count_ones(), |sum, chunk| sum + word(chunk).count_ones()) as usize
}

/// The symbols of so many codes, 32 at a time.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn expand(
    bytes: &mut [u8; PLANE],
    stream: &[u8; STREAM_SPACE],
    codes: usize,
    coded: usize,
    mode: Mode,
    symbols: __m128i,
) {
    // Joins the symbols of the lower codes of some bytes with those of the upper ones.
    let mut put = |at: usize, low: __m128i, high: __m128i| {
        let (low, high) = (_mm_shuffle_epi8(symbols, low), _mm_shuffle_epi8(symbols, high));
        // SAFETY: `at` is below 1024, and so at most 992, in a space of 32 bytes more.
        unsafe {
            store_half(bytes, at, _mm_unpacklo_epi8(low, high));
            store_half(bytes, at + 16, _mm_unpackhi_epi8(low, high));
        }
    };
    let (nibble, pair) = (_mm_set1_epi8(0x0f), _mm_set1_epi8(0x03));
    match mode {
        Mode::Sixteen => {
            for at in (0..coded).step_by(32) {
                // SAFETY: the codes begin by `len`, and `at` is at most 992.
                let codes = unsafe { load_half(stream, codes + at / 2) };
                put(at, _mm_and_si128(codes, nibble), _mm_and_si128(_mm_srli_epi16::<4>(codes), nibble));
            }
        }
        Mode::Four => {
            for at in (0..coded).step_by(32) {
                // SAFETY: as above.
                let codes = unsafe { load_quarter(stream, codes + at / 4) };
                // Each byte, then what is four bits further.
                let codes = _mm_unpacklo_epi8(codes, _mm_srli_epi16::<4>(codes));
                put(at, _mm_and_si128(codes, pair), _mm_and_si128(_mm_srli_epi16::<2>(codes), pair));
            }
        }
        Mode::One | Mode::Raw => {
            for at in (0..coded).step_by(32) {
                put(at, _mm_setzero_si128(), _mm_setzero_si128());
            }
        }
    }
}
