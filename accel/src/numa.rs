//! The kernel's memory policy calls, and nothing else: which node memory should come from, and which node it
//! came from in truth.
//!
//! None of these calls changes what memory holds, so they are safe for any address; the kernel checks ranges. On
//! a kernel without NUMA, or where a sandbox forbids them, they fail, and callers go on without.

#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

use crate::{NodeId, PAGE_SIZE};

/// The most pages [`nodes_of`] asks about at once.
pub const MAX_QUERY: usize = 64;

const MPOL_PREFERRED: libc::c_long = 1;
/// Words of a node mask: room for 1024 nodes, the kernel's own limit on x86-64.
const MASK_WORDS: usize = 16;

/// A mask of one node, and its length in bits as the kernel counts it (one more than it uses).
fn mask(nid: NodeId) -> ([u64; MASK_WORDS], usize) {
    let mut mask = [0u64; MASK_WORDS];
    let bit = usize::from(nid.0) % (MASK_WORDS * 64);
    mask[bit / 64] = 1 << (bit % 64);
    (mask, MASK_WORDS * 64 + 1)
}

/// Asks the kernel to take pages of this range from `nid` when they are first touched, and from elsewhere when
/// it has none. Never binds: a full node under a binding policy calls the out-of-memory killer.
///
/// # Errors
/// The kernel's: EPERM in sandboxes that filter mbind, ENOSYS without NUMA, EINVAL for a node that is not there.
pub fn prefer(address: NonNull<u8>, len: usize, nid: NodeId) -> io::Result<()> {
    let (mask, bits) = mask(nid);
    // SAFETY: reads the mask, and sets a policy on a range, which changes no byte of it.
    let result = unsafe {
        libc::syscall(libc::SYS_mbind, address.as_ptr(), len, MPOL_PREFERRED, mask.as_ptr(), bits, 0)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The node of each of `nodes.len()` pages from `address` on, or a negative errno for a page that is not there.
///
/// # Errors
/// The kernel's, when it does not answer at all.
///
/// # Panics
/// When asked about more than [`MAX_QUERY`] pages.
pub fn nodes_of(address: NonNull<u8>, nodes: &mut [i32]) -> io::Result<()> {
    let mut addresses = [std::ptr::null_mut::<u8>(); MAX_QUERY];
    let addresses = &mut addresses[..nodes.len()];
    for (page, slot) in addresses.iter_mut().enumerate() {
        *slot = address.as_ptr().wrapping_add(page * PAGE_SIZE);
    }
    // SAFETY: without a list of target nodes the call moves nothing; it reads `addresses` and fills `nodes`,
    // which are equally long.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            addresses.len(),
            addresses.as_ptr(),
            std::ptr::null::<i32>(),
            nodes.as_mut_ptr(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Runs `f` with the calling thread's memory taken from `nid` by preference. Where the kernel refuses, `f` runs
/// all the same: this serves the place of bookkeeping, which is better near but right anywhere.
pub fn with_preferred<T>(nid: NodeId, f: impl FnOnce() -> T) -> T {
    let mut old_mode: libc::c_int = 0;
    let mut old_mask = [0u64; MASK_WORDS];
    // SAFETY: fills the mode and the mask, whose length it is told.
    let got = unsafe {
        libc::syscall(
            libc::SYS_get_mempolicy,
            &raw mut old_mode,
            old_mask.as_mut_ptr(),
            MASK_WORDS * 64,
            std::ptr::null::<u8>(),
            0,
        )
    };
    if got != 0 {
        return f();
    }
    /// Puts the thread's policy back, also when `f` panics.
    struct Restore(libc::c_int, [u64; MASK_WORDS]);
    impl Drop for Restore {
        fn drop(&mut self) {
            let mask = if self.1 == [0; MASK_WORDS] { std::ptr::null() } else { self.1.as_ptr() };
            // SAFETY: reads the mask, if there is one, whose length it is told.
            unsafe { libc::syscall(libc::SYS_set_mempolicy, self.0, mask, MASK_WORDS * 64 + 1) };
        }
    }
    let (mask, bits) = mask(nid);
    // SAFETY: reads the mask, whose length it is told.
    if unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_PREFERRED, mask.as_ptr(), bits) } != 0 {
        return f();
    }
    let _restore = Restore(old_mode, old_mask);
    f()
}

/// The CPU that runs the caller, as far as anyone can know.
pub fn current_cpu() -> Option<usize> {
    // SAFETY: takes nothing and touches nothing.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Page;

    #[test]
    fn kernel_tells_the_node_of_a_touched_page() {
        let page = Box::new(Page::from(&[1; PAGE_SIZE]));
        let mut nodes = [-1];
        match nodes_of(NonNull::from(&*page).cast(), &mut nodes) {
            Ok(()) => assert!(nodes[0] >= 0, "a touched page is on a node, not {}", nodes[0]),
            Err(error) => eprintln!("skipped: move_pages is not to be had here: {error}"),
        }
    }

    #[test]
    fn policy_of_the_thread_is_put_back_after_a_panic() {
        let policy = || {
            let mut mode: libc::c_int = -1;
            // SAFETY: fills the mode only.
            let got = unsafe {
                libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, 0usize, 0usize, 0usize, 0usize)
            };
            (got, mode)
        };
        let before = policy();
        let caught = std::panic::catch_unwind(|| with_preferred(NodeId(0), || panic!("in the middle")));
        assert!(caught.is_err());
        assert_eq!(policy(), before);
    }
}
