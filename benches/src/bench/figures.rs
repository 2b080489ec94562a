//! The numbers of a round under the names that the JSON lines and the table share, and their medians over rounds.
//!
//! Units are part of the names. A number that does not exist (the ratio of a corpus that needs no objects, a pass
//! that never ran) is `None`.

use super::crew::PassTime;
use super::phases::{Phase, PhaseTime};
use super::round::{Arena, Round};
use super::worker::Pass;
use crate::statistics::Sample;

/// Named numbers, in the order they are written.
pub(crate) type Figures = Vec<(String, Option<f64>)>;

/// What the names of a pass begin with.
pub(crate) fn prefix(pass: Pass) -> &'static str {
    match pass {
        Pass::Store => "store",
        Pass::Read => "load_seq",
        Pass::Load => "load",
    }
}

/// What the names of the first fill begin with, in a summary.
pub(crate) const COLD_STORE: &str = "store_cold";

fn pass_figures(prefix: &str, time: Option<&PassTime>) -> Figures {
    let number = |value: &dyn Fn(&PassTime) -> f64| time.filter(|time| time.pages > 0).map(value);
    let per_s = |time: &PassTime| time.pages as f64 / time.wall.as_secs_f64().max(1e-9);
    let per_page = |nanoseconds: u128, time: &PassTime| nanoseconds as f64 / time.pages as f64;
    let times = [
        ("pages_per_s", number(&per_s)),
        ("mb_per_s", number(&|time| per_s(time) * 4096.0 / 1e6)),
        ("wall_s", number(&|time| time.wall.as_secs_f64())),
        ("cpu_s", number(&|time| time.cpu.as_secs_f64())),
        ("wall_ns_per_page", number(&|time| per_page(time.wall.as_nanos(), time))),
        ("cpu_ns_per_page", number(&|time| per_page(time.cpu.as_nanos(), time))),
        ("call_p50_ns", number(&|time| time.p50_ns as f64)),
        ("call_p99_ns", number(&|time| time.p99_ns as f64)),
        ("call_max_ns", number(&|time| time.max_ns as f64)),
    ];
    // Where there is no pass, the names are the same.
    let counted = time.map(|time| time.usage).unwrap_or_default().named();
    let counts = counted.map(|(name, count)| (name, number(&|_| count as f64)));
    times.into_iter().chain(counts).map(|(name, value)| (format!("{prefix}_{name}"), value)).collect()
}

/// Where the time of calls that were timed went; nothing where none were. The first fill has the names of a store.
fn phase_figures(prefix: &str, pass: Pass, time: Option<&PassTime>) -> Figures {
    let Some((time, phases)) = time.and_then(|time| Some((time, time.phases.as_ref()?))) else {
        return Vec::new();
    };
    let sampled = (phases.pages > 0).then_some(phases);
    let number = |value: &dyn Fn(&PhaseTime) -> f64| sampled.map(value);
    let rest = time.pages.saturating_sub(phases.pages);
    let untimed = time.busy.saturating_sub(phases.gross).as_nanos() as f64 / rest.max(1) as f64;
    let mut figures: Figures = Vec::new();
    for (phase, name, _) in Phase::of(pass) {
        let value = number(&|phases| phases.ns_per_page(*phase));
        figures.push((format!("{prefix}_phase_{name}_ns_per_page"), value));
    }
    figures.push((format!("{prefix}_phases_ns_per_page"), number(&PhaseTime::sum_ns_per_page)));
    figures.push((format!("{prefix}_untimed_ns_per_page"), (rest > 0).then_some(untimed)));
    figures.push((format!("{prefix}_timed_pages"), Some(phases.pages as f64)));
    figures.push((format!("{prefix}_clock_look_ns"), number(&PhaseTime::look_ns)));
    figures
}

fn all_of_pass(prefix: &str, pass: Pass, round: &Round) -> Figures {
    let time = round.pass(pass);
    let mut figures = pass_figures(prefix, time);
    figures.extend(phase_figures(prefix, pass, time));
    figures
}

fn memory_figures(round: &Round) -> Figures {
    let memory = &round.memory;
    [
        ("ratio", memory.ratio()),
        ("allocated_over_compressed", memory.allocated_over_compressed()),
        ("metadata_bytes_per_page", memory.metadata_bytes_per_page()),
        ("memory_bytes_per_page", memory.memory_bytes_per_page()),
        ("rss_anon_growth_bytes", memory.rss_anon_growth_bytes.map(|bytes| bytes as f64)),
        ("resident_arena_bytes", memory.resident_arena_bytes.map(|bytes| bytes as f64)),
        ("object_bytes", Some(memory.object_bytes as f64)),
        ("pool_bytes", Some(memory.pool_bytes as f64)),
        ("warm_bytes", Some(memory.warm_bytes as f64)),
        ("metadata_bytes", Some(memory.metadata_bytes as f64)),
        ("stored_pages", Some(memory.stored_pages as f64)),
        ("zero_pages", Some(memory.zero_pages as f64)),
        ("same_filled_pages", Some(memory.same_filled_pages as f64)),
        ("raw_pages", Some(memory.raw_pages as f64)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// All numbers of one round.
pub(crate) fn of_round(round: &Round) -> Figures {
    let passes = Pass::ALL.into_iter().flat_map(|pass| all_of_pass(prefix(pass), pass, round));
    passes.chain(memory_figures(round)).collect()
}

/// A median and how far the rounds lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// How sure the interval of a median is.
pub(crate) const LEVEL: f64 = 0.95;

/// The numbers of several rounds, each in order of size; `None` where no round has it.
#[derive(Clone, Debug)]
pub(crate) struct Summary(pub(crate) Vec<(String, Option<Sample>)>);

impl Summary {
    /// Passes that ran to their end count, or what there is when none did. Stores count with a warm arena once
    /// there are any; the first fill then stands beside them under names of its own.
    pub(crate) fn of(rounds: &[Round]) -> Self {
        let mut figures = Vec::new();
        let complete = |round: &&Round, pass| round.pass(pass).is_some_and(|time| time.complete);
        for pass in Pass::ALL {
            let mut chosen: Vec<&Round> = rounds.iter().filter(|round| complete(round, pass)).collect();
            if chosen.is_empty() {
                chosen = rounds.iter().collect();
            }
            if pass == Pass::Store && chosen.iter().any(|round| round.arena == Arena::Warm) {
                let cold = rounds.iter().find(|round| round.arena == Arena::Cold);
                figures.extend(spreads(cold.map(|round| all_of_pass(COLD_STORE, pass, round))));
                chosen.retain(|round| round.arena == Arena::Warm);
            }
            figures.extend(spreads(chosen.iter().map(|round| all_of_pass(prefix(pass), pass, round))));
        }
        let mut stored: Vec<&Round> = rounds.iter().filter(|round| complete(round, Pass::Store)).collect();
        if stored.is_empty() {
            stored = rounds.iter().collect();
        }
        figures.extend(spreads(stored.into_iter().map(memory_figures)));
        Self(figures)
    }

    /// The number of that name.
    pub(crate) fn get(&self, name: &str) -> Option<Spread> {
        self.sample(name).map(Spread::of)
    }

    /// The values of that name.
    pub(crate) fn sample(&self, name: &str) -> Option<&Sample> {
        self.0.iter().find(|(other, _)| other == name)?.1.as_ref()
    }
}

/// Rounds side by side, each number over those rounds that have it.
fn spreads(rounds: impl IntoIterator<Item = Figures>) -> Vec<(String, Option<Sample>)> {
    let rounds: Vec<Figures> = rounds.into_iter().collect();
    // A pass that never ran has fewer names.
    let Some(all) = rounds.iter().max_by_key(|figures| figures.len()) else { return Vec::new() };
    let of = |place: usize| rounds.iter().filter_map(move |figures| figures.get(place)?.1);
    let sample = |place: usize| Sample::new(of(place).collect());
    all.iter().enumerate().map(|(place, (name, _))| (name.clone(), sample(place))).collect()
}

impl Spread {
    pub(crate) fn of(sample: &Sample) -> Self {
        let (min, max) = sample.range();
        Self { median: sample.median(), min, max }
    }
}

/// Median, least and most; of no values there is none.
pub(crate) fn spread(values: Vec<f64>) -> Option<Spread> {
    Sample::new(values).map(|sample| Spread::of(&sample))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::round::Memory;
    use super::super::worker::Faults;
    use super::*;
    use crate::os::ThreadUsage;

    fn round(number: u32, store_ms: u64, complete: bool) -> Round {
        let time = PassTime {
            pages: 1_000,
            wall: Duration::from_millis(store_ms),
            cpu: Duration::from_millis(store_ms),
            p50_ns: 1,
            p99_ns: 2,
            max_ns: 3,
            usage: ThreadUsage::default(),
            phases: None,
            busy: Duration::from_millis(store_ms),
            elapsed: Duration::from_millis(store_ms),
            complete,
        };
        let arena = if number == 1 { Arena::Cold } else { Arena::Warm };
        let memory = Memory { stored_pages: 1_000, object_bytes: 1_024_000, ..Memory::default() };
        Round { number, arena, passes: vec![(Pass::Store, time)], memory, faults: Faults::default() }
    }

    #[test]
    fn the_first_fill_stands_apart_from_the_warm_rounds() {
        let summary =
            Summary::of(&[round(1, 10, true), round(2, 4, true), round(3, 5, true), round(4, 8, true)]);
        assert_eq!(summary.get("store_cold_pages_per_s").map(|s| s.median), Some(100_000.0));
        let store = summary.get("store_pages_per_s").expect("three warm rounds");
        assert_eq!((store.median, store.min, store.max), (200_000.0, 125_000.0, 250_000.0));
        assert_eq!(summary.get("ratio").map(|s| s.median), Some(4.0));
        assert_eq!(summary.get("load_pages_per_s"), None);
    }

    #[test]
    fn a_round_that_was_cut_short_counts_only_when_there_is_no_other() {
        let summary = Summary::of(&[round(1, 10, true), round(2, 1, false)]);
        assert_eq!(summary.get("store_pages_per_s").map(|s| s.max), Some(100_000.0));
        let summary = Summary::of(&[round(1, 10, false)]);
        assert_eq!(summary.get("store_pages_per_s").map(|s| s.max), Some(100_000.0));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let median = |values: &[f64]| Sample::new(values.to_vec()).map(|sample| Spread::of(&sample).median);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
