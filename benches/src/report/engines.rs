//! Engines alone, by window: what `bench engine` found.

use super::html::{Table, figure, section as whole_section};
use super::plot::{self, Line, Mark};
use super::records::Records;
use crate::quantity::nanoseconds;
use crate::statistics::Interval;

pub(super) fn section(records: &Records) -> String {
    let mut titles: Vec<&str> = records.engines.iter().map(|engine| engine.title.as_str()).collect();
    titles.sort_unstable();
    titles.dedup();
    let mut content = String::new();
    for title in titles {
        let mut engines: Vec<_> = records.engines.iter().filter(|engine| engine.title == title).collect();
        engines.sort_by_key(|engine| engine.window);
        let mut windows: Vec<u64> = engines.iter().map(|engine| engine.window).collect();
        windows.dedup();
        let points = engines.iter().map(|engine| {
            let [low, estimate, high] = engine.ns_per_page;
            let place = windows.iter().position(|window| *window == engine.window).unwrap_or(0);
            let mark = Mark { interval: Interval { estimate, low, high }, all: Vec::new() };
            (place, mark)
        });
        let line =
            Line { label: "time a page".to_owned(), colour: 0, dashed: false, points: points.collect() };
        let settings: Vec<String> = windows.iter().map(u64::to_string).collect();
        let plot =
            plot::lines("Time a page, least to most", "window", &settings, &[line], false, &nanoseconds);
        let mut table =
            Table::new(&["Window", "Time a page", "Least", "Most", "In flight", "Pages done in software"], 0);
        for engine in engines {
            let [low, median, high] = engine.ns_per_page;
            table.row(&[
                engine.window.to_string(),
                nanoseconds(median),
                nanoseconds(low),
                nanoseconds(high),
                engine.effective_window.map_or_else(|| "–".to_owned(), |window| format!("{window:.2}")),
                engine.software_pages.to_string(),
            ]);
        }
        content += &figure(title, &[], &[plot], &table.end());
    }
    if content.is_empty() {
        return content;
    }
    whole_section("engines", "Engines alone", "What compresses, without the store around it.", &content)
}
