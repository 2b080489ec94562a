//! Whether QPL's hardware path works here, found out in a child process.
//!
//! The library's first use of the hardware opens the devices and waits for a no-op without a time-out; a device that
//! does not answer would hang the caller for good. So a child of fork goes first and is killed if it does not come
//! back. It compresses one page and decompresses it, and its exit code is the answer.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use qpl_sys::{Library, flag, status};

use super::job::{Job, JobError, Work};
use super::verdict::{MAX_COMPRESSED, Verdict, of};
use crate::{ForkGuard, PAGE_SIZE, crc32};

/// Exit codes of the child. Of what failed, a pipe tells QPL's status, or 0 for a page that came back different.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const LATE: i32 = 2;

/// How long a killed child may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the parent looks.
const LOOK: Duration = Duration::from_millis(1);

/// Why the hardware path is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum ProbeError {
    /// QPL's status.
    Status(u32),
    /// A page came back different.
    Wrong,
    /// No answer in this time: the library waits for a device that does not answer.
    Hung(Duration),
    /// It crashed, by this signal.
    Crashed(i32),
    /// There can be no child, for this error number.
    NoChild(i32),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::Status(code) => status::Status(*code).fmt(f),
            ProbeError::Wrong => f.write_str("a page that QPL compressed came back different"),
            ProbeError::Hung(timeout) => write!(
                f,
                "QPL did not come back in {timeout:?}: it waits for a device that does not answer; zfolio doctor looks at \
                 each queue"
            ),
            ProbeError::Crashed(signal) => write!(f, "QPL crashed by signal {signal}"),
            ProbeError::NoChild(number) => {
                write!(f, "QPL cannot be tried in a child process: {}", io::Error::from_raw_os_error(*number))
            }
        }
    }
}

/// Whether the hardware path was found to work. QPL keeps its devices for the whole process from its first use on, so it is one
/// for the process here too: a child that is forked later would meet its parent's devices, which it may not use.
static WORKS: Mutex<bool> = Mutex::new(false);

/// Tries the hardware path in a child process, for at most `timeout`, unless this process uses it already.
pub(crate) fn probe(library: &Arc<Library>, timeout: Duration) -> Result<(), ProbeError> {
    let mut works = WORKS.lock().unwrap_or_else(PoisonError::into_inner);
    if !*works {
        in_child(library, timeout)?;
        *works = true;
    }
    Ok(())
}

fn in_child(library: &Arc<Library>, timeout: Duration) -> Result<(), ProbeError> {
    let mut pipe = [0; 2];
    // SAFETY: `pipe` receives two file descriptors.
    if unsafe { libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return Err(ProbeError::NoChild(errno()));
    }
    let [reader, writer] = pipe;
    // SAFETY: the child calls QPL, whose locks no other thread can hold, because nothing of this crate uses it before
    // `WORKS` is set; the allocator and the dynamic loader, which the C library makes usable in a child; and _exit.
    let child = unsafe { libc::fork() };
    let result = match child {
        -1 => Err(ProbeError::NoChild(errno())),
        0 => {
            let answer = round_trip(library, timeout);
            let (code, told) = match answer {
                Ok(()) => (DONE, 0),
                Err(ProbeError::Status(status)) => (FAILED, status),
                Err(ProbeError::Hung(_)) => (LATE, 0),
                Err(_) => (FAILED, 0),
            };
            let told = told.to_ne_bytes();
            // SAFETY: four bytes of `told`, then the end of this process without any of its parent's exit handlers.
            unsafe {
                libc::write(writer, told.as_ptr().cast(), told.len());
                libc::_exit(code)
            }
        }
        child => wait_for(child, timeout).and_then(|code| {
            let mut told = [0; 4];
            // SAFETY: `told` takes the four bytes; a pipe in which there are none gives an error.
            let read = unsafe { libc::read(reader, told.as_mut_ptr().cast(), told.len()) };
            match (code, u32::from_ne_bytes(told)) {
                (DONE, _) => Ok(()),
                (LATE, _) => Err(ProbeError::Hung(timeout)),
                (_, status @ 1..) if read == 4 => Err(ProbeError::Status(status)),
                _ => Err(ProbeError::Wrong),
            }
        }),
    };
    // SAFETY: both are ours and used no more.
    unsafe {
        libc::close(reader);
        libc::close(writer);
    }
    result
}

/// The exit code of `child`, which is killed when it takes longer than `timeout`.
fn wait_for(child: libc::pid_t, timeout: Duration) -> Result<i32, ProbeError> {
    let mut deadline = Instant::now() + timeout;
    let mut killed = false;
    loop {
        let mut status = 0;
        // SAFETY: `status` receives how the child ended, if it has.
        match unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } {
            0 if Instant::now() < deadline => thread::sleep(LOOK),
            // Even a kill has to wait for a driver that hangs; then the child is left behind.
            0 if killed => return Err(ProbeError::Hung(timeout)),
            0 => {
                // SAFETY: the child has not been waited for, so the number is still its own.
                unsafe { libc::kill(child, libc::SIGKILL) };
                killed = true;
                deadline = Instant::now() + KILL_TIMEOUT;
            }
            -1 if errno() == libc::EINTR => {}
            // Somebody else in this process waits for every child.
            -1 => return Err(ProbeError::NoChild(errno())),
            _ if killed => return Err(ProbeError::Hung(timeout)),
            _ if libc::WIFEXITED(status) => return Ok(libc::WEXITSTATUS(status)),
            _ => return Err(ProbeError::Crashed(libc::WTERMSIG(status))),
        }
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Compresses a page and decompresses it, on whatever device there is.
fn round_trip(library: &Arc<Library>, timeout: Duration) -> Result<(), ProbeError> {
    let Ok(guard) = ForkGuard::new() else { return Err(ProbeError::NoChild(errno())) };
    let page: [u8; PAGE_SIZE] = std::array::from_fn(|at| (at / 7) as u8);
    let compress = Work {
        op: qpl_sys::OP_COMPRESS,
        flags: flag::FIRST | flag::LAST | flag::OMIT_VERIFY,
        max_output: MAX_COMPRESSED,
        numa_id: qpl_sys::NUMA_ANY,
    };
    let decompress = Work {
        op: qpl_sys::OP_DECOMPRESS,
        flags: flag::FIRST | flag::LAST,
        max_output: PAGE_SIZE as u32,
        ..compress
    };
    let (bytes, crc) = run(library, &guard.into(), &compress, &page, timeout)?;
    if crc != crc32(&page) {
        return Err(ProbeError::Wrong);
    }
    let Ok(guard) = ForkGuard::new() else { return Err(ProbeError::NoChild(errno())) };
    let (back, crc) = run(library, &guard.into(), &decompress, &bytes, timeout)?;
    if back == page && crc == crc32(&page) { Ok(()) } else { Err(ProbeError::Wrong) }
}

/// One job, from its making to its output and CRC-32.
fn run(
    library: &Arc<Library>,
    guard: &Arc<ForkGuard>,
    work: &Work,
    input: &[u8],
    timeout: Duration,
) -> Result<(Vec<u8>, u32), ProbeError> {
    let deadline = Instant::now() + timeout;
    let mut job = Job::new(library, qpl_sys::PATH_HARDWARE, guard).map_err(|error| match error {
        JobError::Qpl(status) => ProbeError::Status(status),
        JobError::NoMemory(error) => ProbeError::NoChild(error.raw_os_error().unwrap_or(0)),
    })?;
    // SAFETY: `input` outlives the job, which this function waits for; a late one ends with this process.
    let mut ended = unsafe { job.submit(work, input.as_ptr(), input.len() as u32) };
    if ended == status::OK {
        ended = job.check();
        while ended == status::BEING_PROCESSED {
            if Instant::now() >= deadline {
                job.retire();
                return Err(ProbeError::Hung(timeout));
            }
            ended = job.check();
        }
    }
    match of(work.op == qpl_sys::OP_COMPRESS, ended, job.made()) {
        Verdict::Made { len, crc } => Ok((job.output(len).to_vec(), crc)),
        _ => Err(ProbeError::Status(ended)),
    }
}
