//! The direct engine: pages to descriptors and records to pages, for one channel.

use std::mem::MaybeUninit;
use std::sync::Arc;

use super::Huffman;
use super::attached::Attached;
use super::copy::copy_page;
use super::counts::{DeviceCounts, Tally};
use super::queue_table::QueueTable;
use super::shape::Kind;
use super::status::Verdict;
use super::window::Window;
use crate::{
    Codec, Compressed, Engine, EngineError, Job, MAX_WINDOW, Outcome, PAGE_SIZE, PageBytes, Purpose, crc32,
};

/// How the results of a device are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// A page that is loaded must have the CRC-32 it was stored with, as the device computed both.
    #[default]
    Off,
    /// As [`Verify::Always`], for one page in this many.
    Sampled(u32),
    /// Each compressed page is decompressed again by the device, and the CRC-32 of that and the one of the
    /// page that the CPU computes must both be the one that the device gave. The CRC-32 of a decompressed page is
    /// computed by the CPU.
    Always,
}

/// Drives devices for one channel. Dropping it leaks the memory of retired ops, and counts that it did.
pub(crate) struct Direct {
    table: Arc<QueueTable>,
    attached: Attached,
    /// `None` if the kernel had no memory for it; then every page is failed.
    window: Option<Window>,
    most_in_flight: usize,
    /// Pages until the next one that is verified; 0 is now.
    until_verify: u32,
    counts: Tally,
}

impl Direct {
    /// An engine for channels of a package and a purpose, with up to `window` pages in flight.
    pub(crate) fn new(table: &Arc<QueueTable>, package: u16, purpose: Purpose, window: usize) -> Direct {
        let most_in_flight = window.clamp(1, MAX_WINDOW);
        let with_codes = purpose == Purpose::Store && table.config.huffman == Huffman::Dynamic;
        Direct {
            attached: Attached::new(table, package, purpose),
            window: Window::new(most_in_flight, with_codes, &table.guard).ok(),
            table: Arc::clone(table),
            most_in_flight,
            until_verify: 0,
            counts: Tally::new(&table.counters, &table.guard),
        }
    }

    /// What a call begins with, or why it cannot be.
    #[inline]
    fn begin(&mut self) -> Result<Flight<'_>, EngineError> {
        // First of all: a child has no op memory and no portal, and other threads' locks stay locked there.
        if self.table.guard.is_child() {
            self.table.counters.add(&mut DeviceCounts { forked: 1, ..DeviceCounts::default() });
            return Err(EngineError::Forked);
        }
        self.attached.refresh(&self.table, &mut self.counts);
        match &mut self.window {
            Some(window) if !window.is_exhausted() && !self.attached.ends.is_empty() => Ok(Flight {
                window,
                attached: &mut self.attached,
                counts: &mut self.counts,
                table: &self.table,
                most_in_flight: self.most_in_flight,
                until_verify: &mut self.until_verify,
            }),
            _ => Err(EngineError::NoQueue),
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        if self.table.guard.is_child() {
            return;
        }
        if self.window.as_ref().is_some_and(|window| window.retired() != 0) {
            self.counts.others().channels_leaked += 1;
        }
        self.counts.end(&self.table.counters, &self.table.guard);
    }
}

/// A call under way. Dropping it, also when the caller's code panics, waits until nothing is in flight any more or
/// retires it, and adds to the common counters.
struct Flight<'e> {
    window: &'e mut Window,
    attached: &'e mut Attached,
    counts: &'e mut Tally,
    table: &'e QueueTable,
    most_in_flight: usize,
    until_verify: &'e mut u32,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if self.window.len() != 0 {
            self.window.drain(self.attached, self.counts);
        }
        self.counts.flush(&self.table.counters);
    }
}

impl Flight<'_> {
    /// Whether another page may be begun.
    #[inline]
    fn has_room(&self) -> bool {
        self.window.len() < self.most_in_flight && !self.window.is_exhausted()
    }

    /// Whether the next page is to be verified.
    #[inline]
    fn next_is_verified(&mut self) -> bool {
        match self.table.config.verify {
            Verify::Off => false,
            Verify::Always => true,
            Verify::Sampled(one_in) => {
                let now = *self.until_verify == 0;
                *self.until_verify = if now { one_in.max(1) - 1 } else { *self.until_verify - 1 };
                now
            }
        }
    }

    /// What became of `page`, whose op is the oldest and done.
    #[inline]
    fn outcome<'a>(&mut self, page: &'a PageBytes) -> Outcome<'a, '_> {
        let (verdict, verified, output) = self.window.result();
        let error = match verdict {
            Verdict::Made { len, crc } => match output.get(..len as usize) {
                Some(bytes) if !verified || check(self.counts, crc, page) == crc => {
                    return Outcome::Done(Compressed::Bytes { bytes, codec: Codec::Deflate, crc });
                }
                _ => EngineError::CrcMismatch,
            },
            // The device gave up in the middle, so its CRC is not of the page.
            Verdict::Incompressible => {
                return Outcome::Done(Compressed::Incompressible { crc: crc32(page) });
            }
            Verdict::Fault { .. } => EngineError::PageFault,
            Verdict::Failed(error) => error,
        };
        Outcome::Failed { page, error }
    }

    /// Copies what the oldest op, which is done, has made to `page`; gives its CRC-32.
    ///
    /// The device does not write to the caller's page itself: an op that is late may write at any time, and the page
    /// is the caller's again by then.
    #[inline(always)]
    fn finish(&mut self, page: &mut PageBytes) -> Result<u32, EngineError> {
        let (verdict, verified, output) = self.window.result();
        match verdict {
            Verdict::Made { crc, .. } => {
                copy_page(page, output.as_array().ok_or(EngineError::NotDone)?);
                Ok(if verified { check(self.counts, crc, page) } else { crc })
            }
            Verdict::Failed(error) => Err(error),
            Verdict::Fault { .. } => Err(EngineError::PageFault),
            Verdict::Incompressible => Err(EngineError::NotDone),
        }
    }
}

impl Engine for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn window(&self) -> usize {
        self.most_in_flight
    }

    fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(Outcome<'a, '_>),
    ) {
        let mut flight = match self.begin() {
            Ok(flight) => flight,
            Err(error) => return fail_all(pages, sink, error),
        };
        // The pages in flight, each at the place of its op.
        let mut held = [MaybeUninit::<&'a PageBytes>::uninit(); MAX_WINDOW];
        let mut more = true;
        let first_step = flight.attached.first_step;
        // Several are begun at once where submitting costs by the call.
        let batch = flight.attached.batch.min(flight.most_in_flight.div_ceil(2));
        loop {
            while more && flight.has_room() {
                let Some(page) = pages.next() else {
                    more = false;
                    break;
                };
                held[flight.window.head_place()].write(page);
                let verify = flight.next_is_verified();
                flight.window.push(first_step, page.as_ptr(), PAGE_SIZE, verify);
                if batch == 1 {
                    flight.window.submit_pushed(flight.attached, flight.counts);
                }
            }
            flight.window.submit(flight.attached, flight.counts);
            if flight.window.len() == 0 {
                break;
            }
            let mut handed = 0;
            while handed == 0 || (handed < batch && flight.window.is_tail_done()) {
                flight.window.wait(flight.attached, flight.counts);
                // SAFETY: the op at the tail was pushed above, and its page written to its place then.
                let page = unsafe { held[flight.window.tail_place()].assume_init() };
                sink(flight.outcome(page));
                flight.window.pop();
                handed += 1;
            }
        }
        let exhausted = more.then_some(EngineError::NoQueue);
        drop(flight);
        if let Some(error) = exhausted {
            fail_all(pages, sink, error);
        }
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        let mut flight = match self.begin() {
            Ok(flight) => flight,
            Err(error) => {
                jobs.iter_mut().flatten().for_each(|job| job.finish(Err(error)));
                return;
            }
        };
        let batch = flight.attached.batch.min(flight.most_in_flight.div_ceil(2));
        // Jobs before `next` have been begun, jobs before `oldest` have their results.
        let (mut next, mut oldest) = (0, 0);
        loop {
            while next < jobs.len() && flight.has_room() {
                if let Some(job) = &jobs[next]
                    && is_readable(job.codec, job.bytes)
                {
                    let verify = flight.next_is_verified();
                    flight.window.push(Kind::Decompress, job.bytes.as_ptr(), job.bytes.len(), verify);
                    if batch == 1 {
                        flight.window.submit_pushed(flight.attached, flight.counts);
                    }
                }
                next += 1;
            }
            flight.window.submit(flight.attached, flight.counts);
            if flight.window.len() == 0 {
                break;
            }
            let mut handed = 0;
            while handed == 0 || (handed < batch && flight.window.is_tail_done()) {
                flight.window.wait(flight.attached, flight.counts);
                let job = loop {
                    let job = &mut jobs[oldest];
                    oldest += 1;
                    if let Some(job) = job
                        && is_readable(job.codec, job.bytes)
                    {
                        break job;
                    }
                };
                let made = flight.finish(job.page);
                job.finish(made);
                flight.window.pop();
                handed += 1;
            }
        }
        // Left over if the window became exhausted on the way.
        for job in jobs[next..].iter_mut().flatten().filter(|job| is_readable(job.codec, job.bytes)) {
            job.finish(Err(EngineError::NoQueue));
        }
    }

    fn decompress_one(
        &mut self,
        codec: Codec,
        bytes: &[u8],
        crc: u32,
        page: &mut PageBytes,
    ) -> Result<(), EngineError> {
        let mut flight = self.begin()?;
        if !is_readable(codec, bytes) {
            return Err(EngineError::NotDone);
        }
        let verify = flight.next_is_verified();
        flight.window.push(Kind::Decompress, bytes.as_ptr(), bytes.len(), verify);
        flight.window.submit_pushed(flight.attached, flight.counts);
        flight.window.wait(flight.attached, flight.counts);
        let made = flight.finish(page);
        flight.window.pop();
        if made? == crc { Ok(()) } else { Err(EngineError::CrcMismatch) }
    }
}

/// The page's CRC-32 by the CPU; counts it if the device's is another.
#[cold]
fn check(counts: &mut Tally, crc: u32, page: &PageBytes) -> u32 {
    let right = crc32(page);
    counts.others().verified += 1;
    counts.others().crc_mismatches += u64::from(crc != right);
    right
}

/// Whether the device reads the codec, and the bytes may be a stream at all. What it does not is left
/// [not done](EngineError::NotDone).
#[inline]
fn is_readable(codec: Codec, bytes: &[u8]) -> bool {
    codec == Codec::Deflate && (1..=PAGE_SIZE).contains(&bytes.len())
}

/// Fails all pages that are left.
#[cold]
fn fail_all<'a>(
    pages: &mut dyn Iterator<Item = &'a PageBytes>,
    sink: &mut dyn FnMut(Outcome<'a, '_>),
    error: EngineError,
) {
    for page in pages {
        sink(Outcome::Failed { page, error });
    }
}
