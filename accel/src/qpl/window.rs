//! The jobs of one channel that are in flight: a queue, in the order in which their results are handed out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{hint, thread};

use qpl_sys::{flag, status};

use super::QplConfig;
use super::job::{Job, JobError, Work};
use super::verdict::{self, MAX_COMPRESSED, Verdict};
use crate::direct::{Column, Counters, DeviceCounts};
use crate::{EngineError, PAGE_SIZE, crc32};

/// Times that a page fault is answered by touching all pages and submitting again.
const MOST_TOUCHES: u8 = 3;

/// Retired jobs that a channel may have; each is some 200 KiB.
const MOST_RETIRED: usize = 16;

/// Time-outs in a row after which a channel leaves the devices alone for a while.
const MOST_LATE: u32 = 4;

/// How long it leaves them alone.
const QUARANTINE: Duration = Duration::from_secs(1);

/// Looks at a job's record before the thread lets others run.
const SPINS: u32 = 2_000;

/// Jobs in flight, and those that wait to be used again. When it is dropped, none is in flight.
pub(super) struct Window {
    config: QplConfig,
    /// Jobs that are not in flight.
    spare: Vec<Job>,
    flight: VecDeque<Op>,
    retired: usize,
    /// Time-outs since the last job that ended.
    late: u32,
    quarantined_until: Option<Instant>,
    turn: u32,
    counts: DeviceCounts,
    under_way: Arc<Column>,
}

/// A job in flight or on its way there.
struct Op {
    job: Job,
    work: Work,
    input: (*const u8, usize),
    phase: Phase,
    /// When a job in flight is late, or a busy device is waited for no more.
    deadline: Instant,
    touches: u8,
    /// Whether the CPU computes the CRC-32 too.
    verify: bool,
}

// SAFETY: the input is only read, and only while the call that lent it lasts.
unsafe impl Send for Op {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Ready,
    InFlight,
    Done(Verdict),
}

impl Window {
    /// Room for the configured number of jobs in flight.
    ///
    /// # Errors
    /// When there is no memory, or QPL makes no job.
    pub(super) fn new(config: QplConfig, under_way: Arc<Column>) -> Result<Window, JobError> {
        let make = |_| Job::new(&config.library, config.path.raw(), &config.guard);
        let spare = (0..config.window).map(make).collect::<Result<Vec<_>, _>>()?;
        Ok(Window {
            flight: VecDeque::with_capacity(config.window),
            config,
            spare,
            retired: 0,
            late: 0,
            quarantined_until: None,
            turn: 0,
            counts: DeviceCounts::default(),
            under_way,
        })
    }

    /// Jobs in flight or on their way.
    pub(super) fn len(&self) -> usize {
        self.flight.len()
    }

    /// Whether another may be begun.
    pub(super) fn has_room(&self) -> bool {
        !self.spare.is_empty() && self.quarantined_until.is_none()
    }

    /// Why nothing can be begun, if that is so.
    pub(super) fn unusable(&mut self) -> Option<EngineError> {
        if self.config.guard.is_child() {
            self.counts.forked += 1;
            return Some(EngineError::Forked);
        }
        if self.quarantined_until.is_some_and(|until| Instant::now() >= until) {
            self.quarantined_until = None;
        }
        let unusable = self.flight.is_empty() && !self.has_room();
        self.counts.no_queue += u64::from(unusable);
        unusable.then_some(EngineError::NoQueue)
    }

    /// Begins to compress `page`, which is borrowed until its op is [taken out](Window::take). There is room.
    pub(super) fn compress(&mut self, page: &[u8; PAGE_SIZE]) {
        let mut flags = flag::FIRST | flag::LAST;
        if self.config.dynamic {
            flags |= flag::DYNAMIC_HUFFMAN;
        }
        let verify = self.next_is_verified();
        if !verify {
            flags |= flag::OMIT_VERIFY;
        }
        self.begin(qpl_sys::OP_COMPRESS, flags, MAX_COMPRESSED, page, verify);
    }

    /// Begins to decompress `bytes`, which are borrowed until the op is [taken out](Window::take). There is room.
    pub(super) fn decompress(&mut self, bytes: &[u8]) {
        let verify = self.next_is_verified();
        self.begin(qpl_sys::OP_DECOMPRESS, flag::FIRST | flag::LAST, PAGE_SIZE as u32, bytes, verify);
    }

    fn next_is_verified(&self) -> bool {
        self.config.verify_every != 0 && self.turn.is_multiple_of(self.config.verify_every)
    }

    /// The CRC-32 of the page of the oldest op, which is decided: QPL's or, if it is to be verified, the CPU's where that is
    /// the same.
    pub(super) fn crc_of(&mut self, crc: u32, page: &[u8; PAGE_SIZE]) -> Result<u32, EngineError> {
        if !self.flight.front().is_some_and(|oldest| oldest.verify) {
            return Ok(crc);
        }
        self.counts.verified += 1;
        if crc32(page) == crc {
            return Ok(crc);
        }
        self.counts.crc_mismatches += 1;
        Err(EngineError::CrcMismatch)
    }

    fn begin(&mut self, op: u32, flags: u32, max_output: u32, input: &[u8], verify: bool) {
        // The nodes with devices, in turn.
        self.turn = self.turn.wrapping_add(1);
        let numa_id = match self.config.nids.len() {
            0 => qpl_sys::NUMA_ANY,
            nids => self.config.nids[self.turn as usize % nids],
        };
        let work = Work { op, flags, max_output, numa_id };
        let job = self.spare.pop().expect("the caller has asked for room");
        let input = (input.as_ptr(), input.len());
        let deadline = Instant::now() + self.config.busy_timeout;
        self.flight.push_back(Op { job, work, input, phase: Phase::Ready, deadline, touches: 0, verify });
        self.submit();
    }

    /// Submits what is to be submitted, the oldest first, until the device is busy.
    fn submit(&mut self) {
        let under_way = self.flight.len();
        for op in self.flight.iter_mut().filter(|op| op.phase == Phase::Ready) {
            let (input, len) = op.input;
            // SAFETY: the input is lent for the call of the engine, which does not return, nor unwind, before each
            // job has ended or is retired (`drain`). This one is not in flight.
            match unsafe { op.job.submit(&op.work, input, len as u32) } {
                status::OK => {
                    op.phase = Phase::InFlight;
                    op.deadline = Instant::now() + self.config.timeout;
                    self.counts.submitted += 1;
                    self.under_way.count(under_way, 1);
                }
                status::QUEUES_ARE_BUSY => {
                    self.counts.queue_full += 1;
                    if Instant::now() < op.deadline {
                        return;
                    }
                    self.counts.busy += 1;
                    op.phase = Phase::Done(Verdict::Failed(EngineError::Busy));
                }
                bad => op.phase = Phase::Done(verdict::of(op.is_compress(), bad, (0, 0))),
            }
        }
    }

    /// Waits until the oldest op is decided.
    pub(super) fn wait(&mut self) -> Verdict {
        let mut spins = 0;
        loop {
            let oldest = self.flight.front_mut().expect("the caller has begun one");
            if let Some(verdict) = oldest.look(&mut self.counts) {
                return verdict;
            }
            if oldest.phase == Phase::Ready {
                self.submit();
            }
            spins += 1;
            if spins % SPINS == 0 {
                thread::yield_now();
            } else {
                hint::spin_loop();
            }
        }
    }

    /// The output of the oldest op, whose verdict is that it made `len` bytes.
    pub(super) fn output(&self, len: u32) -> &[u8] {
        let oldest = self.flight.front().expect("the caller has waited for it");
        assert!(matches!(oldest.phase, Phase::Done(Verdict::Made { len: made, .. }) if made == len));
        oldest.job.output(len)
    }

    /// Takes out the oldest op, which is decided. Its job is used again, or left to the device if it is late.
    pub(super) fn take(&mut self) {
        let op = self.flight.pop_front().expect("the caller has waited for it");
        let Phase::Done(verdict) = op.phase else { unreachable!("the caller has waited for it") };
        if verdict != Verdict::Failed(EngineError::TimedOut) {
            self.late = 0;
            self.spare.push(op.job);
            return;
        }
        op.job.retire();
        self.retired += 1;
        self.counts.retired_ops += 1;
        self.late += 1;
        if self.late >= MOST_LATE {
            self.late = 0;
            self.counts.quarantines += 1;
            self.quarantined_until = Some(Instant::now() + QUARANTINE);
        }
        if self.retired < MOST_RETIRED {
            self.spare.extend(Job::new(&self.config.library, self.config.path.raw(), &self.config.guard));
        } else if self.spare.is_empty() && self.flight.is_empty() {
            self.counts.channels_exhausted += 1;
        }
    }

    /// Waits until nothing is in flight, each job with its own deadline, and adds to the common counters.
    pub(super) fn end_call(&mut self, counters: &Counters) {
        // What a panic left; what was not submitted has nothing to wait for.
        while let Some(op) = self.flight.front_mut() {
            if op.phase == Phase::Ready {
                op.phase = Phase::Done(Verdict::Failed(EngineError::NotDone));
            }
            self.wait();
            self.take();
        }
        counters.add(&mut self.counts);
    }
}

impl Op {
    fn is_compress(&self) -> bool {
        self.work.op == qpl_sys::OP_COMPRESS
    }

    /// The verdict, if there is one by now. A page fault makes the op ready again.
    fn look(&mut self, counts: &mut DeviceCounts) -> Option<Verdict> {
        match self.phase {
            Phase::Done(verdict) => return Some(verdict),
            Phase::Ready => return None,
            Phase::InFlight => {}
        }
        // The clock before the job: the thread may not have run for a while, and the job be done.
        let late = Instant::now() >= self.deadline;
        let ended = self.job.check();
        if ended == status::BEING_PROCESSED && !late {
            return None;
        }
        let verdict = if ended == status::BEING_PROCESSED {
            counts.timed_out += 1;
            Verdict::Failed(EngineError::TimedOut)
        } else {
            counts.completed += 1;
            self.judge(ended, counts)?
        };
        self.phase = Phase::Done(verdict);
        Some(verdict)
    }

    /// The verdict on a job that has ended; none if it is to be submitted again.
    fn judge(&mut self, ended: u32, counts: &mut DeviceCounts) -> Option<Verdict> {
        let mut verdict = verdict::of(self.is_compress(), ended, self.job.made());
        if verdict == Verdict::Fault {
            let (input, len) = self.input;
            // SAFETY: lent for the call of the engine, which has not returned.
            let input = unsafe { std::slice::from_raw_parts(input, len) };
            verdict = match self.job.touch_and_renew(input) {
                Ok(()) if self.touches < MOST_TOUCHES => {
                    self.touches += 1;
                    counts.page_faults_touched += 1;
                    self.phase = Phase::Ready;
                    self.deadline = Instant::now() + Duration::from_millis(1);
                    return None;
                }
                Ok(()) => Verdict::Failed(EngineError::PageFault),
                Err(error) => Verdict::Failed(error),
            };
        }
        match verdict {
            Verdict::Incompressible => counts.incompressible += 1,
            Verdict::Failed(EngineError::PageFault) => counts.page_faults += 1,
            Verdict::Failed(EngineError::Analytics(_)) => counts.analytics_errors += 1,
            Verdict::Failed(EngineError::BadStatus(idxd_sys::status::SUCCESS)) => counts.bad_records += 1,
            Verdict::Failed(_) => counts.bad_status += 1,
            Verdict::Made { .. } | Verdict::Fault => {}
        }
        Some(verdict)
    }
}
