//! What was found, for people and as a JSON line.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::client::Found;
use super::{LatencyArgs, Measured};
use crate::bench::jsonl::begin;
use crate::bench::variant::Variant;
use crate::bench::{COMMIT, Setup, noise};
use crate::corpus::Corpus;
use crate::quantity::{count, nanoseconds, plural};

/// Quantiles, the ends of their names in JSON lines, and how they are written.
const QUANTILES: [(f64, &str, &str); 5] = [
    (0.5, "p50_ns", "p50"),
    (0.9, "p90_ns", "p90"),
    (0.99, "p99_ns", "p99"),
    (0.999, "p999_ns", "p99.9"),
    (0.9999, "p9999_ns", "p99.99"),
];

/// Served calls a second below this part of the arrivals are told: the store was not fast enough.
const BEHIND: f64 = 0.98;

/// The report for people, at most 120 columns.
pub(super) fn text(
    args: &LatencyArgs,
    setup: &Setup,
    corpus: &Corpus,
    variant: &Variant,
    measured: &Measured,
) -> String {
    let found = &measured.found;
    let commit = COMMIT.map(|commit| format!(" (commit {commit})")).unwrap_or_default();
    let mut text = format!(
        "zfolio {}{commit} bench latency, {}\nmachine   {}\nbackend   {}\n",
        env!("CARGO_PKG_VERSION"),
        setup.measured_at,
        setup.machine,
        crate::bench::table::wrapped(&variant.backend_report),
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "corpus    {}, {}, {}\nload      {} calls a second at random, {} % loads of a page, stores of {}, {}, {} s\n\
         served    {} a second; every page that came back was compared with what was stored last\n",
        crate::printable(&corpus.name),
        plural(setup.pages.unwrap_or(corpus.facts.pages), "slot"),
        variant.method,
        count(f64::from(args.rate)),
        args.mix,
        plural(u64::from(setup.folio_pages), "page"),
        plural(setup.threads as u64, "thread"),
        args.seconds,
        count(found.reached()),
    );
    let _ = write!(text, "{:<22}{:>10}", "latency from arrival", "calls");
    QUANTILES.iter().for_each(|(_, _, title)| text.push_str(&format!("{title:>11}")));
    text.push_str("        max\n");
    for (title, calls) in [("store", &found.stores), ("load", &found.loads)] {
        let _ = write!(text, "{title:<22}{:>10}", calls.len());
        for (quantile, ..) in QUANTILES {
            let time = (!calls.is_empty()).then(|| nanoseconds(calls.value_at_quantile(quantile) as f64));
            let _ = write!(text, "{:>11}", time.unwrap_or_else(|| "-".to_owned()));
        }
        let max = if calls.is_empty() { "-".to_owned() } else { nanoseconds(calls.max() as f64) };
        let _ = writeln!(text, "{max:>11}");
    }
    text.push('\n');
    if let Some(noise) = noisy(setup, measured) {
        let _ = writeln!(text, "NOISY MACHINE: {noise}");
    }
    if measured.interrupted {
        text.push_str("INTERRUPTED before the time was over\n");
    }
    if found.unserved > 0 {
        let _ = writeln!(
            text,
            "{} due and not begun at the end; they count with the time they had waited",
            plural(found.unserved, "call")
        );
    }
    if found.reached() < BEHIND * f64::from(args.rate) && !measured.interrupted {
        text.push_str("TOO FAST for this store on this machine: the queue grew; ask for a lower --rate\n");
    }
    if found.reads > 0 {
        let _ =
            writeln!(text, "{} left their page in the store, as few were left", plural(found.reads, "load"));
    }
    text
}

/// All of it in one line.
pub(super) fn json(
    args: &LatencyArgs,
    setup: &Setup,
    corpus: &Corpus,
    variant: &Variant,
    measured: &Measured,
) -> Value {
    let found = &measured.found;
    let mut line = begin("latency", setup, corpus, variant).into_value();
    line["rate_per_s"] = json!(args.rate);
    line["reached_per_s"] = json!(found.reached());
    line["seconds"] = json!(args.seconds);
    line["arrivals"] = json!("poisson");
    line["mix_loads_percent"] = json!(args.mix);
    line["complete"] = json!(!measured.interrupted);
    line["noise"] = json!(noisy(setup, measured).into_iter().collect::<Vec<_>>());
    for (name, count) in found.usage.named() {
        line[name] = json!(count);
    }
    line["unserved_calls"] = json!(found.unserved);
    line["loads_that_kept"] = json!(found.reads);
    add(&mut line, "store", &found.stores);
    add(&mut line, "load", &found.loads);
    line["mismatched_pages"] = json!(found.faults.mismatched_pages);
    line["rejected_pages"] = json!(found.faults.rejected_pages);
    line["failed_checks"] = json!(found.faults.failed_checks);
    line
}

/// What speaks for a noisy machine.
fn noisy(setup: &Setup, measured: &Measured) -> Option<String> {
    let Found { usage, elapsed, .. } = &measured.found;
    noise::switched(usage.involuntary_switches, elapsed.as_secs_f64() * setup.threads as f64)
}

fn add(line: &mut Value, op: &str, calls: &Histogram<u64>) {
    line[format!("{op}_calls")] = json!(calls.len());
    if calls.is_empty() {
        return;
    }
    for (quantile, name, _) in QUANTILES {
        line[format!("{op}_{name}")] = json!(calls.value_at_quantile(quantile));
    }
    line[format!("{op}_max_ns")] = json!(calls.max());
}
