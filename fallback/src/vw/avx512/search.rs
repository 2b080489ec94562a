//! Finds for each word of a page an earlier one that is like it: the same that the portable `dictionary` finds.
//!
//! Vectors make hashes and compare; the tables in between are read and written word by word, with ordinary loads and
//! stores, because a gather and a scatter cost several times as much on Zen 5. An entry holds the word beside its
//! position, so that nobody fetches it from there.

use std::arch::x86_64::*;

use super::super::dictionary::words_at;
use super::super::encode::{FRONT, Workspace};
use super::super::format::{BLOCK, BLOCKS, LANES};
use super::super::search::{HASH_FACTOR, HASH_SHIFT, Search, TABLE, TOGETHER};
use super::{load, store, store_half};

/// A position in the upper half, the word there in the lower.
type Entry = u64;

/// A table, and beside it the hashes of a group's words at each offset, and what was found. Hashes are always below
/// [`TABLE`]: those of [`hash`], or zero.
#[repr(C, align(64))]
struct Table {
    entries: [Entry; TABLE],
    hashes: [[u16; GROUP]; OFFSETS],
    found: [Entry; GROUP],
}

/// Words of a group of blocks, and most offsets at which words are remembered.
const GROUP: usize = TOGETHER * LANES;
const OFFSETS: usize = 4;

/// A hash is what the shift leaves of 32 bits.
const _: () = assert!(TABLE == 1 << (32 - HASH_SHIFT));

pub(super) struct SearchSpace {
    by_upper: Table,
    by_word: Table,
    /// The entries that the words at each offset become.
    made: [[Entry; GROUP]; OFFSETS],
}

impl SearchSpace {
    pub(super) const EMPTY: SearchSpace =
        SearchSpace { by_upper: Table::EMPTY, by_word: Table::EMPTY, made: [[0; GROUP]; OFFSETS] };
}

impl Table {
    const EMPTY: Table = Table { entries: [0; TABLE], hashes: [[0; GROUP]; OFFSETS], found: [0; GROUP] };

    /// Reads the entries of all aligned words.
    #[inline(always)]
    fn look_up(&mut self) {
        for (found, &hash) in self.found.iter_mut().zip(&self.hashes[0]) {
            debug_assert!(usize::from(hash) < TABLE);
            // SAFETY: hashes are below the length of the table.
            *found = unsafe { *self.entries.get_unchecked(usize::from(hash)) };
        }
    }

    /// Enters all words at an offset; of those with one hash the last stays.
    #[inline(always)]
    fn remember(&mut self, offset: usize, made: &[Entry; GROUP]) {
        for (&made, &hash) in made.iter().zip(&self.hashes[offset]) {
            debug_assert!(usize::from(hash) < TABLE);
            // SAFETY: as above.
            unsafe { *self.entries.get_unchecked_mut(usize::from(hash)) = made };
        }
    }
}

/// Fills `work.found` of the page in `work.window`.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
pub(super) fn search<S: Search>(work: &mut Workspace, space: &mut SearchSpace) {
    // What no word was entered for leads to the page's first word.
    let first = Entry::from(words_at(&work.window, FRONT)[0]);
    space.by_upper.entries.fill(first);
    if S::WHOLE_WORDS {
        space.by_word.entries.fill(first);
    }
    for first in (0..BLOCKS).step_by(TOGETHER) {
        for block in 0..TOGETHER {
            prepare::<S>(work, space, first + block, block * LANES);
        }
        let SearchSpace { by_upper, by_word, made } = space;
        by_upper.look_up();
        if S::WHOLE_WORDS {
            by_word.look_up();
        }
        for offset in (0..S::OFFSETS).rev() {
            if offset == 0 || S::UPPER_AT_ALL_OFFSETS {
                by_upper.remember(offset, &made[offset]);
            }
            if S::WHOLE_WORDS {
                by_word.remember(offset, &made[offset]);
            }
        }
        // Between the writes and the reads of the next group, so that these do not run ahead of those.
        for block in 0..TOGETHER {
            compare::<S>(work, space, first + block, block * LANES);
        }
    }
}

/// The hashes of words, or of their upper bytes.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn hash(keys: __m512i) -> __m256i {
    _mm512_cvtepi32_epi16(_mm512_srli_epi32::<HASH_SHIFT>(_mm512_mullo_epi32(
        keys,
        _mm512_set1_epi32(HASH_FACTOR as i32),
    )))
}

/// Makes hashes and entries of a block's words, the `at`th of their group and those after it.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn prepare<S: Search>(work: &Workspace, space: &mut SearchSpace, block: usize, at: usize) {
    let lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    // Words and positions, lane by lane: of the first eight words, and of the others.
    let low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    for offset in 0..S::OFFSETS {
        let start = block * BLOCK + offset;
        let places = _mm512_add_epi32(_mm512_set1_epi32(start as i32), _mm512_slli_epi32::<2>(lane));
        // SAFETY: the window has room for a vector behind the page; `at` and sixteen more are a group at most.
        unsafe {
            let words = load(&work.window, FRONT + start);
            if S::WHOLE_WORDS {
                store_half(&mut space.by_word.hashes[offset], at, hash(words));
            }
            if offset == 0 || S::UPPER_AT_ALL_OFFSETS {
                store_half(&mut space.by_upper.hashes[offset], at, hash(_mm512_srli_epi32::<8>(words)));
            }
            let made = &mut space.made[offset];
            store(made, at, _mm512_permutex2var_epi32(words, low, places));
            store(made, at + 8, _mm512_permutex2var_epi32(words, high, places));
        }
    }
}

/// The words and the positions of sixteen entries.
///
/// # Safety
/// `at` and sixteen more are a group at most.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
unsafe fn split(entries: &[Entry; GROUP], at: usize) -> (__m512i, __m512i) {
    let even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    // SAFETY: the caller's duty.
    let (low, high) = unsafe { (load(entries, at), load(entries, at + 8)) };
    (_mm512_permutex2var_epi32(low, even, high), _mm512_permutex2var_epi32(low, odd, high))
}

/// Chooses a block's sources of what was found for its words, the `at`th of their group and those after it.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
fn compare<S: Search>(work: &mut Workspace, space: &SearchSpace, block: usize, at: usize) {
    let start = block * BLOCK;
    let lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let places = _mm512_add_epi32(_mm512_set1_epi32(start as i32), _mm512_slli_epi32::<2>(lane));
    // As signed numbers: none is at or below -4, so the first block has no sources.
    let last = _mm512_set1_epi32(start as i32 - 4);
    // SAFETY: blocks are in the window.
    let words = unsafe { load(&work.window, FRONT + start) };
    // SAFETY: `at` is a block of the group.
    let (mut theirs, mut sources) = unsafe { split(&space.by_upper.found, at) };
    if S::WHOLE_WORDS {
        // SAFETY: as above.
        let (others, by_word) = unsafe { split(&space.by_word.found, at) };
        let better = _mm512_cmpeq_epi32_mask(others, words) & _mm512_cmple_epi32_mask(by_word, last);
        sources = _mm512_mask_mov_epi32(sources, better, by_word);
        theirs = _mm512_mask_mov_epi32(theirs, better, others);
    }
    let earlier = _mm512_cmple_epi32_mask(sources, last);
    let differ = _mm512_xor_si512(words, theirs);
    let filled = _mm512_test_epi32_mask(words, words);
    let close = _mm512_mask_testn_epi32_mask(filled & earlier, differ, _mm512_set1_epi32(!0xff));
    let back = _mm512_sub_epi32(places, sources);
    let run = _mm512_cmpeq_epi32_mask(back, _mm512_alignr_epi32::<15>(back, back));
    work.found.exact[block] = _mm512_testn_epi32_mask(differ, differ);
    work.found.close[block] = close;
    work.found.filled[block] = filled;
    work.found.same[block] = run & close & close << 1;
    // SAFETY: sixteen lanes.
    unsafe { store(&mut work.found.back[block], 0, back) };
}
