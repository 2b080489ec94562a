//! Finds for each word of a page an earlier one that is like it: the same that the portable `dictionary` finds.
//!
//! Vectors make hashes and entries, and compare; the tables in between are read and written word by word. An entry holds the
//! word beside its position, so that nobody fetches it from there. Entries go from table to vector and back without a way
//! through other memory: what is written word by word and soon read as a vector waits.

use std::arch::x86_64::*;

use super::super::dictionary::words_at;
use super::super::encode::{FRONT, Window, Workspace};
use super::super::format::{BLOCK, BLOCKS, LANES};
use super::super::search::{HASH_FACTOR, HASH_SHIFT, Search, TABLE, TOGETHER};
use super::{load, store};

/// A position in the upper half, the word there in the lower.
type Entry = u64;

/// A table, and beside it the hashes of a group's words at each offset, and what was found. Hashes are always below
/// [`TABLE`]: those of [`hash`], or zero.
#[repr(C, align(64))]
struct Table {
    entries: [Entry; TABLE],
    hashes: [[u16; GROUP]; OFFSETS],
    words: [u32; GROUP],
    positions: [u32; GROUP],
}

/// Words of a group of blocks, and most offsets at which words are remembered.
const GROUP: usize = TOGETHER * LANES;
const OFFSETS: usize = 4;

/// A hash is what the shift leaves of 32 bits.
const _: () = assert!(TABLE == 1 << (32 - HASH_SHIFT));

pub(super) struct SearchSpace {
    by_upper: Table,
    by_word: Table,
}

impl SearchSpace {
    pub(super) const EMPTY: SearchSpace = SearchSpace { by_upper: Table::EMPTY, by_word: Table::EMPTY };
}

impl Table {
    const EMPTY: Table = Table {
        entries: [0; TABLE],
        hashes: [[0; GROUP]; OFFSETS],
        words: [0; GROUP],
        positions: [0; GROUP],
    };

    /// Reads the entries of the `at`th aligned word of the group and the seven after it.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
    fn look_up(&mut self, at: usize) {
        let hashes = &self.hashes[0][at..at + 8];
        let entry = |index: usize| {
            debug_assert!(usize::from(hashes[index]) < TABLE);
            // SAFETY: hashes are below the length of the table.
            unsafe { *self.entries.get_unchecked(usize::from(hashes[index])) as i64 }
        };
        let [low, high] = [0, 2].map(|first| {
            let entries =
                _mm256_set_epi64x(entry(first + 5), entry(first + 4), entry(first + 1), entry(first));
            _mm256_castsi256_ps(entries)
        });
        let words = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
        let positions = _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(low, high));
        // SAFETY: `at` and seven more are in the group.
        unsafe {
            store(&mut self.words, at, words);
            store(&mut self.positions, at, positions);
        }
    }

    /// The words and the positions that were found.
    ///
    /// # Safety
    /// `at` and seven more are in the group.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
    unsafe fn found(&self, at: usize) -> (__m256i, __m256i) {
        // SAFETY: the caller's duty.
        unsafe { (load(&self.words, at), load(&self.positions, at)) }
    }

    /// Enters the `at`th word of the group at an offset and the seven after it; of those with one hash the last stays.
    ///
    /// Of two vectors of entries, each half has two that follow one another.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
    fn remember(&mut self, offset: usize, at: usize, [low, high]: [__m256i; 2]) {
        let hashes = &self.hashes[offset][at..at + 8];
        let pairs = [
            _mm256_castsi256_si128(low),
            _mm256_castsi256_si128(high),
            _mm256_extracti128_si256::<1>(low),
            _mm256_extracti128_si256::<1>(high),
        ];
        for (pair, hashes) in pairs.into_iter().zip(hashes.as_chunks::<2>().0) {
            let [first, second] = hashes.map(usize::from);
            debug_assert!(first < TABLE && second < TABLE);
            let pair = _mm_castsi128_pd(pair);
            // SAFETY: hashes are below the length of the table.
            unsafe {
                _mm_storel_pd(self.entries.as_mut_ptr().add(first).cast(), pair);
                _mm_storeh_pd(self.entries.as_mut_ptr().add(second).cast(), pair);
            }
        }
    }
}

/// Fills `work.found` of the page in `work.window`.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
pub(super) fn search<S: Search>(work: &mut Workspace, space: &mut SearchSpace) {
    // What no word was entered for leads to the page's first word.
    let first = Entry::from(words_at(&work.window, FRONT)[0]);
    space.by_upper.entries.fill(first);
    if S::WHOLE_WORDS {
        space.by_word.entries.fill(first);
    }
    // Not known to the compiler: unrolled, the loops would keep all hashes for later, and write them a second time.
    let group = std::hint::black_box(GROUP).min(GROUP);
    for first in (0..BLOCKS).step_by(TOGETHER) {
        for block in 0..TOGETHER {
            prepare::<S>(&work.window, space, first + block, block * LANES);
        }
        for at in (0..group).step_by(8) {
            space.by_upper.look_up(at);
            if S::WHOLE_WORDS {
                space.by_word.look_up(at);
            }
        }
        for offset in (0..S::OFFSETS).rev() {
            for at in (0..group).step_by(8) {
                let start = first * BLOCK + 4 * at + offset;
                // SAFETY: the window has room for two vectors behind the page.
                let words = unsafe { load(&work.window, FRONT + start) };
                let positions = positions(start);
                let made = [_mm256_unpacklo_epi32(words, positions), _mm256_unpackhi_epi32(words, positions)];
                if offset == 0 || S::UPPER_AT_ALL_OFFSETS {
                    space.by_upper.remember(offset, at, made);
                }
                if S::WHOLE_WORDS {
                    space.by_word.remember(offset, at, made);
                }
            }
        }
        // Between the writes and the reads of the next group, so that these do not run ahead of those.
        for block in 0..TOGETHER {
            compare::<S>(work, space, first + block, block * LANES);
        }
    }
}

/// The hashes of sixteen words, or of their upper bytes.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn hash(keys: [__m256i; 2]) -> __m256i {
    let factor = _mm256_set1_epi32(HASH_FACTOR as i32);
    let [low, high] =
        keys.map(|keys| _mm256_srli_epi32::<{ HASH_SHIFT as i32 }>(_mm256_mullo_epi32(keys, factor)));
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high))
}

/// The positions of eight words from `start` on.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn positions(start: usize) -> __m256i {
    _mm256_add_epi32(_mm256_set1_epi32(start as i32), _mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0))
}

/// Makes hashes of a block's words, the `at`th of their group and those after it.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn prepare<S: Search>(window: &Window, space: &mut SearchSpace, block: usize, at: usize) {
    for offset in 0..S::OFFSETS {
        let start = FRONT + block * BLOCK + offset;
        // SAFETY: the window has room for two vectors behind the page.
        let words = [0, 32].map(|half| unsafe { load(window, start + half) });
        // SAFETY: `at` and fifteen more are in the group.
        unsafe {
            if S::WHOLE_WORDS {
                store(&mut space.by_word.hashes[offset], at, hash(words));
            }
            if offset == 0 || S::UPPER_AT_ALL_OFFSETS {
                let upper = words.map(|words| _mm256_srli_epi32::<8>(words));
                store(&mut space.by_upper.hashes[offset], at, hash(upper));
            }
        }
    }
}

/// The lanes of two halves in which all bits are set, of those where all or none are.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
pub(super) fn lanes(halves: [__m256i; 2]) -> u16 {
    // By bytes first: of masks of eight lanes the compiler makes one of sixteen, which takes more than it saves.
    let [low, high] = halves.map(|half| u64::from(_mm256_movemask_epi8(half) as u32));
    _pext_u64(low | high << 32, 0x1111_1111_1111_1111) as u16
}

/// Chooses a block's sources of what was found for its words, the `at`th of their group and those after it.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn compare<S: Search>(work: &mut Workspace, space: &SearchSpace, block: usize, at: usize) {
    let start = block * BLOCK;
    let zero = _mm256_setzero_si256();
    // As signed numbers: none is at or below -4, so the first block has no sources.
    let last = _mm256_set1_epi32(start as i32 - 4);
    let (mut exact, mut close, mut filled, mut back) = ([zero; 2], [zero; 2], [zero; 2], [zero; 2]);
    for half in 0..2 {
        // SAFETY: blocks are in the window.
        let words = unsafe { load(&work.window, FRONT + start + 32 * half) };
        // SAFETY: `at` is a block of the group.
        let (mut theirs, mut sources) = unsafe { space.by_upper.found(at + 8 * half) };
        if S::WHOLE_WORDS {
            // SAFETY: as above.
            let (others, by_word) = unsafe { space.by_word.found(at + 8 * half) };
            let better =
                _mm256_andnot_si256(_mm256_cmpgt_epi32(by_word, last), _mm256_cmpeq_epi32(others, words));
            sources = _mm256_blendv_epi8(sources, by_word, better);
            theirs = _mm256_blendv_epi8(theirs, others, better);
        }
        let differ = _mm256_xor_si256(words, theirs);
        let empty = _mm256_cmpeq_epi32(words, zero);
        let none = _mm256_or_si256(empty, _mm256_cmpgt_epi32(sources, last));
        exact[half] = _mm256_cmpeq_epi32(differ, zero);
        close[half] = _mm256_andnot_si256(none, _mm256_cmpeq_epi32(_mm256_srli_epi32::<8>(differ), zero));
        filled[half] = empty;
        back[half] = _mm256_sub_epi32(positions(start + 32 * half), sources);
        // SAFETY: sixteen lanes.
        unsafe { store(&mut work.found.back[block], 8 * half, back[half]) };
    }
    // The lanes before, but for the first, whose answer does not count.
    let [low, high] = back;
    let before = [
        _mm256_alignr_epi8::<12>(low, _mm256_permute2x128_si256::<0x08>(low, low)),
        _mm256_alignr_epi8::<12>(high, _mm256_permute2x128_si256::<0x21>(low, high)),
    ];
    let run = lanes([_mm256_cmpeq_epi32(low, before[0]), _mm256_cmpeq_epi32(high, before[1])]);
    let close = lanes(close);
    work.found.exact[block] = lanes(exact);
    work.found.close[block] = close;
    work.found.filled[block] = !lanes(filled);
    work.found.same[block] = run & close & close << 1;
}
