//! Runs a command as if it had been started instead of us: signals are passed on, and so is how it ended.
//!
//! The signals are blocked and waited for, so no handler runs. A signal that the terminal sends goes to the command too,
//! for it is in the same process group: that one is not passed on.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use libc::{
    SIG_BLOCK, SIG_SETMASK, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, sigset_t,
};

const PASSED_ON: [libc::c_int; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];
/// Added to the number of the signal that ended a command, as shells do.
const BY_SIGNAL: i32 = 128;

/// Runs `command` to its end: its exit code, 128 and more if a signal ended it.
pub(super) fn run(mut command: Command) -> io::Result<u8> {
    let waited_for = signals(PASSED_ON.into_iter().chain([SIGCHLD]));
    let before = mask(SIG_BLOCK, &waited_for)?;
    let unblock = move || mask(SIG_SETMASK, &before).map(|_| ());
    // SAFETY: runs between fork and exec: one system call, and an error without allocation.
    unsafe { command.pre_exec(unblock) };
    let ended = command.spawn().and_then(|mut child| {
        loop {
            let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
            // SAFETY: the set is filled in, and `info` is writable.
            let signal = unsafe { libc::sigwaitinfo(&waited_for, info.as_mut_ptr()) };
            if signal == SIGCHLD {
                if let Some(status) = child.try_wait()? {
                    break Ok(status);
                }
            } else if signal > 0 {
                // SAFETY: sigwaitinfo has filled it in; all zero is valid too.
                let from_kernel = unsafe { info.assume_init() }.si_code > 0;
                if !from_kernel {
                    // SAFETY: a child of ours that has not been waited for, so the number is still its own.
                    unsafe { libc::kill(child.id().cast_signed(), signal) };
                }
            }
        }
    });
    mask(SIG_SETMASK, &before)?;
    ended.map(code)
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| BY_SIGNAL + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

fn signals(members: impl Iterator<Item = libc::c_int>) -> sigset_t {
    let mut set = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: sigemptyset fills it in; the numbers are those of signals.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        members.for_each(|signal| _ = libc::sigaddset(set.as_mut_ptr(), signal));
        set.assume_init()
    }
}

/// Changes the calling thread's signal mask; what it was.
fn mask(how: libc::c_int, set: &sigset_t) -> io::Result<sigset_t> {
    let mut before = MaybeUninit::<sigset_t>::uninit();
    // SAFETY: `set` is filled in, `before` writable, and filled in on success.
    match unsafe { libc::pthread_sigmask(how, set, before.as_mut_ptr()) } {
        // SAFETY: filled in, for the call succeeded.
        0 => Ok(unsafe { before.assume_init() }),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
