//! One work queue as all channels see it: what it is, how many descriptors it may still be given, and whether it
//! is to be trusted.
//!
//! # Credits
//!
//! As many descriptors as the queue has room for may be in flight from this process; a channel takes a credit for each
//! before it submits, and gives it back when the record is there. A shared queue may refuse all the same, because
//! other processes use it too. A dedicated queue never refuses, it drops; so the credits of ops that timed out on
//! one are kept back until a probe shows that the queue works, for their descriptors may still lie in it.
//!
//! # Quarantine
//!
//! A queue whose ops time out many times in a row, or whose submissions fail, is given nothing but a no-op each time
//! its quarantine is over; when one completes in time, the queue is back. Quarantines double while it does not.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::Portal;
use super::op::ProbeMemory;
use crate::NodeId;
use crate::discover::QueueMode;

/// What is known of a work queue before it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// `wq1.0`.
    pub name: String,
    /// The number of its device.
    pub device: u32,
    /// The node of its device, if known.
    pub nid: Option<NodeId>,
    /// Shared or dedicated.
    pub mode: QueueMode,
    /// Descriptors it holds.
    pub capacity: u32,
    /// 1 to 15; higher is served more often.
    pub priority: u32,
    /// Whether descriptors may ask the device to wait for a page.
    pub block_on_fault: bool,
    /// Whether descriptors may direct output into the cache.
    pub cache_control: bool,
    /// Whether the device makes dynamic Huffman codes by itself.
    pub header_generation: bool,
    /// Whether it compresses.
    pub compress: bool,
    /// Whether it decompresses.
    pub decompress: bool,
}

impl Default for QueueInfo {
    /// A shared queue of 16 entries that compresses and decompresses, with nothing that is optional.
    fn default() -> QueueInfo {
        QueueInfo {
            name: "wq0.0".to_owned(),
            device: 0,
            nid: None,
            mode: QueueMode::Shared,
            capacity: 16,
            priority: 10,
            block_on_fault: false,
            cache_control: false,
            header_generation: false,
            compress: true,
            decompress: true,
        }
    }
}

/// Makes a channel's own portal to an opened queue.
pub(crate) type MakePortal = dyn Fn() -> Box<dyn Portal> + Send + Sync;

/// An opened queue.
#[derive(Clone)]
pub struct Attachment {
    pub(crate) make: Arc<MakePortal>,
    pub(crate) how: String,
}

impl Attachment {
    /// A queue that is reached by the portals that `make` makes, one for each channel; `how` says how, for people.
    pub fn new<F>(how: &str, make: F) -> Attachment
    where
        F: Fn() -> Box<dyn Portal> + Send + Sync + 'static,
    {
        Attachment { make: Arc::new(make), how: how.to_owned() }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").field("how", &self.how).finish_non_exhaustive()
    }
}

/// What a queue is good for at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueState {
    /// It takes descriptors.
    Working,
    /// It gets no descriptors but a probe now and then.
    Quarantined,
    /// It was disabled, or its device is gone.
    Gone,
}

/// Values of [`Queue::until`] that are no times.
const WORKING: u64 = 0;
const GONE: u64 = u64::MAX;

/// The longest quarantine, in multiples of the first.
const LONGEST_QUARANTINE: u32 = 64;

/// One work queue, shared by all channels. Dropping it closes its file, unless ops on it were retired: then the
/// file is leaked, because the device may still be at work on them.
pub(crate) struct Queue {
    pub(crate) info: QueueInfo,
    pub(crate) attachment: Attachment,
    /// May be below zero for a moment, when two channels take the last ones at once.
    credits: AtomicI64,
    /// Credits of timed-out ops of a dedicated queue.
    kept_back: AtomicU32,
    time_outs_in_a_row: AtomicU32,
    /// When the quarantine ends, in nanoseconds of the portal's time; or one of the values above.
    until: AtomicU64,
    /// How long the next quarantine is, in multiples of the first.
    backoff: AtomicU32,
    retired: AtomicU32,
    /// The number of time-outs in a row that started the last quarantine; 0 if it had another cause.
    stopped_after: AtomicU32,
    /// Where probes are answered. One place for all of them: an answer to an earlier one is as good.
    pub(crate) probe: ProbeMemory,
}

impl Queue {
    /// A queue whose first probe was answered at `probe`.
    pub(crate) fn new(info: QueueInfo, attachment: Attachment, probe: ProbeMemory) -> Queue {
        Queue {
            credits: AtomicI64::new(info.capacity.into()),
            info,
            attachment,
            kept_back: AtomicU32::new(0),
            time_outs_in_a_row: AtomicU32::new(0),
            until: AtomicU64::new(WORKING),
            backoff: AtomicU32::new(1),
            retired: AtomicU32::new(0),
            stopped_after: AtomicU32::new(0),
            probe,
        }
    }

    /// Takes up to `wanted` credits.
    #[inline]
    pub(crate) fn take_credits(&self, wanted: usize) -> usize {
        let wanted = wanted as i64;
        let left = self.credits.fetch_sub(wanted, Ordering::Relaxed);
        if left >= wanted {
            return wanted as usize;
        }
        let got = left.max(0);
        self.credits.fetch_add(wanted - got, Ordering::Relaxed);
        got as usize
    }

    /// Gives credits back that were not used, or whose ops have completed.
    #[inline]
    pub(crate) fn give_credits(&self, credits: usize) {
        self.credits.fetch_add(credits as i64, Ordering::Relaxed);
    }

    /// An op has completed, in whatever way.
    #[inline]
    pub(crate) fn answered(&self) {
        self.give_credits(1);
        if self.time_outs_in_a_row.load(Ordering::Relaxed) != 0 {
            self.time_outs_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// An op's memory was retired.
    pub(crate) fn retired(&self) {
        self.retired.fetch_add(1, Ordering::Relaxed);
    }

    /// An op has not completed in time and was retired. True if that starts a quarantine, of which `after` in a row
    /// are the cause, and which lasts from `now` on for `quarantine`.
    pub(crate) fn timed_out(&self, now: u64, after: u32, quarantine: Duration) -> bool {
        self.retired();
        let mut starts = false;
        match self.info.mode {
            QueueMode::Shared => self.give_credits(1),
            // With half of its credits kept back, only a probe can tell whether the entries are free.
            QueueMode::Dedicated => {
                starts = self.kept_back.fetch_add(1, Ordering::Relaxed) + 1 >= (self.info.capacity / 2).max(1)
            }
        }
        let in_a_row = self.time_outs_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if starts || in_a_row >= after {
            return self.quarantine(now, quarantine, in_a_row);
        }
        false
    }

    /// Starts a quarantine for this many time-outs in a row, or for submissions that fail if there were none; false if
    /// there is one already, or the queue is gone.
    pub(crate) fn quarantine(&self, now: u64, quarantine: Duration, time_outs: u32) -> bool {
        let until = self.end_of_quarantine(now, quarantine);
        let starts =
            self.until.compare_exchange(WORKING, until, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if starts {
            self.stopped_after.store(time_outs, Ordering::Relaxed);
        }
        starts
    }

    fn end_of_quarantine(&self, now: u64, quarantine: Duration) -> u64 {
        let times = u64::from(self.backoff.load(Ordering::Relaxed));
        let length = nanos(quarantine).saturating_mul(times);
        now.saturating_add(length).clamp(WORKING + 1, GONE - 1)
    }

    /// Whether it takes descriptors.
    #[inline]
    pub(crate) fn is_working(&self) -> bool {
        self.until.load(Ordering::Relaxed) == WORKING
    }

    /// Whether it was put out of use.
    pub(crate) fn is_gone(&self) -> bool {
        self.until.load(Ordering::Relaxed) == GONE
    }

    /// What it is good for.
    pub(crate) fn state(&self) -> QueueState {
        match self.until.load(Ordering::Relaxed) {
            WORKING => QueueState::Working,
            GONE => QueueState::Gone,
            _ => QueueState::Quarantined,
        }
    }

    /// Puts it out of use for good; discovery may find it again, as another.
    pub(crate) fn set_gone(&self) {
        self.until.store(GONE, Ordering::Relaxed);
    }

    /// True for the one caller that is to send a probe, if the quarantine is over at `now`. Nobody else is until the
    /// probe's time, and then another quarantine, have passed; so a prober that never comes back does no harm.
    pub(crate) fn claim_probe(&self, now: u64, probe_timeout: Duration, quarantine: Duration) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        if until == WORKING || until == GONE || now < until {
            return false;
        }
        let again = self.end_of_quarantine(now.saturating_add(nanos(probe_timeout)), quarantine);
        self.until.compare_exchange(until, again, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The probe completed in time: the queue is back, with all its credits.
    pub(crate) fn probe_passed(&self) {
        self.time_outs_in_a_row.store(0, Ordering::Relaxed);
        self.backoff.store(1, Ordering::Relaxed);
        self.give_credits(self.kept_back.swap(0, Ordering::Relaxed) as usize);
        let until = self.until.load(Ordering::Relaxed);
        if until != GONE {
            _ = self.until.compare_exchange(until, WORKING, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The probe was refused or did not complete in time: the next quarantine is longer.
    pub(crate) fn probe_failed(&self) {
        let backoff = self.backoff.load(Ordering::Relaxed);
        self.backoff.store((backoff * 2).min(LONGEST_QUARANTINE), Ordering::Relaxed);
    }

    /// What to say of it, for people: `wq1.0 on node 0 by ENQCMD, 16 entries`.
    pub(crate) fn describe(&self) -> String {
        let QueueInfo { name, nid, capacity, .. } = &self.info;
        let node = nid.map_or(String::new(), |nid| format!(" on node {nid}"));
        let how = &self.attachment.how;
        match self.state() {
            QueueState::Working => format!("{name}{node}, {capacity} entries, by {how}"),
            QueueState::Quarantined => match self.stopped_after.load(Ordering::Relaxed) {
                0 => format!("work queue {name}{node} stopped: submissions fail; probed now and then"),
                times => format!(
                    "work queue {name}{node} stopped: {times} time-outs in a row; probed now and then"
                ),
            },
            QueueState::Gone => format!("work queue {name}{node} is disabled, or its device is gone"),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if *self.retired.get_mut() != 0 || self.probe.is_unanswered() {
            std::mem::forget(Arc::clone(&self.attachment.make));
        }
    }
}

/// A duration as this module's times are kept.
#[inline]
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARANTINE: Duration = Duration::from_nanos(1000);

    fn queue(mode: QueueMode, capacity: u32) -> Queue {
        let attachment = Attachment::new("nothing", || unreachable!("no portal is made here"));
        let guard = Arc::new(crate::ForkGuard::new().unwrap());
        let probe = ProbeMemory::new(&guard).unwrap();
        Queue::new(QueueInfo { mode, capacity, ..QueueInfo::default() }, attachment, probe)
    }

    #[test]
    fn credits_are_as_many_as_the_queue_holds() {
        let queue = queue(QueueMode::Shared, 10);
        assert_eq!([queue.take_credits(6), queue.take_credits(6), queue.take_credits(6)], [6, 4, 0]);
        queue.give_credits(3);
        assert_eq!(queue.take_credits(10), 3);
    }

    #[test]
    fn credits_of_lost_ops_of_a_dedicated_queue_come_back_with_a_probe_only() {
        let queue = queue(QueueMode::Dedicated, 8);
        assert_eq!(queue.take_credits(8), 8);
        for _ in 0..3 {
            assert!(!queue.timed_out(5, 16, QUARANTINE));
            queue.time_outs_in_a_row.store(0, Ordering::Relaxed);
        }
        assert_eq!(queue.take_credits(8), 0, "their descriptors may still lie in the queue");
        assert!(queue.timed_out(5, 16, QUARANTINE), "half of them are lost");
        assert!(queue.claim_probe(1005, QUARANTINE, QUARANTINE));
        queue.probe_passed();
        assert_eq!(queue.take_credits(8), 4);
    }

    #[test]
    fn time_outs_in_a_row_stop_a_queue_and_one_answer_forgives_them() {
        let queue = queue(QueueMode::Shared, 8);
        assert!(!queue.timed_out(0, 3, QUARANTINE) && !queue.timed_out(0, 3, QUARANTINE));
        queue.answered();
        assert!(!queue.timed_out(0, 3, QUARANTINE) && !queue.timed_out(0, 3, QUARANTINE));
        assert!(queue.is_working());
        assert!(queue.timed_out(0, 3, QUARANTINE) && !queue.is_working());
        assert_eq!(queue.describe(), "work queue wq0.0 stopped: 3 time-outs in a row; probed now and then");
    }

    #[test]
    fn one_channel_probes_and_quarantines_double_until_it_succeeds() {
        let queue = queue(QueueMode::Shared, 8);
        assert!(queue.quarantine(0, QUARANTINE, 0) && !queue.quarantine(0, QUARANTINE, 0));
        assert!(!queue.claim_probe(999, QUARANTINE, QUARANTINE));
        assert!(queue.claim_probe(1000, QUARANTINE, QUARANTINE));
        assert!(!queue.claim_probe(1000, QUARANTINE, QUARANTINE), "somebody else probes");
        queue.probe_failed();
        assert!(queue.claim_probe(3000, QUARANTINE, QUARANTINE));
        assert!(!queue.claim_probe(5999, QUARANTINE, QUARANTINE), "a probe's time and two quarantines");
        assert!(queue.claim_probe(6000, QUARANTINE, QUARANTINE));
        queue.probe_passed();
        assert!(queue.is_working());
        queue.set_gone();
        queue.probe_passed();
        assert_eq!(queue.state(), QueueState::Gone);
    }
}
