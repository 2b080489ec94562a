//! How a thread offers its pages to queues: whose turn it is, what credits allow, and what a full queue does.
//!
//! [`Crowd`] comes here with each page that is ready, and takes over again when it is to fill or to wait.

use idxd_sys::{Descriptor, flags, opcode};

use super::Crowd;
use crate::bench::Queues;
use crate::simulate::submitter::{Kind, Nanos, Phase, Slot, Step};

/// What waits in a device's queue.
pub(super) struct Op {
    pub(super) thread: u16,
    pub(super) seq: u64,
    pub(super) offered: Nanos,
    pub(super) remote: bool,
    pub(super) stall: Nanos,
    pub(super) chance: u64,
    pub(super) descriptor: Descriptor,
}

impl Crowd {
    /// Offers the next page that is ready to the queue whose turn it is and that the process has credits for.
    pub(super) fn submit(&mut self, thread: u16) {
        let of = &mut self.threads[usize::from(thread)];
        let ready = of.slots.iter().filter(|slot| slot.phase == Phase::Ready).count();
        if ready == 0 {
            of.refused = 0;
            return self.fill_or_wait(thread);
        }
        let cost = self.timing.submission(self.method, 0);
        let process = usize::from(of.process);
        if of.run.1 > 0 && self.credits[process][usize::from(of.run.0)] > 0 {
            let device = of.run.0;
            of.run.1 -= 1;
            self.credits[process][usize::from(device)] -= 1;
            return self.then(thread, cost, Step::Arrive(device));
        }
        // All queues get the same share of what is ready.
        if of.share == 0 {
            of.share = ready.div_ceil(of.devices.len()) as u32;
        }
        for _ in of.refused..of.devices.len() {
            let device = of.devices[of.turn];
            of.turn = (of.turn + 1) % of.devices.len();
            if self.credits[process][usize::from(device)] == 0 {
                of.refused += 1;
                continue;
            }
            of.run = (device, of.share - 1);
            self.credits[process][usize::from(device)] -= 1;
            return self.then(thread, cost, Step::Arrive(device));
        }
        (of.refused, of.share) = (0, 0);
        self.fill_or_wait(thread);
    }

    /// How many more pages of its call a thread can have under way.
    pub(super) fn room(&self, thread: u16) -> usize {
        let of = &self.threads[usize::from(thread)];
        let window = match of.kind {
            Kind::Store => usize::from(self.setting.window),
            Kind::Load => 1,
        };
        (window - of.slots.len()).min(of.left as usize)
    }

    fn fill_or_wait(&mut self, thread: u16) {
        let step = if self.room(thread) > 0 { Step::Fill } else { Step::Wait };
        self.then(thread, 0, step);
    }

    /// A descriptor is at the queue.
    pub(super) fn arrive(&mut self, thread: u16, device: u16) {
        let chance = self.random.next();
        let at = usize::from(thread);
        let of = &self.threads[at];
        let place = of.slots.iter().position(|slot| slot.phase == Phase::Ready).expect("it was offered");
        let (process, seq) = (of.process, of.tail + place as u64);
        let faults = self.faults != 0 && self.random.below(1_000_000) < self.faults;
        let op = Op {
            thread,
            seq,
            offered: self.now,
            remote: self.device_packages[usize::from(device)] != self.threads[at].package,
            stall: if faults { self.timing.page_request(chance) } else { 0 },
            chance,
            descriptor: self.descriptor(thread, seq),
        };
        let queue = match self.setting.queues {
            Queues::Shared => 0,
            Queues::Dedicated => usize::from(process),
        };
        match self.devices[usize::from(device)].offer(queue, op) {
            Ok(()) => {
                self.count_in_flight(1);
                self.figures.taken += 1;
                let of = &mut self.threads[at];
                of.slots[place] = Slot { phase: Phase::InFlight, device };
                (of.refused, of.deadline) = (0, None);
                self.dispatch(device);
            }
            Err(_) => {
                self.figures.queue_full += 1;
                self.credits[usize::from(process)][usize::from(device)] += 1;
                let of = &mut self.threads[at];
                of.refused += 1;
                of.run = (0, 0);
            }
        }
        self.submit(thread);
    }

    /// A page's descriptor. Addresses are as a program's: pages all over its memory, results in a channel's own buffers.
    fn descriptor(&mut self, thread: u16, seq: u64) -> Descriptor {
        const BUFFERS: u64 = 1 << 40;
        self.page += 1;
        let place = (u64::from(thread) << 8) + seq % u64::from(self.setting.window.next_power_of_two()) + 1;
        let code = match self.threads[usize::from(thread)].kind {
            Kind::Store => opcode::COMPRESS,
            Kind::Load => opcode::DECOMPRESS,
        };
        Descriptor {
            src1_addr: self.page << 12,
            src1_size: if code == opcode::COMPRESS { 4096 } else { 1400 },
            dst_addr: BUFFERS + (place << 12),
            max_dst_size: 4096,
            completion_addr: BUFFERS * 2 + (place << 6),
            ..Descriptor::new(code, flags::op::COMPLETION_ADDR_VALID | flags::op::REQUEST_COMPLETION)
        }
    }
}
