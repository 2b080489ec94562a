//! The parts of a store one by one, for this repository's benches; not part of the API.
//!
//! Each is thin: it calls what a store or load calls, on a single node, and gives the bench a way to check what it
//! timed. It panics where a store would fail. Work that a store cannot come by, such as removing an id twice, is
//! not caught.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zfolio_accel::{ForkGuard, NodeId};

use crate::config::Placement;
use crate::entry::{Chain, EntrySlab, LISTED};
use crate::folio::SwapEntry;
use crate::limit::Limit;
use crate::lru::{self, Leaves, Run};
use crate::park::ParkingLot;
use crate::sync::Ordering;
use crate::tree;
use crate::word::Slot;
use crate::zsmalloc::{ArenaConfig, Homes, ZsPool};

/// The owner of every object; the pool does not look at it.
const OWNER: u32 = 1;
/// The bytes of every listed entry's object.
const OBJECT_LEN: u64 = 1500;

/// Compressed pages, with all emptied memory kept warm.
pub struct Pool(ZsPool);

impl Pool {
    /// A pool of at most so many pages.
    pub fn new(max_pages: u64) -> Pool {
        let arena = ArenaConfig {
            nodes: &[NodeId(0)],
            pool_limit: Limit::new(max_pages, 90),
            node_limits: vec![Limit::new(max_pages, 90)],
            warm_pages: max_pages,
            fork: Arc::new(ForkGuard::new().expect("the kernel knows MADV_WIPEONFORK")),
        };
        let pool = ZsPool::new(arena, Homes::new(Placement::Prefer, &[Box::default()]));
        Pool(pool.expect("address space"))
    }

    /// An object of these bytes, 1 to 4096. Dropping it frees it.
    #[inline]
    pub fn store<'p>(&'p self, bytes: &[u8]) -> impl Sized + use<'p> {
        self.0.store(bytes, 0, OWNER).expect("within the limit")
    }

    /// Objects, and their bytes.
    pub fn counts(&self) -> (u64, u64) {
        let usage = self.0.usage(0);
        (usage.objects, usage.object_bytes)
    }

    /// Panics if lists, headers, counts and the kernel do not agree.
    pub fn check(&self) {
        self.0.check().expect("the pool is consistent");
    }
}

/// An LRU list, and the entries on it by their ids.
pub struct List {
    slab: EntrySlab,
    list: lru::List,
}

impl List {
    /// An empty list.
    #[expect(clippy::new_without_default, reason = "for benches, which make it once")]
    pub fn new() -> List {
        List { slab: EntrySlab::new(&[NodeId(0)]).expect("address space"), list: lru::List::new(0) }
    }

    /// Takes as many free entries as there is room for ids, and puts them at the young end in one run.
    #[inline]
    pub fn add(&self, ids: &mut [u32]) {
        let (mut free, mut run) = (Chain::default(), Run::default());
        for place in ids {
            let (id, entry) = match free.pop(&self.slab) {
                Some(taken) => taken,
                None => {
                    free = self.list.take_entries(&self.slab).expect("there is memory");
                    free.pop(&self.slab).expect("at least one")
                }
            };
            run.push(id, entry, OBJECT_LEN);
            *place = id;
        }
        self.list.add(&self.slab, run);
        self.list.give_entries(&self.slab, free);
    }

    /// Takes a listed entry off the list and frees it.
    #[inline]
    pub fn remove(&self, id: u32) {
        self.list.remove(&self.slab, id, self.slab.at(id), OBJECT_LEN, Leaves::Loaded);
    }

    /// Gives a listed entry its second chance.
    #[inline]
    pub fn mark_referenced(&self, id: u32) {
        self.list.mark_referenced(self.slab.at(id));
    }

    /// Takes the mark from a listed entry, as the shrinker does when it passes by.
    pub fn clear_referenced(&self, id: u32) {
        self.slab.at(id).flags.store(LISTED, Ordering::Relaxed);
    }

    /// The ids from young to old. Panics if links or counts are broken.
    pub fn ids(&self) -> Vec<u32> {
        let mut ids = Vec::new();
        self.list.walk(&self.slab, |id| ids.push(id)).expect("the list is consistent");
        let entries = ids.len() as u64;
        assert_eq!(self.list.counts(), (entries, entries * OBJECT_LEN));
        assert_eq!(self.slab.handed_out() - self.list.free_entries(), entries, "entries in use");
        ids
    }
}

/// The slots of one swap type, each with an id in it, and where to wait for them.
pub struct Tree {
    tree: tree::Tree,
    lot: ParkingLot,
}

impl Tree {
    /// Slots that hold these ids, each 1 to 2^30 - 2.
    pub fn new(ids: &[u32]) -> Tree {
        let tree = Tree { tree: tree::Tree::new(), lot: ParkingLot::new() };
        tree.tree.swapon(0, u32::try_from(ids.len()).expect("at most 2^30"), None).expect("the first swapon");
        for (offset, &id) in (0..).zip(ids) {
            let slots = tree.tree.folio_slots(SwapEntry::new(0, offset), 1).expect("there is memory");
            assert!(slots[0].try_lock());
            slots[0].unlock(&tree.lot, id);
        }
        tree
    }

    #[inline]
    fn slot(&self, offset: u32) -> &Slot {
        self.tree.slot(SwapEntry::new(0, offset)).expect("made when the tree was")
    }

    /// Looks a slot up, and says which id it holds.
    #[inline]
    pub fn id(&self, offset: u32) -> u32 {
        self.slot(offset).id()
    }

    /// Looks a slot up, locks it, unlocks it, and says which id it holds.
    #[inline]
    pub fn lock_and_unlock(&self, offset: u32) -> u32 {
        let slot = self.slot(offset);
        let id =
            slot.lock(&self.lot, || Instant::now() + Duration::from_secs(10)).expect("nobody else is here");
        slot.unlock(&self.lot, id);
        id
    }

    /// The ids of all slots. Panics if a slot is locked.
    pub fn ids(&self) -> Vec<u32> {
        let slots = self.tree.slots().take(self.tree.len(0) as usize);
        let id = |(at, slot): (SwapEntry, &Slot)| {
            assert!(!slot.is_locked(), "{at} is locked");
            slot.id()
        };
        slots.map(id).collect()
    }
}
