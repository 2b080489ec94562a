//! The devices at work: a list of events in order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use idxd_sys::{CompletionRecord, Descriptor, flags, opcode, status};

use super::config::{ModelConfig, QueueId};
use super::engines::{Begun, Demand, Engines};
use super::queue::{Accepted, Op, Queue, SoftwareError};
use super::{Stop, Submitted};
use crate::clock::Clock;
use crate::fault_plan::{Effects, Refusal, Rules, Verdict};
use crate::replay::Table;
use crate::timing::{Method, Nanos};
use crate::{Capabilities, Memory, Summary, Timing, execute};

/// How far one step goes where nothing happens: a fraction of any sensible deadline, so that a late record does not
/// come before the caller has seen its deadline pass.
const LONGEST_STEP: Nanos = 10_000;

struct Device {
    capabilities: Capabilities,
    remote: bool,
    engines: Engines<Op>,
}

/// What happens at a time. Ordered by time, then by the order in which it was planned.
struct Event {
    at: Nanos,
    seq: u64,
    what: What,
}

enum What {
    /// An engine of a group is idle again.
    EngineIdle { device: u16, group: usize },
    /// A record is due.
    Completion(Box<Op>),
    /// A record that is complete already is written (once more, or its rest).
    Record { queue: QueueId, addr: u64, record: [u8; 64], whole: bool },
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        (self.at, self.seq) == (other.at, other.seq)
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Event) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

pub(super) struct State {
    now: Nanos,
    seq: u64,
    events: BinaryHeap<Reverse<Event>>,
    devices: Vec<Device>,
    timing: Timing,
    rules: Rules,
    summary: Summary,
    /// Answers known beforehand, on the replay clock.
    table: Option<Table>,
    /// Descriptors in all queues and engines.
    outstanding: usize,
    /// The last error of each device that nobody has taken yet.
    errors: Vec<Option<SoftwareError>>,
}

impl State {
    pub(super) fn new(config: &ModelConfig) -> State {
        let devices = config.devices.iter().enumerate().map(|(number, device)| Device {
            capabilities: device.capabilities,
            remote: config.cpu_nid.is_some_and(|nid| nid != device.nid),
            engines: Engines::new(number as u16, device),
        });
        State {
            now: 0,
            seq: 0,
            events: BinaryHeap::new(),
            devices: devices.collect(),
            timing: config.timing.clone(),
            rules: Rules::new(config.faults.clone()),
            summary: Summary::default(),
            table: (config.clock == Clock::Replay).then(Table::default),
            outstanding: 0,
            errors: vec![None; config.devices.len()],
        }
    }

    fn latch(&mut self, error: SoftwareError) {
        self.summary.latch(error);
        if let Some(last) = self.errors.get_mut(usize::from(error.queue().device)) {
            *last = Some(error);
        }
    }

    pub(super) fn take_errors(&mut self) -> Vec<SoftwareError> {
        self.errors.iter_mut().filter_map(Option::take).collect()
    }

    pub(super) fn now(&self) -> Nanos {
        self.now
    }

    pub(super) fn queue(&self, id: QueueId) -> Option<&Queue<Op>> {
        self.devices.get(usize::from(id.device))?.engines.queues.get(usize::from(id.queue))
    }

    pub(super) fn queue_mut(&mut self, id: QueueId) -> Option<&mut Queue<Op>> {
        self.devices.get_mut(usize::from(id.device))?.engines.queues.get_mut(usize::from(id.queue))
    }

    pub(super) fn summary(&self) -> Summary {
        let (faults, struck) = (self.rules.plan().clone(), self.rules.done.clone());
        let worked_out = self.table.as_ref().map_or(0, |table| table.worked_out);
        Summary { faults, struck, worked_out, ..self.summary.clone() }
    }

    /// When something is to happen that anyone can see, or that has to be known to tell; `Nanos::MAX`: never.
    pub(super) fn next_due(&self) -> Nanos {
        let waiting = self
            .devices
            .iter()
            .flat_map(|device| &device.engines.queues)
            .any(|queue| !queue.waiting.is_empty());
        let due = self.events.iter().filter(|Reverse(event)| match event.what {
            What::EngineIdle { .. } => waiting,
            What::Completion(_) | What::Record { .. } => true,
        });
        due.map(|Reverse(event)| event.at).min().unwrap_or(Nanos::MAX)
    }

    pub(super) fn submit(
        &mut self,
        memory: &dyn Memory,
        method: Method,
        id: QueueId,
        descriptors: &[Descriptor],
    ) -> Submitted {
        for (k, descriptor) in descriptors.iter().enumerate() {
            // The device works on while the submitter submits.
            let then = self.now + self.timing.submission(method, k);
            self.advance(memory, then);
            if let Err(stop) = self.submit_one(memory, method, id, descriptor, k) {
                return Submitted { taken: k, stop: Some(stop) };
            }
        }
        Submitted { taken: descriptors.len(), stop: None }
    }

    fn submit_one(
        &mut self,
        memory: &dyn Memory,
        method: Method,
        id: QueueId,
        descriptor: &Descriptor,
        k: usize,
    ) -> Result<(), Stop> {
        if self.queue(id).is_none() {
            return Err(Stop::NoSuchQueue);
        }
        let refusal = self.rules.refusal(id, descriptor, k);
        match refusal {
            Some(Refusal::NotPermitted) => {
                self.summary.not_permitted += 1;
                return Err(Stop::NotPermitted);
            }
            Some(Refusal::Partial) => return Err(Stop::Partial),
            Some(Refusal::Full) | None => {}
        }
        let queue = self.queue_mut(id).expect("looked up above");
        match queue.admit(refusal == Some(Refusal::Full), method == Method::Movdir64b) {
            Accepted::Taken => {}
            Accepted::Full => {
                self.summary.queue_full += 1;
                return Err(Stop::Full);
            }
            Accepted::Disabled => {
                self.summary.disabled += 1;
                return Err(Stop::Disabled);
            }
            Accepted::Lost(error) => {
                match error {
                    SoftwareError::Disabled(_) => self.summary.disabled += 1,
                    _ => self.summary.queue_full += 1,
                }
                self.latch(error);
                return Ok(());
            }
        }
        self.summary.taken += 1;
        self.outstanding += 1;
        let deep = self.outstanding.min(Summary::IN_FLIGHT - 1);
        self.summary.in_flight[deep] += 1;
        let effects = self.rules.effects(id, descriptor);
        let capabilities = &self.devices[usize::from(id.device)].capabilities;
        let answer =
            self.table.as_mut().map(|table| table.answer(id.device, capabilities, descriptor, memory));
        let op = Op { queue: id, descriptor: *descriptor, effects, answer };
        self.queue_mut(id).expect("looked up above").waiting.push_back(op);
        self.dispatch(id.device);
        if effects.disable_queue {
            self.abort(id);
        }
        if effects.disable_device {
            let queues = self.devices[usize::from(id.device)].engines.queues.len();
            (0..queues).for_each(|queue| _ = self.abort(QueueId::new(id.device, queue as u16)));
        }
        Ok(())
    }

    pub(super) fn abort(&mut self, id: QueueId) -> bool {
        let Some(queue) = self.queue_mut(id) else { return false };
        queue.enabled = false;
        let abandoned = queue.waiting.drain(..).count();
        self.summary.abandoned += abandoned as u64;
        self.outstanding -= abandoned;
        true
    }

    /// Gives idle engines of `device` what waits for them.
    fn dispatch(&mut self, device: u16) {
        let Device { engines, remote, .. } = &mut self.devices[usize::from(device)];
        let timing = &self.timing;
        loop {
            let chance = self.seq;
            let begun = engines.begin(self.now, timing, |op| {
                let Effects { slow, extra, page_requests, .. } = op.effects;
                Demand {
                    output: op.answer.as_ref().map(|answer| answer.record.output_size),
                    slow: u64::from(slow.max(1)),
                    stall: extra + u64::from(page_requests) * timing.page_request(chance),
                    remote: *remote,
                    chance,
                    ..Demand::of(&op.descriptor)
                }
            });
            let Some(Begun { op, group, idle_at, record_at }) = begun else { return };
            self.seq += 2;
            let idle_again =
                Event { at: idle_at, seq: self.seq - 1, what: What::EngineIdle { device, group } };
            let completion = Event {
                at: record_at.saturating_add(op.effects.late),
                seq: self.seq,
                what: What::Completion(Box::new(op)),
            };
            self.events.push(Reverse(idle_again));
            self.events.push(Reverse(completion));
        }
    }

    /// To the next visible record, at most [`LONGEST_STEP`] on.
    pub(super) fn step(&mut self, memory: &dyn Memory) {
        let until = self.now + LONGEST_STEP;
        while let Some(event) = self.next_until(until) {
            if self.happen(memory, event) {
                return;
            }
        }
        self.now = until;
    }

    /// To `then`, whatever happens until there.
    pub(super) fn advance(&mut self, memory: &dyn Memory, then: Nanos) {
        while let Some(event) = self.next_until(then) {
            self.happen(memory, event);
        }
        self.now = self.now.max(then);
    }

    /// Until nothing is left to happen; whether that leaves nothing waiting.
    pub(super) fn drain(&mut self, memory: &dyn Memory) -> bool {
        while let Some(event) = self.next_until(Nanos::MAX) {
            self.happen(memory, event);
        }
        self.devices.iter().flat_map(|device| &device.engines.queues).all(|queue| queue.waiting.is_empty())
    }

    /// Makes all writes of records happen that are complete already.
    pub(super) fn settle(&mut self, memory: &dyn Memory) {
        let (records, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.events)
            .into_sorted_vec()
            .into_iter()
            .rev()
            .partition(|Reverse(event)| matches!(event.what, What::Record { .. }));
        self.events = others.into();
        let now = self.now;
        for Reverse(event) in records {
            self.happen(memory, event);
        }
        self.now = now;
    }

    fn next_until(&mut self, then: Nanos) -> Option<Event> {
        if self.events.peek().is_some_and(|Reverse(event)| event.at <= then) {
            return self.events.pop().map(|Reverse(event)| event);
        }
        None
    }

    /// Makes `event` happen; whether a record was written.
    fn happen(&mut self, memory: &dyn Memory, event: Event) -> bool {
        self.now = self.now.max(event.at);
        match event.what {
            What::EngineIdle { device, group } => {
                self.devices[usize::from(device)].engines.idle_again(group);
                self.dispatch(device);
                false
            }
            What::Completion(op) => self.complete(memory, &op),
            What::Record { queue, addr, record, whole } => {
                let written = match whole {
                    true => memory.write_record(addr, &record),
                    false => memory.write(addr + 1, &record[1..]),
                };
                if written.is_err() {
                    self.latch(SoftwareError::CompletionFault(queue, addr));
                }
                true
            }
        }
    }

    fn complete(&mut self, memory: &dyn Memory, op: &Op) -> bool {
        self.queue_mut(op.queue).expect("it took the descriptor").in_flight -= 1;
        self.outstanding -= 1;
        let record = self.execute(memory, op);
        let key = (op.descriptor.opcode(), record.status, record.error_code);
        *self.summary.completed.entry(key).or_default() += 1;

        let flags = op.descriptor.flags();
        let failed = record.status != status::SUCCESS;
        if flags & flags::op::COMPLETION_ADDR_VALID == 0 {
            if failed {
                self.latch(SoftwareError::NoRecord(op.queue, record.status));
            }
            return false;
        }
        let addr = op.descriptor.completion_addr;
        if !addr.is_multiple_of(64) {
            self.latch(SoftwareError::CompletionAlignment(op.queue, addr));
            return false;
        }
        if op.effects.never || !(failed || flags & flags::op::REQUEST_COMPLETION != 0) {
            return false;
        }
        let record = record_bytes(&record);
        let written = if op.effects.status_first {
            self.plan(self.now + 1, What::Record { queue: op.queue, addr, record, whole: false });
            memory.write(addr, &record[..1])
        } else {
            memory.write_record(addr, &record)
        };
        if written.is_err() {
            self.latch(SoftwareError::CompletionFault(op.queue, addr));
        }
        match op.effects.duplicate {
            // At once: whoever has seen the first must not have gone on to use its place for another.
            Some(0) => _ = memory.write_record(addr, &record),
            Some(after) => {
                let at = self.now.saturating_add(after);
                self.plan(at, What::Record { queue: op.queue, addr, record, whole: true });
            }
            None => {}
        }
        true
    }

    fn plan(&mut self, at: Nanos, what: What) {
        self.seq += 1;
        self.events.push(Reverse(Event { at, seq: self.seq, what }));
    }

    /// The record of `op`, whose output is written here.
    fn execute(&self, memory: &dyn Memory, op: &Op) -> CompletionRecord {
        let device = &self.devices[usize::from(op.queue.device)];
        let queue = &device.engines.queues[usize::from(op.queue.queue)];
        let descriptor = &op.descriptor;
        let code = descriptor.opcode();
        let failed = |status| CompletionRecord { status, ..CompletionRecord::default() };
        if queue.config.op_config[usize::from(code >> 6)] >> (code & 63) & 1 == 0 {
            return failed(status::BAD_OPCODE);
        }
        if descriptor.flags() & flags::op::BLOCK_ON_FAULT != 0 && !queue.config.block_on_fault {
            let invalid_flags = flags::op::BLOCK_ON_FAULT;
            return CompletionRecord { invalid_flags, ..failed(status::BAD_OP_FLAG) };
        }
        if u64::from(descriptor.src1_size) > queue.config.max_transfer_size {
            return failed(status::BAD_TRANSFER_SIZE);
        }
        let mut record = match op.effects.verdict {
            Some(Verdict::Status(status, error_code)) => CompletionRecord { error_code, ..failed(status) },
            Some(Verdict::PageFault { addr, write }) => {
                let by = if write { status::WRITE_FAULT } else { 0 };
                CompletionRecord { fault_addr: addr, ..failed(status::PAGE_FAULT | by) }
            }
            None => match &op.answer {
                None => execute(&device.capabilities, descriptor, memory),
                Some(answer) => match answer.write(descriptor, memory) {
                    Ok(()) => answer.record,
                    Err(fault) => {
                        let status = status::PAGE_FAULT | status::WRITE_FAULT;
                        CompletionRecord { fault_addr: fault.addr, ..failed(status) }
                    }
                },
            },
        };
        // Without output written there is nothing to spoil, whatever size the record tells.
        let suppressed =
            code == opcode::DECOMPRESS && descriptor.op_flags & flags::decompress::SUPPRESS_OUTPUT != 0;
        let output = if suppressed { 0 } else { record.output_size.min(descriptor.max_dst_size) };
        if let Some(chance) = op.effects.flip
            && output != 0
        {
            let at = descriptor.dst_addr.wrapping_add(chance % u64::from(output));
            let mut byte = [0];
            // Where the output was written a moment ago; should it be gone, there is nothing left to spoil.
            if memory.read(at, &mut byte).is_ok() {
                _ = memory.write(at, &[byte[0] ^ 1 << (chance >> 61)]);
            }
        }
        if let Some(chance) = op.effects.wrong_crc {
            record.crc ^= 1 << (chance & 31);
        }
        if op.effects.output_too_large {
            record.output_size = descriptor.max_dst_size.saturating_add(1);
        }
        record
    }
}

/// `record` as it lies in memory.
fn record_bytes(record: &CompletionRecord) -> [u8; 64] {
    let mut bytes = [0; 64];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0x00, &[record.status, record.error_code, record.fault_info]);
    put(0x04, &record.bytes_completed.to_le_bytes());
    put(0x08, &record.fault_addr.to_le_bytes());
    put(0x10, &record.invalid_flags.to_le_bytes());
    put(0x18, &record.output_size.to_le_bytes());
    put(0x1c, &[record.output_bits]);
    put(0x1e, &record.xor_checksum.to_le_bytes());
    put(0x20, &record.crc.to_le_bytes());
    put(0x24, &record.min_or_first.to_le_bytes());
    put(0x28, &record.max_or_last.to_le_bytes());
    put(0x2c, &record.sum.to_le_bytes());
    bytes
}
