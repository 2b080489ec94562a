//! What a completion record means for a page.

use idxd_sys::aecs::Symbols;
use idxd_sys::{CompletionRecord, error_code, status};

use crate::{EngineError, PAGE_SIZE};

/// What became of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It made this many bytes; the CRC-32 is of the uncompressed page.
    Made { len: u32, crc: u32 },
    /// The page does not shrink.
    Incompressible,
    /// The device met a page that was not there.
    Fault { addr: u64, write: bool },
    /// It failed.
    Failed(EngineError),
}

/// The most bytes a page may be compressed to: one fewer than a page, so that a page that does not shrink fails early.
pub(crate) const MAX_COMPRESSED: u32 = PAGE_SIZE as u32 - 1;

/// Bytes that a page's counts take.
pub(crate) const COUNTS_SIZE: u32 = size_of::<Symbols>() as u32;

/// A status that is a success, but whose record cannot be true.
pub(crate) const UNTRUE: EngineError = EngineError::BadStatus(status::SUCCESS);

/// The verdict on a page that was to be compressed.
#[inline(always)]
pub(crate) fn of_compress(record: &CompletionRecord) -> Verdict {
    match (record.status, record.error_code) {
        (status::SUCCESS, _) => match record.output_size {
            len @ 1..=MAX_COMPRESSED => Verdict::Made { len, crc: record.crc },
            _ => Verdict::Failed(UNTRUE),
        },
        (status::ANALYTICS_ERROR, error_code::UNRECOVERABLE_OVERFLOW) => Verdict::Incompressible,
        _ => of_failure(record),
    }
}

/// The verdict on a page whose symbols were to be counted.
pub(crate) fn of_count(record: &CompletionRecord) -> Verdict {
    match record.status {
        status::SUCCESS if record.output_size == COUNTS_SIZE => {
            Verdict::Made { len: record.output_size, crc: record.crc }
        }
        status::SUCCESS => Verdict::Failed(UNTRUE),
        _ => of_failure(record),
    }
}

/// The verdict on bytes that were to be decompressed to a page.
#[inline(always)]
pub(crate) fn of_decompress(record: &CompletionRecord) -> Verdict {
    match record.status {
        status::SUCCESS if record.output_size == PAGE_SIZE as u32 => {
            Verdict::Made { len: record.output_size, crc: record.crc }
        }
        status::SUCCESS => Verdict::Failed(UNTRUE),
        _ => of_failure(record),
    }
}

/// The verdict on a page whose compressing had the verdict `made`, and whose stream was then decompressed to nothing
/// but a CRC. What is handed out is what compressing made, if the two agree on the page.
pub(crate) fn of_verify(record: &CompletionRecord, made: Verdict) -> Verdict {
    match (record.status, made) {
        (status::SUCCESS, Verdict::Made { crc, .. }) if crc == record.crc => made,
        (status::SUCCESS | status::ANALYTICS_ERROR, _) => Verdict::Failed(EngineError::CrcMismatch),
        _ => of_failure(record),
    }
}

#[cold]
fn of_failure(record: &CompletionRecord) -> Verdict {
    match record.status & status::MASK {
        status::PAGE_FAULT => {
            Verdict::Fault { addr: record.fault_addr, write: record.status & status::WRITE_FAULT != 0 }
        }
        status::ANALYTICS_ERROR => Verdict::Failed(EngineError::Analytics(record.error_code)),
        _ => Verdict::Failed(EngineError::BadStatus(record.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u8, error_code: u8, output_size: u32) -> CompletionRecord {
        CompletionRecord { status, error_code, output_size, crc: 7, ..CompletionRecord::default() }
    }

    #[test]
    fn lengths_that_cannot_be_are_failures() {
        assert_eq!(of_compress(&record(1, 0, 4095)), Verdict::Made { len: 4095, crc: 7 });
        for len in [0, 4096, u32::MAX] {
            assert_eq!(of_compress(&record(1, 0, len)), Verdict::Failed(UNTRUE), "{len}");
        }
        assert_eq!(of_count(&record(1, 0, 1280)), Verdict::Made { len: 1280, crc: 7 });
        assert_eq!(of_count(&record(1, 0, 1279)), Verdict::Failed(UNTRUE));
        assert_eq!(of_decompress(&record(1, 0, 4096)), Verdict::Made { len: 4096, crc: 7 });
        for len in [0, 4095, 4097] {
            assert_eq!(of_decompress(&record(1, 0, len)), Verdict::Failed(UNTRUE), "{len}");
        }
    }

    #[test]
    fn page_that_does_not_fit_is_incompressible_and_a_stream_that_does_not_is_an_error() {
        assert_eq!(of_compress(&record(0x0a, 25, 0)), Verdict::Incompressible);
        assert_eq!(of_decompress(&record(0x0a, 25, 0)), Verdict::Failed(EngineError::Analytics(25)));
        assert_eq!(of_decompress(&record(0x0b, 0, 4096)), Verdict::Failed(EngineError::BadStatus(0x0b)));
    }

    #[test]
    fn stream_that_does_not_decompress_to_the_page_is_a_mismatch() {
        let made = Verdict::Made { len: 9, crc: 7 };
        assert_eq!(of_verify(&record(1, 0, 0), made), made);
        let mismatch = Verdict::Failed(EngineError::CrcMismatch);
        assert_eq!(of_verify(&CompletionRecord { crc: 8, ..record(1, 0, 0) }, made), mismatch);
        assert_eq!(of_verify(&record(0x0a, 17, 0), made), mismatch);
        assert_eq!(of_verify(&record(0x24, 0, 0), made), Verdict::Failed(EngineError::BadStatus(0x24)));
    }

    #[test]
    fn faults_say_where_and_whether_by_a_write() {
        let fault = CompletionRecord { status: 0x83, fault_addr: 0x7000, ..CompletionRecord::default() };
        assert_eq!(of_compress(&fault), Verdict::Fault { addr: 0x7000, write: true });
        let fault = CompletionRecord { status: 0x03, ..fault };
        assert_eq!(
            of_verify(&fault, Verdict::Made { len: 9, crc: 7 }),
            Verdict::Fault { addr: 0x7000, write: false }
        );
    }
}
