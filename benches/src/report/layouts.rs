//! How much of a spread is the layout's: what `bench --perturb` found.

use super::group::distinct;
use super::html::{Table, figure, section as whole_section};
use super::ratios;
use super::records::{Layouts, Records};
use crate::quantity::nanoseconds;

/// `1.2 %`; a dash where it is not known.
pub(super) fn percent(part: Option<f64>) -> String {
    part.map_or_else(|| "–".to_owned(), |part| format!("{:.1} %", 100.0 * part))
}

pub(super) fn section(records: &Records) -> String {
    let mut content = String::new();
    for title in distinct(records.layouts.iter().map(|layouts| layouts.title.as_str())) {
        let header = [
            "Figure",
            "Median",
            "Repetitions",
            "Processes of one layout",
            "Different layouts",
            "Layout's share",
            "Believe above",
            "B / A over layouts",
        ];
        let mut table = Table::new(&header, 1);
        for layouts in records.layouts.iter().filter(|layouts| layouts.title == title) {
            table.row(&row(layouts));
        }
        content += &figure(title, &[], &[], &table.end());
    }
    if content.is_empty() {
        return content;
    }
    let lead = "The same measurement in processes with other environments, stacks, heaps, CPUs and orders of folios, or in other \
                builds. By how much two repetitions, two processes of one layout and two of different layouts typically differ; \
                the layout's part of the variance between processes; and what a difference between two single processes has to \
                exceed to be more than layout and noise in 99 of 100 pairs.";
    whole_section("layouts", "Layout and noise", lead, &content)
}

fn row(layouts: &Layouts) -> [String; 8] {
    let Layouts { figure, median, repetitions, processes, different, share, seen, believable, ratio, .. } =
        layouts;
    let share = share.map_or_else(
        || "–".to_owned(),
        |[share, low, high]| {
            let seen = if *seen { ", seen" } else { "" };
            format!("{:.0} % [{:.0}..{:.0}]{seen}", 100.0 * share, 100.0 * low, 100.0 * high)
        },
    );
    [
        ratios::words(figure),
        median.map_or_else(|| "–".to_owned(), nanoseconds),
        percent(*repetitions),
        percent(*processes),
        percent(*different),
        share,
        percent(*believable),
        match ratio {
            None => "–".to_owned(),
            Some((ratio, None)) => format!("{ratio:.3}"),
            Some((ratio, Some((low, high)))) => format!("{ratio:.3} [{low:.3}..{high:.3}]"),
        },
    ]
}
