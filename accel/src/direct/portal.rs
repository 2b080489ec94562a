//! Where descriptors are handed to a work queue.
//!
//! A channel has a portal of its own to each queue that it uses. The engine above knows nothing of how a
//! descriptor travels; it offers some, is told how many were taken, and looks at completion records. Time is the
//! portal's too, so that on a modelled device in stepped mode a time-out is as deterministic as everything else.
//!
//! Implemented by the mapped queue (ENQCMD for shared queues, MOVDIR64B for dedicated ones), by the queue that is
//! reached by `write(2)`, and by the model of the device.

use std::sync::atomic::AtomicU8;
use std::time::Duration;

use idxd_sys::Descriptor;

/// One channel's way to one work queue.
///
/// # Safety
/// An implementation has the device do what accepted descriptors say and nothing else: it writes to no memory but
/// their destinations and completion records. A descriptor that was not accepted leaves no trace. It may execute
/// an accepted descriptor at any time later, or never; what the descriptor then reads may have changed or gone, which
/// must do no harm but to the result.
pub unsafe trait Portal: Send {
    /// Offers descriptors in order. The first [`Submitted::accepted`] of them were taken; all earlier stores of
    /// the calling thread are visible to the device.
    ///
    /// # Safety
    /// For each descriptor, from now until its completion record's status is not zero:
    ///
    /// - Memory it reads is ours to read. Should it change or vanish after a time-out, nobody looks at the result.
    /// - Memory it writes (destination and completion record) stays mapped and is reached by no reference. Where
    ///   the completion never comes, that is for ever: the memory is retired instead of freed.
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted;

    /// Lets the device make progress while the caller has nothing to do but wait for `status`, the first byte of a
    /// completion record, to become other than zero. May return at any time; time goes on.
    fn pause(&mut self, status: &AtomicU8);

    /// The time since some moment that is the same for all portals of a table. It never stands still over many
    /// [pauses](Portal::pause): deadlines are all that ends a wait.
    fn now(&self) -> Duration;

    /// How many descriptors are best offered at once: 1 where each costs the same alone, more where a call costs
    /// more than a descriptor.
    fn batch(&self) -> usize;
}

/// What became of descriptors that were offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// How many were taken, from the first on.
    pub accepted: usize,
    /// Why the next one was not, if there is a next one.
    pub refusal: Option<Refusal>,
}

/// Why a queue did not take a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is full; later there may be room.
    Full,
    /// It is disabled, or its device is gone.
    Disabled,
    /// We may not use it: its rights changed, or the file is another process's.
    Denied,
    /// The system call failed with this number, which none of the others covers.
    Failed(i32),
}
