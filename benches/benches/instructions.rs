//! What callgrind counts: stores and loads with a codec that does nothing.
//!
//! `instructions store|load|read|load_batch|invalidate FOLIO_PAGES`: the calls to be counted are made in a function named
//! `measured_store`, `measured_load` and so on, for callgrind's `--toggle-collect`; see `ci/instructions.sh`. `store_phases`
//! is `store` with an engine that takes pages and hands results on in functions of their own (`phase_search`,
//! `phase_pool`), and works in another (`phase_engine`), so that they can be left out of the count; `store_zero`
//! is that of pages of zeros, which no engine sees. The codec makes 64 bytes of every page and checks nothing, so that neither compression nor CRC-32 is in the
//! count. The arena is warm. Prints how many pages the measured part handles.
//!
//! `instructions encode|decode METHOD` count a codec with its CRC-32 (`measured_encode`, `measured_decode`).
//! `instructions compress|decompress|decompress_one BATCH` count the direct engine alone (`measured_compress`,
//! `measured_decompress`; `measured_one` for pages one by one, as a store loads them), on a work queue whose device has
//! done everything by the time it has been asked to.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use idxd_sys::{CompletionRecord, Descriptor, opcode};
use zfolio::{Codec, Config, Folio, Limit, NodeId, PAGE_SIZE, PageBytes, SwapEntry, Zswap};
use zfolio_accel::direct::{Attachment, Portal, QueueInfo, Submitted};
use zfolio_accel::{
    Backend, Channel, Channels, ChannelsConfig, Compressed, Engine, EngineError, Job, Method, Outcome, Page,
    Purpose, Topology,
};

const PAGES: usize = 8192;
const OBJECT_LEN: usize = 64;

/// Keeps the first bytes of a page, and gives none of them back.
struct Nothing;

impl Engine for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn window(&self) -> usize {
        1
    }

    fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(Outcome<'a, '_>),
    ) {
        for page in pages {
            sink(Outcome::Done(Compressed::Bytes { bytes: &page[..OBJECT_LEN], codec: Codec::Lz4, crc: 0 }));
        }
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        for job in jobs.iter_mut().flatten() {
            assert_eq!(job.bytes.len(), OBJECT_LEN);
            job.finish(Ok(0));
        }
    }

    fn decompress_one(
        &mut self,
        _codec: Codec,
        bytes: &[u8],
        crc: u32,
        _page: &mut PageBytes,
    ) -> Result<(), EngineError> {
        assert_eq!(bytes.len(), OBJECT_LEN);
        if crc == 0 { Ok(()) } else { Err(EngineError::CrcMismatch) }
    }
}

/// The same, while it is counted, in functions that can be told apart.
struct Split;

/// Before this is set, nothing is to be counted.
static COUNTED: AtomicBool = AtomicBool::new(false);

#[inline(never)]
fn phase_search<'a>(pages: &mut dyn Iterator<Item = &'a PageBytes>) -> Option<&'a PageBytes> {
    pages.next()
}

#[inline(never)]
fn phase_pool<'a>(sink: &mut dyn FnMut(Outcome<'a, '_>), page: &PageBytes) {
    sink(Outcome::Done(Compressed::Bytes { bytes: &page[..OBJECT_LEN], codec: Codec::Lz4, crc: 0 }));
}

#[inline(never)]
fn phase_engine<'a>(pages: &mut dyn Iterator<Item = &'a PageBytes>, sink: &mut dyn FnMut(Outcome<'a, '_>)) {
    while let Some(page) = phase_search(pages) {
        phase_pool(sink, page);
    }
}

impl Engine for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn window(&self) -> usize {
        1
    }

    fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(Outcome<'a, '_>),
    ) {
        if COUNTED.load(Ordering::Relaxed) {
            phase_engine(pages, sink)
        } else {
            Nothing.compress(pages, sink)
        }
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        Nothing.decompress(jobs);
    }
}

/// A queue whose device takes no time and makes nothing.
struct Instant(u32);

// SAFETY: writes completion records of descriptors only, before the submission returns.
unsafe impl Portal for Instant {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        for descriptor in descriptors {
            let output_size = match descriptor.opcode() {
                opcode::COMPRESS => OBJECT_LEN as u32,
                _ => PAGE_SIZE as u32,
            };
            let record = CompletionRecord { output_size, ..CompletionRecord::default() };
            let at = descriptor.completion_addr as *mut CompletionRecord;
            // SAFETY: by the caller's word the record is there and nobody else's until its status is set.
            unsafe {
                at.write(record);
                AtomicU8::from_ptr(at.cast()).store(1, Ordering::Release);
            }
        }
        Submitted { accepted: descriptors.len(), refusal: None }
    }

    fn pause(&mut self, _status: &AtomicU8) {
        self.0 += 1;
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.into())
    }

    fn batch(&self) -> usize {
        1
    }
}

#[inline(never)]
fn measured_compress(
    channel: &mut Channel,
    pages: &[PageBytes],
    batch: usize,
    sink: &mut dyn FnMut(usize, Compressed<'_>),
) {
    for pages in pages.chunks(batch) {
        channel.compress(&mut pages.iter(), sink);
    }
}

#[inline(never)]
fn measured_decompress(channel: &mut Channel, jobs: &mut [Option<Job<'_>>], pages: usize) {
    for _ in 0..pages / jobs.len() {
        channel.decompress(jobs);
    }
}

#[inline(never)]
fn measured_one(channel: &mut Channel, bytes: &[u8], out: &mut PageBytes, pages: usize) {
    for _ in 0..pages {
        channel.decompress_one(Codec::Deflate, bytes, 0, out).expect("the device makes every page");
    }
}

/// Counts the direct engine alone; false if `what` is something else.
fn engine(what: &str, batch: usize, pages: &[PageBytes]) -> bool {
    let queue = QueueInfo { capacity: 128, ..QueueInfo::default() };
    let queues = vec![(queue, Attachment::new("nothing", || Box::new(Instant(0))))];
    let config = ChannelsConfig { window: 8, ..ChannelsConfig::default() };
    let channels = Channels::with_queues(queues, &config, &Topology::single_node()).expect("it answers");
    match what {
        "compress" => {
            let mut seen = 0;
            let mut sink = |_, outcome: Compressed<'_>| match outcome {
                Compressed::Bytes { bytes, .. } => seen += bytes.len(),
                Compressed::Incompressible { .. } => panic!("the device says that all pages shrink"),
            };
            channels.with(Purpose::Store, |channel| {
                // Once before it counts: queues are attached at the first call.
                channel.compress(&mut pages[..1].iter(), &mut sink);
                measured_compress(channel, pages, batch, &mut sink);
            });
            assert_eq!(seen, (pages.len() + 1) * OBJECT_LEN);
        }
        "decompress" => {
            let bytes = [1; OBJECT_LEN];
            let mut out = Page::zeroed_vec(batch);
            let mut jobs: Vec<_> =
                out.iter_mut().map(|page| Some(Job::new(Codec::Deflate, &bytes, 0, page))).collect();
            channels.with(Purpose::Load, |channel| {
                channel.decompress(&mut jobs);
                measured_decompress(channel, &mut jobs, pages.len());
            });
            assert!(jobs.iter().flatten().all(|job| job.result() == Ok(())));
        }
        "decompress_one" => channels.with(Purpose::Load, |channel| {
            let (bytes, mut out) = ([1; OBJECT_LEN], [0; PAGE_SIZE]);
            channel.decompress_one(Codec::Deflate, &bytes, 0, &mut out).expect("as all others");
            measured_one(channel, &bytes, &mut out, pages.len());
        }),
        _ => return false,
    }
    assert_eq!(channels.fallbacks(), Default::default(), "software did some of it");
    true
}

#[inline(never)]
fn measured_encode(channel: &mut Channel, pages: &[PageBytes], sink: &mut dyn FnMut(usize, Compressed<'_>)) {
    channel.compress(&mut pages.iter(), sink);
}

#[inline(never)]
fn measured_decode(channel: &mut Channel, stored: &[(Vec<u8>, Codec, u32)], page: &mut PageBytes) {
    for (bytes, codec, crc) in stored {
        channel.decompress_one(*codec, bytes, *crc, page).expect("made by this codec");
    }
}

/// Counts the software engine alone.
fn codec(what: &str, method: Method, pages: &[PageBytes]) {
    let config =
        ChannelsConfig { backend: Backend::Software, method: Some(method), ..ChannelsConfig::default() };
    let channels = Channels::new(config, &Topology::single_node()).expect("software needs nothing");
    let mut stored = Vec::with_capacity(pages.len());
    let mut keep = |_, outcome: Compressed<'_>| match outcome {
        Compressed::Bytes { bytes, codec, crc } => stored.push((bytes.to_vec(), codec, crc)),
        Compressed::Incompressible { .. } => panic!("all pages shrink"),
    };
    channels.with(Purpose::Store, |channel| match what {
        // Without keeping, which is not the codec's.
        "encode" => {
            let mut len = 0;
            channel.compress(&mut pages[..1].iter(), &mut |_, _| {});
            measured_encode(channel, pages, &mut |_, outcome| match outcome {
                Compressed::Bytes { bytes, .. } => len += bytes.len(),
                Compressed::Incompressible { .. } => panic!("all pages shrink"),
            });
            assert!(len > 0);
        }
        _ => channel.compress(&mut pages.iter(), &mut keep),
    });
    if what == "decode" {
        let mut page = [0; PAGE_SIZE];
        channels.with(Purpose::Load, |channel| measured_decode(channel, &stored, &mut page));
        assert!(Some(&page) == pages.last());
    }
}

fn at(offset: usize) -> SwapEntry {
    SwapEntry::new(0, u32::try_from(offset).expect("few pages"))
}

#[inline(never)]
fn measured_store(zswap: &Zswap, pages: &[PageBytes], folio_pages: usize) {
    for (k, chunk) in pages.chunks(folio_pages).enumerate() {
        let folio = Folio::new(at(k * folio_pages), NodeId(0), chunk).expect("aligned");
        zswap.store(&folio).expect("there is room");
    }
}

#[inline(never)]
fn measured_load(zswap: &Zswap, page: &mut PageBytes) {
    for offset in 0..PAGES {
        zswap.load(at(offset), page).expect("stored");
    }
}

#[inline(never)]
fn measured_read(zswap: &Zswap, page: &mut PageBytes) {
    for offset in 0..PAGES {
        zswap.read(at(offset), page).expect("stored");
    }
}

#[inline(never)]
fn measured_invalidate(zswap: &Zswap) {
    for offset in 0..PAGES {
        assert!(zswap.invalidate(at(offset)).expect("nobody else is here"), "stored");
    }
}

#[inline(never)]
fn measured_load_batch(zswap: &Zswap, entries: &[SwapEntry], out: &mut [Page]) {
    for entries in entries.chunks(out.len()) {
        zswap.load_batch(entries, out, |_, result| result.expect("stored"));
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [what, size] = args.as_slice() else {
        eprintln!(
            "usage: instructions store|load|read|... FOLIO_PAGES, or encode|decode METHOD   (run it by ci/instructions.sh)"
        );
        return ExitCode::SUCCESS;
    };
    let zeros = what == "store_zero";
    let page = |k| std::array::from_fn(|i| if zeros { 0 } else { (i / 8 * 31 + k) as u8 ^ (i as u8) });
    let pages: Vec<PageBytes> = (0..PAGES).map(page).collect();
    let method = Method::ALL.iter().find(|method| method.name() == size);
    if let (Some(method), "encode" | "decode") = (method, what.as_str()) {
        // A codec takes a hundred times as long as all the rest.
        let pages = &pages[..PAGES / 32];
        codec(what, *method, pages);
        println!("{}", pages.len());
        return ExitCode::SUCCESS;
    }
    let Ok(folio_pages) = size.parse() else {
        eprintln!("instructions: {size:?} is no number of pages, and {what} no codec's work");
        return ExitCode::FAILURE;
    };
    if engine(what, folio_pages, &pages) {
        println!("{PAGES}");
        return ExitCode::SUCCESS;
    }
    let config = Config { max_pool: Limit::Bytes(1 << 40), warm_bytes: 1 << 40, ..Config::default() };
    let topology = Topology::single_node();
    let split = what == "store_phases";
    let channels = Channels::with_engine(Codec::Lz4, &topology, "nothing", move |_, _| {
        if split { Box::new(Split) } else { Box::new(Nothing) }
    });
    let zswap = Zswap::with_channels(config, &topology, channels).expect("software needs nothing");
    zswap.swapon(0, u32::try_from(PAGES).expect("few pages")).expect("first swapon");
    let entries: Vec<SwapEntry> = (0..PAGES).map(at).collect();
    let mut out = Page::zeroed_vec(16);
    let mut page = [0; PAGE_SIZE];
    let store_all = || {
        for (k, page) in pages.iter().enumerate() {
            let folio = Folio::new(at(k), NodeId(0), std::slice::from_ref(page)).expect("aligned");
            zswap.store(&folio).expect("there is room");
        }
    };
    store_all();
    zswap.invalidate_range(at(0), u32::MAX).expect("nobody else is here");
    COUNTED.store(true, Ordering::Relaxed);
    match what.as_str() {
        "store" | "store_phases" | "store_zero" => measured_store(&zswap, &pages, folio_pages),
        "load" => {
            store_all();
            measured_load(&zswap, &mut page);
        }
        "read" => {
            store_all();
            measured_read(&zswap, &mut page);
        }
        "invalidate" => {
            store_all();
            measured_invalidate(&zswap);
        }
        "load_batch" => {
            store_all();
            measured_load_batch(&zswap, &entries, &mut out);
        }
        other => {
            eprintln!("instructions: {other:?} is nothing that can be counted");
            return ExitCode::FAILURE;
        }
    }
    println!("{PAGES}");
    ExitCode::SUCCESS
}
