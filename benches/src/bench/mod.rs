//! `zfolio bench`: pages through the store and back, every byte compared, and what that took.
//!
//! For each corpus a fresh store a codec; for each round each store in turn is filled, read in order and emptied
//! at random. The order of the codecs turns round from round to round, so that neither always runs first.

mod ab;
mod args;
mod crew;
mod device;
mod engine;
mod error;
mod exposition;
mod figures;
mod jsonl;
mod latency;
mod layout;
mod noise;
mod peers;
mod perturb;
mod phases;
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
use zfolio_accel::{NodeId, Topology, numa};

pub(crate) use self::args::BenchArgs;
pub(crate) use self::args::FolioChoice;
use self::args::{Part, pins};
use self::crew::Crew;
use self::device::{BackendChoice, DeviceArgs};
pub(crate) use self::device::{Profile, Queues};
pub(crate) use self::error::BenchError;
use self::exposition::Exposition;
use self::figures::Summary;
use self::jsonl::JsonLines;
use self::layout::Layout;
use self::round::{Growth, Round};
pub(crate) use self::table::wrapped;
use self::variant::{CodecChoice, PolicyChoice, Variant};
use self::worker::{Faults, Worker};
use crate::corpus::{Corpus, CorpusError, builtin};
use crate::interrupt::{self, Interrupt};
use crate::machine::{KernelSettings, Machine, now_utc};
use crate::progress::Progress;
use crate::quantity::plural;

/// The commit this was built from, where the build was told.
pub(crate) const COMMIT: Option<&str> = option_env!("ZFOLIO_COMMIT");

/// A swap type of this store has at most so many slots.
const MAX_PAGES: u64 = MAX_SWAP_SLOTS as u64;

/// The phases of the pass whose figures begin so: their names in the records, and in words.
pub(crate) fn phases_of(prefix: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let of_prefix = worker::Pass::ALL.into_iter().filter(move |pass| figures::prefix(*pass) == prefix);
    of_prefix.flat_map(|pass| phases::Phase::of(pass).iter().map(|(_, record, title)| (*record, *title)))
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
    policy: PolicyChoice,
    threads: usize,
    /// The CPU of each thread; empty when they run where they like.
    pins: Vec<usize>,
    rounds: u32,
    slow_store: f64,
    /// One call in so many is timed by phase; none of them where nothing stands here.
    phases: Option<u32>,
    /// The layout of this process, where it was given one.
    layout: Option<Layout>,
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
        let layout = args.layout_seed.map(Layout::of);
        let pins = match &layout {
            Some(layout) => layout.pins(args.threads as usize),
            None => pins(args.pin, args.threads).unwrap_or_default(),
        };
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
            policy: args.policy,
            threads: args.threads as usize,
            pins,
            rounds: args.rounds,
            slow_store: args.slow_store,
            phases: args.phases,
            layout,
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
        Some(Part::Peers(args)) => return peers::run(args, interrupt),
        Some(Part::Sweep(args)) => return sweep::run(args, interrupt),
        None => {}
    }
    if let Some(seed) = args.layout_seed {
        Layout::of(seed).enter().map_err(BenchError::Layout)?;
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
    if let Some(layouts) = args.perturb {
        return perturb::run(args, layouts, corpora, interrupt);
    }
    let exposition_error =
        |error| BenchError::Prometheus { path: args.prometheus.clone().unwrap_or_default(), error };
    run.exposition = Exposition::create(args.prometheus.as_deref()).map_err(exposition_error)?;
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
    let (faults, exposition) = (run.faults, run.exposition);
    tell_faults(&faults);
    if faults.any() {
        return Ok(ExitCode::FAILURE);
    }
    exposition.finish().map_err(exposition_error)?;
    if interrupt.raised() {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    Ok(if printed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All corpora before the first measurement: a broken one is found out at once. Files of one name are called by their paths.
/// None after Ctrl-C.
fn corpora(
    paths: &[PathBuf],
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Option<Vec<Corpus>>, BenchError> {
    if !paths.is_empty() {
        let read = |path: &PathBuf| Corpus::read(path).map_err(BenchError::Corpus);
        let mut corpora: Vec<Corpus> = paths.iter().map(read).collect::<Result<_, _>>()?;
        let names: Vec<String> = corpora.iter().map(|corpus| corpus.name.clone()).collect();
        for (corpus, path) in corpora.iter_mut().zip(paths) {
            if names.iter().filter(|name| **name == corpus.name).count() > 1 {
                corpus.name = path.display().to_string();
            }
        }
        return Ok(Some(corpora));
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
    exposition: Exposition,
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
        let (faults, exposition) = (Faults::default(), Exposition::default());
        Self { setup, interrupt, progress, faults, exposition, headed: false, before }
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
        let workers = shares.iter().map(|share| {
            Worker::new(source, share, setup.nid)
                .map(|worker| worker.laid_out(setup.layout.as_ref()).timed(setup.phases))
        });
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
                let labels = [("corpus", &*corpus.name), ("codec", variant.method.name())];
                let mut full = |zswap: &_| self.exposition.take(zswap, &labels);
                let zswap = &variant.zswap;
                let round =
                    round::run_with(number, crew, zswap, growth, &mut self.progress, &label, &mut full);
                json.round(self.setup, corpus, variant, &round)?;
                outcomes[index].rounds.push(round);
            }
        }
        Ok(())
    }
}
