//! The instructions of `instructions.rs` on a CPU that cannot have them: tokens that nobody can hold.

use crate::Descriptor;

/// Makes all earlier stores visible before any later one.
#[inline]
pub fn store_fence() {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

/// The right to use ENQCMD, which this architecture lacks.
#[derive(Clone, Copy, Debug)]
pub enum Enqcmd {}

impl Enqcmd {
    /// `None`.
    pub fn detect() -> Option<Enqcmd> {
        None
    }

    /// Cannot be called.
    ///
    /// # Safety
    /// Nothing is asked of a caller that cannot be.
    pub unsafe fn submit(self, _: *mut Descriptor, _: &Descriptor) -> bool {
        match self {}
    }
}

/// The right to use MOVDIR64B, which this architecture lacks.
#[derive(Clone, Copy, Debug)]
pub enum Movdir64b {}

impl Movdir64b {
    /// `None`.
    pub fn detect() -> Option<Movdir64b> {
        None
    }

    /// Cannot be called.
    ///
    /// # Safety
    /// Nothing is asked of a caller that cannot be.
    pub unsafe fn submit(self, _: *mut Descriptor, _: &Descriptor) {
        match self {}
    }
}

/// The right to use UMONITOR and UMWAIT, which this architecture lacks.
#[derive(Clone, Copy, Debug)]
pub enum Waitpkg {}

impl Waitpkg {
    /// `None`.
    pub fn detect() -> Option<Waitpkg> {
        None
    }

    /// Cannot be called.
    pub fn wait_while_zero(self, _: &std::sync::atomic::AtomicU8, _: u64) {
        match self {}
    }
}
