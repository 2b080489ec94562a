//! What the records show, in a sentence each.
//!
//! A difference is claimed only where the intervals of the medians do not meet; otherwise the sentence says that none is seen.

use super::group::{self, Across, Measured, Names};
use super::records::{CorpusName, Records};
use super::sections::PASSES;
use super::{peers, ratios};
use crate::quantity::{count, nanoseconds, plural};
use crate::simulate::advice;
use crate::statistics::Interval;

/// A sentence, and whether it is good news.
pub(super) struct Finding {
    /// `good`, `bad` or `same`.
    pub(super) class: &'static str,
    pub(super) text: String,
}

impl Finding {
    pub(super) fn new(class: &'static str, text: String) -> Self {
        Self { class, text }
    }
}

pub(super) fn of(records: &Records) -> Vec<Finding> {
    let mut findings = vec![];
    findings.extend(checked(records));
    findings.extend(noise(records));
    for corpus in records.corpora.keys() {
        let points = group::of_corpus(records, corpus);
        let codecs = group::codecs(&points);
        findings.extend(fastest(records, corpus, &codecs));
        findings.extend(densest(records, corpus, &codecs));
        findings.extend(effects(records, corpus, &points));
    }
    findings.extend(engines(records));
    findings.extend(compared(records));
    findings.extend(peers::findings(records));
    findings.extend(layouts(records));
    findings.extend(under_load(records));
    let advice = advice::of(&records.simulated);
    findings
        .extend(advice.iter().map(|advice| Finding::new("same", format!("Simulated: {}", advice.told()))));
    findings
}

/// What a difference between two runs has to exceed, of CPU times alone.
fn layouts(records: &Records) -> Option<Finding> {
    let times =
        records.layouts.iter().filter(|layouts| layouts.figure.contains("cpu") && layouts.ratio.is_none());
    let told = times.filter_map(|layouts| Some((layouts.believable?, layouts)));
    let (believable, most) = told.max_by(|a, b| a.0.total_cmp(&b.0))?;
    let text = format!(
        "In other layouts the same program takes other times: {} of two single processes may differ by {} and mean nothing.",
        super::ratios::words(&most.figure),
        super::layouts::percent(Some(believable)),
    );
    Some(Finding::new("same", text))
}

/// Every byte was compared: how many, and with what result?
fn checked(records: &Records) -> Option<Finding> {
    let total = |of: fn(&Measured<'_>) -> u64| {
        records.points.iter().chain(&records.raced).map(|point| of(&point)).sum::<u64>()
    };
    let fetched = total(|(setting, point)| 2 * setting.corpus.pages * point.rounds as u64);
    let (wrong, refused) = (total(|(_, point)| point.mismatched), total(|(_, point)| point.rejected));
    if fetched == 0 {
        return None;
    }
    let mut text =
        format!("Every page that came back was compared with its source, {} in all: ", count(fetched as f64));
    text += &match wrong {
        0 => "every byte was right.".to_owned(),
        wrong => format!("{wrong} were WRONG."),
    };
    if refused > 0 {
        text += &format!(" {} were refused by the store.", plural(refused, "page"));
    }
    if records.incomplete > 0 {
        text += &format!(" {} cut short and left out.", plural(records.incomplete as u64, "round"));
    }
    Some(Finding::new(if wrong + refused > 0 { "bad" } else { "good" }, text))
}

fn noise(records: &Records) -> Option<Finding> {
    let noisy: Vec<Measured<'_>> =
        records.points.iter().filter(|(_, point)| !point.noise.is_empty()).collect();
    let (setting, point) = noisy.first()?;
    Some(Finding::new(
        "bad",
        format!(
            "The machine was noisy while {} of {} were measured (for example {} on {}: {}): trust CPU time and A/B ratios \
             before throughput.",
            noisy.len(),
            plural(records.points.len() as u64, "setting"),
            setting.codec,
            setting.corpus.name,
            point.noise.join("; "),
        ),
    ))
}

/// The points of a figure with their names and intervals, least first.
fn ranked(records: &Records, points: &[Measured<'_>], figure: &str) -> Vec<(String, Interval)> {
    let names = Names::of(points);
    let of = |&(setting, point): &Measured<'_>| {
        Some((names.name(records, setting), point.sample(figure)?.median_interval(0.95)))
    };
    let mut ranked: Vec<(String, Interval)> = points.iter().filter_map(of).collect();
    ranked.sort_by(|a, b| a.1.estimate.total_cmp(&b.1.estimate));
    ranked
}

/// By what speed is judged: software by CPU time, which others on the machine disturb least; devices work while the CPU
/// does not.
fn cost(points: &[Measured<'_>]) -> (&'static str, &'static str) {
    if points.iter().all(|(setting, _)| setting.backend == "software") {
        ("cpu_ns_per_page", " of CPU time a page")
    } else {
        ("wall_ns_per_page", " a page")
    }
}

fn apart(above: Interval, below: Interval) -> bool {
    above.low > below.high
}

fn fastest(records: &Records, corpus: &CorpusName, codecs: &[Measured<'_>]) -> Option<Finding> {
    let (figure, unit) = cost(codecs);
    let told = |(prefix, pass): &(&str, &str)| {
        let ranked = ranked(records, codecs, &format!("{prefix}_{figure}"));
        let [(first, best), (second, next), ..] = ranked.as_slice() else { return None };
        let (pass, time) = (pass.to_lowercase(), nanoseconds(best.estimate));
        Some(if apart(*next, *best) {
            let times = next.estimate / best.estimate;
            format!("{pass}: {first} ({time}{unit}; {second} takes {times:.2} times as long)")
        } else {
            format!("{pass}: no difference seen between {first} and {second} ({time}{unit})")
        })
    };
    let told: Vec<String> = PASSES.iter().filter_map(told).collect();
    (!told.is_empty())
        .then(|| Finding::new("same", format!("Fastest on {}: {}.", corpus.name, told.join("; "))))
}

fn densest(records: &Records, corpus: &CorpusName, codecs: &[Measured<'_>]) -> Option<Finding> {
    let ranked = ranked(records, codecs, "ratio");
    let ([(last, least), .., (first, best)], Some(memory)) =
        (ranked.as_slice(), ranked_memory(records, codecs, &ranked))
    else {
        return None;
    };
    Some(Finding::new(
        "same",
        format!(
            "Densest on {}: {first} holds {:.2} bytes of pages a byte ({last} {:.2}); with all that belongs to it a page takes \
             {memory:.0} bytes of memory, {:.0} % of its size.",
            corpus.name,
            best.estimate,
            least.estimate,
            memory / 40.96
        ),
    ))
}

/// The memory a page takes with the densest codec.
fn ranked_memory(records: &Records, codecs: &[Measured<'_>], ranked: &[(String, Interval)]) -> Option<f64> {
    let names = Names::of(codecs);
    let (first, _) = ranked.last()?;
    let (_, point) = codecs.iter().find(|(setting, _)| names.name(records, setting) == *first)?;
    point.median("memory_bytes_per_page")
}

/// What settings do on a corpus: each in the pass and codec where it does most.
fn effects(records: &Records, corpus: &CorpusName, points: &[Measured<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut without = Vec::new();
    for across in Across::ALL {
        let points = group::across(points, across);
        match effect(records, &points, across) {
            Some(told) => findings.push(Finding::new("same", format!("On {} {told}.", corpus.name))),
            None if points.is_empty() => {}
            None => without.push(across.title()),
        }
    }
    if !without.is_empty() {
        let text = format!(
            "On {} no {} is seen to be faster than the least at this noise.",
            corpus.name,
            without.join(" and no ")
        );
        findings.push(Finding::new("same", text));
    }
    findings
}

/// How far settings drift apart that were measured at different times on a noisy machine; the rounds of one do not tell. A window, which
/// software does not use, seemed to change its CPU time by 5 % on a machine full of other work; this is twice that.
const DRIFT: f64 = 1.1;

/// Where the best value of a setting is furthest from its least value, if the intervals do not meet.
fn effect(records: &Records, points: &[Measured<'_>], across: Across) -> Option<String> {
    let names = Names::of(points);
    let (figure, unit) = cost(points);
    let noisy = points.iter().any(|(_, point)| !point.noise.is_empty());
    let mut most: Option<(f64, String)> = None;
    for (prefix, pass) in PASSES {
        for (name, _) in group::colours(points.iter().map(|(setting, _)| names.name(records, setting))) {
            let of_name = points.iter().filter(|(setting, _)| names.name(records, setting) == name);
            let of: Vec<(u64, Interval)> = of_name
                .filter_map(|(setting, point)| {
                    let sample = point.sample(&format!("{prefix}_{figure}"))?;
                    Some((across.of(setting), sample.median_interval(0.95)))
                })
                .collect();
            let Some(&(from, first)) = of.iter().min_by_key(|(value, _)| *value) else { continue };
            let Some(&(to, best)) = of.iter().min_by(|a, b| a.1.estimate.total_cmp(&b.1.estimate)) else {
                continue;
            };
            let times = first.estimate / best.estimate;
            if apart(first, best)
                && times > if noisy { DRIFT } else { 1.0 }
                && most.as_ref().is_none_or(|(other, _)| times > *other)
            {
                let told = format!(
                    "the {} does most for {} with {name}: {} takes {}{unit}, {} takes {}, {times:.2} times as fast",
                    across.title(),
                    pass.to_lowercase(),
                    across.told(from),
                    nanoseconds(first.estimate),
                    across.told(to),
                    nanoseconds(best.estimate),
                );
                most = Some((times, told));
            }
        }
    }
    most.map(|(_, told)| {
        told + if noisy { " (on a noisy machine, and settings are not interleaved)" } else { "" }
    })
}

fn engines(records: &Records) -> Vec<Finding> {
    let titles = group::distinct(records.engines.iter().map(|engine| engine.title.as_str()));
    let of = |title: &str| {
        let engines = || records.engines.iter().filter(|engine| engine.title == title);
        let first = engines().min_by_key(|engine| engine.window)?;
        let best = engines().min_by(|a, b| a.ns_per_page[1].total_cmp(&b.ns_per_page[1]))?;
        let (from, to) = (first.ns_per_page[1], best.ns_per_page[1]);
        (best.window != first.window).then(|| {
            Finding::new(
                "same",
                format!(
                    "{title}: window {} takes {} a page, window {} {}: {:.2} times as fast.",
                    first.window,
                    nanoseconds(from),
                    best.window,
                    nanoseconds(to),
                    from / to
                ),
            )
        })
    };
    titles.into_iter().filter_map(of).collect()
}

fn compared(records: &Records) -> Vec<Finding> {
    let mut rest: Vec<_> = records.ratios.iter().collect();
    let mut findings = Vec::new();
    while let Some(&first) = rest.first() {
        let key = (&first.corpus, &first.a, &first.b);
        let (group, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|ratio| (&ratio.corpus, &ratio.a, &ratio.b) == key);
        rest = others;
        let told = |class: &str| -> Vec<String> {
            let of = group.iter().filter(|ratio| ratios::class(ratio) == class);
            of.map(|ratio| {
                let interval =
                    ratio.interval.map_or_else(String::new, |(low, high)| format!(" [{low:.3}..{high:.3}]"));
                format!("{} {:.3}{interval}", ratios::words(&ratio.figure), ratio.ratio)
            })
            .collect()
        };
        let (good, bad) = (told("good"), told("bad"));
        let mut parts = Vec::new();
        if !bad.is_empty() {
            parts.push(format!("slower in {}", bad.join(", ")));
        }
        if !good.is_empty() {
            parts.push(format!("faster in {}", good.join(", ")));
        }
        if parts.is_empty() {
            parts.push("not seen to differ from A".to_owned());
        }
        let class = match (bad.is_empty(), good.is_empty()) {
            (false, _) => "bad",
            (true, false) => "good",
            (true, true) => "same",
        };
        let (a, b) = (ratios::side(&first.a), ratios::side(&first.b));
        let text =
            format!("On {}, B ({b}) is {} (time of B / time of A; A: {a}).", first.corpus, parts.join("; "));
        findings.push(Finding::new(class, text));
    }
    findings
}

fn under_load(records: &Records) -> Vec<Finding> {
    let of = |load: &super::records::UnderLoad| {
        let told: Vec<String> = load
            .calls
            .iter()
            .filter_map(|(op, _, times)| {
                let (p50, p99, p9999) = (times.first()?, times.get(2)?, times.get(4)?);
                let [p50, p99, p9999] = [p50, p99, p9999].map(|time| nanoseconds(*time));
                Some(format!("{op} p50 {p50}, p99 {p99}, p99.99 {p9999}"))
            })
            .collect();
        let behind = load.reached < 0.98 * load.rate;
        let reached =
            if behind { format!(", of which {} were served", count(load.reached)) } else { String::new() };
        (!told.is_empty()).then(|| {
            let text = format!(
                "At {} arrivals a second{reached} ({}): {}.",
                count(load.rate),
                load.title,
                told.join("; ")
            );
            Finding::new(if behind { "bad" } else { "same" }, text)
        })
    };
    records.under_load.iter().filter_map(of).collect()
}
