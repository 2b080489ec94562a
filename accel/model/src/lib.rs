//! Intel IAA in software, as strict as the device.
//!
//! [`execute`] is the device without time: a descriptor and memory in, a completion record out; no threads, no I/O.
//! Memory is reached through [`Memory`], so that the same code serves this process, another one, and made-up faults.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![deny(unsafe_code)]

mod capabilities;
mod execute;
mod memory;

pub use capabilities::Capabilities;
pub use execute::execute;
pub use memory::{Fault, Memory, OtherProcess};
