//! `zfolio compare`: two recorded runs, and whether they differ by more than their noise.

mod records;

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use self::records::{Pair, Subject};
use crate::quantity::nanoseconds;
use crate::statistics::Sample;
use crate::verdict::{LEVEL, TimeRatio, Verdict};

/// The exit code when something in B is slower.
const EXIT_SLOWER: u8 = 3;

/// Wall time over CPU time above which others had the CPU too.
const BUSY: f64 = 1.1;

/// The figures that are compared: times a page, so that more is slower.
const FIGURES: [(&str, &str); 6] = [
    ("store_wall_ns_per_page", "store, wall"),
    ("store_cpu_ns_per_page", "store, CPU"),
    ("load_seq_wall_ns_per_page", "read in order, wall"),
    ("load_seq_cpu_ns_per_page", "read in order, CPU"),
    ("load_wall_ns_per_page", "load at random, wall"),
    ("load_cpu_ns_per_page", "load at random, CPU"),
];

/// Compare two runs that `zfolio bench --json` recorded
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The ratio is the time of B divided by the time of A: above 1, B is slower. Its interval holds the truth 99 times in 100, as
far as the rounds of the two runs tell (Mann and Whitney's test; five rounds in each are needed). What differs from one
process to the next, such as the placement of memory, the rounds do not tell; record several runs to see it.

Exit codes: 0 nothing in B is slower, 3 something is (wall times of a busy machine do not count), 1 the files cannot be compared, 2 wrong arguments.")]
pub(crate) struct CompareArgs {
    /// The run to compare with
    #[arg(value_name = "A.jsonl")]
    a: PathBuf,
    /// The run that is faster or slower
    #[arg(value_name = "B.jsonl")]
    b: PathBuf,
    /// Print the comparison as JSON lines
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &CompareArgs) -> Result<ExitCode, Box<dyn Error>> {
    let read = |path| records::read(path).map_err(|error| error.to_string());
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let (pairs, unpaired) = records::pair(&a, &b);
    if pairs.is_empty() {
        return Err(format!(
            "{} and {} have no corpus in common: its name, SHA-256 and number of pages must be the same",
            args.a.display(),
            args.b.display()
        )
        .into());
    }
    let comparisons: Vec<Comparison<'_>> = pairs.iter().map(Comparison::of).collect();
    let text = if args.json { as_json(&comparisons) } else { as_text(&comparisons, &unpaired) };
    crate::print(&text)?;
    let slower = comparisons.iter().any(Comparison::is_slower);
    Ok(if slower { EXIT_SLOWER.into() } else { ExitCode::SUCCESS })
}

/// Two groups of rounds, figure by figure.
struct Comparison<'g> {
    a: &'g Subject,
    b: &'g Subject,
    rows: Vec<Row>,
    /// Facts of either's first round, by the names of [`FACTS`].
    facts: [Vec<Value>; 2],
}

/// Facts of program and machine. Where any but the first two differs, the machines do.
const FACTS: [&str; 8] = [
    "commit",
    "measured_at",
    "cpu_model",
    "cpus",
    "kernel",
    "memory_bytes",
    "governor",
    "transparent_huge_pages",
];

struct Row {
    name: &'static str,
    title: &'static str,
    a: Sample,
    b: Sample,
    /// None with too few rounds.
    ratio: Option<TimeRatio>,
}

impl<'g> Comparison<'g> {
    fn of(pair: &Pair<'g>) -> Self {
        let row = |&(name, title): &(&'static str, &'static str)| {
            let (a, b) = (values(pair.a.1, name)?, values(pair.b.1, name)?);
            let logarithms = |sample: &Sample| sample.map(f64::ln);
            let shift = logarithms(&a)?.shift(&logarithms(&b)?, LEVEL);
            Some(Row { name, title, ratio: shift.map(TimeRatio::of_logarithms), a, b })
        };
        let facts = |rounds: &[Value]| FACTS.iter().map(|name| rounds[0][name].clone()).collect();
        Self {
            a: pair.a.0,
            b: pair.b.0,
            rows: FIGURES.iter().filter_map(row).collect(),
            facts: [facts(pair.a.1), facts(pair.b.1)],
        }
    }
}

impl Comparison<'_> {
    /// Whether B is slower in something. On a busy machine wall time says more of the others.
    fn is_slower(&self) -> bool {
        let busy = self.waited(true).or(self.waited(false)).is_some();
        let rows = self.rows.iter().filter(|row| !(busy && row.name.contains("wall")));
        rows.filter_map(|row| row.ratio).any(|ratio| ratio.verdict() == Verdict::Slower)
    }

    /// Facts of the machine in which A and B differ, as `kernel "Linux 6.1" and "Linux 6.2"`.
    fn machines_differ(&self) -> Vec<String> {
        let [a, b] = &self.facts;
        let of_machine = FACTS.iter().zip(a.iter().zip(b)).skip(2);
        // What an older record does not tell may be the same.
        let differ = of_machine.filter(|(_, (a, b))| a != b && !a.is_null() && !b.is_null());
        differ.map(|(name, (a, b))| format!("{} {a} and {b}", name.replace('_', " "))).collect()
    }

    /// Wall time over CPU time, where software alone was measured and the thread waited for its CPU too long.
    fn waited(&self, of_a: bool) -> Option<f64> {
        let subject = if of_a { self.a } else { self.b };
        let ratios = self.rows.chunks_exact(2).map(|rows| {
            let median = |row: &Row| if of_a { row.a.median() } else { row.b.median() };
            median(&rows[0]) / median(&rows[1])
        });
        let share = ratios.fold(1.0, f64::max);
        let alone = subject.setting.threads == 1 && subject.setting.backend == "software";
        (share > BUSY && alone).then_some(share)
    }
}

/// The figure in each round. A first fill of fresh memory counts only where there is nothing else.
fn values(rounds: &[Value], name: &str) -> Option<Sample> {
    let of = |wanted: &dyn Fn(&Value) -> bool| {
        Sample::new(
            rounds.iter().filter(|round| wanted(round)).filter_map(|round| round[name].as_f64()).collect(),
        )
    };
    let warm = |round: &Value| round["arena"] != "cold";
    if name.starts_with("store") { of(&warm).or_else(|| of(&|_| true)) } else { of(&|_| true) }
}

fn as_text(comparisons: &[Comparison<'_>], unpaired: &[&Subject]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for comparison in comparisons {
        let Comparison { a, b, rows, .. } = comparison;
        let _ = writeln!(text, "corpus {}: {} pages", crate::printable(&a.corpus), a.pages);
        let _ = writeln!(text, "  A  {}\n  B  {}", a.setting, b.setting);
        let _ =
            writeln!(text, "  {:<22}{:>10}{:>10}   {:<24} verdict", "time a page", "A", "B", "B / A [99 %]");
        for Row { title, a, b, ratio, .. } in rows {
            let (ratio, verdict) = match ratio {
                Some(ratio) => (ratio.to_string(), told(*ratio)),
                None => (
                    format!("{:.3}", b.median() / a.median()),
                    format!("too few rounds to say ({} and {}; 5 each are enough)", a.len(), b.len()),
                ),
            };
            let (a, b) = (nanoseconds(a.median()), nanoseconds(b.median()));
            let _ = writeln!(text, "  {title:<22}{a:>10}{b:>10}   {ratio:<24} {verdict}");
        }
        let differ = comparison.machines_differ();
        if !differ.is_empty() {
            let _ = writeln!(
                text,
                "  NOT THE SAME MACHINE: {}: a difference may be the machine's",
                crate::printable(&differ.join(", "))
            );
        }
        for side in ["A", "B"] {
            if let Some(share) = comparison.waited(side == "A") {
                let _ = writeln!(
                    text,
                    "  {side} was measured on a busy machine: its wall time is {share:.1} times its CPU time, so trust CPU"
                );
            }
        }
        text.push('\n');
    }
    for subject in unpaired {
        let corpus = crate::printable(&subject.corpus);
        let _ = writeln!(text, "not compared, as only one file has it: corpus {corpus}, {}", subject.setting);
    }
    text
}

/// `slower`, or `no difference seen (2.1 % would have been)`.
fn told(ratio: TimeRatio) -> String {
    match ratio.verdict() {
        Verdict::NoDifference => {
            format!("no difference seen ({:.1} % would have been)", 100.0 * ratio.smallest_seen())
        }
        verdict => verdict.name().to_owned(),
    }
}

fn as_json(comparisons: &[Comparison<'_>]) -> String {
    let mut text = String::new();
    for Comparison { a, b, rows, facts } in comparisons {
        for row in rows {
            let mut line = json!({
                "kind": "comparison",
                "corpus": a.corpus,
                "corpus_sha256": a.corpus_sha256,
                "pages": a.pages,
                "a": a.setting.to_string(),
                "b": b.setting.to_string(),
                "figure": row.name,
                "a_median": row.a.median(),
                "b_median": row.b.median(),
                "a_rounds": row.a.len(),
                "b_rounds": row.b.len(),
                "ratio": row.ratio.map_or(row.b.median() / row.a.median(), |ratio| ratio.0.estimate),
                "ratio_low": row.ratio.map(|ratio| ratio.0.low),
                "ratio_high": row.ratio.map(|ratio| ratio.0.high),
                "level": LEVEL,
                "verdict": row.ratio.map(|ratio| ratio.verdict().name()),
                "smallest_difference_seen": row.ratio.map(TimeRatio::smallest_seen),
            });
            for (side, facts) in ["a", "b"].iter().zip(facts) {
                for (name, fact) in FACTS.iter().zip(facts) {
                    line[format!("{side}_{name}")] = fact.clone();
                }
            }
            let _ = writeln!(text, "{line}");
        }
    }
    text
}
