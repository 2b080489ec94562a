//! Races the encoders over pages of memory: `codec_race FILE.pages...`.
//!
//! Each file holds raw pages, one after another; same-filled ones are left out. Every page is read back before
//! the clock starts. Then, in each round, the codecs take turns of 64 pages, so that whatever else the machine
//! does hits all alike. Printed are pages a second, median and range over the rounds, and the quotients
//! of compress rates round by round.

use std::hint::black_box;
use std::time::{Duration, Instant};

use zfolio_fallback::{Codecs, Method, max_compressed_len};

const PAGE: usize = 4096;
const ROUNDS: usize = 15;
const TURN: usize = 64;

fn main() {
    let files: Vec<String> = std::env::args().skip(1).collect();
    assert!(!files.is_empty(), "usage: codec_race FILE.pages...");
    for file in files {
        let content = std::fs::read(&file).unwrap_or_else(|error| panic!("cannot read {file}: {error}"));
        let mut pages: Vec<[u8; PAGE]> = content.as_chunks().0.to_vec();
        pages.retain(|page| page[8..] != page[..PAGE - 8]);
        assert!(!pages.is_empty(), "{file} holds no page worth compressing");
        println!("{file}: {} pages, {ROUNDS} rounds, median (lowest..highest)", pages.len());
        race(&pages);
    }
}

/// What one codec has of all pages, and how it did in each round.
struct Runner {
    method: Method,
    streams: Vec<Vec<u8>>,
    compress_rates: Vec<f64>,
    decompress_rates: Vec<f64>,
    /// The fastest compression of each turn, of all rounds: what the machine does besides only makes turns slower.
    best: Vec<Duration>,
}

fn race(pages: &[[u8; PAGE]]) {
    let mut codecs = Codecs::new();
    let mut stream = [0; max_compressed_len(PAGE)];
    let mut runners = Method::ALL.map(|method| {
        let streams = pages.iter().map(|page| {
            let len = codecs.compress(method, page, &mut stream).expect("the bound always fits");
            let mut back = [0; PAGE];
            codecs
                .decompress(method.codec(), &stream[..len], &mut back)
                .expect("what was compressed decodes");
            assert!(back == *page, "{method} returned another page");
            stream[..len].to_vec()
        });
        Runner {
            method,
            streams: streams.collect(),
            compress_rates: Vec::new(),
            decompress_rates: Vec::new(),
            best: vec![Duration::MAX; pages.len().div_ceil(TURN)],
        }
    });

    // The first round warms the caches and does not count.
    for round in 0..=ROUNDS {
        let mut times = [[Duration::ZERO; 2]; Method::ALL.len()];
        for start in (0..pages.len()).step_by(TURN) {
            let turn = start..pages.len().min(start + TURN);
            for (runner, [compress, decompress]) in runners.iter_mut().zip(&mut times) {
                let time = timed(turn.clone(), |page| {
                    let len = codecs.compress(runner.method, &pages[page], black_box(&mut stream));
                    len == Some(runner.streams[page].len())
                });
                *compress += time;
                let best = &mut runner.best[start / TURN];
                *best = time.min(*best);
                *decompress += timed(turn.clone(), |page| {
                    let mut back = [0; PAGE];
                    codecs
                        .decompress(runner.method.codec(), &runner.streams[page], black_box(&mut back))
                        .is_ok()
                });
            }
        }
        for (runner, time) in runners.iter_mut().zip(times).filter(|_| round > 0) {
            let [compress, decompress] = time.map(|time| pages.len() as f64 / time.as_secs_f64());
            runner.compress_rates.push(compress);
            runner.decompress_rates.push(decompress);
        }
    }
    for runner in &runners {
        let kept: usize = runner.streams.iter().map(|stream| stream.len().min(PAGE)).sum();
        println!(
            "  {:15} compress {} pages/s, decompress {} pages/s, ratio {:.3}",
            runner.method.name(),
            spread(&runner.compress_rates, 0),
            spread(&runner.decompress_rates, 0),
            (pages.len() * PAGE) as f64 / kept as f64,
        );
    }
    let (lz4, others) = runners.split_first().expect("there are methods");
    for other in others {
        let pairs = other.compress_rates.iter().zip(&lz4.compress_rates);
        let quotients: Vec<f64> = pairs.map(|(other, lz4)| other / lz4).collect();
        let best = |runner: &Runner| runner.best.iter().sum::<Duration>().as_secs_f64();
        println!(
            "  compress rate of {} over that of lz4: {}; by each turn's best round {:.3}",
            other.method,
            spread(&quotients, 3),
            best(lz4) / best(other),
        );
    }
}

/// Time for `work` on each page, which must say that it went well.
fn timed(pages: std::ops::Range<usize>, mut work: impl FnMut(usize) -> bool) -> Duration {
    let start = Instant::now();
    let well = pages.map(&mut work).fold(true, |well, next| well & next);
    let time = start.elapsed();
    assert!(well, "a codec gave another answer while it was timed");
    time
}

/// Median and range.
fn spread(values: &[f64], digits: usize) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (low, middle, high) = (values[0], values[values.len() / 2], values[values.len() - 1]);
    format!("{middle:.digits$} ({low:.digits$}..{high:.digits$})")
}
