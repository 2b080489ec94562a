//! `zfolio bench`: pages through the store and back, every byte compared, and what that took.
//!
//! For each corpus a fresh store a codec; for each round each store in turn is filled, read in order and emptied
//! at random. The order of the codecs turns round from round to round, so that neither always runs first.

mod ab;
mod crew;
mod device;
mod engine;
mod figures;
mod jsonl;
mod latency;
mod noise;
mod plan;
mod round;
mod stopwatch;
mod sweep;
mod table;
mod variant;
mod worker;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use zfolio::{Config, MAX_SWAP_SLOTS};
use zfolio_accel::{MAX_WINDOW, NodeId, Topology, numa};

use self::crew::Crew;
use self::device::{BackendChoice, DeviceArgs};
use self::figures::Summary;
use self::jsonl::JsonLines;
use self::round::{Growth, Round};
use self::variant::{CodecChoice, Variant};
use self::worker::{Faults, Worker};
use crate::corpus::{Corpus, CorpusError, builtin};
use crate::interrupt::{self, Interrupt};
use crate::machine::{KernelSettings, Machine, now_utc};
use crate::os;
use crate::progress::Progress;
use crate::quantity::plural;

/// The commit this was built from, where the build was told.
pub(crate) const COMMIT: Option<&str> = option_env!("ZFOLIO_COMMIT");

/// A swap type of this store has at most so many slots.
const MAX_PAGES: u64 = MAX_SWAP_SLOTS as u64;

/// Arguments of `zfolio bench`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Store, read and load real pages, compare every byte, and print what it took",
    args_conflicts_with_subcommands = true,
    after_help = "\
Without --corpus the pages are the machine's own: live memory of a workload process, programs and shared objects,
text files. Nothing needs to be installed, and nothing is written except --json's FILE.

Every round stores all pages, reads them all in order (the store keeps them) and loads them all in random order (the
store gives them up). Each page that comes back is compared with its source, outside the timed part. The first round
touches fresh memory; its store is told apart from the later ones (JSON: arena, store_cold_*).

JSON lines: an object a corpus, codec and round (\"kind\": \"round\"), and one a corpus and codec with the medians
(\"kind\": \"summary\", with _min, _max, _mad, and _low and _high, the bootstrap interval of the median at 95 %, and how
many _outliers). ratio and the like are null for pages that need no memory.

With --ab 'OPTIONS' 'OPTIONS' two settings are compared: both stores are opened anew in each trial, in random order, and run
interleaved; what is called faster or slower would be called so by chance in one comparison of a hundred. Options of both
stand beside it. Exit code 3: B is slower in something.

Exit codes: 0 every byte was right; 1 a page came back different or was refused, or nothing could be measured;
2 wrong arguments; 130 Ctrl-C, after printing what had been measured."
)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    part: Option<Part>,
    /// Pages to measure with, as `zfolio capture` writes them; may be given again
    #[arg(long, value_name = "FILE.pages")]
    corpus: Vec<PathBuf>,
    /// Repeat or cut each corpus to this many pages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_PAGES))]
    pages: Option<u64>,
    /// Codec; lz4, deflate and vw are compared when it is not given
    #[arg(long, value_enum)]
    codec: Option<CodecChoice>,
    /// What compresses
    #[arg(long, value_enum, default_value = "auto")]
    backend: BackendChoice,
    #[command(flatten)]
    device: DeviceArgs,
    /// Pages stored in one call
    #[arg(long, value_name = "SIZE", value_enum, default_value = "64K", ignore_case = true)]
    folio: FolioChoice,
    /// Pages in flight at once [default: the store's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_WINDOW as u64))]
    window: Option<u64>,
    /// Threads, each with slots of its own
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: u64,
    /// Keep each thread on a CPU of its own
    #[arg(long)]
    pin: bool,
    /// Rounds to take the median of
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Compare two settings, each a string of options beside the others: 'A' 'B'
    #[arg(long, num_args = 2, value_names = ["OPTIONS", "OPTIONS"], allow_hyphen_values = true)]
    ab: Vec<String>,
    /// With --ab: how often both stores are opened anew; 11 are the fewest that say anything
    #[arg(long, value_name = "N", default_value = "24", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    trials: u32,
    /// Slow each store down by so many percent of its time: to see whether --ab finds it
    #[arg(long, value_name = "PERCENT", default_value = "0", hide = true)]
    slow_store: f64,
    /// Write the results to this file as JSON lines too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Benchmarks of another kind.
#[derive(Debug, clap::Subcommand)]
enum Part {
    Engine(engine::EngineArgs),
    Latency(latency::LatencyArgs),
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
fn pins(pin: bool, threads: u64) -> Result<Vec<usize>, String> {
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
enum FolioChoice {
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
    fn pages(self) -> u32 {
        match self {
            Self::Page => 1,
            Self::Small => 4,
            Self::Medium => 16,
            Self::Huge => 512,
        }
    }
}

/// Why nothing was measured.
#[derive(Debug)]
pub(crate) enum BenchError {
    Sides(String),
    Corpus(CorpusError),
    Json { path: PathBuf, error: io::Error },
    Resume { path: PathBuf, error: io::Error },
    Store(String),
    Threads(io::Error),
    NoMemory { pages: u32, bytes: u64 },
    TooManyPages { corpus: String, pages: u64 },
    TooManyThreads { corpus: String, pages: u64, threads: usize },
}

impl std::fmt::Display for BenchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sides(error) => f.write_str(error),
            Self::Corpus(error) => error.fmt(f),
            Self::Json { path, error } => write!(f, "{} cannot be written: {error}", path.display()),
            Self::Resume { path, error } => {
                write!(f, "a sweep cannot go on with {}: {error}", path.display())
            }
            Self::Store(error) => write!(f, "the store cannot be opened: {error}"),
            Self::Threads(error) => write!(f, "threads cannot be started: {error}"),
            Self::NoMemory { pages, bytes } => {
                let gib = (*bytes as f64 / f64::from(1 << 30)).max(0.1);
                write!(
                    f,
                    "the list of {pages} pages alone needs about {gib:.1} GiB; ask for fewer pages (--pages)"
                )
            }
            Self::TooManyPages { corpus, pages } => {
                write!(
                    f,
                    "corpus {corpus} has {pages} pages; at most {MAX_PAGES} can be measured: cut it with --pages"
                )
            }
            Self::TooManyThreads { corpus, pages, threads } => write!(
                f,
                "corpus {corpus}: {pages} pages make fewer folios than the {threads} threads; ask for fewer \
                 --threads, a smaller --folio or more --pages"
            ),
        }
    }
}

/// What all corpora are measured with.
#[derive(Clone)]
pub(crate) struct Setup {
    machine: Machine,
    settings: KernelSettings,
    measured_at: String,
    nid: NodeId,
    pages: Option<u64>,
    codec: Option<CodecChoice>,
    backend: BackendChoice,
    device: DeviceArgs,
    folio_pages: u32,
    window: usize,
    threads: usize,
    /// The CPU of each thread; empty when they run where they like.
    pins: Vec<usize>,
    rounds: u32,
    slow_store: f64,
}

impl Setup {
    /// What is measured when nothing is asked for.
    fn standard() -> Self {
        Self::new(&ab::standard())
    }

    /// The same with this codec.
    fn with_codec(&self, codec: CodecChoice) -> Self {
        Self { codec: Some(codec), ..self.clone() }
    }

    fn new(args: &BenchArgs) -> Self {
        Self {
            machine: Machine::read(),
            settings: KernelSettings::read(),
            measured_at: now_utc(),
            nid: own_node(),
            pages: args.pages,
            codec: args.codec,
            backend: args.backend,
            device: args.device.clone(),
            folio_pages: args.folio.pages(),
            window: args.window.map_or(Config::default().window, |window| window as usize),
            threads: args.threads as usize,
            pins: pins(args.pin, args.threads).unwrap_or_default(),
            rounds: args.rounds,
            slow_store: args.slow_store,
        }
    }
}

/// The rounds of one variant on one corpus.
pub(crate) struct Outcome<'a> {
    variant: &'a Variant,
    rounds: Vec<Round>,
}

impl Outcome<'_> {
    /// Every round that was asked for, to its end.
    fn is_complete(&self, setup: &Setup) -> bool {
        self.rounds.len() == setup.rounds as usize && self.rounds.iter().all(Round::complete)
    }

    fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        self.rounds.iter().for_each(|round| faults.add(round.faults.clone()));
        faults
    }
}

/// Runs the command.
pub(crate) fn run(args: &BenchArgs, interrupt: &Interrupt) -> Result<ExitCode, BenchError> {
    match &args.part {
        Some(Part::Engine(args)) => return engine::run(args, interrupt),
        Some(Part::Latency(args)) => return latency::run(args, interrupt),
        Some(Part::Sweep(args)) => return sweep::run(args, interrupt),
        None => {}
    }
    let sides = if args.ab.is_empty() { None } else { Some(ab::setups(args).map_err(BenchError::Sides)?) };
    let setup = Setup::new(args);
    let json_error = |error| BenchError::Json { path: args.json.clone().unwrap_or_default(), error };
    let mut run = Run::new(&setup, interrupt);
    let Some(corpora) = corpora(&args.corpus, interrupt, &mut run.progress)? else {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    };
    for corpus in &corpora {
        for setup in sides.iter().flatten().chain([&setup]) {
            check(setup, corpus)?;
        }
    }
    let mut json = JsonLines::new(args.json.as_deref().map(File::create).transpose().map_err(json_error)?);
    if let Some(sides) = &sides {
        return ab::run(sides, args, corpora, &mut json, interrupt);
    }
    let mut printed = true;
    for mut corpus in corpora {
        if !interrupt.raised() {
            printed &= run.corpus(&mut corpus, &mut json, &json_error)?;
        }
    }
    if run.headed {
        printed &= crate::print(&table::footer(&setup)).is_ok();
    }
    let faults = run.faults;
    tell_faults(&faults);
    if faults.any() {
        return Ok(ExitCode::FAILURE);
    }
    if interrupt.raised() {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    Ok(if printed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All corpora before the first measurement: a broken one is found out at once. None after Ctrl-C.
fn corpora(
    paths: &[PathBuf],
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Option<Vec<Corpus>>, BenchError> {
    if !paths.is_empty() {
        let read = |path: &PathBuf| Corpus::read(path).map_err(BenchError::Corpus);
        return paths.iter().map(read).collect::<Result<_, _>>().map(Some);
    }
    match builtin::gather(interrupt, progress) {
        Err(CorpusError::Interrupted) => {
            crate::tell(CorpusError::Interrupted);
            Ok(None)
        }
        gathered => gathered.map(Some).map_err(BenchError::Corpus),
    }
}

/// What went wrong, on standard error.
fn tell_faults(faults: &Faults) {
    if faults.store_failed() {
        crate::tell(format_args!(
            "THE STORE FAILED: {} mismatched pages, {} checks failed",
            faults.mismatched_pages, faults.failed_checks
        ));
        faults.examples.iter().for_each(|example| crate::tell(format_args!("  {example}")));
    }
    if let Some(refusal) = &faults.refusal {
        crate::tell(format_args!("{} refused: {refusal}", plural(faults.rejected_pages, "page")));
    }
}

/// Can this corpus be measured as asked? Better known before the first minute than after it.
fn check(setup: &Setup, corpus: &Corpus) -> Result<(), BenchError> {
    let pages = setup.pages.unwrap_or(corpus.facts.pages);
    if pages > MAX_PAGES {
        return Err(BenchError::TooManyPages { corpus: corpus.name.clone(), pages });
    }
    if (plan::folios(pages as u32, setup.folio_pages) as usize) < setup.threads {
        return Err(BenchError::TooManyThreads {
            corpus: corpus.name.clone(),
            pages,
            threads: setup.threads,
        });
    }
    Ok(())
}

/// The node of the CPU that this runs on, as a memory manager's pages would be.
fn own_node() -> NodeId {
    let topology = Topology::read(Path::new("/sys")).unwrap_or_else(|_| Topology::single_node());
    let here = numa::current_cpu().and_then(|cpu| topology.node_of_cpu(cpu));
    here.or_else(|| topology.nodes().first().map(|node| node.nid)).unwrap_or(NodeId(0))
}

/// A run over all corpora.
struct Run<'a> {
    setup: &'a Setup,
    interrupt: &'a Interrupt,
    progress: Progress,
    faults: Faults,
    /// The table's header is out.
    headed: bool,
    /// What stands before each line of progress.
    before: String,
}

/// What was measured of a corpus: the rounds of each variant, and what they come to.
type Measured<'a> = Vec<(Outcome<'a>, Summary)>;

impl<'s> Run<'s> {
    fn new(setup: &'s Setup, interrupt: &'s Interrupt) -> Self {
        let (progress, before) = (Progress::new(), String::new());
        Self { setup, interrupt, progress, faults: Faults::default(), headed: false, before }
    }

    /// Measures one corpus and reports it; `false` when the report could not be printed.
    fn corpus(
        &mut self,
        corpus: &mut Corpus,
        json: &mut JsonLines,
        json_error: &dyn Fn(io::Error) -> BenchError,
    ) -> Result<bool, BenchError> {
        let setup = self.setup;
        let pages = setup.pages.unwrap_or(corpus.facts.pages) as u32;
        corpus.arrange(u64::from(pages), setup.folio_pages);
        let variants = Variant::open_all(setup, pages)?;
        let summaries = self.measure(corpus, &variants, json, json_error)?;
        let Some((first, _)) = summaries.first() else { return Ok(true) };
        let mut text = String::new();
        if !std::mem::replace(&mut self.headed, true) {
            text = table::header(setup, first);
        }
        text += &table::block(setup, corpus, &summaries);
        Ok(crate::print(&text).is_ok())
    }

    /// Measures variants on a corpus that is arranged, and records it. Those that Ctrl-C left no round are left out.
    fn measure<'a>(
        &mut self,
        corpus: &'a Corpus,
        variants: &'a [Variant],
        json: &mut JsonLines,
        json_error: &dyn Fn(io::Error) -> BenchError,
    ) -> Result<Measured<'a>, BenchError> {
        let setup = self.setup;
        let pages = setup.pages.unwrap_or(corpus.facts.pages) as u32;
        let no_memory = |_| BenchError::NoMemory { pages, bytes: plan::list_bytes(pages, setup.folio_pages) };
        let shares = plan::deal(pages, setup.folio_pages, setup.threads).map_err(no_memory)?;
        let source = corpus.arranged();
        let workers = shares.iter().map(|share| Worker::new(source, share, setup.nid));
        let workers = workers.collect::<Result<_, _>>().map_err(no_memory)?;
        let mut outcomes: Vec<Outcome<'a>> =
            variants.iter().map(|variant| Outcome { variant, rounds: Vec::new() }).collect();
        thread::scope(|scope| {
            let crew =
                Crew::start(scope, workers, &setup.pins, self.interrupt).map_err(BenchError::Threads)?;
            self.rounds(corpus, &crew, &mut outcomes, json).map_err(json_error)
        })?;
        self.progress.clear();
        outcomes.retain(|outcome| !outcome.rounds.is_empty());
        let summed = outcomes.into_iter().map(|outcome| {
            let summary = Summary::of(&outcome.rounds);
            (outcome, summary)
        });
        let summaries: Measured<'a> = summed.collect();
        for (outcome, summary) in &summaries {
            json.summary(setup, corpus, outcome, summary).map_err(json_error)?;
            self.faults.add(outcome.faults());
        }
        Ok(summaries)
    }

    /// All rounds of a corpus, until Ctrl-C.
    fn rounds<'a, 'v: 'a>(
        &mut self,
        corpus: &Corpus,
        crew: &Crew<'a>,
        outcomes: &mut [Outcome<'v>],
        json: &mut JsonLines,
    ) -> io::Result<()> {
        let mut growths = vec![Growth::new(); outcomes.len()];
        for number in 1..=self.setup.rounds {
            let mut order: Vec<usize> = (0..outcomes.len()).collect();
            if number % 2 == 0 {
                order.reverse();
            }
            for index in order {
                if self.interrupt.raised() {
                    return Ok(());
                }
                let variant = outcomes[index].variant;
                let label = format!(
                    "{}{}, {}, round {number} of {}",
                    self.before, corpus.name, variant.method, self.setup.rounds
                );
                let growth = &mut growths[index];
                let round = round::run(number, crew, &variant.zswap, growth, &mut self.progress, &label);
                json.round(self.setup, corpus, variant, &round)?;
                outcomes[index].rounds.push(round);
            }
        }
        Ok(())
    }
}
