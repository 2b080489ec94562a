//! What QPL's statuses mean.
//!
//! Statuses of 200 and more are an [error code](idxd_sys::error_code) of the device and 200; those of 300 and more its
//! [completion status](idxd_sys::status) and 300.

use std::fmt;

use idxd_sys::{error_code, status};

use crate::bindings::{self, qpl_status};

/// It is done.
pub const OK: qpl_status = bindings::QPL_STS_OK;
/// The device still works at it.
pub const BEING_PROCESSED: qpl_status = bindings::QPL_STS_BEING_PROCESSED;
/// The output is full.
pub const MORE_OUTPUT_NEEDED: qpl_status = bindings::QPL_STS_MORE_OUTPUT_NEEDED;
/// No queue took it.
pub const QUEUES_ARE_BUSY: qpl_status = bindings::QPL_STS_QUEUES_ARE_BUSY_ERR;
/// The output was too small for the device to do it.
pub const DST_IS_SHORT: qpl_status = bindings::QPL_STS_DST_IS_SHORT_ERR;

const ANALYTICS: qpl_status = 200;
const COMPLETION: qpl_status = 300;

/// A status and, when it is printed, what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub qpl_status);

impl Status {
    /// The device's error code that it stands for.
    pub fn error_code(self) -> Option<u8> {
        let code = self.0.checked_sub(ANALYTICS)?;
        (1..=u32::from(error_code::TOO_MANY_D_CODES)).contains(&code).then_some(code as u8)
    }

    /// The device's completion status that it stands for, a fault of a write with its bit.
    pub fn completion_status(self) -> Option<u8> {
        let code = u8::try_from(self.0.checked_sub(COMPLETION)?).ok()?;
        // Beyond them, from 500 on, are the library's own.
        (1..0x40).contains(&(code & status::MASK)).then_some(code)
    }

    /// Whether the device met a page that was not there.
    pub fn is_page_fault(self) -> bool {
        self.completion_status().is_some_and(|code| code & status::MASK == status::PAGE_FAULT)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self.0 {
            0 => "done",
            1 => "the device still works at it",
            2 => "the output is full",
            3 => "the input ends in the middle of a stream",
            4 => "a job that ended cannot be continued",
            5 => "no work queue took the job: all are full, or this process may not use them",
            6 => "internal error",
            7 => "the job was not submitted",
            8 => "the work queue does not allow the operation (op_config)",
            50 => "a pointer is null",
            52 => "the operation is not supported",
            57 | 58 => "the size of a buffer is not supported",
            59 => "buffers overlap",
            87 => "the device does not have the compression level",
            500 => "the hardware is not supported",
            501 => "libaccel-config is not found, or too old for the device",
            502 => "libaccel-config failed",
            503 => "no enabled shared work queue on the requested node; zfolio doctor says why",
            _ => {
                return match (self.error_code(), self.completion_status()) {
                    (Some(code), _) => write!(f, "QPL status {}: the device's error code {code}", self.0),
                    (_, Some(_)) if self.is_page_fault() => {
                        write!(f, "QPL status {}: the device met a page that was not there", self.0)
                    }
                    (_, Some(code)) => write!(f, "QPL status {}: the device's status {code:#04x}", self.0),
                    _ => write!(f, "QPL status {}", self.0),
                };
            }
        };
        write!(f, "QPL status {}: {words}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_errors_and_statuses_are_told_from_the_librarys_own() {
        assert_eq!(Status(217).error_code(), Some(error_code::BAD_DISTANCE));
        assert_eq!(Status(DST_IS_SHORT).error_code(), Some(error_code::UNRECOVERABLE_OVERFLOW));
        assert!(Status(303).is_page_fault() && Status(431).is_page_fault());
        assert_eq!(Status(431).completion_status(), Some(0x83));
        assert_eq!(Status(503).completion_status(), None);
        assert!(!Status(503).is_page_fault() && !Status(5).is_page_fault());
        assert_eq!(Status(200).error_code(), None);
    }

    #[test]
    fn every_status_prints_its_number_and_known_ones_what_helps() {
        for number in (0..1000).chain([u32::MAX]) {
            assert!(Status(number).to_string().contains(&number.to_string()), "{number}");
        }
        assert!(Status(503).to_string().contains("zfolio doctor"));
    }
}
