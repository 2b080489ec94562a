//! Where the time of a store into a full pool goes when its pages are written back to a file, and whether the file is the limit.
//!
//! One thread stores until the pool is full, shrinks it to its accept threshold, and goes on. Engine and device are wrapped in clocks, so the
//! rest of the store's time and the rest of the shrinker's are what they say: bookkeeping. Interleaved with it, a bare loop writes the
//! same pages to the same kind of file in the same batches, as fast as it can: what the file alone can do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zfolio::{
    Channels, Codec, Config, FileDevice, Folio, Limit, LoadError, NodeId, PAGE_SIZE, PageBytes, PageWrite,
    StoreError, SwapDevice, SwapEntry, Topology, WriteMethod, Zswap,
};
use zfolio_accel::{Engine, Job, Outcome, Software};

use crate::{Options, aim, at, median, pages};

/// Pages of the pool, and of the working set.
const POOL: usize = 4096;
const SET: usize = 32_768;
/// Pages of one batch, as the shrinker writes them.
const BATCH: usize = 64;

/// Time spent, in nanoseconds.
#[derive(Default)]
struct Clock(AtomicU64);

impl Clock {
    fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.0.fetch_add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        result
    }

    fn take(&self) -> f64 {
        self.0.swap(0, Ordering::Relaxed) as f64 / 1e9
    }
}

#[derive(Default)]
struct Clocks {
    compress: Clock,
    decompress: Clock,
    write: Clock,
}

/// Software by the clock.
struct Timed {
    software: Software,
    clocks: Arc<Clocks>,
}

impl Engine for Timed {
    fn name(&self) -> &'static str {
        "software"
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
            let mut own = Duration::ZERO;
            let start = Instant::now();
            self.software.compress(&mut std::iter::once(page), &mut |outcome| {
                // The sink's time is the store's.
                own = start.elapsed();
                sink(outcome);
            });
            let nanos = u64::try_from(own.as_nanos()).unwrap_or(u64::MAX);
            self.clocks.compress.0.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        self.clocks.decompress.time(|| self.software.decompress(jobs));
    }
}

/// A file by the clock.
struct TimedFile {
    file: FileDevice,
    clocks: Arc<Clocks>,
}

impl SwapDevice for TimedFile {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()> {
        self.clocks.write.time(|| self.file.write(entry, page))
    }

    fn write_batch(&self, writes: &mut [PageWrite<'_>]) {
        self.clocks.write.time(|| self.file.write_batch(writes));
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()> {
        self.file.read(entry, page)
    }
}

/// Seconds of one round.
#[derive(Clone, Copy, Default)]
struct Round {
    all: f64,
    compress: f64,
    decompress: f64,
    write: f64,
    /// Stores without compressing.
    store: f64,
    /// The shrinker without decompressing and writing.
    shrink: f64,
    written: f64,
    /// The bare loop's, for as many pages.
    bare: f64,
}

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let sources = pages(SET, 5);
    for (kind, direct, ring) in
        [("page cache", false, false), ("O_DIRECT", true, false), ("O_DIRECT, io_uring", true, true)]
    {
        match measure(options, &sources, direct, ring) {
            Ok(Some(rounds)) => report(kind, &rounds),
            Ok(None) => {}
            // Some file systems know no O_DIRECT.
            Err(error) if direct => println!("skipped: {kind}: {error}"),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

fn measure(
    options: &Options,
    sources: &[PageBytes],
    direct: bool,
    ring: bool,
) -> io::Result<Option<Vec<Round>>> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let slots = u32::try_from(SET).expect("few");
    let bare = FileDevice::open(&dir.path().join("bare"), slots, direct)?.with_io_uring(ring);
    if ring && bare.write_method() != WriteMethod::IoUring {
        println!("skipped: io_uring: {}", bare.write_method());
        return Ok(None);
    }
    let clocks = Arc::new(Clocks::default());
    let file = FileDevice::open(&dir.path().join("swap"), slots, direct)?.with_io_uring(ring);
    let device = Arc::new(TimedFile { file, clocks: Arc::clone(&clocks) });
    let topology = Topology::single_node();
    let for_engines = Arc::clone(&clocks);
    let channels = Channels::with_engine(Codec::Lz4, &topology, "timed", move |_, _| {
        Box::new(Timed { software: Software::new(Codec::Lz4, 1), clocks: Arc::clone(&for_engines) })
    });
    let config = Config {
        max_pool: Limit::Bytes((POOL * PAGE_SIZE) as u64),
        accept_threshold_percent: 90,
        ..Config::default()
    };
    let zswap = Zswap::with_channels(config, &topology, channels).expect("it needs nothing");
    zswap.swapon_with_device(0, slots, device.clone()).expect("first swapon");
    let mut rounds = Vec::new();
    for round in 0..=options.rounds {
        let before = zswap.stats().written_back_pages;
        let _ = (clocks.compress.take(), clocks.decompress.take(), clocks.write.take());
        let (mut stores, mut shrinks) = (Clock::default(), Clock::default());
        let start = Instant::now();
        store_all(&zswap, sources, (&mut stores, &mut shrinks));
        let all = start.elapsed().as_secs_f64();
        let written = zswap.stats().written_back_pages - before;
        let start = Instant::now();
        write_bare(&bare, sources, usize::try_from(written).expect("few"))?;
        let mut taken =
            Round { all, bare: start.elapsed().as_secs_f64(), written: written as f64, ..Round::default() };
        taken.compress = clocks.compress.take();
        taken.decompress = clocks.decompress.take();
        taken.write = clocks.write.take();
        taken.store = stores.take() - taken.compress;
        taken.shrink = shrinks.take() - taken.decompress - taken.write;
        verify(&zswap, &device, sources);
        // The first one fills the pool.
        if round > 0 {
            rounds.push(taken);
        }
    }
    zswap.check().expect("consistent");
    Ok(Some(rounds))
}

fn store_all(zswap: &Zswap, sources: &[PageBytes], (stores, shrinks): (&mut Clock, &mut Clock)) {
    for (k, folio) in sources.chunks_exact(16).enumerate() {
        let folio = Folio::new(at(k * 16), NodeId(0), folio).expect("aligned");
        loop {
            match stores.time(|| zswap.store(&folio)) {
                Ok(()) => break,
                Err(StoreError::PoolFull { .. }) => {
                    let bytes = (POOL / 10 * PAGE_SIZE) as u64;
                    let shrunk = shrinks.time(|| zswap.shrink(NodeId(0), bytes)).expect("node 0 is there");
                    assert!(shrunk.released_bytes > 0, "the shrinker frees nothing");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// As many pages, in batches of consecutive slots.
fn write_bare(file: &FileDevice, sources: &[PageBytes], mut count: usize) -> io::Result<()> {
    // Aligned, as the shrinker's buffers are, and copied, as they are new to the CPU's caches.
    let mut buffers = zfolio_accel::Page::zeroed_vec(BATCH);
    let mut first = 0;
    while count > 0 {
        let pages = BATCH.min(count).min(SET - first);
        for (buffer, source) in buffers.iter_mut().zip(&sources[first..first + pages]) {
            buffer.copy_from_slice(source);
        }
        let mut writes: Vec<PageWrite<'_>> = buffers[..pages]
            .iter()
            .enumerate()
            .map(|(k, page)| PageWrite::new(at(first + k), page))
            .collect();
        file.write_batch(&mut writes);
        for write in writes {
            write.into_result()?;
        }
        count -= pages;
        first = (first + pages) % SET;
    }
    Ok(())
}

fn verify(zswap: &Zswap, device: &TimedFile, sources: &[PageBytes]) {
    let mut page = [0; PAGE_SIZE];
    for (offset, source) in sources.iter().enumerate() {
        match zswap.read(at(offset), &mut page) {
            Ok(()) => {}
            Err(LoadError::WrittenBack { entry }) => device.read(entry, &mut page).expect("written"),
            Err(error) => panic!("page {offset}: {error}"),
        }
        assert!(page == *source, "page {offset} came back changed");
    }
}

fn report(kind: &str, rounds: &[Round]) {
    let of = |figure: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
    let (rate, slow, fast) = of(&|round| SET as f64 / round.all / 1000.0);
    println!("stores into a full pool, writeback to a file ({kind}), one thread:");
    println!(
        "  {rate:.1} kpages/s [{slow:.1} .. {fast:.1}]; {:.2} pages written for each one stored",
        of(&|round| round.written / SET as f64).0
    );
    let line = |name: &str, seconds: &dyn Fn(&Round) -> f64| {
        let (share, low, high) = of(&|round| 100.0 * seconds(round) / round.all);
        let us = of(&|round| 1e6 * seconds(round) / SET as f64).0;
        println!("  {name:<32}{us:>8.2} us a page {share:>6.1} % [{low:.1} .. {high:.1}]");
    };
    line("compress", &|round| round.compress);
    line("bookkeeping of stores", &|round| round.store);
    line("decompress", &|round| round.decompress);
    line("write to the file", &|round| round.write);
    line("bookkeeping of the shrinker", &|round| round.shrink);
    line("the bare loop, as many pages", &|round| round.bare);
    let (ratio, low, high) = of(&|round| round.write / round.bare);
    println!("  writes take {ratio:.2} [{low:.2} .. {high:.2}] of the bare loop's time");
    let rest = of(&|round| (round.decompress + round.shrink) / round.write).0;
    aim(
        "the file is the limit: decompress and bookkeeping of writeback, of its writes",
        "< 1.0",
        &format!("{rest:.2} ({kind})"),
        rest < 1.0,
    );
}
