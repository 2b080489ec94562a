//! While this library does work of its own: its calls pass the hooks, and no signal handler runs on its thread, which
//! could wait for a lock that its own thread holds.

use std::cell::Cell;
use std::mem::MaybeUninit;

use crate::real::{errno, set_errno};

thread_local! {
    // Constant and without a destructor: no allocation, and usable until the thread is gone.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is at work for this library.
pub(crate) fn inside() -> bool {
    INSIDE.get()
}

/// Dropping it ends the work: signals and errno are as before.
pub(crate) struct Guard {
    signals: libc::sigset_t,
    errno: i32,
}

impl Guard {
    /// Begins work; `None` if the thread is at work already.
    pub(crate) fn enter() -> Option<Guard> {
        if INSIDE.replace(true) {
            return None;
        }
        let errno = errno();
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both are writable; sigfillset fills the first, pthread_sigmask the second.
        let signals = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        Some(Guard { signals, errno })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: the mask that the thread had before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.signals, std::ptr::null_mut()) };
        set_errno(self.errno);
        INSIDE.set(false);
    }
}

/// Does `work` behind a guard; a panic in it, or being inside already, is `otherwise`.
pub(crate) fn guarded<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    let Some(guard) = Guard::enter() else { return otherwise };
    // A panic must not go on into the program. What it left half done is one descriptor's or one attribute's.
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    drop(guard);
    done.unwrap_or(otherwise)
}
