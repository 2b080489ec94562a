//! One work queue: what it takes, what waits in it, and what it latched.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use idxd_sys::Descriptor;

use super::config::{Mode, QueueConfig, QueueId};
use crate::fault_plan::Effects;
use crate::replay::Answer;
use crate::timing::Nanos;

/// What becomes of an error that has no record to be told in: the queue's device latches it, its `errors` in sysfs has it,
/// and poll(2) on the queue's file answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SoftwareError {
    /// A dedicated queue was full; the descriptor is lost.
    Overflow(QueueId),
    /// The queue was disabled; the descriptor is lost.
    Disabled(QueueId),
    /// The completion record's address is not a multiple of 64.
    CompletionAlignment(QueueId, u64),
    /// The completion record's address is not to be written.
    CompletionFault(QueueId, u64),
    /// A descriptor failed that has no completion record; its status.
    NoRecord(QueueId, u8),
}

impl SoftwareError {
    /// The queue it is of.
    pub fn queue(self) -> QueueId {
        match self {
            SoftwareError::Overflow(queue)
            | SoftwareError::Disabled(queue)
            | SoftwareError::CompletionAlignment(queue, _)
            | SoftwareError::CompletionFault(queue, _)
            | SoftwareError::NoRecord(queue, _) => queue,
        }
    }
}

impl fmt::Display for SoftwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SoftwareError::Overflow(queue) => write!(f, "wq{queue}: descriptor lost: the queue was full"),
            SoftwareError::Disabled(queue) => write!(f, "wq{queue}: descriptor lost: the queue is disabled"),
            SoftwareError::CompletionAlignment(queue, addr) => {
                write!(f, "wq{queue}: completion record at {addr:#x}, which is not a multiple of 64")
            }
            SoftwareError::CompletionFault(queue, addr) => {
                write!(f, "wq{queue}: completion record at {addr:#x} cannot be written")
            }
            SoftwareError::NoRecord(queue, status) => {
                write!(f, "wq{queue}: status {status:#04x} of a descriptor without a completion record")
            }
        }
    }
}

/// A descriptor that was taken.
pub(super) struct Op {
    pub(super) queue: QueueId,
    pub(super) descriptor: Descriptor,
    pub(super) effects: Effects,
    /// What comes of it, if that is known already.
    pub(super) answer: Option<Arc<Answer>>,
}

/// A queue's answer.
pub(super) enum Accepted {
    Taken,
    Full,
    /// Posted, and lost.
    Lost(SoftwareError),
    Disabled,
}

/// A queue of ops of some kind.
pub(super) struct Queue<T> {
    pub(super) id: QueueId,
    pub(super) config: QueueConfig,
    pub(super) enabled: bool,
    /// Entries taken: a descriptor has one until an engine takes it.
    pub(super) waiting: VecDeque<T>,
    /// Descriptors an engine has, or whose record is still to come.
    pub(super) in_flight: usize,
    /// How long it has been passed over, weighted by priority.
    credit: i64,
}

impl<T> Queue<T> {
    pub(super) fn new(id: QueueId, config: QueueConfig) -> Queue<T> {
        Queue { id, enabled: config.enabled, config, waiting: VecDeque::new(), in_flight: 0, credit: 0 }
    }

    /// Whether an entry is free for a submitter.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < self.config.capacity()
    }

    /// Whether there is room, and what becomes of a descriptor if not; `full` makes it look full. With `posted`
    /// the submitter learns nothing.
    pub(super) fn admit(&self, full: bool, posted: bool) -> Accepted {
        if !self.enabled {
            return if posted {
                Accepted::Lost(SoftwareError::Disabled(self.id))
            } else {
                Accepted::Disabled
            };
        }
        if !full && self.has_room() {
            return Accepted::Taken;
        }
        match self.config.mode {
            Mode::Shared => Accepted::Full,
            Mode::Dedicated => Accepted::Lost(SoftwareError::Overflow(self.id)),
        }
    }
}

/// The queue of `queues` that an idle engine of `group` serves next: smooth weighted round robin by priority
/// among those where something waits.
pub(super) fn next_to_serve<T>(queues: &mut [Queue<T>], group: usize) -> Option<&mut Queue<T>> {
    let mut total = 0;
    let mut best: Option<usize> = None;
    for index in 0..queues.len() {
        let queue = &mut queues[index];
        if queue.config.group != group || queue.waiting.is_empty() {
            continue;
        }
        let priority = i64::from(queue.config.priority.max(1));
        total += priority;
        queue.credit += priority;
        if best.is_none_or(|best| queues[index].credit > queues[best].credit) {
            best = Some(index);
        }
    }
    let queue = &mut queues[best?];
    queue.credit -= total;
    Some(queue)
}

/// The pages whose translations a device remembers: the last `capacity` that it met.
#[derive(Default)]
pub(super) struct Iotlb {
    pages: VecDeque<u64>,
}

impl Iotlb {
    /// What translating the areas of `descriptor` takes.
    pub(super) fn translate(&mut self, descriptor: &Descriptor, capacity: usize, miss: Nanos) -> Nanos {
        if capacity == 0 || miss == 0 {
            return 0;
        }
        let areas = [
            (descriptor.src1_addr, descriptor.src1_size),
            (descriptor.dst_addr, descriptor.max_dst_size),
            (descriptor.src2_addr, descriptor.src2_size),
            (descriptor.completion_addr, 64),
        ];
        let mut misses = 0;
        for (addr, len) in areas.into_iter().filter(|&(addr, len)| addr != 0 && len != 0) {
            for page in addr >> 12..=addr.saturating_add(u64::from(len) - 1) >> 12 {
                if let Some(place) = self.pages.iter().position(|&known| known == page) {
                    self.pages.remove(place);
                } else {
                    misses += 1;
                    if self.pages.len() >= capacity {
                        self.pages.pop_front();
                    }
                }
                self.pages.push_back(page);
            }
        }
        misses * miss
    }
}
