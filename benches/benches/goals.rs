//! What the store costs around its codec, against bare loops over the same codec, interleaved in one run.
//!
//! `cargo bench -p zfolio-cli --bench goals [-- [FILE.pages] [--rounds N] [SECTION]...]`; the sections are `store`,
//! `load`, `windows`, `folios`, `threads`, `density`. Without a file it captures the memory of a live process of its own. Same-filled
//! pages are left out: a bare codec would compress what the store never does. Every page that is timed is compared
//! with its source, outside the timed part.
//!
//! Times of one thread are its CPU time (the machine may have other things to do). Those of two threads are wall time,
//! which is what they are for, and the CPU time of the slower one, which other programs on the machine disturb less: what
//! two threads cost each other in caches and spinning is in it, sleep on locks is not, so that is counted beside it. A
//! ratio is the median over rounds of the ratio within a round.

use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use zfolio::{Codec, Config, Folio, Limit, NodeId, PAGE_SIZE, PageBytes, SwapEntry, Zswap};
use zfolio_accel::{Page, crc32, repeated_word};
use zfolio_fallback::{Codecs, max_compressed_len};

const SECTIONS: [&str; 6] = ["store", "load", "windows", "folios", "threads", "density"];

struct Options {
    corpus: Option<PathBuf>,
    rounds: usize,
    sections: Vec<String>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { corpus: None, rounds: 11, sections: Vec::new() };
    // Cargo adds --bench.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        if arg == "--rounds" {
            let rounds = args.next().and_then(|n| n.parse().ok()).filter(|&n| n > 0);
            options.rounds = rounds.ok_or("--rounds wants a number above 0")?;
        } else if SECTIONS.contains(&arg.as_str()) {
            options.sections.push(arg);
        } else if arg.ends_with(".pages") {
            options.corpus = Some(arg.into());
        } else {
            return Err(format!("{arg:?} is neither a FILE.pages, nor --rounds, nor one of {SECTIONS:?}"));
        }
    }
    if options.sections.is_empty() {
        options.sections = SECTIONS.map(str::to_owned).to_vec();
    }
    Ok(options)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("goals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = options()?;
    let pages = corpus(options.corpus.as_deref())?;
    let rounds = options.rounds;
    println!("{} pages that are not same-filled, {rounds} rounds, lz4 but where said\n", pages.len());
    for section in &options.sections {
        match section.as_str() {
            "store" => store(&pages, rounds),
            "load" => load(&pages, rounds),
            "windows" => variants(
                &pages,
                rounds,
                "window 1",
                &[1, 2, 4, 8, 16, 32, 64].map(|w| (format!("window {w}"), w, 16)),
            ),
            "folios" => variants(
                &pages,
                rounds,
                "4K folios",
                &[("4K folios", 1), ("16K folios", 4), ("64K folios", 16), ("2M folios", 512)]
                    .map(|(name, folio)| (name.to_owned(), 8, folio)),
            ),
            "threads" => threads(&pages, rounds),
            _ => density(&pages),
        }
        println!();
    }
    Ok(())
}

/// The pages of the file, or of a live process, in whole folios of 2 MiB.
fn corpus(file: Option<&std::path::Path>) -> Result<Vec<PageBytes>, String> {
    let bytes = match file {
        Some(file) => std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?,
        None => {
            let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
            let file = dir.path().join("self.pages");
            let capture = Command::new(env!("CARGO_BIN_EXE_zfolio"))
                .args(["capture", "--self", "--out"])
                .arg(&file)
                .output()
                .map_err(|error| error.to_string())?;
            if !capture.status.success() {
                return Err(format!("capture: {}", String::from_utf8_lossy(&capture.stderr)));
            }
            std::fs::read(&file).map_err(|error| error.to_string())?
        }
    };
    let (pages, rest) = bytes.as_chunks::<PAGE_SIZE>();
    if !rest.is_empty() {
        return Err("the corpus ends within a page".to_owned());
    }
    let mut pages: Vec<PageBytes> =
        pages.iter().filter(|page| repeated_word(page).is_none()).copied().collect();
    pages.truncate(pages.len() / 512 * 512);
    if pages.is_empty() { Err("fewer than 512 pages".to_owned()) } else { Ok(pages) }
}

fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct it is given.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "Linux has this clock");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below 10^9"))
}

fn timed(f: impl FnOnce()) -> f64 {
    let before = thread_cpu();
    f();
    (thread_cpu() - before).as_secs_f64()
}

fn median(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

/// Prints a variant's rate and its ratio to the base, with the spread of both.
fn report(name: &str, pages: usize, times: &[f64], base: &[f64]) {
    let mut rates: Vec<f64> = times.iter().map(|time| pages as f64 / time / 1000.0).collect();
    let mut ratios: Vec<f64> = times.iter().zip(base).map(|(time, base)| base / time).collect();
    let (rate, slow, fast) = median(&mut rates);
    let (ratio, low, high) = median(&mut ratios);
    println!(
        "{name:<34} {rate:>8.1} kpages/s [{slow:.1} .. {fast:.1}]   {ratio:.3} of the first [{low:.3} .. {high:.3}]"
    );
}

fn zswap(pages: usize, codec: Codec, window: usize) -> Zswap {
    let config = Config {
        method: Some(codec.into()),
        window,
        max_pool: Limit::Bytes(1 << 40),
        warm_bytes: 1 << 40,
        ..Config::default()
    };
    let zswap = Zswap::new(config).expect("a software store needs nothing");
    zswap.swapon(0, u32::try_from(pages).expect("fewer than 2^32 pages")).expect("first swapon");
    zswap
}

fn at(offset: usize) -> SwapEntry {
    SwapEntry::new(0, u32::try_from(offset).expect("fewer than 2^32 pages"))
}

fn store_all(zswap: &Zswap, first: usize, pages: &[PageBytes], folio_pages: usize) {
    for (k, chunk) in pages.chunks_exact(folio_pages).enumerate() {
        let folio = Folio::new(at(first + k * folio_pages), NodeId(0), chunk).expect("aligned");
        zswap.store(&folio).expect("there is room");
    }
}

fn load_all(zswap: &Zswap, first: usize, count: usize) {
    let mut page = [0; PAGE_SIZE];
    for offset in first..first + count {
        zswap.load(at(offset), &mut page).expect("stored");
        black_box(&page);
    }
}

/// Reads every page and compares it, then empties the store.
fn verify_and_empty(zswap: &Zswap, pages: &[PageBytes]) {
    let mut page = [0; PAGE_SIZE];
    for (offset, source) in pages.iter().enumerate() {
        zswap.load(at(offset), &mut page).expect("stored");
        assert!(page == *source, "page {offset} came back changed");
    }
}

fn store(pages: &[PageBytes], rounds: usize) {
    println!("store of 64K folios, one thread, against a bare loop of the codec into one buffer");
    let (mut bare, mut crc, mut copy) = (Vec::new(), Vec::new(), Vec::new());
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    let mut arena = vec![1u8; pages.len() * PAGE_SIZE];
    let mut codecs = Codecs::new();
    let mut buffer = vec![0; max_compressed_len(PAGE_SIZE)];
    let kept = zswap(pages.len(), Codec::Lz4, 8);
    store_all(&kept, 0, pages, 16);
    verify_and_empty(&kept, pages);
    for _ in 0..rounds {
        bare.push(timed(|| {
            for page in pages {
                black_box(codecs.compress(Codec::Lz4, page, &mut buffer));
            }
        }));
        crc.push(timed(|| {
            for page in pages {
                black_box(codecs.compress(Codec::Lz4, page, &mut buffer));
                black_box(crc32(page));
            }
        }));
        copy.push(timed(|| {
            let mut end = 0;
            for page in pages {
                let len = codecs.compress(Codec::Lz4, page, &mut buffer).expect("room").min(PAGE_SIZE);
                black_box(crc32(page));
                arena[end..end + len].copy_from_slice(&buffer[..len]);
                end += len;
            }
        }));
        warm.push(timed(|| store_all(&kept, 0, pages, 16)));
        verify_and_empty(&kept, pages);
        let fresh = zswap(pages.len(), Codec::Lz4, 8);
        cold.push(timed(|| store_all(&fresh, 0, pages, 16)));
        verify_and_empty(&fresh, pages);
    }
    report("bare lz4", pages.len(), &bare, &bare);
    report("  and CRC-32", pages.len(), &crc, &bare);
    report("  and copy into memory in order", pages.len(), &copy, &bare);
    report("store, warm arena", pages.len(), &warm, &bare);
    report("store, first fill", pages.len(), &cold, &bare);
}

/// What a store keeps of the pages, one after another, with the length and CRC-32 of each.
fn objects_of(pages: &[PageBytes]) -> (Vec<u8>, Vec<(usize, u32)>) {
    let (mut codecs, mut buffer) = (Codecs::new(), vec![0; max_compressed_len(PAGE_SIZE)]);
    let (mut objects, mut lens) = (Vec::new(), Vec::new());
    for page in pages {
        let len = codecs.compress(Codec::Lz4, page, &mut buffer).expect("the buffer has room");
        let raw = len > Config::default().max_compressed_len;
        let bytes = if raw { &page[..] } else { &buffer[..len] };
        objects.extend_from_slice(bytes);
        lens.push((bytes.len(), crc32(page)));
    }
    (objects, lens)
}

/// Decodes and CRC-checks objects in order.
fn bare_load_all(objects: &[u8], lens: &[(usize, u32)]) {
    let mut codecs = Codecs::new();
    let mut page = [0; PAGE_SIZE];
    let mut rest = objects;
    for &(len, crc) in lens {
        let (bytes, after) = rest.split_at(len);
        rest = after;
        if len == PAGE_SIZE {
            page.copy_from_slice(bytes);
        } else {
            codecs.decompress(Codec::Lz4, bytes, &mut page).expect("our own bytes");
        }
        assert_eq!(crc32(&page), crc);
    }
}

fn load(pages: &[PageBytes], rounds: usize) {
    println!("load in order, one thread, against a bare loop that decodes and CRC-checks the same objects");
    let (mut bare, mut loads, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    let (objects, lens) = objects_of(pages);
    let zswap = zswap(pages.len(), Codec::Lz4, 8);
    let entries: Vec<SwapEntry> = (0..pages.len()).map(at).collect();
    let mut out = Page::zeroed_vec(16);
    for _ in 0..rounds {
        bare.push(timed(|| bare_load_all(&objects, &lens)));
        store_all(&zswap, 0, pages, 16);
        loads.push(timed(|| load_all(&zswap, 0, pages.len())));
        store_all(&zswap, 0, pages, 16);
        batches.push(timed(|| {
            for entries in entries.chunks(16) {
                zswap.load_batch(entries, &mut out, |_, result| result.expect("stored"));
            }
        }));
        store_all(&zswap, 0, pages, 16);
        verify_and_empty(&zswap, pages);
    }
    report("bare lz4 decode + CRC-32", pages.len(), &bare, &bare);
    report("load", pages.len(), &loads, &bare);
    report("load_batch of 16", pages.len(), &batches, &bare);
}

/// Stores and loads with each `(name, window, pages of a folio)`.
fn variants(pages: &[PageBytes], rounds: usize, first: &str, variants: &[(String, usize, usize)]) {
    println!("store and load, one thread, warm arena, against {first}");
    let stores: Vec<Zswap> =
        variants.iter().map(|&(_, window, _)| zswap(pages.len(), Codec::Lz4, window)).collect();
    let mut store_times = vec![Vec::new(); variants.len()];
    let mut load_times = vec![Vec::new(); variants.len()];
    for round in 0..=rounds {
        for (k, (zswap, &(_, _, folio))) in stores.iter().zip(variants).enumerate() {
            let store = timed(|| store_all(zswap, 0, pages, folio));
            let load = timed(|| load_all(zswap, 0, pages.len()));
            store_all(zswap, 0, pages, folio);
            verify_and_empty(zswap, pages);
            // The first round warms the arena.
            if round > 0 {
                store_times[k].push(store);
                load_times[k].push(load);
            }
        }
    }
    for (what, times) in [("store", &store_times), ("load", &load_times)] {
        for ((name, _, _), time) in variants.iter().zip(times) {
            report(&format!("{what}, {name}"), pages.len(), time, &times[0]);
        }
    }
}

fn threads(pages: &[PageBytes], rounds: usize) {
    println!("one thread against two on disjoint slots, 64K folios, warm arena");
    let zswap = zswap(pages.len(), Codec::Lz4, 8);
    let half = pages.len() / 1024 * 512;
    let pages = &pages[..half * 2];
    let halves = [(0, &pages[..half]), (half, &pages[half..])];
    let alone = |work: &dyn Fn(usize, &[PageBytes])| {
        let start = Instant::now();
        let cpu = timed(|| halves.iter().for_each(|&(first, pages)| work(first, pages)));
        Threads { wall: start.elapsed().as_secs_f64(), cpu, sleeps: 0 }
    };
    let together = |work: &(dyn Fn(usize, &[PageBytes]) + Sync)| {
        let barrier = Barrier::new(3);
        std::thread::scope(|scope| {
            let threads = halves.map(|(first, pages)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    let before = sleeps();
                    let cpu = timed(|| work(first, pages));
                    let slept = sleeps() - before;
                    barrier.wait();
                    (cpu, slept)
                })
            });
            barrier.wait();
            let start = Instant::now();
            barrier.wait();
            let wall = start.elapsed().as_secs_f64();
            let [one, other] = threads.map(|thread| thread.join().expect("the work does not panic"));
            Threads { wall, cpu: one.0.max(other.0), sleeps: one.1 + other.1 }
        })
    };
    let store = |first: usize, pages: &[PageBytes]| store_all(&zswap, first, pages, 16);
    let load = |first: usize, pages: &[PageBytes]| load_all(&zswap, first, pages.len());
    // What two threads that share nothing gain on this machine.
    let bare_store = |_: usize, pages: &[PageBytes]| {
        let (mut codecs, mut buffer) = (Codecs::new(), vec![0; max_compressed_len(PAGE_SIZE)]);
        for page in pages {
            black_box(codecs.compress(Codec::Lz4, page, &mut buffer));
        }
    };
    let compressed = halves.map(|(_, pages)| objects_of(pages));
    let bare_load = |first: usize, _: &[PageBytes]| {
        let (objects, lens) = &compressed[usize::from(first != 0)];
        bare_load_all(objects, lens);
    };
    let mut times = [const { Vec::new() }; 8];
    for _ in 0..rounds {
        times[0].push(alone(&bare_store));
        times[1].push(together(&bare_store));
        times[2].push(alone(&bare_load));
        times[3].push(together(&bare_load));
        times[4].push(alone(&store));
        verify_and_empty(&zswap, pages);
        times[5].push(together(&store));
        times[6].push(alone(&load));
        store_all(&zswap, 0, pages, 16);
        times[7].push(together(&load));
    }
    for (unit, time) in [("wall", (|t| t.wall) as fn(&Threads) -> f64), ("CPU", |t| t.cpu)] {
        let of = |k: usize| -> Vec<f64> { times[k].iter().map(time).collect() };
        for (k, name) in ["bare lz4", "bare decode + CRC", "store", "load"].into_iter().enumerate() {
            report(&format!("{name}, one thread, {unit}"), pages.len(), &of(2 * k), &of(2 * k));
            report(&format!("{name}, two threads, {unit}"), pages.len(), &of(2 * k + 1), &of(2 * k));
        }
    }
    for (k, name) in [(5, "store"), (7, "load")] {
        let mut slept: Vec<f64> =
            times[k].iter().map(|t| t.sleeps as f64 * 1000.0 / pages.len() as f64).collect();
        let (middle, least, most) = median(&mut slept);
        println!("{name}, two threads: {middle:.2} sleeps per 1000 pages [{least:.2} .. {most:.2}]");
    }
}

/// How long some work took one thread, or two at once.
struct Threads {
    wall: f64,
    /// The slower thread's CPU time.
    cpu: f64,
    /// Times that the threads slept in the kernel.
    sleeps: u64,
}

/// How often the calling thread has slept so far.
fn sleeps() -> u64 {
    // SAFETY: all zeros is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: fills the struct it is given.
    let result = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    assert_eq!(result, 0, "Linux counts for each thread");
    usage.ru_nvcsw.unsigned_abs()
}

/// Bytes of anonymous memory that the process has.
fn rss_anon() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux since 4.5 says so");
    let kib = line.trim().trim_end_matches("kB").trim();
    kib.parse::<u64>().expect("a number of kB") * 1024
}

/// First fills of several sizes, of the pages over and over: each is an object of its own.
fn density(pages: &[PageBytes]) {
    println!("memory after a first fill with 64K folios, by the kernel's account");
    println!(
        "{:>9}  {:>11}  {:>20}  {:>15}  {:>28}",
        "pages", "bytes/page", "allocated/compressed", "metadata B/page", "RssAnon - arena - metadata"
    );
    for count in [20_000, 65_536, 1_000_000] {
        let before = rss_anon();
        let zswap = zswap(count, Codec::Lz4, 8);
        let sources = (0..count / 16).map(|k| &pages[k * 16 % pages.len()..][..16]);
        for (k, chunk) in sources.clone().enumerate() {
            let folio = Folio::new(at(k * 16), NodeId(0), chunk).expect("aligned");
            zswap.store(&folio).expect("there is room");
        }
        let growth = rss_anon() - before;
        let stats = zswap.stats();
        let resident = zswap.resident_arena_bytes().expect("the kernel answers mincore");
        let stored = stats.stored_pages as f64;
        println!(
            "{:>9}  {:>11.0}  {:>20.4}  {:>15.1}  {:>24.2} MiB",
            stats.stored_pages,
            stats.object_bytes as f64 / stored,
            resident as f64 / stats.object_bytes as f64,
            stats.metadata_bytes as f64 / stored,
            (growth as f64 - resident as f64 - stats.metadata_bytes as f64) / f64::from(1 << 20),
        );
        let mut page = [0; PAGE_SIZE];
        for (k, chunk) in sources.enumerate() {
            for (i, source) in chunk.iter().enumerate() {
                zswap.load(at(k * 16 + i), &mut page).expect("stored");
                assert!(page == *source, "page {} came back changed", k * 16 + i);
            }
        }
    }
}
