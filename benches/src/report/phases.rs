//! Where a page's time goes: the phases of calls that `bench --phases` timed.

use super::group::{self, Names};
use super::html::{Table, figure, section as whole_section};
use super::plot::{self, Bar, Mark};
use super::records::Records;
use super::sections::PASSES;
use crate::bench::phases_of;
use crate::quantity::nanoseconds;

pub(super) fn section(records: &Records) -> String {
    let mut content = String::new();
    for corpus in records.corpora.keys() {
        let mut points = group::of_corpus(records, corpus);
        points.retain(|(_, point)| PASSES.iter().any(|(pass, _)| point.sample(&sum(pass)).is_some()));
        let names = Names::of(&points);
        for (setting, point) in points {
            let mut plots = Vec::new();
            let header = ["Pass", "Phase", "Time a page", "Share"];
            let mut table = Table::new(&header, 2);
            for (colour, (pass, title)) in PASSES.iter().enumerate() {
                let Some(whole) = point.median(&sum(pass)) else { continue };
                let mut bars = Vec::new();
                for (record, phase) in phases_of(pass) {
                    let Some(sample) = point.sample(&format!("{pass}_phase_{record}_ns_per_page")) else {
                        continue;
                    };
                    let time = sample.median();
                    let share = format!("{:.0} %", 100.0 * time / whole);
                    table.row(&[(*title).to_owned(), phase.to_owned(), nanoseconds(time), share]);
                    bars.push(Bar { label: phase.to_owned(), colour, mark: Mark::of(&sample) });
                }
                table.row(&[(*title).to_owned(), "together".to_owned(), nanoseconds(whole), String::new()]);
                if let Some(untimed) = point.median(&format!("{pass}_untimed_ns_per_page")) {
                    let what = "calls that were not timed".to_owned();
                    table.row(&[(*title).to_owned(), what, nanoseconds(untimed), String::new()]);
                }
                plots.push(plot::bars(&format!("{title}, time a page"), &bars, &nanoseconds));
            }
            let title =
                format!("{}, {}, {}", corpus.name, names.name(records, setting), group::told(setting));
            content += &figure(&title, &[], &plots, &table.end());
        }
    }
    if content.is_empty() {
        return content;
    }
    let lead = "Some calls, chosen at random, were timed by phase; what looking at the clock costs is taken off. Where the phases \
                together differ from the calls that were not timed, others had the machine.";
    whole_section("phases", "Where time goes", lead, &content)
}

fn sum(pass: &str) -> String {
    format!("{pass}_phases_ns_per_page")
}
