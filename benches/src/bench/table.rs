//! The report for people: what was measured, then a block for each corpus.
//!
//! At most 120 columns, because it is read in pipes and pasted into mails. Spread is `median [min..max]`.

use std::fmt::Write;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};
use zfolio_accel::{Method, PAGE_SIZE};

use super::figures::{COLD_STORE, Spread, Summary, prefix};
use super::phases::Phase;
use super::worker::Pass;
use super::{Outcome, Setup, noise};
use crate::corpus::Corpus;
use crate::quantity::{Scale, bytes, count, nanoseconds, percent, plural};

/// What stands above all blocks.
pub(crate) fn header(setup: &Setup, outcome: &Outcome<'_>) -> String {
    let commit = super::COMMIT.map(|commit| format!(" (commit {commit})")).unwrap_or_default();
    let variant = outcome.variant;
    format!(
        "zfolio {}{commit} bench, {}\n\
         machine   {}\n\
         backend   {}\n\
         {}codec     {}\n\
         setup     folios of {}, window {}{}{}, {}, {}{}\n\
         kernel    {}{}\n\
         figures   median [min..max] over rounds; every byte that came back was compared with its source\n{}",
        env!("CARGO_PKG_VERSION"),
        setup.measured_at,
        setup.machine,
        wrapped(&variant.backend_report),
        (setup.device.describe(setup.backend))
            .map_or(String::new(), |model| format!("model     {}\n", wrapped(&model))),
        codec_line(setup, outcome),
        folio(setup.folio_pages),
        setup.window,
        if variant.backend == "software" { " (software does one page at a time)" } else { "" },
        match setup.policy.name() {
            "prefer" => String::new(),
            policy => format!(", policy {policy}"),
        },
        plural(setup.threads as u64, "thread"),
        plural(u64::from(setup.rounds), "round"),
        if setup.codec.is_none() { ", codecs interleaved" } else { "" },
        setup.settings,
        if setup.pins.is_empty() { "" } else { ", each thread on a CPU of its own" },
        if setup.rounds > 1 {
            "          store's median leaves the first fill out; first store is that one\n"
        } else {
            ""
        },
    )
}

fn codec_line(setup: &Setup, outcome: &Outcome<'_>) -> String {
    match setup.codec {
        None => {
            let (best, why) = Method::best();
            format!("lz4, deflate and vw compared; --codec names one\n          default {best}: {why}")
        }
        Some(_) => format!("{} ({})", outcome.variant.method, outcome.variant.codec_reason),
    }
}

/// A long sentence in lines below each other, beside the titles.
pub(crate) fn wrapped(text: &str) -> String {
    const WIDTH: usize = 120 - 10;
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        let len = word.chars().count();
        if width > 0 && width + 1 + len > WIDTH {
            lines.push_str("\n          ");
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += len;
    }
    lines
}

fn folio(pages: u32) -> String {
    bytes(f64::from(pages) * PAGE_SIZE as f64).replace(".0", "")
}

/// The block of one corpus.
pub(crate) fn block(setup: &Setup, corpus: &Corpus, outcomes: &[(Outcome<'_>, Summary)]) -> String {
    let facts = &corpus.facts;
    let mut text = String::new();
    let used = match setup.pages {
        Some(pages) if pages != facts.pages => {
            format!(
                ", {} to {}",
                if pages > facts.pages { "repeated" } else { "cut evenly" },
                plural(pages, "page")
            )
        }
        _ => String::new(),
    };
    let size = bytes((facts.pages * PAGE_SIZE as u64) as f64);
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\ncorpus {}: {} ({size}){used}, sha256 {}\n  {}\n  zero {}, other same-filled {}, duplicates {}",
        crate::printable(&corpus.name),
        plural(facts.pages, "page"),
        facts.short_sha256(),
        crate::printable(&corpus.origin),
        percent(facts.zero_pages, facts.pages),
        percent(facts.same_filled_nonzero_pages, facts.pages),
        percent(facts.duplicate_pages, facts.pages),
    );
    for note in &corpus.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    let mut cut_short = outcomes.iter().filter(|(outcome, _)| {
        outcome.rounds.len() < setup.rounds as usize || outcome.rounds.iter().any(|round| !round.complete())
    });
    if cut_short.next().is_some() {
        let rounds: Vec<String> = outcomes
            .iter()
            .map(|(outcome, _)| {
                let complete = outcome.rounds.iter().filter(|round| round.complete()).count();
                format!("{} {complete} of {}", outcome.variant.method, setup.rounds)
            })
            .collect();
        let _ = writeln!(text, "  INTERRUPTED: complete rounds: {}", rounds.join(", "));
    }
    let _ = write!(text, "\n{}\n{}", lines(&speed(setup.folio_pages, outcomes)), lines(&memory(outcomes)));
    for (outcome, summary) in outcomes {
        let name = outcome.variant.method.name();
        text += &where_time_goes(setup, name, summary);
        let noise = noise::of(setup, outcome, summary);
        if !noise.is_empty() {
            let told = format!("NOISY MACHINE, {name}: {}", noise.join("; "));
            let _ = writeln!(text, "  {}", wrapped(&told));
        }
        if let Some(outliers) = noise::outliers(summary) {
            let told =
                format!("CPU time a page of outliers, {name} (they count like all others): {outliers}");
            let _ = writeln!(text, "  {}", wrapped(&told));
        }
    }
    for (outcome, _) in outcomes {
        let faults = outcome.faults();
        if faults.any() {
            let counts = [
                (faults.mismatched_pages, "page", "MISMATCHED"),
                (faults.rejected_pages, "page", "refused"),
                (faults.failed_checks, "check", "FAILED"),
            ];
            let told: Vec<String> = counts
                .iter()
                .filter(|(count, ..)| *count > 0)
                .map(|(count, noun, what)| format!("{} {what}", plural(*count, noun)))
                .collect();
            let _ = writeln!(text, "  {}: {}", outcome.variant.method, told.join(", "));
        }
    }
    text
}

/// The phases of each pass, where calls were timed.
fn where_time_goes(setup: &Setup, name: &str, summary: &Summary) -> String {
    let Some(one_in) = setup.phases else { return String::new() };
    let figure = |pass: Pass, name: &str| summary.get(&format!("{}_{name}", prefix(pass)));
    let look = Pass::ALL.into_iter().find_map(|pass| figure(pass, "clock_look_ns"));
    let mut text = format!(
        "  where a page's time goes, {name}: one call in {one_in} timed; a look at the clock costs {}, which is taken off\n",
        median(look, nanoseconds)
    );
    for pass in Pass::ALL {
        let Some(sum) = figure(pass, "phases_ns_per_page") else { continue };
        for (place, (_, record, title)) in Phase::of(pass).iter().enumerate() {
            let phase = figure(pass, &format!("phase_{record}_ns_per_page"));
            let share = phase.map_or(0.0, |phase| 100.0 * phase.median / sum.median);
            let pass = if place == 0 { pass.title() } else { "" };
            let spread = phase.map_or_else(String::new, |phase| {
                format!("[{}..{}]", nanoseconds(phase.min), nanoseconds(phase.max))
            });
            let _ = writeln!(
                text,
                "    {pass:<16}{title:<26}{:>9}{share:>5.0} %  {spread}",
                median(phase, nanoseconds)
            );
        }
        let untimed = figure(pass, "untimed_ns_per_page");
        let _ = writeln!(
            text,
            "    {:<16}{:<26}{:>9}         a page of calls that were not timed took {}",
            "",
            "together",
            nanoseconds(sum.median),
            median(untimed, nanoseconds)
        );
    }
    text
}

/// What was measured in a line, as a sweep tells it.
pub(crate) fn one_line(setup: &Setup, corpus: &Corpus, outcome: &Outcome<'_>, summary: &Summary) -> String {
    let rate = |pass| median(summary.get(&format!("{}_pages_per_s", prefix(pass))), count);
    format!(
        "{:<18} {:<10} {:>4} window {:<4} threads {:<3} pages/s: store {:>6}, read {:>6}, load {:>6}; ratio {}\n",
        crate::printable(&corpus.name),
        outcome.variant.method.name(),
        call_size(setup.folio_pages),
        setup.window,
        setup.threads,
        rate(Pass::Store),
        rate(Pass::Read),
        rate(Pass::Load),
        median(summary.get("ratio"), |value| format!("{value:.3}")),
    )
}

/// What stands below all blocks.
pub(crate) fn footer(setup: &Setup) -> String {
    let cold = if setup.rounds > 1 {
        "first store fills memory the process has never touched; store fills it again"
    } else {
        "store is the first fill, of memory the process has never touched"
    };
    format!(
        "\n{cold}\n\
         p50, p99, max: latency of a call, whose size stands after the pass: a folio is stored, a page read or loaded\n\
         wall/page: time of the slowest thread; CPU/page: CPU time of all threads\n\
         ratio: bytes stored / bytes of compressed objects; raw pages: stored as they are, as they do not compress\n\
         allocated/compressed: resident arena, as the kernel counts it / bytes of objects\n\
         warm stock: memory that was kept for the next stores, given back before the rest is measured\n\
         memory/page: resident arena and metadata\n"
    )
}

fn speed_table() -> Table {
    table(
        &[
            "codec",
            "pass and\na call's size",
            "pages/s",
            "MB/s",
            "wall\n/page",
            "CPU\n/page",
            "p50",
            "p99",
            "max",
        ],
        2,
    )
}

fn memory_table() -> Table {
    let header = [
        "codec",
        "ratio",
        "allocated/\ncompressed",
        "warm\nstock",
        "metadata\n/page",
        "memory\n/page",
        "RssAnon\ngrowth",
        "zero\npages",
        "same-\nfilled",
        "raw\npages",
        "mis-\nmatched",
    ];
    table(&header, 1)
}

/// `4K`, `64K`, `2M`, as `--folio` has it.
fn call_size(pages: u32) -> String {
    let kib = pages as usize * PAGE_SIZE / 1024;
    if kib < 1024 { format!("{kib}K") } else { format!("{}M", kib / 1024) }
}

fn speed(folio_pages: u32, outcomes: &[(Outcome<'_>, Summary)]) -> Table {
    let mut table = speed_table();
    let folio = call_size(folio_pages);
    for (outcome, summary) in outcomes {
        let passes = [
            ("first store", folio.as_str(), COLD_STORE),
            ("store", folio.as_str(), prefix(Pass::Store)),
            ("read in order", "4K", prefix(Pass::Read)),
            ("load at random", "4K", prefix(Pass::Load)),
        ];
        let mut codec = outcome.variant.method.name();
        for (name, call, prefix) in passes {
            let figure = |name: &str| summary.get(&format!("{prefix}_{name}"));
            if figure("pages_per_s").is_none() {
                continue;
            }
            table.add_row([
                std::mem::take(&mut codec).to_owned(),
                format!("{name} {call}"),
                spread(figure("pages_per_s"), Scale::of_count),
                median(figure("mb_per_s"), |value| format!("{value:.0}")),
                median(figure("wall_ns_per_page"), nanoseconds),
                spread(figure("cpu_ns_per_page"), Scale::of_nanoseconds),
                median(figure("call_p50_ns"), nanoseconds),
                median(figure("call_p99_ns"), nanoseconds),
                // The worst call of all rounds: a median of maxima would hide it.
                figure("call_max_ns").map_or_else(missing, |spread| nanoseconds(spread.max)),
            ]);
        }
    }
    table
}

fn memory(outcomes: &[(Outcome<'_>, Summary)]) -> Table {
    let mut table = memory_table();
    for (outcome, summary) in outcomes {
        let whole = |name| median(summary.get(name), |value| format!("{value:.0}"));
        table.add_row([
            outcome.variant.method.name().to_owned(),
            median(summary.get("ratio"), |value| format!("{value:.3}")),
            density(summary.get("allocated_over_compressed")),
            median(summary.get("warm_bytes"), bytes),
            median(summary.get("metadata_bytes_per_page"), |value| format!("{value:.1} B")),
            median(summary.get("memory_bytes_per_page"), |value| format!("{value:.0} B")),
            median(summary.get("rss_anon_growth_bytes"), bytes),
            whole("zero_pages"),
            whole("same_filled_pages"),
            whole("raw_pages"),
            outcome.faults().mismatched_pages.to_string(),
        ]);
    }
    table
}

/// A table without borders; columns from `numbers` on are aligned to the right.
fn table(header: &[&str], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::new('-', '-', '-', '-')));
    table.set_header(header.iter().copied());
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if index >= numbers {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn lines(table: &Table) -> String {
    table.lines().map(|line| format!(" {}\n", line.trim_end())).collect()
}

fn missing() -> String {
    "-".to_owned()
}

fn median(figure: Option<Spread>, format: impl Fn(f64) -> String) -> String {
    figure.map_or_else(missing, |spread| format(spread.median))
}

/// `1.012 [1.010..1.015]`.
fn density(figure: Option<Spread>) -> String {
    let Some(figure) = figure else { return missing() };
    let [median, min, max] = [figure.median, figure.min, figure.max].map(|value| format!("{value:.3}"));
    if min == max { median } else { format!("{median} [{min}..{max}]") }
}

/// `312 k [300..320]`, in the scale of the median; no brackets when all three read alike.
fn spread(figure: Option<Spread>, scale: impl Fn(f64) -> Scale) -> String {
    let Some(Spread { median, min, max }) = figure else { return missing() };
    let scale = scale(median);
    let [median, min, max] = [median, min, max].map(|value| scale.number(value));
    if min == median && max == median {
        median + scale.unit
    } else {
        format!("{median}{} [{min}..{max}]", scale.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_written_in_the_scale_of_its_median() {
        let of = |median, min, max| spread(Some(Spread { median, min, max }), Scale::of_count);
        assert_eq!(of(312_000.0, 300_000.0, 320_400.0), "312 k [300..320]");
        assert_eq!(of(1_000_000.0, 900_000.0, 1_100_000.0), "1.00 M [0.90..1.10]");
        assert_eq!(of(5.0, 5.0, 5.0), "5");
        assert_eq!(spread(None, Scale::of_count), "-");
    }

    #[test]
    fn the_widest_row_fits_120_columns() {
        let mut speed = speed_table();
        let wide = [
            "deflate",
            "load at random 4K",
            "9.99 M [0.01..99.99]",
            "99999",
            "9999 ns",
            "9.99 us [9.99..999.99]",
        ];
        speed.add_row(wide.into_iter().chain(["99.9 ms"; 3]));
        let mut memory = memory_table();
        memory.add_row([
            "deflate",
            "999.999",
            "1.017 [1.016..1.018]",
            "1024.0 MiB",
            "48.0 B",
            "4096 B",
            "1024.0 MiB",
            "1000000",
            "1000000",
            "1000000",
            "1000000",
        ]);
        for line in lines(&speed).lines().chain(lines(&memory).lines()) {
            assert!(line.chars().count() <= 120, "{line}");
        }
    }
}
