//! Every order in which threads can meet at a slot word or an LRU list, tried by loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p zfolio --release loom`.
//!
//! Loom has no time, so a wake-up that is lost is a deadlock here, which it reports. What a lock protects is kept in
//! relaxed atomics: an unlock that published too little would let a stale value through.

use loom::sync::Arc;
use loom::thread;
use std::time::Instant;

use crate::entry::EntrySlab;
use crate::folio::{SwapEntry, TenantId};
use crate::leaf::Leaf;
use crate::lru::{Leaves, List, Run};
use crate::park::ParkingLot;
use crate::sync::{AtomicU32, Ordering};
use crate::word::{EMPTY, Slot, is_entry, on_device};
use crate::zsmalloc::RawObject;
use zfolio_accel::NodeId;

const ON_DEVICE: u32 = on_device(TenantId(0), 0);

/// Tries all orders with at most so many preemptions.
fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// A slot, where to wait for it, and what its lock protects.
struct Page {
    slot: Slot,
    lot: ParkingLot,
    contents: AtomicU32,
}

impl Page {
    fn new() -> Arc<Page> {
        Arc::new(Page { slot: Slot::default(), lot: ParkingLot::new(), contents: AtomicU32::new(0) })
    }

    fn lock(&self) {
        self.slot.lock(&self.lot, Instant::now).expect("loom has no time");
    }

    fn unlock(&self, id: u32) {
        self.slot.unlock(&self.lot, id);
    }

    /// Adds one, as only the lock's holder can.
    fn count(&self) {
        let before = self.contents.load(Ordering::Relaxed);
        self.contents.store(before + 1, Ordering::Relaxed);
    }
}

#[test]
fn of_two_lockers_each_gets_its_turn_and_sees_the_others() {
    model(3, || {
        let page = Page::new();
        let turn = |page: &Page| {
            page.lock();
            page.count();
            page.unlock(page.slot.id() + 1);
        };
        let other = {
            let page = Arc::clone(&page);
            thread::spawn(move || turn(&page))
        };
        turn(&page);
        other.join().unwrap();
        assert_eq!((page.slot.id(), page.contents.load(Ordering::Relaxed)), (2, 2));
    });
}

#[test]
fn of_three_lockers_each_gets_its_turn() {
    model(3, || {
        let page = Page::new();
        let turn = |page: &Page| {
            page.lock();
            page.count();
            page.unlock(EMPTY);
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let page = Arc::clone(&page);
                thread::spawn(move || turn(&page))
            })
            .collect();
        turn(&page);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(page.contents.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn who_waits_for_a_write_to_the_swap_device_is_woken_by_its_end_and_not_before() {
    model(3, || {
        let page = Page::new();
        page.lock();
        page.unlock(7);
        page.lock();
        page.slot.unlock_with_io(&page.lot);
        let writer = {
            let page = Arc::clone(&page);
            thread::spawn(move || {
                page.contents.store(1, Ordering::Relaxed);
                page.slot.end_io(&page.lot);
            })
        };
        // Invalidate: empties the slot, and waits before it gives the slot's place on the device away.
        page.lock();
        assert_eq!(page.slot.id(), 7);
        page.unlock(EMPTY);
        page.slot.wait_for_writeback(&page.lot, Instant::now()).unwrap();
        assert_eq!(page.contents.load(Ordering::Relaxed), 1, "the write is still under way");
        writer.join().unwrap();
        assert!(page.slot.is_vacant() && !page.slot.in_writeback());
    });
}

#[test]
fn shrinker_that_tries_a_slot_never_takes_the_page_that_came_after() {
    model(3, || {
        let page = Page::new();
        page.lock();
        page.contents.store(70, Ordering::Relaxed);
        page.unlock(7);
        let shrinker = {
            let page = Arc::clone(&page);
            thread::spawn(move || {
                if !page.slot.try_lock_holding(7) {
                    return false;
                }
                assert_eq!(page.contents.load(Ordering::Relaxed), 70, "the page of entry 7, whole");
                page.contents.store(0, Ordering::Relaxed);
                page.unlock(EMPTY);
                true
            })
        };
        // A load takes the page; a store puts another one there.
        page.lock();
        let loaded = page.slot.id() == 7;
        page.unlock(EMPTY);
        page.lock();
        page.contents.store(80, Ordering::Relaxed);
        page.unlock(8);
        assert!(loaded != shrinker.join().unwrap(), "one of them has the page, not both and not none");
        assert_eq!((page.slot.id(), page.contents.load(Ordering::Relaxed)), (8, 80));
    });
}

/// Slots 0 and 1, an LRU list, and the entries.
struct Shelf {
    slots: [Slot; 2],
    lot: ParkingLot,
    slab: EntrySlab,
    list: List,
}

const LEN: u64 = 100;

impl Shelf {
    fn new() -> Shelf {
        Shelf {
            slots: Default::default(),
            lot: ParkingLot::new(),
            slab: EntrySlab::new(&[NodeId(0)]).unwrap(),
            list: List::new(0),
        }
    }

    fn lock(&self, slot: usize) {
        self.slots[slot].lock(&self.lot, Instant::now).expect("loom has no time");
    }

    /// Stores a page in an empty slot.
    fn publish(&self, slot: usize) -> u32 {
        self.lock(slot);
        let mut entries = self.list.take_entries(&self.slab).expect("there is memory");
        let (id, entry) = entries.pop(&self.slab).expect("at least one");
        self.list.give_entries(&self.slab, entries);
        entry.set_owner(SwapEntry::new(0, slot as u32), 0, TenantId(0), 0);
        entry.set_object(RawObject { zspage: slot as u32, index: 0, len: LEN as u16 }, None, 0);
        let mut run = Run::default();
        run.push(id, entry, LEN);
        self.list.add(&self.slab, run);
        self.slots[slot].unlock(&self.lot, id);
        id
    }

    /// Takes a page out by its locked slot.
    fn remove(&self, slot: usize) {
        let id = self.slots[slot].id();
        self.list.remove(&self.slab, id, self.slab.at(id), LEN, Leaves::Loaded);
        self.slots[slot].unlock(&self.lot, EMPTY);
    }

    fn load(&self, slot: usize) -> bool {
        self.lock(slot);
        if self.slots[slot].id() == EMPTY {
            self.slots[slot].unlock(&self.lot, EMPTY);
            return false;
        }
        self.remove(slot);
        true
    }

    /// Takes out the page that was not used for longest, and says of which slot.
    fn shrink(&self) -> Option<usize> {
        let slot_of = |id| self.slab.at(id).swap_entry().offset() as usize;
        let id =
            self.list.candidate(&self.slab, &mut 3, |id, _| self.slots[slot_of(id)].try_lock_holding(id))?;
        let slot = slot_of(id);
        assert_eq!(self.slots[slot].id(), id);
        self.remove(slot);
        Some(slot)
    }

    fn assert_holds(&self, pages: u64) {
        let mut listed = 0;
        self.list.walk(&self.slab, |_| listed += 1).unwrap();
        assert_eq!((listed, self.list.counts()), (pages, (pages, pages * LEN)));
    }
}

#[test]
fn page_goes_to_the_load_or_to_the_shrinker_and_never_to_both() {
    model(3, || {
        let shelf = Arc::new(Shelf::new());
        shelf.publish(0);
        shelf.publish(1);
        let shrinker = {
            let shelf = Arc::clone(&shelf);
            thread::spawn(move || shelf.shrink())
        };
        let loaded = shelf.load(0);
        let shrunk = shrinker.join().unwrap();
        assert!(loaded != (shrunk == Some(0)), "loaded: {loaded}, shrunk: {shrunk:?}");
        shelf.assert_holds(2 - u64::from(loaded) - u64::from(shrunk.is_some()));
    });
}

#[test]
fn entry_that_is_used_again_is_not_taken_for_the_one_before() {
    model(3, || {
        let shelf = Arc::new(Shelf::new());
        let old = shelf.publish(0);
        let shrinker = {
            let shelf = Arc::clone(&shelf);
            thread::spawn(move || shelf.shrink())
        };
        // The entry of slot 0 is freed, and is the next one that a store gets: now it is of slot 1.
        let loaded = shelf.load(0);
        let new = shelf.publish(1);
        assert_eq!(old, new, "else this test is of nothing");
        let shrunk = shrinker.join().unwrap();
        assert!(loaded != (shrunk == Some(0)), "loaded: {loaded}, shrunk: {shrunk:?}");
        let there = shelf.slots[1].id() != EMPTY;
        assert!(there != (shrunk == Some(1)), "there: {there}, shrunk: {shrunk:?}");
        shelf.assert_holds(there.into());
    });
}

#[test]
fn page_that_is_being_published_is_whole_or_not_there_for_the_shrinker() {
    model(3, || {
        let shelf = Arc::new(Shelf::new());
        let shrinker = {
            let shelf = Arc::clone(&shelf);
            thread::spawn(move || shelf.shrink())
        };
        // It is listed before its slot is unlocked with it.
        shelf.publish(1);
        let shrunk = shrinker.join().unwrap();
        assert!((shelf.slots[1].id() != EMPTY) != (shrunk == Some(1)), "shrunk {shrunk:?}");
        shelf.assert_holds(1 - u64::from(shrunk.is_some()));
    });
}

#[test]
fn leaf_lock_has_one_holder_and_every_sleeper_is_woken() {
    model(3, || {
        let leaf = Arc::new(Leaf::new(0));
        let others: Vec<_> = (0..2)
            .map(|_| {
                let leaf = Arc::clone(&leaf);
                thread::spawn(move || *leaf.lock() += 1)
            })
            .collect();
        *leaf.lock() += 1;
        others.into_iter().for_each(|other| other.join().unwrap());
        // Loom watches the value: two guards at a time would be found even if they did not lose a count.
        assert_eq!(*leaf.lock(), 3);
    });
}

/// A page of slot 0 whose bytes are one number, and the device that it is written to.
struct Tiers {
    shelf: Shelf,
    version: AtomicU32,
    device: AtomicU32,
}

impl Tiers {
    fn new() -> Arc<Tiers> {
        let (version, device) = (AtomicU32::new(0), AtomicU32::new(0));
        Arc::new(Tiers { shelf: Shelf::new(), version, device })
    }

    fn store(&self, version: u32) -> u32 {
        let (shelf, slot) = (&self.shelf, &self.shelf.slots[0]);
        shelf.lock(0);
        if is_entry(slot.id()) {
            shelf.list.remove(&shelf.slab, slot.id(), shelf.slab.at(slot.id()), LEN, Leaves::Unwanted);
        }
        self.version.store(version, Ordering::Relaxed);
        let mut entries = shelf.list.take_entries(&shelf.slab).expect("there is memory");
        let (id, entry) = entries.pop(&shelf.slab).expect("at least one");
        shelf.list.give_entries(&shelf.slab, entries);
        entry.set_owner(SwapEntry::new(0, 0), 0, TenantId(0), 0);
        entry.set_object(RawObject { zspage: 0, index: 0, len: LEN as u16 }, None, 0);
        let mut run = Run::default();
        run.push(id, entry, LEN);
        shelf.list.add(&shelf.slab, run);
        slot.unlock(&shelf.lot, id);
        id
    }

    /// The page, taken out, from RAM or from the device.
    fn load(&self) -> Option<u32> {
        let (shelf, slot) = (&self.shelf, &self.shelf.slots[0]);
        shelf.lock(0);
        let version = match slot.id() {
            EMPTY => None,
            ON_DEVICE => Some(self.device.load(Ordering::Relaxed)),
            _ => Some(self.version.load(Ordering::Relaxed)),
        };
        if is_entry(slot.id()) {
            shelf.remove(0);
        } else {
            slot.unlock(&shelf.lot, EMPTY);
        }
        version
    }

    /// As the shrinker does it, with a write that succeeds or not.
    fn write_back(&self, succeeds: bool) {
        let (shelf, slot) = (&self.shelf, &self.shelf.slots[0]);
        let Some(id) = shelf.list.candidate(&shelf.slab, &mut 3, |id, _| slot.try_lock_without_io(id)) else {
            return;
        };
        let (entry, version) = (shelf.slab.at(id), self.version.load(Ordering::Relaxed));
        entry.mark_writing();
        slot.unlock_with_io(&shelf.lot);
        self.device.store(version, Ordering::Relaxed);
        if !succeeds || !slot.try_lock_holding(id) {
            slot.end_io(&shelf.lot);
        } else if entry.is_writing() {
            shelf.list.remove(&shelf.slab, id, entry, LEN, Leaves::WrittenBack);
            slot.unlock_after_io(&shelf.lot, ON_DEVICE);
        } else {
            slot.unlock_after_io(&shelf.lot, id);
        }
    }
}

#[test]
fn newer_page_survives_the_write_of_the_older_whatever_entry_it_has() {
    for succeeds in [true, false] {
        model(3, move || {
            let tiers = Tiers::new();
            let old = tiers.store(1);
            let shrinker = {
                let tiers = Arc::clone(&tiers);
                thread::spawn(move || tiers.write_back(succeeds))
            };
            assert_eq!(tiers.load(), Some(1));
            let new = tiers.store(2);
            assert_eq!(old, new, "else this test is of less");
            shrinker.join().unwrap();
            assert!(!tiers.shelf.slots[0].in_writeback());
            assert_eq!((tiers.load(), tiers.load()), (Some(2), None), "the older page came back");
        });
    }
}

#[test]
fn replaced_page_is_not_freed_for_the_write_of_the_one_before() {
    model(3, || {
        let tiers = Tiers::new();
        tiers.store(1);
        let shrinker = {
            let tiers = Arc::clone(&tiers);
            thread::spawn(move || tiers.write_back(true))
        };
        tiers.store(2);
        shrinker.join().unwrap();
        assert_eq!((tiers.load(), tiers.load()), (Some(2), None));
    });
}

#[test]
fn of_two_shrinkers_one_writes_a_page() {
    model(2, || {
        let tiers = Tiers::new();
        tiers.store(1);
        let shrinker = {
            let tiers = Arc::clone(&tiers);
            thread::spawn(move || tiers.write_back(true))
        };
        tiers.write_back(true);
        shrinker.join().unwrap();
        assert!(!tiers.shelf.slots[0].in_writeback());
        tiers.shelf.assert_holds(u64::from(is_entry(tiers.shelf.slots[0].id())));
        assert_eq!((tiers.load(), tiers.load()), (Some(1), None));
    });
}
