//! What was simulated, for people.

use std::fmt::Write;

use super::advice;
use super::point::{Common, Point};
use crate::bench::wrapped;
use crate::quantity::{count, nanoseconds, plural};

/// So many points are each given a line; of more there are tables of two things.
const FEW: usize = 40;

/// At most 120 columns.
pub(super) fn text(common: &Common<'_>, points: &[Point]) -> String {
    let costs = common.costs;
    let mut text = format!("zfolio {} simulate, seed {}\n", env!("CARGO_PKG_VERSION"), common.seed);
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "CPU       call {} ns; of a page: prepare {}, collect {}, list {}; record seen after {}; load {}; software {};\n\
         {:10}give or take {} %",
        costs.call,
        costs.prepare,
        costs.collect,
        costs.list,
        costs.poll,
        costs.load,
        costs.software,
        "",
        costs.vary
    );
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by(|a, b| order(a).cmp(&order(b)));
    if sorted.len() <= FEW {
        return text + "\n" + &each(&sorted);
    }
    for advice in advice::of(points) {
        let _ = writeln!(text, "\n{}", wrapped(&advice.told()));
        for (knob, told) in &advice.knobs {
            let _ = writeln!(text, "{knob:<10}{}", wrapped(told));
        }
        let of_profile: Vec<&Point> =
            sorted.iter().copied().filter(|point| point.profile == advice.profile).collect();
        for kind in ["dedicated", "shared"] {
            let chosen: Vec<&Point> = of_profile
                .iter()
                .copied()
                .filter(|point| {
                    point.queues == kind && point.window == advice.window && plain(point, &of_profile)
                })
                .collect();
            let title = format!("pages stored a second, window {}, {kind} queues", advice.window);
            text +=
                &crossed(&title, "devices", &chosen, |point| point.devices, |point| count(point.pages_per_s));
        }
        let chosen: Vec<&Point> = of_profile
            .iter()
            .copied()
            .filter(|point| {
                point.queues == advice.queues && point.devices == advice.devices && plain(point, &of_profile)
            })
            .collect();
        let of = format!("{}, {} queues", plural(advice.devices, "device"), advice.queues);
        let title = format!("pages stored a second, {of}");
        text += &crossed(&title, "window", &chosen, |point| point.window, |point| count(point.pages_per_s));
        let title = format!("p99 of a store call, {of}");
        let p99 = |point: &Point| point.store.map_or_else(String::new, |[_, p99, _]| nanoseconds(p99));
        text += &crossed(&title, "window", &chosen, |point| point.window, p99);
    }
    text
}

fn order(point: &Point) -> (&str, &str, [u64; 7]) {
    let Point {
        profile,
        queues,
        devices,
        processes,
        threads,
        window,
        folio_bytes,
        loads_percent,
        sockets,
        ..
    } = point;
    (profile, queues, [*sockets, *devices, *processes, *loads_percent, *folio_bytes, *threads, *window])
}

/// Whether it has as few processes and loads, and as small folios, as any.
fn plain(point: &Point, all: &[&Point]) -> bool {
    let key = |point: &Point| (point.processes, point.loads_percent, point.folio_bytes);
    let least = all.iter().map(|point| key(point));
    let least = least.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1), a.2.min(b.2)));
    least == Some(key(point))
}

/// A line for each number of threads, a column for each value of something.
fn crossed(
    title: &str,
    across: &str,
    points: &[&Point],
    of: fn(&Point) -> u64,
    cell: impl Fn(&Point) -> String,
) -> String {
    let mut columns: Vec<u64> = points.iter().map(|point| of(point)).collect();
    columns.sort_unstable();
    columns.dedup();
    let mut threads: Vec<u64> = points.iter().map(|point| point.threads).collect();
    threads.sort_unstable();
    threads.dedup();
    if columns.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{title}\n{:>18}", format!("threads, {across}"));
    for column in &columns {
        let _ = write!(text, "{column:>10}");
    }
    text.push('\n');
    for threads in threads {
        let _ = write!(text, "{threads:>18}");
        for column in &columns {
            let point = points.iter().find(|point| point.threads == threads && of(point) == *column);
            let _ = write!(text, "{:>10}", point.map_or_else(String::new, |point| cell(point)));
        }
        text.push('\n');
    }
    text
}

/// A line for each point.
fn each(points: &[&Point]) -> String {
    let mut text = format!(
        "{:<4} {:<9} {:>7} {:>9} {:>7} {:>6} {:>5}  {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8}\n",
        "",
        "queues",
        "devices",
        "processes",
        "threads",
        "window",
        "loads",
        "pages/s",
        "call p50",
        "p99",
        "load p50",
        "devices",
        "threads",
        "software"
    );
    let _ = writeln!(text, "{:87} {:>7} {:>7}", "", "busy", "wait");
    for point in points {
        let time = |times: Option<[f64; 3]>, place: usize| {
            times.map_or("-".to_owned(), |times| nanoseconds(times[place]))
        };
        let _ = writeln!(
            text,
            "{:<4} {:<9} {:>7} {:>9} {:>7} {:>6} {:>3} %  {:>8} {:>8} {:>8} {:>8} {:>5.0} % {:>5.0} % {:>6.1} %",
            point.profile,
            point.queues,
            point.devices,
            point.processes,
            point.threads,
            point.window,
            point.loads_percent,
            count(point.pages_per_s),
            time(point.store, 0),
            time(point.store, 1),
            time(point.load, 0),
            point.device_busy * 100.0,
            point.waiting * 100.0,
            point.software * 100.0
        );
    }
    text
}
