//! `zfolio bench --ab`: two settings against each other, so that neither the machine's mood nor the placement of memory decides.
//!
//! A trial opens both stores anew, in random order, and runs a few rounds of each, interleaved, in random order too. Its
//! result, for each figure, is the median over its rounds of log(B / A); the first round, which touches fresh memory,
//! stands apart. Rounds of one trial share the placement of their stores in memory, which moves speed by more than most
//! changes do, so it is the trials that count as independent: the ratio and its interval come from them by ranks
//! (Wilcoxon's signed-rank test), at a level at which one comparison in a hundred calls any difference that is not there.

use std::ffi::OsString;
use std::fmt::Write;
use std::process::ExitCode;
use std::{env, iter, thread};

use clap::Parser;
use serde_json::{Value, json};

use super::crew::{Crew, PassTime};
use super::figures::prefix;
use super::jsonl::JsonLines;
use super::round::{self, Growth, Round};
use super::variant::Variant;
use super::worker::{Faults, Pass, Worker};
use super::{BenchArgs, BenchError, Setup, plan};
use crate::corpus::Corpus;
use crate::corpus::random::Random;
use crate::interrupt::{self, Interrupt};
use crate::progress::Progress;
use crate::quantity::{nanoseconds, plural};
use crate::statistics::Sample;
use crate::verdict::{TimeRatio, Verdict};

/// Rounds of a trial that count, after the first.
const ROUNDS: u32 = 3;

/// Figures that are compared: three passes, wall and CPU time.
const FIGURES: usize = 6;

/// One comparison in a hundred may call a difference that is not there; this is each figure's share.
const LEVEL: f64 = 1.0 - 0.01 / FIGURES as f64;

/// The exit codes when B is slower in something, and when it is faster and slower in nothing.
const EXIT_SLOWER: u8 = 3;

/// The options of one side, after those that both have.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, args_override_self = true)]
struct Side {
    #[command(flatten)]
    args: BenchArgs,
}

/// The arguments when none is given.
pub(super) fn standard() -> BenchArgs {
    Side::parse_from::<_, OsString>([]).args
}

/// What both sides measure with: the options beside --ab and each side's own.
pub(super) fn setups(args: &BenchArgs) -> Result<[Setup; 2], String> {
    let side = |own: &String| {
        let words = own.split_whitespace().map(OsString::from);
        let side = Side::try_parse_from(common().chain(words));
        let side = side.map_err(|error| {
            let error = error.to_string();
            let first = error.lines().next().unwrap_or_default();
            format!("--ab '{own}': {}", first.trim_start_matches("error: "))
        });
        let side = side?.args;
        side.check()?;
        if side.corpus != args.corpus || side.pages != args.pages {
            return Err(format!(
                "--ab '{own}': both sides need the same pages; put --corpus and --pages beside --ab"
            ));
        }
        Ok(Setup::new(&side))
    };
    Ok([side(&args.ab[0])?, side(&args.ab[1])?])
}

/// The arguments beside --ab, after the command's name.
fn common() -> impl Iterator<Item = OsString> {
    let mut arguments = env::args_os().skip(2);
    iter::from_fn(move || {
        let argument = arguments.next()?;
        if argument == "--ab" { arguments.nth(2) } else { Some(argument) }
    })
}

/// Both sides on all corpora.
pub(super) fn run(
    setups: &[Setup; 2],
    args: &BenchArgs,
    mut corpora: Vec<Corpus>,
    json: &mut JsonLines,
    interrupt: &Interrupt,
) -> Result<ExitCode, BenchError> {
    let (own, trials) = (&args.ab, args.trials);
    let mut progress = Progress::new();
    let mut slower = false;
    let mut faults = Faults::default();
    let name =
        |own: &str| if own.trim().is_empty() { "(the common options)".to_owned() } else { own.to_owned() };
    let mut text = format!("A  {}\nB  {}\n", name(&own[0]), name(&own[1]));
    for corpus in &mut corpora {
        let pages = setups[0].pages.unwrap_or(corpus.facts.pages);
        corpus.arrange(pages, setups[0].folio_pages.max(setups[1].folio_pages));
        let mut ratios: Vec<Trial> = Vec::new();
        let mut random = Random::new(0x5eed ^ pages);
        for number in 1..=trials {
            let label = format!("{}, trial {number} of {trials}", corpus.name);
            let Some(trial) =
                self::trial(setups, corpus, &mut random, &mut progress, &label, interrupt, &mut faults)?
            else {
                break;
            };
            ratios.push(trial);
        }
        progress.clear();
        let comparison = Comparison::of(corpus, &ratios);
        slower |= comparison.rows.iter().any(|row| row.is_slower());
        text += &comparison.as_text(trials);
        for line in comparison.as_json(own) {
            json.value(&line).map_err(|error| BenchError::Json { path: "the JSON file".into(), error })?;
        }
        if interrupt.raised() {
            break;
        }
    }
    let printed = crate::print(&text).is_ok();
    if faults.any() {
        crate::tell(format_args!(
            "{} mismatched pages, {} refused, {} checks failed: no comparison of speed is worth anything",
            faults.mismatched_pages, faults.rejected_pages, faults.failed_checks
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(match (interrupt.raised(), printed) {
        (true, _) => ExitCode::from(interrupt::EXIT_CODE),
        (_, false) => ExitCode::FAILURE,
        _ if slower => ExitCode::from(EXIT_SLOWER),
        _ => ExitCode::SUCCESS,
    })
}

/// What a trial found: for each figure the times a page of A and B, and the logarithm of their ratio.
type Trial = [Measured; FIGURES];

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    a: f64,
    b: f64,
    log_ratio: f64,
}

/// Opens both stores and runs their rounds; none if it was interrupted.
fn trial(
    setups: &[Setup; 2],
    corpus: &Corpus,
    random: &mut Random,
    progress: &mut Progress,
    label: &str,
    interrupt: &Interrupt,
    faults: &mut Faults,
) -> Result<Option<Trial>, BenchError> {
    let pages = setups[0].pages.unwrap_or(corpus.facts.pages) as u32;
    let open = |side: usize| Variant::open_one(&setups[side], pages);
    // Who is opened first gets other addresses.
    let first = random.below(2) as usize;
    let (one, other) = (open(first)?, open(1 - first)?);
    let variants = if first == 0 { [&one, &other] } else { [&other, &one] };
    let no_memory = |side: usize| BenchError::NoMemory {
        pages,
        bytes: plan::list_bytes(pages, setups[side].folio_pages),
    };
    let deal = |side: usize| {
        plan::deal(pages, setups[side].folio_pages, setups[side].threads).map_err(|_| no_memory(side))
    };
    let shares = [deal(0)?, deal(1)?];
    let mut rounds: [Vec<Round>; 2] = Default::default();
    thread::scope(|scope| {
        let crew = |side: usize| {
            let workers = shares[side].iter().map(|share| {
                Worker::new(corpus.arranged(), share, setups[side].nid)
                    .map(|worker| worker.slowed(setups[side].slow_store))
            });
            let workers = workers.collect::<Result<_, _>>().map_err(|_| no_memory(side))?;
            Crew::start(scope, workers, &setups[side].pins, interrupt).map_err(BenchError::Threads)
        };
        let crews = [crew(0)?, crew(1)?];
        let mut growths = [Growth::new(), Growth::new()];
        for number in 1..=ROUNDS + 1 {
            let first = random.below(2) as usize;
            for side in [first, 1 - first] {
                if interrupt.raised() {
                    return Ok(None);
                }
                let store = &variants[side].zswap;
                let round = round::run(number, &crews[side], store, &mut growths[side], progress, label);
                faults.add(round.faults.clone());
                rounds[side].push(round);
            }
        }
        Ok(Some(measured(&rounds)))
    })
}

/// The figures of a trial's rounds, the first left out.
fn measured(rounds: &[Vec<Round>; 2]) -> Trial {
    let mut trial = Trial::default();
    for (index, measured) in trial.iter_mut().enumerate() {
        let times = |side: usize| {
            let warm = rounds[side].iter().skip(1);
            warm.filter_map(move |round| Some(time(round.pass(Pass::ALL[index / 2])?, index % 2 == 1)))
        };
        let logs = times(0).zip(times(1)).map(|(a, b)| (b / a).ln()).collect();
        let median = |values: Vec<f64>| Sample::new(values).map_or(f64::NAN, |sample| sample.median());
        *measured = Measured {
            a: median(times(0).collect()),
            b: median(times(1).collect()),
            log_ratio: median(logs),
        };
    }
    trial
}

/// Nanoseconds a page.
fn time(pass: &PassTime, cpu: bool) -> f64 {
    let time = if cpu { pass.cpu } else { pass.wall };
    time.as_nanos() as f64 / pass.pages.max(1) as f64
}

/// What all trials on a corpus say.
struct Comparison<'c> {
    corpus: &'c Corpus,
    trials: usize,
    rows: Vec<Row>,
}

struct Row {
    pass: Pass,
    cpu: bool,
    a: f64,
    b: f64,
    /// None with too few trials.
    ratio: Option<TimeRatio>,
    /// Wall time of a machine on which others ran too.
    busy: Option<f64>,
}

/// Wall time over CPU time above which others had the CPU too.
const BUSY: f64 = 1.1;

impl Row {
    fn is_slower(&self) -> bool {
        self.busy.is_none() && self.ratio.is_some_and(|ratio| ratio.verdict() == Verdict::Slower)
    }

    fn title(&self) -> String {
        let pass = match self.pass {
            Pass::Store => "store",
            Pass::Read => "read in order",
            Pass::Load => "load at random",
        };
        format!("{pass}, {}", if self.cpu { "CPU" } else { "wall" })
    }

    fn verdict(&self) -> String {
        match (self.ratio, self.busy) {
            (_, Some(share)) => format!("busy machine: {share:.1} times its CPU time"),
            (None, _) => "too few trials to say".to_owned(),
            (Some(ratio), _) => match ratio.verdict() {
                Verdict::NoDifference => {
                    format!("no difference seen ({:.1} % would have been)", 100.0 * ratio.smallest_seen())
                }
                verdict => verdict.name().to_owned(),
            },
        }
    }
}

impl<'c> Comparison<'c> {
    fn of(corpus: &'c Corpus, trials: &[Trial]) -> Self {
        let column = |index: usize, of: fn(&Measured) -> f64| {
            Sample::new(trials.iter().map(|trial| of(&trial[index])).collect())
        };
        let row = |index: usize| {
            let (a, b) = (column(index, |m| m.a)?.median(), column(index, |m| m.b)?.median());
            let ratio = column(index, |m| m.log_ratio)?.centre(LEVEL).map(TimeRatio::of_logarithms);
            let cpu = index % 2 == 1;
            Some(Row { pass: Pass::ALL[index / 2], cpu, a, b, ratio, busy: None })
        };
        let mut rows: Vec<Row> = (0..FIGURES).filter_map(row).collect();
        // Wall times of threads that waited for a CPU say more of the others. Where a device works, they wait for it.
        for at in 1..rows.len() {
            if rows[at].cpu && rows[at].pass == rows[at - 1].pass {
                let share = (rows[at - 1].a / rows[at].a).max(rows[at - 1].b / rows[at].b);
                rows[at - 1].busy = (share > BUSY).then_some(share);
            }
        }
        Self { corpus, trials: trials.len(), rows }
    }

    fn as_text(&self, asked: u32) -> String {
        let mut text = format!(
            "\ncorpus {}, {}{}\n",
            crate::printable(&self.corpus.name),
            plural(self.trials as u64, "trial"),
            if self.trials < asked as usize { " (interrupted)" } else { "" },
        );
        let _ =
            writeln!(text, "  {:<22}{:>10}{:>10}   {:<24} verdict", "time a page", "A", "B", "B / A [99 %]");
        for row in &self.rows {
            let ratio = row.ratio.map_or_else(|| format!("{:.3}", row.b / row.a), |ratio| ratio.to_string());
            let (title, a, b) = (row.title(), nanoseconds(row.a), nanoseconds(row.b));
            let _ = writeln!(text, "  {title:<22}{a:>10}{b:>10}   {ratio:<24} {}", row.verdict());
        }
        text
    }

    fn as_json(&self, own: &[String]) -> Vec<Value> {
        let line = |row: &Row| {
            let figure = format!("{}_{}_ns_per_page", prefix(row.pass), if row.cpu { "cpu" } else { "wall" });
            json!({
                "kind": "ab",
                "corpus": self.corpus.name,
                "corpus_sha256": self.corpus.facts.sha256,
                "a": own[0],
                "b": own[1],
                "trials": self.trials,
                "rounds_per_trial": ROUNDS,
                "figure": figure,
                "a_median": row.a,
                "b_median": row.b,
                "ratio": row.ratio.map_or(row.b / row.a, |ratio| ratio.0.estimate),
                "ratio_low": row.ratio.map(|ratio| ratio.0.low),
                "ratio_high": row.ratio.map(|ratio| ratio.0.high),
                "level": LEVEL,
                "verdict": row.ratio.map(|ratio| ratio.verdict().name()),
                "smallest_difference_seen": row.ratio.map(TimeRatio::smallest_seen),
                "busy_wall_over_cpu": row.busy,
            })
        };
        self.rows.iter().map(line).collect()
    }
}
