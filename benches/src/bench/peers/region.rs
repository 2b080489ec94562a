//! Anonymous memory of this process that the kernel is asked to swap out, page by page of 4 KiB.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use zfolio_accel::{PAGE_SIZE, PageBytes};

/// Pages of anonymous memory. Dropping it unmaps them.
pub(super) struct Region {
    base: NonNull<u8>,
    pages: usize,
}

impl Region {
    pub(super) fn new(pages: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice changes no memory of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                pages * PAGE_SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("memory at address zero"))?;
        let region = Self { base, pages };
        // Huge pages would be swapped out as such, or split first.
        region.advise(0..pages, libc::MADV_NOHUGEPAGE)?;
        Ok(region)
    }

    fn at(&self, page: usize) -> *mut u8 {
        assert!(page < self.pages, "page {page} of {}", self.pages);
        // SAFETY: within the mapping, by the assertion.
        unsafe { self.base.as_ptr().add(page * PAGE_SIZE) }
    }

    pub(super) fn write(&mut self, page: usize, bytes: &PageBytes) {
        // SAFETY: a page of the mapping, which is ours alone.
        unsafe { self.at(page).copy_from_nonoverlapping(bytes.as_ptr(), PAGE_SIZE) }
    }

    pub(super) fn read(&self, page: usize, bytes: &mut PageBytes) {
        // SAFETY: a page of the mapping, which nobody writes while it is borrowed.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(self.at(page), PAGE_SIZE) }
    }

    /// Writes the byte that is there: a page that is swapped out comes back, and is written to again when it goes.
    pub(super) fn touch(&mut self, page: usize) {
        // SAFETY: a byte of the mapping, which is ours alone.
        unsafe {
            let byte = self.at(page);
            byte.write_volatile(byte.read_volatile());
        }
    }

    /// Has the kernel swap these pages out now.
    pub(super) fn page_out(&mut self, pages: Range<usize>) -> io::Result<()> {
        self.advise(pages, libc::MADV_PAGEOUT)
    }

    fn advise(&self, pages: Range<usize>, advice: libc::c_int) -> io::Result<()> {
        assert!(pages.start < pages.end && pages.end <= self.pages, "{pages:?} of {}", self.pages);
        // SAFETY: a part of the mapping; these kinds of advice keep its content.
        match unsafe { libc::madvise(self.at(pages.start).cast(), pages.len() * PAGE_SIZE, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Which pages are in memory.
    pub(super) fn resident(&self) -> io::Result<Vec<bool>> {
        let mut states = vec![0u8; self.pages];
        let (base, len) = (self.base.as_ptr().cast(), self.pages * PAGE_SIZE);
        // SAFETY: the whole mapping; the kernel writes a byte for each page of it, for which there is room.
        match unsafe { libc::mincore(base, len, states.as_mut_ptr()) } {
            0 => Ok(states.iter().map(|state| state & 1 != 0).collect()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrowed from it outlives this.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.pages * PAGE_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_keep_their_bytes_and_are_resident_once_written() {
        let mut region = Region::new(8).expect("there is room for eight pages");
        assert!(region.resident().expect("mincore answers").iter().all(|resident| !resident));
        region.write(3, &[7; PAGE_SIZE]);
        region.touch(3);
        let mut page = [0; PAGE_SIZE];
        region.read(3, &mut page);
        assert_eq!(page, [7; PAGE_SIZE]);
        assert!(region.resident().expect("mincore answers")[3]);
    }
}
