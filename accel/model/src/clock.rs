//! Whose time it is.
//!
//! **Stepped**: time is the model's own. It goes on when someone submits or pauses, so on one thread everything is
//! deterministic; this is the clock of tests.
//!
//! **Replay**: time is the wall's, without the time that is spent inside models, and without the time that the
//! thread did not run because the kernel ran somebody else, plus what submitting would have cost. What the device
//! will answer is worked out inside the model when a descriptor is submitted, from a table of answers when it has
//! been asked before; the answer becomes visible when the device would have given it. So the time between is
//! the device's by calibration and the program's own for real. A benchmark takes its times from [`thread_time`].
//! There is one such time in a process, and it holds for one thread that submits: were there two, what one does while
//! the other is in the model would cost nothing.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
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

/// A gap between two looks at the clock after which it is asked whether the thread ran: longer than what a program
/// does between two looks, shorter than the kernel lets others run.
const GAP: Nanos = 5_000;

/// The clocks are compared at least so often, so that it does not matter if they differ by some millionths.
const COMPARE_EVERY: Nanos = 1_000_000;

/// How far the process's time is behind the wall's.
static STOPPED: AtomicI64 = AtomicI64::new(0);

/// The latest time that anyone was told.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// The looks of one thread.
#[derive(Clone, Copy, Default)]
struct Looks {
    last: Nanos,
    /// When wall time and the thread's CPU time were compared, by both.
    compared: Option<(Nanos, Nanos)>,
}

thread_local! {
    static LOOKS: Cell<Looks> = const { Cell::new(Looks { last: 0, compared: None }) };
}

/// How many models there are on this clock.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// Of a model on the replay clock, as long as there is one.
pub(crate) struct InUse(());

impl InUse {
    pub(crate) fn new() -> InUse {
        IN_USE.fetch_add(1, Ordering::Relaxed);
        InUse(())
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        IN_USE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Time from an arbitrary start: wall time without the time inside models on the replay clock, and without the time
/// that the thread was kept from running; plus the cost of submitting to such models. While the process has no such
/// model, it is wall time and nothing else, which is ahead by what an earlier model stopped: what is measured begins
/// and ends with a model or without.
pub fn thread_time() -> Duration {
    Duration::from_nanos(if IN_USE.load(Ordering::Relaxed) != 0 { now() } else { wall() })
}

/// Time that was spent inside models, less what submitting to them costs; and time that the thread was kept from
/// running. It stays what it is while there is no model.
pub fn thread_stopped() -> Duration {
    Duration::from_nanos(STOPPED.load(Ordering::Relaxed).max(0).unsigned_abs())
}

/// The replay clock's time.
pub(crate) fn now() -> Nanos {
    at(look())
}

fn at(wall: Nanos) -> Nanos {
    let time = wall.saturating_add_signed(-STOPPED.load(Ordering::Relaxed));
    // Threads that are in models at once stop time for each other twice; it must not go back for that.
    let latest = LATEST.load(Ordering::Relaxed).max(time);
    LATEST.store(latest, Ordering::Relaxed);
    latest
}

/// Wall time; what the thread was kept from running since its last look is stopped time.
fn look() -> Nanos {
    let wall = wall();
    LOOKS.with(|cell| {
        let looks = cell.get();
        let compared = looks.compared.map_or(0, |(wall, _)| wall);
        if wall.saturating_sub(looks.last) < GAP && wall.saturating_sub(compared) < COMPARE_EVERY {
            cell.set(Looks { last: wall, ..looks });
            return wall;
        }
        compare(cell, looks)
    })
}

#[cold]
fn compare(cell: &Cell<Looks>, looks: Looks) -> Nanos {
    let (wall, cpu, asking) = both_clocks();
    if let Some((wall_then, cpu_then)) = looks.compared {
        let kept = (wall - wall_then).saturating_sub(cpu.saturating_sub(cpu_then));
        // Less is how far the two clocks can be apart, or an interrupt.
        let kept = if kept < 2 * TOGETHER { 0 } else { kept };
        STOPPED.fetch_add((kept + asking).cast_signed(), Ordering::Relaxed);
    }
    cell.set(Looks { last: wall, compared: Some((wall, cpu)) });
    wall
}

/// Two readings of clocks that are no farther apart than this are of the same time.
const TOGETHER: Nanos = 1_000;

/// Wall time and CPU time of one moment, and what the last asking took. The kernel likes to run somebody else
/// at the end of a system call; then both are read again.
fn both_clocks() -> (Nanos, Nanos, Nanos) {
    let mut apart = TOGETHER;
    loop {
        let (before, cpu, after) = (wall(), thread_cpu(), wall());
        if after - before < apart {
            return (after, cpu, after - before);
        }
        // Where system calls are slow, so be it.
        apart += apart / 8;
    }
}

/// CPU time of this thread in nanoseconds.
fn thread_cpu() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct it is given; Linux has this clock.
    #[allow(unsafe_code)]
    unsafe {
        libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time);
    }
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Time stands still until [`Section::leave`].
pub(crate) struct Section {
    entered: Nanos,
}

impl Section {
    pub(crate) fn enter() -> Section {
        Section { entered: look() }
    }

    /// The time at which it stands still.
    pub(crate) fn now(&self) -> Nanos {
        at(self.entered)
    }

    /// Time goes on, `charge` later than it stood still.
    pub(crate) fn leave(self, charge: Nanos) {
        self.leave_with(charge, overhead());
    }

    fn leave_with(self, charge: Nanos, overhead: Nanos) {
        let mut left = wall();
        LOOKS.with(|cell| {
            let mut looks = cell.get();
            if left - self.entered >= GAP {
                // Whether the thread ran in here is no question, so it must not be asked later.
                let (wall, cpu, _) = both_clocks();
                looks.compared = Some((wall, cpu));
                left = wall;
            }
            cell.set(Looks { last: left, ..looks });
        });
        let inside = (left - self.entered + overhead).cast_signed() - charge.cast_signed();
        STOPPED.fetch_add(inside, Ordering::Relaxed);
    }
}

/// What a section costs besides what it measures itself: the ends of its two looks at the clock, and its sums.
fn overhead() -> Nanos {
    static OVERHEAD: OnceLock<Nanos> = OnceLock::new();
    *OVERHEAD.get_or_init(|| {
        // The least of many: what comes on top now and then is the machine's doing.
        let least = (0..200).map(|_| {
            let start = now();
            (0..100).for_each(|_| Section::enter().leave_with(0, 0));
            (now() - start) / 100
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
#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every x86-64 CPU has RDTSC; Linux does not forbid it to user space unless asked to.
    #[allow(unsafe_code)]
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
}

/// Never asked: no clock source of these is called `tsc`.
#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    0
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
    fn wall_time_is_the_systems() {
        let (wall_before, before) = (wall(), Instant::now());
        std::thread::sleep(Duration::from_millis(30));
        let (passed, expected) = (wall() - wall_before, before.elapsed().as_nanos() as u64);
        assert!(passed.abs_diff(expected) < expected / 100, "{passed} ns, not {expected}");
    }
}
