//! Intel IAA in software, as strict as the device.
//!
//! [`execute()`] is the device without time: a descriptor and memory in, a completion record out; no threads, no I/O.
//! Memory is reached through [`Memory`], so that the same code serves this process, another one, and made-up faults.
//!
//! [`Model`] puts devices with queues and engines around it, with a clock and a plan of what goes wrong.

#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

mod capabilities;
pub mod check;
mod clock;
mod device;
mod execute;
mod fault_plan;
mod memory;
mod random;
mod replay;
mod session;
mod summary;
pub mod sysfs;
mod tally;
mod timing;

pub use capabilities::Capabilities;
pub use clock::{Clock, thread_stopped, thread_time};
pub use device::{
    Begun, Demand, DeviceConfig, Engines, Mode, Model, ModelConfig, QueueConfig, QueueId, SharedMemory,
    SoftwareError, Stop, Submitted,
};
pub use execute::execute;
pub use fault_plan::{FaultPlan, FaultPlanError, Injection, Rule, When};
pub use memory::{Fault, Memory, OtherProcess, ThisProcess};
pub use session::Session;
pub use summary::Summary;
pub use tally::Tally;
pub use timing::{Method, PAGE_REQUEST_TAIL_ONE_IN, Rate, Timing};
