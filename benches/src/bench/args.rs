//! Arguments of `zfolio bench`, and what they alone tell to be impossible.

use std::path::PathBuf;

use zfolio_accel::MAX_WINDOW;

use super::device::{BackendChoice, DeviceArgs};
use super::variant::{CodecChoice, PolicyChoice};
use super::{MAX_PAGES, engine, latency, peers, plan, sweep};
use crate::os;

/// Arguments of `zfolio bench`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Store, read and load real pages, compare every byte, and print what it took",
    args_conflicts_with_subcommands = true,
    after_help = "\
Without --corpus the pages are the machine's own: live memory of a workload process, programs and shared objects,
text files. Nothing needs to be installed, and nothing is written except --json's and --prometheus' FILE.

Every round stores all pages, reads them all in order (the store keeps them) and loads them all in random order (the
store gives them up). Each page that comes back is compared with its source, outside the timed part. The first round
touches fresh memory; its store is told apart from the later ones (JSON: arena, store_cold_*).

JSON lines: an object a corpus, codec and round (\"kind\": \"round\"), and one a corpus and codec with the medians
(\"kind\": \"summary\", with _min, _max, _mad, and _low and _high, the bootstrap interval of the median at 95 %, and how
many _outliers). ratio and the like are null for pages that need no memory.

With --ab 'OPTIONS' 'OPTIONS' two settings are compared: both stores are opened anew in each trial, in random order, and run
interleaved; what is called faster or slower would be called so by chance in one comparison of a hundred. Options of both
stand beside it. Exit code 3: B is slower in something.

With --perturb N all of it, --ab too, is measured in N layouts, twice each, in processes of their own: environment, stack, heap,
CPUs and order of folios follow from a seed, which is printed (--layout-seed measures in one of them). Told are the spread within a
process, between processes of one layout and between layouts, and the smallest difference to be believed. JSON lines: one a
process (\"kind\": \"perturbed\") and one a figure (\"kind\": \"perturb\").

Exit codes: 0 every byte was right; 1 a page came back different or was refused, or nothing could be measured;
2 wrong arguments; 130 Ctrl-C, after printing what had been measured."
)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(super) part: Option<Part>,
    /// Pages to measure with, as `zfolio capture` writes them; may be given again
    #[arg(long, value_name = "FILE.pages")]
    pub(super) corpus: Vec<PathBuf>,
    /// Repeat or cut each corpus to this many pages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_PAGES))]
    pub(super) pages: Option<u64>,
    /// Codec; lz4, deflate and vw are compared when it is not given
    #[arg(long, value_enum)]
    pub(super) codec: Option<CodecChoice>,
    /// What compresses
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) backend: BackendChoice,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    /// Pages stored in one call
    #[arg(long, value_name = "SIZE", value_enum, default_value = "64K", ignore_case = true)]
    pub(super) folio: FolioChoice,
    /// Pages in flight at once [default: the store's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_WINDOW as u64))]
    pub(super) window: Option<u64>,
    /// Where compressed pages may lie
    #[arg(long, value_enum, default_value = "prefer")]
    pub(super) policy: PolicyChoice,
    /// Threads, each with slots of its own
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(super) threads: u64,
    /// Keep each thread on a CPU of its own
    #[arg(long)]
    pub(super) pin: bool,
    /// Rounds to take the median of
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) rounds: u32,
    /// Time one call in N by phase (claim, compress or device wait, pool, publish; look up, decompress, free)
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "16",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) phases: Option<u32>,
    /// Compare two settings, each a string of options beside the others: 'A' 'B'
    #[arg(long, num_args = 2, value_names = ["OPTIONS", "OPTIONS"], allow_hyphen_values = true)]
    pub(super) ab: Vec<String>,
    /// Measure in N layouts (environment, stack, heap, CPUs, order of folios), and tell layout from noise
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub(super) perturb: Option<u32>,
    /// With --perturb: what all layouts follow from [default: a new one each time]
    #[arg(long, value_name = "SEED", requires = "perturb")]
    pub(super) seed: Option<u64>,
    /// With --perturb: measure builds of zfolio in N layouts each, and tell what differs between the builds
    #[arg(long, value_name = "ZFOLIO", requires = "perturb")]
    pub(super) build: Vec<PathBuf>,
    /// Measure in the layout of this seed, as --perturb has its processes do
    #[arg(long, value_name = "SEED", conflicts_with_all = ["perturb", "pin"])]
    pub(super) layout_seed: Option<u64>,
    /// With --ab: how often both stores are opened anew; 11 are the fewest that say anything [default: 24; 4 a process with --perturb]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) trials: Option<u32>,
    /// Slow each store down by so many percent of its time: to see whether --ab finds it
    #[arg(long, value_name = "PERCENT", default_value = "0", hide = true)]
    pub(super) slow_store: f64,
    /// Write the results to this file as JSON lines too
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the stores' own figures to this file in Prometheus' text format, each round anew while a store is full
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ab", "perturb"])]
    pub(super) prometheus: Option<PathBuf>,
}

/// Benchmarks of another kind.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Part {
    Engine(engine::EngineArgs),
    Latency(latency::LatencyArgs),
    Peers(peers::PeersArgs),
    Sweep(sweep::SweepArgs),
}

impl BenchArgs {
    /// What the arguments alone tell to be impossible.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.device.check(self.backend, self.threads)?;
        pins(self.pin, self.threads)?;
        match self.pages {
            Some(pages) if u64::from(plan::folios(pages as u32, self.folio.pages())) < self.threads => {
                Err(format!(
                    "--pages {pages} make fewer folios than --threads {}; ask for fewer --threads, a smaller --folio or \
                 more --pages",
                    self.threads
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The CPU of each thread, where they are to be pinned: the last ones first, as the first serves most interrupts.
pub(super) fn pins(pin: bool, threads: u64) -> Result<Vec<usize>, String> {
    let cpus = if pin { os::allowed_cpus().unwrap_or_default() } else { Vec::new() };
    if pin && (cpus.len() as u64) < threads {
        return Err(format!(
            "--pin needs a CPU a thread: this process may run on {}, and --threads is {threads}",
            cpus.len()
        ));
    }
    Ok(cpus.into_iter().rev().take(threads as usize).collect())
}

/// Folio sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FolioChoice {
    #[value(name = "4K")]
    Page,
    #[value(name = "16K")]
    Small,
    #[value(name = "64K")]
    Medium,
    #[value(name = "2M")]
    Huge,
}

impl FolioChoice {
    pub(crate) fn pages(self) -> u32 {
        match self {
            Self::Page => 1,
            Self::Small => 4,
            Self::Medium => 16,
            Self::Huge => 512,
        }
    }
}
