//! Threads that submit to devices, in simulated time.
//!
//! Each thread does what a channel of the direct engine does: prepares pages while its window has room, submits each in turn
//! ([`submit`]) to the queues of its package (the nearest package's where it has none), waits for the oldest, hands it on, and
//! refills. Credits of a process keep its threads from offering more than a queue holds; queues are shared with other
//! processes all the same, and refuse. A page that no queue takes in the engine's busy time is done in software. Loads are of single
//! pages. Devices are [`Engines`]: those of the model, with its timing.
//!
//! Everything is an event in one list in order of time, and chance comes from a seed: the same run gives the same figures.

mod submit;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use iaa_model::{Begun, Demand, Engines, Method, Timing};
use idxd_sys::opcode;
use zfolio_accel::direct::DirectConfig;

use self::submit::Op;
use super::costs::{Chances, Costs};
use super::figures::Figures;
use super::setting::Setting;
use super::submitter::{Kind, Nanos, Phase, Slot, Step, Thread};
use crate::bench::Queues;
use crate::corpus::random::Random;

/// An event of a thread; old ones are those whose count is not the thread's any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Thread { thread: u16, count: u64 },
    EngineIdle { device: u16, group: usize },
    Record { thread: u16, seq: u64 },
}

/// How long a page waits for a queue that is full: the engine's own default.
fn busy() -> Nanos {
    DirectConfig::default().busy_timeout.as_nanos() as Nanos
}

/// How much is simulated: so many pages at least, and so long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) pages: u64,
    pub(crate) nanos: Nanos,
}

/// Devices and threads on their way.
pub(crate) struct Crowd {
    setting: Setting,
    costs: Costs,
    faults: u64,
    timing: Timing,
    method: Method,
    now: Nanos,
    seq: u64,
    events: BinaryHeap<Reverse<(Nanos, u64, What)>>,
    threads: Vec<Thread>,
    devices: Vec<Engines<Op>>,
    device_packages: Vec<u16>,
    /// By process and device.
    credits: Vec<Vec<usize>>,
    /// Threads that would submit if they could, by process and package.
    blocked: Vec<Vec<VecDeque<u16>>>,
    /// When the list of a process's node is free, by process and package.
    list_free: Vec<Vec<Nanos>>,
    random: Random,
    page: u64,
    in_flight: u64,
    counted_from: Nanos,
    in_flight_since: Nanos,
    figures: Figures,
}

impl Crowd {
    pub(crate) fn new(setting: &Setting, costs: &Costs, chances: &Chances, seed: u64) -> Crowd {
        let config = setting.model();
        let numbered = config.devices.iter().enumerate();
        let devices: Vec<Engines<Op>> =
            numbered.map(|(number, device)| Engines::new(number as u16, device)).collect();
        let device_packages: Vec<u16> = config.devices.iter().map(|device| device.nid as u16).collect();
        let (processes, sockets) = (usize::from(setting.processes), usize::from(setting.sockets));
        let capacity = config.devices[0].queues[0].capacity();
        let mut random = Random::new(seed);
        let threads =
            (0..setting.threads).map(|number| Thread::new(number, setting, &device_packages)).collect();
        let mut timing = config.timing;
        if chances.iotlb_miss != 0 {
            timing = timing.with_iotlb(chances.iotlb_miss, chances.iotlb_pages);
        }
        let mut crowd = Crowd {
            setting: *setting,
            costs: *costs,
            faults: chances.faults,
            timing,
            method: match setting.queues {
                Queues::Dedicated => Method::Movdir64b,
                Queues::Shared => Method::Enqcmd,
            },
            now: 0,
            seq: 0,
            events: BinaryHeap::new(),
            threads,
            credits: vec![vec![capacity; devices.len()]; processes],
            devices,
            device_packages,
            blocked: vec![vec![VecDeque::new(); sockets]; processes],
            list_free: vec![vec![0; sockets]; processes],
            random: Random::new(random.next()),
            page: 0,
            in_flight: 0,
            counted_from: 0,
            in_flight_since: 0,
            figures: Figures::new(),
        };
        for thread in 0..setting.threads {
            // Not all at once, as no program's threads are.
            let start = if setting.threads == 1 { 0 } else { random.below(10_000) };
            crowd.then(thread, start, Step::Begin);
        }
        crowd
    }

    /// Runs until the pipeline is in its stride, and then for `span`.
    pub(crate) fn run(mut self, span: Span) -> Figures {
        let warm = 20_000.max(u64::from(self.setting.threads) * u64::from(self.setting.window) * 4);
        self.until(Span { pages: warm.min(span.pages), nanos: span.nanos / 4 });
        self.figures = Figures::new();
        (self.counted_from, self.in_flight_since) = (self.now, self.now);
        for thread in &mut self.threads {
            thread.pages = 0;
            if let Some(since) = &mut thread.waiting {
                *since = self.now;
            }
        }
        self.until(span);
        self.count_in_flight(0);
        for thread in &self.threads {
            let remote = thread
                .devices
                .iter()
                .any(|&device| self.device_packages[usize::from(device)] != thread.package);
            let of = if remote { &mut self.figures.remote } else { &mut self.figures.near };
            of.0 += thread.pages;
            of.1 += 1;
            self.figures.waited += thread.waiting.map_or(0, |since| u128::from(self.now - since));
        }
        self.figures.elapsed = self.now - self.counted_from;
        self.figures
    }

    fn until(&mut self, span: Span) {
        let from = self.now;
        let done = |figures: &Figures| figures.stored + figures.loaded;
        let already = done(&self.figures);
        while let Some(Reverse((at, _, what))) = self.events.pop() {
            self.now = at;
            self.happen(what);
            if done(&self.figures) - already >= span.pages && self.now - from >= span.nanos {
                return;
            }
        }
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Thread { thread, count } => {
                if self.threads[usize::from(thread)].count == count {
                    self.step(thread);
                }
            }
            What::EngineIdle { device, group } => {
                self.devices[usize::from(device)].idle_again(group);
                self.dispatch(device);
            }
            What::Record { thread, seq } => self.record(thread, seq),
        }
    }

    fn plan(&mut self, at: Nanos, what: What) {
        self.seq += 1;
        self.events.push(Reverse((at, self.seq, what)));
    }

    /// Has `thread` go on with `step` after its CPU was busy for `cost`.
    fn then(&mut self, thread: u16, cost: Nanos, step: Step) {
        let of = &mut self.threads[usize::from(thread)];
        of.step = step;
        of.count += 1;
        let count = of.count;
        self.plan(self.now + cost, What::Thread { thread, count });
    }

    /// `cost`, as chance has it.
    fn vary(&mut self, cost: Nanos) -> Nanos {
        let part = cost * self.costs.vary / 100;
        if part == 0 { cost } else { cost - part + self.random.below(2 * part + 1) }
    }

    fn dispatch(&mut self, device: u16) {
        let timing = &self.timing;
        loop {
            let begun = self.devices[usize::from(device)].begin(self.now, timing, |op| {
                let output = (op.descriptor.opcode() == opcode::DECOMPRESS).then_some(4096);
                let Op { stall, remote, chance, .. } = *op;
                Demand { output, stall, remote, chance, ..Demand::of(&op.descriptor) }
            });
            let Some(Begun { op, group, idle_at, record_at }) = begun else { return };
            let (_, path) = timing.service(&op.descriptor, Some(4096));
            self.figures.path += u128::from(path);
            self.figures.sojourn += u128::from(record_at - op.offered);
            self.seq += 2;
            let idle = What::EngineIdle { device, group };
            self.events.push(Reverse((idle_at, self.seq - 1, idle)));
            let record = What::Record { thread: op.thread, seq: op.seq };
            self.events.push(Reverse((record_at, self.seq, record)));
        }
    }

    /// Counts the time since the last change of how many are in the devices, and changes it.
    fn count_in_flight(&mut self, by: i64) {
        self.figures.in_flight_time +=
            u128::from(self.in_flight) * u128::from(self.now - self.in_flight_since);
        self.in_flight_since = self.now;
        self.in_flight = self.in_flight.saturating_add_signed(by);
    }

    fn record(&mut self, thread: u16, seq: u64) {
        self.count_in_flight(-1);
        self.figures.completed += 1;
        let poll = self.costs.poll;
        let of = &mut self.threads[usize::from(thread)];
        let place = (seq - of.tail) as usize;
        of.slots[place].phase = Phase::Recorded;
        if of.waiting.is_none() {
            return;
        }
        if place == 0 {
            self.go_on(thread, poll, Step::Wait);
        } else {
            self.see(thread, place);
            if self.threads[usize::from(thread)].slots.iter().any(|slot| slot.phase == Phase::Ready) {
                self.go_on(thread, poll, Step::Submit);
            }
        }
    }

    /// Ends the waiting of a thread.
    fn go_on(&mut self, thread: u16, cost: Nanos, step: Step) {
        let of = &mut self.threads[usize::from(thread)];
        if let Some(since) = of.waiting.take() {
            self.figures.waited += u128::from(self.now - since);
        }
        self.then(thread, cost, step);
    }

    /// The thread sees a record; its credit is the process's again.
    fn see(&mut self, thread: u16, place: usize) {
        let of = &mut self.threads[usize::from(thread)];
        let slot = &mut of.slots[place];
        slot.phase = Phase::Seen;
        let (device, process) = (usize::from(slot.device), usize::from(of.process));
        self.credits[process][device] += 1;
        self.wake(process, device as u16);
    }

    /// Lets one of those who wait for a queue of `device` try again.
    fn wake(&mut self, process: usize, device: u16) {
        let packages = self.blocked[process].len();
        let first = self.random.below(packages as u64) as usize;
        for package in (0..packages).map(|k| (first + k) % packages) {
            let mut left = self.blocked[process][package].len();
            while left > 0 {
                left -= 1;
                let Some(thread) = self.blocked[process][package].pop_front() else { break };
                let of = &mut self.threads[usize::from(thread)];
                let wants = of.waiting.is_some() && of.slots.iter().any(|slot| slot.phase == Phase::Ready);
                of.listed = false;
                if !wants {
                    continue;
                }
                if of.devices.contains(&device) {
                    let poll = self.costs.poll;
                    self.go_on(thread, poll, Step::Submit);
                    return;
                }
                of.listed = true;
                self.blocked[process][package].push_back(thread);
            }
        }
    }

    fn step(&mut self, thread: u16) {
        let at = usize::from(thread);
        match self.threads[at].step {
            Step::Begin => self.begin(thread),
            Step::Fill => {
                // A page is offered as soon as it is there, unless one before it still is to be.
                let room = self.room(thread);
                let of = &mut self.threads[at];
                let waiting = of.slots.iter().any(|slot| slot.phase == Phase::Ready);
                let new = if waiting { room } else { room.min(1) };
                of.left -= new as u32;
                of.slots.extend((0..new).map(|_| Slot { phase: Phase::Ready, device: 0 }));
                (of.run, of.share) = ((0, 0), 0);
                let cost = if of.kind == Kind::Store { self.costs.prepare * new as u64 } else { 0 };
                let cost = self.vary(cost);
                self.then(thread, cost, Step::Submit);
            }
            Step::Submit => self.submit(thread),
            Step::Arrive(device) => self.arrive(thread, device),
            Step::Wait => self.wait(thread),
            Step::Software => {
                self.figures.software += 1;
                self.collect(thread);
            }
            Step::Collected => {
                let of = &mut self.threads[at];
                of.slots.pop_front();
                of.tail += 1;
                of.pages += 1;
                match of.kind {
                    Kind::Store => self.figures.stored += 1,
                    Kind::Load => self.figures.loaded += 1,
                }
                let ended = of.left == 0 && of.slots.is_empty();
                if !ended {
                    return self.then(thread, 0, Step::Fill);
                }
                // The pages of the call go to the node's list together.
                let pages = if of.kind == Kind::Store { u64::from(self.setting.folio_pages) } else { 1 };
                let (process, package) = (usize::from(of.process), usize::from(of.package));
                let free = &mut self.list_free[process][package];
                *free = (*free).max(self.now) + pages * self.costs.list;
                let cost = *free - self.now;
                self.then(thread, cost, Step::Ended);
            }
            Step::Ended => {
                let of = &self.threads[at];
                let time = self.now - of.began;
                let times = match of.kind {
                    Kind::Store => &mut self.figures.store_calls,
                    Kind::Load => &mut self.figures.loads,
                };
                times.saturating_record(time.max(1));
                self.begin(thread);
            }
        }
    }

    /// The next call: a store, or as many pages loaded one by one as the mix asks for.
    fn begin(&mut self, thread: u16) {
        let Setting { loads_percent, folio_pages, .. } = self.setting;
        // Of 100 pages so many are loaded, in so many calls, and the others stored by a folio a call.
        let (loads, stores) =
            (u64::from(loads_percent) * u64::from(folio_pages), 100 - u64::from(loads_percent));
        let loads_now = loads != 0 && self.random.below(loads + stores) < loads;
        let cost = if loads_now { 0 } else { self.vary(self.costs.call) };
        let now = self.now;
        let of = &mut self.threads[usize::from(thread)];
        (of.kind, of.left) = if loads_now { (Kind::Load, 1) } else { (Kind::Store, folio_pages) };
        of.began = now;
        self.then(thread, cost, Step::Fill);
    }

    /// Looks at the oldest page: hands it on, or waits.
    fn wait(&mut self, thread: u16) {
        let at = usize::from(thread);
        match self.threads[at].slots[0].phase {
            Phase::Recorded => {
                self.see(thread, 0);
                return self.collect(thread);
            }
            Phase::Seen => return self.collect(thread),
            Phase::InFlight | Phase::Ready => {}
        }
        // While it waits it sees all records.
        for place in 1..self.threads[at].slots.len() {
            if self.threads[at].slots[place].phase == Phase::Recorded {
                self.see(thread, place);
            }
        }
        let now = self.now;
        let of = &mut self.threads[at];
        of.waiting.get_or_insert(now);
        let ready = of.slots.iter().any(|slot| slot.phase == Phase::Ready);
        let (process, package) = (usize::from(of.process), usize::from(of.package));
        let credit = of.devices.iter().any(|&device| self.credits[process][usize::from(device)] > 0);
        if of.slots[0].phase == Phase::Ready {
            let deadline = *of.deadline.get_or_insert(now + busy());
            if now >= deadline {
                of.deadline = None;
                // Software takes it: its place is no more anybody's to submit.
                of.slots[0].phase = Phase::Seen;
                let cost = self.vary(self.costs.software);
                return self.go_on(thread, cost, Step::Software);
            }
            if !credit {
                self.then(thread, deadline - now, Step::Wait);
            }
        }
        if ready && credit {
            // A queue refused that others have filled: it is asked again and again.
            let poll = self.costs.poll.max(1);
            self.go_on(thread, poll, Step::Submit);
        } else if ready && !std::mem::replace(&mut self.threads[at].listed, true) {
            self.blocked[process][package].push_back(thread);
        }
    }

    /// Hands the oldest page on.
    fn collect(&mut self, thread: u16) {
        let cost = match self.threads[usize::from(thread)].kind {
            Kind::Store => self.costs.collect,
            Kind::Load => self.costs.load,
        };
        let cost = self.vary(cost);
        self.then(thread, cost, Step::Collected);
    }
}
