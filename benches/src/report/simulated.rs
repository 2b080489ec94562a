//! More devices and threads than the machine has: what `zfolio simulate` found, and what to start with.

use std::collections::BTreeSet;

use super::group;
use super::html::{Table, figure, section as whole_section};
use super::plot::{self, COLOURS, Line, Mark};
use super::records::Records;
use crate::quantity::{count, nanoseconds, plural};
use crate::simulate::advice::{self, Advice};
use crate::simulate::point::Point;

pub(super) fn section(records: &Records) -> String {
    let points = &records.simulated;
    let content: String = advice::of(points).iter().map(|advice| of_profile(advice, points)).collect();
    if content.is_empty() {
        return content;
    }
    let lead = "Threads that submit to devices in simulated time: devices take what has been published of them, CPU work what was \
                measured or estimated, and no memory or cache is simulated. Where no device is the limit this is as good as its CPU costs; where \
                one is, as good as what is known of devices.";
    whole_section("simulated", "Many threads and devices, simulated", lead, &content)
}

/// The points that most other plots are cut out of: no loads, one process, the advised queues and devices.
struct Cut<'p> {
    points: Vec<&'p Point>,
    loads: u64,
    processes: u64,
    folio: u64,
}

impl<'p> Cut<'p> {
    fn new(advice: &Advice, points: &'p [Point]) -> Self {
        let points: Vec<&Point> = points.iter().filter(|point| point.profile == advice.profile).collect();
        let least = |of: fn(&Point) -> u64| points.iter().map(|point| of(point)).min().unwrap_or(0);
        let folio = 65_536;
        let folio = if points.iter().any(|point| point.folio_bytes == folio) {
            folio
        } else {
            least(|p| p.folio_bytes)
        };
        Self { loads: least(|p| p.loads_percent), processes: least(|p| p.processes), folio, points }
    }

    fn of(&self, wanted: impl Fn(&Point) -> bool) -> Vec<&'p Point> {
        let same = |point: &&&Point| {
            (point.loads_percent, point.processes, point.folio_bytes)
                == (self.loads, self.processes, self.folio)
        };
        self.points.iter().filter(same).copied().filter(|point| wanted(point)).collect()
    }

    /// The same with the most loads.
    fn loaded(&self, wanted: impl Fn(&Point) -> bool) -> Vec<&'p Point> {
        let most = self.points.iter().map(|point| point.loads_percent).max().unwrap_or(0);
        let same = |point: &&&Point| {
            (point.loads_percent, point.processes, point.folio_bytes) == (most, self.processes, self.folio)
                && most > 0
        };
        self.points.iter().filter(same).copied().filter(|point| wanted(point)).collect()
    }
}

fn values(points: &[&Point], of: fn(&Point) -> u64) -> Vec<u64> {
    points.iter().map(|point| of(point)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// At most as many of `values` as there are colours: the first, the last, and what lies between them evenly.
fn some(values: &[u64]) -> Vec<u64> {
    if values.len() <= COLOURS {
        return values.to_vec();
    }
    (0..COLOURS).map(|k| values[k * (values.len() - 1) / (COLOURS - 1)]).collect()
}

/// What a plot asks of points.
struct Asked<'f> {
    /// What goes to the right, what is a line of its own, and what a value is.
    across: (&'static str, fn(&Point) -> u64),
    lines: (&'static str, fn(&Point) -> u64),
    value: &'f dyn Fn(&Point) -> Option<f64>,
}

impl Asked<'_> {
    /// Lines by one thing over another.
    fn lines(&self, points: &[&Point], dashed: bool, names: &[u64]) -> Vec<Line> {
        let settings = values(points, self.across.1);
        let line = |(colour, name): (usize, &u64)| {
            let own = points.iter().filter(|point| self.lines.1(point) == *name);
            let mut marks: Vec<(usize, Mark)> = own
                .filter_map(|point| {
                    let place = settings.binary_search(&self.across.1(point)).ok()?;
                    Some((place, Mark::alone((self.value)(point)?)))
                })
                .collect();
            marks.sort_by_key(|(place, _)| *place);
            let label = plural(*name, self.lines.0) + if dashed { ", p99" } else { "" };
            (!marks.is_empty()).then_some(Line { label, colour, dashed, points: marks })
        };
        names.iter().enumerate().filter_map(line).collect()
    }

    fn plot(
        &self,
        title: &str,
        points: &[&Point],
        names: &[u64],
        log: bool,
        format: plot::Format<'_>,
    ) -> Option<String> {
        let settings: Vec<String> = values(points, self.across.1).iter().map(u64::to_string).collect();
        let lines = self.lines(points, false, names);
        (!lines.is_empty()).then(|| plot::lines(title, self.across.0, &settings, &lines, log, format))
    }

    /// A row for each value of what goes to the right, a column for each line.
    fn table(&self, points: &[&Point], names: &[u64], format: plot::Format<'_>) -> String {
        let heads: Vec<String> = std::iter::once(self.across.0.to_owned())
            .chain(names.iter().map(|name| plural(*name, self.lines.0)))
            .collect();
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        let mut table = Table::new(&heads, 0);
        for across in values(points, self.across.1) {
            let cell = |name: &u64| {
                let point = points
                    .iter()
                    .find(|point| self.across.1(point) == across && self.lines.1(point) == *name);
                point.and_then(|point| (self.value)(point)).map_or_else(|| "–".to_owned(), format)
            };
            let cells: Vec<String> =
                std::iter::once(across.to_string()).chain(names.iter().map(cell)).collect();
            table.row(&cells);
        }
        table.end()
    }
}

fn legend(names: &[u64], noun: &str) -> Vec<(String, usize)> {
    names.iter().enumerate().map(|(colour, name)| (plural(*name, noun), colour % COLOURS)).collect()
}

fn of_profile(advice: &Advice, points: &[Point]) -> String {
    let cut = Cut::new(advice, points);
    let profile = &advice.profile;
    let mut knobs = Table::new(&["Knob", "What it costs"], 2);
    for (knob, told) in &advice.knobs {
        knobs.row(&[(*knob).to_owned(), told.clone()]);
    }
    let mut content = format!("<p class=start>{}</p>\n", super::html::escape(&advice.told()));
    content += &knobs.end().replacen("class=scroll", "class=\"scroll facts knobs\"", 1);

    // Threads and devices, for each kind of queue.
    let rate = |point: &Point| Some(point.pages_per_s);
    let by_threads = Asked {
        across: ("threads", |point| point.threads),
        lines: ("device", |point| point.devices),
        value: &rate,
    };
    let folio = group::folio(cut.folio);
    let kinds = ["dedicated", "shared"]
        .map(|kind| (kind, cut.of(|point| point.queues == kind && point.window == advice.window)));
    let devices = some(&values(&cut.points, |point| point.devices));
    let plots: Vec<String> = kinds
        .iter()
        .filter_map(|(kind, points)| {
            by_threads.plot(&format!("Pages stored a second, {kind} queues"), points, &devices, true, &count)
        })
        .collect();
    let tables: String = kinds
        .iter()
        .filter(|(_, points)| !points.is_empty())
        .map(|(kind, points)| {
            format!("<p class=by>{kind} queues</p>{}", by_threads.table(points, &devices, &count))
        })
        .collect();
    let title =
        format!("Profile {profile}: throughput by threads · window {}, folios of {folio}", advice.window);
    content += &figure(
        &title,
        &legend(&devices, "device"),
        &plots,
        &format!("<div class=pair>{}</div>", split(&tables)),
    );

    // Windows and threads, on all devices.
    let own = cut.of(|point| point.queues == advice.queues && point.devices == advice.devices);
    let threads = some(&values(&own, |point| point.threads));
    let by_window = |value| Asked {
        across: ("window", |point| point.window),
        lines: ("thread", |point| point.threads),
        value,
    };
    let p99 = |point: &Point| point.store.map(|[_, p99, _]| p99);
    let plots: Vec<String> = [
        by_window(&rate).plot("Pages stored a second", &own, &threads, true, &count),
        by_window(&p99).plot("99th percentile of a store call", &own, &threads, true, &nanoseconds),
    ]
    .into_iter()
    .flatten()
    .collect();
    let tables = format!(
        "<p class=by>pages a second</p>{}<p class=by>99th percentile of a store call</p>{}",
        by_window(&rate).table(&own, &threads, &count),
        by_window(&p99).table(&own, &threads, &nanoseconds)
    );
    let title = format!(
        "Profile {profile}: throughput and latency by window · {}, {} queues, folios of {folio}",
        plural(advice.devices, "device"),
        advice.queues
    );
    content += &figure(
        &title,
        &legend(&threads, "thread"),
        &plots,
        &format!("<div class=pair>{}</div>", split(&tables)),
    );
    content + &mixed(advice, &cut, &devices)
}

/// Loads between stores.
fn mixed(advice: &Advice, cut: &Cut<'_>, devices: &[u64]) -> String {
    let points = cut.loaded(|point| point.queues == advice.queues && point.window == advice.window);
    let Some(first) = points.first() else { return String::new() };
    let by_threads = |value| Asked {
        across: ("threads", |point| point.threads),
        lines: ("device", |point| point.devices),
        value,
    };
    let p50 = |point: &Point| point.load.map(|[p50, ..]| p50);
    let p99 = |point: &Point| point.load.map(|[_, p99, _]| p99);
    let plots: Vec<String> = [
        by_threads(&p50).plot("A load, median", &points, devices, true, &nanoseconds),
        by_threads(&p99).plot("A load, 99th percentile", &points, devices, true, &nanoseconds),
    ]
    .into_iter()
    .flatten()
    .collect();
    let tables = format!(
        "<p class=by>median</p>{}<p class=by>99th percentile</p>{}",
        by_threads(&p50).table(&points, devices, &nanoseconds),
        by_threads(&p99).table(&points, devices, &nanoseconds)
    );
    let title = format!(
        "Profile {}: latency of loads between stores, {} % of the pages · window {}",
        advice.profile, first.loads_percent, advice.window
    );
    figure(&title, &legend(devices, "device"), &plots, &format!("<div class=pair>{}</div>", split(&tables)))
}

/// Puts each table with the line above it into an element of its own.
fn split(tables: &str) -> String {
    let parts = tables.split("<p class=by>").filter(|part| !part.is_empty());
    parts.map(|part| format!("<div><p class=by>{part}</div>")).collect()
}
