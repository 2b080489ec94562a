//! Whether the machine was noisy while a variant was measured, in words.
//!
//! Told where a reader looks, beside the figures and in their summary; nothing is left out for it.

use super::crew::PassTime;
use super::figures::{Summary, prefix};
use super::worker::Pass;
use super::{Outcome, Setup};
use crate::quantity::nanoseconds;

/// Wall time over CPU time above which a thread waited for its CPU, where nothing else is to be waited for.
const BUSY: f64 = 1.1;

/// Involuntary switches a second of a thread above which others wanted its CPU.
const SWITCHES_PER_S: f64 = 20.0;

/// The MAD of CPU time, as a part of its median, above which rounds say little alone.
const WIDE: f64 = 0.03;

/// Outliers told in words; the JSON lines count them all.
const TOLD: usize = 3;

/// What speaks for a noisy machine; nothing on a quiet one.
pub(crate) fn of(setup: &Setup, outcome: &Outcome<'_>, summary: &Summary) -> Vec<String> {
    let mut reasons = Vec::new();
    let passes = || outcome.rounds.iter().flat_map(|round| &round.passes).map(|(_, time)| time);
    let threads = setup.threads as f64;
    let cpu = |time: &PassTime| time.cpu.as_secs_f64() / threads;
    let waited = |pass| {
        let figure = |name: &str| summary.get(&format!("{}_{name}", prefix(pass)));
        let share = figure("wall_s")?.median * threads / figure("cpu_s")?.median;
        share.is_finite().then_some((share, pass))
    };
    let worst = Pass::ALL.into_iter().filter_map(waited).max_by(|a, b| a.0.total_cmp(&b.0));
    // The time of a pass that is shorter than the kernel's clock tick says nothing.
    let long = passes().map(cpu).sum::<f64>() > 0.01;
    if let Some((share, pass)) = worst
        && share > BUSY
        && long
        && outcome.variant.backend == "software"
    {
        reasons.push(format!("wall time {share:.2} times CPU time ({})", title(pass)));
    }
    let switches: u64 = passes().map(|time| time.usage.involuntary_switches).sum();
    let elapsed: f64 = passes().map(|time| time.elapsed.as_secs_f64() * threads).sum();
    reasons.extend(switched(switches, elapsed));
    let wide = |pass| {
        let sample = summary.sample(&format!("{}_cpu_ns_per_page", prefix(pass)))?;
        (sample.len() > 2).then_some((sample.mad() / sample.median(), pass))
    };
    let widest = Pass::ALL.into_iter().filter_map(wide).max_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((share, pass)) = widest
        && share > WIDE
    {
        reasons.push(format!("CPU time scatters by {:.1} % ({}, MAD)", 100.0 * share, title(pass)));
    }
    reasons
}

/// Whether others wanted the CPUs of threads that ran for so many seconds together.
pub(crate) fn switched(involuntary: u64, seconds: f64) -> Option<String> {
    let per_s = involuntary as f64 / seconds.max(1e-3);
    let often = per_s > SWITCHES_PER_S && involuntary > 1;
    often.then(|| format!("{per_s:.0} involuntary switches a second of a thread"))
}

/// Rounds whose CPU time lies far off; none when all are near.
pub(crate) fn outliers(summary: &Summary) -> Option<String> {
    let of = |pass| {
        let sample = summary.sample(&format!("{}_cpu_ns_per_page", prefix(pass)))?;
        let outliers = if sample.len() < 5 { Vec::new() } else { sample.outliers() };
        let mut told: Vec<String> = outliers.iter().take(TOLD).map(|value| nanoseconds(*value)).collect();
        if outliers.len() > TOLD {
            told.push(format!("{} more", outliers.len() - TOLD));
        }
        (!told.is_empty()).then(|| format!("{} {}", title(pass), told.join(", ")))
    };
    let told: Vec<String> = Pass::ALL.into_iter().filter_map(of).collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn title(pass: Pass) -> &'static str {
    match pass {
        Pass::Store => "store",
        Pass::Read => "read",
        Pass::Load => "load",
    }
}
