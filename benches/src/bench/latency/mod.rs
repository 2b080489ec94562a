//! `zfolio bench latency`: how long a call takes when calls arrive at a given rate, waiting included.

mod client;
mod report;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use zfolio_accel::MAX_WINDOW;

use self::client::{Client, Found, Load};
use super::device::BackendChoice;
use super::jsonl::JsonLines;
use super::variant::{CodecChoice, Variant};
use super::{BenchError, FolioChoice, MAX_PAGES, Setup, plan, round};
use crate::interrupt::{self, Interrupt};
use crate::os;
use crate::progress::{Progress, TICK};

/// Arguments of `zfolio bench latency`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Store and load at a given rate of arrivals, and print how long calls took from when they were due",
    after_help = "\
Calls arrive at random (a Poisson process) at the rate asked for, whether or not those before them are done, and their
latency counts from their arrival: a call that waits behind a slow one is slow too. Half of the pages are stored before the
clock starts. A store gives a folio other content than it had; every page that is loaded is compared with what was stored
last. Calls that were due and never begun count with the time they had waited at the end.

With more loads than stores, pages would run out; below a quarter of the slots, loads leave their page in the store.

Exit codes: as of zfolio bench."
)]
pub(crate) struct LatencyArgs {
    /// Arrivals a second, over all threads
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: u32,
    /// How long calls arrive
    #[arg(long, value_name = "S", default_value = "10", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// How many of a hundred calls are loads
    #[arg(long, value_name = "PERCENT", default_value = "50", value_parser = clap::value_parser!(u32).range(0..=100))]
    mix: u32,
    /// Pages to measure with; without it the machine's own (live memory of a process, where it can be had)
    #[arg(long, value_name = "FILE.pages")]
    corpus: Option<PathBuf>,
    /// Slots to store into; the corpus is repeated or cut
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_PAGES))]
    pages: Option<u64>,
    /// Codec
    #[arg(long, value_enum, default_value = "default")]
    codec: CodecChoice,
    /// What compresses
    #[arg(long, value_enum, default_value = "auto")]
    backend: BackendChoice,
    /// Pages stored in one call
    #[arg(long, value_name = "SIZE", value_enum, default_value = "4K", ignore_case = true)]
    folio: FolioChoice,
    /// Pages in flight at once [default: the store's own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_WINDOW as u64))]
    window: Option<u64>,
    /// Threads, each with slots and arrivals of its own
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: u64,
    /// Keep each thread on a CPU of its own
    #[arg(long)]
    pin: bool,
    /// Write the results to this file as a JSON line too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl LatencyArgs {
    fn setup(&self) -> Result<Setup, String> {
        if self.backend == BackendChoice::Model {
            // Its clock stands still inside the model, while arrivals go on.
            return Err("a modelled device has no time of its own to be late by: --backend model is not for latency under \
                 load"
                .to_owned());
        }
        let standard = Setup::standard();
        Ok(Setup {
            pages: self.pages,
            codec: Some(self.codec),
            backend: self.backend,
            folio_pages: self.folio.pages(),
            window: self.window.map_or(standard.window, |window| window as usize),
            threads: self.threads as usize,
            pins: super::pins(self.pin, self.threads)?,
            ..standard
        })
    }
}

/// What was measured, over all threads.
struct Measured {
    found: Found,
    interrupted: bool,
}

/// Runs the command.
pub(super) fn run(args: &LatencyArgs, interrupt: &Interrupt) -> Result<ExitCode, BenchError> {
    let setup = args.setup().map_err(BenchError::Sides)?;
    let json_error = |error| BenchError::Json { path: args.json.clone().unwrap_or_default(), error };
    let mut progress = Progress::new();
    let paths: Vec<PathBuf> = args.corpus.iter().cloned().collect();
    let Some(corpora) = super::corpora(&paths, interrupt, &mut progress)? else {
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    };
    let mut corpus =
        corpora.into_iter().next().ok_or(BenchError::Corpus(crate::corpus::CorpusError::NoneBuiltIn))?;
    super::check(&setup, &corpus)?;
    let mut json = JsonLines::new(args.json.as_deref().map(File::create).transpose().map_err(json_error)?);
    let pages = setup.pages.unwrap_or(corpus.facts.pages) as u32;
    corpus.arrange(u64::from(pages), setup.folio_pages);
    let variant = Variant::open_one(&setup, pages)?;
    let no_memory = |_| BenchError::NoMemory { pages, bytes: plan::list_bytes(pages, setup.folio_pages) };
    let shares = plan::deal(pages, setup.folio_pages, setup.threads).map_err(no_memory)?;
    let load = Load {
        rate: f64::from(args.rate) / setup.threads as f64,
        time: Duration::from_secs(u64::from(args.seconds)),
        loads_percent: args.mix,
    };
    let clients = shares
        .iter()
        .enumerate()
        .map(|(number, share)| Client::new(corpus.arranged(), share, setup.nid, 1 + number as u64));
    let measured = serve(clients.collect(), &setup, &load, &variant, interrupt, &mut progress)?;
    progress.clear();
    let line = report::json(args, &setup, &corpus, &variant, &measured);
    json.value(&line).map_err(json_error)?;
    let printed = crate::print(&report::text(args, &setup, &corpus, &variant, &measured)).is_ok();
    super::tell_faults(&measured.found.faults);
    Ok(match (measured.found.faults.any(), measured.interrupted, printed) {
        (true, ..) | (_, _, false) => ExitCode::FAILURE,
        (_, true, _) => ExitCode::from(interrupt::EXIT_CODE),
        _ => ExitCode::SUCCESS,
    })
}

/// All threads, until the time is over; then the store's books are checked.
fn serve(
    mut clients: Vec<Client<'_>>,
    setup: &Setup,
    load: &Load,
    variant: &Variant,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<Measured, BenchError> {
    let zswap = &variant.zswap;
    clients.iter_mut().for_each(|client| client.fill(zswap));
    // The clock starts when all threads are there, and nobody waits for one that is not.
    let start = Instant::now() + Duration::from_millis(20);
    let founds: io::Result<Vec<Found>> = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, client) in clients.into_iter().enumerate() {
            let pin = setup.pins.get(number).copied();
            let serve = move || {
                pin.map_or(Ok(()), |cpu| os::run_on(&[cpu]))?;
                Ok(client.serve(load, zswap, interrupt, start))
            };
            threads.push(thread::Builder::new().name(format!("client-{number}")).spawn_scoped(scope, serve)?);
        }
        while progress.visible() && !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(TICK);
            let (done, all) = (start.elapsed().as_secs(), load.time.as_secs());
            progress.tick(|| format!("{} of {all} s", done.min(all)));
        }
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|found| found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    let whole = founds.map_err(BenchError::Threads)?.into_iter().reduce(Found::with);
    let mut found = whole.expect("there is one thread at least");
    round::check_empty(zswap, &mut found.faults);
    Ok(Measured { found, interrupted: interrupt.raised() })
}

impl Found {
    fn with(mut self, other: Self) -> Self {
        for (own, other) in [(&mut self.stores, other.stores), (&mut self.loads, other.loads)] {
            own.add(&other).expect("all histograms have the same range");
        }
        self.reads += other.reads;
        self.served += other.served;
        self.unserved += other.unserved;
        self.elapsed = self.elapsed.max(other.elapsed);
        self.usage.add(other.usage);
        self.faults.add(other.faults);
        self
    }

    /// Calls a second that were served.
    fn reached(&self) -> f64 {
        self.served as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}
