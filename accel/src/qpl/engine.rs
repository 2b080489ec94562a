//! The engine of one channel: pages to jobs and jobs to pages.

use std::sync::Arc;

use zfolio_fallback::Codec;

use super::verdict::Verdict;
use super::window::Window;
use super::{Path, QplConfig};
use crate::direct::{Column, Counters};
use crate::{
    Compressed, Engine, EngineError, ForkGuard, Job, MAX_WINDOW, Outcome, PAGE_SIZE, PageBytes, crc32,
};

/// Drives QPL for one channel. Dropping it keeps its counts.
pub(crate) struct Qpl {
    path: Path,
    /// `None` if there was no memory for it, or QPL made no jobs; then every page is failed.
    window: Option<Window>,
    most_in_flight: usize,
    counters: Arc<Counters>,
    under_way: Arc<Column>,
    guard: Arc<ForkGuard>,
}

impl Qpl {
    /// An engine with its window of jobs.
    pub(crate) fn new(config: QplConfig, counters: &Arc<Counters>) -> Qpl {
        let most_in_flight = config.window.clamp(1, MAX_WINDOW);
        let path = config.path;
        let guard = Arc::clone(&config.guard);
        let under_way = counters.under_way.column(&guard);
        let window = Window::new(QplConfig { window: most_in_flight, ..config }, Arc::clone(&under_way)).ok();
        Qpl { path, window, most_in_flight, counters: Arc::clone(counters), under_way, guard }
    }

    /// What a call begins with, or why it cannot be.
    fn begin(&mut self) -> Result<Flight<'_>, EngineError> {
        let window = self.window.as_mut().ok_or(EngineError::NoQueue)?;
        match window.unusable() {
            Some(error) => {
                window.end_call(&self.counters);
                Err(error)
            }
            None => Ok(Flight { window, counters: &self.counters }),
        }
    }
}

impl Drop for Qpl {
    fn drop(&mut self) {
        self.counters.under_way.fold(&self.under_way, &self.guard);
    }
}

/// A call under way. Dropping it, also when the caller's code panics, waits until nothing is in flight.
struct Flight<'e> {
    window: &'e mut Window,
    counters: &'e Counters,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.window.end_call(self.counters);
    }
}

impl Engine for Qpl {
    fn name(&self) -> &'static str {
        self.path.engine_name()
    }

    fn window(&self) -> usize {
        self.most_in_flight
    }

    fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(Outcome<'a, '_>),
    ) {
        let flight = match self.begin() {
            Ok(flight) => flight,
            Err(error) => return pages.for_each(|page| sink(Outcome::Failed { page, error })),
        };
        // The pages in flight, in a ring.
        let mut held = [None; MAX_WINDOW];
        let (mut next, mut oldest) = (0usize, 0usize);
        let mut more = true;
        loop {
            while more && flight.window.has_room() {
                let Some(page) = pages.next() else {
                    more = false;
                    break;
                };
                held[next % MAX_WINDOW] = Some(page);
                next += 1;
                flight.window.compress(page);
            }
            if flight.window.len() == 0 {
                if !more {
                    return;
                }
                if let Some(error) = flight.window.unusable() {
                    match pages.next() {
                        Some(page) => sink(Outcome::Failed { page, error }),
                        None => return,
                    }
                }
                continue;
            }
            let verdict = flight.window.wait();
            let page = held[oldest % MAX_WINDOW].expect("each job in flight has its page");
            oldest += 1;
            sink(match verdict {
                Verdict::Made { len, crc } => match flight.window.crc_of(crc, page) {
                    Ok(crc) => {
                        let bytes = flight.window.output(len);
                        Outcome::Done(Compressed::Bytes { bytes, codec: Codec::Deflate, crc })
                    }
                    Err(error) => Outcome::Failed { page, error },
                },
                // The device gave up in the middle, so its CRC is not of the page.
                Verdict::Incompressible => Outcome::Done(Compressed::Incompressible { crc: crc32(page) }),
                Verdict::Fault => Outcome::Failed { page, error: EngineError::PageFault },
                Verdict::Failed(error) => Outcome::Failed { page, error },
            });
            flight.window.take();
        }
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        let flight = match self.begin() {
            Ok(flight) => flight,
            Err(error) => return jobs.iter_mut().flatten().for_each(|job| job.finish(Err(error))),
        };
        // Jobs before `next` have been begun, jobs before `oldest` have their results.
        let (mut next, mut oldest) = (0, 0);
        loop {
            while next < jobs.len() && flight.window.has_room() {
                if let Some(job) = &jobs[next]
                    && is_readable(job)
                {
                    flight.window.decompress(job.bytes);
                }
                next += 1;
            }
            if flight.window.len() == 0 {
                if next == jobs.len() {
                    return;
                }
                if let Some(error) = flight.window.unusable() {
                    let rest = jobs[next..].iter_mut().flatten();
                    rest.filter(|job| is_readable(job)).for_each(|job| job.finish(Err(error)));
                    return;
                }
                continue;
            }
            let verdict = flight.window.wait();
            let job = loop {
                let job = &mut jobs[oldest];
                oldest += 1;
                if let Some(job) = job
                    && is_readable(job)
                {
                    break job;
                }
            };
            let result = match verdict {
                Verdict::Made { len, crc } => {
                    job.page.copy_from_slice(flight.window.output(len));
                    flight.window.crc_of(crc, job.page)
                }
                Verdict::Incompressible => Err(EngineError::NotDone),
                Verdict::Fault => Err(EngineError::PageFault),
                Verdict::Failed(error) => Err(error),
            };
            job.finish(result);
            flight.window.take();
        }
    }
}

/// Whether QPL reads the codec of a job, and its bytes may be a stream at all.
fn is_readable(job: &Job<'_>) -> bool {
    job.codec == Codec::Deflate && (1..=PAGE_SIZE).contains(&job.bytes.len())
}
