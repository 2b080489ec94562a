//! A channel's ends of the queues that it may use.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use super::counts::Tally;
use super::probe::{self, Probed};
use super::queue::{Queue, nanos};
use super::queue_table::QueueTable;
use super::shape::{Kind, Shapes};
use super::{DirectConfig, Huffman, Portal, Refusal};
use crate::Purpose;

/// A channel's end of one queue.
pub(crate) struct End {
    pub(crate) queue: Arc<Queue>,
    pub(crate) shapes: Shapes,
    pub(crate) portal: Box<dyn Portal>,
    /// Until when the answer to a probe of ours is waited for.
    probing: Option<u64>,
}

impl End {
    /// The portal's time in nanoseconds.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        nanos(self.portal.now())
    }
}

/// A channel's ends of all queues of its package and purpose.
pub(crate) struct Attached {
    pub(crate) ends: Vec<End>,
    /// The end whose turn it is.
    turn: usize,
    /// The table's generation that the ends are of.
    generation: u64,
    /// How long an op may take, in nanoseconds.
    pub(crate) timeout: u64,
    /// How long a queue may stay full, in nanoseconds.
    pub(crate) busy_timeout: u64,
    /// How many pages are best submitted at once.
    pub(crate) batch: usize,
    /// What a page that is to be compressed is begun as.
    pub(crate) first_step: Kind,
    /// Whether something is to be seen to before the next call: a queue that does not work, or a probe.
    pub(crate) attention: bool,
    config: DirectConfig,
    package: u16,
    purpose: Purpose,
}

impl Attached {
    /// No ends yet.
    pub(crate) fn new(table: &QueueTable, package: u16, purpose: Purpose) -> Attached {
        Attached {
            ends: Vec::new(),
            turn: 0,
            generation: 0,
            timeout: nanos(table.config.timeout),
            busy_timeout: nanos(table.config.busy_timeout),
            batch: 1,
            first_step: Kind::Compress,
            attention: true,
            config: table.config,
            package,
            purpose,
        }
    }

    /// Makes the ends those of the table's present queues, and sees to queues that do not work. Nothing is in
    /// flight.
    #[inline]
    pub(crate) fn refresh(&mut self, table: &QueueTable, counts: &mut Tally) {
        if self.generation != table.generation() {
            self.replace(table);
        }
        if self.attention {
            self.attend(table, counts);
        }
    }

    #[cold]
    fn replace(&mut self, table: &QueueTable) {
        let (generation, queues) = table.queues_for(self.package, self.purpose);
        self.generation = generation;
        let mut before = std::mem::take(&mut self.ends);
        for queue in queues.into_iter().take(usize::from(u16::MAX)) {
            self.ends.push(match before.iter().position(|end| Arc::ptr_eq(&end.queue, &queue)) {
                Some(index) => before.swap_remove(index),
                None => End {
                    shapes: Shapes::new(&queue.info, table.config.huffman),
                    portal: (queue.attachment.make)(),
                    probing: None,
                    queue,
                },
            });
        }
        self.turn = 0;
        self.batch = self.ends.iter().map(|end| end.portal.batch()).max().unwrap_or(1);
        let makes_none = self.ends.iter().any(|end| !end.queue.info.header_generation);
        let count = table.config.huffman == Huffman::Dynamic && makes_none;
        self.first_step = if count { Kind::Count } else { Kind::Compress };
        self.attention = self.ends.is_empty();
    }

    /// Probes queues whose quarantine is over, looks for answers, and has the table look for queues if one is gone or none
    /// works.
    #[cold]
    fn attend(&mut self, table: &QueueTable, counts: &mut Tally) {
        let config = &table.config;
        let mut gone = false;
        for end in &mut self.ends {
            let now = end.now();
            if let Some(until) = end.probing {
                match probe::answer(&end.queue.probe) {
                    Some(Probed::Done) => {
                        end.queue.probe_passed();
                        end.probing = None;
                    }
                    None if now < until => {
                        // Time that only goes on when someone waits must go on here too.
                        end.portal.pause(end.queue.probe.status());
                    }
                    _ => {
                        end.queue.probe_failed();
                        counts.others().probes_failed += 1;
                        end.probing = None;
                    }
                }
            } else if end.queue.claim_probe(now, config.probe_timeout, config.quarantine) {
                counts.others().probes += 1;
                match probe::send(&mut *end.portal, &end.queue.probe) {
                    None => end.probing = Some(now.saturating_add(nanos(config.probe_timeout))),
                    Some(refusal) => {
                        counts.others().probes_failed += 1;
                        end.queue.probe_failed();
                        if refusal == Refusal::Disabled {
                            end.queue.set_gone();
                        }
                    }
                }
            }
            gone |= end.queue.is_gone();
        }
        if gone || !self.any_working() {
            table.rescan_if_due();
        }
        self.attention = self.ends.is_empty()
            || self.ends.iter().any(|end| end.probing.is_some() || !end.queue.is_working());
        if self.generation != table.generation() {
            self.replace(table);
        }
    }

    /// The end whose turn it is; the next one's is the next.
    #[inline]
    pub(crate) fn next(&mut self) -> u16 {
        let number = self.turn;
        self.turn = if number + 1 < self.ends.len() { number + 1 } else { 0 };
        number as u16
    }

    /// Whether any queue takes descriptors.
    pub(crate) fn any_working(&self) -> bool {
        self.ends.iter().any(|end| end.queue.is_working())
    }

    /// The portals' time in nanoseconds; zero where there is none.
    pub(crate) fn now(&self) -> u64 {
        self.ends.first().map_or(0, End::now)
    }

    /// Lets the device of an op go on, or any device.
    pub(crate) fn pause(&mut self, number: Option<u16>, status: &AtomicU8) {
        if let Some(end) = self.ends.get_mut(usize::from(number.unwrap_or(0))) {
            end.portal.pause(status);
        }
    }

    /// A queue did not take a descriptor.
    #[cold]
    pub(crate) fn refused(&mut self, number: u16, refusal: Refusal, counts: &mut Tally) {
        let end = &self.ends[usize::from(number)];
        match refusal {
            Refusal::Full => {
                counts.others().queue_full += 1;
                return;
            }
            Refusal::Disabled => end.queue.set_gone(),
            Refusal::Denied | Refusal::Failed(_) => {
                counts.others().quarantines +=
                    u64::from(end.queue.quarantine(end.now(), self.config.quarantine, 0));
            }
        }
        counts.others().refused += 1;
        self.attention = true;
    }

    /// An op on a queue did not complete in time.
    pub(crate) fn timed_out(&mut self, number: u16, now: u64, counts: &mut Tally) {
        let queue = &self.ends[usize::from(number)].queue;
        let config = &self.config;
        if queue.timed_out(now, config.quarantine_after, config.quarantine) {
            counts.others().quarantines += 1;
            self.attention = true;
        }
    }
}
