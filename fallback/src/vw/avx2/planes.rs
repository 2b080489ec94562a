//! Literal words coded by byte planes, eight at a time; see the portable `planes`.

use std::arch::x86_64::*;

use super::super::format::WORDS;
use super::super::planes::{Mode, PLANES};
use super::decode::STREAM_SPACE;
use super::{expansion, load_half, load_quarter, low_bits, peek, store_half};

#[repr(C, align(64))]
pub(super) struct PlaneSpace {
    words: [u32; WORDS + 16],
    /// Which bytes of each plane are coded.
    masks: [[u64; WORDS / 64]; PLANES],
}

impl PlaneSpace {
    pub(super) const EMPTY: PlaneSpace =
        PlaneSpace { words: [0; WORDS + 16], masks: [[0; WORDS / 64]; PLANES] };

    /// Decoded literals, and two vectors more.
    #[inline(always)]
    pub(super) fn words(&self) -> &[u32; WORDS + 16] {
        &self.words
    }
}

/// For each mode, the bits of a code in a byte.
const CODE_BITS: [u64; 4] = [0, 0x0f0f_0f0f_0f0f_0f0f, 0x0303_0303_0303_0303, 0];

/// A plane to decode.
#[derive(Clone, Copy)]
struct Part {
    mode: Mode,
    symbols: usize,
    /// In bits, unlike the others.
    codes: usize,
    raw: usize,
}

/// Decodes `count` literals (1 to 1024) from `stream[at..len]` into the words; the bytes used.
///
/// `len` is at most `MAX_STREAM`, and every part is checked to end by `len` before any is read; a vector
/// or two more are still in the space of the stream.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
pub(super) fn decode(
    space: &mut PlaneSpace,
    stream: &[u8; STREAM_SPACE],
    at: usize,
    len: usize,
    count: usize,
) -> Option<usize> {
    let begin = at;
    let mut at = at;
    if at >= len {
        return None;
    }
    let modes = stream[at];
    at += 1;
    let chunks = count.div_ceil(64);
    let last = low_bits(count - 64 * (chunks - 1));
    let mut parts = [Part { mode: Mode::Raw, symbols: 0, codes: 0, raw: 0 }; PLANES];
    for (plane, part) in parts.iter_mut().enumerate() {
        let mode = Mode::of(modes, plane);
        let is_coded = mode != Mode::Raw;
        let symbols = at;
        let mask = symbols + mode.symbols();
        let codes = mask + std::hint::select_unpredictable(is_coded, count.div_ceil(8), 0);
        if codes > len {
            return None;
        }
        let all = std::hint::select_unpredictable(is_coded, u64::MAX, 0);
        let mut coded = 0;
        for (chunk, kept) in space.masks[plane][..chunks].iter_mut().enumerate() {
            // SAFETY: the mask begins by `len`, and at most 120 bytes further 8 are within the space.
            let mask = all & unsafe { peek::<u64, STREAM_SPACE>(stream, mask + 8 * chunk) };
            *kept = if chunk + 1 == chunks { mask & last } else { mask };
            coded += kept.count_ones() as usize;
        }
        let raw = codes + (coded * mode.bits()).div_ceil(8);
        at = raw + (count - coded);
        if at > len {
            return None;
        }
        *part = Part { mode, symbols, codes: 8 * codes, raw };
    }
    for eight in 0..count.div_ceil(8) {
        let mut bytes = [_mm_setzero_si128(); PLANES];
        for (plane, (bytes, part)) in bytes.iter_mut().zip(&mut parts).enumerate() {
            let mask = (space.masks[plane][eight / 8] >> (8 * (eight % 8))) as u8;
            // SAFETY: the plane ends by `len`, and where it is not at its end what it reads begins before; 64 bytes more are
            // within the space.
            let (codes, symbols, raw) = unsafe {
                (
                    peek::<u64, _>(stream, part.codes / 8),
                    load_half(stream, part.symbols),
                    load_quarter(stream, part.raw),
                )
            };
            let (coded_lanes, raw_lanes) = (expansion(mask), expansion(!mask));
            let codes = _pdep_u64(codes >> (part.codes % 8), CODE_BITS[part.mode as usize]);
            let coded = _mm_shuffle_epi8(symbols, _mm_cvtsi64_si128(codes as i64));
            *bytes = _mm_or_si128(_mm_shuffle_epi8(coded, coded_lanes), _mm_shuffle_epi8(raw, raw_lanes));
            let count = mask.count_ones() as usize;
            part.codes += count * part.mode.bits();
            part.raw += 8 - count;
        }
        let [a, b, c, d] = bytes;
        let (low, high) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
        // SAFETY: at most 128 times eight words.
        unsafe {
            store_half(&mut space.words, 8 * eight, _mm_unpacklo_epi16(low, high));
            store_half(&mut space.words, 8 * eight + 4, _mm_unpackhi_epi16(low, high));
        }
    }
    Some(at - begin)
}
