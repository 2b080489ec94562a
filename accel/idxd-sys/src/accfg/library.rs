//! The library itself: found, its functions looked up, and what it says of the devices.

use std::ffi::{CStr, c_char, c_int};
use std::path::{Path, PathBuf};
use std::{fmt, ptr};

use crate::dl::{Loaded, file_of, string};

use super::bindings::{
    ACCFG_DEVICE_ENABLED, ACCFG_WQ_ENABLED, ACCFG_WQ_SHARED, ACCFG_WQT_USER, accfg_ctx, accfg_device,
    accfg_wq,
};

/// The name under which the dynamic loader finds the library.
const NAME: &CStr = c"libaccel-config.so.1";

crate::functions! {
    in super::bindings as bindings;
    new: accfg_new = unsafe extern "C" fn(*mut *mut accfg_ctx) -> c_int;
    unref: accfg_unref = unsafe extern "C" fn(*mut accfg_ctx) -> *mut accfg_ctx;
    first_device: accfg_device_get_first = unsafe extern "C" fn(*mut accfg_ctx) -> *mut accfg_device;
    next_device: accfg_device_get_next = unsafe extern "C" fn(*mut accfg_device) -> *mut accfg_device;
    device_name: accfg_device_get_devname = unsafe extern "C" fn(*mut accfg_device) -> *const c_char;
    device_state: accfg_device_get_state = unsafe extern "C" fn(*mut accfg_device) -> c_int;
    gen_cap: accfg_device_get_gen_cap = unsafe extern "C" fn(*mut accfg_device) -> u64;
    numa_node: accfg_device_get_numa_node = unsafe extern "C" fn(*mut accfg_device) -> c_int;
    version: accfg_device_get_version = unsafe extern "C" fn(*mut accfg_device) -> u32;
    first_wq: accfg_wq_get_first = unsafe extern "C" fn(*mut accfg_device) -> *mut accfg_wq;
    next_wq: accfg_wq_get_next = unsafe extern "C" fn(*mut accfg_wq) -> *mut accfg_wq;
    wq_name: accfg_wq_get_devname = unsafe extern "C" fn(*mut accfg_wq) -> *const c_char;
    wq_state: accfg_wq_get_state = unsafe extern "C" fn(*mut accfg_wq) -> c_int;
    wq_mode: accfg_wq_get_mode = unsafe extern "C" fn(*mut accfg_wq) -> u32;
    wq_type: accfg_wq_get_type = unsafe extern "C" fn(*mut accfg_wq) -> u32;
    wq_size: accfg_wq_get_size = unsafe extern "C" fn(*mut accfg_wq) -> u64;
    wq_path: accfg_wq_get_user_dev_path = unsafe extern "C" fn(*mut accfg_wq, *mut c_char, usize) -> c_int;
    ?iaa_cap: accfg_device_get_iaa_cap = unsafe extern "C" fn(*mut accfg_device, *mut u64) -> c_int;
}

/// libaccel-config, loaded. It is never unloaded.
pub struct Library {
    path: PathBuf,
    functions: Functions,
}

/// An IAA device as libaccel-config sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `iax1`.
    pub name: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The version register: 0x100, 0x200.
    pub version: u32,
    /// Its memory node, or -1.
    pub numa_node: i32,
    /// General capabilities.
    pub gen_cap: u64,
    /// IAA capabilities, where both the library (since 4.0) and the kernel give them.
    pub iaa_cap: Option<u64>,
    /// Its work queues.
    pub work_queues: Vec<WorkQueue>,
}

/// A work queue as libaccel-config sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkQueue {
    /// `wq1.0`.
    pub name: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Shared, rather than dedicated.
    pub shared: bool,
    /// For user space.
    pub user: bool,
    /// Entries.
    pub size: u64,
    /// Its character device, where the library finds one.
    pub path: Option<PathBuf>,
}

impl Library {
    /// Loads `libaccel-config.so.1`.
    pub fn load() -> Result<Library, LoadError> {
        Library::load_named(NAME)
    }

    /// Loads the library of this name or path, which must be a libaccel-config.
    fn load_named(name: &CStr) -> Result<Library, LoadError> {
        // SAFETY: libaccel-config has no initialisers.
        let library = unsafe { Loaded::open(name) };
        let name = name.to_string_lossy().into_owned();
        let library = library.map_err(|reason| LoadError::Missing { name: name.clone(), reason })?;
        // SAFETY: it was loaded under the name of libaccel-config.
        let functions = unsafe { Functions::look_up(library) };
        let functions =
            functions.map_err(|symbol| LoadError::MissingSymbol { library: name.clone(), symbol })?;
        let path = file_of(functions.new as usize).unwrap_or_else(|| name.into());
        Ok(Library { path, functions })
    }

    /// The file that was loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it knows `iaa_cap`, as versions since 4.0 do. Without it QPL refuses devices of generation 2.
    pub fn knows_iaa_cap(&self) -> bool {
        self.functions.iaa_cap.is_some()
    }

    /// The IAA devices as the library sees them, or the error number of its initialisation.
    pub fn devices(&self) -> Result<Vec<Device>, c_int> {
        let Functions { new, unref, first_device, next_device, .. } = self.functions;
        let mut context = ptr::null_mut();
        // SAFETY: `context` receives a pointer.
        let failed = unsafe { new(&mut context) };
        if failed != 0 {
            return Err(failed);
        }
        let mut devices = Vec::new();
        // SAFETY: `context` was made above and is released below, after the last use of what hangs on it.
        let mut device = unsafe { first_device(context) };
        while !device.is_null() {
            // SAFETY: `device` came from the library and its context lives.
            unsafe {
                devices.extend(self.device(device));
                device = next_device(device);
            }
        }
        // SAFETY: nothing of the context is used after this.
        unsafe { unref(context) };
        Ok(devices)
    }

    /// What is said of `device`, if it is an IAA.
    ///
    /// # Safety
    /// `device` is a device of a living context.
    unsafe fn device(&self, device: *mut accfg_device) -> Option<Device> {
        let f = &self.functions;
        // SAFETY: `device` is one (this function's contract); so is each queue that it names. Strings belong to the
        // context and are copied.
        unsafe {
            let name = string((f.device_name)(device));
            if !name.starts_with("iax") {
                return None;
            }
            let mut cap = 0;
            let mut work_queues = Vec::new();
            let mut wq = (f.first_wq)(device);
            while !wq.is_null() {
                work_queues.push(self.work_queue(wq));
                wq = (f.next_wq)(wq);
            }
            Some(Device {
                name,
                enabled: (f.device_state)(device) == ACCFG_DEVICE_ENABLED,
                version: (f.version)(device),
                numa_node: (f.numa_node)(device),
                gen_cap: (f.gen_cap)(device),
                iaa_cap: f.iaa_cap.is_some_and(|read| read(device, &mut cap) == 0).then_some(cap),
                work_queues,
            })
        }
    }

    /// What is said of `wq`.
    ///
    /// # Safety
    /// `wq` is a work queue of a living context.
    unsafe fn work_queue(&self, wq: *mut accfg_wq) -> WorkQueue {
        let f = &self.functions;
        let mut path = [0 as c_char; libc::PATH_MAX as usize];
        // SAFETY: `wq` is one (this function's contract); `path` has the length that is given, and the library ends
        // what it writes with a zero.
        unsafe {
            let found = (f.wq_path)(wq, path.as_mut_ptr(), path.len()) == 0;
            WorkQueue {
                name: string((f.wq_name)(wq)),
                enabled: (f.wq_state)(wq) == ACCFG_WQ_ENABLED,
                shared: (f.wq_mode)(wq) == ACCFG_WQ_SHARED,
                user: (f.wq_type)(wq) == ACCFG_WQT_USER,
                size: (f.wq_size)(wq),
                path: found.then(|| string(path.as_ptr()).into()),
            }
        }
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why libaccel-config cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The dynamic loader does not find it, or cannot load it.
    Missing {
        /// What was looked for.
        name: String,
        /// The loader's words.
        reason: String,
    },
    /// It was loaded, and lacks a function that version 3.5.3 has.
    MissingSymbol {
        /// What was loaded.
        library: String,
        /// The function.
        symbol: &'static str,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Missing { name, reason } => write!(
                f,
                "{name} cannot be loaded ({reason}); Debian and Ubuntu have it in the package libaccel-config1, \
                 Fedora in accel-config-libs"
            ),
            LoadError::MissingSymbol { library, symbol } => {
                write!(f, "{library} has no function {symbol}; version 3.5.3 or later is needed")
            }
        }
    }
}

impl std::error::Error for LoadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_library_and_missing_function_are_two_errors_that_say_what_helps() {
        let error = Library::load_named(c"libaccel-config-of-no-machine.so.1").unwrap_err();
        assert!(matches!(error, LoadError::Missing { .. }), "{error:?}");
        assert!(error.to_string().contains("package libaccel-config1"), "{error}");

        // Any library that is there and is no libaccel-config.
        let error = Library::load_named(c"libc.so.6").unwrap_err();
        let expected = LoadError::MissingSymbol { library: "libc.so.6".into(), symbol: "accfg_new" };
        assert_eq!(error, expected);
    }

    #[test]
    fn library_that_is_there_answers_on_a_machine_of_any_kind() {
        match Library::load() {
            Ok(library) => {
                assert!(library.path().is_absolute(), "{library:?}");
                let devices = library.devices().unwrap();
                assert!(devices.iter().all(|device| device.name.starts_with("iax")));
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
