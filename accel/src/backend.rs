//! Where pages are compressed, by name, and why a backend cannot be had.

use std::fmt;
use std::str::FromStr;

use zfolio_fallback::{Codec, Method};

/// Where pages are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// The best this machine has, and the reason is in [`Channels::report`](crate::Channels::report).
    #[default]
    Auto,
    /// Intel IAA, driven directly.
    Direct,
    /// The software model of the device, under the same code as the device. For tests: it is slower than software.
    #[cfg(any(test, feature = "model"))]
    Model,
    /// Intel IAA through Intel's QPL, which is loaded when it is asked for.
    Qpl,
    /// QPL's own software: for comparison.
    QplSoftware,
    /// The CPU.
    Software,
}

impl Backend {
    /// Every backend of this build.
    pub const ALL: &[Backend] = &[
        Backend::Auto,
        Backend::Direct,
        #[cfg(any(test, feature = "model"))]
        Backend::Model,
        Backend::Qpl,
        Backend::QplSoftware,
        Backend::Software,
    ];

    /// The name used on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Direct => "direct",
            #[cfg(any(test, feature = "model"))]
            Backend::Model => "model",
            Backend::Qpl => "qpl",
            Backend::QplSoftware => "qpl-software",
            Backend::Software => "software",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A backend name that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownBackend(String);

impl fmt::Display for UnknownBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown backend {:?}; known are:", self.0)?;
        for (index, backend) in Backend::ALL.iter().enumerate() {
            write!(f, "{} {backend}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownBackend {}

impl FromStr for Backend {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Backend, UnknownBackend> {
        Backend::ALL
            .iter()
            .copied()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| UnknownBackend(name.to_owned()))
    }
}

/// A backend that was asked for and cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendError {
    /// The window is not between 1 and [`MAX_WINDOW`](crate::MAX_WINDOW).
    Window(usize),
    /// No device can be used.
    Unavailable {
        /// The backend.
        backend: Backend,
        /// What was found instead.
        reason: String,
    },
    /// The backend does not compress by this method.
    Method {
        /// The backend.
        backend: Backend,
        /// The method.
        method: Method,
    },
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendError::Window(window) => {
                write!(f, "window of {window} pages in flight; it must be 1 to {}", crate::MAX_WINDOW)
            }
            BackendError::Unavailable { backend, reason } => write!(f, "backend {backend}: {reason}"),
            BackendError::Method { backend, method } => {
                write!(f, "backend {backend} compresses with {}, not with {method}", Codec::Deflate)
            }
        }
    }
}

impl std::error::Error for BackendError {}
