//! The store beside others that keep pages compressed in memory: what `bench peers` found.

use super::findings::Finding;
use super::group::distinct;
use super::html::{Table, figure, section as whole_section};
use super::plot;
use super::ratios;
use super::records::{CorpusName, Point, Ratio, Records, Setting};
use crate::quantity::{count, plural};

/// Passes by the beginning of their figures' names.
const PASSES: [(&str, &str); 5] = [
    ("store", "Store"),
    ("load_seq", "Load in order"),
    ("load", "Load at random"),
    ("store_64k", "Store 64K folios"),
    ("load_batch", "Load 16 at random"),
];

pub(super) fn section(records: &Records) -> String {
    let mut content = String::new();
    for corpus in records.corpora.keys() {
        let raced: Vec<(&Setting, &Point)> =
            records.raced.iter().filter(|(setting, _)| setting.corpus == *corpus).collect();
        if raced.is_empty() {
            continue;
        }
        content += &rates(corpus, &raced);
        let of_corpus: Vec<&Ratio> =
            records.races.iter().filter(|ratio| ratio.corpus == corpus.name).collect();
        for own in distinct(of_corpus.iter().map(|ratio| ratio.b.as_str())) {
            content += &over(corpus, own, &of_corpus);
        }
    }
    if content.is_empty() {
        return content;
    }
    let lead = "The same pages through all of them in one run, interleaved, every page compared. Pages a second are of CPU time, the \
                kernel's and helpers' included; memory holds the metadata. Peers have no folios and no batches: there the store is \
                compared with their single pages.";
    whole_section("peers", "Beside its peers", lead, &content)
}

/// `vw of zfolio`, `lz4 of zram`, `liblz4 alone`; as the comparisons have it.
fn name(setting: &Setting) -> String {
    match setting.backend.as_str() {
        "codec alone" => format!("{} alone", setting.codec),
        "software" => format!("{} of zfolio", setting.codec),
        backend => format!("{} of {backend}", setting.codec),
    }
}

fn rates(corpus: &CorpusName, raced: &[(&Setting, &Point)]) -> String {
    let mut header = vec!["Who"];
    header.extend(PASSES.iter().map(|(_, title)| *title));
    header.push("Memory a page");
    let mut table = Table::new(&header, 1);
    for (setting, point) in raced {
        let mut cells = vec![name(setting)];
        cells.extend(PASSES.iter().map(|(prefix, _)| {
            let rates = point.sample(&format!("{prefix}_cpu_ns_per_page"));
            let interval = rates.map(|sample| sample.median_interval(0.95));
            interval.map_or_else(String::new, |time| {
                let rate = |time: f64| count(1e9 / time);
                format!("{} [{}..{}]", rate(time.estimate), rate(time.high), rate(time.low))
            })
        }));
        let bytes = point.median("memory_bytes_per_page");
        cells.push(bytes.map_or_else(String::new, |bytes| format!("{bytes:.0} B")));
        table.row(&cells);
    }
    let title = format!("{}, {} · pages a second of CPU time", corpus.name, plural(corpus.pages, "page"));
    figure(&title, &[], &[], &table.end())
}

/// One codec of the store over all peers.
fn over(corpus: &CorpusName, own: &str, races: &[&Ratio]) -> String {
    let of = |peer: &str, figure: &str| {
        races.iter().find(|ratio| ratio.b == own && ratio.a == peer && ratio.figure == figure)
    };
    let peers = distinct(races.iter().filter(|ratio| ratio.b == own).map(|ratio| ratio.a.as_str()));
    let mut header = vec!["Peer"];
    header.extend(PASSES.iter().map(|(_, title)| *title));
    header.push("Memory over its memory");
    let mut table = Table::new(&header, 1);
    let mut plots = PASSES[..3].iter().map(|(_, title)| (*title, Vec::new())).collect::<Vec<_>>();
    for peer in peers {
        let mut cells = vec![peer.to_owned()];
        for (place, (prefix, _)) in PASSES.iter().enumerate() {
            let Some(ratio) = of(peer, &format!("{prefix}_cpu_ns_per_page")) else {
                cells.push(String::new());
                continue;
            };
            let told = times(ratio);
            if let Some((_, rows)) = plots.get_mut(place) {
                let told = format!("{own} over {peer}: {told} times as fast");
                let (label, class) = (peer.to_owned(), ratios::class(ratio));
                rows.push(plot::Ratio { label, ratio: ratio.ratio, interval: ratio.interval, class, told });
            }
            cells.push(told);
        }
        let memory = of(peer, "memory_bytes");
        cells.push(memory.map_or_else(String::new, |ratio| format!("{:.3}", ratio.ratio)));
        table.row(&cells);
    }
    let drawn: Vec<String> = (plots.iter().filter(|(_, rows)| !rows.is_empty()))
        .map(|(title, rows)| plot::ratios(&format!("{title}: its time / the peer's"), rows))
        .collect();
    let title = format!("{} · how many times as fast {own} is", corpus.name);
    figure(&title, &[], &drawn, &table.end())
}

/// `1.42 [1.39..1.45]`: the inverse of a ratio of times.
fn times(ratio: &Ratio) -> String {
    let interval = ratio
        .interval
        .map_or_else(String::new, |(low, high)| format!(" [{:.2}..{:.2}]", 1.0 / high, 1.0 / low));
    format!("{:.2}{interval}", 1.0 / ratio.ratio)
}

/// Each codec of the store beside the kernel's zram with LZ4.
pub(super) fn findings(records: &Records) -> Vec<Finding> {
    let mut findings = Vec::new();
    for memory in
        records.races.iter().filter(|ratio| ratio.a == "lz4 of zram" && ratio.figure == "memory_bytes")
    {
        let told: Vec<String> = (PASSES.iter())
            .filter_map(|(prefix, title)| {
                let figure = format!("{prefix}_cpu_ns_per_page");
                let same = |ratio: &&Ratio| {
                    (&ratio.corpus, &ratio.a, &ratio.b) == (&memory.corpus, &memory.a, &memory.b)
                        && ratio.figure == figure
                };
                let ratio = records.races.iter().find(same)?;
                Some(format!("{} {}", title.to_lowercase(), times(ratio)))
            })
            .collect();
        findings.push(Finding::new(
            "same",
            format!(
                "On {}, {} beside {} is so many times as fast: {}; it takes {:.3} of its memory.",
                memory.corpus,
                memory.b,
                memory.a,
                told.join(", "),
                memory.ratio
            ),
        ));
    }
    findings
}
