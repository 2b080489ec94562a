//! Whole stores under shuttle's schedulers: `ci/shuttle.sh`.
//!
//! Everything is the store's own but its sleep: threads are shuttle's (all on one of the kernel's), and wherever one comes to a word that
//! others see (slots, leaf locks, entries, headers, back-references, swap areas), the scheduler says who goes on. Memory of the pool is real. What has no
//! such word in it is one step: codecs, charges, the borrowing of channels. There is no time: a wait that nobody ends is a deadlock, which shuttle reports.
//!
//! Engine and swap device fail by seed, with steps in between, and leave rubbish behind when they do. Pages are stamped, and each
//! slot must have behaved as if its operations came one after another ([`order`](super::order)).

mod moody;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{FailurePersistence, Runner, thread};
use zfolio_accel::Page;

use self::moody::{MoodyDevice, MoodyEngine};
use super::order::{self, Did, Event, assert_one_after_another};
use super::*;
use crate::{Incompressible, LoadError, StoreError, Stored, Swap, SwapError, TenantConfig, TenantId};

const THREADS: usize = 3;
/// Few, so that threads meet; what a leaf of the tree has under shuttle.
const SLOTS: usize = 8;
/// Schedules of a batch, which a number repeats.
const BATCH: u64 = 200;

/// Of few lengths, so that pages are neighbours in the pool.
fn noise(version: u64, _: &mut Random) -> usize {
    [0, 511, 40, 40, 40, 40, 200, 200][version as usize % 8]
}

fn stamped(slot: usize, version: u64) -> PageBytes {
    order::stamped(slot, version, noise)
}

fn version_in(page: &PageBytes, slot: usize) -> u64 {
    order::version_in(page, slot, noise)
}

/// What happened in all schedules together, so that nobody believes in tests of nothing.
#[derive(Default)]
struct Tally {
    schedules: AtomicU64,
    operations: AtomicU64,
    written_back: AtomicU64,
    races: AtomicU64,
    failed_writes: AtomicU64,
    device_reads: AtomicU64,
    past_the_store: AtomicU64,
    refused: AtomicU64,
    moved: AtomicU64,
    recompressed: AtomicU64,
    engine_failures: AtomicU64,
    swapoffs: AtomicU64,
}

impl Tally {
    fn all(&self) -> [(&'static str, u64); 12] {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("schedules", get(&self.schedules)),
            ("operations", get(&self.operations)),
            ("written back", get(&self.written_back)),
            ("lost races of writeback", get(&self.races)),
            ("failed writes", get(&self.failed_writes)),
            ("device reads", get(&self.device_reads)),
            ("stored past the store", get(&self.past_the_store)),
            ("refused", get(&self.refused)),
            ("moved by compaction", get(&self.moved)),
            ("recompressed", get(&self.recompressed)),
            ("engine failures", get(&self.engine_failures)),
            ("swapoffs", get(&self.swapoffs)),
        ]
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What all threads of a schedule share.
struct Stage {
    swap: Swap,
    device: Arc<MoodyDevice>,
    clock: Arc<AtomicU64>,
    versions: AtomicU64,
    tally: Arc<Tally>,
}

impl Stage {
    fn new(seed: u64, random: &mut Random, tally: Arc<Tally>) -> Stage {
        static MACHINES: OnceLock<[Topology; 2]> = OnceLock::new();
        let machines = MACHINES.get_or_init(|| [Topology::single_node(), machine(&[0, 1])]);
        let topology = &machines[random.below(2)];
        let config = Config {
            max_pool: Limit::Bytes([3, 6, 1000][random.below(3)] * PAGE_SIZE as u64),
            accept_threshold_percent: [50, 100][random.below(2)],
            incompressible: [Incompressible::StoreRaw, Incompressible::Refuse][random.below(2)],
            warm_bytes: [0, 1 << 30][random.below(2)],
            // No wait is given up: there is no time here.
            lock_timeout: Duration::from_secs(1 << 30),
            ..Config::default()
        };
        let method = [Method::Lz4, Method::Deflate][random.below(2)];
        let engines = AtomicU64::new(seed);
        let channels = Channels::with_engine(method, topology, "moody", move |_, _| {
            Box::new(MoodyEngine::new(method, Random::new(engines.fetch_add(1, Ordering::Relaxed))))
        });
        let zswap = Arc::new(Zswap::with_channels(config, topology, channels).unwrap());
        let clock = Arc::new(AtomicU64::new(0));
        let device = Arc::new(MoodyDevice::new(seed, Arc::clone(&clock)));
        zswap.swapon_with_device(0, SLOTS as u32, device.clone()).unwrap();
        Stage { swap: Swap::new(zswap), device, clock, versions: AtomicU64::new(1), tally }
    }

    fn zswap(&self) -> &Zswap {
        self.swap.zswap()
    }
}

/// A thread with its record.
struct Actor<'s> {
    stage: &'s Stage,
    thread: usize,
    random: Random,
    events: Vec<Event>,
}

impl<'s> Actor<'s> {
    fn new(stage: &'s Stage, thread: usize, seed: u64) -> Actor<'s> {
        Actor { stage, thread, random: Random::new(seed * 8 + thread as u64), events: Vec::new() }
    }

    fn now(&self) -> u64 {
        self.stage.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&mut self, slot: usize, called: u64, did: Did) {
        if matches!(did, Did::Erase | Did::TriedPast(_)) {
            self.stage.device.assert_is_free(slot, called);
        }
        let returned = self.now();
        self.events.push(Event { slot, thread: self.thread, called, returned, did });
    }

    fn act(&mut self) {
        count(&self.stage.tally.operations, 1);
        match self.random.below(16) {
            0..5 => self.store(),
            5 => self.store_each(),
            6..9 => self.load(),
            9..11 => self.read(),
            11 => self.load_batch(),
            12 => self.invalidate(),
            13 => self.invalidate_range(),
            _ => self.shrink(),
        }
    }

    /// First slot and pages of a folio, with the version of each.
    fn folio(&mut self) -> (usize, Vec<u64>, Vec<PageBytes>) {
        let size = 1 << self.random.below(3);
        let first = self.random.below(SLOTS) / size * size;
        let versions: Vec<u64> =
            (0..size).map(|_| self.stage.versions.fetch_add(1, Ordering::Relaxed)).collect();
        let pages = versions.iter().zip(first..).map(|(&version, slot)| stamped(slot, version)).collect();
        (first, versions, pages)
    }

    fn nid(&mut self) -> NodeId {
        NodeId(self.random.below(self.stage.zswap().nodes.len()) as u16)
    }

    fn store(&mut self) {
        let (first, versions, pages) = self.folio();
        let (tenant, nid) = (TenantId(self.random.below(3) as u16), self.nid());
        let folio = Folio::new(at(first), nid, &pages).unwrap().with_tenant(tenant);
        let called = self.now();
        let result = self.stage.swap.store(&folio);
        let did = |version| match &result {
            Ok(Stored::InRam) => Some(Did::Store(version)),
            Ok(Stored::OnDevice(_)) => Some(Did::StorePast(version)),
            // The area is off.
            Err(SwapError::Store(StoreError::NoSuchSwap { .. })) => None,
            Err(SwapError::Store(
                StoreError::PoolFull { .. }
                | StoreError::TenantFull { .. }
                | StoreError::NoSuchTenant { .. }
                | StoreError::Incompressible { .. },
            ))
            | Err(SwapError::Device { .. }) => Some(Did::TriedPast(version)),
            Err(error) => panic!("{error}"),
        };
        count(&self.stage.tally.past_the_store, u64::from(matches!(result, Ok(Stored::OnDevice(_)))));
        for (slot, version) in (first..).zip(versions) {
            if let Some(did) = did(version) {
                self.note(slot, called, did);
            }
        }
    }

    fn store_each(&mut self) {
        let (first, versions, pages) = self.folio();
        let called = self.now();
        let mut results = Vec::new();
        let folio = Folio::new(at(first), self.nid(), &pages).unwrap();
        let whole = self.stage.zswap().store_each(&folio, |_, result| results.push(result));
        assert!(matches!(whole, Ok(()) | Err(StoreError::NoSuchSwap { .. })), "{whole:?}");
        for ((slot, version), result) in (first..).zip(versions).zip(results) {
            count(&self.stage.tally.refused, u64::from(result.is_err()));
            self.note(slot, called, if result.is_ok() { Did::Store(version) } else { Did::Erase });
        }
    }

    fn loaded(&mut self, slot: usize, called: u64, result: Result<Did, SwapError>) {
        match result {
            Ok(did) => self.note(slot, called, did),
            Err(SwapError::Load(LoadError::NotFound)) => self.note(slot, called, Did::Miss),
            // The page stays where it is: on the device, in this case.
            Err(SwapError::Device { .. } | SwapError::Load(LoadError::WrittenBack { .. })) => {}
            Err(error) => panic!("slot {slot}: {error}"),
        }
    }

    fn load(&mut self) {
        let (slot, mut page, called) = (self.random.below(SLOTS), [0; PAGE_SIZE], self.now());
        let result = self.stage.swap.load(at(slot), &mut page);
        self.loaded(slot, called, result.map(|()| Did::Take(version_in(&page, slot))));
    }

    fn read(&mut self) {
        let (slot, mut page, called) = (self.random.below(SLOTS), [0; PAGE_SIZE], self.now());
        let result = self.stage.swap.read(at(slot), &mut page);
        self.loaded(slot, called, result.map(|()| Did::Read(version_in(&page, slot))));
    }

    fn load_batch(&mut self) {
        let (start, step) = (self.random.below(SLOTS), [1, 3, SLOTS - 1][self.random.below(3)]);
        let slots: Vec<usize> = (0..3).map(|k| (start + k * step) % SLOTS).collect();
        let entries: Vec<SwapEntry> = slots.iter().map(|&slot| at(slot)).collect();
        let mut pages = Page::zeroed_vec(slots.len());
        let mut results = Vec::new();
        let called = self.now();
        self.stage.zswap().load_batch(&entries, &mut pages, |index, result| results.push((index, result)));
        for (index, result) in results {
            let slot = slots[index];
            let result = result.map(|()| Did::Take(version_in(&pages[index], slot)));
            self.loaded(slot, called, result.map_err(SwapError::Load));
        }
    }

    fn invalidate(&mut self) {
        let (slot, called) = (self.random.below(SLOTS), self.now());
        let found = self.stage.swap.invalidate(at(slot)).unwrap();
        self.stage.device.assert_is_free(slot, called);
        self.note(slot, called, if found { Did::Remove } else { Did::Miss });
    }

    fn invalidate_range(&mut self) {
        let (first, called) = (self.random.below(SLOTS), self.now());
        let slots = 1 + self.random.below(SLOTS - first);
        self.stage.zswap().invalidate_range(at(first), slots as u32).unwrap();
        (first..first + slots).for_each(|slot| self.note(slot, called, Did::Erase));
    }

    fn shrink(&mut self) {
        let bytes = self.random.below(6 * PAGE_SIZE) as u64;
        self.stage.zswap().shrink(self.nid(), bytes).unwrap();
    }

    /// What goes on beside: pages move, are compressed again, are written away; tenants come and go.
    fn keep_house(&mut self) {
        let (zswap, tally, nid) = (self.stage.zswap(), &self.stage.tally, self.nid());
        match self.random.below(8) {
            0..3 => self.shrink(),
            3..5 => count(&tally.moved, zswap.compact(nid, Duration::MAX).unwrap().moved_pages),
            5 => {
                zswap.repair(nid, Duration::MAX).unwrap();
                zswap.release_warm();
            }
            6 => {
                zswap.tick();
                let dense = zswap.recompress(nid, Method::DeflateDynamic, 1, Duration::MAX).unwrap();
                count(&tally.recompressed, dense.pages);
            }
            _ => {
                let tenant = TenantId(1 + self.random.below(2) as u16);
                let limit = Some(Limit::Bytes(self.random.below(3 * PAGE_SIZE) as u64));
                let _ = zswap.create_tenant(tenant, TenantConfig { limit, ..TenantConfig::default() });
                zswap.shrink_tenant(tenant, PAGE_SIZE as u64).unwrap();
                let _ = zswap.remove_tenant(tenant);
            }
        }
    }

    /// Switches the area off and on again.
    fn swapoff_and_on(&mut self) {
        let called = self.now();
        self.stage.zswap().swapoff(0).unwrap();
        (0..SLOTS).for_each(|slot| self.note(slot, called, Did::Erase));
        for (entry, slot) in self.stage.zswap().tree.slots() {
            assert_eq!(slot.id(), 0, "{entry} was filled while its area was off");
        }
        let device = self.stage.device.clone();
        self.stage.zswap().swapon_with_device(0, SLOTS as u32, device).unwrap();
        count(&self.stage.tally.swapoffs, 1);
    }
}

/// One schedule of a store with settings of its own.
fn schedule(seed: u64, tally: &Arc<Tally>) {
    let mut random = Random::new(seed);
    let stage = Stage::new(seed, &mut random, Arc::clone(tally));
    let switches = random.below(3) == 0;
    let mut events: Vec<Event> = thread::scope(|scope| {
        let stage = &stage;
        let mut threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut actor = Actor::new(stage, thread, seed);
                    (0..5).for_each(|_| actor.act());
                    actor.events
                })
            })
            .collect();
        threads.push(scope.spawn(move || {
            let mut actor = Actor::new(stage, THREADS, seed);
            (0..5).for_each(|_| actor.keep_house());
            if switches {
                actor.swapoff_and_on();
            }
            actor.events
        }));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let zswap = stage.zswap();
    zswap.check().unwrap();
    // What is there at the end is an answer like any other.
    let mut last = Actor::new(&stage, THREADS + 1, seed);
    for slot in 0..SLOTS {
        let mut page = [0; PAGE_SIZE];
        let called = last.now();
        // A device that fails is asked again.
        let result = loop {
            match stage.swap.load(at(slot), &mut page) {
                Err(SwapError::Device { .. }) => {}
                result => break result,
            }
        };
        last.loaded(slot, called, result.map(|()| Did::Take(version_in(&page, slot))));
    }
    events.append(&mut last.events);
    for slot in 0..SLOTS {
        let events: Vec<Event> = events.iter().filter(|event| event.slot == slot).copied().collect();
        assert_one_after_another(slot, &events);
    }
    let stats = zswap.stats();
    count(&tally.schedules, 1);
    count(&tally.written_back, stats.written_back_pages);
    count(&tally.races, stats.reclaim_races);
    count(&tally.failed_writes, stats.reject_reclaim_fail);
    count(&tally.device_reads, stats.device_reads);
    count(
        &tally.engine_failures,
        zswap.channels.fallbacks().timed_out + zswap.channels.fallbacks().page_fault,
    );
    assert_nothing_is_left(zswap);
}

/// Tells how to see a failure again.
struct Batch(&'static str, u64);

impl Drop for Batch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Batch(test, number) = self;
            eprintln!("{test}: failed; to repeat: ZFOLIO_SHUTTLE_BATCH={number} ci/shuttle.sh");
        }
    }
}

/// Half of `ZFOLIO_SHUTTLE_SCHEDULES` schedules, in batches, or the one batch that is asked for.
fn run<S: Scheduler + 'static>(test: &'static str, scheduler: impl Fn(u64, usize) -> S) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let schedules = number("ZFOLIO_SHUTTLE_SCHEDULES").unwrap_or(400) / 2;
    let batches = match number("ZFOLIO_SHUTTLE_BATCH") {
        Some(batch) => batch..batch + 1,
        None => 0..schedules.div_ceil(BATCH),
    };
    let tally = Arc::new(Tally::default());
    for batch in batches {
        let _batch = Batch(test, batch);
        let mut config = shuttle::Config::new();
        config.stack_size = 1 << 18;
        config.failure_persistence = FailurePersistence::None;
        config.silence_warnings = true;
        let (next, tally) = (AtomicU64::new(batch * BATCH), Arc::clone(&tally));
        Runner::new(scheduler(batch, BATCH as usize), config)
            .run(move || schedule(next.fetch_add(1, Ordering::Relaxed), &tally));
    }
    let counts = tally.all().map(|(what, count)| format!("{count} {what}"));
    println!("{test}: {}", counts.join(", "));
    for (what, count) in tally.all() {
        assert!(count > 0, "no {what} at all");
    }
}

#[test]
fn shuttle_random_schedules_lose_and_revive_no_page() {
    run("random", RandomScheduler::new_from_seed);
}

#[test]
fn shuttle_pct_schedules_lose_and_revive_no_page() {
    run("pct", |seed, schedules| PctScheduler::new_from_seed(seed, 4, schedules));
}
