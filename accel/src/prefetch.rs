//! Asks the CPU for bytes that are needed soon.

#![allow(unsafe_code)]

/// Bytes that the CPU fetches at once.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Has the CPU bring `bytes` near, all at once, while it does other things. A decoder that reads on from what it has read
/// waits for one line after the other.
#[inline(always)]
pub(crate) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE) {
        // SAFETY: a prefetch changes nothing and faults nowhere, and SSE is part of x86-64.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast());
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}
