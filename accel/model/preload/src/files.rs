//! The open family.

use std::ffi::{OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{O_ACCMODE, O_APPEND, O_CREAT, O_EXCL, O_PATH, O_RDONLY, O_TRUNC, O_WRONLY, mode_t};

use crate::guard::guarded;
use crate::place::Place;
use crate::process::{may_write, process};
use crate::real::{next, set_errno};

/// What to open instead, or a descriptor or errno (negative) that is the answer already.
enum Opening {
    Elsewhere(c_int),
    Answered(c_int),
}

/// How to open something of ours.
fn opening(place: &Place, flags: c_int) -> Opening {
    if let Some(name) = place.node()
        && flags & O_PATH == 0
    {
        let open = || match process() {
            Some(process) => process.open_queue(name, flags).unwrap_or_else(|errno| -errno),
            None => -libc::ENOENT,
        };
        return Opening::Answered(guarded(-libc::EIO, open));
    }
    if place.counts_clients() {
        guarded((), || process().into_iter().for_each(|process| process.count_clients()));
    }
    if flags & O_ACCMODE == O_RDONLY && flags & (O_CREAT | O_TRUNC) == 0 {
        return Opening::Elsewhere(flags);
    }
    // Sysfs never makes files. For reading only, whatever was asked: that is how a write to it comes to us.
    let path = Path::new(OsStr::from_bytes(place.full()));
    if guarded(false, || path.is_file() && !may_write(path)) {
        return Opening::Answered(-libc::EACCES);
    }
    Opening::Elsewhere(flags & !(O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND) | O_RDONLY)
}

/// # Safety
/// `path` is null or a C string.
pub(crate) unsafe fn open_with(
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    next: impl FnOnce(*const c_char, c_int) -> c_int,
) -> c_int {
    // SAFETY: by contract.
    let place = unsafe {
        // A relative path is looked at only where it matters that it is ours: to write, or to count clients.
        let matters = || flags & (O_ACCMODE | O_CREAT | O_TRUNC) != 0 || ends_with_clients(path);
        Place::of(path).or_else(|| if matters() { Place::below(dir, path) } else { None })
    };
    let Some(place) = place else { return next(path, flags) };
    match opening(&place, flags) {
        Opening::Elsewhere(flags) => next(place.as_ptr(), flags),
        Opening::Answered(fd) if fd < 0 => {
            set_errno(-fd);
            -1
        }
        Opening::Answered(fd) => fd,
    }
}

/// # Safety
/// `path` is null or a C string.
unsafe fn ends_with_clients(path: *const c_char) -> bool {
    // SAFETY: by contract.
    !path.is_null() && unsafe { std::ffi::CStr::from_ptr(path) }.to_bytes().ends_with(b"clients")
}

// `open` takes its mode as a variable argument. In the calling convention of x86-64 that comes where a third fixed
// argument does; without O_CREAT it is whatever was in the register, and is passed on unread.
macro_rules! opening {
    ($($name:ident(($($dir:ident: $d:ty)?), path $(, $mode:ident: $m:ty)?) at $at:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($dir: $d,)? path: *const c_char, flags: c_int $(, $mode: $m)?) -> c_int {
            let Some(next) = next!($name: unsafe extern "C" fn($($d,)? *const c_char, c_int $(, $m)?) -> c_int) else {
                set_errno(libc::ENOSYS);
                return -1;
            };
            // SAFETY: the caller's arguments, of which the path is a C string.
            unsafe { open_with($at, path, flags, |path, flags| next($($dir,)? path, flags $(, $mode)?)) }
        }
    )*};
}

opening! {
    open((), path, mode: mode_t) at libc::AT_FDCWD;
    open64((), path, mode: mode_t) at libc::AT_FDCWD;
    __open_2((), path) at libc::AT_FDCWD;
    __open64_2((), path) at libc::AT_FDCWD;
    openat((dir: c_int), path, mode: mode_t) at dir;
    openat64((dir: c_int), path, mode: mode_t) at dir;
    __openat_2((dir: c_int), path) at dir;
    __openat64_2((dir: c_int), path) at dir;
}

/// # Safety
/// As creat(2).
unsafe fn create(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: creat is open with these flags, which is hooked; the caller's arguments.
    unsafe { open(path, O_CREAT | O_WRONLY | O_TRUNC, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { create(path, mode) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn creat64(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { create(path, mode) }
}
