//! Many threads on the same slots, each of which must have behaved as if the operations on it took place [one after
//! another](super::order).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use zfolio_accel::Page;

use super::order::{self, Did, Event, assert_one_after_another};
use super::*;
use crate::{Incompressible, LoadError, StoreError, TenantId};

const THREADS: usize = 4;
/// Few, so that threads meet.
const SLOTS: usize = 64;

/// Pages of any length, some that do not shrink and some of one word.
fn noise(version: u64, random: &mut Random) -> usize {
    match version % 5 {
        0 => 0,
        1 => PAGE_SIZE / 8 - 1,
        _ => random.below(PAGE_SIZE / 8),
    }
}

fn stamped(slot: usize, version: u64) -> PageBytes {
    order::stamped(slot, version, noise)
}

fn version_in(page: &PageBytes, slot: usize) -> u64 {
    order::version_in(page, slot, noise)
}

/// What all threads share.
struct Stage {
    zswap: Zswap,
    clock: AtomicU64,
    versions: AtomicU64,
    stop: AtomicBool,
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
        Actor { stage, thread, random: Random::new(seed * 100 + thread as u64), events: Vec::new() }
    }

    fn now(&self) -> u64 {
        self.stage.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&mut self, slot: usize, called: u64, returned: u64, did: Did) {
        self.events.push(Event { slot, thread: self.thread, called, returned, did });
    }

    fn act(&mut self) {
        match self.random.below(20) {
            0..7 => self.store(),
            7..9 => self.store_each(),
            9..13 => self.load(),
            13..15 => self.read(),
            15..17 => self.load_batch(),
            17 => self.invalidate(),
            18 => self.invalidate_range(),
            _ => self.shrink(),
        }
    }

    /// First slot and pages of a folio, with the version of each.
    fn folio(&mut self) -> (usize, Vec<u64>, Vec<PageBytes>) {
        let size = 1 << self.random.below(5);
        let first = self.random.below(SLOTS) / size * size;
        let versions: Vec<u64> =
            (0..size).map(|_| self.stage.versions.fetch_add(1, Ordering::Relaxed)).collect();
        let pages = versions.iter().zip(first..).map(|(&version, slot)| stamped(slot, version)).collect();
        (first, versions, pages)
    }

    fn store(&mut self) {
        let (first, versions, pages) = self.folio();
        let folio = folio(first, &pages).with_tenant(TenantId(self.random.below(3) as u16));
        let called = self.now();
        let result = self.stage.zswap.store(&folio);
        let returned = self.now();
        for (slot, version) in (first..).zip(versions) {
            match result {
                Ok(()) => self.note(slot, called, returned, Did::Store(version)),
                Err(StoreError::NoSuchSwap { .. }) => {}
                Err(StoreError::PoolFull { .. } | StoreError::Incompressible { .. }) => {
                    self.note(slot, called, returned, Did::Erase);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn store_each(&mut self) {
        let (first, versions, pages) = self.folio();
        let called = self.now();
        let mut results = Vec::new();
        let whole = self.stage.zswap.store_each(&folio(first, &pages), |_, result| results.push(result));
        let returned = self.now();
        assert!(matches!(whole, Ok(()) | Err(StoreError::NoSuchSwap { .. })), "{whole:?}");
        for ((slot, version), result) in (first..).zip(versions).zip(results) {
            let did = if result.is_ok() { Did::Store(version) } else { Did::Erase };
            self.note(slot, called, returned, did);
        }
    }

    fn load(&mut self) {
        let (slot, mut page) = (self.random.below(SLOTS), [0; PAGE_SIZE]);
        let called = self.now();
        let result = self.stage.zswap.load(at(slot), &mut page);
        let returned = self.now();
        let did = match result {
            Ok(()) => Did::Take(version_in(&page, slot)),
            Err(LoadError::NotFound) => Did::Miss,
            Err(error) => panic!("{error}"),
        };
        self.note(slot, called, returned, did);
    }

    fn read(&mut self) {
        let (slot, mut page) = (self.random.below(SLOTS), [0; PAGE_SIZE]);
        let called = self.now();
        let result = self.stage.zswap.read(at(slot), &mut page);
        let returned = self.now();
        let did = match result {
            Ok(()) => Did::Read(version_in(&page, slot)),
            Err(LoadError::NotFound) => Did::Miss,
            Err(error) => panic!("{error}"),
        };
        self.note(slot, called, returned, did);
    }

    /// A batch in any order; in every eighth the caller's closure panics on the way.
    fn load_batch(&mut self) {
        let count = 1 + self.random.below(16);
        let start = self.random.below(SLOTS);
        let step = [1, 5, SLOTS - 1][self.random.below(3)];
        let slots: Vec<usize> = (0..count).map(|k| (start + k * step) % SLOTS).collect();
        let entries: Vec<SwapEntry> = slots.iter().map(|&slot| at(slot)).collect();
        let panics_at = if self.random.below(8) == 0 { self.random.below(count) } else { usize::MAX };
        let mut pages = Page::zeroed_vec(count);
        let mut results = vec![None; count];
        let mut told = 0;
        let called = self.now();
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.stage.zswap.load_batch(&entries, &mut pages, |index, result| {
                results[index] = Some(result);
                told += 1;
                if told > panics_at {
                    resume_unwind(Box::new("the caller panics"));
                }
            });
        }));
        let returned = self.now();
        for (index, slot) in slots.into_iter().enumerate() {
            match results[index] {
                Some(Ok(())) => {
                    let version = version_in(&pages[index], slot);
                    self.note(slot, called, returned, Did::Take(version));
                }
                Some(Err(LoadError::NotFound)) => self.note(slot, called, returned, Did::Miss),
                Some(Err(error)) => panic!("{error}"),
                // Not told of: the page stays where it was.
                None => assert!(panics_at < count),
            }
        }
    }

    fn invalidate(&mut self) {
        let slot = self.random.below(SLOTS);
        let called = self.now();
        let found = self.stage.zswap.invalidate(at(slot)).unwrap();
        let returned = self.now();
        self.note(slot, called, returned, if found { Did::Remove } else { Did::Miss });
    }

    fn invalidate_range(&mut self) {
        let first = self.random.below(SLOTS);
        let slots = 1 + self.random.below(SLOTS - first);
        let called = self.now();
        self.stage.zswap.invalidate_range(at(first), slots as u32).unwrap();
        let returned = self.now();
        (first..first + slots).for_each(|slot| self.note(slot, called, returned, Did::Erase));
    }

    /// A shrinker whose writes fail: pages stay as they are. Meanwhile only those wait who give the slot's place on the
    /// device away.
    fn shrink(&mut self) {
        self.stage.zswap.shrink(NodeId(0), 1 << 14).unwrap();
    }

    /// Switches the area off and on again, with all slots or not.
    fn swapoff_and_on(&mut self) {
        let called = self.now();
        self.stage.zswap.swapoff(0).unwrap();
        let returned = self.now();
        (0..SLOTS).for_each(|slot| self.note(slot, called, returned, Did::Erase));
        std::thread::sleep(Duration::from_micros(200));
        for (entry, slot) in self.stage.zswap.tree.slots() {
            assert_eq!(slot.id(), 0, "{entry} was filled while its area was off");
        }
        self.stage.zswap.swapon(0, SLOTS as u32).unwrap();
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Has the threads do so many operations each, and `beside` meanwhile, and looks for the order.
fn run(config: Config, operations: usize, seed: u64, beside: impl Fn(&mut Actor<'_>) + Sync) {
    let zswap = store_on(&Topology::single_node(), config);
    let stage =
        Stage { zswap, clock: AtomicU64::new(0), versions: AtomicU64::new(1), stop: AtomicBool::new(false) };
    let mut events: Vec<Event> = std::thread::scope(|scope| {
        let (stage, beside) = (&stage, &beside);
        let beside = scope.spawn(move || {
            let mut actor = Actor::new(stage, THREADS, seed);
            while !stage.stop.load(Ordering::Relaxed) {
                beside(&mut actor);
            }
            actor.events
        });
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || {
                    let mut actor = Actor::new(stage, thread, seed);
                    (0..operations).for_each(|_| actor.act());
                    actor.events
                })
            })
            .collect();
        let joined: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        stage.stop.store(true, Ordering::Relaxed);
        let all = joined.into_iter().map(|events| events.unwrap_or_else(|panic| resume_unwind(panic)));
        all.chain([beside.join().unwrap()]).flatten().collect()
    });
    stage.zswap.check().unwrap();
    // What is there at the end is an answer like any other.
    let mut last = Actor::new(&stage, THREADS + 1, seed);
    for slot in 0..SLOTS {
        let mut page = [0; PAGE_SIZE];
        let called = last.now();
        let result = stage.zswap.load(at(slot), &mut page);
        let returned = last.now();
        let did = if result.is_ok() { Did::Take(version_in(&page, slot)) } else { Did::Miss };
        last.note(slot, called, returned, did);
    }
    events.append(&mut last.events);
    for slot in 0..SLOTS {
        let events: Vec<Event> = events.iter().filter(|event| event.slot == slot).copied().collect();
        assert_one_after_another(slot, &events);
    }
    assert_nothing_is_left(&stage.zswap);
}

fn nap(_: &mut Actor<'_>) {
    std::thread::sleep(Duration::from_millis(1));
}

#[test]
fn each_slot_behaves_as_if_operations_came_one_after_another() {
    for (seed, method) in Method::ALL.into_iter().enumerate() {
        run(Config { method: Some(method), ..Config::default() }, 2500, seed as u64, nap);
    }
}

#[test]
fn swapoff_and_swapon_amid_everything_lose_and_revive_no_page() {
    run(Config::default(), 2500, 7, |actor| actor.swapoff_and_on());
}

#[test]
fn pool_that_is_always_full_loses_and_revives_no_page() {
    let config = Config { incompressible: Incompressible::Refuse, warm_bytes: 8 * 4096, ..pool_of(24) };
    run(config, 2500, 8, |actor| {
        actor.stage.zswap.release_warm();
        std::thread::sleep(Duration::from_micros(300));
    });
}

/// Both wait for the same slot, and now one, now the other gets it first. A page that came in after swapoff had gone
/// by would be there when the area comes back, as somebody else's.
#[test]
fn store_that_waits_while_its_area_is_switched_off_leaves_nothing_in_it() {
    let zswap = store_on(&Topology::single_node(), Config::default());
    let slot = &zswap.tree.folio_slots(at(5), 1).unwrap()[0];
    let mut stored = 0;
    for version in 1..=200 {
        assert!(slot.try_lock());
        std::thread::scope(|scope| {
            let store = scope.spawn(|| zswap.store(&folio(5, &[stamped(5, version)])));
            let swapoff = scope.spawn(|| zswap.swapoff(0));
            std::thread::sleep(Duration::from_micros(500));
            slot.unlock(&zswap.lot, 0);
            match store.join().unwrap() {
                Ok(()) => stored += 1,
                Err(error) => assert!(matches!(error, StoreError::NoSuchSwap { .. }), "{error}"),
            }
            swapoff.join().unwrap().unwrap();
        });
        assert_eq!(slot.id(), 0, "version {version} is in an area that is off");
        zswap.swapon(0, SLOTS as u32).unwrap();
    }
    println!("the store was first {stored} times of 200");
    assert_nothing_is_left(&zswap);
}

#[test]
fn oracle_notices_a_page_that_comes_back() {
    let event = |thread, called, did| Event { slot: 0, thread, called, returned: called + 1, did };
    let histories = [
        // Given to two.
        vec![event(0, 0, Did::Store(1)), event(1, 2, Did::Take(1)), event(2, 4, Did::Take(1))],
        // Replaced, and read all the same.
        vec![event(0, 0, Did::Store(1)), event(0, 2, Did::Store(2)), event(1, 4, Did::Read(1))],
        // Lost.
        vec![event(0, 0, Did::Store(1)), event(1, 2, Did::Miss)],
    ];
    for history in histories {
        assert!(catch_unwind(|| assert_one_after_another(0, &history)).is_err(), "{history:?}");
    }
    let overlapping = [
        Event { slot: 0, thread: 0, called: 0, returned: 9, did: Did::Store(1) },
        Event { slot: 0, thread: 1, called: 1, returned: 8, did: Did::Take(1) },
        Event { slot: 0, thread: 2, called: 2, returned: 7, did: Did::Miss },
    ];
    assert_one_after_another(0, &overlapping);
    // A store that goes past the store empties the slot first, and a page in between is newer.
    let past = |did| {
        [
            Event { slot: 0, thread: 0, called: 0, returned: 1, did: Did::Store(1) },
            Event { slot: 0, thread: 0, called: 2, returned: 9, did },
            Event { slot: 0, thread: 1, called: 3, returned: 4, did: Did::Miss },
            Event { slot: 0, thread: 1, called: 5, returned: 6, did: Did::Read(2) },
            Event { slot: 0, thread: 1, called: 10, returned: 11, did: Did::Miss },
        ]
    };
    assert_one_after_another(0, &past(Did::TriedPast(2)));
    assert!(catch_unwind(|| assert_one_after_another(0, &past(Did::StorePast(2)))).is_err(), "lost");
    assert_one_after_another(0, &past(Did::StorePast(2))[..4]);
}
