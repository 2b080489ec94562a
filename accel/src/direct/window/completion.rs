//! What becomes of an op: its record judged, its next step begun, its memory retired.

use super::super::aecs;
use super::super::attached::Attached;
use super::super::counts::Tally;
use super::super::shape::Kind;
use super::super::status::{
    MAX_COMPRESSED, UNTRUE, Verdict, of_compress, of_count, of_decompress, of_verify,
};
use super::{MOST_RETIRED, Op, Phase, Window};
use crate::{EngineError, PAGE_SIZE};

/// Times that a page fault is answered by touching the page and submitting again.
const MOST_TOUCHES: u8 = 3;

impl Window {
    /// Judges the op, whose record is there.
    #[inline(always)]
    pub(super) fn complete(
        &mut self,
        place: usize,
        number: u16,
        attached: &mut Attached,
        counts: &mut Tally,
    ) {
        attached.ends[usize::from(number)].queue.answered();
        counts.completed += 1;
        let op = &mut self.ops[place];
        let memory = op.memory.as_ref().expect("an op in flight has memory");
        // SAFETY: its status was seen to be other than zero.
        let record = unsafe { memory.record() };
        op.phase = Phase::Done;
        let verdict = match op.kind {
            Kind::Compress | Kind::CompressCoded => of_compress(&record),
            Kind::Count => of_count(&record),
            Kind::Decompress => of_decompress(&record),
            Kind::Verify => of_verify(&record, op.verdict),
        };
        if !matches!(verdict, Verdict::Made { .. }) {
            return self.complete_badly(place, number, verdict, attached, counts);
        }
        op.verdict = verdict;
        match op.kind {
            Kind::Count => self.begin_coded(place, counts),
            Kind::Compress | Kind::CompressCoded if op.verify => self.begin_verify(place),
            _ => {}
        }
    }

    /// [`Window::complete`] for where it need not be quick.
    pub(super) fn complete_one(
        &mut self,
        place: usize,
        number: u16,
        attached: &mut Attached,
        counts: &mut Tally,
    ) {
        self.complete(place, number, attached, counts);
    }

    /// Submits the op once more, to compress the page whose symbols it has counted: with codes made of the counts, or
    /// with the fixed ones where those are as good.
    #[cold]
    fn begin_coded(&mut self, place: usize, counts: &mut Tally) {
        let (op, descriptor) = (&mut self.ops[place], &mut self.descriptors[place]);
        let memory = op.memory.as_mut().expect("an op in flight has memory");
        // SAFETY: the op is done with a record that was there, and is submitted again after this borrow's end.
        let aecs = aecs::of_counts(unsafe { memory.output() });
        let coded = aecs.is_some_and(|aecs| memory.set_codes(&aecs));
        counts.others().coded += u64::from(coded);
        op.kind = if coded { Kind::CompressCoded } else { Kind::Compress };
        descriptor.completion_addr = memory.renew();
        descriptor.max_dst_size = MAX_COMPRESSED;
        self.set_ready(place);
    }

    /// Submits the op once more, to decompress what it made to nothing but a CRC.
    fn begin_verify(&mut self, place: usize) {
        let (op, descriptor) = (&mut self.ops[place], &mut self.descriptors[place]);
        let Verdict::Made { len, .. } = op.verdict else { return };
        let memory = op.memory.as_mut().expect("an op in flight has memory");
        descriptor.completion_addr = memory.renew();
        op.kind = Kind::Verify;
        op.input = (memory.output_addr(), len);
        (descriptor.src1_addr, descriptor.src1_size) = op.input;
        // Nothing is written, but there must be a destination, and it must not overlap the source, which is at
        // most a byte less than the page.
        descriptor.dst_addr = memory.output_addr() + u64::from(MAX_COMPRESSED);
        descriptor.max_dst_size = 1;
        self.set_ready(place);
    }

    /// Has the op submitted (again).
    fn set_ready(&mut self, place: usize) {
        let op = &mut self.ops[place];
        op.phase = Phase::Ready;
        op.deadline = 0;
        let seq = self.tail.wrapping_add(place.wrapping_sub(self.tail) & self.mask);
        if seq.wrapping_sub(self.tail) < self.first_ready.wrapping_sub(self.tail) {
            self.first_ready = seq;
        }
    }

    /// What there is to do about a verdict that is no success: count it, or touch the page that was not there and
    /// submit again, which leaves the verdict on what is verified as it is.
    ///
    /// A record that cannot be true, or not of this page, may be one that is still being written, or another op's: its
    /// memory is not used again.
    #[cold]
    fn complete_badly(
        &mut self,
        place: usize,
        number: u16,
        mut verdict: Verdict,
        attached: &Attached,
        counts: &mut Tally,
    ) {
        let op = &mut self.ops[place];
        let mut believed = true;
        if let Verdict::Fault { addr, write } = verdict {
            let is_ours = touch(op, addr, write);
            if is_ours && op.touches < MOST_TOUCHES {
                op.touches += 1;
                counts.others().page_faults_touched += 1;
                let memory = op.memory.as_mut().expect("an op that completed has memory");
                self.descriptors[place].completion_addr = memory.renew();
                return self.set_ready(place);
            }
            believed = is_ours;
            verdict = Verdict::Failed(EngineError::PageFault);
        }
        let counter = match verdict {
            Verdict::Incompressible => &mut counts.others().incompressible,
            Verdict::Failed(EngineError::PageFault) => &mut counts.others().page_faults,
            Verdict::Failed(EngineError::Analytics(_)) => &mut counts.others().analytics_errors,
            Verdict::Failed(UNTRUE) => {
                believed = false;
                &mut counts.others().bad_records
            }
            Verdict::Failed(EngineError::CrcMismatch) => {
                believed = false;
                &mut counts.others().crc_mismatches
            }
            _ => &mut counts.others().bad_status,
        };
        *counter += 1;
        op.verdict = verdict;
        if !believed {
            attached.ends[usize::from(number)].queue.retired();
            self.retire(place, counts);
        }
    }

    /// Gives up an op that is late.
    #[cold]
    pub(super) fn time_out(
        &mut self,
        place: usize,
        number: u16,
        now: u64,
        attached: &mut Attached,
        counts: &mut Tally,
    ) {
        self.ops[place].phase = Phase::Done;
        self.ops[place].verdict = Verdict::Failed(EngineError::TimedOut);
        counts.others().timed_out += 1;
        attached.timed_out(number, now, counts);
        self.retire(place, counts);
    }

    /// Puts the memory of an op out of use, and gives its place another.
    fn retire(&mut self, place: usize, counts: &mut Tally) {
        let op = &mut self.ops[place];
        counts.others().retired_ops += 1;
        if let Some(memory) = op.memory.take() {
            self.memories.retire(memory);
        }
        if self.memories.retired() < MOST_RETIRED
            && let Ok(memory) = self.memories.take()
        {
            op.memory = Some(memory);
        } else {
            counts.others().channels_exhausted += u64::from(!self.exhausted);
            self.exhausted = true;
        }
    }
}

/// Touches the page of an op at which the device faulted; false if the address is not of the op's memory.
fn touch(op: &Op, addr: u64, write: bool) -> bool {
    let memory = op.memory.as_ref().expect("an op that completed has memory");
    let page = addr & !(PAGE_SIZE as u64 - 1);
    // The first byte of the range that lies in the page of the fault, of which the device may only give the start.
    let within = |start: u64, len: u32| -> Option<*mut u8> {
        let end = start + u64::from(len);
        let first = page.max(start);
        (len != 0 && first < end && first < page + PAGE_SIZE as u64).then_some(first as *mut u8)
    };
    let output = within(memory.output_addr(), PAGE_SIZE as u32).or(within(memory.record_addr(), 1));
    if let Some(byte) = output {
        // SAFETY: the byte is the op's own, and the op has completed: the device does not write now. A compressed
        // stream that is being verified keeps its value.
        unsafe { byte.write_volatile(byte.read_volatile()) };
        return true;
    }
    if write {
        return false;
    }
    let (constant, constant_len) = aecs::range();
    let codes = match memory.codes_addr() {
        0 => None,
        codes => within(codes, constant_len),
    };
    let input = within(op.input.0, op.input.1).or(codes).or(within(constant, constant_len));
    if let Some(byte) = input {
        // SAFETY: the byte is of the caller's page, who is borrowed from until the op is done, of the op's own codes, or
        // of a constant.
        unsafe { byte.read_volatile() };
    }
    input.is_some()
}
