//! Copying a page from a channel's memory to its caller: what a load costs most.
//!
//! A `memcpy` of any length asks for the length, the overlap and the size of the caches before it begins. A page is
//! 4096 bytes, and moving them with 32-byte registers takes two thirds of the instructions.

use crate::PageBytes;

/// Copies a page.
#[inline]
pub(crate) fn copy_page(to: &mut PageBytes, from: &PageBytes) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the CPU has AVX.
        return unsafe { copy_by_avx(to, from) };
    }
    *to = *from;
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn copy_by_avx(to: &mut PageBytes, from: &PageBytes) {
    use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_storeu_si256};

    use crate::PAGE_SIZE;

    const WIDTH: usize = size_of::<__m256i>();
    let (to, from) = (to.as_mut_ptr().cast::<__m256i>(), from.as_ptr().cast::<__m256i>());
    // A loop of one load and one store would be made a call of memcpy again.
    for at in (0..PAGE_SIZE / WIDTH).step_by(16) {
        for at in [at, at + 8] {
            // SAFETY: `at + k` is below the number of words in a page, which divides by 16; no alignment is needed.
            let load = |k: usize| unsafe { _mm256_loadu_si256(from.add(at + k)) };
            let words = [load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7)];
            for (k, word) in words.into_iter().enumerate() {
                // SAFETY: as above, of the other page, which is borrowed for writing.
                unsafe { _mm256_storeu_si256(to.add(at + k), word) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PAGE_SIZE;

    #[test]
    fn every_byte_is_copied_to_its_place_at_any_alignment() {
        let source: Vec<u8> = (0..2 * PAGE_SIZE).map(|i| (i * 7 + i / 256) as u8).collect();
        let mut room = vec![0xee; PAGE_SIZE + 64];
        for offset in [0, 1, 31, 32, 63] {
            let from: &PageBytes = source[offset + 3..].first_chunk().unwrap();
            room.fill(0xee);
            copy_page(room[offset..].first_chunk_mut().unwrap(), from);
            assert!(room[offset..][..PAGE_SIZE] == *from, "offset {offset}");
            assert!(room[..offset].iter().chain(&room[offset + PAGE_SIZE..]).all(|&byte| byte == 0xee));
        }
    }
}
