//! What the race found, for people and as JSON lines.

use std::fmt::Write;

use serde_json::{Value, json};
use zfolio_accel::PAGE_SIZE;

use super::Raced;
use super::peer::{Pass, Peer, Round, Took};
use crate::bench::jsonl::begin;
use crate::bench::table::wrapped;
use crate::bench::variant::Variant;
use crate::bench::{COMMIT, Setup};
use crate::corpus::Corpus;
use crate::quantity::{Scale, count, plural};
use crate::statistics::{Interval, Sample};
use crate::verdict::{LEVEL, TimeRatio};

/// What stands above all.
pub(super) fn header(setup: &Setup) -> String {
    let commit = COMMIT.map(|commit| format!(" (commit {commit})")).unwrap_or_default();
    format!(
        "zfolio {}{commit} bench peers, {}\nmachine   {}\nkernel    {}\nsetup     one thread, {}, peers interleaved\n",
        env!("CARGO_PKG_VERSION"),
        setup.measured_at,
        setup.machine,
        setup.settings,
        plural(u64::from(setup.rounds), "round"),
    )
}

/// Who is in the race, and who is not.
pub(super) fn peers(raced: &[Raced<'_>], left_out: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (place, raced) in raced.iter().enumerate() {
        let title = if place == 0 { "peers" } else { "" };
        let _ =
            writeln!(text, "{title:<10}{}", wrapped(&format!("{}: {}", raced.name(), raced.peer.report())));
    }
    for (name, reason) in left_out {
        let _ = writeln!(text, "left out  {}", wrapped(&format!("{name}: {reason}")));
    }
    text + "figures   pages a second of CPU time, the kernel's and helpers' included: median [min..max] over rounds; bytes a page \
            with\n          metadata; every page that came back was compared with its source\n"
}

/// Nanoseconds a page.
fn time(took: Took, cpu: bool) -> f64 {
    let time = if cpu { took.cpu } else { took.wall };
    time.as_nanos() as f64 / took.pages.max(1) as f64
}

/// A round as `zfolio bench` writes it.
pub(super) fn round(
    setup: &Setup,
    corpus: &Corpus,
    variant: &Variant,
    peer: &dyn Peer,
    round: &Round,
) -> Value {
    let mut line = begin("round", setup, corpus, variant).into_value();
    let pages = setup.pages.unwrap_or(corpus.facts.pages) as f64;
    line["codec"] = json!(peer.codec());
    line["codec_reason"] = json!("raced with its peers");
    line["backend"] = json!(peer.backend());
    line["backend_report"] = json!(peer.report());
    line["library_versions"] = json!({});
    line["race"] = json!("peers");
    line["round"] = json!(round.number);
    line["arena"] = json!(if round.number == 1 { "cold" } else { "warm" });
    line["complete"] = json!(true);
    for (pass, took) in &round.passes {
        let prefix = pass.prefix();
        line[format!("{prefix}_pages_per_s")] = json!(1e9 / time(*took, false));
        line[format!("{prefix}_wall_ns_per_page")] = json!(time(*took, false));
        line[format!("{prefix}_cpu_ns_per_page")] = json!(time(*took, true));
    }
    let memory = &round.memory;
    let ratio = memory.compressed_bytes.filter(|bytes| *bytes > 0);
    line["ratio"] = json!(ratio.map(|bytes| pages * PAGE_SIZE as f64 / bytes as f64));
    line["memory_bytes_per_page"] = json!(memory.bytes as f64 / pages);
    line["metadata_bytes_per_page"] = json!(memory.metadata_bytes as f64 / pages);
    line["mismatched_pages"] = json!(round.faults.mismatched_pages);
    line["rejected_pages"] = json!(round.faults.rejected_pages);
    line["failed_checks"] = json!(round.faults.failed_checks);
    line
}

/// The time of the store over that of a peer.
struct Ratio {
    /// Of the peer and of the store, nanoseconds a page.
    medians: (f64, f64),
    rounds: usize,
    ratio: Interval,
    known: Option<TimeRatio>,
}

/// Rounds that count: the store's first fill of fresh memory stands apart, and so does its partner.
fn counts(round: &Round, pass: Pass) -> bool {
    round.number > 1 || pass != Pass::Store
}

fn compared(own: &Raced<'_>, other: &Raced<'_>, pass: Pass) -> Option<Ratio> {
    let times = |round: &Round| {
        let mine = own.rounds.iter().find(|mine| mine.number == round.number)?.pass(pass)?;
        Some((time(round.pass(pass.plain())?, true), time(mine, true)))
    };
    let pairs: Vec<(f64, f64)> =
        other.rounds.iter().filter(|round| counts(round, pass.plain())).filter_map(times).collect();
    let median = |values: Vec<f64>| Sample::new(values).map(|sample| sample.median());
    let logs = Sample::new(pairs.iter().map(|(other, own)| (own / other).ln()).collect())?;
    let known = logs.centre(LEVEL).map(TimeRatio::of_logarithms);
    let (low, high) = logs.range();
    Some(Ratio {
        medians: (
            median(pairs.iter().map(|pair| pair.0).collect())?,
            median(pairs.iter().map(|pair| pair.1).collect())?,
        ),
        rounds: pairs.len(),
        ratio: known.map_or(Interval { estimate: logs.median(), low, high }.map(f64::exp), |known| known.0),
        known,
    })
}

/// All codecs of the store with all peers: time, so that below 1 the store is faster.
pub(super) fn comparisons(corpus: &Corpus, raced: &[Raced<'_>]) -> Vec<Value> {
    let mut lines = Vec::new();
    for own in raced.iter().filter(|raced| raced.own) {
        for other in raced.iter().filter(|raced| !raced.own) {
            for pass in Pass::ALL {
                let Some(ratio) = compared(own, other, pass) else { continue };
                lines.push(json!({
                    "kind": "comparison",
                    "race": "peers",
                    "corpus": corpus.name,
                    "corpus_sha256": corpus.facts.sha256,
                    "a": other.name(),
                    "b": own.name(),
                    "figure": format!("{}_cpu_ns_per_page", pass.prefix()),
                    "a_median": ratio.medians.0,
                    "b_median": ratio.medians.1,
                    "a_rounds": ratio.rounds,
                    "b_rounds": ratio.rounds,
                    "ratio": ratio.ratio.estimate,
                    "ratio_low": ratio.known.map(|known| known.0.low),
                    "ratio_high": ratio.known.map(|known| known.0.high),
                    "level": LEVEL,
                    "verdict": ratio.known.map(|known| known.verdict().name()),
                }));
            }
            if let Some((own_bytes, bytes)) = bytes(own).zip(bytes(other)).filter(|(_, bytes)| *bytes > 0.0) {
                lines.push(json!({
                    "kind": "comparison",
                    "race": "peers",
                    "corpus": corpus.name,
                    "corpus_sha256": corpus.facts.sha256,
                    "a": other.name(),
                    "b": own.name(),
                    "figure": "memory_bytes",
                    "a_median": bytes,
                    "b_median": own_bytes,
                    "ratio": own_bytes / bytes,
                }));
            }
        }
    }
    lines
}

/// Bytes that all pages take.
fn bytes(raced: &Raced<'_>) -> Option<f64> {
    Sample::new(raced.rounds.iter().map(|round| round.memory.bytes as f64).collect())
        .map(|sample| sample.median())
}

/// `1.02M [0.93..1.07]`: the range in the unit of the median.
fn with_range(rates: &Sample) -> String {
    let scale = Scale::of_count(rates.median());
    let (least, most) = rates.range();
    let [median, least, most] = [rates.median(), least, most].map(|rate| scale.number(rate));
    format!("{median}{} [{least}..{most}]", scale.unit.trim_start())
}

/// The corpus for people, at most 120 columns.
pub(super) fn block(corpus: &Corpus, pages: u64, raced: &[Raced<'_>]) -> String {
    let facts = &corpus.facts;
    let mut text = format!(
        "\ncorpus {}, {} ({} zero, {} filled by another word)\n\n{:<16}",
        crate::printable(&corpus.name),
        plural(pages, "page"),
        facts.zero_pages,
        facts.same_filled_nonzero_pages,
        "CPU time",
    );
    // Writing to a String cannot fail.
    Pass::ALL.iter().for_each(|pass| text += &format!("{:>19}", pass.title()));
    text += "  B/page\n";
    for raced in raced {
        let _ = write!(text, "{:<16}", raced.name());
        for pass in Pass::ALL {
            let rates = raced
                .rounds
                .iter()
                .filter(|round| counts(round, pass))
                .filter_map(|round| Some(1e9 / time(round.pass(pass)?, true)));
            let cell = Sample::new(rates.collect()).map_or_else(String::new, |sample| with_range(&sample));
            let _ = write!(text, "{cell:>19}");
        }
        let _ = writeln!(
            text,
            "{:>8}",
            bytes(raced).map_or_else(String::new, |bytes| format!("{:.0}", bytes / pages as f64))
        );
    }
    for own in raced.iter().filter(|raced| raced.own) {
        let first =
            own.rounds.iter().find(|round| round.number == 1).and_then(|round| round.pass(Pass::Store));
        if let Some(first) = first {
            let _ = writeln!(
                text,
                "first fill of {}: {} pages a second",
                own.name(),
                count(1e9 / time(first, true))
            );
        }
    }
    for own in raced.iter().filter(|raced| raced.own) {
        let _ = writeln!(
            text,
            "\n{} over its peers: times as fast [99 %], and bytes a page over bytes a page",
            own.name()
        );
        for other in raced.iter().filter(|raced| !raced.own) {
            let _ = write!(text, "{:<16}", other.name());
            for pass in Pass::ALL {
                let cell = compared(own, other, pass).map_or_else(String::new, |ratio| {
                    let Interval { estimate, low, high } = ratio.ratio;
                    let digits = usize::from(estimate >= 0.02) + usize::from(estimate >= 0.1);
                    let times = |ratio: f64| format!("{:.digits$}", 1.0 / ratio);
                    format!("{} [{}..{}]", times(estimate), times(high), times(low))
                });
                let _ = write!(text, "{cell:>19}");
            }
            let both = bytes(own).zip(bytes(other)).filter(|(_, other)| *other > 0.0);
            let cell = both.map_or_else(String::new, |(own, other)| format!("{:.3}", own / other));
            let _ = writeln!(text, "{cell:>8}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates above a million made cells as wide as their column, and two of them one word.
    #[test]
    fn rates_are_short_and_of_one_unit() {
        let told = |rates: &[f64]| with_range(&Sample::new(rates.to_vec()).unwrap());
        assert_eq!(told(&[1.02e6, 928e3, 1.07e6]), "1.02M [0.93..1.07]");
        assert_eq!(told(&[298_000.0, 304_000.0, 296_000.0]), "298k [296..304]");
        assert_eq!(told(&[17_600.0, 14_700.0, 30_600.0]), "17.6k [14.7..30.6]");
    }
}
