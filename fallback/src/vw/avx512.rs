//! vw with AVX-512: the same streams and the same pages as the portable implementation, many times as fast.
//!
//! Unsafe code is of two kinds here. Vector loads, stores and gathers go
//! through a few functions that take an array of known size and an offset; tests check each offset, since they run
//! with debug assertions, and beside each call stands why the offset is within. And [`Avx512`] calls functions
//! compiled for the CPU's features, which its existence proves.

#![allow(unsafe_code)]

mod decode;
mod encode;
mod fetch;
mod planes;
mod search;

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_loadu_si128, _mm_storeu_si128, _mm256_loadu_si256, _mm256_storeu_si256,
    _mm512_loadu_si512, _mm512_storeu_si512,
};

use self::decode::DecodeSpace;
use self::encode::EncodeSpace;
use super::encode::Workspace;
use super::format::PAGE;
use super::search::Search;
use crate::cpu::is_sapphire_rapids_or_later;

/// The AVX-512 implementation and its memory; there is one only on a CPU that has all it needs.
///
/// Begins with a page, as the `Workspace` does: else stores of one program were up to 7 % slower in one run than in another.
#[repr(align(4096))]
pub(super) struct Avx512 {
    encode: EncodeSpace,
    decode: DecodeSpace,
    /// Is a gather faster here than loads one by one?
    gathers: bool,
}

impl Avx512 {
    /// Does the CPU, and the operating system, have what is needed? Asked once, then remembered.
    pub(super) fn is_there() -> bool {
        // The macro keeps what the CPU says in a static.
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("avx512bitalg")
            && is_x86_feature_detected!("avx512vpopcntdq")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("lzcnt")
    }

    pub(super) fn new() -> Option<Box<Avx512>> {
        // Loads are 8 to 20 % faster by gathers there. They are slower on AMD's, and on Intel's before, whose gathers leaked
        // data until microcode made them slow.
        Self::with_gathers(is_sapphire_rapids_or_later())
    }

    /// With gathers or without, whatever is faster.
    pub(super) fn with_gathers(gathers: bool) -> Option<Box<Avx512>> {
        Self::is_there()
            .then(|| Box::new(Avx512 { encode: EncodeSpace::EMPTY, decode: DecodeSpace::EMPTY, gathers }))
    }

    /// As the portable `encode`.
    #[inline]
    pub(super) fn encode<S: Search>(
        &mut self,
        work: &mut Workspace,
        page: &[u8; PAGE],
        dst: &mut [u8],
    ) -> usize {
        // SAFETY: there is an `Avx512`, so the CPU has the features.
        unsafe { encode::encode::<S>(work, &mut self.encode, page, dst) }
    }

    /// As the portable `decode`.
    #[inline]
    pub(super) fn decode(&mut self, src: &[u8], page: &mut [u8; PAGE]) -> Option<()> {
        // SAFETY: there is an `Avx512`, so the CPU has the features.
        unsafe {
            if self.gathers {
                decode::decode::<true>(&mut self.decode, src, page)
            } else {
                decode::decode::<false>(&mut self.decode, src, page)
            }
        }
    }
}

/// 64 bytes of `from`, from element `at` on.
///
/// # Safety
/// They lie within `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load<T: Copy, const N: usize>(from: &[T; N], at: usize) -> __m512i {
    debug_assert!(at * size_of::<T>() + 64 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm512_loadu_si512(from.as_ptr().add(at).cast()) }
}

/// 32 bytes of `from`, from element `at` on.
///
/// # Safety
/// They lie within `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_half<T: Copy, const N: usize>(from: &[T; N], at: usize) -> __m256i {
    debug_assert!(at * size_of::<T>() + 32 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm256_loadu_si256(from.as_ptr().add(at).cast()) }
}

/// 16 bytes of `from`, from element `at` on.
///
/// # Safety
/// They lie within `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_quarter<T: Copy, const N: usize>(from: &[T; N], at: usize) -> __m128i {
    debug_assert!(at * size_of::<T>() + 16 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm_loadu_si128(from.as_ptr().add(at).cast()) }
}

/// An integer of any width in `from`, from byte `at` on.
///
/// # Safety
/// It lies within `from`.
#[inline]
#[target_feature(enable = "avx512f")]
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
#[target_feature(enable = "avx512f")]
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

/// Writes 64 bytes to `to`, from element `at` on.
///
/// # Safety
/// They lie within `to`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store<T: Copy, const N: usize>(to: &mut [T; N], at: usize, value: __m512i) {
    debug_assert!(at * size_of::<T>() + 64 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().add(at).cast(), value) }
}

/// Writes 32 bytes to `to`, from element `at` on.
///
/// # Safety
/// They lie within `to`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_half<T: Copy, const N: usize>(to: &mut [T; N], at: usize, value: __m256i) {
    debug_assert!(at * size_of::<T>() + 32 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().add(at).cast(), value) }
}

/// Writes 16 bytes to `to`, from element `at` on.
///
/// # Safety
/// They lie within `to`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_quarter<T: Copy, const N: usize>(to: &mut [T; N], at: usize, value: __m128i) {
    debug_assert!(at * size_of::<T>() + 16 <= size_of::<[T; N]>());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().add(at).cast(), value) }
}

/// The low `count` bits, for `count` up to 64.
#[inline(always)]
fn low_bits(count: usize) -> u64 {
    if count >= 64 { u64::MAX } else { (1 << count) - 1 }
}
