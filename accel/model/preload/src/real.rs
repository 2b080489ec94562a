//! The functions that the hooks stand before: the next ones of that name.

use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// One function, looked up when it is first called: a hook may run before any constructor of this library.
pub(crate) struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    pub(crate) const fn new(name: &'static CStr) -> Next {
        Next { name, found: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Its address, or null if this C library has none.
    pub(crate) fn get(&self) -> *mut c_void {
        // Relaxed: the address is all there is, and every thread finds the same.
        let found = self.found.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        // SAFETY: a C string that lives for ever.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// The next function named `$name`, as an `Option` of a function pointer of this type.
macro_rules! next {
    ($name:ident: $type:ty) => {{
        static NEXT: $crate::real::Next = $crate::real::Next::new(match std::ffi::CStr::from_bytes_with_nul(
            concat!(stringify!($name), "\0").as_bytes(),
        ) {
            Ok(name) => name,
            Err(_) => panic!("an identifier has no NUL"),
        });
        // SAFETY: the C library's function of this name has this type (or there is none: null is `None`).
        unsafe { std::mem::transmute::<*mut std::ffi::c_void, Option<$type>>(NEXT.get()) }
    }};
}
pub(crate) use next;

/// Sets errno.
pub(crate) fn set_errno(errno: i32) {
    // SAFETY: the calling thread's own errno.
    unsafe { *libc::__errno_location() = errno }
}

/// The calling thread's errno.
pub(crate) fn errno() -> i32 {
    // SAFETY: the calling thread's own errno.
    unsafe { *libc::__errno_location() }
}
