//! Why an operation ended before its end.

use idxd_sys::{CompletionRecord, status};

use crate::memory::Fault;

/// What a completion record says when it does not say success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A page was not there.
    Fault(Fault),
    /// A page was not there after a page request either.
    PageRequest(Fault),
    /// The descriptor is not one: a status, and the flags that are wrong.
    Invalid(u8, u32),
    /// The data or the state is not what it should be: an analytics error code.
    Error(u8),
}

impl Stop {
    /// The record that says so.
    pub(crate) fn record(self) -> CompletionRecord {
        let none = CompletionRecord::default();
        match self {
            Stop::Fault(Fault { addr, write }) => CompletionRecord {
                status: status::PAGE_FAULT | if write { status::WRITE_FAULT } else { 0 },
                fault_addr: addr,
                ..none
            },
            Stop::PageRequest(Fault { addr, write }) => CompletionRecord {
                status: status::PAGE_REQUEST_INVALID | if write { status::WRITE_FAULT } else { 0 },
                fault_addr: addr,
                ..none
            },
            Stop::Invalid(status, invalid_flags) => CompletionRecord { status, invalid_flags, ..none },
            Stop::Error(error_code) => {
                CompletionRecord { status: status::ANALYTICS_ERROR, error_code, ..none }
            }
        }
    }
}
