//! Literal words coded by byte planes, 64 bytes at a time; see the portable `planes`.

use std::arch::x86_64::*;

use super::super::format::WORDS;
use super::super::planes::{Counts, Mode, PLANES, choose, sampling_step};
use super::decode::STREAM_SPACE;
use super::{load, load_quarter, low_bits, peek, poke, store, store_half, store_quarter};

/// A plane and a vector more.
const PLANE: usize = WORDS + 128;
/// Coded planes, were none of their bytes coded: one of modes, then symbols, mask and bytes of each. And a vector.
pub(super) const CODED_SPACE: usize = 1 + PLANES * (16 + WORDS / 8 + WORDS) + 127;

const IDENTITY: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut at = 0;
    while at < 64 {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};

/// Tables of counts for each plane.
const TURNS: usize = 2;

/// What both directions use.
#[repr(C, align(64))]
pub(super) struct PlaneSpace {
    words: [u32; WORDS + 16],
    planes: [[u8; PLANE]; PLANES],
    /// Which bytes of each plane are coded.
    masks: [[u64; WORDS / 64]; PLANES],
    /// Codes of one plane.
    codes: [u8; PLANE],
    raw: [u8; PLANE],
    /// In turns, because adding one to what has just been written takes long.
    counts: [[[u8; 256]; PLANES]; TURNS],
    code_of: [u8; 256],
    symbols: [u8; 256 + 64],
    coded: [u8; CODED_SPACE],
}

impl PlaneSpace {
    pub(super) const EMPTY: PlaneSpace = PlaneSpace {
        words: [0; WORDS + 16],
        planes: [[0; PLANE]; PLANES],
        masks: [[0; WORDS / 64]; PLANES],
        codes: [0; PLANE],
        raw: [0; PLANE],
        counts: [[[0; 256]; PLANES]; TURNS],
        code_of: [0; 256],
        symbols: [0; 256 + 64],
        coded: [0; CODED_SPACE],
    };

    /// Decoded literals, and a vector more.
    #[inline(always)]
    pub(super) fn words(&self) -> &[u32; WORDS + 16] {
        &self.words
    }

    /// Literals to encode are put here.
    #[inline(always)]
    pub(super) fn words_mut(&mut self) -> &mut [u32; WORDS + 16] {
        &mut self.words
    }

    /// Coded planes.
    #[inline(always)]
    pub(super) fn coded(&self) -> &[u8; CODED_SPACE] {
        &self.coded
    }
}

/// How codes of a mode are taken apart: which bytes of the codes a group of eight needs, by how many bits each of the
/// eight is shifted, and which bits of it count. All planes go one way, whatever their mode is: it cannot be foretold, and the CPU
/// would guess.
struct Unpacking {
    bytes: [u8; 64],
    /// Where the first code begins at bit 0, 2, 4 or 6 of a byte. A table, since moving a number to a vector takes a unit that all the rest wants too.
    shifts: [[u8; 64]; 4],
    bits: [u8; 64],
}

const UNPACKING: [Unpacking; 4] = [unpacking(0), unpacking(4), unpacking(2), unpacking(0)];

const fn unpacking(width: usize) -> Unpacking {
    let (mut bytes, mut shifts) = ([0; 64], [[0; 64]; 4]);
    let mut at = 0;
    while at < 64 {
        bytes[at] = (at / 8 * width + at % 8) as u8;
        let mut begin = 0;
        while begin < 4 {
            shifts[begin][at] = (at % 8 * width + 2 * begin) as u8;
            begin += 1;
        }
        at += 1;
    }
    Unpacking { bytes, shifts, bits: [(1 << width) - 1; 64] }
}

/// The order in which four-byte parts of the planes are interleaved.
const TRANSPOSED: [u32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

/// A plane to decode.
#[derive(Clone, Copy)]
struct Part {
    mode: Mode,
    /// Of a code.
    bits: usize,
    symbols: usize,
    /// In bits, unlike what is beside it.
    codes: usize,
    raw: usize,
}

/// Decodes `count` literals (1 to 1024) from `stream[at..len]` into the words; the bytes used.
///
/// `len` is at most `MAX_STREAM`, and every part is checked to end by `len` before any is read; a vector
/// or two more are still in the space of the stream.
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
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
    let mut parts = [Part { mode: Mode::Raw, bits: 0, symbols: 0, codes: 0, raw: 0 }; PLANES];
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
        *part = Part { mode, bits: mode.bits(), symbols, codes: 8 * codes, raw };
    }
    // SAFETY: sixteen indices.
    let transposed = unsafe { load(&TRANSPOSED, 0) };
    for chunk in 0..chunks {
        let mut bytes = [_mm512_setzero_si512(); PLANES];
        for (plane, (bytes, part)) in bytes.iter_mut().zip(&mut parts).enumerate() {
            let mask = space.masks[plane][chunk];
            let unpacking = &UNPACKING[part.mode as usize];
            // SAFETY: the plane ends by `len`, and where it is not at its end what it reads begins before; 64 bytes more are
            // within the space.
            let (codes, symbols, raw) = unsafe {
                (load(stream, part.codes / 8), load_quarter(stream, part.symbols), load(stream, part.raw))
            };
            let shifts = &unpacking.shifts[part.codes / 2 % 4];
            // SAFETY: 64 of 64.
            let (which, shifts, bits) =
                unsafe { (load(&unpacking.bytes, 0), load(shifts, 0), load(&unpacking.bits, 0)) };
            let codes = _mm512_multishift_epi64_epi8(shifts, _mm512_permutexvar_epi8(which, codes));
            let codes = _mm512_and_si512(codes, bits);
            let coded = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(symbols), codes);
            let coded = _mm512_maskz_expand_epi8(mask, coded);
            *bytes = _mm512_permutexvar_epi32(transposed, _mm512_mask_expand_epi8(coded, !mask, raw));
            let count = mask.count_ones() as usize;
            part.codes += count * part.bits;
            part.raw += 64 - count;
        }
        let [a, b, c, d] = bytes;
        let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
        let (low_upper, high_upper) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
        let words = [
            _mm512_unpacklo_epi16(low, low_upper),
            _mm512_unpackhi_epi16(low, low_upper),
            _mm512_unpacklo_epi16(high, high_upper),
            _mm512_unpackhi_epi16(high, high_upper),
        ];
        for (index, words) in words.into_iter().enumerate() {
            // SAFETY: at most 16 chunks of 64 words.
            unsafe { store(&mut space.words, 64 * chunk + 16 * index, words) };
        }
    }
    Some(at - begin)
}

/// Codes the first `count` words (1 to 1024); the length, or `None` if raw words are not longer.
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
pub(super) fn encode(space: &mut PlaneSpace, count: usize) -> Option<usize> {
    let samples = split(space, count);
    // All planes' modes before any is coded: the CPU cannot foretell a mode, but can find out four at once.
    let counts = [0, 1, 2, 3].map(|plane| saturated(&space.counts, plane));
    let chosen = tell(&counts).map(|counts| choose(&counts, count, samples));
    let mut at = 1;
    let mut modes = 0;
    for (plane, (counts, (mode, at_least))) in counts.iter().zip(chosen).enumerate() {
        modes |= (mode as u8) << (2 * plane);
        if mode == Mode::Raw {
            for chunk in (0..count).step_by(64) {
                // SAFETY: chunks begin below 1024; `at` is at most what all planes uncoded take, less this one.
                unsafe { store(&mut space.coded, at + chunk, load(&space.planes[plane], chunk)) };
            }
            at += count;
        } else {
            at = code_plane(space, counts, plane, count, (mode, at_least), at);
        }
    }
    space.coded[0] = modes;
    (at < 4 * count).then_some(at)
}

/// Splits the words into planes and counts a sample of each; the size of the sample.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn split(space: &mut PlaneSpace, count: usize) -> usize {
    let PlaneSpace { words, planes, counts, .. } = space;
    *counts = [[[0; 256]; PLANES]; TURNS];
    let sample = words[..count].iter().step_by(sampling_step(count));
    let samples = sample.len();
    for (turn, word) in sample.enumerate() {
        for (plane, byte) in word.to_le_bytes().into_iter().enumerate() {
            counts[turn % TURNS][plane][usize::from(byte)] += 1;
        }
    }
    for at in (0..count).step_by(16) {
        // SAFETY: `at` is at most 1008.
        let words = unsafe { load(words, at) };
        let [a, b, c, d] = planes;
        // SAFETY: as above.
        unsafe {
            store_quarter(a, at, _mm512_cvtepi32_epi8(words));
            store_quarter(b, at, _mm512_cvtepi32_epi8(_mm512_srli_epi32::<8>(words)));
            store_quarter(c, at, _mm512_cvtepi32_epi8(_mm512_srli_epi32::<16>(words)));
            store_quarter(d, at, _mm512_cvtepi32_epi8(_mm512_srli_epi32::<24>(words)));
        }
    }
    samples
}

/// The counts of all symbols of a plane.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn saturated(counts: &[[[u8; 256]; PLANES]; TURNS], plane: usize) -> [__m512i; 4] {
    [0, 64, 128, 192].map(|at| {
        // SAFETY: 192 + 64 are all.
        let (one, other) = unsafe { (load(&counts[0][plane], at), load(&counts[1][plane], at)) };
        _mm512_adds_epu8(one, other)
    })
}

/// What the counts say of each plane. All together, since each bit of a threshold waits for the bit before.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn tell(counts: &[[__m512i; 4]; PLANES]) -> [Counts; PLANES] {
    let reach = |counts: &[__m512i; 4], least: u32| {
        let least = _mm512_set1_epi8(least as i8);
        counts.iter().map(|&count| _mm512_cmpge_epu8_mask(count, least).count_ones()).sum::<u32>()
    };
    // Bit by bit the largest count that 16 and 4 symbols reach; no more than an even share of the sample.
    let mut at_least = [[0; 2]; PLANES];
    for bit in (0..7).rev() {
        for (counts, at_least) in counts.iter().zip(&mut at_least) {
            for (least, (symbols, bits)) in at_least.iter_mut().zip([(16, 5), (4, 7)]) {
                if bit < bits {
                    let more = *least | 1 << bit;
                    *least = std::hint::select_unpredictable(reach(counts, more) >= symbols, more, *least);
                }
            }
        }
    }
    [0, 1, 2, 3].map(|plane| covered(&counts[plane], at_least[plane]))
}

/// What a plane's counts say, for 16, 4 and 1 symbols at once, of which the first two are known to reach some counts.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn covered(counts: &[__m512i; 4], [sixteen, four]: [u32; 2]) -> Counts {
    let symbols = [16, 4, 1];
    let [a, b, c, d] = *counts;
    let most = _mm512_max_epu8(_mm512_max_epu8(a, b), _mm512_max_epu8(c, d));
    let most = _mm256_max_epu8(_mm512_castsi512_si256(most), _mm512_extracti64x4_epi64::<1>(most));
    let most = _mm_max_epu8(_mm256_castsi256_si128(most), _mm256_extracti128_si256::<1>(most));
    // The least of sixteen bytes turned over: of eight halves, each the lesser of its bytes.
    let turned = _mm_xor_si128(most, _mm_set1_epi8(-1));
    let turned = _mm_minpos_epu16(_mm_min_epu8(turned, _mm_srli_epi16::<8>(turned)));
    let at_least = [sixteen, four, !_mm_extract_epi8::<0>(turned) as u32 & 0xff];
    let covered = [0, 1, 2].map(|index: usize| {
        let least = at_least[index];
        let vector = _mm512_set1_epi8(least as i8);
        let (mut sum, mut above) = (_mm512_setzero_si512(), 0);
        for &count in counts {
            let mask = _mm512_cmpgt_epu8_mask(count, vector);
            above += mask.count_ones();
            let counted = _mm512_maskz_mov_epi8(mask, count);
            sum = _mm512_add_epi64(sum, _mm512_sad_epu8(counted, _mm512_setzero_si512()));
        }
        _mm512_reduce_add_epi64(sum) as u32 + (symbols[index] - above) * least
    });
    Counts { at_least, covered }
}

/// Writes one coded plane from `coded[at]` on; where it ends.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn code_plane(
    space: &mut PlaneSpace,
    counts: &[__m512i; 4],
    plane: usize,
    count: usize,
    (mode, at_least): (Mode, u32),
    at: usize,
) -> usize {
    let PlaneSpace { planes, codes, raw, code_of, symbols, coded, .. } = space;
    let bytes = &planes[plane];
    most_frequent(symbols, counts, at_least, mode.symbols());
    *code_of = [0xff; 256];
    for (code, &symbol) in symbols[..mode.symbols()].iter().enumerate() {
        code_of[usize::from(symbol)] = code as u8;
    }
    // `at` and what follows stay below CODED_SPACE less a vector: a plane takes at most 16 + 128 + 1024 bytes.
    // SAFETY: 16 of 320 symbols; see above.
    unsafe { store_quarter(coded, at, load_quarter(symbols, 0)) };
    let mask_at = at + mode.symbols();
    // SAFETY: four vectors are the 256 codes.
    let table = [0, 64, 128, 192].map(|at| unsafe { load(code_of, at) });
    let (mut coded_len, mut raw_len) = (0, 0);
    for chunk in 0..count.div_ceil(64) {
        // SAFETY: a plane has room for 16 chunks and two more.
        let x = unsafe { load(bytes, 64 * chunk) };
        let valid = low_bits(count - 64 * chunk);
        let low = _mm512_permutex2var_epi8(table[0], x, table[1]);
        let high = _mm512_permutex2var_epi8(table[2], x, table[3]);
        let code = _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(x), high);
        let mask = !_mm512_movepi8_mask(code) & valid;
        let rest = !mask & valid;
        // SAFETY: both lengths are at most 1024, and their spaces have two vectors more; 8 bytes of mask: see above.
        unsafe {
            poke(coded, mask_at + 8 * chunk, mask);
            store(codes, coded_len, _mm512_maskz_compress_epi8(mask, code));
            store(raw, raw_len, _mm512_maskz_compress_epi8(rest, x));
        }
        coded_len += mask.count_ones() as usize;
        raw_len += rest.count_ones() as usize;
    }
    // SAFETY: as above. Codes that fill up a byte are zero.
    unsafe { store(codes, coded_len, _mm512_setzero_si512()) };
    let mut at = mask_at + count.div_ceil(8);
    for done in (0..coded_len).step_by(64) {
        // SAFETY: `done` is below 1024.
        let code = unsafe { load(codes, done) };
        match mode {
            Mode::Sixteen => {
                let pairs = _mm512_maddubs_epi16(code, _mm512_set1_epi16(0x1001));
                // SAFETY: for `coded` see above.
                unsafe { store_half(coded, at + done / 2, _mm512_cvtepi16_epi8(pairs)) };
            }
            Mode::Four => {
                let pairs = _mm512_maddubs_epi16(code, _mm512_set1_epi16(0x0401));
                let fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x0010_0001));
                // SAFETY: for `coded` see above.
                unsafe { store_quarter(coded, at + done / 4, _mm512_cvtepi32_epi8(fours)) };
            }
            Mode::One | Mode::Raw => break,
        }
    }
    at += (coded_len * mode.bits()).div_ceil(8);
    for done in (0..raw_len).step_by(64) {
        // SAFETY: as above.
        unsafe { store(coded, at + done, load(raw, done)) };
    }
    at + raw_len
}

/// The symbols counted more than `at_least` times, then those exactly so often, in the order of their values, until
/// there are `wanted`.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn most_frequent(symbols: &mut [u8; 256 + 64], counts: &[__m512i; 4], at_least: u32, wanted: usize) {
    let least = _mm512_set1_epi8(at_least as i8);
    // SAFETY: 64 of 64.
    let identity = unsafe { load(&IDENTITY, 0) };
    let mut found = 0;
    let mut list = |index: usize, mask: u64| {
        let values = _mm512_add_epi8(identity, _mm512_set1_epi8((64 * index) as i8));
        // SAFETY: no symbol is listed twice, so at most 256 are, and there is a vector more.
        unsafe { store(symbols, found, _mm512_maskz_compress_epi8(mask, values)) };
        found += mask.count_ones() as usize;
        found
    };
    for (index, &count) in counts.iter().enumerate() {
        list(index, _mm512_cmpgt_epu8_mask(count, least));
    }
    for (index, &count) in counts.iter().enumerate() {
        if list(index, _mm512_cmpeq_epu8_mask(count, least)) >= wanted {
            break;
        }
    }
}
