//! What callgrind counts: stores and loads with a codec that does nothing.
//!
//! `instructions store|load|load_batch FOLIO_PAGES`: the calls to be counted are made in a function named
//! `measured_store`, `measured_load` or `measured_load_batch`, for callgrind's `--toggle-collect`; see `ci/instructions.sh`.
//! The codec makes 64 bytes of every page and checks nothing, so that neither compression nor CRC-32 is in the
//! count. The arena is warm. Prints how many pages the measured part handles.

use std::process::ExitCode;

use zfolio::{Codec, Config, Folio, Limit, NodeId, PAGE_SIZE, PageBytes, SwapEntry, Zswap};
use zfolio_accel::{Channels, Compressed, Engine, EngineError, Job, Outcome, Page, Topology};

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
fn measured_load_batch(zswap: &Zswap, entries: &[SwapEntry], out: &mut [Page]) {
    for entries in entries.chunks(out.len()) {
        zswap.load_batch(entries, out, |_, result| result.expect("stored"));
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let (Some(what), Some(folio_pages)) = (args.first(), args.get(1).and_then(|n| n.parse().ok())) else {
        eprintln!("usage: instructions store|load|load_batch FOLIO_PAGES   (run it by ci/instructions.sh)");
        return ExitCode::SUCCESS;
    };
    let config = Config { max_pool: Limit::Bytes(1 << 40), warm_bytes: 1 << 40, ..Config::default() };
    let topology = Topology::single_node();
    let channels = Channels::with_engine(Codec::Lz4, &topology, "nothing", |_, _| Box::new(Nothing));
    let zswap = Zswap::with_channels(config, &topology, channels).expect("software needs nothing");
    zswap.swapon(0, u32::try_from(PAGES).expect("few pages")).expect("first swapon");

    let pages: Vec<PageBytes> =
        (0..PAGES).map(|k| std::array::from_fn(|i| (i / 8 * 31 + k) as u8 ^ (i as u8))).collect();
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
    match what.as_str() {
        "store" => measured_store(&zswap, &pages, folio_pages),
        "load" => {
            store_all();
            measured_load(&zswap, &mut page);
        }
        "load_batch" => {
            store_all();
            measured_load_batch(&zswap, &entries, &mut out);
        }
        other => {
            eprintln!("instructions: {other:?} is none of store, load, load_batch");
            return ExitCode::FAILURE;
        }
    }
    println!("{PAGES}");
    ExitCode::SUCCESS
}
