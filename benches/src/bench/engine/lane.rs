//! One engine to measure: its channels, its devices, and what its passes took.

use std::sync::Arc;
use std::time::Duration;

use iaa_model::{Model, Summary, thread_time};
use zfolio_accel::direct::UnderWay;
use zfolio_accel::{
    Channels, Codec, Compressed, FallbackCounts, Job, Method, PAGE_SIZE, Page, PageBytes, Purpose, Topology,
    crc32,
};
use zfolio_fallback::{Codecs, max_compressed_len};

use super::super::device::{self, BackendChoice};
use super::{EngineArgs, Op};

/// Pages compared at once, outside the timed part.
const CHUNK_PAGES: usize = 64;

/// The pages and, for decompressing, what software has made of them.
pub(crate) struct Prepared {
    pub(crate) op: Op,
    pub(crate) pages: Vec<PageBytes>,
    /// By page; empty for pages that do not shrink.
    streams: Vec<Vec<u8>>,
    crcs: Vec<u32>,
}

impl Prepared {
    /// The pages; for decompressing only those that shrink, because others are kept as they are.
    pub(crate) fn new(op: Op, mut pages: Vec<PageBytes>) -> Result<Self, String> {
        let mut codecs = Codecs::new();
        let mut streams = Vec::new();
        if op == Op::Decompress {
            let mut room = vec![0; max_compressed_len(PAGE_SIZE)];
            pages.retain(|page| match codecs.compress(Codec::Deflate, page, &mut room) {
                Some(len) if len < PAGE_SIZE => {
                    streams.push(room[..len].to_vec());
                    true
                }
                _ => false,
            });
        }
        if pages.is_empty() {
            return Err("the corpus has no page that an engine would be given".to_owned());
        }
        let crcs = pages.iter().map(|page| crc32(page)).collect();
        Ok(Self { op, pages, streams, crcs })
    }
}

/// One engine with one window.
pub(crate) struct Lane {
    pub(crate) backend: BackendChoice,
    pub(crate) window: usize,
    pub(crate) channels: Channels,
    pub(crate) model: Option<Arc<Model>>,
    /// Nanoseconds a page of each round that counts.
    pub(crate) times: Vec<f64>,
    /// Answers that were not the page's.
    pub(crate) wrong: u64,
    /// Bytes that pages of a pass shrank to.
    pub(crate) compressed_bytes: u64,
    /// After the first round.
    before: Option<Counted>,
    room: Vec<u8>,
    results: Vec<Made>,
    buffers: Vec<Page>,
    codecs: Codecs,
}

/// All that is counted, as it stands.
struct Counted {
    modelled: Summary,
    fallbacks: FallbackCounts,
    under_way: UnderWay,
}

/// What became of a page, copied out.
struct Made {
    /// `None`: it does not shrink.
    len: Option<usize>,
    codec: Codec,
    crc: u32,
}

impl Lane {
    /// The backend in use, which auto has chosen.
    pub(crate) fn name(&self) -> &str {
        self.channels.report().split([' ', ':', '(']).next().unwrap_or_default()
    }

    pub(crate) fn open(
        args: &EngineArgs,
        backend: BackendChoice,
        window: usize,
        topology: &Topology,
    ) -> Result<Self, String> {
        let model = args.device.model(backend);
        let method = Some(Method::Deflate);
        let channels = device::channels(backend, method, window, topology, model.as_ref())?;
        Ok(Self {
            backend,
            window,
            channels,
            model,
            times: Vec::new(),
            wrong: 0,
            compressed_bytes: 0,
            before: None,
            room: vec![0; CHUNK_PAGES.max(args.folio.pages() as usize) * PAGE_SIZE],
            results: Vec::new(),
            buffers: Page::zeroed_vec(CHUNK_PAGES.max(args.folio.pages() as usize)),
            codecs: Codecs::new(),
        })
    }

    /// Passes all pages once, `call` of them at a time.
    pub(crate) fn pass(&mut self, call: usize, prepared: &Prepared, counts: bool) {
        if counts && self.before.is_none() {
            self.before = Some(self.counted());
        }
        self.compressed_bytes = 0;
        let chunk = CHUNK_PAGES.max(call);
        let mut time = Duration::ZERO;
        for first in (0..prepared.pages.len()).step_by(chunk) {
            let range = first..(first + chunk).min(prepared.pages.len());
            time += match prepared.op {
                Op::Compress => self.compress(&prepared.pages[range], call),
                Op::Decompress => self.decompress(prepared, range, call),
            };
        }
        if counts {
            self.times.push(time.as_nanos() as f64 / prepared.pages.len() as f64);
        }
    }

    fn compress(&mut self, pages: &[PageBytes], call: usize) -> Duration {
        let Self { channels, room, results, .. } = self;
        results.clear();
        let start = thread_time();
        for folio in pages.chunks(call) {
            channels.with(Purpose::Store, |channel| {
                channel.compress(&mut folio.iter(), &mut |_, compressed| {
                    let place = results.len() * PAGE_SIZE;
                    results.push(match compressed {
                        Compressed::Bytes { bytes, codec, crc } => {
                            room[place..place + bytes.len()].copy_from_slice(bytes);
                            Made { len: Some(bytes.len()), codec, crc }
                        }
                        Compressed::Incompressible { crc } => Made { len: None, codec: Codec::Deflate, crc },
                    });
                })
            });
        }
        let time = thread_time() - start;
        self.check(pages);
        time
    }

    /// Whether software reads each result as the page it was, and the CRC is the page's.
    fn check(&mut self, pages: &[PageBytes]) {
        self.wrong += (pages.len().abs_diff(self.results.len())) as u64;
        let mut page = [0; PAGE_SIZE];
        for (k, (made, expected)) in self.results.iter().zip(pages).enumerate() {
            let bytes = &self.room[k * PAGE_SIZE..][..made.len.unwrap_or(0)];
            let same = made.len.is_none()
                || self.codecs.decompress(made.codec, bytes, &mut page).is_ok() && page == *expected;
            self.wrong += u64::from(!same || made.crc != crc32(expected));
            self.compressed_bytes += made.len.unwrap_or(PAGE_SIZE) as u64;
        }
    }

    fn decompress(&mut self, prepared: &Prepared, range: std::ops::Range<usize>, call: usize) -> Duration {
        let Self { channels, buffers, wrong, compressed_bytes, .. } = self;
        buffers.iter_mut().for_each(|page| page.fill(0xee));
        let mut jobs: Vec<Option<Job<'_>>> = (prepared.streams[range.clone()].iter())
            .zip(&prepared.crcs[range.clone()])
            .zip(buffers.iter_mut())
            .map(|((stream, crc), page)| Some(Job::new(Codec::Deflate, stream, *crc, page)))
            .collect();
        let start = thread_time();
        for jobs in jobs.chunks_mut(call) {
            channels.with(Purpose::Load, |channel| channel.decompress(jobs));
        }
        let time = thread_time() - start;
        let failed = jobs.iter().flatten().filter(|job| job.result().is_err()).count();
        *wrong += failed as u64;
        drop(jobs);
        let differ =
            buffers.iter().zip(&prepared.pages[range.clone()]).filter(|(got, page)| ***got != **page).count();
        *wrong += differ as u64;
        *compressed_bytes += prepared.streams[range].iter().map(|stream| stream.len() as u64).sum::<u64>();
        time
    }

    fn counted(&self) -> Counted {
        Counted {
            modelled: self.model.as_ref().map(|model| model.summary()).unwrap_or_default(),
            fallbacks: self.channels.fallbacks(),
            under_way: self.channels.under_way(),
        }
    }

    /// What the rounds that count have added.
    pub(crate) fn counts(&self) -> LaneCounts {
        let Counted { modelled, fallbacks, mut under_way } = self.counted();
        let Summary { mut in_flight, mut queue_full, mut worked_out, .. } = modelled;
        let mut software_pages = total(fallbacks);
        if let Some(Counted { modelled, fallbacks, under_way: under_way_before }) = &self.before {
            in_flight.iter_mut().zip(modelled.in_flight).for_each(|(now, before)| *now -= before);
            under_way.iter_mut().zip(under_way_before).for_each(|(now, before)| *now -= before);
            queue_full -= modelled.queue_full;
            worked_out -= modelled.worked_out;
            software_pages -= total(*fallbacks);
        }
        LaneCounts { in_flight, under_way, queue_full, worked_out, software_pages }
    }
}

/// Pages done in software, for whatever reason.
fn total(counts: FallbackCounts) -> u64 {
    let FallbackCounts { busy, page_fault, timed_out, bad_status, decode, crc_mismatch, no_queue, .. } =
        counts;
    busy + page_fault
        + timed_out
        + bad_status
        + decode
        + crc_mismatch
        + no_queue
        + counts.forked
        + counts.not_done
}

/// What happened beside the time.
pub(crate) struct LaneCounts {
    /// In the modelled devices.
    pub(crate) in_flight: [u64; Summary::IN_FLIGHT],
    /// In the channel.
    pub(crate) under_way: UnderWay,
    pub(crate) queue_full: u64,
    pub(crate) worked_out: u64,
    pub(crate) software_pages: u64,
}

impl LaneCounts {
    /// How many pages were under way when a descriptor was taken, on average; `None` where nothing takes any.
    pub(crate) fn effective_window(&self) -> Option<f64> {
        let taken: u64 = self.under_way.iter().sum();
        let sum: u64 = self.under_way.iter().enumerate().map(|(deep, count)| deep as u64 * count).sum();
        (taken != 0).then(|| sum as f64 / taken as f64)
    }
}
