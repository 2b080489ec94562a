//! What a simulated crowd did.

use hdrhistogram::Histogram;

use super::submitter::Nanos;

/// Times of calls, and counts, from the end of the warm-up on.
pub(crate) struct Figures {
    /// Simulated nanoseconds.
    pub(crate) elapsed: Nanos,
    pub(crate) stored: u64,
    pub(crate) loaded: u64,
    pub(crate) store_calls: Histogram<u64>,
    pub(crate) loads: Histogram<u64>,
    /// Descriptors that queues took, and whose records came.
    pub(crate) taken: u64,
    pub(crate) completed: u64,
    /// The time that they were in the devices, summed; and the same by adding up how many there were.
    pub(crate) sojourn: u128,
    pub(crate) in_flight_time: u128,
    /// How long data paths were in use, of all devices together.
    pub(crate) path: u128,
    /// How long threads waited, of all threads together.
    pub(crate) waited: u128,
    pub(crate) queue_full: u64,
    pub(crate) software: u64,
    /// Pages and threads, of the devices' packages and of others.
    pub(crate) near: (u64, u64),
    pub(crate) remote: (u64, u64),
}

impl Figures {
    pub(super) fn new() -> Figures {
        let histogram =
            || Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are in order");
        Figures {
            elapsed: 0,
            stored: 0,
            loaded: 0,
            store_calls: histogram(),
            loads: histogram(),
            taken: 0,
            completed: 0,
            sojourn: 0,
            in_flight_time: 0,
            path: 0,
            waited: 0,
            queue_full: 0,
            software: 0,
            near: (0, 0),
            remote: (0, 0),
        }
    }
}
