//! The page: 4096 bytes, and the question whether one word fills it.
//!
//! Inputs are `&PageBytes` at any alignment, so nobody copies to please us; [`Page`] is the aligned buffer for
//! those who need one of their own.

use std::ops::{Deref, DerefMut};

/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;

/// The bytes of a page, at any alignment.
pub type PageBytes = [u8; PAGE_SIZE];

/// An owned page, aligned to its own size.
#[derive(Clone)]
#[repr(C, align(4096))]
pub struct Page(PageBytes);

impl Page {
    /// A page of zeros.
    pub const fn zeroed() -> Page {
        Page([0; PAGE_SIZE])
    }

    /// `pages` pages of zeros, made on the heap (a page is too large to build on the stack many times).
    pub fn zeroed_vec(pages: usize) -> Vec<Page> {
        vec![Page::zeroed(); pages]
    }
}

impl Default for Page {
    fn default() -> Page {
        Page::zeroed()
    }
}

impl From<&PageBytes> for Page {
    fn from(bytes: &PageBytes) -> Page {
        Page(*bytes)
    }
}

impl Deref for Page {
    type Target = PageBytes;

    fn deref(&self) -> &PageBytes {
        &self.0
    }
}

impl DerefMut for Page {
    fn deref_mut(&mut self) -> &mut PageBytes {
        &mut self.0
    }
}

/// The native-endian 8-byte word that fills the whole page, if one does.
///
/// Most pages are refused by their first 16 bytes; a page that passes is compared with itself, 8 bytes on, at
/// memory speed.
#[inline]
pub fn repeated_word(page: &PageBytes) -> Option<u64> {
    const WORD: usize = size_of::<u64>();
    // Only the first cache line: the rest of the page may not be near yet.
    if page[..WORD] != page[WORD..2 * WORD] {
        return None;
    }
    let same = page[..PAGE_SIZE - WORD] == page[WORD..];
    same.then(|| u64::from_ne_bytes(page[..WORD].try_into().expect("a word is 8 bytes")))
}

/// CRC-32 (IEEE), which Intel IAA computes of every page on its way.
#[inline]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_aligned_to_its_size() {
        assert_eq!(align_of::<Page>(), PAGE_SIZE);
        assert_eq!(size_of::<Page>(), PAGE_SIZE);
    }

    #[test]
    fn one_changed_byte_anywhere_is_not_same_filled() {
        let mut page = [0u8; PAGE_SIZE];
        for (i, byte) in page.iter_mut().enumerate() {
            *byte = [1, 2, 3, 4, 5, 6, 7, 8][i % 8];
        }
        assert_eq!(repeated_word(&page), Some(u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8])));
        for i in 0..PAGE_SIZE {
            page[i] ^= 0x80;
            assert_eq!(repeated_word(&page), None, "byte {i} differs and would be lost");
            page[i] ^= 0x80;
        }
    }
}
