//! The queues and engines of one device in time, whatever it is that waits in them.
//!
//! The model's ops carry descriptors that are executed; those of a simulation of many submitters carry no more than who
//! waits. Both are taken, served and timed here, so that there is one definition of when a device answers.
//!
//! An op has an entry of its queue until an engine of the queue's group takes it. The engine is busy for the transfer,
//! the data path that all engines share for its part of it, and the record follows a base latency later.

use idxd_sys::Descriptor;

use super::config::{DeviceConfig, QueueId};
use super::queue::{Iotlb, Queue, next_to_serve};
use crate::Timing;
use crate::timing::Nanos;

/// What an op asks of the engine that takes it.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'d> {
    /// What is to be done.
    pub descriptor: &'d Descriptor,
    /// Bytes of its output, if known.
    pub output: Option<u32>,
    /// Times as long as usual.
    pub slow: u64,
    /// Nanoseconds that the engine stands still for it.
    pub stall: u64,
    /// Whether its submitter is of another package than the device.
    pub remote: bool,
    /// Where chance has a say: a number that looks random.
    pub chance: u64,
}

impl<'d> Demand<'d> {
    /// `descriptor` from the device's own package, with nothing in its way.
    pub fn of(descriptor: &'d Descriptor) -> Demand<'d> {
        Demand { descriptor, output: None, slow: 1, stall: 0, remote: false, chance: 0 }
    }
}

/// An op that an engine has taken.
#[derive(Debug)]
pub struct Begun<T> {
    /// The op.
    pub op: T,
    /// The engine's group.
    pub group: usize,
    /// When the engine is idle again, in nanoseconds.
    pub idle_at: u64,
    /// When the op's record is there.
    pub record_at: u64,
}

/// The queues and engines of a device.
pub struct Engines<T> {
    pub(super) queues: Vec<Queue<T>>,
    /// Idle engines of each group.
    idle: Vec<usize>,
    /// When the data path that all engines share is free again.
    path_free: Nanos,
    iotlb: Iotlb,
}

impl<T> Engines<T> {
    /// Those of device `number`, which is made as `config` says.
    pub fn new(number: u16, config: &DeviceConfig) -> Engines<T> {
        let queues = config.queues.iter().enumerate();
        Engines {
            queues: queues
                .map(|(queue, config)| Queue::new(QueueId::new(number, queue as u16), config.clone()))
                .collect(),
            idle: config.groups.clone(),
            path_free: 0,
            iotlb: Iotlb::default(),
        }
    }

    /// Puts `op` into a queue, if there is room.
    ///
    /// # Errors
    /// The op, when the queue is full, disabled, or not there.
    pub fn offer(&mut self, queue: usize, op: T) -> Result<(), T> {
        match self.queues.get_mut(queue) {
            Some(queue) if queue.enabled && queue.has_room() => {
                queue.waiting.push_back(op);
                Ok(())
            }
            _ => Err(op),
        }
    }

    /// Has an idle engine take what it is to take next at `now`; `None` if no engine is idle where something waits.
    pub fn begin(
        &mut self,
        now: u64,
        timing: &Timing,
        demand: impl FnOnce(&T) -> Demand<'_>,
    ) -> Option<Begun<T>> {
        let Engines { queues, idle, path_free, iotlb } = self;
        let serves = |(group, idle): (usize, &mut usize)| {
            if *idle == 0 {
                return None;
            }
            let queue = next_to_serve(queues, group)?;
            let op = queue.waiting.pop_front()?;
            queue.in_flight += 1;
            *idle -= 1;
            Some((group, op))
        };
        let (group, op) = idle.iter_mut().enumerate().find_map(serves)?;
        let mut demand = demand(&op);
        demand.stall += iotlb.translate(demand.descriptor, timing.iotlb_pages, timing.iotlb_miss);
        let (idle_at, record_at) = timing.serve(now, path_free, &demand);
        Some(Begun { op, group, idle_at, record_at })
    }

    /// An engine of `group` is idle again.
    pub fn idle_again(&mut self, group: usize) {
        self.idle[group] += 1;
    }

    /// Entries of a queue that are taken.
    pub fn occupancy(&self, queue: usize) -> usize {
        self.queues.get(queue).map_or(0, |queue| queue.waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use idxd_sys::opcode;

    use super::*;
    use crate::{Capabilities, QueueConfig};

    #[test]
    fn engines_share_the_data_path_and_two_of_them_fill_it() {
        let config = DeviceConfig::new(Capabilities::SPR, 0).with_queues([QueueConfig::dedicated(4)]);
        let mut engines = Engines::new(0, &config);
        let page = Descriptor { src1_size: 4096, ..Descriptor::new(opcode::COMPRESS, 0) };
        (0..4).for_each(|op| assert_eq!(engines.offer(0, (op, page)), Ok(())));
        assert_eq!(engines.offer(0, (4, page)), Err((4, page)), "four entries");
        let (engine, path) = Timing::SPR.service(&page, None);
        assert_eq!((engine, path), (2155, 1077));
        let begun = std::iter::from_fn(|| engines.begin(0, &Timing::SPR, |(_, page)| Demand::of(page)));
        let begun: Vec<_> = begun.map(|begun| (begun.op.0, begun.idle_at, begun.record_at)).collect();
        // Two run side by side; from there on it is one for each time on the path.
        let expected = [2155, 2155, 3 * 1077, 4 * 1077];
        assert_eq!(begun, [0, 1, 2, 3].map(|op| (op, expected[op], expected[op] + Timing::SPR.base)));
        assert_eq!(engines.occupancy(0), 0);
    }

    #[test]
    fn from_another_package_everything_takes_longer() {
        let page = Descriptor { src1_size: 4096, ..Descriptor::new(opcode::COMPRESS, 0) };
        let near = Timing::SPR.serve(0, &mut 0, &Demand::of(&page));
        let remote = Timing::SPR.serve(0, &mut 0, &Demand { remote: true, ..Demand::of(&page) });
        assert_eq!((near, remote), ((2155, 3155), (2155, 3155 + 150 + 300 + 323)));
    }
}
