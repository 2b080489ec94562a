//! A device for tests that does to each descriptor what its script says, in a time of its own.
//!
//! It reaches memory by system calls, so what it reads may be gone by then. Time goes on by a tenth of a microsecond
//! with each pause; a descriptor takes three microseconds.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use iaa_model::{Memory, OtherProcess};
use idxd_sys::flags::{compress, decompress};
use idxd_sys::{Descriptor, opcode, status};
use zfolio_fallback::{Codec, Codecs, max_compressed_len};

use super::{Attachment, Portal, QueueInfo, Refusal, Submitted};
use crate::{PAGE_SIZE, crc32};

/// What becomes of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// It ends with this status and error code, and garbage in its output.
    Ends(u8, u8),
    /// It faults at this offset of its source, or of its destination.
    Faults { offset: u64, write: bool },
    /// It faults where none of its memory is.
    FaultsElsewhere,
    /// It is done this much later than usual.
    Late(Duration),
    /// It is never done.
    Never,
    /// One bit of the CRC in the record is wrong.
    WrongCrc,
    /// One bit of the output is wrong.
    WrongOutput,
    /// The record tells this output size.
    Size(u32),
    /// It is not taken.
    Refused(Refusal),
}

type Script = dyn FnMut(u64, &Descriptor) -> Fate + Send;

/// Makes every descriptor's fate.
struct State {
    script: Box<Script>,
    /// Descriptors that were offered, no-ops aside.
    offered: u64,
    now: Duration,
    due: BTreeMap<(Duration, u64), (Descriptor, Fate)>,
    sequence: u64,
    /// The most that were in flight at once.
    most: usize,
    /// Whether no-ops are done; else they are never.
    answers_noops: bool,
    /// What was offered at once, by the number of descriptors.
    batches: Vec<usize>,
}

/// The device; clones are the same.
#[derive(Clone)]
pub(crate) struct TestDevice {
    state: Arc<Mutex<State>>,
    batch: usize,
}

impl TestDevice {
    /// A device whose n-th descriptor (from 0, no-ops aside) has the fate that `script` gives it.
    pub(crate) fn new(script: impl FnMut(u64, &Descriptor) -> Fate + Send + 'static) -> TestDevice {
        let state = State {
            script: Box::new(script),
            offered: 0,
            now: Duration::from_secs(1),
            due: BTreeMap::new(),
            sequence: 0,
            most: 0,
            answers_noops: true,
            batches: Vec::new(),
        };
        TestDevice { state: Arc::new(Mutex::new(state)), batch: 1 }
    }

    /// The same device, offered this many descriptors at once by preference.
    pub(crate) fn with_batch(mut self, batch: usize) -> TestDevice {
        self.batch = batch;
        self
    }

    /// A queue of the device for `Channels::with_queues`.
    pub(crate) fn queue(&self, info: QueueInfo) -> (QueueInfo, Attachment) {
        let device = self.clone();
        (info, Attachment::new("a script", move || Box::new(device.clone())))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Gives later descriptors other fates.
    pub(crate) fn set_script(&self, script: impl FnMut(u64, &Descriptor) -> Fate + Send + 'static) {
        self.state().script = Box::new(script);
    }

    /// Whether no-ops are done from now on.
    pub(crate) fn set_answers_noops(&self, answers: bool) {
        self.state().answers_noops = answers;
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        let mut state = self.state();
        let then = state.now + time;
        state.advance(then);
    }

    /// Descriptors in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.state().due.len()
    }

    /// The most that ever were in flight.
    pub(crate) fn most_in_flight(&self) -> usize {
        self.state().most
    }

    /// Descriptors that were offered, no-ops aside.
    pub(crate) fn offered(&self) -> u64 {
        self.state().offered
    }

    /// How many descriptors each call offered, no-ops aside; forgets them.
    pub(crate) fn take_batches(&self) -> Vec<usize> {
        std::mem::take(&mut self.state().batches)
    }
}

impl State {
    fn offer(&mut self, descriptor: &Descriptor) -> Result<(), Refusal> {
        let fate = if descriptor.opcode() == opcode::NOOP {
            if self.answers_noops { Fate::Done } else { Fate::Never }
        } else {
            self.offered += 1;
            (self.script)(self.offered - 1, descriptor)
        };
        let extra = match fate {
            Fate::Refused(refusal) => return Err(refusal),
            Fate::Late(by) => by,
            _ => Duration::ZERO,
        };
        self.sequence += 1;
        let at = self.now + Duration::from_micros(3) + extra;
        self.due.insert((at, self.sequence), (*descriptor, fate));
        self.most = self.most.max(self.due.len());
        Ok(())
    }

    fn advance(&mut self, then: Duration) {
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= then
        {
            let (descriptor, fate) = entry.remove();
            finish(&descriptor, fate);
        }
        self.now = then;
    }
}

// SAFETY: writes to destinations and records of descriptors that were taken only, by system calls.
unsafe impl Portal for TestDevice {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        let mut state = self.state();
        if descriptors[0].opcode() != opcode::NOOP {
            state.batches.push(descriptors.len());
        }
        for (accepted, descriptor) in descriptors.iter().enumerate() {
            if let Err(refusal) = state.offer(descriptor) {
                return Submitted { accepted, refusal: Some(refusal) };
            }
        }
        Submitted { accepted: descriptors.len(), refusal: None }
    }

    fn pause(&mut self, _status: &AtomicU8) {
        self.pass(Duration::from_nanos(100));
    }

    fn now(&self) -> Duration {
        self.state().now
    }

    fn batch(&self) -> usize {
        self.batch
    }
}

/// Writes what a descriptor writes.
fn finish(descriptor: &Descriptor, fate: Fate) {
    let memory = OtherProcess::this();
    let mut record = [0u8; 64];
    let dst = descriptor.dst_addr;
    match fate {
        Fate::Never | Fate::Refused(_) => return,
        Fate::Ends(status, error) => {
            (record[0], record[1]) = (status, error);
            _ = memory.write(dst, &[0xee; 64][..64.min(descriptor.max_dst_size as usize)]);
        }
        Fate::Faults { offset, write } => {
            record[0] = if write { status::PAGE_FAULT | status::WRITE_FAULT } else { status::PAGE_FAULT };
            let addr = (if write { dst } else { descriptor.src1_addr }).wrapping_add(offset);
            record[8..16].copy_from_slice(&addr.to_le_bytes());
        }
        Fate::FaultsElsewhere => {
            record[0] = status::PAGE_FAULT;
            record[8..16].copy_from_slice(&0x1000u64.to_le_bytes());
        }
        _ => {
            let (status, error, output, crc) = execute(&memory, descriptor);
            let mut size = output.len() as u32;
            let mut output = output;
            if fate == Fate::WrongOutput
                && let Some(byte) = output.last_mut()
            {
                *byte ^= 4;
            }
            let suppressed = descriptor.opcode() == opcode::DECOMPRESS
                && descriptor.op_flags & decompress::SUPPRESS_OUTPUT != 0;
            if !suppressed {
                _ = memory.write(dst, &output);
            }
            if let Fate::Size(other) = fate {
                size = other;
            }
            (record[0], record[1]) = (status, error);
            record[0x18..0x1c].copy_from_slice(&size.to_le_bytes());
            let crc = crc ^ u32::from(fate == Fate::WrongCrc);
            record[0x20..0x24].copy_from_slice(&crc.to_le_bytes());
        }
    }
    // The record may be in memory that is gone, as may all else.
    _ = memory.write_record(descriptor.completion_addr, &record);
}

/// Status, error code, output and CRC-32 of a descriptor.
fn execute(memory: &OtherProcess, descriptor: &Descriptor) -> (u8, u8, Vec<u8>, u32) {
    let mut input = vec![0; descriptor.src1_size as usize];
    if memory.read(descriptor.src1_addr, &mut input).is_err() {
        return (status::PAGE_FAULT, 0, Vec::new(), 0);
    }
    let mut codecs = Codecs::new();
    match descriptor.opcode() {
        opcode::COMPRESS if descriptor.op_flags & compress::STATISTICS != 0 => {
            // As if the page were compressed to nothing but literals.
            let mut counts = [0u32; 320];
            input.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
            counts[256] = 1;
            let output = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
            (status::SUCCESS, 0, output, crc32(&input))
        }
        opcode::COMPRESS => {
            let mut output = vec![0; max_compressed_len(PAGE_SIZE)];
            let len = codecs.compress(Codec::Deflate, &input, &mut output).unwrap();
            if len > descriptor.max_dst_size as usize {
                return (status::ANALYTICS_ERROR, 25, Vec::new(), 0);
            }
            output.truncate(len);
            (status::SUCCESS, 0, output, crc32(&input))
        }
        opcode::DECOMPRESS => {
            let mut output = vec![0; PAGE_SIZE];
            match codecs.decompress(Codec::Deflate, &input, &mut output) {
                Ok(()) => {
                    let crc = crc32(&output);
                    (status::SUCCESS, 0, output, crc)
                }
                Err(_) => (status::ANALYTICS_ERROR, 17, Vec::new(), 0),
            }
        }
        _ => (status::SUCCESS, 0, Vec::new(), 0),
    }
}
