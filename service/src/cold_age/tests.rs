//! The controller over pages that are used now and then, on a clock of ticks: a tick is a second, an interval a minute.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::tests::Random;

const PAGES: u64 = 4000;
const MINUTE: u32 = 60;
const JOB: u32 = 1500;

/// Pages of which each is used at random, on average every so many ticks.
struct Workload {
    random: Random,
    every: Vec<f64>,
    used_at: Vec<u32>,
    /// The next use of each page.
    next: BinaryHeap<Reverse<(u32, usize)>>,
    now: u32,
    /// How many pages a job uses instead, each every [`JOB`] seconds.
    job: usize,
    /// A threshold that stays, and the promotions that it had meant.
    fixed: (u16, u64),
}

impl Workload {
    /// Pages that are used every second at most, and every `rarest` seconds at least: as many in each octave between.
    fn new(seed: u64, rarest: f64) -> Workload {
        let mut workload = Workload {
            random: Random::new(seed),
            every: Vec::new(),
            used_at: vec![0; PAGES as usize],
            next: BinaryHeap::new(),
            now: 0,
            job: 0,
            fixed: (u16::MAX, 0),
        };
        workload.every = (0..PAGES).map(|_| rarest.powf(workload.share())).collect();
        (0..PAGES as usize).for_each(|page| workload.plan(page));
        workload
    }

    fn share(&mut self) -> f64 {
        (self.random.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn plan(&mut self, page: usize) {
        let wait = if page < self.job { JOB } else { (-self.every[page] * (1.0 - self.share()).ln()) as u32 };
        self.next.push(Reverse((self.now + 1 + wait, page)));
    }

    /// From now on a job has so many of the pages, at any point of its round.
    fn set_job(&mut self, pages: usize) {
        self.job = pages;
        self.next.clear();
        for page in 0..PAGES as usize {
            if page < pages {
                let at = self.now + 1 + (self.share() * f64::from(JOB)) as u32;
                self.next.push(Reverse((at, page)));
            } else {
                self.plan(page);
            }
        }
    }

    /// A minute under a threshold: how many promotions there were. Their ages are told, or only that they were.
    fn minute(&mut self, cold_age: &mut ColdAge, ages_are_known: bool) -> u64 {
        let (mut promotions, threshold) = (0, cold_age.threshold().unwrap_or(u16::MAX));
        let end = self.now + MINUTE;
        while let Some(&Reverse((at, page))) = self.next.peek()
            && at <= end
        {
            self.next.pop();
            self.now = at;
            let age = u16::try_from(at - self.used_at[page]).unwrap_or(u16::MAX);
            self.used_at[page] = at;
            let cold = age >= threshold;
            promotions += u64::from(cold);
            self.fixed.1 += u64::from(age >= self.fixed.0);
            if ages_are_known || !cold {
                cold_age.used(age);
            } else {
                cold_age.promoted(1);
            }
            self.plan(page);
        }
        self.now = end;
        cold_age.step(Duration::from_secs(60), PAGES);
        promotions
    }

    fn minutes(&mut self, minutes: u32, cold_age: &mut ColdAge, ages_are_known: bool) -> Vec<u64> {
        (0..minutes).map(|_| self.minute(cold_age, ages_are_known)).collect()
    }
}

fn mean(promotions: &[u64]) -> f64 {
    promotions.iter().sum::<u64>() as f64 / promotions.len() as f64
}

/// 1 % of the pages a minute.
const CONFIG: ColdAgeConfig =
    ColdAgeConfig { promotions_per_million: 10_000, min_age: 2, history: 20, percentile: 90, warm_up: 3 };
const TARGET: f64 = PAGES as f64 / 100.0;

#[test]
fn promotions_come_near_the_target_and_stay_below_it() {
    for ages_are_known in [true, false] {
        for seed in 1..=3 {
            let mut cold_age = ColdAge::new(CONFIG);
            let mut workload = Workload::new(seed, 3000.0);
            workload.minutes(60, &mut cold_age, ages_are_known);
            let rate = mean(&workload.minutes(60, &mut cold_age, ages_are_known));
            let threshold = cold_age.threshold();
            assert!(
                (TARGET * 0.5..=TARGET * 1.05).contains(&rate),
                "seed {seed}, ages known: {ages_are_known}: {rate} promotions a minute at {threshold:?}, {TARGET} wanted"
            );
        }
    }
}

#[test]
fn workload_that_changes_is_followed_both_ways() {
    for ages_are_known in [true, false] {
        let mut cold_age = ColdAge::new(CONFIG);
        let mut workload = Workload::new(7, 3000.0);
        workload.minutes(90, &mut cold_age, ages_are_known);
        let quiet = cold_age.threshold().unwrap();
        workload.set_job(PAGES as usize / 2);
        workload.fixed = (quiet, 0);
        let promotions = workload.minutes(90, &mut cold_age, ages_are_known);
        let unmoved = workload.fixed.1 as f64 / 90.0;
        assert!(unmoved > 1.7 * TARGET, "{unmoved} a minute, had the threshold stayed");
        for half in [&promotions[..45], &promotions[45..]] {
            assert!(mean(half) <= 1.05 * TARGET, "{} a minute of {TARGET}: {promotions:?}", mean(half));
        }
        let high = u32::from(cold_age.threshold().unwrap());
        assert!(
            high > JOB && high < 2 * JOB,
            "the job's pages are not taken for cold: {quiet} before, {high} after"
        );
        // When it is over the threshold comes down again, after as many minutes as are remembered.
        workload.set_job(0);
        let promotions = workload.minutes(90, &mut cold_age, ages_are_known);
        let low = cold_age.threshold().unwrap();
        assert!(low.abs_diff(quiet) <= quiet / 4, "{quiet} before, {high} meanwhile, {low} after");
        let rate = mean(&promotions[50..]);
        assert!(
            (0.5 * TARGET..=1.05 * TARGET).contains(&rate),
            "{rate} a minute of {TARGET}: {promotions:?}"
        );
    }
}

#[test]
fn nothing_is_cold_while_too_little_is_known_or_everything_is_used() {
    let mut cold_age = ColdAge::new(ColdAgeConfig { warm_up: 2, history: 1, ..CONFIG });
    assert_eq!(cold_age.threshold(), None);
    for _ in 0..2 {
        cold_age.used(5);
        assert_eq!(cold_age.step(Duration::from_secs(60), 1000), None, "it only looks");
    }
    assert_eq!(
        cold_age.step(Duration::from_secs(60), 1000),
        Some(2),
        "a minute without uses: the least that is allowed"
    );
    (0..1000).for_each(|_| cold_age.used(u16::MAX));
    assert_eq!(cold_age.step(Duration::from_secs(60), 1000), None, "even the oldest are used");
    (0..10).for_each(|_| cold_age.used(9));
    assert_eq!(
        cold_age.step(Duration::from_secs(60), 1000),
        Some(2),
        "ten of a thousand are within the target"
    );
    (0..11).for_each(|_| cold_age.used(9));
    assert_eq!(cold_age.step(Duration::from_secs(60), 1000), Some(10), "eleven are not");
    (0..6).for_each(|_| cold_age.used(9));
    assert_eq!(cold_age.step(Duration::from_secs(30), 1000), Some(10), "nor are six in half a minute");
    (0..100).for_each(|_| cold_age.used(9));
    assert_eq!(cold_age.step(Duration::ZERO, 0), Some(10), "no time and no pages are no reason to fail");
}
