//! The stat family: a queue is a character device.

use std::ffi::{c_char, c_int, c_uint};

use iaa_model::sysfs::CDEV_MAJOR;
use libc::{S_IFCHR, S_IFMT, stat as Facts};

use crate::guard::guarded;
use crate::place::Place;
use crate::process::existing;
use crate::real::{next, set_errno};

/// # Safety
/// `facts` has been filled in.
unsafe fn make_character_device(facts: *mut Facts, minor: u32) {
    // SAFETY: by contract.
    unsafe {
        (*facts).st_mode = (*facts).st_mode & !S_IFMT | S_IFCHR;
        (*facts).st_rdev = libc::makedev(CDEV_MAJOR, minor);
        (*facts).st_size = 0;
    }
}

/// The minor number of a queue's node. Those of the tree are told by the attribute beside it, which needs a look into
/// a file; programs that compare device numbers read that attribute.
fn node(place: Option<&Place>) -> bool {
    place.is_some_and(|place| place.node().is_some())
}

macro_rules! stat_by_path {
    ($($name:ident([$($before:ident: $b:ty),*] path $(, $after:ident: $a:ty)*);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($before: $b,)* path: *const c_char, facts: *mut Facts $(, $after: $a)*) -> c_int {
            type Next = unsafe extern "C" fn($($b,)* *const c_char, *mut Facts $(, $a)*) -> c_int;
            let Some(next) = next!($name: Next) else {
                set_errno(libc::ENOSYS);
                return -1;
            };
            // SAFETY: the caller's arguments, of which the path is a C string; on success `facts` is filled in.
            unsafe {
                let place = Place::of(path);
                let status = next($($before,)* place.as_ref().map_or(path, Place::as_ptr), facts $(, $after)*);
                if status == 0 && node(place.as_ref()) {
                    make_character_device(facts, 0);
                }
                status
            }
        }
    )*};
}

// On x86-64 `stat` and `stat64` are one type.
stat_by_path! {
    stat([] path);
    stat64([] path);
    lstat([] path);
    lstat64([] path);
    fstatat([dir: c_int] path, flags: c_int);
    fstatat64([dir: c_int] path, flags: c_int);
    __xstat([version: c_int] path);
    __xstat64([version: c_int] path);
    __lxstat([version: c_int] path);
    __lxstat64([version: c_int] path);
    __fxstatat([version: c_int, dir: c_int] path, flags: c_int);
    __fxstatat64([version: c_int, dir: c_int] path, flags: c_int);
}

macro_rules! stat_by_fd {
    ($($name:ident($($before:ident: $b:ty),*);)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($before: $b,)* fd: c_int, facts: *mut Facts) -> c_int {
            type Next = unsafe extern "C" fn($($b,)* c_int, *mut Facts) -> c_int;
            let Some(next) = next!($name: Next) else {
                set_errno(libc::ENOSYS);
                return -1;
            };
            // SAFETY: the caller's arguments; on success `facts` is filled in.
            unsafe {
                let status = next($($before,)* fd, facts);
                if status == 0 && let Some(process) = existing().filter(|process| process.has_queues()) {
                    let identity = ((*facts).st_dev, (*facts).st_ino);
                    if let Some(minor) = guarded(None, || process.minor(identity)) {
                        make_character_device(facts, minor);
                    }
                }
                status
            }
        }
    )*};
}

stat_by_fd! {
    fstat();
    fstat64();
    __fxstat(version: c_int);
    __fxstat64(version: c_int);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn statx(
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    facts: *mut libc::statx,
) -> c_int {
    type Next = unsafe extern "C" fn(c_int, *const c_char, c_int, c_uint, *mut libc::statx) -> c_int;
    let Some(next) = next!(statx: Next) else {
        set_errno(libc::ENOSYS);
        return -1;
    };
    // SAFETY: the caller's arguments, of which the path is a C string; on success `facts` is filled in.
    unsafe {
        let place = Place::of(path);
        let status = next(dir, place.as_ref().map_or(path, Place::as_ptr), flags, mask, facts);
        if status == 0 && node(place.as_ref()) {
            (*facts).stx_mode = ((u32::from((*facts).stx_mode) & !S_IFMT) | S_IFCHR) as u16;
            ((*facts).stx_rdev_major, (*facts).stx_rdev_minor) = (CDEV_MAJOR, 0);
        }
        status
    }
}
