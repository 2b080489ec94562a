//! `zfolio bench sweep`: every combination of settings, into one file that a later run goes on with.
//!
//! The codecs of a point are interleaved, round by round; points come in random order, so that a machine that slows down
//! over an hour adds scatter instead of a trend. What the file holds complete is not measured again; rounds of points that
//! were begun and not finished are taken out of it, because they would be mixed with new ones.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::Value;
use zfolio_accel::MAX_WINDOW;

use super::device::{BackendChoice, DeviceArgs, DeviceKind};
use super::jsonl::JsonLines;
use super::variant::{CodecChoice, Variant};
use super::worker::Faults;
use super::{BenchError, FolioChoice, MAX_PAGES, Run, Setup, table};
use crate::corpus::Corpus;
use crate::corpus::random::Random;
use crate::interrupt::{self, Interrupt};
use crate::progress::{self, Progress};
use crate::quantity::plural;
use crate::resume::{self, Key};

/// Arguments of `zfolio bench sweep`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Measure every combination of windows, folio sizes, threads, codecs, backends and devices, and go on where a run was ended",
    after_help = "\
Lists are given with commas: --window 1,4,16 --folio 4K,64K. Codecs of one combination run interleaved; combinations come in
random order. A line is printed for each codec of each combination; the JSON lines are those of zfolio bench, and
zfolio report draws them.

Devices know one codec, so --codec is for software, and --devices for --backend model. The replay clock holds for one
thread: modelled devices are left out where there are more.

The same command goes on with FILE where a run was ended: what is complete there, of the same pages, version and machine, is
skipped; rounds of what was begun and not completed are removed from it.

Exit codes: as of zfolio bench."
)]
pub(crate) struct SweepArgs {
    /// Pages to measure with; may be given again; without it the machine's own
    #[arg(long, value_name = "FILE.pages")]
    corpus: Vec<PathBuf>,
    /// Repeat or cut each corpus to this many pages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_PAGES))]
    pages: Option<u64>,
    /// Codecs
    #[arg(long, value_enum, value_delimiter = ',', default_value = "lz4,deflate,vw")]
    codec: Vec<CodecChoice>,
    /// What compresses
    #[arg(long, value_enum, value_name = "BACKEND,...", value_delimiter = ',', default_value = "auto")]
    backend: Vec<BackendChoice>,
    /// Modelled devices, with one work queue of 128 entries each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1",
          value_parser = clap::value_parser!(u16).range(1..=8))]
    devices: Vec<u16>,
    #[command(flatten)]
    kind: DeviceKind,
    /// Pages stored in one call
    #[arg(
        long,
        value_name = "SIZE,...",
        value_enum,
        value_delimiter = ',',
        default_value = "64K",
        ignore_case = true
    )]
    folio: Vec<FolioChoice>,
    /// Pages in flight at once
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,32",
          value_parser = clap::value_parser!(u64).range(1..=MAX_WINDOW as u64))]
    window: Vec<u64>,
    /// Threads, each with slots of its own
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: Vec<u64>,
    /// Keep each thread on a CPU of its own
    #[arg(long)]
    pin: bool,
    /// Rounds of each combination
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// The file to write the results to, as JSON lines, or to go on with
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
}

impl SweepArgs {
    /// The settings of all combinations, in random order, the same each time.
    fn setups(&self) -> Result<Vec<Setup>, String> {
        let standard = Setup::standard();
        let mut setups = Vec::new();
        let mut impossible = String::new();
        for (backend, device) in self.backends() {
            for &threads in &self.threads {
                if let Err(reason) = device.check(backend, threads) {
                    impossible = reason;
                    continue;
                }
                let pins = super::pins(self.pin, threads)?;
                for folio in &self.folio {
                    for &window in &self.window {
                        setups.push(Setup {
                            pages: self.pages,
                            backend,
                            device: device.clone(),
                            folio_pages: folio.pages(),
                            window: window as usize,
                            threads: threads as usize,
                            pins: pins.clone(),
                            rounds: self.rounds,
                            ..standard.clone()
                        });
                    }
                }
            }
        }
        if setups.is_empty() {
            return Err(impossible);
        }
        Random::new(0x5eed).shuffle(&mut setups);
        Ok(setups)
    }

    /// What compresses, each on its devices: only modelled ones can be other than they are.
    fn backends(&self) -> Vec<(BackendChoice, DeviceArgs)> {
        let of = |&backend: &BackendChoice| {
            let devices =
                if backend == BackendChoice::Model { &self.devices[..] } else { &self.devices[..1] };
            let device = |&devices: &u16| (backend, DeviceArgs { devices, kind: self.kind.clone() });
            devices.iter().map(device).collect::<Vec<_>>()
        };
        self.backend.iter().flat_map(of).collect()
    }

    /// The codecs of a point: a device has its own.
    fn codecs(&self, setup: &Setup) -> &[CodecChoice] {
        if setup.backend.is_device() { &[CodecChoice::Default] } else { &self.codec }
    }

    fn failed(&self, error: io::Error) -> BenchError {
        BenchError::Json { path: self.json.clone(), error }
    }
}

/// Names in the records that are the key.
const KEY: [&str; 15] = [
    "corpus",
    "corpus_sha256",
    "pages",
    "codec",
    "backend",
    "model",
    "folio_bytes",
    "threads",
    "window",
    "rounds",
    "pinned_cpus",
    "version",
    "commit",
    "cpu_model",
    "kernel",
];

/// Runs the command.
pub(super) fn run(args: &SweepArgs, interrupt: &Interrupt) -> Result<ExitCode, BenchError> {
    let setups = args.setups().map_err(BenchError::Sides)?;
    let mut progress = Progress::new();
    let Some(mut corpora) = super::corpora(&args.corpus, interrupt, &mut progress)? else {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    };
    let largest = args.folio.iter().map(|folio| folio.pages()).max().unwrap_or(1);
    for corpus in &mut corpora {
        for setup in &setups {
            super::check(setup, corpus)?;
        }
        corpus.arrange(args.pages.unwrap_or(corpus.facts.pages), largest);
    }
    let of_bench = |value: &Value| value["kind"] == "round" || value["kind"] == "summary";
    let whole = |value: &Value| value["kind"] == "summary" && value["complete"] == true;
    let complete = resume::go_on(&args.json, &KEY, of_bench, whole)
        .map_err(|error| BenchError::Resume { path: args.json.clone(), error })?;
    let out =
        File::options().append(true).create(true).open(&args.json).map_err(|error| args.failed(error))?;
    let mut sweep = Sweep {
        args,
        complete,
        json: JsonLines::new(Some(out)),
        points: corpora.len() * setups.iter().map(|setup| args.codecs(setup).len()).sum::<usize>(),
        done: 0,
        measured: 0,
        begin: Instant::now(),
        faults: Faults::default(),
    };
    let mut printed = true;
    for setup in &setups {
        for corpus in &corpora {
            if !interrupt.raised() {
                printed &= sweep.point(setup, corpus, interrupt)?;
            }
        }
    }
    let Sweep { points, done, measured, faults, .. } = sweep;
    let old = done - measured;
    printed &= crate::print(&format!(
        "{done} of {} complete, {old} of them before{}\n",
        plural(points as u64, "point"),
        if done < points { "; the same command goes on" } else { "" }
    ))
    .is_ok();
    super::tell_faults(&faults);
    Ok(match (faults.any() || !printed, interrupt.raised()) {
        (true, _) => ExitCode::FAILURE,
        (_, true) => ExitCode::from(interrupt::EXIT_CODE),
        _ => ExitCode::SUCCESS,
    })
}

/// A sweep on its way.
struct Sweep<'a> {
    args: &'a SweepArgs,
    complete: HashSet<Key>,
    json: JsonLines,
    /// Codecs of combinations of corpora: all, complete, and complete by this run.
    points: usize,
    done: usize,
    measured: usize,
    begin: Instant,
    faults: Faults,
}

impl Sweep<'_> {
    /// Measures the codecs that are not complete yet; `false` when it could not be told.
    fn point(&mut self, setup: &Setup, corpus: &Corpus, interrupt: &Interrupt) -> Result<bool, BenchError> {
        let pages = setup.pages.unwrap_or(corpus.facts.pages) as u32;
        let mut variants = Vec::new();
        for &codec in self.args.codecs(setup) {
            let variant = Variant::open_one(&setup.with_codec(codec), pages)?;
            let line = super::jsonl::begin("summary", setup, corpus, &variant).into_value();
            if self.complete.contains(&resume::key(&line, &KEY)) {
                self.done += 1;
            } else {
                variants.push(variant);
            }
        }
        if variants.is_empty() {
            return Ok(true);
        }
        let mut run = Run::new(setup, interrupt);
        run.before = self.so_far();
        let (args, json) = (self.args, &mut self.json);
        let outcomes = run.measure(corpus, &variants, json, &|error| args.failed(error))?;
        let complete = outcomes.iter().filter(|(outcome, _)| outcome.is_complete(setup)).count();
        self.done += complete;
        self.measured += complete;
        self.faults.add(run.faults);
        let lines: String = (outcomes.iter())
            .map(|(outcome, summary)| table::one_line(setup, corpus, outcome, summary))
            .collect();
        Ok(crate::print(&lines).is_ok())
    }

    /// A bar, `12 of 96, 3 min left: `.
    fn so_far(&self) -> String {
        format!("{}: ", progress::bar(self.done, self.points, self.measured, self.begin.elapsed()))
    }
}
