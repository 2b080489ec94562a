//! The ops that are in flight: a ring, in the order in which their results are handed out.
//!
//! Ops enter at the head and leave at the tail. In between they are submitted, complete in any order, are
//! submitted again (after a page fault, to be compressed with codes of their own, or to be verified), or are given up. All waiting is for the op at the tail, and
//! has a deadline: that of the op if it is in flight, that of a busy queue if none takes it.

mod completion;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use idxd_sys::{Descriptor, status};

use super::Submitted;
use super::attached::Attached;
use super::counts::Tally;
use super::op::{OpMemories, OpMemory};
use super::shape::{Kind, Shapes};
use super::status::{COUNTS_SIZE, MAX_COMPRESSED, Verdict};
use crate::{EngineError, ForkGuard, PAGE_SIZE};

/// Retired ops that a channel may have. A mapping stays with any of its ops, so 0.3 MiB are leaked at most with a window of
/// 8, and 1.2 with one of 128 and codes of pages' own.
pub(crate) const MOST_RETIRED: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be submitted.
    Ready,
    /// With this queue.
    InFlight(u16),
    /// Decided.
    Done,
}

struct Op {
    phase: Phase,
    kind: Kind,
    touches: u8,
    /// Whether a result is to be verified.
    verify: bool,
    verdict: Verdict,
    /// In nanoseconds of the portals' time: when it is late, or no queue is waited for any more; 0 if not set yet, which
    /// it is when the op is first waited for, so that an op which is waited for by nobody costs no look at the clock.
    deadline: u64,
    /// The input, which a page fault may be in.
    input: (u64, u32),
    /// There until an op of this place is retired and no other memory is to be had.
    memory: Option<OpMemory>,
}

/// A ring of ops and their descriptors.
pub(crate) struct Window {
    ops: Box<[Op]>,
    /// As the ops, so that several can be submitted at once.
    descriptors: Box<[Descriptor]>,
    mask: usize,
    /// The oldest op that has not been handed out.
    tail: usize,
    /// One past the youngest.
    head: usize,
    /// No op before it is to be submitted.
    first_ready: usize,
    memories: OpMemories,
    /// Retired too many, or got no memory: nothing more is begun.
    exhausted: bool,
}

impl Window {
    /// Room for `window` ops in flight, with a place for codes of a page's own or without.
    ///
    /// # Errors
    /// The kernel's, when there is no memory.
    pub(crate) fn new(window: usize, with_codes: bool, guard: &Arc<ForkGuard>) -> io::Result<Window> {
        let places = window.next_power_of_two();
        let mut memories = OpMemories::new(places, with_codes, guard)?;
        let mut ops = Vec::with_capacity(places);
        let descriptors = vec![Descriptor::default(); places].into_boxed_slice();
        for _ in 0..places {
            let memory = memories.take()?;
            ops.push(Op {
                phase: Phase::Done,
                kind: Kind::Compress,
                touches: 0,
                verify: false,
                verdict: Verdict::Incompressible,
                deadline: 0,
                input: (0, 0),
                memory: Some(memory),
            });
        }
        let ops = ops.into_boxed_slice();
        let mask = places - 1;
        Ok(Window { ops, descriptors, mask, tail: 0, head: 0, first_ready: 0, memories, exhausted: false })
    }

    /// Ops between tail and head.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.head.wrapping_sub(self.tail)
    }

    /// Whether it is of no use any more.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// How many ops were retired.
    pub(crate) fn retired(&self) -> usize {
        self.memories.retired()
    }

    /// The place that the next op gets; the oldest one's is [`Window::tail_place`].
    #[inline]
    pub(crate) fn head_place(&self) -> usize {
        self.head & self.mask
    }

    /// The place of the oldest op.
    #[inline]
    pub(crate) fn tail_place(&self) -> usize {
        self.tail & self.mask
    }

    /// Adds an op that reads `len` bytes at `input`, of our own memory. There is room, and the window is not
    /// exhausted.
    #[inline]
    pub(crate) fn push(&mut self, kind: Kind, input: *const u8, len: usize, verify: bool) {
        let place = self.head_place();
        let (op, descriptor) = (&mut self.ops[place], &mut self.descriptors[place]);
        let input = (input as u64, len as u32);
        op.phase = Phase::Ready;
        op.kind = kind;
        op.touches = 0;
        op.verify = verify;
        op.deadline = 0;
        op.input = input;
        let memory = op.memory.as_mut().expect("each op has memory unless the window is exhausted");
        descriptor.completion_addr = memory.renew();
        (descriptor.src1_addr, descriptor.src1_size) = input;
        descriptor.dst_addr = memory.output_addr();
        descriptor.max_dst_size = match kind {
            Kind::Compress | Kind::CompressCoded => MAX_COMPRESSED,
            Kind::Count => COUNTS_SIZE,
            Kind::Decompress | Kind::Verify => PAGE_SIZE as u32,
        };
        self.head = self.head.wrapping_add(1);
    }

    /// Submits the op that was just pushed, if all before it are submitted: the sooner the device has it, the better,
    /// and its turn is another queue's than that of the op before.
    #[inline(always)]
    pub(crate) fn submit_pushed(&mut self, attached: &mut Attached, counts: &mut Tally) {
        if self.head.wrapping_sub(self.first_ready) == 1 {
            self.submit_last(attached, counts);
        }
    }

    /// Submits what is to be submitted, as far as queues take it.
    #[inline(always)]
    pub(crate) fn submit(&mut self, attached: &mut Attached, counts: &mut Tally) {
        match self.head.wrapping_sub(self.first_ready) {
            0 => {}
            1 => self.submit_last(attached, counts),
            ready => self.submit_several(ready, attached, counts),
        }
    }

    /// Submits the youngest op to the queue whose turn it is, or else to another. This is what a call does most of
    /// the time.
    fn submit_last(&mut self, attached: &mut Attached, counts: &mut Tally) {
        let place = self.first_ready & self.mask;
        let under_way = self.len();
        let (op, descriptor) = (&mut self.ops[place], &mut self.descriptors[place]);
        let number = attached.next();
        if op.phase == Phase::Ready
            && let Some(end) = attached.ends.get_mut(usize::from(number))
            && end.queue.is_working()
            && end.queue.take_credits(1) == 1
        {
            stamp(&end.shapes, op, descriptor);
            // SAFETY: as in `offer`.
            let submitted = unsafe { end.portal.submit(std::slice::from_ref(descriptor)) };
            if submitted.accepted == 1 {
                op.phase = Phase::InFlight(number);
                op.deadline = 0;
                counts.submitted += 1;
                counts.under_way.count(under_way, 1);
                self.first_ready = self.head;
                return;
            }
            end.queue.give_credits(1);
            if let Some(refusal) = submitted.refusal {
                attached.refused(number, refusal, counts);
            }
        }
        self.submit_last_elsewhere(attached, counts);
    }

    /// Submits the youngest op, if it is to be, to any queue that takes it.
    #[cold]
    fn submit_last_elsewhere(&mut self, attached: &mut Attached, counts: &mut Tally) {
        let place = self.first_ready & self.mask;
        if self.ops[place].phase != Phase::Ready || self.offer(place, 1, attached, counts) == 1 {
            self.first_ready = self.head;
        }
    }

    /// Submits what is to be submitted of the `ready` youngest ops.
    fn submit_several(&mut self, ready: usize, attached: &mut Attached, counts: &mut Tally) {
        // All queues get the same share.
        let share = ready.div_ceil(attached.ends.len().max(1));
        let mut at = self.first_ready;
        while at != self.head {
            let place = at & self.mask;
            if self.ops[place].phase != Phase::Ready {
                at = at.wrapping_add(1);
                continue;
            }
            let most = self.head.wrapping_sub(at).min(self.ops.len() - place).min(share);
            let run = self.ops[place..place + most].iter().take_while(|op| op.phase == Phase::Ready).count();
            let taken = self.offer(place, run, attached, counts);
            if taken == 0 {
                break;
            }
            at = at.wrapping_add(taken);
        }
        self.first_ready = at;
    }

    /// Offers the `run` ops from `place` on to queues in turn, until one takes some; how many it took.
    fn offer(&mut self, place: usize, run: usize, attached: &mut Attached, counts: &mut Tally) -> usize {
        for _ in 0..attached.ends.len() {
            let number = attached.next();
            let end = &mut attached.ends[usize::from(number)];
            if !end.queue.is_working() {
                attached.attention = true;
                continue;
            }
            let credits = end.queue.take_credits(run);
            if credits == 0 {
                counts.others().no_credit += 1;
                continue;
            }
            let descriptors = &mut self.descriptors[place..place + credits];
            for (descriptor, op) in descriptors.iter_mut().zip(&self.ops[place..]) {
                stamp(&end.shapes, op, descriptor);
            }
            // SAFETY: what the descriptors read is the caller's, who is borrowed from until the op is done or given up
            // (`Flight`), our own output or codes, or a constant. What they write is `memory` of ops that are marked as in
            // flight below, so that it is touched only when the record's status is not zero; or it is retired.
            let Submitted { accepted, refusal } = unsafe { end.portal.submit(descriptors) };
            if accepted < credits {
                end.queue.give_credits(credits - accepted);
            }
            if accepted != 0 {
                for op in &mut self.ops[place..place + accepted] {
                    op.phase = Phase::InFlight(number);
                    op.deadline = 0;
                }
                counts.submitted += accepted as u64;
                counts.under_way.count(self.len(), accepted);
            }
            if let Some(refusal) = refusal {
                attached.refused(number, refusal, counts);
            }
            if accepted != 0 {
                return accepted;
            }
        }
        0
    }

    /// Waits until the oldest op is decided.
    #[inline(always)]
    pub(crate) fn wait(&mut self, attached: &mut Attached, counts: &mut Tally) {
        let place = self.tail_place();
        if let Phase::InFlight(number) = self.ops[place].phase
            && self.has_answer(place)
        {
            self.complete(place, number, attached, counts);
        }
        if self.ops[place].phase != Phase::Done {
            self.wait_longer(attached, counts);
        }
    }

    #[inline(never)]
    fn wait_longer(&mut self, attached: &mut Attached, counts: &mut Tally) {
        let tail = self.tail_place();
        let mut other = self.tail;
        loop {
            match self.ops[tail].phase {
                Phase::Done => return,
                Phase::InFlight(number) => {
                    if self.has_answer(tail) {
                        self.complete_one(tail, number, attached, counts);
                        continue;
                    }
                    if let Some(now) = self.is_late(tail, number, attached) {
                        self.time_out(tail, number, now, attached, counts);
                        continue;
                    }
                }
                Phase::Ready => {
                    self.submit(attached, counts);
                    if self.ops[tail].phase == Phase::Ready && self.is_given_up(tail, attached, counts) {
                        return;
                    }
                }
            }
            // While there is nothing else to do, the younger ones: their credits, faults and checks.
            other = other.wrapping_add(1);
            if other.wrapping_sub(self.tail) >= self.len() {
                other = self.tail;
            }
            let place = other & self.mask;
            if let Phase::InFlight(number) = self.ops[place].phase
                && self.has_answer(place)
            {
                self.complete_one(place, number, attached, counts);
            }
            if self.first_ready != self.head {
                self.submit(attached, counts);
            }
            if let Some(memory) = &self.ops[tail].memory {
                attached.pause(self.ops[tail].phase.queue(), memory.status());
            }
        }
    }

    /// The time, if it is past the deadline of an op in flight, which has still not been answered. The first time that
    /// it is asked of an op, this and all others that are with its queue have their deadline set.
    fn is_late(&mut self, place: usize, number: u16, attached: &Attached) -> Option<u64> {
        let now = attached.ends[usize::from(number)].now();
        if self.ops[place].deadline == 0 {
            let deadline = now.saturating_add(attached.timeout);
            for op in &mut self.ops {
                if op.phase == Phase::InFlight(number) && op.deadline == 0 {
                    op.deadline = deadline;
                }
            }
        }
        // The record once more: it may have come while the thread did not run.
        (now >= self.ops[place].deadline && !self.has_answer(place)).then_some(now)
    }

    /// Whether an op that no queue takes is waited for no more; it then has its verdict.
    fn is_given_up(&mut self, place: usize, attached: &mut Attached, counts: &mut Tally) -> bool {
        let now = attached.now();
        let op = &mut self.ops[place];
        let error = if !attached.any_working() {
            counts.others().no_queue += 1;
            EngineError::NoQueue
        } else if op.deadline == 0 {
            op.deadline = now.saturating_add(attached.busy_timeout);
            return false;
        } else if now >= op.deadline {
            counts.others().busy += 1;
            EngineError::Busy
        } else {
            return false;
        };
        op.phase = Phase::Done;
        op.verdict = Verdict::Failed(error);
        true
    }

    /// The verdict on the oldest op, which is done, whether it was verified, and its output page, of which as much counts
    /// as the verdict says. It is empty if the op was retired and there is no other memory for it.
    #[inline(always)]
    pub(crate) fn result(&self) -> (Verdict, bool, &[u8]) {
        let op = &self.ops[self.tail_place()];
        let output = match &op.memory {
            // SAFETY: no device has the memory: the op is done, so its record was there, or no queue took it, or this is
            // new in place of what was retired. It cannot be submitted before it is popped, when this borrow has ended.
            Some(memory) if op.phase == Phase::Done => unsafe { memory.output() },
            _ => &[],
        };
        (op.verdict, op.verify, output)
    }

    /// Removes the oldest op, which is done.
    #[inline]
    pub(crate) fn pop(&mut self) {
        debug_assert_eq!(self.ops[self.tail_place()].phase, Phase::Done);
        if self.first_ready == self.tail {
            self.first_ready = self.first_ready.wrapping_add(1);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Whether the oldest op would be handed out without waiting.
    #[inline]
    pub(crate) fn is_tail_done(&self) -> bool {
        self.len() != 0 && {
            let place = self.tail_place();
            match self.ops[place].phase {
                Phase::Done => true,
                Phase::InFlight(_) => self.has_answer(place),
                Phase::Ready => false,
            }
        }
    }

    /// Waits until no op is in flight any more, each with its own deadline, and forgets all of them.
    #[cold]
    pub(crate) fn drain(&mut self, attached: &mut Attached, counts: &mut Tally) {
        while self.len() != 0 {
            let place = self.tail_place();
            while let Phase::InFlight(number) = self.ops[place].phase {
                if self.has_answer(place) {
                    attached.ends[usize::from(number)].queue.answered();
                    counts.completed += 1;
                    self.ops[place].phase = Phase::Done;
                    break;
                }
                if let Some(now) = self.is_late(place, number, attached) {
                    self.time_out(place, number, now, attached, counts);
                } else if let Some(memory) = &self.ops[place].memory {
                    attached.pause(Some(number), memory.status());
                }
            }
            self.tail = self.tail.wrapping_add(1);
        }
        self.first_ready = self.head;
    }

    #[inline]
    fn has_answer(&self, place: usize) -> bool {
        let memory = self.ops[place].memory.as_ref().expect("an op in flight has memory");
        // Acquire pairs with the device's last store: once the status is not zero, the rest of the record and the
        // output are visible too.
        memory.status().load(Ordering::Acquire) != status::RUNNING
    }
}

impl Phase {
    fn queue(self) -> Option<u16> {
        match self {
            Phase::InFlight(number) => Some(number),
            Phase::Ready | Phase::Done => None,
        }
    }
}

/// Sets what of a descriptor the op and its queue decide.
#[inline(always)]
fn stamp(shapes: &Shapes, op: &Op, descriptor: &mut Descriptor) {
    shapes.of(op.kind).stamp(descriptor);
    if op.kind == Kind::CompressCoded {
        descriptor.src2_addr = op.memory.as_ref().map_or(0, OpMemory::codes_addr);
    }
}
