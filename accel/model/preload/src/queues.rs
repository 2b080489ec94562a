//! What is done with open files: write, mmap, poll.

use std::ffi::{c_int, c_short, c_void};

use libc::{
    MAP_ANONYMOUS, MAP_FAILED, POLLIN, POLLRDNORM, iovec, nfds_t, off_t, pollfd, sigset_t, size_t, ssize_t,
    timespec,
};

use crate::guard::guarded;
use crate::place::Place;
use crate::process::{Borrowed, copy_in, existing, identity, process};
use crate::real::{errno, next, set_errno};

/// A write to `fd`, which the kernel refused with EBADF: bytes, or errno (negative); EBADF if it is not ours.
fn written(fd: c_int, bytes: *const c_void, len: size_t) -> ssize_t {
    guarded(-(libc::EBADF as ssize_t), || {
        let addr = bytes.addr() as u64;
        let Some(identity) = identity(&Borrowed(fd)) else { return -(libc::EBADF as ssize_t) };
        if let Some(process) = existing()
            && process.is_queue(identity)
        {
            return process
                .submit(identity, addr, len)
                .map_or_else(|errno| -(errno as ssize_t), |n| n as ssize_t);
        }
        let (place, process) = match (Place::of_fd(fd), process()) {
            (Some(place), Some(process)) => (place, process),
            _ => return -(libc::EBADF as ssize_t),
        };
        if place.is_client() {
            // Opened by another process: a parent, or what was executed here before.
            return -(libc::EPERM as ssize_t);
        }
        let Some(attribute) = place.attribute() else { return -(libc::EBADF as ssize_t) };
        match copy_in(addr, len).and_then(|value| process.store(attribute, &value)) {
            Ok(()) => len as ssize_t,
            Err(errno) => -(errno as ssize_t),
        }
    })
}

/// `done`, unless that is EBADF for a file of ours.
fn or_ours(done: ssize_t, fd: c_int, bytes: *const c_void, len: size_t) -> ssize_t {
    if done >= 0 || errno() != libc::EBADF || fd < 0 {
        return done;
    }
    match written(fd, bytes, len) {
        failed if failed < 0 => {
            set_errno(-failed as c_int);
            -1
        }
        written => written,
    }
}

macro_rules! writing {
    ($($name:ident($($after:ident: $a:ty),*);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(fd: c_int, bytes: *const c_void, len: size_t $(, $after: $a)*) -> ssize_t {
            type Next = unsafe extern "C" fn(c_int, *const c_void, size_t $(, $a)*) -> ssize_t;
            let Some(next) = next!($name: Next) else {
                set_errno(libc::ENOSYS);
                return -1;
            };
            // SAFETY: the caller's arguments.
            or_ours(unsafe { next(fd, bytes, len $(, $after)*) }, fd, bytes, len)
        }
    )*};
}

writing! {
    write();
    pwrite(offset: off_t);
    pwrite64(offset: off_t);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    let Some(next) = next!(writev: unsafe extern "C" fn(c_int, *const iovec, c_int) -> ssize_t) else {
        set_errno(libc::ENOSYS);
        return -1;
    };
    // SAFETY: the caller's arguments.
    let done = unsafe { next(fd, parts, count) };
    if done >= 0 || errno() != libc::EBADF || fd < 0 || count <= 0 {
        return done;
    }
    // As the kernel does for a driver that knows only write: part after part, until one is not taken whole.
    let mut taken = 0;
    for part in 0..count as usize {
        // SAFETY: the caller says there are `count` of them. (The kernel, which checks that, refused before it did.)
        let iovec { iov_base, iov_len } = unsafe { *parts.add(part) };
        let one = or_ours(-1, fd, iov_base, iov_len);
        if one < 0 {
            return if taken > 0 { taken } else { -1 };
        }
        taken += one;
        if (one as size_t) < iov_len {
            break;
        }
    }
    taken
}

/// Whether `fd` is an open queue, of this process or of one before it.
fn is_queue(fd: c_int) -> bool {
    let Some(identity) = identity(&Borrowed(fd)) else { return false };
    existing().is_some_and(|process| process.is_queue(identity))
        || Place::of_fd(fd).is_some_and(|p| p.is_client())
}

/// A queue cannot be mapped: EPERM, as kernels answer who lacks CAP_SYS_RAWIO.
///
/// # Safety
/// As mmap(2).
unsafe fn map(
    at: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // By number: allocators map before anything can be looked up.
    // SAFETY: the caller's arguments.
    let mapped =
        unsafe { libc::syscall(libc::SYS_mmap, at, len, protection, flags, fd, offset) } as *mut c_void;
    if fd < 0 || flags & MAP_ANONYMOUS != 0 {
        return mapped;
    }
    let suspicious = match mapped {
        MAP_FAILED => errno() == libc::EACCES,
        _ => existing().is_some_and(|process| process.has_queues()),
    };
    if suspicious && guarded(false, || is_queue(fd)) {
        if mapped != MAP_FAILED {
            // SAFETY: the mapping made above, which nobody knows yet.
            unsafe { libc::syscall(libc::SYS_munmap, mapped, len) };
        }
        set_errno(libc::EPERM);
        return MAP_FAILED;
    }
    mapped
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    at: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: the caller's arguments.
    unsafe { map(at, len, protection, flags, fd, offset) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    at: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut c_void {
    // SAFETY: the caller's arguments.
    unsafe { map(at, len, protection, flags, fd, offset) }
}

/// poll(2) on a queue answers only that its device has had a software error. The queues are left out, and the others polled,
/// without waiting where a queue has an answer. An error that comes meanwhile is told the next time.
///
/// # Safety
/// `entries` has `count` entries, as poll(2) demands.
unsafe fn without_queues(entries: *mut pollfd, count: nfds_t, poll: impl FnOnce(bool) -> c_int) -> c_int {
    if !existing().is_some_and(|process| process.has_queues()) || entries.is_null() {
        return poll(true);
    }
    let has_error = |fd| {
        let identity = identity(&Borrowed(fd))?;
        Some(existing()?.has_error(identity))
    };
    // SAFETY: by contract; only for as long as nobody else has them.
    let queues: Vec<(usize, c_int, c_short)> = guarded(Vec::new(), || unsafe {
        let entries = std::slice::from_raw_parts(entries, count as usize);
        let queues = entries.iter().enumerate().filter(|(_, entry)| entry.fd >= 0 && is_queue(entry.fd));
        let answer = |entry: &pollfd| match has_error(entry.fd) {
            Some(true) => entry.events & (POLLIN | POLLRDNORM),
            _ => 0,
        };
        queues.map(|(at, entry)| (at, entry.fd, answer(entry))).collect()
    });
    let ready = queues.iter().filter(|&&(.., answer)| answer != 0).count();
    // SAFETY: as above. A negative descriptor is ignored, and its answer is 0.
    queues.iter().for_each(|&(at, ..)| unsafe { (*entries.add(at)).fd = -1 });
    let others = poll(ready == 0);
    for &(at, fd, answer) in &queues {
        // SAFETY: as above.
        let entry = unsafe { &mut *entries.add(at) };
        entry.fd = fd;
        if others >= 0 {
            entry.revents = answer;
        }
    }
    if others < 0 { others } else { others + ready as c_int }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn poll(entries: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    let Some(next) = next!(poll: unsafe extern "C" fn(*mut pollfd, nfds_t, c_int) -> c_int) else {
        set_errno(libc::ENOSYS);
        return -1;
    };
    // SAFETY: the caller's arguments.
    unsafe { without_queues(entries, count, |wait| next(entries, count, if wait { timeout } else { 0 })) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn ppoll(
    entries: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    signals: *const sigset_t,
) -> c_int {
    type Next = unsafe extern "C" fn(*mut pollfd, nfds_t, *const timespec, *const sigset_t) -> c_int;
    let Some(next) = next!(ppoll: Next) else {
        set_errno(libc::ENOSYS);
        return -1;
    };
    static AT_ONCE: timespec = timespec { tv_sec: 0, tv_nsec: 0 };
    let poll = |wait| {
        let timeout = if wait { timeout } else { &raw const AT_ONCE };
        // SAFETY: the caller's arguments, or no time.
        unsafe { next(entries, count, timeout, signals) }
    };
    // SAFETY: the caller's arguments.
    unsafe { without_queues(entries, count, poll) }
}
