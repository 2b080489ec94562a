//! A against B: what `bench --ab` and `compare` found, figure by figure.

use super::html::{Table, figure, section as whole_section};
use super::plot;
use super::records::{Ratio, Records};
use crate::quantity::nanoseconds;

/// The figure in words, as `store, CPU`.
pub(crate) fn words(figure: &str) -> String {
    let (pass, rest) = ["load_seq", "store", "load"]
        .iter()
        .find_map(|pass| Some((*pass, figure.strip_prefix(pass)?)))
        .unwrap_or((figure, ""));
    let pass = match pass {
        "load_seq" => "read in order",
        "load" => "load at random",
        other => other,
    };
    match rest {
        "_wall_ns_per_page" => format!("{pass}, wall"),
        "_cpu_ns_per_page" => format!("{pass}, CPU"),
        "" => pass.to_owned(),
        other => format!("{pass}{}", other.replace('_', " ")),
    }
}

/// What a side's options are called.
pub(super) fn side(options: &str) -> String {
    if options.trim().is_empty() { "the common options".to_owned() } else { options.trim().to_owned() }
}

/// What is to be thought of it, as a class of the page.
pub(super) fn class(ratio: &Ratio) -> &'static str {
    match ratio.verdict.as_deref() {
        _ if ratio.busy => "same",
        Some("faster") => "good",
        Some("slower") => "bad",
        _ => "same",
    }
}

fn verdict(ratio: &Ratio) -> String {
    match &ratio.verdict {
        _ if ratio.busy => "busy machine: wall time says nothing".to_owned(),
        Some(verdict) => verdict.clone(),
        None => "too few to say".to_owned(),
    }
}

pub(super) fn section(records: &Records) -> String {
    let mut rest: Vec<&Ratio> = records.ratios.iter().collect();
    let mut content = String::new();
    while let Some(&first) = rest.first() {
        let key = (&first.corpus, &first.a, &first.b);
        let (group, others) = rest.into_iter().partition(|ratio| (&ratio.corpus, &ratio.a, &ratio.b) == key);
        rest = others;
        content += &of_pair(&group);
    }
    if content.is_empty() {
        return content;
    }
    let lead = "The time of B divided by that of A: left of the dashed line B is faster. Where the whole interval (at 99 % for a \
                whole comparison) is on one side a difference is called.";
    whole_section("ratios", "A against B", lead, &content)
}

/// All figures of one comparison.
fn of_pair(group: &[&Ratio]) -> String {
    let Some(first) = group.first() else { return String::new() };
    let mut table = Table::new(&["Time a page", "A", "B", "B / A", "Interval", "Verdict"], 1);
    let mut rows = Vec::new();
    for ratio in group {
        let interval =
            ratio.interval.map_or_else(|| "–".to_owned(), |(low, high)| format!("{low:.3} to {high:.3}"));
        let label = words(&ratio.figure);
        let told = format!("{label}: B / A = {:.3}\n{interval}\n{}", ratio.ratio, verdict(ratio));
        table.row(&[
            label.clone(),
            nanoseconds(ratio.medians.0),
            nanoseconds(ratio.medians.1),
            format!("{:.3}", ratio.ratio),
            interval,
            verdict(ratio),
        ]);
        rows.push(plot::Ratio {
            label,
            ratio: ratio.ratio,
            interval: ratio.interval,
            class: class(ratio),
            told,
        });
    }
    let title = format!("{} · A: {} · B: {}", first.corpus, side(&first.a), side(&first.b));
    figure(&title, &[], &[plot::ratios("Time of B / time of A", &rows)], &table.end())
}
