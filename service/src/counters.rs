//! Counters that many threads change: each thread on cache lines of its own, summed when asked.

use std::sync::atomic::{AtomicU64, Ordering};

use zfolio_accel::thread_index;

const STRIPES: usize = 16;

/// What is counted. Gauges go down too; their stripes wrap around, and only the sum means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Counter {
    /// Gauge: zero pages in the store.
    ZeroPages,
    /// Gauge: other same-filled pages in the store.
    SameFilledPages,
    /// Gauge: pages kept as they are.
    IncompressiblePages,
    /// Gauge: pages whose bytes are not on their home node.
    MisplacedPages,
    /// Gauge: bytes of their objects.
    MisplacedBytes,
    /// Gauge: pages that were written back and are remembered to be on the swap device.
    OnDevicePages,
    /// Same-filled pages stored; the lists count the others.
    SameFilledOut,
    /// Same-filled pages loaded or read.
    SameFilledIn,
    RejectFull,
    RejectCompressPoor,
    RejectAllocFail,
    RejectPlacement,
    RejectBusy,
    CorruptLoads,
    /// Pages written to a swap device and freed.
    WrittenBackPages,
    /// Pages that were to be written back and were not.
    RejectReclaimFail,
    /// Pages that a store or load took while they were being written.
    ReclaimRaces,
    /// Loads and reads of pages that were on the swap device by then.
    DiskSwapins,
    /// Pages read from a swap device.
    DeviceReads,
    /// Pages written past the store.
    DeviceWrites,
}

const COUNTERS: usize = Counter::DeviceWrites as usize + 1;

/// One counter.
#[derive(Default)]
pub(crate) struct Striped {
    stripes: [Line; STRIPES],
}

#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

impl Striped {
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.stripes[thread_index() % STRIPES].0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.stripes.iter().map(|line| line.0.load(Ordering::Relaxed)).sum()
    }
}

#[repr(align(128))]
#[derive(Default)]
struct Stripe([AtomicU64; COUNTERS]);

#[derive(Default)]
pub(crate) struct Counters {
    stripes: [Stripe; STRIPES],
}

impl Counters {
    #[inline]
    pub(crate) fn add(&self, counter: Counter, n: u64) {
        self.stripes[thread_index() % STRIPES].0[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn sub(&self, counter: Counter, n: u64) {
        self.stripes[thread_index() % STRIPES].0[counter as usize].fetch_sub(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, counter: Counter) -> u64 {
        let sum =
            |sum: u64, stripe: &Stripe| sum.wrapping_add(stripe.0[counter as usize].load(Ordering::Relaxed));
        self.stripes.iter().fold(0, sum)
    }
}
