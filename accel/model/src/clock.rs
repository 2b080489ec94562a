//! Whose time it is.
//!
//! **Stepped**: time is the model's own. It goes on when someone submits or pauses, so on one thread everything is
//! deterministic; this is the clock of tests.
//!
//! **Replay**: time is the wall's, without the time that threads spend inside the model, plus what submitting would
//! have cost them. What the device will answer is worked out inside the model when a descriptor is submitted, from a
//! table of answers when it has been asked before; the answer becomes visible when the device would have given it.
//! So the time between is the device's by calibration and the program's own for real. A benchmark takes its
//! times from [`thread_time`]. It holds for one submitting thread: were there two, what one does while the other is
//! in the model would cost the device nothing.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use crate::timing::Nanos;

/// How time goes in a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Clock {
    /// Time is the model's own: it goes on when someone pauses or submits.
    #[default]
    Stepped,
    /// Wall time, which stands still inside the model.
    Replay,
}

thread_local! {
    /// How far this thread's time is behind the wall's.
    static STOPPED: Cell<i64> = const { Cell::new(0) };
}

/// The time of this thread, from an arbitrary start: wall time without the time inside models on the replay clock,
/// plus the cost of submitting to them. Without such a model it is a monotonic clock.
pub fn thread_time() -> Duration {
    Duration::from_nanos(wall().saturating_add_signed(-STOPPED.get()))
}

/// Time of the calling thread that was spent inside models and does not count.
pub fn thread_stopped() -> Duration {
    Duration::from_nanos(STOPPED.get().max(0).unsigned_abs())
}

/// The time of one model on the replay clock.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    /// How far it is behind the wall's.
    stopped: AtomicI64,
}

impl Stopwatch {
    pub(crate) fn now(&self) -> Nanos {
        self.at(wall())
    }

    /// Stops until the section is left.
    pub(crate) fn stop(&self) -> Section<'_> {
        Section { watch: self, entered: wall() }
    }

    fn at(&self, wall: Nanos) -> Nanos {
        wall.saturating_add_signed(-self.stopped.load(Ordering::Relaxed))
    }
}

/// Time stands still until [`Section::leave`].
pub(crate) struct Section<'a> {
    watch: &'a Stopwatch,
    entered: Nanos,
}

impl Section<'_> {
    /// The time at which it stands still.
    pub(crate) fn now(&self) -> Nanos {
        self.watch.at(self.entered)
    }

    /// Time goes on, `charge` later than it stood still.
    pub(crate) fn leave(self, charge: Nanos) {
        self.leave_with(charge, overhead());
    }

    fn leave_with(self, charge: Nanos, overhead: Nanos) {
        let inside = (wall() - self.entered + overhead).cast_signed() - charge.cast_signed();
        self.watch.stopped.fetch_add(inside, Ordering::Relaxed);
        STOPPED.set(STOPPED.get() + inside);
    }
}

/// What a section costs besides what it measures itself: the ends of its two looks at the clock, and its sums.
fn overhead() -> Nanos {
    static OVERHEAD: OnceLock<Nanos> = OnceLock::new();
    *OVERHEAD.get_or_init(|| {
        let watch = Stopwatch::default();
        // The least of many: what comes on top now and then is the machine's doing.
        let least = (0..200).map(|_| {
            let (before, start) = (STOPPED.get(), wall());
            (0..100).for_each(|_| watch.stop().leave_with(0, 0));
            let passed = wall() - start;
            passed.saturating_add_signed(before - STOPPED.replace(before)) / 100
        });
        least.min().unwrap_or(0)
    })
}

/// Nanoseconds from an arbitrary start.
pub(crate) fn wall() -> Nanos {
    static START: OnceLock<WallClock> = OnceLock::new();
    START.get_or_init(WallClock::new).now()
}

/// Reading the time-stamp counter takes half as long as asking the system, and there are four looks at the clock
/// for each page.
enum WallClock {
    /// Nanoseconds in 2^32 ticks, and the first tick.
    Ticks { scale: u64, first: u64 },
    /// The counter does not tick evenly.
    System(Instant),
}

impl WallClock {
    fn new() -> WallClock {
        let start = Instant::now();
        if !ticks_evenly() {
            return WallClock::System(start);
        }
        // Both clocks at once: the closest of several tries.
        let both = || {
            let pair = |_| {
                let (before, instant, after) = (ticks(), Instant::now(), ticks());
                (after.wrapping_sub(before), instant, before.wrapping_add(after.wrapping_sub(before) / 2))
            };
            let best = (0..50).map(pair).min_by_key(|&(width, ..)| width);
            best.map_or((Instant::now(), ticks()), |(_, instant, tick)| (instant, tick))
        };
        let (from, first) = both();
        while start.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let (to, last) = both();
        let (nanos, passed) = ((to - from).as_nanos(), u128::from(last.wrapping_sub(first)));
        match u64::try_from((nanos << 32).checked_div(passed).unwrap_or(0)) {
            Ok(scale) if scale != 0 => WallClock::Ticks { scale, first },
            _ => WallClock::System(start),
        }
    }

    fn now(&self) -> Nanos {
        match self {
            WallClock::Ticks { scale, first } => {
                let passed = ticks().wrapping_sub(*first);
                ((u128::from(passed) * u128::from(*scale)) >> 32) as u64
            }
            WallClock::System(start) => start.elapsed().as_nanos() as u64,
        }
    }
}

/// The time-stamp counter.
fn ticks() -> u64 {
    // SAFETY: every x86-64 CPU has RDTSC; Linux does not forbid it to user space unless asked to.
    #[allow(unsafe_code)]
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
}

/// Whether the time-stamp counter ticks at one rate on all CPUs: Linux keeps time by it then.
fn ticks_evenly() -> bool {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    std::fs::read_to_string(path).is_ok_and(|source| source.trim() == "tsc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_a_section_does_not_count_but_its_charge_does() {
        let watch = Stopwatch::default();
        let before = thread_time();
        let section = watch.stop();
        let stood = section.now();
        std::thread::sleep(Duration::from_millis(50));
        section.leave(7_000_000);
        let passed = thread_time() - before;
        assert!(watch.now() - stood >= 7_000_000);
        assert!(passed >= Duration::from_millis(7), "{passed:?}");
        assert!(passed < Duration::from_millis(50), "{passed:?}");
        assert!(thread_stopped() >= Duration::from_millis(43));
    }

    #[test]
    fn wall_time_is_the_systems() {
        let (wall_before, before) = (wall(), Instant::now());
        std::thread::sleep(Duration::from_millis(30));
        let (passed, expected) = (wall() - wall_before, before.elapsed().as_nanos() as u64);
        assert!(passed.abs_diff(expected) < expected / 100, "{passed} ns, not {expected}");
    }
}
