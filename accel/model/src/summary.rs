//! What a model has done, in numbers: for tests, and for the end of `zfolio emulate`.

use std::collections::BTreeMap;
use std::fmt;

use idxd_sys::{opcode, status};

use crate::SoftwareError;
use crate::fault_plan::FaultPlan;

/// Counts since the model was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Descriptors by opcode, status and error code, counted when their records were due.
    pub completed: BTreeMap<(u8, u8, u8), u64>,
    /// Descriptors that were taken.
    pub taken: u64,
    /// Submissions that met a full queue.
    pub queue_full: u64,
    /// Submissions that were not permitted.
    pub not_permitted: u64,
    /// Submissions to a disabled queue.
    pub disabled: u64,
    /// Descriptors that went down with their queue.
    pub abandoned: u64,
    /// Errors with no record to be told in, and the first of them, which is what a device latches.
    pub software_errors: u64,
    /// See `software_errors`.
    pub software_error: Option<SoftwareError>,
    /// The fault plan, and how often each of its rules struck.
    pub faults: FaultPlan,
    /// See `faults`.
    pub struck: Vec<u64>,
    /// On the replay clock: answers that were not known from before. Times are true where this stands still.
    pub worked_out: u64,
    /// How many descriptors were in the devices when one was taken, itself counted: a count for each number, and the
    /// last one for all above.
    pub in_flight: [u64; Summary::IN_FLIGHT],
}

impl Default for Summary {
    fn default() -> Summary {
        Summary {
            completed: BTreeMap::new(),
            taken: 0,
            queue_full: 0,
            not_permitted: 0,
            disabled: 0,
            abandoned: 0,
            software_errors: 0,
            software_error: None,
            faults: FaultPlan::none(),
            struck: Vec::new(),
            worked_out: 0,
            in_flight: [0; Summary::IN_FLIGHT],
        }
    }
}

impl Summary {
    /// Numbers of descriptors in flight that are told apart.
    pub const IN_FLIGHT: usize = 257;

    /// Descriptors of `opcode` that ended with `status`, whatever the error code.
    pub fn ended(&self, opcode: u8, status: u8) -> u64 {
        let range = (opcode, status, 0)..=(opcode, status, u8::MAX);
        self.completed.range(range).map(|(_, count)| count).sum()
    }

    /// How often any rule of the plan struck.
    pub fn faults_injected(&self) -> u64 {
        self.struck.iter().sum()
    }

    pub(crate) fn latch(&mut self, error: SoftwareError) {
        self.software_errors += 1;
        self.software_error.get_or_insert(error);
    }
}

fn opcode_name(code: u8) -> &'static str {
    match code {
        opcode::NOOP => "no-op",
        opcode::DRAIN => "drain",
        opcode::DECOMPRESS => "decompress",
        opcode::COMPRESS => "compress",
        opcode::CRC64 => "crc64",
        _ => "other",
    }
}

impl fmt::Display for Summary {
    /// A line for each kind of count that is not zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} descriptors taken", self.taken)?;
        for (&(code, ended, error), count) in &self.completed {
            write!(f, "  {} (opcode {code:#04x}), status {ended:#04x}", opcode_name(code))?;
            if ended == status::ANALYTICS_ERROR {
                write!(f, " error {error}")?;
            }
            writeln!(f, ": {count}")?;
        }
        for (what, count) in [
            ("queue-full answers", self.queue_full),
            ("submissions not permitted", self.not_permitted),
            ("submissions to a disabled queue", self.disabled),
            ("descriptors that went down with their queue", self.abandoned),
            ("software errors", self.software_errors),
        ] {
            if count != 0 {
                writeln!(f, "{count} {what}")?;
            }
        }
        if let Some(error) = self.software_error {
            writeln!(f, "  the first: {error}")?;
        }
        let faults = self.faults_injected();
        if !self.faults.rules.is_empty() {
            writeln!(f, "{faults} faults injected (seed {})", self.faults.seed)?;
            for (rule, struck) in self.faults.rules.iter().zip(&self.struck) {
                writeln!(f, "  {rule}: {struck}")?;
            }
        }
        Ok(())
    }
}
