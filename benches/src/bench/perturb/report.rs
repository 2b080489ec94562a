//! What all layouts say together, for people and as JSON lines.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Plan;
use super::records::{Records, Series, Subject};
use crate::bench::ab;
use crate::quantity::{nanoseconds, plural};
use crate::statistics::Sample;
use crate::variance::{BELIEVED, Components, FEWEST, SHARE_LEVEL, of_layouts};
use crate::verdict::{TimeRatio, Verdict};

/// Everything found.
pub(super) struct Findings<'r> {
    plan: &'r Plan,
    records: &'r Records,
    subjects: Vec<(&'r Subject, Vec<Row<'r>>)>,
}

/// A figure of a subject.
struct Row<'r> {
    series: &'r Series,
    components: Components,
    /// Of two sides: B / A with an interval over layouts; none with too few of them.
    ratio: Option<TimeRatio>,
    /// B / A in the middle of layouts, or of times alone nothing.
    middle: Option<f64>,
}

impl Row<'_> {
    /// Whether wall times of most processes are those of a busy machine.
    fn busy(&self) -> bool {
        self.series.busy * 2 > self.series.processes.len()
    }

    fn verdict(&self) -> String {
        match self.ratio {
            _ if self.busy() => "busy machine".to_owned(),
            None => "too few layouts to say".to_owned(),
            Some(ratio) => match ratio.verdict() {
                Verdict::NoDifference => {
                    format!("no difference seen ({:.1} % would)", 100.0 * ratio.smallest_seen())
                }
                verdict => verdict.name().to_owned(),
            },
        }
    }

    fn is_slower(&self) -> bool {
        !self.busy() && self.ratio.is_some_and(|ratio| ratio.verdict() == Verdict::Slower)
    }
}

impl<'r> Findings<'r> {
    pub(super) fn of(plan: &'r Plan, records: &'r Records) -> Self {
        let row = |series: &'r Series| {
            let layouts = Sample::new(of_layouts(&series.processes));
            let sides = !series.b.is_empty();
            Row {
                components: Components::of(&series.processes, plan.seed),
                ratio: layouts
                    .as_ref()
                    .filter(|_| sides)
                    .and_then(|sample| sample.centre(ab::LEVEL))
                    .map(TimeRatio::of_logarithms),
                middle: layouts.filter(|_| sides).map(|sample| sample.median().exp()),
                series,
            }
        };
        let rows = |subject: &'r Subject| (subject, subject.series.iter().map(row).collect());
        Self { plan, records, subjects: records.subjects.iter().map(rows).collect() }
    }

    pub(super) fn slower(&self) -> bool {
        self.subjects.iter().flat_map(|(_, rows)| rows).any(Row::is_slower)
    }

    /// At most 120 columns.
    pub(super) fn as_text(&self) -> String {
        let Plan { seed, layouts, processes, builds, .. } = self.plan;
        let kind = if *builds { "build" } else { "layout" };
        let mut text = format!(
            "{} of {}, seed {seed}; each process has {}\n",
            plural(*layouts as u64, kind),
            plural(*processes as u64, "process"),
            "its own environment, stack, heap, CPUs and order of folios",
        );
        let (asked, measured) = (layouts * processes, self.records.processes);
        // Writing to a String cannot fail.
        if measured < asked {
            let _ = writeln!(text, "INTERRUPTED: {measured} of {} measured", plural(asked as u64, "process"));
        }
        for (subject, rows) in &self.subjects {
            let _ = writeln!(text, "\n{}", self.title(subject));
            text += &components(rows, kind);
            if rows.iter().any(|row| row.middle.is_some()) {
                text += &ratios(rows);
            }
            let noisy = subject.noise.len();
            if noisy > 0 {
                let mut reasons = subject.noise.clone();
                reasons.truncate(1);
                let _ = writeln!(
                    text,
                    "  NOISY MACHINE in {} of {}, such as: {}",
                    noisy.min(subject.processes),
                    plural(subject.processes as u64, "process"),
                    reasons.concat()
                );
            }
        }
        if self.subjects.is_empty() {
            return text + "\nnothing was measured to its end\n";
        }
        let _ = write!(
            text,
            "\nA column says by how much two of a kind typically differ (the median of all pairs): repetitions within a process,\n\
             processes of one {kind}, processes of different {kind}s. share: the part of the variance between processes that is the\n\
             {kind}'s [{:.0} %]; \"seen\" if it would come about by chance in fewer than one of a hundred such tables. believe: {:.0} of 100\n\
             pairs of processes of different {kind}s differ by less; {}\n",
            100.0 * SHARE_LEVEL,
            100.0 * BELIEVED,
            match self.plan.ab.is_empty() {
                true =>
                    "two programs that were measured in a process each and differ\nby less may differ by it and by noise alone.",
                false =>
                    "a ratio that was measured in one process and is nearer\nto 1 may be due to it and to noise alone.",
            }
        );
        if self.records.random_addresses > 0 {
            text += "note: the kernel does not let addresses be fixed here; a seed does not give the same ones again\n";
        }
        text
    }

    fn title(&self, subject: &Subject) -> String {
        let corpus = crate::printable(&subject.key[0]);
        match self.plan.ab.as_slice() {
            [a, b] => format!("corpus {corpus}\n  A  {}\n  B  {}", ab::name(a), ab::name(b)),
            _ => format!("corpus {corpus}, {} on {}", subject.key[2], subject.key[3]),
        }
    }

    /// A line for each figure of each subject.
    pub(super) fn as_json(&self) -> Vec<Value> {
        let mut lines = Vec::new();
        for (subject, rows) in &self.subjects {
            for row in rows {
                let Components { repetitions, processes, layouts, share, chance, believable } =
                    row.components;
                let difference = |logarithm: Option<f64>| logarithm.map(f64::exp_m1);
                let mut line = json!({"kind": "perturb", "figure": row.series.figure});
                for (name, value) in &subject.facts {
                    line[name] = value.clone();
                }
                let more = json!({
                    "of": if self.plan.builds { "builds" } else { "layouts" },
                    "seed": self.plan.seed,
                    "layouts": self.plan.layouts,
                    "processes_per_layout": self.plan.processes,
                    "processes": row.series.processes.len(),
                    "busy_processes": row.series.busy,
                    "median": Sample::new(row.series.a.clone()).map(|sample| sample.median()),
                    "b_median": Sample::new(row.series.b.clone()).map(|sample| sample.median()),
                    "difference_between_repetitions": difference(repetitions),
                    "difference_between_processes": difference(processes),
                    "difference_between_layouts": difference(layouts),
                    "layout_share": share.map(|share| share.estimate),
                    "layout_share_low": share.map(|share| share.low),
                    "layout_share_high": share.map(|share| share.high),
                    "layout_share_level": SHARE_LEVEL,
                    "layout_chance": chance,
                    "layout_seen": row.components.layout_seen(),
                    "believable_difference": difference(believable),
                    "believable_level": BELIEVED,
                    "ratio": row.ratio.map(|ratio| ratio.0.estimate).or(row.middle),
                    "ratio_low": row.ratio.map(|ratio| ratio.0.low),
                    "ratio_high": row.ratio.map(|ratio| ratio.0.high),
                    "level": ab::LEVEL,
                    "verdict": row.ratio.map(|ratio| ratio.verdict().name()),
                    "smallest_difference_seen": row.ratio.map(TimeRatio::smallest_seen),
                });
                let more = more.as_object().into_iter().flatten();
                more.for_each(|(name, value)| line[name] = value.clone());
                lines.push(line);
            }
        }
        lines
    }
}

/// `0.42 %`, of a difference of logarithms.
fn percent(logarithm: Option<f64>) -> String {
    logarithm.map_or_else(|| "-".to_owned(), |value| format!("{:.2} %", 100.0 * value.exp_m1()))
}

/// By how much repetitions, processes and layouts differ.
fn components(rows: &[Row<'_>], kind: &str) -> String {
    let sides = rows.iter().any(|row| row.middle.is_some());
    let mut text = format!(
        "  {:<22}{:>9}{:>13}{:>11}{:>10}   {:<22}{:>8}\n",
        if sides { "B / A" } else { "time a page" },
        if sides { "" } else { "median" },
        if sides { "trials" } else { "rounds" },
        "processes",
        format!("{kind}s"),
        format!("{kind}'s share"),
        "believe",
    );
    for Row { series, components, .. } in rows {
        let median = Sample::new(series.a.clone()).filter(|_| !sides);
        let few = || format!("- ({FEWEST} are the fewest)");
        let share = components.share.map_or_else(few, |share| {
            format!(
                "{:.0} % [{:.0}..{:.0}]{}",
                100.0 * share.estimate,
                100.0 * share.low,
                100.0 * share.high,
                if components.layout_seen() { ", seen" } else { "" }
            )
        });
        let _ = writeln!(
            text,
            "  {:<22}{:>9}{:>13}{:>11}{:>10}   {share:<22}{:>8}",
            crate::report::ratios::words(&series.figure),
            median.map_or_else(String::new, |sample| nanoseconds(sample.median())),
            percent(components.repetitions),
            percent(components.processes),
            percent(components.layouts),
            percent(components.believable),
        );
    }
    text
}

/// B against A, over layouts.
fn ratios(rows: &[Row<'_>]) -> String {
    let mut text =
        format!("  {:<22}{:>10}{:>10}   {:<24} verdict\n", "time a page", "A", "B", "B / A, layouts [99 %]");
    for row in rows {
        let median = |values: &[f64]| {
            Sample::new(values.to_vec()).map_or_else(|| "-".to_owned(), |sample| nanoseconds(sample.median()))
        };
        let ratio = match (row.ratio, row.middle) {
            (Some(ratio), _) => ratio.to_string(),
            (None, middle) => middle.map_or_else(String::new, |middle| format!("{middle:.3}")),
        };
        let _ = writeln!(
            text,
            "  {:<22}{:>10}{:>10}   {ratio:<24} {}",
            crate::report::ratios::words(&row.series.figure),
            median(&row.series.a),
            median(&row.series.b),
            row.verdict()
        );
    }
    text
}
