//! libaccel-config, loaded at run time: Intel's own reader of the devices' configuration.
//!
//! zfolio does not need it: it reads sysfs itself. The library is here to be compared with (what it sees, QPL
//! sees), and its absence is a normal state.
//!
//! `bindings.rs` is made by bindgen from Debian 12's header of version 3.5.3; `ci/bindings.sh` makes it again and
//! compares. Symbols that came later are optional.

#[allow(
    dead_code,
    non_camel_case_types,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "made by bindgen"
)]
mod bindings;
mod library;

pub use library::{Device, Library, LoadError, WorkQueue};
