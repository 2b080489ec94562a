//! Whether a queue does anything at all: a no-op, with a deadline.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use idxd_sys::status;

use super::op::ProbeMemory;
use super::shape;
use super::{Portal, Refusal};

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probed {
    /// Well.
    Done,
    /// No completion before the deadline.
    Late,
    /// A completion, but not a good one.
    BadStatus(u8),
    /// The queue did not take it.
    Refused(Refusal),
}

impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probed::Done => f.write_str("a no-op completed"),
            Probed::Late => f.write_str("a no-op did not complete in time"),
            Probed::BadStatus(status) => write!(f, "a no-op ended with status {status:#04x}"),
            Probed::Refused(Refusal::Full) => f.write_str("it stays full"),
            Probed::Refused(Refusal::Disabled) => f.write_str("it is disabled, or its device is gone"),
            Probed::Refused(Refusal::Denied) => f.write_str("submission is not permitted"),
            Probed::Refused(Refusal::Failed(number)) => {
                write!(f, "submission fails: {}", io::Error::from_raw_os_error(*number))
            }
        }
    }
}

/// Submits a no-op that is answered at `memory`; `None` if it was taken.
pub(crate) fn send(portal: &mut dyn Portal, memory: &ProbeMemory) -> Option<Refusal> {
    let descriptors = [shape::noop(memory.send())];
    // SAFETY: a no-op reads nothing, and writes the record that `memory` keeps until there is an answer, or for ever.
    let submitted = unsafe { portal.submit(&descriptors) };
    if submitted.accepted == 1 {
        return None;
    }
    memory.answered();
    Some(submitted.refusal.unwrap_or(Refusal::Full))
}

/// The answer to a no-op that was sent, if it is there. Each answer is given to one caller.
pub(crate) fn answer(memory: &ProbeMemory) -> Option<Probed> {
    let answer = match memory.status().swap(status::RUNNING, Ordering::AcqRel) {
        status::RUNNING => return None,
        status::SUCCESS => Probed::Done,
        bad => Probed::BadStatus(bad),
    };
    memory.answered();
    Some(answer)
}

/// Has a queue do nothing, and waits for it, at most `timeout` of the portal's time.
pub(crate) fn noop(portal: &mut dyn Portal, memory: &ProbeMemory, timeout: Duration) -> Probed {
    let deadline = portal.now().saturating_add(timeout);
    while let Some(refusal) = send(portal, memory) {
        if refusal != Refusal::Full || portal.now() >= deadline {
            return Probed::Refused(refusal);
        }
        portal.pause(memory.status());
    }
    loop {
        if let Some(answer) = answer(memory) {
            return answer;
        }
        if portal.now() >= deadline {
            return Probed::Late;
        }
        portal.pause(memory.status());
    }
}
