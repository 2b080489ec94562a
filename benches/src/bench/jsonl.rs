//! Results as JSON lines: one object a corpus, variant and round, and one summary a corpus and variant.
//!
//! A round is written when it ends, so a run that is killed leaves what it measured. A summary has the same
//! names: there they are medians, with `_min`, `_max`, `_mad` (the median distance from the median), `_low` and `_high`
//! (the bootstrap interval of the median) and `_outliers` (how many rounds lie far off; none is dropped) beside them.
//! Counts of mismatched and rejected pages are sums.

use std::fs::File;
use std::io::{self, Write};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Value, json};
use zfolio_accel::Codec;

use super::figures::{self, COLD_STORE, Summary};
use super::round::Round;
use super::variant::Variant;
use super::{Outcome, Setup, noise};
use crate::corpus::Corpus;
use crate::machine::{KernelSettings, Machine};
use crate::os;
use crate::statistics::Sample;

/// One object, its names in the order they were added.
#[derive(Default)]
pub(super) struct Line(Vec<(String, Value)>);

impl Line {
    /// As an object that more can be added to.
    pub(super) fn into_value(self) -> Value {
        self.0.into_iter().collect::<serde_json::Map<_, _>>().into()
    }

    pub(super) fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), value.into()));
    }

    pub(super) fn number(&mut self, name: &str, value: Option<f64>) {
        self.add(name, value.map_or(Value::Null, rounded));
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Whole numbers as such, others to six digits after the point.
pub(super) fn rounded(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        json!(value as i64)
    } else {
        json!((value * 1e6).round() / 1e6)
    }
}

/// Where the lines go, if anywhere.
pub(crate) struct JsonLines {
    out: Option<File>,
}

impl JsonLines {
    pub(crate) fn new(out: Option<File>) -> Self {
        Self { out }
    }

    pub(crate) fn round(
        &mut self,
        setup: &Setup,
        corpus: &Corpus,
        variant: &Variant,
        round: &Round,
    ) -> io::Result<()> {
        let mut line = begin("round", setup, corpus, variant);
        line.add("round", round.number);
        line.add("arena", round.arena.name());
        line.add("complete", round.complete());
        for (name, value) in figures::of_round(round) {
            line.number(&name, value);
        }
        line.add("mismatched_pages", round.faults.mismatched_pages);
        line.add("rejected_pages", round.faults.rejected_pages);
        line.add("failed_checks", round.faults.failed_checks);
        self.write(&line)
    }

    pub(crate) fn summary(
        &mut self,
        setup: &Setup,
        corpus: &Corpus,
        outcome: &Outcome<'_>,
        summary: &Summary,
    ) -> io::Result<()> {
        let mut line = begin("summary", setup, corpus, outcome.variant);
        line.add("rounds_complete", outcome.rounds.iter().filter(|round| round.complete()).count());
        line.add("arena", if outcome.rounds.len() > 1 { "warm" } else { "cold" });
        line.add("complete", outcome.is_complete(setup));
        line.add("interval_level", figures::LEVEL);
        line.add("noise", noise::of(setup, outcome, summary));
        for (name, sample) in &summary.0 {
            line.number(name, sample.as_ref().map(Sample::median));
            if name.starts_with(COLD_STORE) {
                // There is one first fill.
                continue;
            }
            let interval = sample.as_ref().map(|sample| sample.median_interval(figures::LEVEL));
            line.number(&format!("{name}_min"), sample.as_ref().map(|sample| sample.range().0));
            line.number(&format!("{name}_max"), sample.as_ref().map(|sample| sample.range().1));
            line.number(&format!("{name}_mad"), sample.as_ref().map(Sample::mad));
            line.number(&format!("{name}_low"), interval.map(|interval| interval.low));
            line.number(&format!("{name}_high"), interval.map(|interval| interval.high));
            line.number(&format!("{name}_outliers"), sample.as_ref().map(|s| s.outliers().len() as f64));
        }
        let faults = outcome.faults();
        line.add("mismatched_pages", faults.mismatched_pages);
        line.add("rejected_pages", faults.rejected_pages);
        line.add("failed_checks", faults.failed_checks);
        self.write(&line)
    }

    /// Any other object.
    pub(crate) fn value(&mut self, value: &Value) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        out.write_all(format!("{value}\n").as_bytes())
    }

    pub(super) fn write(&mut self, line: &Line) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        out.write_all(text.as_bytes())
    }
}

/// What every line begins with: what was measured, where and how.
pub(super) fn begin(kind: &str, setup: &Setup, corpus: &Corpus, variant: &Variant) -> Line {
    let mut line = Line::default();
    line.add("kind", kind);
    line.add("corpus", corpus.name.as_str());
    line.add("codec", variant.method.name());
    line.add("codec_reason", variant.codec_reason);
    line.add("backend", variant.backend.as_str());
    line.add("backend_report", variant.backend_report.as_str());
    line.add("model", setup.device.describe(setup.backend).map_or(Value::Null, Value::from));
    line.add("folio_bytes", setup.folio_pages * 4096);
    line.add("threads", setup.threads);
    line.add("window", setup.window);
    line.add("policy", setup.policy.name());
    line.add("rounds", setup.rounds);
    line.add("pinned_cpus", if setup.pins.is_empty() { Value::Null } else { json!(setup.pins) });
    line.add("library_versions", libraries(variant));
    add_facts(&mut line, setup, corpus);
    line
}

/// What every line says of the pages, the program and the machine.
pub(super) fn add_facts(line: &mut Line, setup: &Setup, corpus: &Corpus) {
    line.add("pages", setup.pages.unwrap_or(corpus.facts.pages));
    line.add("corpus_sha256", corpus.facts.sha256.as_str());
    line.add("corpus_pages", corpus.facts.pages);
    line.add("corpus_origin", corpus.origin.as_str());
    line.add("corpus_zero_pages", corpus.facts.zero_pages);
    line.add("corpus_same_filled_nonzero_pages", corpus.facts.same_filled_nonzero_pages);
    line.add("corpus_duplicate_pages", corpus.facts.duplicate_pages);
    line.add("nid", setup.nid.0);
    line.add("layout_seed", setup.layout.as_ref().map_or(Value::Null, |layout| layout.seed.into()));
    for (name, value) in machine_facts(&setup.machine, &setup.settings, &setup.measured_at) {
        line.add(name, value);
    }
}

/// What every line says of the program and the machine.
pub(super) fn machine_facts(
    machine: &Machine,
    settings: &KernelSettings,
    measured_at: &str,
) -> [(&'static str, Value); 11] {
    [
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("commit", json!(super::COMMIT)),
        ("measured_at", json!(measured_at)),
        ("cpu_model", json!(machine.cpu_model)),
        ("cpus", json!(machine.cpus)),
        ("kernel", json!(machine.kernel)),
        ("memory_bytes", json!(machine.memory_bytes)),
        ("memory_nodes", json!(machine.memory_nodes)),
        ("governor", json!(settings.governor)),
        ("transparent_huge_pages", json!(settings.huge_pages)),
        ("addresses_random", json!(os::addresses_are_random())),
    ]
}

/// Versions of libraries that compress or decompress for this variant; `lz4_flex` where the CPU lacks what our own reader of LZ4 wants.
pub(super) fn libraries(variant: &Variant) -> Value {
    let mut versions = serde_json::Map::new();
    match variant.method.codec() {
        Codec::Lz4 => versions.insert("lz4_flex".to_owned(), env!("LZ4_FLEX_VERSION").into()),
        Codec::Deflate => versions.insert("zlib-rs".to_owned(), env!("ZLIB_RS_VERSION").into()),
        _ => None,
    };
    if variant.backend.starts_with("qpl")
        && let Ok(library) = qpl_sys::Library::load()
    {
        versions.insert("qpl".to_owned(), library.version().to_string().into());
    }
    versions.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_stay_whole_and_names_keep_their_order() {
        let mut line = Line::default();
        line.add("kind", "round");
        line.number("b", Some(3.0));
        line.number("a", Some(1.234_567_89));
        line.number("none", None);
        assert_eq!(
            serde_json::to_string(&line).unwrap(),
            r#"{"kind":"round","b":3,"a":1.234568,"none":null}"#
        );
    }
}
