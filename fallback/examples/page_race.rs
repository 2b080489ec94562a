//! Races our codecs against liblz4 and zstd -1 over pages of memory: `page_race [--only NAME,NAME...] FILE.pages...`.
//!
//! Each file holds raw pages, one after another; same-filled ones are left out, and at most 8192 are taken at even
//! distances. In each round the codecs take turns of 32 pages, so that whatever else the machine does hits all alike;
//! a turn compresses, then decodes what was compressed before the clock started. Time is this thread's CPU time. Every
//! length is compared while the clock runs, and every decoded page, outside of it, with its source.
//!
//! Who decodes the same streams by the same code later in a turn finds the CPU's branches already learnt, and is some
//! 15 % faster. So `auto`, which takes for each page what another lane has taken too, races beside liblz4 alone.
//!
//! Printed are thousand pages a second, median over the rounds with the lowest and highest, the same by the best round
//! of each turn, and the ratio; a stream that is not shorter than a page counts as one.

use std::hint::black_box;

use zfolio_fallback::{Codec, Codecs, Method, Vw, VwLevel, max_compressed_len};

const PAGE: usize = 4096;
const PAGES: usize = 8192;
const ROUNDS: usize = 11;
const TURN: usize = 32;

/// Something that takes part.
trait Runner {
    fn name(&self) -> String;
    /// Leaves its codec's number, as a store would keep it beside the page, in the last byte of `dst`.
    fn compress(&mut self, page: &[u8; PAGE], dst: &mut [u8]) -> usize;
    fn decompress(&mut self, codec: u8, src: &[u8], page: &mut [u8; PAGE]) -> bool;
}

/// One of ours.
struct Ours(Method, Codecs);

impl Runner for Ours {
    fn name(&self) -> String {
        self.0.name().to_owned()
    }

    fn compress(&mut self, page: &[u8; PAGE], dst: &mut [u8]) -> usize {
        let method = self.0.for_page(page);
        let (codec, dst) = dst.split_last_mut().expect("room for the codec");
        *codec = method.codec() as u8;
        self.1.compress(method, page, dst).expect("the bound always fits")
    }

    fn decompress(&mut self, codec: u8, src: &[u8], page: &mut [u8; PAGE]) -> bool {
        let codec = Codec::from_number(codec).expect("compress wrote it");
        self.1.decompress(codec, src, page).is_ok()
    }
}

/// vw by one of its implementations that this CPU would not choose.
struct Other(&'static str, Vw);

impl Runner for Other {
    fn name(&self) -> String {
        self.0.to_owned()
    }

    fn compress(&mut self, page: &[u8; PAGE], dst: &mut [u8]) -> usize {
        self.1.compress(VwLevel::Standard, page, dst).expect("the bound always fits")
    }

    fn decompress(&mut self, _: u8, src: &[u8], page: &mut [u8; PAGE]) -> bool {
        self.1.decompress(src, page).is_ok()
    }
}

/// What reads and writes LZ4 where there are no vectors.
struct LzFlex(lz4_flex::block::CompressTable);

impl Runner for LzFlex {
    fn name(&self) -> String {
        "lz4_flex".to_owned()
    }

    fn compress(&mut self, page: &[u8; PAGE], dst: &mut [u8]) -> usize {
        lz4_flex::block::compress_into_with_table(page, dst, &mut self.0).expect("the bound always fits")
    }

    fn decompress(&mut self, _: u8, src: &[u8], page: &mut [u8; PAGE]) -> bool {
        lz4_flex::block::decompress_into(src, page).is_ok_and(|len| len == PAGE)
    }
}

/// The C library.
struct LibLz4;

impl Runner for LibLz4 {
    fn name(&self) -> String {
        // SAFETY: returns a number.
        let version = unsafe { lz4_sys::LZ4_versionNumber() };
        format!("liblz4 {}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
    }

    fn compress(&mut self, page: &[u8; PAGE], dst: &mut [u8]) -> usize {
        // SAFETY: both buffers have the lengths that are told.
        let len = unsafe {
            lz4_sys::LZ4_compress_default(
                page.as_ptr().cast(),
                dst.as_mut_ptr().cast(),
                PAGE as i32,
                dst.len() as i32,
            )
        };
        usize::try_from(len).expect("the bound always fits")
    }

    fn decompress(&mut self, _: u8, src: &[u8], page: &mut [u8; PAGE]) -> bool {
        // SAFETY: both buffers have the lengths that are told.
        let len = unsafe {
            lz4_sys::LZ4_decompress_safe(
                src.as_ptr().cast(),
                page.as_mut_ptr().cast(),
                src.len() as i32,
                PAGE as i32,
            )
        };
        len == PAGE as i32
    }
}

/// zstd at level 1, with contexts that it keeps.
struct Zstd(zstd::bulk::Compressor<'static>, zstd::bulk::Decompressor<'static>);

impl Runner for Zstd {
    fn name(&self) -> String {
        "zstd 1".to_owned()
    }

    fn compress(&mut self, page: &[u8; PAGE], dst: &mut [u8]) -> usize {
        self.0.compress_to_buffer(page, dst).expect("the bound always fits")
    }

    fn decompress(&mut self, _: u8, src: &[u8], page: &mut [u8; PAGE]) -> bool {
        self.1.decompress_to_buffer(src, &mut page[..]).is_ok_and(|len| len == PAGE)
    }
}

fn main() {
    let mut files: Vec<String> = std::env::args().skip(1).collect();
    let mut only = None;
    if files.first().is_some_and(|first| first == "--only") && files.len() > 1 {
        only = files.drain(..2).nth(1);
    }
    assert!(!files.is_empty(), "usage: page_race [--only NAME,NAME...] FILE.pages...");
    println!(
        "{ROUNDS} rounds, thousand pages a second of CPU time: median (lowest..highest), by best rounds"
    );
    println!("{}: {}", Codec::Vw, Method::best().1);
    for file in files {
        let content = std::fs::read(&file).unwrap_or_else(|error| panic!("cannot read {file}: {error}"));
        let mut pages: Vec<[u8; PAGE]> = content.as_chunks().0.to_vec();
        pages.retain(|page| page[8..] != page[..PAGE - 8]);
        let all = pages.len();
        let wanted = all.min(PAGES);
        let pages: Vec<_> = (0..wanted).map(|index| pages[index * all / wanted]).collect();
        assert!(!pages.is_empty(), "{file} holds no page worth compressing");
        let name = std::path::Path::new(&file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        println!("\n{name}: {} pages", pages.len());
        match &only {
            Some(only) => race(&pages, |name| only.split(',').any(|wanted| wanted == name)),
            None => {
                race(&pages, |name| name != Method::PerPage.name());
                race(&pages, |name| name == Method::PerPage.name());
            }
        }
    }
}

/// What one runner has of all pages, and how it did.
struct Lane {
    runner: Box<dyn Runner>,
    streams: Vec<u8>,
    codecs: Vec<u8>,
    ends: Vec<usize>,
    kept: usize,
    rates: [Vec<f64>; 2],
    best: [Vec<f64>; 2],
}

fn race(pages: &[[u8; PAGE]], wanted: impl Fn(&str) -> bool) {
    let ours = |method| Box::new(Ours(method, Codecs::new())) as Box<dyn Runner>;
    let zstd = Zstd(
        zstd::bulk::Compressor::new(1).expect("zstd has level 1"),
        zstd::bulk::Decompressor::new().expect("zstd decompresses"),
    );
    let mut runners: Vec<Box<dyn Runner>> = vec![
        Box::new(LibLz4),
        ours(Method::Lz4),
        Box::new(LzFlex(lz4_flex::block::CompressTable::small())),
        ours(Method::VwFast),
        ours(Method::Vw),
        ours(Method::VwDense),
        ours(Method::PerPage),
        Box::new(Other("vw portable", Vw::portable())),
        Box::new(zstd),
    ];
    if let Some(vw) = Vw::avx2() {
        runners.push(Box::new(Other("vw avx2", vw)));
    }
    let liblz4 = runners[0].name();
    runners.retain(|runner| runner.name() == liblz4 || wanted(&runner.name()));
    let mut dst = vec![0; max_compressed_len(PAGE) + 1];
    let mut page = [0; PAGE];
    let mut lanes: Vec<Lane> = runners
        .into_iter()
        .map(|mut runner| {
            let (mut streams, mut codecs, mut ends, mut kept) = (Vec::new(), Vec::new(), vec![0], 0);
            for source in pages {
                let len = runner.compress(source, &mut dst);
                let codec = dst[dst.len() - 1];
                assert!(
                    runner.decompress(codec, &dst[..len], &mut page),
                    "{} refuses its stream",
                    runner.name()
                );
                assert!(page == *source, "{} returned another page", runner.name());
                streams.extend_from_slice(&dst[..len]);
                codecs.push(codec);
                ends.push(streams.len());
                kept += len.min(PAGE);
            }
            let turns = pages.len().div_ceil(TURN);
            let best = [vec![f64::INFINITY; turns], vec![f64::INFINITY; turns]];
            Lane { runner, streams, codecs, ends, kept, rates: [Vec::new(), Vec::new()], best }
        })
        .collect();

    let mut decoded = vec![[0; PAGE]; TURN];
    let mut choosing = vec![f64::INFINITY; pages.len().div_ceil(TURN)];
    // The first round warms the caches and does not count.
    for round in 0..=ROUNDS {
        let mut times = vec![[0.0; 2]; lanes.len()];
        for (turn, sources) in pages.chunks(TURN).enumerate() {
            for (lane, times) in lanes.iter_mut().zip(&mut times) {
                let first = turn * TURN;
                let Lane { runner, streams, codecs, ends, best, .. } = lane;
                let start = cpu_time();
                let mut right = true;
                for (index, source) in (first..).zip(sources) {
                    let len = runner.compress(source, black_box(&mut dst));
                    right &= len == ends[index + 1] - ends[index];
                }
                let middle = cpu_time();
                assert!(right, "{} gave another answer while it was timed", runner.name());
                let between = cpu_time();
                let mut right = true;
                for (index, page) in (first..).zip(&mut decoded[..sources.len()]) {
                    right &= runner.decompress(
                        codecs[index],
                        &streams[ends[index]..ends[index + 1]],
                        black_box(page),
                    );
                }
                let end = cpu_time();
                assert!(right && decoded[..sources.len()] == *sources, "{}: other pages", runner.name());
                for (which, time) in [middle - start, end - between].into_iter().enumerate() {
                    times[which] += time;
                    if round > 0 {
                        best[which][turn] = best[which][turn].min(time);
                    }
                }
            }
            // Last, when the pages are in the cache as a store has them.
            let start = cpu_time();
            for source in sources {
                black_box(Method::PerPage.for_page(black_box(source)));
            }
            choosing[turn] = choosing[turn].min(cpu_time() - start);
        }
        for (lane, times) in lanes.iter_mut().zip(times).filter(|_| round > 0) {
            for (rates, time) in lane.rates.iter_mut().zip(times) {
                rates.push(pages.len() as f64 / time / 1e3);
            }
        }
    }
    let best = |lane: &Lane, which: usize| pages.len() as f64 / lane.best[which].iter().sum::<f64>() / 1e3;
    let liblz4 = [best(&lanes[0], 0), best(&lanes[0], 1)];
    for lane in &lanes {
        let [compress, decompress] = [0, 1].map(|which| {
            let rate = best(lane, which);
            format!("{:>20} {rate:6.0} = {:4.2} x", spread(&lane.rates[which]), rate / liblz4[which])
        });
        println!(
            "  {:15} store {compress}  load {decompress}  ratio {:.3} = {:.3} x",
            lane.runner.name(),
            (pages.len() * PAGE) as f64 / lane.kept as f64,
            lanes[0].kept as f64 / lane.kept as f64,
        );
    }
    // What the choice costs of a store by the method that most pages get.
    let choice = choosing.iter().sum::<f64>() / pages.len() as f64;
    let store = lanes.iter().find(|lane| lane.runner.name() == Method::Vw.name());
    if let Some(lane) = store {
        let store = 1e-3 / best(lane, 0);
        println!(
            "  choosing the codec takes {:.1} ns a page, {:.2} % of a store by vw",
            1e9 * choice,
            100.0 * choice / store
        );
    }
}

/// CPU time of this thread, in seconds.
fn cpu_time() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to a place of its type.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "every Linux has this clock");
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Median and range.
fn spread(values: &[f64]) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    format!("{:.0} ({:.0}..{:.0})", values[values.len() / 2], values[0], values[values.len() - 1])
}
