//! Latency under a load that arrives by the clock: what `bench latency` found.

use super::html::{Table, figure, section as whole_section};
use super::plot::{self, Line, Mark};
use super::records::{PERCENTILES, Records, UnderLoad};
use crate::quantity::{count, nanoseconds};

pub(super) fn section(records: &Records) -> String {
    let mut titles: Vec<&str> = records.under_load.iter().map(|load| load.title.as_str()).collect();
    titles.sort_unstable();
    titles.dedup();
    let names: Vec<String> = PERCENTILES.iter().map(|(_, name)| (*name).to_owned()).collect();
    let mut content = String::new();
    for title in titles {
        let mut loads: Vec<&UnderLoad> =
            records.under_load.iter().filter(|load| load.title == title).collect();
        loads.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let name = |load: &UnderLoad| format!("{} a second", count(load.rate));
        let legend: Vec<(String, usize)> =
            loads.iter().enumerate().map(|(place, load)| (name(load), place % plot::COLOURS)).collect();
        let mut plots = Vec::new();
        for op in 0..2 {
            let lines: Vec<Line> = (loads.iter().zip(&legend))
                .map(|(load, (label, colour))| {
                    let times = load.calls[op].2.iter().enumerate();
                    let points = times.map(|(place, time)| (place, Mark::alone(*time))).collect();
                    Line { label: label.clone(), colour: *colour, dashed: false, points }
                })
                .filter(|line| !line.points.is_empty())
                .collect();
            if !lines.is_empty() {
                let title = format!("{}, latency from the arrival", if op == 0 { "Store" } else { "Load" });
                plots.push(plot::lines(&title, "percentile", &names, &lines, true, &nanoseconds));
            }
        }
        let mut header = vec!["Arrivals", "Reached", "Call", "Calls"];
        header.extend(PERCENTILES.iter().map(|(_, name)| *name));
        let mut table = Table::new(&header, 0);
        for load in loads {
            for (op, calls, times) in &load.calls {
                let mut cells = vec![
                    name(load),
                    format!("{} a second", count(load.reached)),
                    op.clone(),
                    calls.to_string(),
                ];
                cells.extend(times.iter().map(|time| nanoseconds(*time)));
                table.row(&cells);
            }
        }
        content += &figure(title, &legend, &plots, &table.end());
    }
    if content.is_empty() {
        return content;
    }
    let lead = "Calls arrive by the clock, whether the ones before them are done or not, and their latency counts from there: \
                what a caller would have waited.";
    whole_section("load", "Latency under load", lead, &content)
}
