//! vw with AVX2: the same streams and the same pages as the portable implementation, several times as fast.
//!
//! What AVX-512 has and AVX2 lacks, expanding and compressing by a mask, are shuffles that tables give for each eight bits of the
//! mask. Unsafe code is of two kinds, as in `avx512`. Vector loads and stores go through a few functions that take an array of known size
//! and an offset; tests check each offset, since they run with debug assertions, and beside each call stands why the
//! offset is within. And [`Avx2`] calls functions compiled for the CPU's features, which its existence proves.

#![allow(unsafe_code)]

mod cpu;
mod decode;
mod encode;
mod planes;
mod planes_encode;
mod search;

use std::arch::x86_64::*;

use self::decode::DecodeSpace;
use self::encode::EncodeSpace;
use super::encode::Workspace;
use super::format::PAGE;
use super::search::Search;

/// The AVX2 implementation and its memory; there is one only on a CPU that has all it needs, and
/// none of it slow.
///
/// Begins with a page, as the one with AVX-512 does.
#[repr(align(4096))]
pub(super) struct Avx2 {
    encode: EncodeSpace,
    decode: DecodeSpace,
}

impl Avx2 {
    /// Does the CPU, and the operating system, have what is needed? Asked once, then remembered.
    pub(super) fn is_there() -> bool {
        // The macro keeps what the CPU says in a static.
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("lzcnt")
            && !cpu::has_slow_pext()
    }

    pub(super) fn new() -> Option<Box<Avx2>> {
        Self::is_there().then(|| Box::new(Avx2 { encode: EncodeSpace::EMPTY, decode: DecodeSpace::EMPTY }))
    }

    /// As the portable `encode`.
    #[inline]
    pub(super) fn encode<S: Search>(
        &mut self,
        work: &mut Workspace,
        page: &[u8; PAGE],
        dst: &mut [u8],
    ) -> usize {
        // SAFETY: there is an `Avx2`, so the CPU has the features.
        unsafe { encode::encode::<S>(work, &mut self.encode, page, dst) }
    }

    /// As the portable `decode`.
    #[inline]
    pub(super) fn decode(&mut self, src: &[u8], page: &mut [u8; PAGE]) -> Option<()> {
        // SAFETY: there is an `Avx2`, so the CPU has the features.
        unsafe { decode::decode(&mut self.decode, src, page) }
    }
}

/// 32 bytes of `from`, from element `at` on.
///
/// # Safety
/// They lie within `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load<T: Copy, const N: usize>(from: &[T; N], at: usize) -> __m256i {
    debug_assert!(at * size_of::<T>() + 32 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm256_loadu_si256(from.as_ptr().add(at).cast()) }
}

/// 16 bytes of `from`, from element `at` on.
///
/// # Safety
/// They lie within `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_half<T: Copy, const N: usize>(from: &[T; N], at: usize) -> __m128i {
    debug_assert!(at * size_of::<T>() + 16 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm_loadu_si128(from.as_ptr().add(at).cast()) }
}

/// 8 bytes of `from`, from element `at` on.
///
/// # Safety
/// They lie within `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_quarter<T: Copy, const N: usize>(from: &[T; N], at: usize) -> __m128i {
    debug_assert!(at * size_of::<T>() + 8 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm_loadl_epi64(from.as_ptr().add(at).cast()) }
}

/// 8 bytes of `low` from `low_at` on, then 8 of `high` from `high_at` on.
///
/// # Safety
/// They lie within.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_halves<const L: usize, const H: usize>(
    (low, low_at): (&[u8; L], usize),
    (high, high_at): (&[u8; H], usize),
) -> __m128i {
    debug_assert!(high_at + 8 <= H);
    // SAFETY: the caller's duty; any alignment will do, though not for `_mm_loadh_pd`, which takes its number from a variable.
    unsafe {
        let low = _mm_castsi128_pd(load_quarter(low, low_at));
        let high = high.as_ptr().add(high_at).cast::<f64>().read_unaligned();
        _mm_castpd_si128(_mm_loadh_pd(low, &high))
    }
}

/// An integer of any width in `from`, from byte `at` on.
///
/// # Safety
/// It lies within `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn peek<W: Integer, const N: usize>(from: &[u8; N], at: usize) -> W {
    debug_assert!(at + size_of::<W>() <= N);
    // SAFETY: the caller's duty; an integer may be any bytes.
    unsafe { from.as_ptr().add(at).cast::<W>().read_unaligned() }
}

/// Writes an integer of any width into `to`, from byte `at` on.
///
/// # Safety
/// It lies within `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn poke<W: Integer, const N: usize>(to: &mut [u8; N], at: usize, value: W) {
    debug_assert!(at + size_of::<W>() <= N);
    // SAFETY: the caller's duty.
    unsafe { to.as_mut_ptr().add(at).cast::<W>().write_unaligned(value) }
}

/// What [`peek`] and [`poke`] move.
trait Integer: Copy {}
impl Integer for u16 {}
impl Integer for u32 {}
impl Integer for u64 {}

/// Writes 32 bytes to `to`, from element `at` on.
///
/// # Safety
/// They lie within `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store<T: Copy, const N: usize>(to: &mut [T; N], at: usize, value: __m256i) {
    debug_assert!(at * size_of::<T>() + 32 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().add(at).cast(), value) }
}

/// Writes 16 bytes to `to`, from element `at` on.
///
/// # Safety
/// They lie within `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_half<T: Copy, const N: usize>(to: &mut [T; N], at: usize, value: __m128i) {
    debug_assert!(at * size_of::<T>() + 16 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().add(at).cast(), value) }
}

/// Writes the lower 8 bytes of `value` to `to`, from element `at` on.
///
/// # Safety
/// They lie within `to`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_quarter<T: Copy, const N: usize>(to: &mut [T; N], at: usize, value: __m128i) {
    debug_assert!(at * size_of::<T>() + 8 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm_storel_epi64(to.as_mut_ptr().add(at).cast(), value) }
}

/// The low `count` bits, for `count` up to 64.
#[inline(always)]
fn low_bits(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}

/// For each mask of eight lanes: to a lane that is set, how many are set before it; to one that is not, how many are not, and
/// 8.
///
/// So they are what `vpshufb` takes to merge eight values with eight others, or with zeroes.
#[repr(align(64))]
struct Ranks([[u8; LANES]; 256]);

/// Lanes of a vector of words.
const LANES: usize = 8;

static RANKS: Ranks = {
    let mut ranks = [[0; LANES]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut next) = (0, [8, 0]);
        while lane < LANES {
            let set = mask >> lane & 1;
            ranks[mask][lane] = next[set];
            next[set] += 1;
            lane += 1;
        }
        mask += 1;
    }
    Ranks(ranks)
};

/// The [`RANKS`] by a mask.
#[inline]
#[target_feature(enable = "avx2")]
fn ranks(mask: u8) -> __m128i {
    // SAFETY: eight of eight bytes.
    unsafe { load_quarter(&RANKS.0[usize::from(mask)], 0) }
}

/// For each mask of eight lanes, those that are set, in their order; what is behind them does not count.
///
/// The encoder's compressions, as `vpshufb` takes them, or widened `vpermd`.
#[repr(align(64))]
struct Compression([[u8; LANES]; 256]);

static COMPRESSION: Compression = {
    let mut compression = [[0; LANES]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut rank) = (0, 0);
        while lane < LANES {
            if mask >> lane & 1 != 0 {
                compression[mask][rank] = lane as u8;
                rank += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    Compression(compression)
};

/// The [`COMPRESSION`] by a mask.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn compression(mask: u8) -> __m128i {
    // SAFETY: eight of eight bytes.
    unsafe { load_quarter(&COMPRESSION.0[usize::from(mask)], 0) }
}
