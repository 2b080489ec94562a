//! Intel IAA as software sees it: the layouts of descriptors, completion records and AECS areas, the numbers in
//! them, the instructions that submit, and (loaded at run time) libaccel-config.
//!
//! Linux only; elsewhere the crate is empty. Where the CPU is no x86-64 there are no devices, and the instructions are
//! types without a value: what drives devices builds there, finds none, and can be tested on the model.
//!
//! Layouts and numbers are those of the Linux UAPI header `linux/idxd.h` and of the drivers that use the device.

#![cfg(target_os = "linux")]

pub mod accfg;
pub mod aecs;
mod completion;
mod descriptor;
pub mod dl;
pub mod error_code;
pub mod flags;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_instructions.rs")]
mod instructions;
pub mod opcode;
pub mod status;

pub use completion::CompletionRecord;
pub use descriptor::Descriptor;
pub use instructions::{Enqcmd, Movdir64b, Waitpkg, store_fence};
