//! What the lanes found, for people and as JSON lines.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use zfolio_accel::PAGE_SIZE;

use super::EngineArgs;
use super::lane::{Lane, Prepared};
use crate::bench::figures::Spread;
use crate::bench::jsonl::machine_facts;
use crate::bench::noise;
use crate::bench::table::wrapped;
use crate::corpus::Corpus;
use crate::machine::{KernelSettings, Machine};
use crate::os::ThreadUsage;
use crate::quantity::plural;
use crate::statistics::Sample;

/// What all figures are of.
pub(crate) struct Heading<'a> {
    pub(crate) args: &'a EngineArgs,
    pub(crate) machine: &'a Machine,
    pub(crate) measured_at: &'a str,
    pub(crate) corpus: &'a Corpus,
    pub(crate) prepared: &'a Prepared,
    pub(crate) settings: &'a KernelSettings,
    /// Of the thread that measured, over all rounds; checking answers is in it.
    pub(crate) usage: ThreadUsage,
    pub(crate) elapsed: Duration,
}

impl Heading<'_> {
    /// What speaks for a noisy machine.
    fn noise(&self) -> Option<String> {
        noise::switched(self.usage.involuntary_switches, self.elapsed.as_secs_f64())
    }
}

/// The report for people, at most 120 columns.
pub(crate) fn text(heading: &Heading<'_>, lanes: &[Lane]) -> String {
    let Heading { args, machine, settings, measured_at, corpus, prepared, .. } = heading;
    let commit = crate::bench::COMMIT.map(|commit| format!(" (commit {commit})")).unwrap_or_default();
    let mut text = format!(
        "zfolio {}{commit} bench engine, {measured_at}\nmachine   {machine}\nkernel    {settings}\n",
        env!("CARGO_PKG_VERSION")
    );
    // Writing to a String cannot fail.
    for lane in lanes.iter().filter(|lane| lane.window == lanes[0].window) {
        let _ = writeln!(text, "backend   {}", wrapped(lane.channels.report()));
        if let Some(modelled) = args.device.describe(lane.backend) {
            let _ = writeln!(text, "model     {}", wrapped(&modelled));
        }
    }
    let _ = writeln!(
        text,
        "corpus    {}: {} that are not same-filled, sha256 {}\nsetup     {}, {} in a call, {}, {} interleaved\n\
         figures   median [min..max] over rounds; every answer was checked by software\n",
        crate::printable(&corpus.name),
        plural(prepared.pages.len() as u64, "page"),
        corpus.facts.short_sha256(),
        args.op.name(),
        plural(u64::from(args.folio.pages()), "page"),
        plural(u64::from(args.rounds), "round"),
        if args.backend.len() > 1 { "backends and windows" } else { "windows" },
    );
    let _ = writeln!(
        text,
        "{:<12}  {:>6}  {:>26}  {:>8}  {:>9}  {:>10}  {:>14}  {:>6}",
        "backend", "window", "ns a page", "x first", "in flight", "queue full", "software pages", "ratio"
    );
    let first = spread(lanes[0].times.clone());
    for lane in lanes {
        let counts = lane.counts();
        let Some(Spread { median, min, max }) = spread(lane.times.clone()) else { continue };
        let speed_up = paired(&lanes[0].times, &lane.times).or(first.map(|first| first.median / median));
        let _ = writeln!(
            text,
            "{:<12}  {:>6}  {:>26}  {:>8}  {:>9}  {:>10}  {:>14}  {:>6.3}",
            lane.name(),
            lane.window,
            format!("{median:.0} [{min:.0}..{max:.0}]"),
            speed_up.map_or(String::new(), |times| format!("{times:.2}")),
            counts.effective_window().map_or("-".to_owned(), |window| format!("{window:.2}")),
            counts.queue_full,
            counts.software_pages,
            ratio(lane, prepared),
        );
    }
    let _ = writeln!(text, "\npages under way in the channel when a descriptor was taken, itself counted:");
    for lane in lanes {
        let shares = match histogram(&lane.counts().under_way) {
            none if none.is_empty() => "takes no descriptors: one page at a time".to_owned(),
            shares => shares,
        };
        let _ = writeln!(text, "{:<12}  {:>6}  {shares}", lane.name(), lane.window);
    }
    if lanes.iter().any(|lane| lane.model.is_some()) {
        let _ = writeln!(text, "\nof them in flight in the devices, as the model counts:");
        for lane in lanes.iter().filter(|lane| lane.model.is_some()) {
            let shares = histogram(&lane.counts().in_flight);
            let _ = writeln!(text, "{:<12}  {:>6}  {shares}", lane.name(), lane.window);
        }
    }
    if let Some(noise) = heading.noise() {
        let _ = writeln!(text, "\nNOISY MACHINE: {noise}");
    }
    let modelled = lanes.iter().filter(|lane| lane.model.is_some());
    let worked_out: u64 = modelled.map(|lane| lane.counts().worked_out).sum();
    if worked_out != 0 {
        let _ = writeln!(text, "\nnote: {worked_out} answers had to be worked out in rounds that count");
    }
    text
}

/// A line for each backend and window.
pub(crate) fn json(heading: &Heading<'_>, lanes: &[Lane]) -> io::Result<String> {
    let Heading { args, machine, settings, measured_at, corpus, prepared, usage, .. } = heading;
    let mut text = String::new();
    for lane in lanes {
        let (counts, spread) = (lane.counts(), spread(lane.times.clone()));
        let number = |f: fn(&Spread) -> f64| spread.as_ref().map_or(Value::Null, |spread| json!(f(spread)));
        let sample = Sample::new(lane.times.clone());
        let mut line = json!({
            "kind": "engine",
            "op": args.op.name(),
            "window": lane.window,
            "ns_per_page": number(|spread| spread.median),
            "ns_per_page_min": number(|spread| spread.min),
            "ns_per_page_max": number(|spread| spread.max),
            "effective_window": counts.effective_window(),
            "under_way": up_to_last(&counts.under_way),
            "in_flight": up_to_last(&counts.in_flight),
            "queue_full": counts.queue_full,
            "software_pages": counts.software_pages,
            "wrong_answers": lane.wrong,
            "ratio": ratio(lane, prepared),
            "backend": lane.name(),
            "backend_report": lane.channels.report(),
            "model": args.device.describe(lane.backend),
            "rounds": args.rounds,
            "call_pages": args.folio.pages(),
            "pages": prepared.pages.len(),
            "corpus": corpus.name,
            "corpus_sha256": corpus.facts.sha256,
            "corpus_pages": corpus.facts.pages,
            "corpus_origin": corpus.origin,
            "ns_per_page_mad": sample.as_ref().map(Sample::mad),
            "ns_per_page_outliers": sample.as_ref().map(|sample| sample.outliers().len()),
            "noise": heading.noise().into_iter().collect::<Vec<_>>(),
        });
        for (name, value) in machine_facts(machine, settings, measured_at) {
            line[name] = value;
        }
        for (name, count) in usage.named() {
            line[name] = json!(count);
        }
        text += &serde_json::to_string(&line)?;
        text.push('\n');
    }
    Ok(text)
}

fn ratio(lane: &Lane, prepared: &Prepared) -> f64 {
    (prepared.pages.len() * PAGE_SIZE) as f64 / lane.compressed_bytes.max(1) as f64
}

fn spread(times: Vec<f64>) -> Option<Spread> {
    crate::bench::figures::spread(times)
}

/// The median over rounds of how many times as fast the second is as the first in the same round.
fn paired(first: &[f64], second: &[f64]) -> Option<f64> {
    let times = first.iter().zip(second).map(|(first, second)| first / second).collect();
    spread(times).map(|spread| spread.median)
}

/// Counts without the zeros at their end.
fn up_to_last(counts: &[u64]) -> &[u64] {
    &counts[..counts.iter().rposition(|&count| count != 0).map_or(0, |last| last + 1)]
}

/// Shares of numbers in flight, those above 2 by powers of two.
fn histogram(counts: &[u64]) -> String {
    let all: u64 = counts.iter().sum();
    let mut parts = Vec::new();
    let mut from = 1;
    while from < counts.len() && all != 0 {
        let to = (from.next_power_of_two().max(from)).min(counts.len() - 1);
        let sum: u64 = counts[from..=to].iter().sum();
        if sum != 0 {
            let name = if from == to { from.to_string() } else { format!("{from}-{to}") };
            parts.push(format!("{name}: {:.0} %", sum as f64 * 100.0 / all as f64));
        }
        from = to + 1;
    }
    parts.join(", ")
}
