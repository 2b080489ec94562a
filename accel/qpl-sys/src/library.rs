//! The library: found, its version checked, its functions looked up.

use std::ffi::{CStr, CString, OsString, c_char};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use idxd_sys::dl::{Loaded, file_of, string};

use crate::bindings::{qpl_job, qpl_path_t, qpl_status};
use crate::status::OK;

/// The variable that names the file to load, before all others.
const VARIABLE: &str = "ZFOLIO_QPL";

/// The names it goes by: a distribution's, and that of a build of one's own.
#[cfg_attr(feature = "link", allow(dead_code, reason = "what is linked is not looked for"))]
const NAMES: [&CStr; 2] = [c"libqpl.so.1", c"libqpl.so"];

/// The major version whose job and functions are known.
const MAJOR: u32 = 1;

idxd_sys::functions! {
    in crate::bindings as bindings;
    get_job_size: qpl_get_job_size = unsafe extern "C" fn(qpl_path_t, *mut u32) -> qpl_status;
    init_job: qpl_init_job = unsafe extern "C" fn(qpl_path_t, *mut qpl_job) -> qpl_status;
    submit_job: qpl_submit_job = unsafe extern "C" fn(*mut qpl_job) -> qpl_status;
    check_job: qpl_check_job = unsafe extern "C" fn(*mut qpl_job) -> qpl_status;
    fini_job: qpl_fini_job = unsafe extern "C" fn(*mut qpl_job) -> qpl_status;
    get_library_version: qpl_get_library_version = unsafe extern "C" fn() -> *const c_char;
}

/// QPL, loaded. It is never unloaded.
#[derive(Clone)]
pub struct Library {
    path: PathBuf,
    version: Version,
    functions: Functions,
}

/// A version of QPL: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    fn parse(text: &str) -> Option<Version> {
        let mut numbers = text.trim().trim_start_matches('v').split('.').map(|number| number.parse().ok());
        let version = Version(numbers.next()??, numbers.next()??, numbers.next()??);
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version(major, minor, patch) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl Library {
    /// Loads the file that `ZFOLIO_QPL` names or, without the variable, `libqpl.so.1` or `libqpl.so`.
    ///
    /// # Errors
    /// When there is none, when it lacks a function, or when its major version is not 1.
    #[cfg(not(feature = "link"))]
    pub fn load() -> Result<Library, LoadError> {
        match std::env::var_os(VARIABLE) {
            Some(file) => Library::load_file(file),
            None => Library::load_first(&NAMES.map(CStr::to_owned)),
        }
    }

    /// The library that was linked.
    ///
    /// # Errors
    /// When its major version is not 1.
    #[cfg(feature = "link")]
    pub fn load() -> Result<Library, LoadError> {
        Library::of("libqpl (linked)", Functions::linked())
    }

    /// Loads this very file.
    #[cfg_attr(feature = "link", allow(dead_code, reason = "for the tests"))]
    fn load_file(file: OsString) -> Result<Library, LoadError> {
        // An empty variable, and a name with a zero in it, name no file.
        let name = CString::new(file.as_bytes()).ok().filter(|name| !name.is_empty());
        let reason = format!("{VARIABLE} is {file:?}, which names no file");
        Library::load_first(&[name.ok_or(LoadError::Missing { tried: vec![reason] })?])
    }

    #[cfg_attr(feature = "link", allow(dead_code, reason = "for the tests"))]
    fn load_first(names: &[CString]) -> Result<Library, LoadError> {
        let mut tried = Vec::new();
        for name in names {
            // SAFETY: QPL's initialisers make tables of its own; who names another file answers for it.
            match unsafe { Loaded::open(name) } {
                Ok(library) => {
                    let name = name.to_string_lossy();
                    // SAFETY: it was loaded as QPL.
                    let functions = unsafe { Functions::look_up(library) };
                    let functions = functions.map_err(|symbol| LoadError::MissingSymbol {
                        library: name.clone().into_owned(),
                        symbol,
                    })?;
                    return Library::of(&name, functions);
                }
                Err(reason) => tried.push(reason),
            }
        }
        Err(LoadError::Missing { tried })
    }

    fn of(name: &str, functions: Functions) -> Result<Library, LoadError> {
        let path = file_of(functions.init_job as usize).unwrap_or_else(|| name.into());
        // SAFETY: it gives a string that lives as long as the library.
        let found = unsafe { string((functions.get_library_version)()) };
        match Version::parse(&found) {
            Some(version) if version.0 == MAJOR => Ok(Library { path, version, functions }),
            _ => Err(LoadError::WrongVersion { library: path, found }),
        }
    }

    /// The file that was loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The bytes that a job of this path takes.
    ///
    /// # Errors
    /// QPL's status.
    pub fn job_size(&self, path: qpl_path_t) -> Result<usize, qpl_status> {
        let mut size = 0;
        // SAFETY: `size` receives the number.
        match unsafe { (self.functions.get_job_size)(path, &mut size) } {
            OK => Ok(size as usize),
            status => Err(status),
        }
    }

    /// Makes a job of this path in memory of at least its [size](Library::job_size). The first job of the hardware path
    /// in a process finds and opens the devices, and tries one of them without a time-out.
    ///
    /// # Safety
    /// `job` is that much memory, zeroed and aligned to 64, which is not moved until the job ends.
    pub unsafe fn init_job(&self, path: qpl_path_t, job: *mut qpl_job) -> qpl_status {
        // SAFETY: this function's contract.
        unsafe { (self.functions.init_job)(path, job) }
    }

    /// Submits a job.
    ///
    /// # Safety
    /// The job was made by [`init_job`](Library::init_job); from now until it has ended its memory and its output are the
    /// device's to write, its input the device's to read.
    pub unsafe fn submit_job(&self, job: *mut qpl_job) -> qpl_status {
        // SAFETY: this function's contract.
        unsafe { (self.functions.submit_job)(job) }
    }

    /// Whether a submitted job has ended, and how.
    ///
    /// # Safety
    /// The job was submitted.
    pub unsafe fn check_job(&self, job: *mut qpl_job) -> qpl_status {
        // SAFETY: this function's contract.
        unsafe { (self.functions.check_job)(job) }
    }

    /// Gives up a job that is not submitted.
    ///
    /// # Safety
    /// The job was made by [`init_job`](Library::init_job) and has ended.
    pub unsafe fn fini_job(&self, job: *mut qpl_job) -> qpl_status {
        // SAFETY: this function's contract.
        unsafe { (self.functions.fini_job)(job) }
    }
}

#[cfg(feature = "link")]
impl Functions {
    fn linked() -> Functions {
        Functions {
            get_job_size: bindings::qpl_get_job_size,
            init_job: bindings::qpl_init_job,
            submit_job: bindings::qpl_submit_job,
            check_job: bindings::qpl_check_job,
            fini_job: bindings::qpl_fini_job,
            get_library_version: bindings::qpl_get_library_version,
        }
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library")
            .field("path", &self.path)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Why QPL cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The dynamic loader does not find it, or cannot load it.
    Missing {
        /// The loader's words, for each name that was tried.
        tried: Vec<String>,
    },
    /// It was loaded, and lacks a function.
    MissingSymbol {
        /// What was loaded.
        library: String,
        /// The function.
        symbol: &'static str,
    },
    /// Its major version is another than 1, whose job is the only one known.
    WrongVersion {
        /// What was loaded.
        library: PathBuf,
        /// Its version, in its own words.
        found: String,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Missing { tried } => write!(
                f,
                "QPL cannot be loaded ({}); Debian (unstable) and Ubuntu have it in the package libqpl1, Fedora users \
                 build it as a shared library (-DQPL_LIBRARY_TYPE=SHARED) and name the file in {VARIABLE}",
                tried.join("; ")
            ),
            LoadError::MissingSymbol { library, symbol } => write!(
                f,
                "{library} has no function {symbol}: it is not QPL, or one before 1.6; newer ones are in Debian's and \
                 Ubuntu's package libqpl1, or {VARIABLE} names another file"
            ),
            LoadError::WrongVersion { library, found } => write!(
                f,
                "{} is QPL {found:?}; version {MAJOR} is needed, which {VARIABLE} can name (Debian and Ubuntu: libqpl1)",
                library.display()
            ),
        }
    }
}

impl std::error::Error for LoadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers() {
        assert_eq!(Version::parse("1.9.0"), Some(Version(1, 9, 0)));
        assert_eq!(Version::parse("v1.6.0\n"), Some(Version(1, 6, 0)));
        for garbage in ["", "1.9", "1.9.0.1", "one.two.three"] {
            assert_eq!(Version::parse(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn absence_and_a_library_that_is_none_are_two_errors_that_say_what_helps() {
        let error = Library::load_first(&[c"libqpl-of-no-machine.so".to_owned()]).unwrap_err();
        assert!(matches!(&error, LoadError::Missing { tried } if tried.len() == 1), "{error:?}");
        for help in ["libqpl1", "Fedora", VARIABLE] {
            assert!(error.to_string().contains(help), "{error}");
        }
        let error = Library::load_file("".into()).unwrap_err();
        assert!(error.to_string().contains("names no file"), "{error}");

        // Any library that is there and is no QPL.
        let error = Library::load_first(&[c"libc.so.6".to_owned()]).unwrap_err();
        let expected = LoadError::MissingSymbol { library: "libc.so.6".into(), symbol: "qpl_get_job_size" };
        assert_eq!(error, expected);
    }

    #[test]
    fn library_that_is_there_says_its_version_and_its_software_jobs_size() {
        match Library::load() {
            Ok(library) => {
                assert_eq!(library.version().0, MAJOR, "{library:?}");
                let size = library.job_size(crate::PATH_SOFTWARE).unwrap();
                assert!((240..16 << 20).contains(&size), "{size}");
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
