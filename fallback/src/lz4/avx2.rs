//! The greater part of a page's block, by vectors of 32 bytes.
//!
//! Sequences are decoded as long as what they touch surely lies within block and page; where that ends, or anything is not
//! as it should be, [`sequences`] stops at the beginning of a sequence, and safe code goes on. Why no block can lead it out
//! of its memory:
//!
//! 1. At the beginning of a sequence [`INPUT`] bytes of the block and [`OUTPUT`] bytes of the page are left.
//! 2. With less than 15 literals, 17 bytes of the block are read before the literals end, and 3 after them, of which the
//!    last is at most its 18th; the page is written up to 16 bytes on, and after at most 14 literals 32 bytes on.
//! 3. With more, the bytes of their number are read one by one up to the block's end. Then so many literals and 64 bytes
//!    must be left on both sides, or it stops. Two chunks are copied in any case; further ones begin within the literals,
//!    and end at most 31 bytes beyond. What follows needs 3 bytes and 32.
//! 4. So at a match 32 bytes of the page are left. Its source is tested to lie before it, and not before the page, so that
//!    32 bytes from there on end where those 32 bytes do, or sooner.
//! 5. A match beyond 32 bytes must leave 64 bytes of the page beyond it, or it stops. Its chunks begin within it, but for the
//!    third, which ends at its 96th byte, and that is less than 64 beyond it.
//!
//! A match that is nearer than a vector is long repeats its first bytes: they are laid out by a table for each offset, and
//! the same instructions serve every offset, since a branch by it would often be predicted wrongly. For the same reason chunks
//! are copied before it is asked whether they are needed, once a piece is long.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_storeu_si128, _mm256_broadcastsi128_si256, _mm256_load_si256,
    _mm256_loadu_si256, _mm256_or_si256, _mm256_shuffle_epi8, _mm256_storeu_si256,
};
use std::hint::select_unpredictable;

use super::{At, MIN_MATCH, PAGE};

const CHUNK: usize = 32;
const INPUT: usize = 18;
const OUTPUT: usize = 14 + CHUNK;

/// The instructions are there: one exists only on a CPU that has them.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn new() -> Option<Avx2> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2"))
        .then_some(Avx2(()))
    }

    /// Decodes `src` into `page` as far as vectors can; where they had to stop.
    #[inline]
    pub(super) fn sequences(self, src: &[u8], page: &mut [u8; PAGE]) -> At {
        // SAFETY: there is an `Avx2`, so the CPU has the features.
        unsafe { sequences(src, page) }
    }
}

/// For each offset up to 32, where in the 32 bytes from the source on the bytes of a match are: in their first half, and
/// in their second.
#[repr(align(64))]
struct Layouts([[[u8; CHUNK]; 2]; CHUNK + 1]);

static LAYOUTS: Layouts = {
    let mut layouts = [[[0x80; CHUNK]; 2]; CHUNK + 1];
    let mut offset = 1;
    while offset <= CHUNK {
        let mut byte = 0;
        while byte < CHUNK {
            let from = byte % offset;
            layouts[offset][from / 16][byte] = (from % 16) as u8;
            byte += 1;
        }
        offset += 1;
    }
    Layouts(layouts)
};

#[target_feature(enable = "avx2,bmi1,bmi2")]
fn sequences(src: &[u8], page: &mut [u8; PAGE]) -> At {
    let (mut ip, mut op) = (0, 0);
    while ip + INPUT <= src.len() && op + OUTPUT <= PAGE {
        let start = At { src: ip, page: op };
        // SAFETY: 1.
        let token = usize::from(unsafe { byte(src, ip) });
        let mut literals = token >> 4;
        ip += 1;
        if literals < 15 {
            // SAFETY: 2.
            unsafe { store_half(page, op, load_half(src, ip)) };
        } else {
            let Some(more) = count(src, &mut ip) else { return start };
            literals += more;
            if ip + literals + 2 * CHUNK > src.len() || op + literals + 2 * CHUNK > PAGE {
                return start;
            }
            // SAFETY: 3.
            unsafe {
                store(page, op, load(src, ip));
                store(page, op + CHUNK, load(src, ip + CHUNK));
            }
            for done in (2 * CHUNK..literals).step_by(CHUNK) {
                // In halves, which are not taken for a call of memcpy.
                // SAFETY: 3.
                unsafe {
                    store_half(page, op + done, load_half(src, ip + done));
                    store_half(page, op + done + 16, load_half(src, ip + done + 16));
                }
            }
        }
        (ip, op) = (ip + literals, op + literals);

        // SAFETY: 2 and 3.
        let (offset, more) = unsafe { (usize::from(half_word(src, ip)), byte(src, ip + 2)) };
        let nibble = token % 16;
        // Where the next sequence is depends on no branch, and by few instructions on this one's token.
        ip += 2 + (nibble + 1) / 16;
        let mut matched = MIN_MATCH + nibble + select_unpredictable(nibble == 15, usize::from(more), 0);
        if offset.wrapping_sub(1) >= op {
            return start;
        }
        let source = op - offset;
        let [first, second] = &LAYOUTS.0[select_unpredictable(offset < CHUNK, offset, CHUNK)];
        // SAFETY: 4.
        let repeated = unsafe {
            let (one, two) = (load_half(page, source), load_half(page, source + 16));
            let (one, two) = (_mm256_broadcastsi128_si256(one), _mm256_broadcastsi128_si256(two));
            let (first, second) = (layout(first), layout(second));
            _mm256_or_si256(_mm256_shuffle_epi8(one, first), _mm256_shuffle_epi8(two, second))
        };
        // SAFETY: 4.
        unsafe { store(page, op, repeated) };
        if matched > CHUNK {
            if matched == MIN_MATCH + 15 + 255 {
                let Some(more) = count(src, &mut ip) else { return start };
                matched += more;
            }
            if op + matched + 2 * CHUNK > PAGE {
                return start;
            }
            if offset < CHUNK {
                let mut done = 0;
                while done < matched {
                    // SAFETY: 5.
                    unsafe { store(page, op + done, repeated) };
                    done += CHUNK - CHUNK % offset;
                }
            } else {
                // SAFETY: 5.
                unsafe {
                    store(page, op + CHUNK, load(page, source + CHUNK));
                    store(page, op + 2 * CHUNK, load(page, source + 2 * CHUNK));
                }
                for done in (3 * CHUNK..matched).step_by(CHUNK) {
                    // SAFETY: 5.
                    unsafe { store(page, op + done, load(page, source + done)) };
                }
            }
        }
        op += matched;
    }
    At { src: ip, page: op }
}

/// The bytes of a number that goes on while they are full; `None` if the block ends within it.
#[inline(always)]
fn count(src: &[u8], ip: &mut usize) -> Option<usize> {
    let mut sum = 0;
    loop {
        let more = *src.get(*ip)?;
        *ip += 1;
        sum += usize::from(more);
        if more != 255 {
            return Some(sum);
        }
    }
}

/// # Safety
/// `at` lies within `from`.
#[inline(always)]
unsafe fn byte(from: &[u8], at: usize) -> u8 {
    debug_assert!(at < from.len());
    // SAFETY: the caller's duty.
    unsafe { *from.get_unchecked(at) }
}

/// # Safety
/// Two bytes from `at` on lie within `from`.
#[inline(always)]
unsafe fn half_word(from: &[u8], at: usize) -> u16 {
    debug_assert!(at + 2 <= from.len());
    // SAFETY: the caller's duty; any alignment will do.
    u16::from_le(unsafe { from.as_ptr().add(at).cast::<u16>().read_unaligned() })
}

/// # Safety
/// 16 bytes from `at` on lie within `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_half(from: &[u8], at: usize) -> __m128i {
    debug_assert!(at + 16 <= from.len());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm_loadu_si128(from.as_ptr().add(at).cast()) }
}

/// # Safety
/// 32 bytes from `at` on lie within `from`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(from: &[u8], at: usize) -> __m256i {
    debug_assert!(at + CHUNK <= from.len());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm256_loadu_si256(from.as_ptr().add(at).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn layout(layout: &'static [u8; CHUNK]) -> __m256i {
    // SAFETY: 32 bytes; those of the table are aligned.
    unsafe { _mm256_load_si256(layout.as_ptr().cast()) }
}

/// # Safety
/// 16 bytes from `at` on lie within the page.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store_half(page: &mut [u8; PAGE], at: usize, value: __m128i) {
    debug_assert!(at + 16 <= PAGE);
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm_storeu_si128(page.as_mut_ptr().add(at).cast(), value) }
}

/// # Safety
/// 32 bytes from `at` on lie within the page.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store(page: &mut [u8; PAGE], at: usize, value: __m256i) {
    debug_assert!(at + CHUNK <= PAGE);
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm256_storeu_si256(page.as_mut_ptr().add(at).cast(), value) }
}
