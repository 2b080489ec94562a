//! `zfolio bench --ab`: two settings against each other, so that neither the machine's mood nor the placement of memory decides.
//!
//! A trial opens both stores anew, in random order, and runs a few rounds of each, interleaved, in random order too. Its
//! result, for each figure, is the median over its rounds of log(B / A); the first round, which touches fresh memory,
//! stands apart. Rounds of one trial share the placement of their stores in memory, which moves speed by more than most
//! changes do, so it is the trials that count as independent: the ratio and its interval come from them by ranks
//! (Wilcoxon's signed-rank test), at a level at which one comparison in a hundred calls any difference that is not there.

use std::collections::TryReserveError;
use std::ffi::OsString;
use std::fmt::Write;
use std::process::ExitCode;
use std::{env, iter, thread};

use clap::Parser;
use serde_json::Value;

use super::crew::{Crew, PassTime};
use super::figures::prefix;
use super::jsonl::{JsonLines, Line, add_facts, libraries, rounded};
use super::round::{self, Growth, Round};
use super::table::wrapped;
use super::variant::Variant;
use super::worker::{Faults, Pass, Worker};
use super::{BenchArgs, BenchError, Setup, noise, plan};
use crate::corpus::Corpus;
use crate::corpus::random::Random;
use crate::interrupt::{self, Interrupt};
use crate::os::ThreadUsage;
use crate::progress::Progress;
use crate::quantity::{nanoseconds, plural};
use crate::statistics::Sample;
use crate::verdict::{TimeRatio, Verdict};

/// Trials when no number is asked for, and those of each process where there are many processes.
const TRIALS: u32 = 24;
const TRIALS_OF_A_PROCESS: u32 = 4;

/// Rounds of a trial that count, after the first.
const ROUNDS: u32 = 3;

/// Figures that are compared: three passes, wall and CPU time.
pub(super) const FIGURES: usize = 6;

/// One comparison in a hundred may call a difference that is not there; this is each figure's share.
pub(super) const LEVEL: f64 = 1.0 - 0.01 / FIGURES as f64;

/// The exit codes when B is slower in something, and when it is faster and slower in nothing.
pub(super) const EXIT_SLOWER: u8 = 3;

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
    without(env::args_os().skip(2), &[("--ab", 2)])
}

/// The arguments but for options of these names, which have so many values each.
pub(super) fn without(
    arguments: impl Iterator<Item = OsString>,
    names: &[(&str, usize)],
) -> impl Iterator<Item = OsString> {
    let mut arguments = arguments;
    iter::from_fn(move || {
        loop {
            let argument = arguments.next()?;
            let text = argument.to_string_lossy();
            let (name, joined) = text.split_once('=').map_or((&*text, 0), |(name, _)| (name, 1));
            let Some((_, values)) = names.iter().find(|(other, _)| *other == name) else {
                return Some(argument);
            };
            for _ in joined..*values {
                arguments.next();
            }
        }
    })
}

/// What a side's options are called.
pub(super) fn name(own: &str) -> &str {
    if own.trim().is_empty() { "(the common options)" } else { own }
}

/// Both sides on all corpora.
pub(super) fn run(
    setups: &[Setup; 2],
    args: &BenchArgs,
    mut corpora: Vec<Corpus>,
    json: &mut JsonLines,
    interrupt: &Interrupt,
) -> Result<ExitCode, BenchError> {
    let trials = if args.layout_seed.is_some() { TRIALS_OF_A_PROCESS } else { TRIALS };
    let (own, trials) = (&args.ab, args.trials.unwrap_or(trials));
    let mut progress = Progress::new();
    let mut slower = false;
    let mut faults = Faults::default();
    let mut text = format!("A  {}\nB  {}\n", name(&own[0]), name(&own[1]));
    for corpus in &mut corpora {
        let pages = setups[0].pages.unwrap_or(corpus.facts.pages);
        corpus.arrange(pages, setups[0].folio_pages.max(setups[1].folio_pages));
        let mut ratios: Vec<Trial> = Vec::new();
        let mut sides = [SideFacts::default(), SideFacts::default()];
        let mut random =
            Random::new(setups[0].layout.as_ref().map_or(0, |layout| layout.reseed(0)) ^ 0x5eed ^ pages);
        for number in 1..=trials {
            let label = format!("{}, trial {number} of {trials}", corpus.name);
            let mut trials =
                Trials { setups, corpus, random: &mut random, sides: &mut sides, faults: &mut faults };
            let Some(trial) = trials.run(&mut progress, &label, interrupt)? else {
                break;
            };
            ratios.push(trial);
        }
        progress.clear();
        let comparison = Comparison::of(corpus, &ratios);
        slower |= comparison.rows.iter().any(|row| row.is_slower());
        text += &comparison.as_text(trials);
        if let Some(noise) = sides.iter().find_map(SideFacts::noise) {
            let _ = writeln!(text, "  NOISY MACHINE: {noise}");
        }
        for line in comparison.as_json(own, setups, &sides) {
            let path = || args.json.clone().unwrap_or_default();
            json.write(&line).map_err(|error| BenchError::Json { path: path(), error })?;
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

/// What a side is, as its store tells.
#[derive(Clone, Default)]
struct SideFacts {
    codec: &'static str,
    backend_report: String,
    library_versions: Value,
    /// Of its threads, in all trials.
    usage: ThreadUsage,
    seconds: f64,
}

impl SideFacts {
    fn tell(&mut self, variant: &Variant) {
        self.codec = variant.method.name();
        self.backend_report = variant.backend_report.clone();
        self.library_versions = libraries(variant);
    }

    fn add(&mut self, round: &Round, threads: usize) {
        for (_, time) in &round.passes {
            self.usage.add(time.usage);
            self.seconds += time.elapsed.as_secs_f64() * threads as f64;
        }
    }

    /// What speaks for a noisy machine.
    fn noise(&self) -> Option<String> {
        noise::switched(self.usage.involuntary_switches, self.seconds)
    }
}

/// Trials on a corpus.
struct Trials<'t> {
    setups: &'t [Setup; 2],
    corpus: &'t Corpus,
    random: &'t mut Random,
    sides: &'t mut [SideFacts; 2],
    faults: &'t mut Faults,
}

impl Trials<'_> {
    /// Opens both stores and runs their rounds; none if it was interrupted.
    fn run(
        &mut self,
        progress: &mut Progress,
        label: &str,
        interrupt: &Interrupt,
    ) -> Result<Option<Trial>, BenchError> {
        let Self { setups, corpus, random, sides, faults } = self;
        let pages = setups[0].pages.unwrap_or(corpus.facts.pages) as u32;
        let open = |side: usize| Variant::open_one(&setups[side], pages);
        // Who is opened first gets other addresses.
        let first = random.below(2) as usize;
        let (one, other) = (open(first)?, open(1 - first)?);
        let variants = if first == 0 { [&one, &other] } else { [&other, &one] };
        sides.iter_mut().zip(variants).for_each(|(side, variant)| side.tell(variant));
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
                let setup = &setups[side];
                let workers = shares[side].iter().map(|share| {
                    let worker = Worker::new(corpus.arranged(), share, setup.nid)?;
                    Ok(worker.slowed(setup.slow_store).laid_out(setup.layout.as_ref()).timed(setup.phases))
                });
                let workers = workers.collect::<Result<_, TryReserveError>>().map_err(|_| no_memory(side))?;
                Crew::start(scope, workers, &setup.pins, interrupt).map_err(BenchError::Threads)
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
                    sides[side].add(&round, setups[side].threads);
                    rounds[side].push(round);
                }
            }
            Ok(Some(measured(&rounds)))
        })
    }
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
    /// B / A in each trial, in order of size.
    ratios: Vec<f64>,
    /// Those of them that lie far off.
    outliers: Vec<f64>,
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
        format!("{}, {}", self.pass.title(), if self.cpu { "CPU" } else { "wall" })
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
            let logarithms = column(index, |m| m.log_ratio)?;
            let ratio = logarithms.centre(LEVEL).map(TimeRatio::of_logarithms);
            let ratios = logarithms.values().iter().map(|value| value.exp()).collect();
            let outliers = logarithms.outliers().iter().map(|value| value.exp()).collect();
            let (pass, cpu) = (Pass::ALL[index / 2], index % 2 == 1);
            Some(Row { pass, cpu, a, b, ratios, outliers, ratio, busy: None })
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
        let far_off = self.rows.iter().filter(|row| !row.outliers.is_empty()).map(|row| {
            let told: Vec<String> = row.outliers.iter().map(|ratio| format!("{ratio:.3}")).collect();
            format!("{} {}", row.title(), told.join(" "))
        });
        let far_off: Vec<String> = far_off.collect();
        if !far_off.is_empty() {
            let told = format!("trials far off, which count too: {}", far_off.join("; "));
            let _ = writeln!(text, "  {}", wrapped(&told));
        }
        text
    }

    fn as_json(&self, own: &[String], setups: &[Setup; 2], sides: &[SideFacts; 2]) -> Vec<Line> {
        let line = |row: &Row| {
            let mut line = Line::default();
            line.add("kind", "ab");
            line.add("corpus", self.corpus.name.as_str());
            line.add("a", own[0].as_str());
            line.add("b", own[1].as_str());
            line.add("trials", self.trials);
            line.add("rounds_per_trial", ROUNDS);
            line.add(
                "figure",
                format!("{}_{}_ns_per_page", prefix(row.pass), if row.cpu { "cpu" } else { "wall" }),
            );
            let number = |value: Option<f64>| value.map_or(Value::Null, Value::from);
            line.add("a_median", row.a);
            line.add("b_median", row.b);
            line.add("ratio", row.ratio.map_or(row.b / row.a, |ratio| ratio.0.estimate));
            line.add("ratio_low", number(row.ratio.map(|ratio| ratio.0.low)));
            line.add("ratio_high", number(row.ratio.map(|ratio| ratio.0.high)));
            line.add("level", LEVEL);
            line.add("verdict", row.ratio.map_or(Value::Null, |ratio| ratio.verdict().name().into()));
            line.add("smallest_difference_seen", number(row.ratio.map(TimeRatio::smallest_seen)));
            line.add("busy_wall_over_cpu", number(row.busy));
            line.add("trial_ratios", row.ratios.iter().copied().map(rounded).collect::<Vec<_>>());
            line.add("outliers", row.outliers.len());
            for (name, setup, side) in [("a", &setups[0], &sides[0]), ("b", &setups[1], &sides[1])] {
                line.add(&format!("{name}_codec"), side.codec);
                line.add(&format!("{name}_backend_report"), side.backend_report.as_str());
                line.add(&format!("{name}_library_versions"), side.library_versions.clone());
                line.add(&format!("{name}_folio_bytes"), setup.folio_pages * 4096);
                line.add(&format!("{name}_window"), setup.window);
                line.add(&format!("{name}_threads"), setup.threads);
                line.add(&format!("{name}_pinned"), !setup.pins.is_empty());
                for (count, value) in side.usage.named() {
                    line.add(&format!("{name}_{count}"), value);
                }
            }
            line.add("noise", sides.iter().find_map(SideFacts::noise).into_iter().collect::<Vec<_>>());
            add_facts(&mut line, &setups[0], self.corpus);
            line
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_left_out_with_their_values_however_these_are_written() {
        let given =
            "--json F --pages 5 --ab A B --perturb=3 --json=G --codec lz4".split(' ').map(OsString::from);
        let left: Vec<_> = without(given, &[("--ab", 2), ("--json", 1), ("--perturb", 1)]).collect();
        assert_eq!(left, ["--pages", "5", "--codec", "lz4"]);
    }
}
