//! Times calls into the store, and nothing else.
//!
//! Calls are timed in chunks of about 64 pages. The wall clock is read once between two calls, which gives the
//! latency of each; the thread's CPU clock, a system call, only around the chunk. What happens between chunks
//! (preparing folios, comparing pages with their source) is in no number.
//!
//! With a modelled device on the replay clock, time stands still inside the model and while the thread is kept from
//! running; otherwise it is the wall's.

use std::time::Duration;

use hdrhistogram::Histogram;
use iaa_model::{thread_stopped, thread_time};

use crate::os::thread_cpu_time;

/// Pages to a chunk: 256 KiB of pages, so that both the answers and their source stay in a second-level cache.
pub(crate) const CHUNK_PAGES: usize = 64;

/// Time of one thread in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lap {
    pub(crate) pages: u64,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// A thread's clock. Reads of the clock between calls (some 10 ns each) are part of what it measures.
pub(crate) struct Stopwatch {
    lap: Lap,
    calls: Histogram<u64>,
    stamps: Vec<Duration>,
}

impl Stopwatch {
    pub(crate) fn new() -> Self {
        // The first look at the clock sets it, which takes a while.
        thread_time();
        Self { lap: Lap::default(), calls: call_histogram(), stamps: Vec::with_capacity(CHUNK_PAGES + 1) }
    }

    /// Times `calls` calls that move `pages` pages together.
    pub(crate) fn chunk(&mut self, calls: usize, pages: u64, mut call: impl FnMut(usize)) {
        self.stamps.clear();
        let cpu = thread_cpu_time();
        let stopped = thread_stopped();
        let start = thread_time();
        self.stamps.push(start);
        for index in 0..calls {
            call(index);
            self.stamps.push(thread_time());
        }
        let stopped = thread_stopped().saturating_sub(stopped);
        self.lap.cpu += (thread_cpu_time() - cpu).saturating_sub(stopped);
        self.lap.wall += *self.stamps.last().expect("the start is there") - start;
        self.lap.pages += pages;
        for pair in self.stamps.windows(2) {
            self.calls.saturating_record((pair[1] - pair[0]).as_nanos() as u64);
        }
    }

    /// Ends a pass: its time, and the latency of its calls in nanoseconds.
    pub(crate) fn finish(&mut self) -> (Lap, Histogram<u64>) {
        let calls = self.calls.clone();
        self.calls.reset();
        (std::mem::take(&mut self.lap), calls)
    }
}

/// Nanoseconds from 1 to a minute, to three digits.
pub(crate) fn call_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("1 ns to a minute at 3 digits is a valid range")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn each_call_is_counted_and_what_happens_between_chunks_is_not() {
        let mut watch = Stopwatch::new();
        let start = Instant::now();
        for _ in 0..3 {
            watch.chunk(2, 8, |_| std::thread::sleep(Duration::from_millis(2)));
            std::thread::sleep(Duration::from_millis(40));
        }
        let elapsed = start.elapsed();
        let (lap, calls) = watch.finish();
        assert_eq!((lap.pages, calls.len()), (24, 6));
        assert!(calls.min() >= 1_990_000, "{}", calls.min());
        assert!(lap.wall >= Duration::from_millis(12), "{:?}", lap.wall);
        assert!(lap.wall + Duration::from_millis(120) <= elapsed, "{:?} of {elapsed:?}", lap.wall);
        assert!(lap.cpu < lap.wall);
        let (lap, calls) = watch.finish();
        assert_eq!((lap.pages, calls.len()), (0, 0));
    }
}
