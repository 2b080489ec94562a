//! What may be said of two measurements: the ratio, its interval, and whether a difference was seen.

use std::fmt;

use crate::statistics::Interval;

/// How often an interval may miss the truth: once in a hundred.
pub(crate) const LEVEL: f64 = 0.99;

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The whole interval is on the side of less time.
    Faster,
    /// The whole interval is on the side of more time.
    Slower,
    /// The interval holds 1.
    NoDifference,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::NoDifference => "no difference seen",
        }
    }
}

/// The time of B divided by the time of A, with its interval at [`LEVEL`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct TimeRatio(pub(crate) Interval);

impl TimeRatio {
    /// From the interval of the difference of logarithms, B's less A's.
    pub(crate) fn of_logarithms(interval: Interval) -> TimeRatio {
        TimeRatio(interval.map(f64::exp))
    }

    pub(crate) fn verdict(self) -> Verdict {
        match self.0 {
            Interval { high, .. } if high < 1.0 => Verdict::Faster,
            Interval { low, .. } if low > 1.0 => Verdict::Slower,
            _ => Verdict::NoDifference,
        }
    }

    /// The smallest difference that would have been seen at this noise: one as large as the interval is wide to either
    /// side.
    pub(crate) fn smallest_seen(self) -> f64 {
        self.0.half_width() / self.0.estimate
    }
}

impl fmt::Display for TimeRatio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interval { estimate, low, high } = self.0;
        write!(f, "{estimate:.3} [{low:.3}..{high:.3}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_is_seen_only_when_the_whole_interval_is_on_one_side() {
        let of = |low: f64, high: f64| {
            let estimate = (low + high) / 2.0;
            TimeRatio::of_logarithms(Interval { estimate, low, high })
        };
        assert_eq!(of(-0.05, -0.01).verdict(), Verdict::Faster);
        assert_eq!(of(0.01, 0.05).verdict(), Verdict::Slower);
        assert_eq!(of(-0.01, 0.05).verdict(), Verdict::NoDifference);
        let even = of(-0.02, 0.02);
        assert_eq!(even.to_string(), "1.000 [0.980..1.020]");
        assert!((even.smallest_seen() - 0.02).abs() < 1e-4);
    }
}
