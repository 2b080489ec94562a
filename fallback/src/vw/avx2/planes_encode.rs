//! Literal words to byte planes, 32 bytes at a time; see the portable `planes`.

use std::arch::x86_64::*;

use super::super::format::WORDS;
use super::super::planes::{Counts, Mode, PLANES, choose, sampling_step};
use super::{compression, load, load_quarter, low_bits, poke, store, store_half, store_quarter};

/// A plane and a vector more.
const PLANE: usize = WORDS + 32;
/// Coded planes, were none of their bytes coded: one of modes, then symbols, mask and bytes of each. And a vector.
const CODED_SPACE: usize = 1 + PLANES * (16 + WORDS / 8 + WORDS) + 63;

/// Tables of counts for each plane.
const TURNS: usize = 2;

#[repr(C, align(64))]
pub(super) struct PlaneSpace {
    words: [u32; WORDS + 32],
    planes: [[u8; PLANE]; PLANES],
    /// For each byte of a plane [`CODED`] and its code, or 0; and the codes of those that have one.
    all_codes: [u8; PLANE],
    codes: [u8; PLANE],
    /// In turns, because adding one to what has just been written takes long.
    counts: [[[u8; 256]; PLANES]; TURNS],
    coded: [u8; CODED_SPACE],
}

/// Marks a byte that has a code.
const CODED: u8 = 0x80;

/// The counts of all symbols of a plane.
type Histogram = [__m256i; 8];

impl PlaneSpace {
    pub(super) const EMPTY: PlaneSpace = PlaneSpace {
        words: [0; WORDS + 32],
        planes: [[0; PLANE]; PLANES],
        all_codes: [0; PLANE],
        codes: [0; PLANE],
        counts: [[[0; 256]; PLANES]; TURNS],
        coded: [0; CODED_SPACE],
    };

    /// Literals to encode.
    #[inline(always)]
    pub(super) fn words(&self) -> &[u32; WORDS + 32] {
        &self.words
    }

    /// Literals to encode are put here.
    #[inline(always)]
    pub(super) fn words_mut(&mut self) -> &mut [u32; WORDS + 32] {
        &mut self.words
    }

    /// Coded planes.
    #[inline(always)]
    pub(super) fn coded(&self) -> &[u8; CODED_SPACE] {
        &self.coded
    }

    /// Codes the first `count` words (1 to 1024); the length, or `None` if raw words are not longer.
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
    pub(super) fn encode(&mut self, count: usize) -> Option<usize> {
        let samples = self.count(count);
        self.split(count);
        // All planes' modes before any is coded: the CPU cannot foretell a mode, but can find out four at once.
        let counts = [0, 1, 2, 3].map(|plane| self.saturated(plane));
        let chosen = tell(&counts).map(|counts| choose(&counts, count, samples));
        let mut at = 1;
        let mut modes = 0;
        for (plane, (counts, (mode, at_least))) in counts.iter().zip(chosen).enumerate() {
            modes |= (mode as u8) << (2 * plane);
            if mode == Mode::Raw {
                for chunk in (0..count).step_by(32) {
                    // SAFETY: chunks begin below 1024; `at` is at most what all planes uncoded take, less this one.
                    unsafe { store(&mut self.coded, at + chunk, load(&self.planes[plane], chunk)) };
                }
                at += count;
            } else {
                let symbols = most_frequent(counts, at_least, mode.symbols());
                at = self.code_plane(plane, count, mode, &symbols, at);
            }
        }
        self.coded[0] = modes;
        (at < 4 * count).then_some(at)
    }

    /// Counts the bytes of a sample of the words; its size.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
    fn count(&mut self, count: usize) -> usize {
        self.counts = [[[0; 256]; PLANES]; TURNS];
        let sample = self.words[..count].iter().step_by(sampling_step(count));
        let samples = sample.len();
        for (turn, word) in sample.enumerate() {
            for (plane, byte) in word.to_le_bytes().into_iter().enumerate() {
                self.counts[turn % TURNS][plane][usize::from(byte)] += 1;
            }
        }
        samples
    }

    /// Splits the words into planes.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
    fn split(&mut self, count: usize) {
        let by_plane =
            _mm256_broadcastsi128_si256(_mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
        let in_order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
        for at in (0..count).step_by(32) {
            // SAFETY: `at` is at most 992.
            let [a, b, c, d] = [0, 8, 16, 24]
                .map(|part| unsafe { _mm256_shuffle_epi8(load(&self.words, at + part), by_plane) });
            let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (low_after, high_after) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            let planes = [
                _mm256_unpacklo_epi64(low, low_after),
                _mm256_unpackhi_epi64(low, low_after),
                _mm256_unpacklo_epi64(high, high_after),
                _mm256_unpackhi_epi64(high, high_after),
            ];
            for (plane, bytes) in self.planes.iter_mut().zip(planes) {
                // SAFETY: as above.
                unsafe { store(plane, at, _mm256_permutevar8x32_epi32(bytes, in_order)) };
            }
        }
    }

    /// The counts of all symbols of a plane.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
    fn saturated(&self, plane: usize) -> Histogram {
        [0, 32, 64, 96, 128, 160, 192, 224].map(|at| {
            let [one, other] = &self.counts;
            // SAFETY: 224 + 32 are all.
            let (one, other) = unsafe { (load(&one[plane], at), load(&other[plane], at)) };
            _mm256_adds_epu8(one, other)
        })
    }

    /// Writes one coded plane from `coded[at]` on; where it ends.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
    fn code_plane(&mut self, plane: usize, count: usize, mode: Mode, symbols: &[u8; 16], at: usize) -> usize {
        let PlaneSpace { planes, all_codes, codes, coded, .. } = self;
        let bytes = &planes[plane];
        // `at` and what follows stay below CODED_SPACE less a vector: a plane takes at most 16 + 128 + 1024 bytes.
        let mask_at = at + mode.symbols();
        let codes_at = mask_at + count.div_ceil(8);
        // SAFETY: sixteen of sixteen symbols; see above.
        unsafe { store_half(coded, at, _mm_loadu_si128(symbols.as_ptr().cast())) };
        let coded_len = match mode {
            Mode::Sixteen => assign::<16>(bytes, count, symbols, all_codes, coded, mask_at),
            Mode::Four => assign::<4>(bytes, count, symbols, all_codes, coded, mask_at),
            Mode::One | Mode::Raw => assign::<1>(bytes, count, symbols, all_codes, coded, mask_at),
        };
        if mode != Mode::One {
            let mut done = 0;
            for group in 0..count.div_ceil(8) {
                let mask = coded[mask_at + group];
                // SAFETY: a group is within the plane, and no more codes are before those of a group than bytes.
                unsafe {
                    let kept = _mm_shuffle_epi8(load_quarter(all_codes, 8 * group), compression(mask));
                    store_quarter(codes, done, kept);
                }
                done += mask.count_ones() as usize;
            }
            // Codes that fill up a byte are zero.
            // SAFETY: a plane has room for a vector more.
            unsafe { store(codes, done, _mm256_setzero_si256()) };
            pack(codes, coded_len, mode, coded, codes_at);
        }
        let raw_at = codes_at + (coded_len * mode.bits()).div_ceil(8);
        let mut at = raw_at;
        for group in 0..count.div_ceil(8) {
            let mask = !coded[mask_at + group];
            // SAFETY: as above. Bytes behind the last are put behind those that count.
            unsafe {
                let kept = _mm_shuffle_epi8(load_quarter(bytes, 8 * group), compression(mask));
                store_quarter(coded, at, kept);
            }
            at += mask.count_ones() as usize;
        }
        raw_at + count - coded_len
    }
}

/// Finds the codes of all bytes of a plane, writes the mask of those that have one to `coded[mask_at]` and what follows, and
/// returns how many have.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn assign<const SYMBOLS: usize>(
    bytes: &[u8; PLANE],
    count: usize,
    symbols: &[u8; 16],
    all_codes: &mut [u8; PLANE],
    coded: &mut [u8; CODED_SPACE],
    mask_at: usize,
) -> usize {
    let symbols: [__m256i; SYMBOLS] = std::array::from_fn(|code| _mm256_set1_epi8(symbols[code] as i8));
    let mut coded_len = 0;
    for at in (0..count).step_by(32) {
        // SAFETY: a plane has room for 32 chunks and one more.
        let x = unsafe { load(bytes, at) };
        let mut all = _mm256_setzero_si256();
        for (code, &symbol) in symbols.iter().enumerate() {
            let code = _mm256_set1_epi8((CODED | code as u8) as i8);
            all = _mm256_or_si256(all, _mm256_and_si256(_mm256_cmpeq_epi8(x, symbol), code));
        }
        let mask = _mm256_movemask_epi8(all) as u32 & low_bits(count - at) as u32;
        // SAFETY: as above, and for `coded` see `code_plane`.
        unsafe {
            store(all_codes, at, _mm256_and_si256(all, _mm256_set1_epi8(!CODED as i8)));
            poke(coded, mask_at + at / 8, mask);
        }
        coded_len += mask.count_ones() as usize;
    }
    coded_len
}

/// Writes so many codes to `coded[at]` and what follows.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn pack(codes: &[u8; PLANE], count: usize, mode: Mode, coded: &mut [u8; CODED_SPACE], at: usize) {
    for done in (0..count).step_by(32) {
        // SAFETY: `done` is below 1024; for `coded` see `code_plane`.
        let code = unsafe { load(codes, done) };
        if mode == Mode::Sixteen {
            let pairs = _mm256_maddubs_epi16(code, _mm256_set1_epi16(0x1001));
            let packed = _mm256_permute4x64_epi64::<0b10_00>(_mm256_packus_epi16(pairs, pairs));
            // SAFETY: as above.
            unsafe { store_half(coded, at + done / 2, _mm256_castsi256_si128(packed)) };
        } else {
            let pairs = _mm256_maddubs_epi16(code, _mm256_set1_epi16(0x0401));
            let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0010_0001));
            let halves =
                _mm_packus_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256::<1>(fours));
            // SAFETY: as above.
            unsafe { store_quarter(coded, at + done / 4, _mm_packus_epi16(halves, halves)) };
        }
    }
}

/// The sum of all bytes.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn sum<const N: usize>(bytes: [__m256i; N]) -> u32 {
    let zero = _mm256_setzero_si256();
    let sums = bytes.iter().fold(zero, |sum, &bytes| _mm256_add_epi64(sum, _mm256_sad_epu8(bytes, zero)));
    let sums = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    _mm_cvtsi128_si32(_mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums))) as u32
}

/// What the planes' counts say, for 16, 4 and 1 symbols.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn tell(counts: &[Histogram; PLANES]) -> [Counts; PLANES] {
    // Bit by bit the largest count that so many symbols reach; no more than an even share of the sample. Each bit waits for
    // the one before, so all planes go together.
    let mut at_least = [[0; 3]; PLANES];
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
    std::array::from_fn(|plane| {
        let (counts, mut at_least) = (&counts[plane], at_least[plane]);
        at_least[2] = most(counts);
        let mut covered = [0; 3];
        for ((covered, least), symbols) in covered.iter_mut().zip(at_least).zip([16, 4, 1]) {
            // What the most frequent have beyond the least of them, and that of each.
            let vector = _mm256_set1_epi8(least as i8);
            *covered = sum(counts.map(|count| _mm256_subs_epu8(count, vector))) + symbols * least;
        }
        Counts { at_least, covered }
    })
}

/// How many symbols are counted so often at least.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn reach(counts: &Histogram, least: u32) -> u32 {
    let least = _mm256_set1_epi8(least as i8);
    let such = counts.iter().fold(_mm256_setzero_si256(), |such, &count| {
        _mm256_sub_epi8(such, _mm256_cmpeq_epi8(_mm256_max_epu8(count, least), count))
    });
    sum([such])
}

/// The largest count.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn most(counts: &Histogram) -> u32 {
    let most = counts.iter().fold(_mm256_setzero_si256(), |most, &count| _mm256_max_epu8(most, count));
    let most = _mm_max_epu8(_mm256_castsi256_si128(most), _mm256_extracti128_si256::<1>(most));
    // The least of sixteen bytes turned over: of eight halves, each the lesser of its bytes.
    let turned = _mm_xor_si128(most, _mm_set1_epi8(-1));
    let turned = _mm_minpos_epu16(_mm_min_epu8(turned, _mm_srli_epi16::<8>(turned)));
    !_mm_extract_epi8::<0>(turned) as u32 & 0xff
}

/// The symbols counted more than `at_least` times, then those exactly so often, in the order of their values, until
/// there are `wanted`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn most_frequent(counts: &Histogram, at_least: u32, wanted: usize) -> [u8; 16] {
    let least = _mm256_set1_epi8(at_least as i8);
    let mut symbols = [0; 16];
    let mut found = 0;
    let mut list = |index: usize, mut mask: u32| {
        while mask != 0 && found < wanted {
            symbols[found % 16] = (32 * index) as u8 + mask.trailing_zeros() as u8;
            mask &= mask - 1;
            found += 1;
        }
        found < wanted
    };
    for (index, &count) in counts.iter().enumerate() {
        let at_most = _mm256_cmpeq_epi8(_mm256_max_epu8(count, least), least);
        list(index, !_mm256_movemask_epi8(at_most) as u32);
    }
    for (index, &count) in counts.iter().enumerate() {
        if !list(index, _mm256_movemask_epi8(_mm256_cmpeq_epi8(count, least)) as u32) {
            break;
        }
    }
    symbols
}
