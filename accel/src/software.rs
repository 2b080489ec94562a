//! The software engine: `fallback` behind the seam of the devices.
//!
//! A page is done by the time it has been pulled, so at most one is in flight, whatever the window; the window
//! is accepted all the same, so that callers need not know which engine they have.

use zfolio_fallback::{Codec, Codecs, Method, max_compressed_len};

use crate::page::crc32;
use crate::prefetch::prefetch;
use crate::{Compressed, Engine, EngineError, Job, MAX_WINDOW, Outcome, PAGE_SIZE, PageBytes};

/// Compresses by one method, decompresses any codec.
pub struct Software {
    method: Method,
    window: usize,
    codecs: Codecs,
    /// One compressed page; never read past what the last call wrote.
    scratch: Box<[u8]>,
}

impl Software {
    /// An engine that compresses by `method`; `window` is clamped to 1..=[`MAX_WINDOW`].
    pub fn new(method: impl Into<Method>, window: usize) -> Software {
        Software {
            method: method.into(),
            window: window.clamp(1, MAX_WINDOW),
            codecs: Codecs::new(),
            scratch: vec![0; max_compressed_len(PAGE_SIZE)].into_boxed_slice(),
        }
    }

    /// Compresses one page.
    #[inline(always)]
    pub(crate) fn compress_page(&mut self, page: &PageBytes) -> Compressed<'_> {
        let method = self.method.for_page(page);
        let compressed = self.codecs.compress(method, page, &mut self.scratch);
        // After the codec, which has brought the page into the cache.
        let crc = crc32(page);
        match compressed {
            Some(len) if len < PAGE_SIZE => {
                Compressed::Bytes { bytes: &self.scratch[..len], codec: method.codec(), crc }
            }
            _ => Compressed::Incompressible { crc },
        }
    }

    /// Decompresses one job into its page.
    pub(crate) fn decompress_job(&mut self, job: &mut Job<'_>) {
        let decoded = self.codecs.decompress(job.codec, job.bytes, job.page);
        job.finish(decoded.map(|()| crc32(job.page)).map_err(EngineError::Decode));
    }
}

impl Engine for Software {
    fn name(&self) -> &'static str {
        "software"
    }

    fn window(&self) -> usize {
        self.window
    }

    fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(Outcome<'a, '_>),
    ) {
        for page in pages {
            sink(Outcome::Done(self.compress_page(page)));
        }
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        if let Some(Some(first)) = jobs.first() {
            prefetch(first.bytes);
        }
        for index in 0..jobs.len() {
            // The next page's bytes come while this one's are decoded.
            if let Some(Some(next)) = jobs.get(index + 1) {
                prefetch(next.bytes);
            }
            if let Some(job) = &mut jobs[index] {
                self.decompress_job(job);
            }
        }
    }

    fn decompress_one(
        &mut self,
        codec: Codec,
        bytes: &[u8],
        crc: u32,
        page: &mut PageBytes,
    ) -> Result<(), EngineError> {
        prefetch(bytes);
        self.codecs.decompress(codec, bytes, page).map_err(EngineError::Decode)?;
        if crc32(page) == crc { Ok(()) } else { Err(EngineError::CrcMismatch) }
    }
}
