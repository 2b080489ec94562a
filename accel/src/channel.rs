//! What one thread uses at a time: an engine, with software behind it.
//!
//! A page that the engine fails is done again in software within the same call, so that a caller never sees a
//! device's error, only its count. What a channel says of a page is final.

use std::sync::Arc;

use zfolio_fallback::{Codec, Method};

use crate::fallbacks::Fallbacks;
use crate::{Compressed, Engine, EngineError, Job, Outcome, PageBytes, Software};

/// One thread's way to an engine. Borrowed from [`Channels`](crate::Channels) for the time of a call.
pub struct Channel {
    engine: Box<dyn Engine>,
    /// What does again what the engine failed; made at the first failure. `None` for good where the engine is
    /// software itself and a second try would only fail again.
    retry: Option<Retry>,
    fallbacks: Arc<Fallbacks>,
}

/// The software engine of a channel, made when it is first needed.
struct Retry {
    method: Method,
    software: Option<Box<Software>>,
}

impl Retry {
    fn software(&mut self) -> &mut Software {
        self.software.get_or_insert_with(|| Box::new(Software::new(self.method, 1)))
    }
}

impl Channel {
    /// A channel of the software engine.
    pub(crate) fn software(method: Method, window: usize, fallbacks: Arc<Fallbacks>) -> Channel {
        Channel { engine: Box::new(Software::new(method, window)), retry: None, fallbacks }
    }

    /// A channel of any other engine, whose failures are done again in software by `method`.
    pub(crate) fn new(engine: Box<dyn Engine>, method: Method, fallbacks: Arc<Fallbacks>) -> Channel {
        Channel { engine, retry: Some(Retry { method, software: None }), fallbacks }
    }

    /// The name of the engine.
    pub fn engine_name(&self) -> &'static str {
        self.engine.name()
    }

    /// The most pages in flight at once.
    pub fn window(&self) -> usize {
        self.engine.window()
    }

    /// Compresses the pages that `pages` yields. `sink` gets each page's index, counted from 0 in the order of
    /// `pages`, and what became of it, in order, while later pages are still in flight.
    ///
    /// `pages` may be asked for up to [`window`](Channel::window) pages before the first of them reaches `sink`;
    /// it ends the work early by yielding `None`. Should either panic, the panic passes through and the channel
    /// stays usable.
    pub fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(usize, Compressed<'_>),
    ) {
        let Channel { engine, retry, fallbacks } = self;
        let mut index = 0;
        engine.compress(pages, &mut |outcome| {
            match outcome {
                Outcome::Done(compressed) => sink(index, compressed),
                Outcome::Failed { page, error } => {
                    fallbacks.count(error);
                    let retry = retry.as_mut().expect("software never fails to compress");
                    sink(index, retry.software().compress_page(page));
                }
            }
            index += 1;
        });
    }

    /// Decompresses the jobs into their pages, checks each page's CRC-32, and sets each job's result.
    ///
    /// An error means that neither the engine nor software could make the page that was stored. The bytes of its
    /// page are then undefined.
    pub fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        if let [Some(job)] = jobs {
            let result = self.decompress_one(job.codec, job.bytes, job.crc, job.page);
            return job.finish(result.map(|()| job.crc));
        }
        self.engine.decompress(jobs);
        if let Some(retry) = &mut self.retry {
            for job in jobs.iter_mut().flatten() {
                if let Err(error) = job.result() {
                    self.fallbacks.count(error);
                    retry.software().decompress_job(job);
                }
            }
        }
    }

    /// The same of a single page.
    ///
    /// # Errors
    /// When neither the engine nor software could make the page that was stored. The bytes of `page` are then undefined.
    #[inline(always)]
    pub fn decompress_one(
        &mut self,
        codec: Codec,
        bytes: &[u8],
        crc: u32,
        page: &mut PageBytes,
    ) -> Result<(), EngineError> {
        match self.engine.decompress_one(codec, bytes, crc, page) {
            Ok(()) => Ok(()),
            Err(error) => self.decompress_again(error, codec, bytes, crc, page),
        }
    }

    #[cold]
    fn decompress_again(
        &mut self,
        error: EngineError,
        codec: Codec,
        bytes: &[u8],
        crc: u32,
        page: &mut PageBytes,
    ) -> Result<(), EngineError> {
        let Some(retry) = &mut self.retry else { return Err(error) };
        self.fallbacks.count(error);
        retry.software().decompress_one(codec, bytes, crc, page)
    }
}
