//! What compresses a page: the seam between the store and software or a device.
//!
//! Rules every engine keeps:
//!
//! - Compressing, it pulls pages from the caller's iterator while fewer than [`Engine::window`] are in flight, and
//!   calls the sink once for each one pulled, in the order of pulling. While the sink runs, the others stay in
//!   flight.
//! - Should the iterator or the sink panic, the panic passes through, and the engine is as good as new: whatever
//!   was in flight can no longer write to memory that anyone else reads.
//! - Decompressing, all jobs are known from the start, so they are a slice, and nobody else's code runs meanwhile.
//! - A failure leaves the page or job with the caller, so that it cannot be lost.

use std::fmt;

use zfolio_fallback::{Codec, DecodeError};

use crate::PageBytes;

/// The most pages any engine keeps in flight: the entries of one IAA device's work queues.
pub const MAX_WINDOW: usize = 128;

/// Compresses and decompresses pages, up to [`window`](Engine::window) of them in flight.
///
/// See the module's rules. A channel owns its engine, so an engine needs no locks of its own.
pub trait Engine: Send {
    /// The name used in reports: `software`, `direct`, `qpl`.
    fn name(&self) -> &'static str;

    /// The most pages in flight at once, 1 to [`MAX_WINDOW`].
    fn window(&self) -> usize;

    /// Compresses the pages that `pages` yields; the k-th call of `sink` is for the k-th page.
    fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(Outcome<'a, '_>),
    );

    /// Decompresses each job that is there into its page, submitted in the order of the slice, and sets its
    /// result by [`Job::finish`]. After an error the bytes of its page are undefined (but no one else's).
    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]);

    /// What [`decompress`](Engine::decompress) of a single job does, for engines that have a shorter way there: most
    /// loads are of one page.
    #[inline]
    fn decompress_one(
        &mut self,
        codec: Codec,
        bytes: &[u8],
        crc: u32,
        page: &mut PageBytes,
    ) -> Result<(), EngineError> {
        let mut jobs = [Some(Job::new(codec, bytes, crc, page))];
        self.decompress(&mut jobs);
        jobs[0].as_ref().map_or(Err(EngineError::NotDone), Job::result)
    }
}

/// What a page was made into.
#[derive(Debug)]
pub enum Compressed<'b> {
    /// It shrank.
    Bytes {
        /// The compressed bytes, valid until the sink returns; at least 1 and fewer than a page.
        bytes: &'b [u8],
        /// What they are encoded with.
        codec: Codec,
        /// CRC-32 (IEEE) of the uncompressed page.
        crc: u32,
    },
    /// It did not shrink below the size of a page.
    Incompressible {
        /// CRC-32 (IEEE) of the page.
        crc: u32,
    },
}

/// What became of one page that was to be compressed.
#[derive(Debug)]
pub enum Outcome<'a, 'b> {
    /// The engine did it.
    Done(Compressed<'b>),
    /// The engine could not do it; the page comes back.
    Failed {
        /// The page itself.
        page: &'a PageBytes,
        /// Why.
        error: EngineError,
    },
}

/// One page to be decompressed.
#[derive(Debug)]
pub struct Job<'a> {
    /// What `bytes` are encoded with.
    pub codec: Codec,
    /// The compressed bytes.
    pub bytes: &'a [u8],
    /// The CRC-32 (IEEE) that the page must have.
    pub crc: u32,
    /// Where the page goes.
    pub page: &'a mut PageBytes,
    result: Result<(), EngineError>,
}

impl<'a> Job<'a> {
    /// A job that is not done yet.
    #[inline]
    pub fn new(codec: Codec, bytes: &'a [u8], crc: u32, page: &'a mut PageBytes) -> Job<'a> {
        Job { codec, bytes, crc, page, result: Err(EngineError::NotDone) }
    }

    /// How it went: [`EngineError::NotDone`] until it is [finished](Job::finish).
    #[inline]
    pub fn result(&self) -> Result<(), EngineError> {
        self.result
    }

    /// Sets the result of a job: the engine failed it, or made a page of this CRC-32, which is checked here.
    #[inline]
    pub fn finish(&mut self, crc: Result<u32, EngineError>) {
        self.result = match crc {
            Ok(crc) if crc == self.crc => Ok(()),
            Ok(_) => Err(EngineError::CrcMismatch),
            Err(error) => Err(error),
        };
    }
}

/// Why an engine did not do a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineError {
    /// The device took no more descriptors until the deadline.
    Busy,
    /// The device met a page that was not there, and touching it did not help.
    PageFault,
    /// The completion did not come before the deadline.
    TimedOut,
    /// The device answered with this status, or with a success that cannot be.
    BadStatus(u8),
    /// The device answered with this [error code](idxd_sys::error_code): the bytes are no valid stream, or it cannot
    /// read them.
    Analytics(u8),
    /// The vendor's library answered with this status of its own.
    Library(u32),
    /// The compressed bytes are no valid stream of their codec, or not of a whole page.
    Decode(DecodeError),
    /// The page does not have the CRC-32 it was stored with.
    CrcMismatch,
    /// No work queue is there, or none works.
    NoQueue,
    /// This process is a child of the one that made the engine.
    Forked,
    /// The engine has not done it.
    NotDone,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Busy => f.write_str("work queue full until the deadline"),
            EngineError::PageFault => f.write_str("page fault in the device"),
            EngineError::TimedOut => f.write_str("no completion before the deadline"),
            EngineError::BadStatus(status) => write!(f, "device status {status:#04x}"),
            EngineError::Analytics(code) => write!(f, "device error code {code}"),
            EngineError::Library(status) => qpl_sys::status::Status(*status).fmt(f),
            EngineError::Decode(error) => write!(f, "cannot decompress: {error}"),
            EngineError::CrcMismatch => f.write_str("page does not have the CRC-32 it was stored with"),
            EngineError::NoQueue => f.write_str("no work queue works"),
            EngineError::Forked => {
                f.write_str("the engine is another process's, from which this one was forked")
            }
            EngineError::NotDone => f.write_str("not done by the engine"),
        }
    }
}

impl std::error::Error for EngineError {}
