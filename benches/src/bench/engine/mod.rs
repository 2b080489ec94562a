//! `zfolio bench engine`: pages through an engine alone, by window, every answer checked.
//!
//! What the store does around it is left out, but not what a caller has to do in any case: each result is copied
//! out of the channel while the others are in flight. Windows take turns within each round.

mod lane;
mod report;

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use zfolio_accel::{MAX_WINDOW, PageBytes, Topology, repeated_word};

use self::lane::{Lane, Prepared};
use super::device::{BackendChoice, DeviceArgs};
use super::{BenchError, FolioChoice};
use crate::corpus::{Corpus, CorpusError, builtin};
use crate::interrupt::{self, Interrupt};
use crate::machine::{KernelSettings, Machine, now_utc};
use crate::os::ThreadUsage;
use crate::progress::Progress;

/// Arguments of `zfolio bench engine`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Compress or decompress real pages by an engine alone, for each window, and check every answer",
    after_help = "\
Same-filled pages are left out: a store never hands them to an engine. The first round is not counted. Backends and windows
take turns in each round; figures are medians over rounds.

With --backend direct and no usable device this says what is missing and exits with 1; it never measures something
else instead."
)]
pub(crate) struct EngineArgs {
    /// Pages to measure with, as `zfolio capture` writes them; without it the memory of a live process
    #[arg(long, value_name = "FILE.pages")]
    corpus: Option<PathBuf>,
    /// Cut the corpus to this many pages
    #[arg(long, value_name = "N", default_value = "4096", value_parser = clap::value_parser!(u64).range(1..))]
    pages: u64,
    /// What compresses; several are measured in turns
    #[arg(long, value_enum, value_name = "BACKEND,...", value_delimiter = ',', default_value = "auto")]
    backend: Vec<BackendChoice>,
    /// What is measured
    #[arg(long, value_enum, default_value = "compress")]
    op: Op,
    /// Pages in flight at once
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1,2,4,8,16,32",
          value_parser = clap::value_parser!(u16).range(1..=MAX_WINDOW as i64))]
    window: Vec<u16>,
    /// Pages handed over in one call
    #[arg(long, value_name = "SIZE", value_enum, default_value = "64K", ignore_case = true)]
    folio: FolioChoice,
    #[command(flatten)]
    device: DeviceArgs,
    /// Rounds to take the median of
    #[arg(long, value_name = "N", default_value = "11", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Write the results to this file as JSON lines too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What an engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Op {
    /// Pages to compressed bytes
    Compress,
    /// Compressed bytes to pages
    Decompress,
}

impl Op {
    fn name(self) -> &'static str {
        match self {
            Self::Compress => "compress",
            Self::Decompress => "decompress",
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &EngineArgs, interrupt: &Interrupt) -> Result<ExitCode, BenchError> {
    let json_error =
        |error: io::Error| BenchError::Json { path: args.json.clone().unwrap_or_default(), error };
    let mut progress = Progress::new();
    // The engine before the corpus: what cannot be had is found out at once.
    let topology = Topology::read("/sys".as_ref()).unwrap_or_else(|_| Topology::single_node());
    let wanted =
        args.backend.iter().flat_map(|&backend| args.window.iter().map(move |&window| (backend, window)));
    let open = |(backend, window)| Lane::open(args, backend, usize::from(window), &topology);
    let mut lanes = wanted.map(open).collect::<Result<Vec<_>, _>>().map_err(BenchError::Store)?;
    let mut corpus = match &args.corpus {
        Some(path) => Corpus::read(path).map_err(BenchError::Corpus)?,
        None => match builtin::gather(interrupt, &mut progress) {
            Err(CorpusError::Interrupted) => {
                crate::tell(CorpusError::Interrupted);
                return Ok(ExitCode::from(interrupt::EXIT_CODE));
            }
            // The first is the memory of a live process, where that can be had.
            gathered => gathered.map_err(BenchError::Corpus)?.swap_remove(0),
        },
    };
    corpus.arrange(args.pages.min(corpus.facts.pages), 1);
    let pages: Vec<PageBytes> =
        corpus.pages.iter().filter(|page| repeated_word(page).is_none()).copied().collect();
    let prepared = Prepared::new(args.op, pages).map_err(BenchError::Store)?;
    let mut json = args.json.as_deref().map(File::create).transpose().map_err(json_error)?;

    let (usage, began) = (ThreadUsage::now(), Instant::now());
    // The first round makes everything warm that will be, and a modelled device's answers known.
    for round in 0..=args.rounds {
        let count = lanes.len();
        for turn in 0..count {
            if interrupt.raised() {
                break;
            }
            let lane = &mut lanes[(turn + round as usize) % count];
            progress.tick(|| {
                format!("{}, window {}, round {round} of {}", lane.name(), lane.window, args.rounds)
            });
            lane.pass(args.folio.pages() as usize, &prepared, round > 0);
        }
    }
    progress.clear();
    let (usage, elapsed) = (ThreadUsage::now().since(usage), began.elapsed());
    let (machine, settings, measured_at) = (Machine::read(), KernelSettings::read(), now_utc());
    let heading = report::Heading {
        args,
        machine: &machine,
        settings: &settings,
        measured_at: &measured_at,
        corpus: &corpus,
        prepared: &prepared,
        usage,
        elapsed,
    };
    if let Some(out) = &mut json {
        let text = report::json(&heading, &lanes).map_err(json_error)?;
        out.write_all(text.as_bytes()).map_err(json_error)?;
    }
    let printed = crate::print(&report::text(&heading, &lanes)).is_ok();
    let wrong: u64 = lanes.iter().map(|lane| lane.wrong).sum();
    if wrong > 0 {
        crate::tell(format_args!("THE ENGINE FAILED: {wrong} answers were wrong"));
        return Ok(ExitCode::FAILURE);
    }
    if interrupt.raised() {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    Ok(if printed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
