//! Shared libraries that are loaded at run time and never unloaded.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::ptr::NonNull;

/// A loaded library.
#[derive(Clone, Copy, Debug)]
pub struct Loaded(NonNull<c_void>);

// SAFETY: a handle of the dynamic loader, which may be used from any thread.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}

impl Loaded {
    /// Loads the library of this name, as the dynamic loader looks for it, or of this path.
    ///
    /// # Errors
    /// The loader's words.
    ///
    /// # Safety
    /// The library's initialisers may run in this process.
    pub unsafe fn open(name: &CStr) -> Result<Loaded, String> {
        // SAFETY: `name` is a string; the caller answers for the initialisers.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        NonNull::new(handle).map(Loaded).ok_or_else(|| {
            // SAFETY: the call has no conditions; its string lives until this thread calls the loader again.
            unsafe { string(libc::dlerror()) }
        })
    }

    /// The address of a function or variable of the library.
    pub fn symbol(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the handle is never closed, and the name is a string.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }
}

/// The file that holds the code or data at this address.
pub fn file_of(address: usize) -> Option<PathBuf> {
    // SAFETY: all zeros are a `Dl_info`.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is borrowed mutably for the call; any address may be asked about.
    let found =
        unsafe { libc::dladdr(address as *const c_void, &mut info) } != 0 && !info.dli_fname.is_null();
    // SAFETY: the loader keeps the name as long as the library is loaded, which is for ever.
    found.then(|| OsStr::from_bytes(unsafe { CStr::from_ptr(info.dli_fname) }.to_bytes()).into())
}

/// A copy of a C string; a null pointer is an empty one.
///
/// # Safety
/// `string` is null or a string that lives during the call.
pub unsafe fn string(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: not null, so a string that lives during the call.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// Declares `struct Functions` of functions that are looked up in a library, and proves that each is declared as
/// bindgen found it in the library's header (`$bindings`). Those that begin with `?` may be missing and have no such proof: they are newer than the
/// header.
#[macro_export]
macro_rules! functions {
    (in $bindings:path as $module:ident; $($field:ident: $symbol:ident = $type:ty;)* $(? $late:ident: $late_symbol:ident = $late_type:ty;)*) => {
        use $bindings as $module;

        /// The library's functions.
        #[derive(Clone, Copy)]
        struct Functions { $($field: $type,)* $($late: Option<$late_type>,)* }

        $(const _: $type = $module::$symbol;)*

        impl Functions {
            /// Looks up every function; on failure names the missing one.
            ///
            /// # Safety
            /// `library` is the one that the functions are declared for.
            unsafe fn look_up(library: $crate::dl::Loaded) -> Result<Functions, &'static str> {
                let name = |name: &'static str| {
                    ::std::ffi::CStr::from_bytes_with_nul(name.as_bytes()).expect("names end with a zero")
                };
                let find = |symbol| library.symbol(name(symbol));
                Ok(Functions {
                    // SAFETY: a function of this name in this library (this function's contract) has the type that
                    // the library's header gives it, which the constants above compare with.
                    $($field: unsafe {
                        ::std::mem::transmute::<::std::ptr::NonNull<::std::ffi::c_void>, $type>(
                            find(concat!(stringify!($symbol), "\0")).ok_or(stringify!($symbol))?,
                        )
                    },)*
                    // SAFETY: as above, but for the comparison: the type is that of the header which first had it.
                    $($late: find(concat!(stringify!($late_symbol), "\0")).map(|found| unsafe {
                        ::std::mem::transmute::<::std::ptr::NonNull<::std::ffi::c_void>, $late_type>(found)
                    }),)*
                })
            }
        }
    };
}
