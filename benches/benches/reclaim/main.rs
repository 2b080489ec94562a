//! What reclaim costs others, and what limits it, against the aims that it was built to.
//!
//! `cargo bench -p zfolio-cli --bench reclaim [-- [SECTION]... [--rounds N] [--operations N] [--dir DIR]]`, with the sections
//!
//! - `interference`: load p99 while another core stores and shrinks flat out, against p99 when idle;
//! - `writeback`: where the time of a store into a full pool goes, and what the file alone can do (in DIR, a disk's);
//! - `writes`: batches written by io_uring and by `pwritev`, interleaved (io_uring with `--features zfolio/io-uring`);
//! - `churn`: density over 50 million operations of mixed sizes, compaction on.
//!
//! Every page that is timed is compared with its source, outside the timed part. Run it on a machine that has nothing else to do: the
//! tables hold what tells a noisy one.

mod churn;
mod interference;
mod writeback;
mod writes;

use std::path::PathBuf;
use std::process::ExitCode;

use zfolio::{PAGE_SIZE, PageBytes, SwapEntry};

const SECTIONS: [&str; 4] = ["interference", "writeback", "writes", "churn"];

pub(crate) struct Options {
    rounds: usize,
    operations: u64,
    dir: PathBuf,
    sections: Vec<String>,
}

fn options() -> Result<Options, String> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let mut options = Options { rounds: 10, operations: 50_000_000, dir, sections: Vec::new() };
    // Cargo adds --bench.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
        let number = |text: String| text.parse::<u64>().ok().filter(|&n| n > 0);
        match arg.as_str() {
            "--rounds" => {
                options.rounds = number(value()?).ok_or("--rounds wants a number above 0")? as usize;
            }
            "--operations" => {
                options.operations = number(value()?).ok_or("--operations wants a number above 0")?;
            }
            "--dir" => options.dir = value()?.into(),
            section if SECTIONS.contains(&section) => options.sections.push(arg),
            _ => return Err(format!("{arg:?} is neither an option nor one of {SECTIONS:?}")),
        }
    }
    if options.sections.is_empty() {
        options.sections = SECTIONS.map(str::to_owned).to_vec();
    }
    Ok(options)
}

fn main() -> ExitCode {
    let run = || {
        let options = options()?;
        for section in &options.sections {
            match section.as_str() {
                "interference" => interference::run(&options),
                "writeback" => writeback::run(&options)?,
                "writes" => writes::run(&options)?,
                _ => churn::run(&options),
            }
            println!();
        }
        Ok::<(), String>(())
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reclaim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A small random number generator (xorshift64*), so that a run does the same every time.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n
    }
}

pub(crate) fn at(offset: usize) -> SwapEntry {
    SwapEntry::new(0, u32::try_from(offset).expect("fewer than 2^32 slots"))
}

/// Pages that are made of words of a small dictionary and of noise, and compress to a quarter to three quarters.
pub(crate) fn pages(count: usize, seed: u64) -> Vec<PageBytes> {
    let mut random = Random::new(seed);
    let mut page = || {
        let mut page = [0; PAGE_SIZE];
        let noise = 1 + random.below(6);
        let words: [u64; 32] = std::array::from_fn(|_| random.next() >> 24);
        for word in page.as_chunks_mut::<8>().0 {
            let noisy = random.below(8) < noise;
            *word = if noisy { random.next() } else { words[random.below(32)] }.to_ne_bytes();
        }
        page
    };
    (0..count).map(|_| page()).collect()
}

/// The middle, the least and the most.
pub(crate) fn median(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
}

/// A line with the aim beside what was reached.
pub(crate) fn aim(what: &str, aim: &str, reached: &str, met: bool) {
    println!("aim: {what} {aim}; reached: {reached} - {}", if met { "met" } else { "MISSED" });
}
