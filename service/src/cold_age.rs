//! From which age on pages are cold, so that few of them turn out not to be.
//!
//! Whoever moves cold pages to where they cost less pays when one is used after all: a promotion. The controller is told at
//! which ages pages are used, and so knows of every age how many promotions it had been to take pages of that age for cold. It
//! chooses the lowest at which they would have stayed within the target. That is the idea of Google's far memory
//! (Lagar-Cavilla et al., ASPLOS 2019), whose target is 0.2 % of the pages in use a minute.
//!
//! One interval says little of the next: so the answer is that of the last interval, or a high percentile of those before,
//! whichever is higher. It rises at once, and falls when the intervals that asked for more are forgotten.
//!
//! It has no clock, no thread and no store: see [`Proactive`](crate::Proactive) for one that has a store.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ages::{BUCKETS, bucket, first_age};

/// What a [`ColdAge`] aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColdAgeConfig {
    /// The most promotions a minute, of a million pages in use.
    pub promotions_per_million: u32,
    /// No page younger than this many ticks is cold.
    pub min_age: u16,
    /// How many intervals are remembered, at least 1.
    pub history: usize,
    /// The answer suffices for so many percent of them.
    pub percentile: u8,
    /// How many intervals are only looked at first.
    pub warm_up: usize,
}

impl Default for ColdAgeConfig {
    /// A fifth of a percent a minute, and of the last half hour all but the odd minute, if an interval is a minute.
    fn default() -> ColdAgeConfig {
        ColdAgeConfig { promotions_per_million: 2000, min_age: 1, history: 30, percentile: 98, warm_up: 5 }
    }
}

/// The controller. See the module for what it does.
///
/// A program that has its own pages and keeps their ages tells it of each use of a page by [`used`](ColdAge::used), wherever
/// that page was, and stores pages that have reached the [`threshold`](ColdAge::threshold).
///
/// ```
/// use std::time::Duration;
/// use zfolio::{ColdAge, ColdAgeConfig};
///
/// let mut cold_age = ColdAge::new(ColdAgeConfig { warm_up: 0, ..ColdAgeConfig::default() });
/// // Of 10,000 pages, in a minute, 50 were used after 8 ticks, and 10 after 12. The target is 20 a minute.
/// (0..50).for_each(|_| cold_age.used(8));
/// (0..10).for_each(|_| cold_age.used(12));
/// assert_eq!(cold_age.step(Duration::from_secs(60), 10_000), Some(9));
/// ```
#[derive(Clone, Debug)]
pub struct ColdAge {
    config: ColdAgeConfig,
    /// Uses in this interval, by age.
    used: [u64; BUCKETS],
    /// Uses in this interval of pages that were taken for cold, of unknown age.
    promoted: u64,
    /// What would have been right in the last intervals, as the number of a count; `BUCKETS` if no age.
    history: VecDeque<usize>,
    steps: usize,
    threshold: Option<u16>,
}

impl ColdAge {
    /// A controller that knows nothing yet.
    pub fn new(config: ColdAgeConfig) -> ColdAge {
        ColdAge {
            config,
            used: [0; BUCKETS],
            promoted: 0,
            history: VecDeque::new(),
            steps: 0,
            threshold: None,
        }
    }

    /// A page was used that had not been for `age` ticks.
    pub fn used(&mut self, age: u16) {
        self.used[bucket(age)] += 1;
    }

    pub(crate) fn used_by_age(&mut self, used: &[u64; BUCKETS]) {
        self.used.iter_mut().zip(used).for_each(|(sum, more)| *sum += more);
    }

    /// So many pages were used that had been taken for cold, and nobody knows their age but that it had reached the threshold.
    /// How many of them a higher threshold would spare is guessed: in inverse proportion.
    pub fn promoted(&mut self, pages: u64) {
        self.promoted += pages;
    }

    /// Ends an interval that took `elapsed`, with so many pages in use, and says from which age on pages are cold now.
    pub fn step(&mut self, elapsed: Duration, pages: u64) -> Option<u16> {
        let minutes = elapsed.as_secs_f64() / 60.0;
        let allowed = f64::from(self.config.promotions_per_million) / 1e6 * pages as f64 * minutes;
        let right = self.lowest_within(allowed);
        self.history.push_back(right);
        while self.history.len() > self.config.history.max(1) {
            self.history.pop_front();
        }
        (self.used, self.promoted) = ([0; BUCKETS], 0);
        self.steps += 1;
        if self.steps > self.config.warm_up {
            let mut sorted: Vec<usize> = self.history.iter().copied().collect();
            sorted.sort_unstable();
            let rank = (sorted.len() * usize::from(self.config.percentile.min(100))).div_ceil(100);
            let answer = right.max(sorted[rank.max(1) - 1]);
            self.threshold = (answer < BUCKETS).then(|| first_age(answer).max(self.config.min_age));
        }
        self.threshold
    }

    /// From which age on pages are cold, by the last [`step`](ColdAge::step); `None` if no page is, or nothing is known yet.
    pub fn threshold(&self) -> Option<u16> {
        self.threshold
    }

    /// The lowest count from which on uses are few enough.
    fn lowest_within(&self, allowed: f64) -> usize {
        let lowest = bucket(self.config.min_age);
        let now = f64::from(self.threshold.unwrap_or(0));
        let mut older = 0;
        for bucket in (lowest..BUCKETS).rev() {
            older += self.used[bucket];
            let spared = (now / f64::from(first_age(bucket).max(1))).min(1.0);
            if older as f64 + self.promoted as f64 * spared > allowed {
                return bucket + 1;
            }
        }
        lowest
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
