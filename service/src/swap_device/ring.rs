//! Writes by io_uring: all runs of a batch in flight at once. Called by [`FileDevice`](super::FileDevice) alone.
//!
//! A write that is late may still be under way when its batch is given up, which `pwritev` cannot be: it returns when the disk
//! does. Hence the rules:
//!
//! - The kernel reads from memory of the ring's own, into which pages are copied, and only while nothing of the ring is in flight.
//! - However a batch ends (done, late, or by a panic), a ring of which something is in flight goes to the late ones. A late ring is
//!   used for nothing; when its completions have come, it is as good as new. Should its device be dropped first, its memory is leaked.
//! - A late write could land on a newer page of its slot. So while there is a late ring, the device takes no writes of any kind.
//! - A child of fork shares the ring with its parent, and touches nothing of it.
//!
//! No thread of ours, and none of the kernel's that polls (no SQPOLL). What cannot be begun without blocking, the kernel gives to
//! workers that it starts and ends as it needs them.

#![allow(unsafe_code)]

mod batch;

use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{IoUring, Probe, opcode, types};
use zfolio_accel::{ForkGuard, PAGE_SIZE, Page};

use crate::swap_device::PageWrite;
use crate::swap_device::file::MAX_PAGES;
use batch::{Batch, Op};

/// How long a batch may take. Disks and their drivers give up after 30 seconds and try again once.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often completions are looked for where they cannot be waited for.
const PAUSE: Duration = Duration::from_millis(1);

/// The rings of a device: as many as threads ever wrote at a time.
pub(super) struct Rings {
    fork: ForkGuard,
    pool: Mutex<Pool>,
    /// Why there are no more rings.
    refused: OnceLock<String>,
    deadline: Duration,
}

#[derive(Default)]
struct Pool {
    /// Nothing of these is in flight.
    idle: Vec<Ring>,
    /// Something of these was, when last looked at.
    late: Vec<Ring>,
}

/// One ring. Dropping it leaks the memory that the kernel may still read from.
struct Ring {
    ring: IoUring,
    buffers: Vec<Page>,
    /// Writes that were pushed and whose completion was not seen.
    in_flight: usize,
    /// The kernel will be told of nothing more.
    broken: bool,
}

/// A ring that a thread uses. Dropping it gives the ring back, to the late ones if need be.
struct Taken<'r> {
    rings: &'r Rings,
    ring: Option<Ring>,
}

impl Rings {
    /// Rings, if this kernel has them and lets us.
    pub(super) fn new() -> io::Result<Rings> {
        Rings::with_deadline(DEADLINE)
    }

    fn with_deadline(deadline: Duration) -> io::Result<Rings> {
        let pool = Mutex::new(Pool { idle: vec![Ring::new()?], late: Vec::new() });
        Ok(Rings { fork: ForkGuard::new()?, pool, refused: OnceLock::new(), deadline })
    }

    /// Why there are no more rings, if so.
    pub(super) fn refused(&self) -> Option<&str> {
        if self.fork.is_child() {
            Some("it is the parent process's")
        } else {
            self.refused.get().map(String::as_str)
        }
    }

    /// An error while a write that was given up may still be under way.
    pub(super) fn check(&self) -> io::Result<()> {
        // Another thread may have held the lock when the child was made.
        if self.fork.is_child() { Ok(()) } else { self.pool().check() }
    }

    /// Writes all of `writes`, and finishes each that it could do something about. Those that are left are as if it had never
    /// been called.
    pub(super) fn write(&self, file: &File, writes: &mut [PageWrite<'_>]) {
        if self.fork.is_child() {
            return;
        }
        match self.take() {
            Ok(Some(mut taken)) => {
                if let Some(ring) = &mut taken.ring
                    && let Err(error) = ring.write(file, writes, self.deadline)
                {
                    let _ = self.refused.set(format!("io_uring_enter: {error}"));
                }
            }
            Ok(None) => {}
            Err(error) => {
                for write in writes {
                    write.finish(Err(io::Error::new(error.kind(), error.to_string())));
                }
            }
        }
    }

    /// A ring for a thread; none where there is none to be had. An error while another is late.
    fn take(&self) -> io::Result<Option<Taken<'_>>> {
        let mut pool = self.pool();
        pool.check()?;
        if self.refused().is_some() {
            return Ok(None);
        }
        let ring = pool.idle.pop();
        drop(pool);
        let ring = match ring.map_or_else(Ring::new, Ok) {
            Ok(ring) => Some(ring),
            Err(error) => {
                // Of other errors, such as too many open files, there may be an end.
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) {
                    let _ = self.refused.set(error.to_string());
                }
                None
            }
        };
        Ok(ring.map(|ring| Taken { rings: self, ring: Some(ring) }))
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Rings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rings").field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl Pool {
    fn check(&mut self) -> io::Result<()> {
        for mut ring in mem::take(&mut self.late) {
            ring.reap(|_, _| {});
            self.put(ring);
        }
        if self.late.is_empty() {
            return Ok(());
        }
        let text =
            "the swap device takes no writes, for some that it did not end in time may still be under way";
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    fn put(&mut self, ring: Ring) {
        match ring.in_flight {
            0 if ring.broken => {}
            0 => self.idle.push(ring),
            _ => self.late.push(ring),
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(mut ring) = self.ring.take() {
            ring.withdraw();
            self.rings.pool().put(ring);
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            mem::forget(mem::take(&mut self.buffers));
        }
    }
}

impl Ring {
    fn new() -> io::Result<Ring> {
        let fail = |error: io::Error| io::Error::new(error.kind(), format!("io_uring_setup: {error}"));
        let entries = u32::try_from(MAX_PAGES).expect("64");
        let ring = IoUring::new(entries).map_err(fail)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(fail)?;
        // Waiting with a deadline came last, with Linux 5.11.
        if !probe.is_supported(opcode::Write::CODE) || !ring.params().is_feature_ext_arg() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring of a kernel before 5.11"));
        }
        Ok(Ring { ring, buffers: Page::zeroed_vec(MAX_PAGES), in_flight: 0, broken: false })
    }

    /// Writes up to as many pages as the ring has. What it leaves unfinished is not under way; then the error says why.
    fn write(&mut self, file: &File, writes: &mut [PageWrite<'_>], time: Duration) -> io::Result<()> {
        let deadline = Instant::now() + time;
        let mut batch = Batch::new(writes);
        for (buffer, write) in self.buffers.iter_mut().zip(batch.writes.iter()) {
            buffer.copy_from_slice(write.page());
        }
        let mut pushed = Vec::with_capacity(batch.ops.len());
        let mut result = Ok(());
        loop {
            for index in mem::take(&mut batch.todo) {
                if !self.broken && self.push(file, index, &batch.ops[index], batch.place(index)) {
                    batch.ops[index].in_flight = true;
                    pushed.push(index);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if self.in_flight == 0 || left.is_zero() {
                break;
            }
            if let Err(error) = self.wait(left) {
                result = Err(error);
                self.withdraw_from(&mut pushed, &mut batch);
                self.broken = true;
            }
            self.reap(|index, result| batch.completed(index, result));
        }
        self.withdraw_from(&mut pushed, &mut batch);
        batch.give_up();
        result
    }

    /// Puts an op into the submission queue. False if that is full, which it is not: there are as many entries as pages.
    fn push(&mut self, file: &File, index: usize, op: &Op, place: u64) -> bool {
        let pages = &self.buffers[op.first..op.first + op.pages];
        let len = u32::try_from(op.pages * PAGE_SIZE - op.done).expect("at most 64 pages");
        let rest = pages.as_ptr().cast::<u8>().wrapping_add(op.done);
        let write = opcode::Write::new(types::Fd(file.as_raw_fd()), rest, len)
            .offset(place + op.done as u64)
            .build()
            .user_data(index as u64);
        // SAFETY: the kernel reads `len` bytes at `rest`, up to the end of `pages`, until the completion comes. They are memory of
        // `buffers`, which
        // - is not written to, for that is done by `write` alone, at its begin, and only a ring with nothing in flight gets there:
        //   `Taken` and `Pool::put` see to that however a call ends;
        // - is not freed, moved or shrunk while something is in flight: nothing does so but `Drop`, which leaks it then.
        // `in_flight` falls only for a completion that was seen, or for an entry that the kernel has not taken and, as the ring is
        // broken then, never will. The file may be closed meanwhile: the kernel holds it from when it takes the entry.
        let pushed = unsafe { self.ring.submission().push(&write) }.is_ok();
        self.in_flight += usize::from(pushed);
        pushed
    }

    /// Has the kernel take what was pushed, and waits until all is done, something comes between, or time is up.
    fn wait(&mut self, time: Duration) -> io::Result<()> {
        if self.broken {
            thread::sleep(PAUSE.min(time));
            return Ok(());
        }
        let time = types::Timespec::from(time);
        let args = types::SubmitArgs::new().timespec(&time);
        match self.ring.submitter().submit_with_args(self.in_flight, &args) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR) => Ok(()),
                Some(libc::EAGAIN | libc::EBUSY) => {
                    thread::sleep(PAUSE);
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Takes the completions that have come.
    fn reap(&mut self, mut completed: impl FnMut(usize, i32)) {
        for completion in self.ring.completion() {
            self.in_flight -= 1;
            completed(usize::try_from(completion.user_data()).unwrap_or(usize::MAX), completion.result());
        }
    }

    /// Takes back what was pushed and the kernel has not taken, and says how many that were. If any, the ring is broken, so that the
    /// kernel will not take them later.
    fn withdraw(&mut self) -> usize {
        let left = if self.broken { 0 } else { self.ring.submission().len() };
        self.in_flight -= left;
        self.broken |= left > 0;
        left
    }

    /// The same with the ops that were pushed, in this order, since the kernel takes them in order.
    fn withdraw_from(&mut self, pushed: &mut Vec<usize>, batch: &mut Batch<'_, '_>) {
        let left = self.withdraw();
        for index in pushed.drain(pushed.len() - left..) {
            batch.ops[index].in_flight = false;
        }
    }
}

#[cfg(test)]
mod tests;
