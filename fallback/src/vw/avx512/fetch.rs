//! Words from sixteen places of a page, in the two ways that CPUs like.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::format::{LANES, PAGE, WORDS};
use super::decode::FRONT;

/// The words at the offsets of some lanes, and zeroes for the others.
///
/// # Safety
/// The words of these lanes lie within `from`.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
pub(super) unsafe fn gather<const SCALE: i32>(
    from: &[u8; FRONT + PAGE],
    lanes: u16,
    offsets: __m512i,
) -> __m512i {
    // SAFETY: the caller's duty.
    unsafe {
        _mm512_mask_i32gather_epi32::<SCALE>(_mm512_setzero_si512(), lanes, offsets, from.as_ptr().cast())
    }
}

/// The words at sixteen offsets, which stand from element `at` on.
///
/// On Zen 5 loads one by one are faster than a gather, beside which little else runs; and a load that writes one lane of a vector is
/// faster than one that inserts a word, because insertions all want the units that also shuffle and expand. The
/// compiler knows only the latter, hence the assembly: lanes 0, 4, 8 and 12 first, each in all places of a vector of its own,
/// then those after them over these. Four offsets are read at once, since reading takes as long as the loads themselves.
///
/// # Safety
/// There are so many offsets, and each word lies within `from`.
#[inline]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx512bitalg,avx512vpopcntdq,bmi1,bmi2,popcnt,lzcnt"
)]
pub(super) unsafe fn fetch<const SCALE: usize>(
    from: &[u8; FRONT + PAGE],
    offsets: &[u16; WORDS],
    at: usize,
) -> __m512i {
    debug_assert!(at + LANES <= WORDS);
    let (w0, w1, w2, w3): (__m512i, __m512i, __m512i, __m512i);
    // SAFETY: reads the offsets, and 4 bytes at each of them, by the caller's duty within `from`; writes registers only.
    unsafe {
        asm!(
            "mov {o0}, qword ptr [{offsets}]",
            "mov {o1}, qword ptr [{offsets} + 8]",
            "mov {o2}, qword ptr [{offsets} + 16]",
            "mov {o3}, qword ptr [{offsets} + 24]",
            "movzx {at:e}, {o0:x}",
            "vpbroadcastd {w0}, dword ptr [{from} + {at} * {scale}]",
            "shr {o0}, 16",
            "movzx {at:e}, {o1:x}",
            "vpbroadcastd {w1}, dword ptr [{from} + {at} * {scale}]",
            "shr {o1}, 16",
            "movzx {at:e}, {o2:x}",
            "vpbroadcastd {w2}, dword ptr [{from} + {at} * {scale}]",
            "shr {o2}, 16",
            "movzx {at:e}, {o3:x}",
            "vpbroadcastd {w3}, dword ptr [{from} + {at} * {scale}]",
            "shr {o3}, 16",
            "movzx {at:e}, {o0:x}",
            "vpbroadcastd {w0}{{{m1}}}, dword ptr [{from} + {at} * {scale}]",
            "shr {o0}, 16",
            "movzx {at:e}, {o1:x}",
            "vpbroadcastd {w1}{{{m1}}}, dword ptr [{from} + {at} * {scale}]",
            "shr {o1}, 16",
            "movzx {at:e}, {o2:x}",
            "vpbroadcastd {w2}{{{m1}}}, dword ptr [{from} + {at} * {scale}]",
            "shr {o2}, 16",
            "movzx {at:e}, {o3:x}",
            "vpbroadcastd {w3}{{{m1}}}, dword ptr [{from} + {at} * {scale}]",
            "shr {o3}, 16",
            "movzx {at:e}, {o0:x}",
            "vpbroadcastd {w0}{{{m2}}}, dword ptr [{from} + {at} * {scale}]",
            "shr {o0}, 16",
            "movzx {at:e}, {o1:x}",
            "vpbroadcastd {w1}{{{m2}}}, dword ptr [{from} + {at} * {scale}]",
            "shr {o1}, 16",
            "movzx {at:e}, {o2:x}",
            "vpbroadcastd {w2}{{{m2}}}, dword ptr [{from} + {at} * {scale}]",
            "shr {o2}, 16",
            "movzx {at:e}, {o3:x}",
            "vpbroadcastd {w3}{{{m2}}}, dword ptr [{from} + {at} * {scale}]",
            "shr {o3}, 16",
            "vpbroadcastd {w0}{{{m3}}}, dword ptr [{from} + {o0} * {scale}]",
            "vpbroadcastd {w1}{{{m3}}}, dword ptr [{from} + {o1} * {scale}]",
            "vpbroadcastd {w2}{{{m3}}}, dword ptr [{from} + {o2} * {scale}]",
            "vpbroadcastd {w3}{{{m3}}}, dword ptr [{from} + {o3} * {scale}]",
            scale = const SCALE,
            offsets = in(reg) offsets.as_ptr().add(at),
            from = in(reg) from.as_ptr(),
            at = out(reg) _,
            o0 = out(reg) _,
            o1 = out(reg) _,
            o2 = out(reg) _,
            o3 = out(reg) _,
            m1 = in(kreg) 0x2222_u16,
            m2 = in(kreg) 0x4444_u16,
            m3 = in(kreg) 0x8888_u16,
            w0 = out(zmm_reg) w0,
            w1 = out(zmm_reg) w1,
            w2 = out(zmm_reg) w2,
            w3 = out(zmm_reg) w3,
            options(pure, readonly, nostack),
        );
    }
    // Of each vector the four lanes that are its own.
    let second = _mm512_set_epi64(0, 0, 0, 0, -1, -1, 0, 0);
    let fourth = _mm512_set_epi64(-1, -1, 0, 0, 0, 0, 0, 0);
    let high = _mm512_set_epi64(-1, -1, -1, -1, 0, 0, 0, 0);
    let lower = _mm512_ternarylogic_epi32::<0xca>(second, w1, w0);
    let upper = _mm512_ternarylogic_epi32::<0xca>(fourth, w3, w2);
    _mm512_ternarylogic_epi32::<0xca>(high, upper, lower)
}
