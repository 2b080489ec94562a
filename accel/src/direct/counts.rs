//! What devices did and failed to do, in numbers.
//!
//! Channels count for themselves and add to the common counters at the end of a call: mostly the two that every
//! page moves, and the others only if any of them has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::under_way::{Column, Columns};
use crate::ForkGuard;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counts since the channels were made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct DeviceCounts {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        /// The common counters.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($name: AtomicU64,)*
            pub(crate) under_way: Columns,
        }

        impl Counters {
            /// Adds what a channel has counted, and clears it there.
            #[cold]
            pub(crate) fn add(&self, counts: &mut DeviceCounts) {
                $(if counts.$name != 0 {
                    self.$name.fetch_add(counts.$name, Ordering::Relaxed);
                    counts.$name = 0;
                })*
            }

            /// The counts so far.
            pub(crate) fn snapshot(&self) -> DeviceCounts {
                DeviceCounts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counts! {
    /// Descriptors that queues took.
    submitted,
    /// Descriptors that completed in time, with any status.
    completed,
    /// Times that a queue refused a descriptor because it was full.
    queue_full,
    /// Times that there was no credit for a queue.
    no_credit,
    /// Times that a queue refused because it is disabled, not permitted, or failed.
    refused,
    /// Pages that no queue took until the deadline.
    busy,
    /// Pages while there was no usable queue, or the channel had retired its share of ops.
    no_queue,
    /// Page faults that were answered by touching the page and submitting again.
    page_faults_touched,
    /// Pages that were given up for page faults.
    page_faults,
    /// Ops without a completion before the deadline.
    timed_out,
    /// Ops whose memory was retired: late ones, and those whose records cannot be true.
    retired_ops,
    /// Channels that gave up their engine because too many of their ops were retired.
    channels_exhausted,
    /// Channels that were dropped with retired ops, so that their memory is leaked.
    channels_leaked,
    /// Pages that ended with a bad status.
    bad_status,
    /// Pages that ended with an analytics error.
    analytics_errors,
    /// Pages whose record cannot be true, as in more output than there was room for.
    bad_records,
    /// Pages that were incompressible.
    incompressible,
    /// Pages whose symbols a device counted and the CPU made codes for.
    coded,
    /// Pages that were checked after compressing or decompressing, as the configuration asks.
    verified,
    /// Checked pages that were wrong.
    crc_mismatches,
    /// Quarantines begun.
    quarantines,
    /// Probes sent to queues whose quarantine was over.
    probes,
    /// Probes that did not come back in time.
    probes_failed,
    /// Searches for queues after the first.
    rescans,
    /// Calls in a child of fork.
    forked,
}

/// What one channel has counted during a call.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) submitted: u64,
    pub(crate) completed: u64,
    pub(crate) under_way: Arc<Column>,
    others: DeviceCounts,
    has_others: bool,
}

impl Tally {
    /// Nothing counted yet.
    pub(crate) fn new(counters: &Counters, guard: &ForkGuard) -> Tally {
        Tally {
            submitted: 0,
            completed: 0,
            under_way: counters.under_way.column(guard),
            others: DeviceCounts::default(),
            has_others: false,
        }
    }

    /// The counts that most calls leave alone.
    #[inline]
    pub(crate) fn others(&mut self) -> &mut DeviceCounts {
        self.has_others = true;
        &mut self.others
    }

    /// Adds all to the common counters, and clears it here.
    #[inline]
    pub(crate) fn flush(&mut self, counters: &Counters) {
        counters.submitted.fetch_add(self.submitted, Ordering::Relaxed);
        counters.completed.fetch_add(self.completed, Ordering::Relaxed);
        (self.submitted, self.completed) = (0, 0);
        if self.has_others {
            counters.add(&mut self.others);
            self.has_others = false;
        }
    }

    /// The last flush of a channel that goes.
    pub(crate) fn end(&mut self, counters: &Counters, guard: &ForkGuard) {
        self.flush(counters);
        counters.under_way.fold(&self.under_way, guard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_channels_add_up() {
        let counters = Counters::default();
        for _ in 0..2 {
            let mut counts = DeviceCounts { submitted: 3, forked: 1, ..DeviceCounts::default() };
            counters.add(&mut counts);
            assert_eq!(counts, DeviceCounts::default());
        }
        let mut tally = Tally::new(&counters, &ForkGuard::new().unwrap());
        tally.submitted += 1;
        tally.others().forked += 1;
        tally.flush(&counters);
        tally.flush(&counters);
        let expected = DeviceCounts { submitted: 7, forked: 3, ..DeviceCounts::default() };
        assert_eq!(counters.snapshot(), expected);
    }
}
