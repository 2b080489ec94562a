//! An engine and a swap device that fail by seed, and let the scheduler in half-way.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use zfolio_accel::{Engine, EngineError, Job, Outcome, Software};

use super::*;
use crate::sync::AtomicU32;
use crate::{MemoryDevice, SwapDevice};

/// Where the scheduler may let another go on.
#[derive(Default)]
struct Point(AtomicU32);

impl Point {
    fn pass(&self) {
        self.0.load(Ordering::SeqCst);
    }
}

/// Software that fails now and then, as a device does.
pub(super) struct MoodyEngine {
    software: Software,
    random: Random,
    point: Point,
}

impl MoodyEngine {
    pub(super) fn new(method: Method, random: Random) -> MoodyEngine {
        MoodyEngine { software: Software::new(method, 1), random, point: Point::default() }
    }
}

impl Engine for MoodyEngine {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn window(&self) -> usize {
        2
    }

    fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(Outcome<'a, '_>),
    ) {
        let mut in_flight = VecDeque::new();
        loop {
            while in_flight.len() < 2
                && let Some(page) = pages.next()
            {
                in_flight.push_back(page);
            }
            let Some(page) = in_flight.pop_front() else { return };
            self.point.pass();
            if self.random.below(6) == 0 {
                sink(Outcome::Failed { page, error: EngineError::TimedOut });
            } else {
                self.software.compress(&mut std::iter::once(page), sink);
            }
        }
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        for job in jobs.iter_mut().flatten() {
            // A device reads while others go on.
            let (first, second) = job.bytes.split_at(job.bytes.len() / 2);
            let mut bytes = first.to_vec();
            self.point.pass();
            bytes.extend_from_slice(second);
            if self.random.below(6) == 0 {
                job.page.fill(0xbd);
                job.finish(Err(EngineError::PageFault));
                continue;
            }
            let mut jobs = [Some(Job::new(job.codec, &bytes, job.crc, job.page))];
            self.software.decompress(&mut jobs);
            let result = jobs[0].as_ref().unwrap().result();
            let crc = job.crc;
            job.finish(result.map(|()| crc));
        }
    }
}

/// A swap device that fails now and then, half-way, and does not bear two operations of a slot at a time.
pub(super) struct MoodyDevice {
    pages: MemoryDevice,
    random: Mutex<Random>,
    clock: Arc<AtomicU64>,
    /// Operations under way, and when they began.
    busy: Mutex<HashMap<SwapEntry, u64>>,
    point: Point,
}

impl MoodyDevice {
    pub(super) fn new(seed: u64, clock: Arc<AtomicU64>) -> MoodyDevice {
        MoodyDevice {
            pages: MemoryDevice::new(),
            random: Mutex::new(Random::new(seed)),
            clock,
            busy: Mutex::default(),
            point: Point::default(),
        }
    }

    fn fails(&self) -> bool {
        self.random.lock().unwrap().below(5) == 0
    }

    fn io<T>(&self, entry: SwapEntry, work: impl FnOnce() -> T) -> T {
        let now = self.clock.fetch_add(1, Ordering::SeqCst);
        let before = self.busy.lock().unwrap().insert(entry, now);
        assert_eq!(before, None, "two operations of {entry} at a time");
        self.point.pass();
        let result = work();
        self.point.pass();
        self.busy.lock().unwrap().remove(&entry);
        result
    }

    /// Who gave up the place of a slot, by a call at this time, may see it given to somebody else.
    pub(super) fn assert_is_free(&self, slot: usize, called: u64) {
        let since = self.busy.lock().unwrap().get(&at(slot)).copied();
        assert!(
            since.is_none_or(|since| since > called),
            "slot {slot}: its place is given away and written to"
        );
    }
}

impl SwapDevice for MoodyDevice {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()> {
        self.io(entry, || {
            let mut torn = *page;
            torn[PAGE_SIZE / 2..].fill(0xbd);
            self.pages.write(entry, &torn)?;
            self.point.pass();
            if self.fails() {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            self.pages.write(entry, page)
        })
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()> {
        self.io(entry, || {
            if self.fails() {
                page.fill(0xbd);
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            self.pages.read(entry, page)
        })
    }
}
