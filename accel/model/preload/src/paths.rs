//! Functions that take a path and need nothing else done, and those that give one back.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;

use libc::{DIR, size_t, ssize_t};

use crate::place::{Place, hidden_prefix};
use crate::real::{errno, next, set_errno};

/// A hook that passes everything on but the path, which leads where it shall.
macro_rules! by_path {
    ($($(#[$doc:meta])* fn $name:ident([$($before:ident: $b:ty),*] path $(, $after:ident: $a:ty)*) -> $ret:ty, failing $failed:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($before: $b,)* path: *const c_char $(, $after: $a)*) -> $ret {
            let Some(next) = next!($name: unsafe extern "C" fn($($b,)* *const c_char $(, $a)*) -> $ret) else {
                set_errno(libc::ENOSYS);
                return $failed;
            };
            // SAFETY: the caller's arguments, of which the path is a C string as the function demands.
            unsafe {
                let place = Place::of(path);
                next($($before,)* place.as_ref().map_or(path, Place::as_ptr) $(, $after)*)
            }
        }
    )*};
}

by_path! {
    fn access([] path, mode: c_int) -> c_int, failing -1;
    fn eaccess([] path, mode: c_int) -> c_int, failing -1;
    fn euidaccess([] path, mode: c_int) -> c_int, failing -1;
    fn faccessat([dir: c_int] path, mode: c_int, flags: c_int) -> c_int, failing -1;
    fn chmod([] path, mode: c_uint) -> c_int, failing -1;
    fn fchmodat([dir: c_int] path, mode: c_uint, flags: c_int) -> c_int, failing -1;
    fn chown([] path, user: c_uint, group: c_uint) -> c_int, failing -1;
    fn lchown([] path, user: c_uint, group: c_uint) -> c_int, failing -1;
    fn fchownat([dir: c_int] path, user: c_uint, group: c_uint, flags: c_int) -> c_int, failing -1;
    fn chdir([] path) -> c_int, failing -1;
    fn opendir([] path) -> *mut DIR, failing ptr::null_mut();
    fn scandir([] path, list: *mut c_void, filter: *const c_void, order: *const c_void) -> c_int, failing -1;
    fn scandir64([] path, list: *mut c_void, filter: *const c_void, order: *const c_void) -> c_int, failing -1;
    fn statfs([] path, into: *mut c_void) -> c_int, failing -1;
    fn statfs64([] path, into: *mut c_void) -> c_int, failing -1;
    fn getxattr([] path, name: *const c_char, value: *mut c_void, size: size_t) -> ssize_t, failing -1;
    fn lgetxattr([] path, name: *const c_char, value: *mut c_void, size: size_t) -> ssize_t, failing -1;
    fn listxattr([] path, list: *mut c_char, size: size_t) -> ssize_t, failing -1;
    fn llistxattr([] path, list: *mut c_char, size: size_t) -> ssize_t, failing -1;
}

/// Cuts what programs do not know from the front of a C string.
///
/// # Safety
/// `path` is null or a C string that may be written.
unsafe fn unhide(path: *mut c_char) -> *mut c_char {
    if path.is_null() {
        return path;
    }
    // SAFETY: by contract; what stays is moved with its NUL.
    unsafe {
        let bytes = CStr::from_ptr(path).to_bytes_with_nul();
        let (len, cut) = (bytes.len(), hidden_prefix(&bytes[..bytes.len() - 1]));
        ptr::copy(path.add(cut), path, len - cut);
    }
    path
}

macro_rules! resolving {
    ($($name:ident($($after:ident: $a:ty),*);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(path: *const c_char $(, $after: $a)*) -> *mut c_char {
            let Some(next) = next!($name: unsafe extern "C" fn(*const c_char $(, $a)*) -> *mut c_char) else {
                set_errno(libc::ENOSYS);
                return ptr::null_mut();
            };
            // SAFETY: the caller's arguments; the answer is null or a C string in the caller's or fresh memory.
            unsafe {
                let place = Place::of(path);
                unhide(next(place.as_ref().map_or(path, Place::as_ptr) $(, $after)*))
            }
        }
    )*};
}

resolving! {
    realpath(into: *mut c_char);
    __realpath_chk(into: *mut c_char, size: size_t);
    canonicalize_file_name();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn getcwd(into: *mut c_char, size: size_t) -> *mut c_char {
    let Some(next) = next!(getcwd: unsafe extern "C" fn(*mut c_char, size_t) -> *mut c_char) else {
        set_errno(libc::ENOSYS);
        return ptr::null_mut();
    };
    // SAFETY: the caller's arguments; the answer is null or a C string in the caller's or fresh memory.
    let answer = unsafe { unhide(next(into, size)) };
    if !answer.is_null() || into.is_null() || errno() != libc::ERANGE {
        return answer;
    }
    // Perhaps there is room once what programs do not know is cut off.
    let mut long = [0u8; 2 * libc::PATH_MAX as usize];
    // SAFETY: `long` has that many bytes; what is moved fits into the caller's `size`.
    unsafe {
        let found = unhide(next(long.as_mut_ptr().cast(), long.len()));
        if found.is_null() {
            return found;
        }
        let len = libc::strlen(found) + 1;
        if len > size {
            set_errno(libc::ERANGE);
            return ptr::null_mut();
        }
        ptr::copy_nonoverlapping(found, into, len);
    }
    into
}

macro_rules! reading_links {
    ($($name:ident([$($before:ident: $b:ty),*] path $(, $after:ident: $a:ty)*);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($before: $b,)* path: *const c_char, into: *mut c_char, size: size_t $(, $after: $a)*) -> ssize_t {
            type Next = unsafe extern "C" fn($($b,)* *const c_char, *mut c_char, size_t $(, $a)*) -> ssize_t;
            let Some(next) = next!($name: Next) else {
                set_errno(libc::ENOSYS);
                return -1;
            };
            // SAFETY: the caller's arguments; as many bytes as are told have been written.
            unsafe {
                let place = Place::of(path);
                let len = next($($before,)* place.as_ref().map_or(path, Place::as_ptr), into, size $(, $after)*);
                if len <= 0 {
                    return len;
                }
                let cut = hidden_prefix(std::slice::from_raw_parts(into.cast(), len as usize));
                ptr::copy(into.add(cut), into, len as usize - cut);
                len - cut as ssize_t
            }
        }
    )*};
}

reading_links! {
    readlink([] path);
    __readlink_chk([] path, room: size_t);
    readlinkat([dir: c_int] path);
    __readlinkat_chk([dir: c_int] path, room: size_t);
}
