//! Intel IAA as software sees it: the layouts of descriptors, completion records and AECS areas, the numbers in
//! them, the instructions that submit, and (loaded at run time) libaccel-config.
//!
//! x86-64 Linux only; elsewhere the crate is empty.
//!
//! Layouts and numbers are those of the Linux UAPI header `linux/idxd.h` and of the drivers that use the device.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

pub mod accfg;
pub mod aecs;
mod completion;
mod descriptor;
pub mod dl;
pub mod error_code;
pub mod flags;
mod instructions;
pub mod opcode;
pub mod status;

pub use completion::CompletionRecord;
pub use descriptor::Descriptor;
pub use instructions::{Enqcmd, Movdir64b, Waitpkg, store_fence};
