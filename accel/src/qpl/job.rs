//! The memory of QPL's jobs: a job and the page that it writes to, in one mapping each.
//!
//! # Who owns what
//!
//! A job is QPL's memory from [`init_job`](qpl_sys::Library::init_job) on: it holds pointers into itself, and while it
//! is in flight the device writes completion records, state and the output page. Nobody holds a reference to any of it;
//! this module hands out raw pointers and, of an output that is complete, a slice.
//!
//! A job that does not complete in time is retired: its mapping is left alone for good, because the device may
//! write to it at any time. A child of fork has none of it (MADV_DONTFORK).

use std::ptr::NonNull;
use std::sync::Arc;
use std::{fmt, io};

use qpl_sys::{Library, qpl_job, qpl_path_t, status};

use super::verdict::error_of;
use crate::{EngineError, ForkGuard, PAGE_SIZE};

/// A job and its output page. Dropping it ends the job and unmaps both, except in a child of fork.
#[derive(Debug)]
pub(super) struct Job {
    library: Arc<Library>,
    path: qpl_path_t,
    /// The job; the output page lies `output_at` bytes behind its start.
    start: NonNull<u8>,
    output_at: usize,
    /// Whether QPL has made a job of it.
    made: bool,
    guard: Arc<ForkGuard>,
}

// SAFETY: it owns its mapping, as a box does; no thread but the owner's touches it.
unsafe impl Send for Job {}

impl Job {
    /// A job of this path.
    ///
    /// # Errors
    /// The kernel's, when there is no memory; QPL's status, when it makes no job.
    pub(super) fn new(
        library: &Arc<Library>,
        path: qpl_path_t,
        guard: &Arc<ForkGuard>,
    ) -> Result<Job, JobError> {
        let output_at = library.job_size(path).map_err(JobError::Qpl)?.next_multiple_of(PAGE_SIZE);
        let len = output_at + PAGE_SIZE;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours. Populated,
        // because the device would meet a page fault at each page that is not there.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(JobError::NoMemory(io::Error::last_os_error()));
        }
        let start = NonNull::new(start.cast::<u8>()).expect("mmap does not map address 0");
        let (library, guard) = (Arc::clone(library), Arc::clone(guard));
        let mut job = Job { library, path, start, output_at, made: false, guard };
        // SAFETY: the range is the mapping just made, which nobody else knows.
        if unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_DONTFORK) } != 0 {
            return Err(JobError::NoMemory(io::Error::last_os_error()));
        }
        match job.init() {
            status::OK => Ok(job),
            bad => Err(JobError::Qpl(bad)),
        }
    }

    /// Makes the job anew; it is not in flight. QPL remembers in a job that it has answered a page fault, and answers
    /// no second one.
    fn init(&mut self) -> u32 {
        // SAFETY: the mapping is large enough, aligned to a page, zero or an earlier job that has ended, and is never
        // moved.
        let status = unsafe { self.library.init_job(self.path, self.raw()) };
        self.made = status == status::OK;
        status
    }

    fn raw(&self) -> *mut qpl_job {
        self.start.as_ptr().cast()
    }

    fn output_ptr(&self) -> *mut u8 {
        // SAFETY: within the mapping.
        unsafe { self.start.as_ptr().add(self.output_at) }
    }

    /// Submits the job; its status.
    ///
    /// # Safety
    /// `input` is `input_len` readable bytes until the job has ended or is [retired](Job::retire); after that they may
    /// change or go, for nobody looks at the result. The job is not in flight.
    pub(super) unsafe fn submit(&mut self, work: &Work, input: *const u8, input_len: u32) -> u32 {
        let raw = self.raw();
        // SAFETY: the job is initialised and not in flight, so its fields are ours to set.
        unsafe {
            (*raw).op = work.op;
            (*raw).flags = work.flags;
            (*raw).level = qpl_sys::LEVEL_DEFAULT;
            (*raw).next_in_ptr = input.cast_mut();
            (*raw).available_in = input_len;
            (*raw).next_out_ptr = self.output_ptr();
            (*raw).available_out = work.max_output;
            (*raw).total_in = 0;
            (*raw).total_out = 0;
            (*raw).crc = 0;
            (*raw).numa_id = work.numa_id;
        }
        // SAFETY: the input is the caller's word, the output the page behind the job, which nobody refers to.
        unsafe { self.library.submit_job(raw) }
    }

    /// The status of a job that was submitted.
    pub(super) fn check(&mut self) -> u32 {
        // SAFETY: QPL looks at the job's completion record, and may write to the job, which is its own.
        unsafe { self.library.check_job(self.raw()) }
    }

    /// What a job that ended well made: length and CRC-32.
    pub(super) fn made(&self) -> (u32, u32) {
        let raw = self.raw();
        // SAFETY: the job has ended, so nobody writes to it.
        unsafe { ((*raw).total_out, (*raw).crc) }
    }

    /// The first bytes of the output of a job that ended well.
    pub(super) fn output(&self, len: u32) -> &[u8] {
        // SAFETY: within the page, whose writer has ended; it is submitted again only by who has the job to itself.
        unsafe { std::slice::from_raw_parts(self.output_ptr(), (len as usize).min(PAGE_SIZE)) }
    }

    /// Has all pages of a job that ended with a page fault there, and makes it anew.
    ///
    /// # Errors
    /// When QPL does not make it.
    pub(super) fn touch_and_renew(&mut self, input: &[u8]) -> Result<(), EngineError> {
        for at in (0..input.len()).step_by(PAGE_SIZE).chain(input.len().checked_sub(1)) {
            std::hint::black_box(input[at]);
        }
        for at in (0..self.output_at + PAGE_SIZE).step_by(PAGE_SIZE) {
            // SAFETY: within the mapping, and the job has ended, so the byte is ours.
            unsafe {
                let byte = self.start.as_ptr().add(at);
                byte.write_volatile(byte.read_volatile());
            }
        }
        match self.init() {
            status::OK => Ok(()),
            bad => Err(error_of(bad)),
        }
    }

    /// Leaves the job's memory to the device for good.
    pub(super) fn retire(self) {
        std::mem::forget(self);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.guard.is_child() {
            return;
        }
        // SAFETY: the job is not in flight: one that is, is waited for or retired. The mapping is ours.
        unsafe {
            if self.made {
                self.library.fini_job(self.raw());
            }
            libc::munmap(self.start.as_ptr().cast(), self.output_at + PAGE_SIZE);
        }
    }
}

/// Why there is no job.
#[derive(Debug)]
pub(crate) enum JobError {
    /// The kernel maps no memory for it.
    NoMemory(io::Error),
    /// QPL's status.
    Qpl(u32),
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobError::NoMemory(error) => write!(f, "no memory for a job of QPL: {error}"),
            JobError::Qpl(code) => status::Status(*code).fmt(f),
        }
    }
}

/// What a job is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) op: u32,
    pub(super) flags: u32,
    pub(super) max_output: u32,
    /// The node whose devices may do it.
    pub(super) numa_id: i32,
}
