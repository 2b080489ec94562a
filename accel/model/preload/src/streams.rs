//! stdio: what is opened to be written becomes a stream that writes through our hooks, for the C library's own streams
//! do not.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use libc::{FILE, O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, off64_t, size_t, ssize_t};

use crate::place::Place;
use crate::real::{next, set_errno};

/// The functions of a stream; glibc's `cookie_io_functions_t`.
#[repr(C)]
struct Functions {
    read: unsafe extern "C" fn(*mut c_void, *mut c_char, size_t) -> ssize_t,
    write: unsafe extern "C" fn(*mut c_void, *const c_char, size_t) -> ssize_t,
    seek: unsafe extern "C" fn(*mut c_void, *mut off64_t, c_int) -> c_int,
    close: unsafe extern "C" fn(*mut c_void) -> c_int,
}

unsafe extern "C" {
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: Functions) -> *mut FILE;
}

/// The cookie is the descriptor.
fn fd(cookie: *mut c_void) -> c_int {
    cookie.addr() as c_int
}

unsafe extern "C" fn read(cookie: *mut c_void, into: *mut c_char, len: size_t) -> ssize_t {
    // SAFETY: the stream's own buffer.
    unsafe { libc::read(fd(cookie), into.cast(), len) }
}

unsafe extern "C" fn write(cookie: *mut c_void, bytes: *const c_char, len: size_t) -> ssize_t {
    // SAFETY: the stream's own buffer. `write` is the hook.
    match unsafe { libc::write(fd(cookie), bytes.cast(), len) } {
        // A stream wants 0 for an error.
        -1 => 0,
        written => written,
    }
}

unsafe extern "C" fn seek(cookie: *mut c_void, offset: *mut off64_t, whence: c_int) -> c_int {
    // SAFETY: the stream's own offset.
    unsafe {
        *offset = libc::lseek64(fd(cookie), *offset, whence);
        if *offset < 0 { -1 } else { 0 }
    }
}

unsafe extern "C" fn close(cookie: *mut c_void) -> c_int {
    // SAFETY: the descriptor was opened for this stream.
    unsafe { libc::close(fd(cookie)) }
}

/// # Safety
/// As fopen(3).
unsafe fn stream(
    path: *const c_char,
    mode: *const c_char,
    next: unsafe extern "C" fn(*const c_char, *const c_char) -> *mut FILE,
) -> *mut FILE {
    // SAFETY: the caller's arguments, C strings both.
    unsafe {
        let Some(place) = Place::of(path) else { return next(path, mode) };
        let letters = CStr::from_ptr(mode).to_bytes();
        let both = letters.contains(&b'+');
        let flags = match letters.first() {
            Some(b'w') => O_CREAT | O_TRUNC | if both { O_RDWR } else { O_WRONLY },
            Some(b'a') => O_CREAT | O_APPEND | if both { O_RDWR } else { O_WRONLY },
            _ if both => O_RDWR,
            _ if place.counts_clients() || place.node().is_some() => O_RDONLY,
            _ => return next(place.as_ptr(), mode),
        };
        let fd = libc::open(path, flags, 0o666);
        if fd < 0 {
            return ptr::null_mut();
        }
        let functions = Functions { read, write, seek, close };
        let stream = fopencookie(ptr::without_provenance_mut(fd as usize), mode, functions);
        if stream.is_null() {
            libc::close(fd);
        }
        stream
    }
}

macro_rules! streams {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(path: *const c_char, mode: *const c_char) -> *mut FILE {
            let Some(next) = next!($name: unsafe extern "C" fn(*const c_char, *const c_char) -> *mut FILE) else {
                set_errno(libc::ENOSYS);
                return ptr::null_mut();
            };
            // SAFETY: the caller's arguments.
            unsafe { stream(path, mode, next) }
        }
    )*};
}

streams! { fopen fopen64 }
