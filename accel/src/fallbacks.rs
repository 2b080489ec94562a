//! Pages done in software because the engine failed them, by cause.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::EngineError;

/// Counts of pages done in software because the engine failed them.
#[derive(Debug, Default)]
pub(crate) struct Fallbacks {
    busy: AtomicU64,
    page_fault: AtomicU64,
    timed_out: AtomicU64,
    bad_status: AtomicU64,
    decode: AtomicU64,
    crc_mismatch: AtomicU64,
    no_queue: AtomicU64,
    forked: AtomicU64,
    not_done: AtomicU64,
}

impl Fallbacks {
    pub(crate) fn count(&self, error: EngineError) {
        let counter = match error {
            EngineError::Busy => &self.busy,
            EngineError::PageFault => &self.page_fault,
            EngineError::TimedOut => &self.timed_out,
            EngineError::BadStatus(_) | EngineError::Library(_) => &self.bad_status,
            EngineError::Decode(_) | EngineError::Analytics(_) => &self.decode,
            EngineError::CrcMismatch => &self.crc_mismatch,
            EngineError::NoQueue => &self.no_queue,
            EngineError::Forked => &self.forked,
            EngineError::NotDone => &self.not_done,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> FallbackCounts {
        FallbackCounts {
            busy: self.busy.load(Ordering::Relaxed),
            page_fault: self.page_fault.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            bad_status: self.bad_status.load(Ordering::Relaxed),
            decode: self.decode.load(Ordering::Relaxed),
            crc_mismatch: self.crc_mismatch.load(Ordering::Relaxed),
            no_queue: self.no_queue.load(Ordering::Relaxed),
            forked: self.forked.load(Ordering::Relaxed),
            not_done: self.not_done.load(Ordering::Relaxed),
        }
    }
}

/// Pages done in software because the engine failed them, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FallbackCounts {
    /// The device took no more descriptors.
    pub busy: u64,
    /// The device met a page fault.
    pub page_fault: u64,
    /// No completion before the deadline.
    pub timed_out: u64,
    /// The device answered with a bad status.
    pub bad_status: u64,
    /// The compressed bytes did not decode.
    pub decode: u64,
    /// The page had another CRC-32 than it was stored with.
    pub crc_mismatch: u64,
    /// No queue worked.
    pub no_queue: u64,
    /// It was asked for in a child of fork.
    pub forked: u64,
    /// The engine left it.
    pub not_done: u64,
}
