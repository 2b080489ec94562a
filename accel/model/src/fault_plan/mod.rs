//! What goes wrong, when, and to whom: a list of rules and a seed.
//!
//! A rule is asked about each descriptor it can apply to, in order, and counts them; chance comes from the seed, the
//! rule's place and that count alone. So the same plan does the same to the same descriptors, whatever other rules
//! and clocks do.

mod arbitrary;
mod effects;
mod text;

use std::time::Duration;

pub(crate) use effects::{Effects, Refusal, Rules, Verdict};
pub use text::FaultPlanError;

use crate::device::QueueId;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Injection {
    /// The queue refuses the descriptor as if it were full. (On a dedicated queue: it is lost.)
    Full,
    /// Of a submission of several descriptors only those before this one are taken.
    Partial,
    /// The submission is not permitted.
    NotPermitted,
    /// The descriptor ends with a page fault, whose address lies in its source or destination; the same page has
    /// no further fault by this rule. A descriptor that blocks on faults is only late.
    PageFault {
        /// In the destination.
        write: bool,
    },
    /// As [`Injection::PageFault`], and the page faults for ever, also for descriptors that block.
    PageFaultAlways {
        /// In the destination.
        write: bool,
    },
    /// The descriptor is not executed, and ends with this status.
    Status(u8),
    /// The descriptor is not executed, and ends with an analytics error of this code.
    Error(u8),
    /// The record is never written, though the output is.
    Never,
    /// The descriptor is executed, and its record written, this much later.
    Late(Duration),
    /// One bit of the output is turned.
    FlipOutput,
    /// One bit of the CRC is turned.
    WrongCrc,
    /// The record claims more output than the destination has room for.
    OutputTooLarge,
    /// The record is written once more, this much later.
    Duplicate(Duration),
    /// The record's status is visible before the rest of it.
    StatusFirst,
    /// The descriptor takes this many times as long.
    Slow(u32),
    /// The device takes this much longer to translate addresses.
    IotlbMiss(Duration),
    /// The queue is disabled just after it took the descriptor, and what waits in it is lost.
    DisableQueue,
    /// The same for all queues of the device.
    DisableDevice,
}

/// When it goes wrong; descriptors are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// For each descriptor.
    Always,
    /// For the n-th.
    Nth(u64),
    /// For every n-th.
    Every(u64),
    /// For `count` in a row, the first of them the `first`-th.
    Burst {
        /// The first.
        first: u64,
        /// How many.
        count: u64,
    },
    /// For each with this chance, in millionths.
    Chance(u32),
}

/// One kind of fault, when and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What goes wrong.
    pub fault: Injection,
    /// When.
    pub when: When,
    /// Only descriptors of this opcode.
    pub opcode: Option<u8>,
    /// Only descriptors of this queue.
    pub queue: Option<QueueId>,
}

impl Rule {
    /// `fault` for any descriptor.
    pub const fn new(fault: Injection, when: When) -> Rule {
        Rule { fault, when, opcode: None, queue: None }
    }
}

/// A seed and rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Where chance comes from.
    pub seed: u64,
    /// What goes wrong. Of rules that end a descriptor differently the first one wins.
    pub rules: Vec<Rule>,
}

impl FaultPlan {
    /// Nothing goes wrong.
    pub const fn none() -> FaultPlan {
        FaultPlan { seed: 0, rules: Vec::new() }
    }

    /// These rules with this seed.
    pub fn new(seed: u64, rules: impl IntoIterator<Item = Rule>) -> FaultPlan {
        FaultPlan { seed, rules: rules.into_iter().collect() }
    }
}
