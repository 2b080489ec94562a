//! The memory that a device writes: completion records and output pages.
//!
//! # Who owns what
//!
//! An [`OpMemory`] is two completion records, used in turn, and one output page; and where pages get codes of their own
//! that the device does not make, an AECS for them, which the device only reads. They lie in a mapping that only this module makes
//! and unmaps, and outside of this module they are raw addresses: nobody holds a reference to them while the
//! device may write. Every op of a channel has one; descriptors name no other memory to be written.
//!
//! - While an op is in flight its memory is the device's. The engine only loads the record's status, atomically.
//! - Once the status is not zero the device is done with the op and the memory is the engine's again: it reads the
//!   record and the output, and may submit again.
//! - An op whose completion does not come in time is [retired](OpMemories::retire): its memory stays mapped until
//!   the process ends, is given to no other op, and is never read. So the worst that a late write reaches is memory
//!   that nobody uses.
//! - A child of fork has none of it (MADV_DONTFORK): the parent's device writes to the parent's memory only, because no
//!   page is ever shared for copying on write. What the child drops it does not unmap, for the addresses may be
//!   something else's there.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use idxd_sys::CompletionRecord;
use idxd_sys::aecs::CompressAecs;

use crate::{ForkGuard, PAGE_SIZE};

/// Ops whose records fill a page.
const OPS_PER_PAGE: usize = PAGE_SIZE / (2 * size_of::<CompletionRecord>());

/// The place of an op's codes: as a device likes it, in cache lines of its own.
const CODES_SIZE: usize = 2048;

const _: () = assert!(size_of::<CompressAecs>() <= CODES_SIZE);

/// Ops that more memory is mapped for at once, when retired ones have to be replaced.
const REPLACEMENTS: usize = 8;

/// Two completion records and one output page, for the device to write.
#[derive(Debug)]
pub(crate) struct OpMemory {
    /// The record of the last submission.
    record: NonNull<CompletionRecord>,
    /// The record of the one before, and of the next: a device that writes a record once more, or in pieces, does not
    /// spoil the answer that follows it.
    other: NonNull<CompletionRecord>,
    output: NonNull<u8>,
    /// Codes of the page's own, if there are to be any.
    codes: Option<NonNull<CompressAecs>>,
    /// The index of its region.
    region: usize,
}

// SAFETY: it owns what it points to, as a box does; no thread but the owner's touches it.
unsafe impl Send for OpMemory {}

impl OpMemory {
    /// The address of the completion record.
    pub(crate) fn record_addr(&self) -> u64 {
        self.record.as_ptr() as u64
    }

    /// The address of the output page.
    pub(crate) fn output_addr(&self) -> u64 {
        self.output.as_ptr() as u64
    }

    /// The address of the codes of its own; 0 if it has no place for them.
    #[inline]
    pub(crate) fn codes_addr(&self) -> u64 {
        self.codes.map_or(0, |codes| codes.as_ptr() as u64)
    }

    /// Sets the codes of its own; false if it has no place for them. The op is not in flight.
    pub(crate) fn set_codes(&mut self, aecs: &CompressAecs) -> bool {
        let Some(codes) = self.codes else { return false };
        // SAFETY: the place is mapped, and ours: the op is not in flight. The device never writes it.
        unsafe { codes.write(*aecs) };
        true
    }

    /// The status byte, which the device may write at any time.
    #[inline]
    pub(crate) fn status(&self) -> &AtomicU8 {
        // SAFETY: the record is mapped as long as its region, which outlives this; its first byte is only ever
        // used as an atomic while the device may write it. Alignment of a byte is no question.
        unsafe { AtomicU8::from_ptr(self.record.as_ptr().cast()) }
    }

    /// Turns to the other record and clears it, so that the device's answer can be told from none; its address is
    /// what the next submission is to name.
    #[inline]
    pub(crate) fn renew(&mut self) -> u64 {
        std::mem::swap(&mut self.record, &mut self.other);
        // SAFETY: the record is mapped, and ours: the op is not in flight, or this would not be called.
        unsafe { self.record.write(CompletionRecord::default()) };
        self.record_addr()
    }

    /// The record of a completed op.
    ///
    /// # Safety
    /// The op has completed: its [status](OpMemory::status) was seen to be other than zero.
    #[inline]
    pub(crate) unsafe fn record(&self) -> CompletionRecord {
        debug_assert_ne!(self.status().load(Ordering::Relaxed), 0);
        // SAFETY: the device wrote it and is done: seen by an acquiring load of the status, which it stored last.
        unsafe { self.record.read() }
    }

    /// The output page.
    ///
    /// # Safety
    /// No device has the memory: the op has completed or was never submitted, and is not while the slice lives.
    #[inline]
    pub(crate) unsafe fn output(&self) -> &[u8] {
        // SAFETY: one mapped page; by the caller's word the device is done with it, and who else could write has no
        // reference.
        unsafe { std::slice::from_raw_parts(self.output.as_ptr(), PAGE_SIZE) }
    }
}

/// A mapping that holds the memory of some ops. Dropping it unmaps it, unless an op in it is retired or the process
/// is a child.
#[derive(Debug)]
struct Region {
    start: NonNull<u8>,
    len: usize,
    retired: bool,
    guard: Arc<ForkGuard>,
}

// SAFETY: it owns its mapping, as a box does.
unsafe impl Send for Region {}

impl Region {
    fn map(pages: usize, guard: &Arc<ForkGuard>) -> io::Result<Region> {
        let len = pages * PAGE_SIZE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast::<u8>()).expect("mmap does not map address 0");
        let region = Region { start, len, retired: false, guard: Arc::clone(guard) };
        // SAFETY: the range is the mapping just made, which nobody else knows.
        if unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTFORK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // The device would meet a page fault at each page that is not there yet. Writing each page once has the
        // effect of MADV_POPULATE_WRITE on every kernel.
        for page in (0..len).step_by(PAGE_SIZE) {
            // SAFETY: within the mapping, which is ours alone.
            unsafe { start.add(page).write_volatile(0) };
        }
        Ok(region)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if !self.retired && !self.guard.is_child() {
            // SAFETY: the mapping is ours, no op in it is in flight or retired, and whoever had its addresses
            // is gone: `OpMemories` is dropped with all it gave out.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

/// The memory of one channel's ops. Dropping it unmaps what no retired op lies in; the ops that it gave out must be
/// dropped or forgotten by then.
#[derive(Debug)]
pub(crate) struct OpMemories {
    regions: Vec<Region>,
    spare: Vec<OpMemory>,
    retired: usize,
    /// Whether ops have a place for codes.
    with_codes: bool,
    guard: Arc<ForkGuard>,
}

impl OpMemories {
    /// Memory for `ops` ops, with a place for codes or without.
    ///
    /// # Errors
    /// The kernel's, when it maps nothing more.
    pub(crate) fn new(ops: usize, with_codes: bool, guard: &Arc<ForkGuard>) -> io::Result<OpMemories> {
        let mut memories = OpMemories {
            regions: Vec::new(),
            spare: Vec::new(),
            retired: 0,
            with_codes,
            guard: Arc::clone(guard),
        };
        memories.grow(ops)?;
        Ok(memories)
    }

    fn grow(&mut self, ops: usize) -> io::Result<()> {
        let code_pages = if self.with_codes { ops.div_ceil(PAGE_SIZE / CODES_SIZE) } else { 0 };
        let region = Region::map(ops + ops.div_ceil(OPS_PER_PAGE) + code_pages, &self.guard)?;
        let records_end = (ops + ops.div_ceil(OPS_PER_PAGE)) * PAGE_SIZE;
        for op in 0..ops {
            // SAFETY: the region has `ops` pages, behind them room for twice as many records, and behind that for
            // the codes of as many ops if they have any.
            let (output, record, other, codes) = unsafe {
                let records = region.start.add(ops * PAGE_SIZE).cast::<CompletionRecord>();
                let codes = self.with_codes.then(|| region.start.add(records_end + op * CODES_SIZE).cast());
                (region.start.add(op * PAGE_SIZE), records.add(2 * op), records.add(2 * op + 1), codes)
            };
            self.spare.push(OpMemory { record, other, output, codes, region: self.regions.len() });
        }
        self.regions.push(region);
        Ok(())
    }

    /// Memory for one op.
    ///
    /// # Errors
    /// The kernel's, when it maps nothing more.
    pub(crate) fn take(&mut self) -> io::Result<OpMemory> {
        loop {
            if let Some(memory) = self.spare.pop() {
                return Ok(memory);
            }
            self.grow(REPLACEMENTS)?;
        }
    }

    /// Puts an op's memory out of use for good: the device may write it at any time from now on.
    pub(crate) fn retire(&mut self, memory: OpMemory) {
        self.regions[memory.region].retired = true;
        self.retired += 1;
    }

    /// How many ops were retired.
    pub(crate) fn retired(&self) -> usize {
        self.retired
    }
}

/// A record for no-ops to be answered in, again and again. Dropping it frees it, unless an answer is outstanding.
///
/// It differs from other op memory in that a no-op may be sent while an earlier one is unanswered: nothing but the
/// status is ever looked at, and whichever no-op it is the answer to, the queue answers.
#[derive(Debug)]
pub(crate) struct ProbeMemory {
    memories: OpMemories,
    memory: Option<OpMemory>,
    unanswered: AtomicU32,
}

// SAFETY: shared, it is only used as the atomic that the status is, and for its address.
unsafe impl Sync for ProbeMemory {}

impl ProbeMemory {
    /// One record.
    ///
    /// # Errors
    /// The kernel's, when it maps nothing more.
    pub(crate) fn new(guard: &Arc<ForkGuard>) -> io::Result<ProbeMemory> {
        let mut memories = OpMemories::new(1, false, guard)?;
        let memory = Some(memories.take()?);
        Ok(ProbeMemory { memories, memory, unanswered: AtomicU32::new(0) })
    }

    fn memory(&self) -> &OpMemory {
        self.memory.as_ref().expect("it is there until the drop")
    }

    /// The status, which the device may write at any time.
    pub(crate) fn status(&self) -> &AtomicU8 {
        self.memory().status()
    }

    /// A no-op is about to be submitted that is answered at the address returned.
    pub(crate) fn send(&self) -> u64 {
        self.status().store(0, Ordering::Relaxed);
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        self.memory().record_addr()
    }

    /// A no-op was not submitted after all, or has been answered.
    pub(crate) fn answered(&self) {
        self.unanswered.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the device may still write.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) != 0
    }
}

impl Drop for ProbeMemory {
    fn drop(&mut self) {
        if self.is_unanswered()
            && let Some(memory) = self.memory.take()
        {
            self.memories.retire(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(addr: u64) -> bool {
        let mut resident = 0u8;
        // SAFETY: mincore only answers whether the page is there, in one byte.
        unsafe { libc::mincore((addr & !0xfff) as *mut libc::c_void, 1, &mut resident) == 0 }
    }

    #[test]
    fn records_and_outputs_of_all_ops_are_aligned_and_apart() {
        let guard = Arc::new(ForkGuard::new().unwrap());
        let mut memories = OpMemories::new(128, true, &guard).unwrap();
        let ops: Vec<OpMemory> = (0..140).map(|_| memories.take().unwrap()).collect();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for op in &ops {
            assert_eq!(op.record_addr() % 64, 0);
            assert_eq!(op.output_addr() % 4096, 0);
            ranges.extend([(op.record.as_ptr() as u64, 64), (op.other.as_ptr() as u64, 64)]);
            ranges.extend([(op.output_addr(), 4096), (op.codes_addr(), 1568)]);
            assert_eq!(op.codes_addr() % 64, 0);
        }
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        // SAFETY: nothing is in flight, so the first and last bytes are ours to read.
        unsafe { assert_eq!((ops[0].output()[0], ops[139].output()[4095]), (0, 0)) };
    }

    #[test]
    fn retired_memory_stays_mapped_and_is_given_to_nobody_else() {
        let guard = Arc::new(ForkGuard::new().unwrap());
        let mut memories = OpMemories::new(2, false, &guard).unwrap();
        let (first, second) = (memories.take().unwrap(), memories.take().unwrap());
        let (retired, kept) = (first.output_addr(), second.output_addr());
        memories.retire(first);
        let later: Vec<u64> = (0..20).map(|_| memories.take().unwrap().output_addr()).collect();
        assert!(!later.contains(&kept) && !later.contains(&retired));
        assert_eq!(memories.retired(), 1);
        drop(memories);
        assert!(mapped(retired), "a late write would reach somebody else's memory, or nothing");
    }
}
