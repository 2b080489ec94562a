//! Part of a test in a child of fork. Called by the tests of what a process has to itself.

use std::time::{Duration, Instant};

/// Runs `f` in a child of fork, and says how it ended: its answer as exit code, or a signal.
pub(crate) fn in_child(f: impl FnOnce() -> bool) -> Result<(), String> {
    // SAFETY: the child runs `f`, which uses locks and memory of no other thread than this one (the allocator looks
    // after itself), and leaves without running the test harness.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(false);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!fine)) };
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut status = 0;
    loop {
        // SAFETY: asks after the child made above.
        match unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } {
            0 if Instant::now() > deadline => {
                // SAFETY: the child is ours and not waited for yet.
                unsafe { libc::kill(child, libc::SIGKILL) };
                return Err("the child hangs".to_owned());
            }
            0 => std::thread::sleep(Duration::from_millis(2)),
            _ => break,
        }
    }
    match () {
        () if libc::WIFSIGNALED(status) => Err(format!("signal {}", libc::WTERMSIG(status))),
        () if libc::WEXITSTATUS(status) != 0 => Err("an operation gave a wrong answer".to_owned()),
        () => Ok(()),
    }
}
