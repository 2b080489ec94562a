//! Where a spread comes from: repetitions within a process, processes of one layout, or layouts.
//!
//! A layout is what a program's addresses and threads look like: it changes with every build, and speed with it. Each
//! layout is measured in several processes, each process in several repetitions. Everything is made of differences between
//! pairs, and of ranks: their median is what is typical, so that a wild process does not decide, and nothing assumes a
//! normal distribution but the share (which says what it would be in one). Values are logarithms, so differences are ratios.

use crate::corpus::random::Random;
use crate::statistics::{Interval, Sample};

/// Drawn orders of the test of layouts.
const ORDERS: usize = 4_000;

/// Drawn sets of layouts for the interval of their share.
const DRAWS: usize = 1_000;

/// With fewer layouts nothing is said of their share.
pub(crate) const FEWEST: usize = 5;

/// How sure that interval is.
pub(crate) const SHARE_LEVEL: f64 = 0.95;

/// Below this chance of coming about by itself, an effect of the layout is told as seen: once in a hundred, for six figures
/// together.
pub(crate) const SEEN: f64 = 0.01 / 6.0;

/// The part of all pairs that differ by less than the smallest difference to be believed.
pub(crate) const BELIEVED: f64 = 0.99;

/// What one process measured of a figure.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    /// The number of its layout.
    pub(crate) layout: usize,
    /// Logarithms of its repetitions; one at least.
    pub(crate) repetitions: Vec<f64>,
}

/// What the spread is made of; each `None` where there are no such pairs.
#[derive(Clone, Debug)]
pub(crate) struct Components {
    /// The median difference between two repetitions of one process.
    pub(crate) repetitions: Option<f64>,
    /// Between two processes of one layout.
    pub(crate) processes: Option<f64>,
    /// Between two processes of different layouts.
    pub(crate) layouts: Option<f64>,
    /// The part of the variance between processes that is the layout's; none of fewer than [`FEWEST`].
    pub(crate) share: Option<Interval>,
    /// How often processes of one layout would be as near each other as they are, if the layout meant nothing.
    pub(crate) chance: Option<f64>,
    /// What [`BELIEVED`] of all pairs of processes of different layouts differ by at most.
    pub(crate) believable: Option<f64>,
}

impl Components {
    pub(crate) fn of(processes: &[Process], seed: u64) -> Self {
        let values: Vec<(usize, f64)> = processes.iter().filter_map(middle).collect();
        let (same, different) = pairs(&values);
        let repetitions = processes.iter().flat_map(|process| {
            let values = &process.repetitions;
            (1..values.len())
                .flat_map(move |at| values[..at].iter().map(move |value| (values[at] - value).abs()))
        });
        let mut random = Random::new(seed);
        Self {
            repetitions: Sample::new(repetitions.collect()).map(|sample| sample.median()),
            share: share(&values, &mut random),
            chance: (!same.is_empty() && !different.is_empty()).then(|| chance(&values, &mut random)),
            believable: Sample::new(different.clone()).map(|sample| sample.quantile(BELIEVED)),
            processes: Sample::new(same).map(|sample| sample.median()),
            layouts: Sample::new(different).map(|sample| sample.median()),
        }
    }

    /// Whether layouts differ by more than chance makes processes differ.
    pub(crate) fn layout_seen(&self) -> bool {
        self.chance.is_some_and(|chance| chance <= SEEN)
    }
}

/// One value of each layout, the mean of its processes' medians: what counts as independent.
pub(crate) fn of_layouts(processes: &[Process]) -> Vec<f64> {
    let values: Vec<(usize, f64)> = processes.iter().filter_map(middle).collect();
    let mut layouts: Vec<usize> = values.iter().map(|(layout, _)| *layout).collect();
    layouts.sort_unstable();
    layouts.dedup();
    let mean = |wanted: usize| {
        let own: Vec<f64> =
            values.iter().filter(|(layout, _)| *layout == wanted).map(|(_, value)| *value).collect();
        own.iter().sum::<f64>() / own.len() as f64
    };
    layouts.into_iter().map(mean).collect()
}

fn middle(process: &Process) -> Option<(usize, f64)> {
    Some((process.layout, Sample::new(process.repetitions.clone())?.median()))
}

/// Differences between processes of one layout, and of different ones.
fn pairs(values: &[(usize, f64)]) -> (Vec<f64>, Vec<f64>) {
    let (mut same, mut different) = (Vec::new(), Vec::new());
    for (at, (layout, value)) in values.iter().enumerate() {
        for (other, from) in &values[..at] {
            let into = if layout == other { &mut same } else { &mut different };
            into.push((value - from).abs());
        }
    }
    (same, different)
}

/// One less the ratio of the two typical differences, squared: of normal distributions, the layout's part of the variance.
fn share_of(values: &[(usize, f64)]) -> Option<f64> {
    let (same, different) = pairs(values);
    let (same, different) = (Sample::new(same)?.median(), Sample::new(different)?.median());
    (different > 0.0).then(|| (1.0 - (same / different).powi(2)).max(0.0))
}

/// The share, and where it lies in sets of layouts that are drawn from these, with replacement.
fn share(values: &[(usize, f64)], random: &mut Random) -> Option<Interval> {
    let estimate = share_of(values)?;
    let mut layouts: Vec<usize> = values.iter().map(|(layout, _)| *layout).collect();
    layouts.sort_unstable();
    layouts.dedup();
    if layouts.len() < FEWEST {
        return None;
    }
    let drawn = (0..DRAWS).filter_map(|_| {
        let mut set: Vec<(usize, f64)> = Vec::with_capacity(values.len());
        for _ in &layouts {
            let layout = layouts[random.below(layouts.len() as u64) as usize];
            // A layout that is drawn twice stays one: it must not pass for two that are alike. Its weight is that of its
            // processes.
            if !set.iter().any(|(other, _)| *other == layout) {
                set.extend(values.iter().filter(|(other, _)| *other == layout));
            }
        }
        share_of(&set)
    });
    let drawn = Sample::new(drawn.collect())?;
    let tail = (1.0 - SHARE_LEVEL) / 2.0;
    let (low, high) = (drawn.quantile(tail), drawn.quantile(1.0 - tail));
    Some(Interval { estimate, low: low.min(estimate), high: high.max(estimate) })
}

/// How often values that are dealt to the layouts at random lie as near each other within a layout as these do.
fn chance(values: &[(usize, f64)], random: &mut Random) -> f64 {
    let all = (0..values.len()).flat_map(|at| (0..at).map(move |other| (at, other)));
    let same: Vec<(usize, usize)> = all.filter(|(at, other)| values[*at].0 == values[*other].0).collect();
    let within =
        |values: &[f64]| same.iter().map(|(at, other)| (values[*at] - values[*other]).abs()).sum::<f64>();
    let mut dealt: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
    let found = within(&dealt);
    let mut as_near = 0;
    for _ in 0..ORDERS {
        random.shuffle(&mut dealt);
        // The same sum in another order is the same sum.
        as_near += usize::from(within(&dealt) <= found * (1.0 + 1e-9));
    }
    (as_near + 1) as f64 / (ORDERS + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// About normal, with a standard deviation of 1.
    fn normal(random: &mut Random) -> f64 {
        (0..12).map(|_| random.below(1_000_001) as f64 / 1e6).sum::<f64>() - 6.0
    }

    /// Layouts, two processes each, three repetitions each, that differ by these standard deviations.
    fn measured(layouts: usize, between: f64, process: f64, noise: f64, random: &mut Random) -> Vec<Process> {
        let mut processes = Vec::new();
        for layout in 0..layouts {
            let of_layout = between * normal(random);
            for _ in 0..2 {
                let of_process = of_layout + process * normal(random);
                let repetitions = (0..3).map(|_| of_process + noise * normal(random)).collect();
                processes.push(Process { layout, repetitions });
            }
        }
        processes
    }

    #[test]
    fn spread_is_found_where_it_was_planted() {
        let mut random = Random::new(3);
        let planted = Components::of(&measured(24, 0.03, 0.005, 0.001, &mut random), 1);
        assert!(planted.layout_seen(), "{planted:?}");
        // The median of |x - y| of two normal values is 0.954 standard deviations.
        let typical = planted.layouts.unwrap() / 0.954;
        assert!((0.02..0.045).contains(&typical), "{planted:?}");
        assert!(planted.processes.unwrap() < 0.012 && planted.repetitions.unwrap() < 0.002, "{planted:?}");
        let share = planted.share.unwrap();
        assert!(share.estimate > 0.85 && share.low > 0.6 && share.high <= 1.0, "{share:?}");
        assert!(planted.believable.unwrap() > 2.0 * planted.layouts.unwrap(), "{planted:?}");
    }

    #[test]
    fn share_of_equal_parts_is_one_half() {
        let mut random = Random::new(5);
        let shares = (0..20)
            .map(|_| Components::of(&measured(60, 0.01, 0.01, 0.0, &mut random), 1).share.unwrap().estimate);
        let shares = Sample::new(shares.collect()).unwrap();
        assert!((0.4..0.6).contains(&shares.median()), "{shares:?}");
    }

    #[test]
    fn layouts_that_mean_nothing_are_called_as_rarely_as_chance_has_it() {
        let mut random = Random::new(9);
        let chances: Vec<f64> = (0..200)
            .map(|_| chance(&medians(&measured(11, 0.0, 0.01, 0.01, &mut random)), &mut Random::new(2)))
            .collect();
        let below = |limit: f64| chances.iter().filter(|chance| **chance <= limit).count();
        assert!(below(0.05) <= 20 && below(0.01) <= 6, "{} {}", below(0.05), below(0.01));
        assert!((60..140).contains(&below(0.5)), "{}", below(0.5));
    }

    fn medians(processes: &[Process]) -> Vec<(usize, f64)> {
        processes.iter().filter_map(middle).collect()
    }

    #[test]
    fn few_layouts_say_nothing_of_their_share() {
        let mut random = Random::new(4);
        let share = |layouts| Components::of(&measured(layouts, 0.02, 0.01, 0.01, &mut random), 1).share;
        assert_eq!([FEWEST - 1, FEWEST].map(share).map(|share| share.is_some()), [false, true]);
    }

    #[test]
    fn what_was_measured_once_has_no_components_and_is_not_refused() {
        let one = Process { layout: 0, repetitions: vec![1.0] };
        let components = Components::of(std::slice::from_ref(&one), 1);
        assert!(components.repetitions.is_none() && components.share.is_none());
        assert!(components.chance.is_none() && components.believable.is_none());
        let other = Process { layout: 1, repetitions: vec![1.5, f64::NAN] };
        let components = Components::of(&[one.clone(), other], 1);
        assert_eq!((components.layouts, components.processes), (Some(0.5), None));
        assert_eq!(of_layouts(&[one.clone(), Process { repetitions: vec![3.0], ..one }]), [2.0]);
    }
}
