//! The three questions to the kernel that std cannot ask. The only unsafe code of the command line.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::time::Duration;

/// CPU time the calling thread has used so far.
pub(crate) fn thread_cpu_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` is writable memory of the right type, and outlives the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(status, 0, "every Linux thread has a CPU clock");
    // SAFETY: clock_gettime returned 0, so it has filled `time` in.
    let time = unsafe { time.assume_init() };
    // The kernel gives non-negative seconds and nanoseconds below 10^9.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Asks the kernel to kill this process when the thread that started it ends, however it ends.
///
/// A parent that has ended before this call is not noticed; the caller has another sign for that (end of its
/// standard input).
pub(crate) fn die_with_parent() {
    // SAFETY: PR_SET_PDEATHSIG takes one integer and touches no memory of ours. It cannot fail for a valid
    // signal, and if it did the child would still see the end of its standard input.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
}

/// The running kernel: name and release, as `uname -sr` prints them.
pub(crate) fn kernel() -> String {
    let mut names = MaybeUninit::<libc::utsname>::uninit();
    // SAFETY: `names` is writable memory of the right type, and outlives the call.
    if unsafe { libc::uname(names.as_mut_ptr()) } != 0 {
        return "unknown kernel".into();
    }
    // SAFETY: uname returned 0, so it has filled `names` in.
    let names = unsafe { names.assume_init() };
    format!("{} {}", text(&names.sysname), text(&names.release))
}

/// The characters before the first NUL.
fn text(field: &[libc::c_char]) -> String {
    field.iter().take_while(|&&c| c != 0).map(|&c| char::from(c as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_grows_with_work_and_not_with_sleep() {
        let start = thread_cpu_time();
        std::thread::sleep(Duration::from_millis(30));
        let slept = thread_cpu_time() - start;
        assert!(slept < Duration::from_millis(20), "{slept:?} of CPU time in a sleep");
        let mut sum = 0u64;
        while thread_cpu_time() - start < Duration::from_millis(25) {
            sum = std::hint::black_box(sum + 1);
        }
    }

    #[test]
    fn kernel_names_linux() {
        assert!(kernel().starts_with("Linux "), "{}", kernel());
    }
}
