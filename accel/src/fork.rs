//! Knowing that we are a child of fork.
//!
//! In a child only the thread that called fork goes on: a slot lock that another thread held stays locked for
//! ever, and memory marked MADV_DONTFORK is gone. Whoever holds such things asks the guard before touching
//! anything, its own drop included.

#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};

/// One page that the kernel wipes in a child of fork. Dropping it unmaps the page.
#[derive(Debug)]
pub struct ForkGuard {
    /// Holds 1 where it was made, 0 in a child.
    flag: NonNull<AtomicU8>,
}

/// The kernel's unit of mapping; one page is all the guard needs.
const GUARD_LEN: usize = 4096;

// SAFETY: the flag is an atomic, written once before the guard is shared.
unsafe impl Send for ForkGuard {}
// SAFETY: as above; readers only load.
unsafe impl Sync for ForkGuard {}

impl ForkGuard {
    /// A guard for the calling process.
    ///
    /// # Errors
    /// The kernel's, when it maps no page or knows no MADV_WIPEONFORK (Linux before 4.14).
    pub fn new() -> io::Result<ForkGuard> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                GUARD_LEN,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let guard = ForkGuard { flag: NonNull::new(address.cast()).expect("mmap does not map address 0") };
        // SAFETY: the range is the mapping just made, which nobody else knows.
        if unsafe { libc::madvise(address, GUARD_LEN, libc::MADV_WIPEONFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        guard.flag().store(1, Ordering::Relaxed);
        Ok(guard)
    }

    /// True in a child of the process that made the guard.
    #[inline]
    pub fn is_child(&self) -> bool {
        self.flag().load(Ordering::Relaxed) == 0
    }

    fn flag(&self) -> &AtomicU8 {
        // SAFETY: the mapping lives as long as the guard, is page aligned, and is only ever used as this atomic.
        unsafe { self.flag.as_ref() }
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone and nothing refers to it after this. A child has its own copy of it.
        unsafe { libc::munmap(self.flag.as_ptr().cast(), GUARD_LEN) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_of_fork_knows_that_it_is_one() {
        let guard = ForkGuard::new().unwrap();
        assert!(!guard.is_child());
        // SAFETY: the child only loads an atomic and leaves without running any destructor.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = if guard.is_child() { 0 } else { 1 };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status}");
        assert!(!guard.is_child(), "the parent stays the parent");
    }
}
