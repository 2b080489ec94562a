//! What QPL's status means for a page.

use idxd_sys::error_code;
use qpl_sys::status::{self, Status};

use crate::{EngineError, PAGE_SIZE};

/// What became of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It made this many bytes; the CRC-32 is of the uncompressed page.
    Made { len: u32, crc: u32 },
    /// The page does not shrink.
    Incompressible,
    /// The device met a page that was not there.
    Fault,
    /// It failed.
    Failed(EngineError),
}

/// The most bytes a page may be compressed to.
pub(super) const MAX_COMPRESSED: u32 = PAGE_SIZE as u32 - 1;

/// Whether a compressed page of `len` bytes, or a decompressed one, can be what was asked for.
pub(super) fn of(compress: bool, ended: u32, (len, crc): (u32, u32)) -> Verdict {
    let fits = match compress {
        true => (1..=MAX_COMPRESSED).contains(&len),
        false => len == PAGE_SIZE as u32,
    };
    match ended {
        status::OK if fits => Verdict::Made { len, crc },
        status::OK => Verdict::Failed(EngineError::BadStatus(idxd_sys::status::SUCCESS)),
        status::MORE_OUTPUT_NEEDED | status::DST_IS_SHORT if compress => Verdict::Incompressible,
        bad if Status(bad).is_page_fault() => Verdict::Fault,
        bad => Verdict::Failed(error_of(bad)),
    }
}

/// The engine's error for a status that is none of the good ones.
pub(super) fn error_of(status: u32) -> EngineError {
    match (status, Status(status).error_code(), Status(status).completion_status()) {
        (status::QUEUES_ARE_BUSY, ..) => EngineError::Busy,
        (status::MORE_OUTPUT_NEEDED, ..) => EngineError::Analytics(error_code::UNRECOVERABLE_OVERFLOW),
        (_, Some(code), _) => EngineError::Analytics(code),
        (_, _, Some(code)) => EngineError::BadStatus(code),
        // The library's own statuses: the device had no part in them.
        _ => EngineError::Library(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_that_does_not_fit_is_incompressible_and_a_stream_that_does_not_is_an_error() {
        assert_eq!(of(true, status::DST_IS_SHORT, (0, 0)), Verdict::Incompressible);
        assert_eq!(of(true, status::MORE_OUTPUT_NEEDED, (4095, 0)), Verdict::Incompressible);
        let overflow = Verdict::Failed(EngineError::Analytics(error_code::UNRECOVERABLE_OVERFLOW));
        assert_eq!(of(false, status::MORE_OUTPUT_NEEDED, (4096, 0)), overflow);
    }

    #[test]
    fn lengths_that_cannot_be_are_failures() {
        assert_eq!(of(true, status::OK, (4095, 7)), Verdict::Made { len: 4095, crc: 7 });
        assert_eq!(of(false, status::OK, (4096, 7)), Verdict::Made { len: 4096, crc: 7 });
        for (compress, len) in [(true, 0), (true, 4096), (false, 4095), (false, 0)] {
            assert!(matches!(of(compress, status::OK, (len, 7)), Verdict::Failed(_)), "{len}");
        }
    }

    #[test]
    fn page_faults_of_reads_and_writes_are_told_from_errors() {
        assert_eq!(of(true, 303, (0, 0)), Verdict::Fault);
        assert_eq!(of(false, 431, (0, 0)), Verdict::Fault);
        assert_eq!(of(false, 217, (0, 0)), Verdict::Failed(EngineError::Analytics(17)));
        assert_eq!(of(true, 503, (0, 0)), Verdict::Failed(EngineError::Library(503)));
    }
}
