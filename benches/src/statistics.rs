//! Statistics of benchmarks: figures of rounds, and the ratio of two things that were measured in pairs.
//!
//! Machines that others use too give figures with long tails, so everything here is made of ranks and medians;
//! nothing assumes a normal distribution, and nothing is dropped.

/// Values in order, of which the questions below are asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample(Vec<f64>);

/// An estimate and the interval that holds the truth at the asked level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) estimate: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// The same after `f`, which is increasing.
    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Interval {
        Interval { estimate: f(self.estimate), low: f(self.low), high: f(self.high) }
    }

    /// Half of its length.
    pub(crate) fn half_width(self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

impl Sample {
    /// A sample of finite values; none if there is no value.
    pub(crate) fn new(mut values: Vec<f64>) -> Option<Sample> {
        values.retain(|value| value.is_finite());
        values.sort_unstable_by(f64::total_cmp);
        (!values.is_empty()).then_some(Sample(values))
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The values, in order.
    pub(crate) fn values(&self) -> &[f64] {
        &self.0
    }

    /// The least and the greatest value.
    pub(crate) fn range(&self) -> (f64, f64) {
        (self.0[0], self.0[self.len() - 1])
    }

    /// The values after `f`; none if no value is finite then.
    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Option<Sample> {
        Sample::new(self.0.iter().copied().map(f).collect())
    }

    /// The middle value, or the mean of the two middle ones.
    pub(crate) fn median(&self) -> f64 {
        middle(&self.0)
    }

    /// The value below or at which this part of all lies.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let rank = (part * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    /// How far values lie from the median: the median of their distances to it (MAD).
    pub(crate) fn mad(&self) -> f64 {
        let median = self.median();
        self.map(|value| (value - median).abs()).map_or(0.0, |distances| distances.median())
    }

    /// Values further from the median than three standard deviations would be, if a normal distribution had this MAD.
    pub(crate) fn outliers(&self) -> Vec<f64> {
        let (median, far) = (self.median(), 3.0 * 1.4826 * self.mad());
        self.0.iter().copied().filter(|value| (value - median).abs() > far).collect()
    }

    /// The median with its bootstrap interval: where the medians of samples lie that are drawn from this one, with
    /// replacement. They need not be drawn: the middle of n draws is at most the k-th value when more than half of the
    /// draws are, each of which is with chance k / n. Few values give all of their range.
    pub(crate) fn median_interval(&self, level: f64) -> Interval {
        let n = self.len();
        let tail = (1.0 - level) / 2.0;
        // Of an even number the lower middle one for the low end, the upper one for the high end.
        let lower = |k: usize| binomial_at_least(n, k as f64 / n as f64, n.div_ceil(2));
        // From how many values on is it likelier than the tail that the middle is one of them?
        let (mut low, mut high) = (1, n);
        while low < high {
            let k = low.midpoint(high);
            if lower(k) > tail { high = k } else { low = k + 1 }
        }
        Interval { estimate: self.median(), low: self.0[low - 1], high: self.0[n - low] }
    }

    /// The centre of differences that are as likely to be above it as below it (Hodges and Lehmann's), with the interval
    /// of Wilcoxon's signed-rank test: exact for any such distribution. None if there are too few values for
    /// `level`: eight are enough for 0.99.
    pub(crate) fn centre(&self, level: f64) -> Option<Interval> {
        let n = self.len();
        let mut averages = Vec::with_capacity(n * (n + 1) / 2);
        for (index, low) in self.0.iter().enumerate() {
            averages.extend(self.0[index..].iter().map(|high| (low + high) / 2.0));
        }
        averages.sort_unstable_by(f64::total_cmp);
        let cut = signed_rank_cut(n, (1.0 - level) / 2.0)?;
        let (low, high) = (averages[cut], averages[averages.len() - 1 - cut]);
        Some(Interval { estimate: middle(&averages), low, high })
    }

    /// How much higher `other` lies (Hodges and Lehmann's shift), with the interval of the rank-sum test of Mann, Whitney
    /// and Wilcoxon: exact for two samples that differ by a shift alone. None if there are too few values for `level`:
    /// five in each are enough for 0.99.
    pub(crate) fn shift(&self, other: &Sample, level: f64) -> Option<Interval> {
        let mut differences = Vec::with_capacity(self.len() * other.len());
        for from in &self.0 {
            differences.extend(other.0.iter().map(|to| to - from));
        }
        differences.sort_unstable_by(f64::total_cmp);
        let cut = rank_sum_cut(self.len(), other.len(), (1.0 - level) / 2.0)?;
        let (low, high) = (differences[cut], differences[differences.len() - 1 - cut]);
        Some(Interval { estimate: middle(&differences), low, high })
    }
}

/// The chance that at least `wanted` of `n` coins show heads, which each does with chance `p`.
fn binomial_at_least(n: usize, p: f64, wanted: usize) -> f64 {
    if p >= 1.0 {
        return 1.0;
    }
    // By logarithms: the first terms of many coins are too small for a number.
    let (heads, tails) = (p.ln(), (-p).ln_1p());
    let mut ways = 0.0;
    let mut chance = 0.0;
    for count in 0..=n {
        if count >= wanted {
            chance += (ways + count as f64 * heads + (n - count) as f64 * tails).exp();
        }
        ways += ((n - count) as f64 / (count + 1) as f64).ln();
    }
    chance
}

/// The middle of ordered values, of which there is one at least.
fn middle(ordered: &[f64]) -> f64 {
    (ordered[(ordered.len() - 1) / 2] + ordered[ordered.len() / 2]) / 2.0
}

/// How many of the lowest averages of pairs lie outside an interval whose tails are at most `tail` each: the largest
/// k for which a signed-rank sum below k is that unlikely. None if even a sum of 0 is likelier.
fn signed_rank_cut(n: usize, tail: f64) -> Option<usize> {
    // The distribution of the sum of those ranks 1..=n whose coin shows heads.
    let mut chance = vec![0.0; n * (n + 1) / 2 + 1];
    chance[0] = 1.0;
    for rank in 1..=n {
        for sum in (0..chance.len()).rev() {
            let with = if sum >= rank { chance[sum - rank] } else { 0.0 };
            chance[sum] = (chance[sum] + with) / 2.0;
        }
    }
    last_below(&chance, tail)
}

/// How many of the lowest differences of pairs lie outside an interval whose tails are at most `tail` each: the largest
/// k for which a rank sum of `m` and `n` values that is off by k or less is that unlikely. None if even 0 is likelier.
fn rank_sum_cut(m: usize, n: usize, tail: f64) -> Option<usize> {
    // In how many of all orders of m and n values are u pairs the wrong way round? The last of the m + n is one of
    // the m, and then is behind n others, or one of the n: so the counts of fewer values give those of more.
    let mut orders = vec![vec![0.0; m * n + 1]; m + 1];
    orders.iter_mut().for_each(|counts| counts[0] = 1.0);
    for others in 1..=n {
        for own in 1..=m {
            for u in (0..=m * n).rev() {
                let behind = if u >= others { orders[own - 1][u - others] } else { 0.0 };
                orders[own][u] += behind;
            }
        }
    }
    let all: f64 = orders[m].iter().sum();
    let chance: Vec<f64> = orders[m].iter().map(|count| count / all).collect();
    last_below(&chance, tail)
}

/// The last value up to which the chances add up to at most `tail`.
fn last_below(chance: &[f64], tail: f64) -> Option<usize> {
    let mut below = 0.0;
    let fits = chance.iter().take_while(|chance| {
        below += **chance;
        below <= tail
    });
    fits.count().checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::random::Random;

    fn sample(values: &[f64]) -> Sample {
        Sample::new(values.to_vec()).unwrap()
    }

    #[test]
    fn median_does_not_care_for_one_wild_value() {
        assert_eq!(sample(&[3.0, 1.0, 2.0, 4.0, 1e9]).median(), 3.0);
        assert_eq!(sample(&[1.0, 2.0, 3.0, 1e9]).median(), 2.5);
        assert_eq!(Sample::new(vec![f64::NAN]), None);
    }

    #[test]
    fn quantile_is_the_value_that_so_many_lie_below_or_at() {
        let hundred = Sample::new((1..=100).map(f64::from).collect()).unwrap();
        for (part, value) in [(0.0, 1.0), (0.01, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            assert_eq!(hundred.quantile(part), value);
        }
    }

    #[test]
    fn mad_and_outliers_do_not_follow_the_wild_value() {
        let sample = sample(&[10.0, 11.0, 12.0, 13.0, 14.0, 90.0]);
        assert_eq!((sample.median(), sample.mad()), (12.5, 1.5));
        assert_eq!(sample.outliers(), [90.0]);
    }

    #[test]
    fn median_interval_is_that_of_drawn_samples() {
        let mut random = Random::new(11);
        for n in [1, 2, 5, 6, 15, 24, 101] {
            let values: Vec<f64> = (0..n).map(|_| (random.below(1000) as f64 / 100.0).exp()).collect();
            let interval = sample(&values).median_interval(0.95);
            let mut drawn: Vec<f64> = (0..4_000)
                .map(|_| {
                    sample(&(0..n).map(|_| values[random.below(n) as usize]).collect::<Vec<_>>()).median()
                })
                .collect();
            drawn.sort_unstable_by(f64::total_cmp);
            // Within it are 95 of 100, and one step further in fewer, but for what 4000 draws leave to chance.
            let within = |low: f64, high: f64| drawn.iter().filter(|m| (low..=high).contains(m)).count();
            assert!(within(interval.low, interval.high) >= 3_760, "{n}: {interval:?}");
            let inside = values.iter().copied().filter(|v| (interval.low..interval.high).contains(v));
            let next = inside.filter(|v| *v > interval.low).fold(f64::INFINITY, f64::min);
            assert!(next > interval.high || within(next, f64::INFINITY) < 3_940, "{n}: {interval:?}");
        }
        assert_eq!(sample(&[3.0]).median_interval(0.95), Interval { estimate: 3.0, low: 3.0, high: 3.0 });
        let many: Vec<f64> = (0..10_000).map(f64::from).collect();
        let interval = sample(&many).median_interval(0.95);
        assert!((4_890.0..4_910.0).contains(&interval.low) && interval.high < 5_110.0, "{interval:?}");
    }

    #[test]
    fn cuts_are_those_of_the_printed_tables_of_the_signed_rank_test() {
        // Largest sums whose two-sided p is at most 0.05 and 0.01, as the tables have them; the cut is as many
        // averages from the end.
        for (n, five, one) in [
            (8, Some(3), Some(0)),
            (10, Some(8), Some(3)),
            (15, Some(25), Some(15)),
            (20, Some(52), Some(37)),
        ] {
            assert_eq!(signed_rank_cut(n, 0.025), five, "{n}");
            assert_eq!(signed_rank_cut(n, 0.005), one, "{n}");
        }
        assert_eq!(signed_rank_cut(7, 0.005), None, "seven pairs cannot say 99 %");
    }

    #[test]
    fn cuts_are_those_of_the_printed_tables_of_the_rank_sum_test() {
        for (m, n, five, one) in [
            (5, 5, Some(2), Some(0)),
            (8, 10, Some(17), Some(11)),
            (10, 8, Some(17), Some(11)),
            (20, 20, Some(127), Some(105)),
        ] {
            assert_eq!(rank_sum_cut(m, n, 0.025), five, "{m} {n}");
            assert_eq!(rank_sum_cut(m, n, 0.005), one, "{m} {n}");
        }
        assert_eq!(rank_sum_cut(4, 4, 0.005), None, "four and four cannot say 99 %");
    }

    #[test]
    fn shift_is_how_much_higher_the_other_lies() {
        let (low, high) =
            (sample(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), sample(&[11.0, 12.0, 13.0, 14.0, 15.0, 16.0]));
        let shift = low.shift(&high, 0.99).unwrap();
        assert_eq!(shift.estimate, 10.0);
        assert!(shift.low > 5.0 && shift.high < 15.0, "{shift:?}");
        assert!(low.shift(&low, 0.99).unwrap().low < 0.0);
    }

    /// Differences around a known centre: how often does an interval at 99 % miss it?
    #[test]
    fn intervals_miss_the_truth_as_rarely_as_they_say() {
        let mut random = Random::new(7);
        let mut missed = 0;
        for _ in 0..2_000 {
            let values = (0..12)
                .map(|_| {
                    // Symmetric with long tails: a uniform value, its cube now and then.
                    let uniform = random.below(2_000_001) as f64 / 1e6 - 1.0;
                    0.5 + if random.below(4) == 0 { 20.0 * uniform.powi(3) } else { uniform }
                })
                .collect();
            let interval = Sample::new(values).unwrap().centre(0.99).unwrap();
            assert!(interval.low <= interval.estimate && interval.estimate <= interval.high);
            missed += u32::from(!(interval.low..=interval.high).contains(&0.5));
        }
        assert!((4..=36).contains(&missed), "20 are expected, {missed} missed");
    }
}
