//! The sections of the page: plots, and beside each the table with the same numbers.

use super::group::{self, Across, Measured, Names};
use super::html::{Table, escape, figure, page as whole_page, section};
use super::plot::{self, Bar, Line, Mark, Span};
use super::records::{CorpusName, Records};
use super::{engines, findings, layouts, peers, phases, ratios, simulated, under_load};
use crate::quantity::{bytes, count, nanoseconds, percent, plural};

/// What a pass is called, and what the names of its figures begin with.
pub(super) const PASSES: [(&str, &str); 3] =
    [("store", "Store"), ("load_seq", "Read in order"), ("load", "Load at random")];

/// The whole page.
pub(super) fn page(title: &str, records: &Records) -> String {
    let sections = [
        ("codecs", "Throughput by codec", by_codec(records)),
        ("settings", "Throughput and latency by setting", by_setting(records)),
        ("engines", "Engines alone", engines::section(records)),
        ("density", "Density", density(records)),
        ("latency", "Latency of calls", latency(records)),
        ("load", "Latency under load", under_load::section(records)),
        ("phases", "Where time goes", phases::section(records)),
        ("peers", "Beside its peers", peers::section(records)),
        ("ratios", "A against B", ratios::section(records)),
        ("simulated", "Many threads and devices, simulated", simulated::section(records)),
        ("layouts", "Layout and noise", layouts::section(records)),
        ("all", "All measurements", everything(records)),
        ("runs", "What was run, and on what", runs(records)),
    ];
    let present = || sections.iter().filter(|(.., html)| !html.is_empty());
    let links: String = present().map(|(id, title, _)| format!("<a href=\"#{id}\">{title}</a>")).collect();
    let bodies: String = present().map(|(.., html)| html.as_str()).collect();
    let found: String = findings::of(records)
        .iter()
        .map(|finding| format!("<li class={}>{}</li>\n", finding.class, escape(&finding.text)))
        .collect();
    let body = format!(
        "<header><h1>{}</h1>\n<p class=by>{}</p>\n<ul class=findings>\n{found}</ul>\n<nav>{links}</nav></header>\n{bodies}\
         <footer>Medians over rounds. Whiskers and ranges are bootstrap intervals of the median at 95 %, dots are single rounds; \
         nothing is left out but the first fill of fresh memory, which the store's figures do not hold. Made by zfolio {}.</footer>\n",
        escape(title),
        escape(&summary(records)),
        env!("CARGO_PKG_VERSION"),
    );
    whole_page(title, &body)
}

/// `4 settings on 2 corpora, 1 run, 2026-11-24; AMD EPYC, 2 CPUs`.
fn summary(records: &Records) -> String {
    let mut machines: Vec<&str> =
        records.runs.iter().map(|run| run.machine.as_str()).filter(|machine| !machine.is_empty()).collect();
    machines.sort_unstable();
    machines.dedup();
    let days = records.runs.iter().map(|run| run.measured.1.split('T').next().unwrap_or_default());
    let mut parts = Vec::new();
    if !records.points.is_empty() {
        let corpora = records.corpora.len();
        parts.push(format!(
            "{} on {corpora} corp{}",
            plural(records.points.len() as u64, "setting"),
            if corpora == 1 { "us" } else { "ora" }
        ));
    }
    parts.extend(days.max().filter(|day| !day.is_empty()).map(|day| format!("measured {day}")));
    parts.extend(machines.iter().map(|machine| (*machine).to_owned()));
    parts.join(" · ")
}

/// A corpus with its points and how they are named and coloured.
struct Shown<'r> {
    corpus: &'r CorpusName,
    points: Vec<Measured<'r>>,
    names: Vec<String>,
    colours: Vec<(String, usize)>,
}

impl<'r> Shown<'r> {
    fn new(records: &Records, corpus: &'r CorpusName, points: Vec<Measured<'r>>) -> Self {
        let naming = Names::of(&points);
        let names: Vec<String> = points.iter().map(|(setting, _)| naming.name(records, setting)).collect();
        let colours = group::colours(names.clone());
        Self { corpus, points, names, colours }
    }

    /// The codecs' points of each corpus.
    fn codecs(records: &'r Records) -> Vec<Self> {
        let of = |corpus| Self::new(records, corpus, group::codecs(&group::of_corpus(records, corpus)));
        records.corpora.keys().map(of).collect()
    }

    /// Points in the order of the colours.
    fn ordered(&self) -> impl Iterator<Item = (&str, usize, Measured<'r>)> {
        self.colours.iter().flat_map(|(name, colour)| {
            let of_name = self.names.iter().zip(&self.points).filter(move |(other, _)| *other == name);
            of_name.map(|(_, point)| (name.as_str(), *colour, *point))
        })
    }

    /// The name, and how many pages were measured.
    fn title(&self) -> String {
        title(self.corpus)
    }

    fn bars(&self, title: &str, figure: &str, format: plot::Format<'_>) -> Option<String> {
        let bars: Vec<Bar> = self
            .ordered()
            .filter_map(|(name, colour, (_, point))| {
                Some(Bar { label: name.to_owned(), colour, mark: Mark::of(&point.sample(figure)?) })
            })
            .collect();
        (!bars.is_empty()).then(|| plot::bars(title, &bars, format))
    }
}

fn title(corpus: &CorpusName) -> String {
    format!("{}, {}", corpus.name, plural(corpus.pages, "page"))
}

/// `312 k [300 k..320 k]`.
fn with_interval(point: Measured<'_>, figure: &str, format: plot::Format<'_>) -> String {
    let Some(sample) = point.1.sample(figure) else { return "–".to_owned() };
    let interval = sample.median_interval(0.95);
    let (median, low, high) = (format(interval.estimate), format(interval.low), format(interval.high));
    if low == median && high == median { median } else { format!("{median} [{low}..{high}]") }
}

fn median(point: Measured<'_>, figure: &str, format: plot::Format<'_>) -> String {
    point.1.median(figure).map_or_else(|| "–".to_owned(), format)
}

fn by_codec(records: &Records) -> String {
    let mut content = String::new();
    for shown in Shown::codecs(records) {
        let Some((setting, _)) = shown.points.first() else { continue };
        let plots: Vec<String> = PASSES
            .iter()
            .filter_map(|(prefix, pass)| {
                shown.bars(&format!("{pass}, pages a second"), &format!("{prefix}_pages_per_s"), &count)
            })
            .collect();
        let mut table = Table::new(
            &[
                "Codec",
                "Store, pages/s",
                "CPU a page",
                "First fill, pages/s",
                "Read in order, pages/s",
                "CPU a page",
                "Load at random, pages/s",
                "CPU a page",
            ],
            1,
        );
        for (name, _, point) in shown.ordered() {
            let rate = |prefix: &str| with_interval(point, &format!("{prefix}_pages_per_s"), &count);
            let cpu = |prefix: &str| median(point, &format!("{prefix}_cpu_ns_per_page"), &nanoseconds);
            table.row(&[
                name.to_owned(),
                rate("store"),
                cpu("store"),
                median(point, "store_cold_pages_per_s", &count),
                rate("load_seq"),
                cpu("load_seq"),
                rate("load"),
                cpu("load"),
            ]);
        }
        content +=
            &figure(&format!("{} · {}", shown.title(), group::told(setting)), &[], &plots, &table.end());
    }
    if content.is_empty() {
        return content;
    }
    section("codecs", "Throughput by codec", "Longer bars are better. Each dot is a round.", &content)
}

fn by_setting(records: &Records) -> String {
    let mut content = String::new();
    for across in Across::ALL {
        for corpus in records.corpora.keys() {
            let points = group::across(&group::of_corpus(records, corpus), across);
            if !points.is_empty() {
                content += &over(&Shown::new(records, corpus, points), across);
            }
        }
    }
    if content.is_empty() {
        return content;
    }
    let lead = "What changes when one setting does and the others stay. Full lines of latency are the median of a call, dashed \
                lines its 99th percentile.";
    section("settings", "Throughput and latency by setting", lead, &content)
}

/// Lines over the values of one setting.
fn over(shown: &Shown<'_>, across: Across) -> String {
    let mut values: Vec<u64> = shown.points.iter().map(|(setting, _)| across.of(setting)).collect();
    values.sort_unstable();
    values.dedup();
    let settings: Vec<String> = values.iter().map(|value| across.told(*value)).collect();
    let line = |(name, colour): &(String, usize), figure: &str, dashed: bool| {
        let mut points: Vec<(usize, Mark)> = (shown.names.iter().zip(&shown.points))
            .filter(|(other, _)| *other == name)
            .filter_map(|(_, (setting, point))| {
                let place = values.iter().position(|value| *value == across.of(setting))?;
                Some((place, Mark::of(&point.sample(figure)?)))
            })
            .collect();
        points.sort_by_key(|(place, _)| *place);
        (!points.is_empty()).then(|| Line {
            label: if dashed { format!("{name}, p99") } else { name.clone() },
            colour: *colour,
            dashed,
            points,
        })
    };
    let all = |figure: &str, dashed: bool| -> Vec<Line> {
        shown.colours.iter().filter_map(|name| line(name, figure, dashed)).collect()
    };
    let mut plots = Vec::new();
    for (prefix, pass) in PASSES {
        let lines = all(&format!("{prefix}_pages_per_s"), false);
        if !lines.is_empty() {
            let title = format!("{pass}, pages a second");
            plots.push(plot::lines(&title, across.title(), &settings, &lines, false, &count));
        }
    }
    for (prefix, pass) in PASSES {
        let mut lines = all(&format!("{prefix}_call_p50_ns"), false);
        lines.extend(all(&format!("{prefix}_call_p99_ns"), true));
        if !lines.is_empty() {
            let title = format!("{pass}, latency of a call");
            plots.push(plot::lines(&title, across.title(), &settings, &lines, true, &nanoseconds));
        }
    }
    let header = [
        "Codec",
        across.heading(),
        "Store, pages/s",
        "p50",
        "p99",
        "Read in order, pages/s",
        "p50",
        "p99",
        "Load at random, pages/s",
        "p50",
        "p99",
    ];
    let mut table = Table::new(&header, 1);
    let mut rows: Vec<_> = shown.ordered().collect();
    rows.sort_by_key(|(name, _, (setting, _))| {
        (shown.colours.iter().position(|(other, _)| other == name), across.of(setting))
    });
    for (name, _, point) in rows {
        let mut cells = vec![name.to_owned(), across.told(across.of(point.0))];
        for (prefix, _) in PASSES {
            cells.push(with_interval(point, &format!("{prefix}_pages_per_s"), &count));
            cells.push(median(point, &format!("{prefix}_call_p50_ns"), &nanoseconds));
            cells.push(median(point, &format!("{prefix}_call_p99_ns"), &nanoseconds));
        }
        table.row(&cells);
    }
    let rest = shown.points.first().map(|(setting, _)| match across {
        Across::Window => {
            format!("folios of {}, {}", group::folio(setting.folio_bytes), plural(setting.threads, "thread"))
        }
        Across::Threads => {
            format!("folios of {}, window {}", group::folio(setting.folio_bytes), setting.window)
        }
        Across::Folio => format!("window {}, {}", setting.window, plural(setting.threads, "thread")),
    });
    let caption = format!("By {} · {} · {}", across.title(), shown.title(), rest.unwrap_or_default());
    figure(&caption, &shown.colours, &plots, &table.end())
}

fn density(records: &Records) -> String {
    let ratio = |value: f64| format!("{value:.2}");
    let mut plots = Vec::new();
    let mut table = Table::new(
        &[
            "Corpus",
            "Codec",
            "Stored / compressed",
            "Memory a page",
            "Of a page",
            "Allocated / compressed",
            "Metadata a page",
        ],
        2,
    );
    for shown in Shown::codecs(records) {
        plots.extend(shown.bars(
            &format!("{}, bytes stored / compressed", shown.corpus.name),
            "ratio",
            &ratio,
        ));
        for (name, _, point) in shown.ordered() {
            table.row(&[
                shown.corpus.name.clone(),
                name.to_owned(),
                median(point, "ratio", &|value| format!("{value:.3}")),
                median(point, "memory_bytes_per_page", &|value| format!("{value:.0} B")),
                median(point, "memory_bytes_per_page", &|value| format!("{:.1} %", value / 40.96)),
                median(point, "allocated_over_compressed", &|value| format!("{value:.3}")),
                median(point, "metadata_bytes_per_page", &|value| format!("{value:.1} B")),
            ]);
        }
    }
    if table.rows == 0 {
        return String::new();
    }
    let lead = "How many bytes of pages a byte of compressed objects holds, and what a stored page costs in memory with \
                everything that belongs to it: allocated memory as the kernel counts it, and metadata.";
    section(
        "density",
        "Density",
        lead,
        &figure("Stored over compressed, by corpus and codec", &[], &plots, &table.end()),
    )
}

fn latency(records: &Records) -> String {
    let mut content = String::new();
    for shown in Shown::codecs(records) {
        let Some((setting, _)) = shown.points.first() else { continue };
        let mut table =
            Table::new(&["Codec", "Pass and a call's size", "p50", "p99", "Worst of all rounds"], 2);
        let mut plots = Vec::new();
        for (prefix, pass) in PASSES {
            let call = if prefix == "store" { group::folio(setting.folio_bytes) } else { "4K".to_owned() };
            let mut spans = Vec::new();
            for (name, colour, (_, point)) in shown.ordered() {
                let figure = |name: &str| format!("{prefix}_call_{name}_ns");
                let (Some(p50), Some(p99), Some(max)) =
                    (point.median(&figure("p50")), point.median(&figure("p99")), point.worst(&figure("max")))
                else {
                    continue;
                };
                let cells = [name.to_owned(), format!("{pass}, {call}")];
                table.row(&[cells.as_slice(), &[p50, p99, max].map(nanoseconds)].concat());
                spans.push(Span { label: name.to_owned(), colour, p50, p99, max });
            }
            if !spans.is_empty() {
                plots.push(plot::spans(&format!("{pass}, a call of {call}"), &spans, &nanoseconds));
            }
        }
        if table.rows > 0 {
            content +=
                &figure(&format!("{} · {}", shown.title(), group::told(setting)), &[], &plots, &table.end());
        }
    }
    if content.is_empty() {
        return content;
    }
    let lead = "From the median (bar) over the 99th percentile (point) to the worst call of all rounds, on a logarithmic \
                scale: further left is better. Calls follow each other; what waits under load is a section of its own.";
    section("latency", "Latency of calls", lead, &content)
}

fn everything(records: &Records) -> String {
    let header = [
        "Corpus",
        "Codec",
        "Backend",
        "Run",
        "Folio",
        "Window",
        "Threads",
        "Rounds",
        "Store, pages/s",
        "Read in order",
        "Load at random",
        "Store, CPU a page",
        "Read",
        "Load",
        "Ratio",
    ];
    let mut table = Table::new(&header, 3);
    for point in &records.points {
        let (setting, of) = point;
        let mut cells = vec![setting.corpus.name.clone(), setting.codec.clone(), setting.backend.clone()];
        cells.push((setting.run + 1).to_string());
        cells.push(group::folio(setting.folio_bytes));
        cells.extend([setting.window, setting.threads, of.rounds as u64].map(|number| number.to_string()));
        cells.extend(PASSES.map(|(prefix, _)| median(point, &format!("{prefix}_pages_per_s"), &count)));
        cells.extend(
            PASSES.map(|(prefix, _)| median(point, &format!("{prefix}_cpu_ns_per_page"), &nanoseconds)),
        );
        cells.push(median(point, "ratio", &|value| format!("{value:.3}")));
        table.row(&cells);
    }
    if table.rows == 0 {
        return String::new();
    }
    let lead = format!("Medians of {}.", plural(table.rows as u64, "setting"));
    section("all", "All measurements", &lead, &table.end())
}

fn runs(records: &Records) -> String {
    let mut content = String::new();
    if !records.runs.is_empty() {
        let mut table =
            Table::new(&["Run", "File", "Program", "Measured", "Machine", "Kernel", "Backend"], 7);
        for (place, run) in records.runs.iter().enumerate() {
            let (first, last) = &run.measured;
            table.row(&[
                (place + 1).to_string(),
                run.file.clone(),
                run.program.clone(),
                if first == last { first.clone() } else { format!("{first} to {last}") },
                run.machine.clone(),
                run.settings.clone(),
                run.backends.join("; "),
            ]);
        }
        content += &table.end().replacen("class=scroll", "class=\"scroll facts\"", 1);
    }
    if !records.corpora.is_empty() {
        let header = [
            "Corpus",
            "What it is",
            "SHA-256",
            "Pages",
            "Measured",
            "Size",
            "Zero",
            "Same-filled",
            "Duplicates",
        ];
        let mut table = Table::new(&header, 3);
        for (corpus, facts) in &records.corpora {
            let sha256: String = corpus.sha256.chars().take(12).collect();
            table.row(&[
                corpus.name.clone(),
                facts.origin.clone(),
                sha256,
                facts.pages.to_string(),
                corpus.pages.to_string(),
                bytes(facts.pages as f64 * 4096.0),
                percent(facts.zero, facts.pages),
                percent(facts.same_filled, facts.pages),
                percent(facts.duplicates, facts.pages),
            ]);
        }
        content += &table.end().replacen("class=scroll", "class=\"scroll facts\"", 1);
    }
    if content.is_empty() {
        return content;
    }
    section("runs", "What was run, and on what", "", &content)
}
