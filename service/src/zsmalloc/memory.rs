//! What the kernel is asked for: address space, memory behind it, and to take memory back.

#![allow(unsafe_code)]

use std::io;
use std::ptr::{NonNull, null_mut};

use zfolio_accel::PAGE_SIZE;

/// Pages from which on a call that populates them costs less than a fault for each: 1.76 us a page against 1.26 for one
/// page, 1.31 for four, 1.2 for sixteen (Linux 6.18 in a VM).
const POPULATE_RUN: usize = 4;
/// Tries of a populate that the kernel asks to repeat.
const POPULATE_TRIES: usize = 16;
/// Ranges of one call of [`discard_all`] at most. A call interrupts each other CPU that runs the process, and it takes that many
/// to make interruptions rare; with more of them each call would take longer than others should wait for a free slot.
pub(super) const MAX_RANGES: usize = 128;
/// What `process_madvise` takes for the calling process since Linux 6.14.
const PIDFD_SELF: libc::c_int = -10_000;

/// Maps address space that children of fork do not get (copies on write would double the pool) and that huge pages
/// leave alone (they would populate 2 MiB for one object).
pub(super) fn map(len: usize) -> io::Result<NonNull<u8>> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
    let base = unsafe { libc::mmap(null_mut(), len, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the range is the mapping just made. A kernel without huge pages refuses, which is as good.
    unsafe { libc::madvise(base, len, libc::MADV_NOHUGEPAGE) };
    // SAFETY: as above.
    if unsafe { libc::madvise(base, len, libc::MADV_DONTFORK) } != 0 {
        let error = io::Error::last_os_error();
        // SAFETY: as above; nobody knows the mapping yet.
        unsafe { libc::munmap(base, len) };
        return Err(error);
    }
    Ok(NonNull::new(base.cast()).expect("mmap does not map address 0"))
}

/// Has the kernel put memory behind pages of a region that have none.
pub(super) fn touch(first: NonNull<u8>, pages: usize) -> io::Result<()> {
    if pages < POPULATE_RUN {
        write_to_each(first, pages);
        return Ok(());
    }
    for _ in 0..POPULATE_TRIES {
        // SAFETY: the range is part of a region of ours; populating changes no byte of it.
        let result =
            unsafe { libc::madvise(first.as_ptr().cast(), pages * PAGE_SIZE, libc::MADV_POPULATE_WRITE) };
        if result == 0 {
            return Ok(());
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR | libc::EAGAIN) => {}
            Some(libc::EINVAL) => {
                // Linux before 5.14 has no MADV_POPULATE_WRITE.
                write_to_each(first, pages);
                return Ok(());
            }
            _ => break,
        }
    }
    Err(io::Error::last_os_error())
}

/// What a populate does, by a fault for each page. (Out of memory is the same for both: the kernel gives a page or ends
/// somebody, it does not refuse one.)
fn write_to_each(first: NonNull<u8>, pages: usize) {
    for page in 0..pages {
        // SAFETY: the page is part of a region of ours, writable, and holds nothing yet.
        unsafe { first.add(page * PAGE_SIZE).write_volatile(0) };
    }
}

/// Gives the memory of these pages back; their bytes are lost.
pub(super) fn discard(first: NonNull<u8>, pages: usize) {
    // SAFETY: the callers' pages belong to slots without objects, or hold none yet. Failing is not known to happen
    // for a private anonymous mapping; it would leave the memory where it is.
    unsafe { libc::madvise(first.as_ptr().cast(), pages * PAGE_SIZE, libc::MADV_DONTNEED) };
}

/// The same for up to [`MAX_RANGES`] ranges in one call, which since Linux 6.16 interrupts other CPUs once. Older kernels are asked for
/// each range.
pub(super) fn discard_all(ranges: &[(NonNull<u8>, usize)]) {
    let mut vector = [libc::iovec { iov_base: null_mut(), iov_len: 0 }; MAX_RANGES];
    let vector = &mut vector[..ranges.len()];
    for (entry, &(first, pages)) in vector.iter_mut().zip(ranges) {
        *entry = libc::iovec { iov_base: first.as_ptr().cast(), iov_len: pages * PAGE_SIZE };
    }
    let mut done = 0;
    if vector.len() > 1 {
        // SAFETY: the kernel reads the vector, which is as long as it is told; of the ranges holds what `discard` says.
        let result = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                PIDFD_SELF,
                vector.as_ptr(),
                vector.len(),
                libc::MADV_DONTNEED,
                0,
            )
        };
        // It may end early. It fails on older kernels, and where a sandbox forbids it.
        done = usize::try_from(result).unwrap_or(0);
    }
    for (&(first, pages), entry) in ranges.iter().zip(vector) {
        if entry.iov_len <= done {
            done -= entry.iov_len;
        } else {
            done = 0;
            discard(first, pages);
        }
    }
}
