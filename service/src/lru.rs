//! LRU lists, one for each tenant and node.
//!
//! An entry is on the list of the node that holds its object, from publish until it leaves the tree. Lock order:
//! slot, then list. The shrinker comes the other way round, so it only *tries* the slot, with the list locked, and
//! goes on to the next candidate when it fails.
//!
//! Free entries for the next stores wait under the same lock: who takes an entry off its list frees it as well.
//!
//! The young end is the head. Stored entries come with the referenced mark, and a candidate that has it goes back
//! to the young end without it: a second chance.
//!
//! A list also knows how many pages came to it and left it, and how many that were written back from it were wanted again:
//! had it been longer by so many, they had not been read from the device.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use crate::entry::{Chain, Entry, EntrySlab, LISTED, Magazines, REFERENCED};
use crate::folio::TenantId;
use crate::lazy_array::{LazyArray, OutOfMemory};
use crate::leaf::Leaf;
use crate::sync::Ordering;
use crate::word::EMPTY;

use zfolio_accel::PAGE_SIZE;

/// One list. What it counts is exact under its lock.
#[repr(align(128))]
pub(crate) struct List {
    /// The index of its node.
    node: usize,
    /// Pages that were wanted from the swap device, less what [`take_count`](List::take_count) has forgotten.
    disk_swapins: AtomicU64,
    links: Leaf<Links>,
}

/// Why an entry leaves its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// Its page was loaded.
    Loaded,
    /// Its page is on the swap device.
    WrittenBack,
    /// Nobody wants its page, or the entry goes to another list.
    Unwanted,
}

/// What came to a list and left it since it was made, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) stored: u64,
    pub(crate) loaded: u64,
    pub(crate) written_back: u64,
}

impl Flow {
    pub(crate) fn plus(self, other: Flow) -> Flow {
        Flow {
            stored: self.stored + other.stored,
            loaded: self.loaded + other.loaded,
            written_back: self.written_back + other.written_back,
        }
    }

    pub(crate) fn minus(self, other: Flow) -> Flow {
        Flow {
            stored: self.stored - other.stored,
            loaded: self.loaded - other.loaded,
            written_back: self.written_back - other.written_back,
        }
    }
}

#[derive(Default)]
struct Links {
    head: u32,
    tail: u32,
    entries: u64,
    /// Bytes of the entries' objects.
    object_bytes: u64,
    flow: Flow,
    /// Free entries of this node.
    free: Magazines,
}

/// Entries linked by `prev` and `next` that are on no list yet.
#[derive(Default)]
pub(crate) struct Run<'s> {
    head: u32,
    tail: u32,
    tail_entry: Option<&'s Entry>,
    entries: u64,
    object_bytes: u64,
}

impl<'s> Run<'s> {
    /// Puts an entry that is on no list at the old end of the run.
    #[inline]
    pub(crate) fn push(&mut self, id: u32, entry: &'s Entry, object_len: u64) {
        entry.prev.store(self.tail, Ordering::Relaxed);
        entry.next.store(EMPTY, Ordering::Relaxed);
        entry.flags.store(LISTED | REFERENCED, Ordering::Relaxed);
        match self.tail_entry {
            None => self.head = id,
            Some(tail) => tail.next.store(id, Ordering::Relaxed),
        }
        (self.tail, self.tail_entry) = (id, Some(entry));
        self.entries += 1;
        self.object_bytes += object_len;
    }
}

impl List {
    pub(crate) fn new(node: usize) -> List {
        List { node, disk_swapins: AtomicU64::new(0), links: Leaf::new(Links::default()) }
    }

    /// Some free entries, at least one; what is not used comes back by [`give_entries`](List::give_entries).
    pub(crate) fn take_entries(&self, slab: &EntrySlab) -> Result<Chain, OutOfMemory> {
        self.links.lock().free.take_chain(slab, self.node)
    }

    /// Takes back entries that were not needed.
    pub(crate) fn give_entries(&self, slab: &EntrySlab, entries: Chain) {
        if entries.len() > 0 {
            self.links.lock().free.give_chain(slab, self.node, entries);
        }
    }

    /// Frees an entry of this list's node that is on no list.
    pub(crate) fn free(&self, slab: &EntrySlab, id: u32, entry: &Entry) {
        debug_assert_eq!(entry.home(), self.node);
        self.links.lock().free.give(slab, self.node, id, entry);
    }

    /// Puts a run of stored pages at the young end, whole.
    #[inline]
    pub(crate) fn add(&self, slab: &EntrySlab, run: Run<'_>) {
        let stored = run.entries;
        self.link(slab, run, stored);
    }

    /// The same of pages that were on another list.
    pub(crate) fn adopt(&self, slab: &EntrySlab, run: Run<'_>) {
        self.link(slab, run, 0);
    }

    #[inline(always)]
    fn link(&self, slab: &EntrySlab, run: Run<'_>, stored: u64) {
        let Some(tail) = run.tail_entry else { return };
        let mut links = self.links.lock();
        tail.next.store(links.head, Ordering::Relaxed);
        match links.head {
            EMPTY => links.tail = run.tail,
            head => slab.at(head).prev.store(run.tail, Ordering::Relaxed),
        }
        links.head = run.head;
        links.entries += run.entries;
        links.object_bytes += run.object_bytes;
        links.flow.stored += stored;
    }

    /// Takes an entry off the list, and frees it if its memory is of this node. If not, that is left to the caller.
    #[inline(always)]
    pub(crate) fn remove(&self, slab: &EntrySlab, id: u32, entry: &Entry, object_len: u64, leaves: Leaves) {
        let mut links = self.links.lock();
        match leaves {
            Leaves::Loaded => links.flow.loaded += 1,
            Leaves::WrittenBack => links.flow.written_back += 1,
            Leaves::Unwanted => {}
        }
        links.unlink(slab, entry);
        links.entries -= 1;
        links.object_bytes -= object_len;
        if entry.home() == self.node {
            links.free.give(slab, self.node, id, entry);
        }
    }

    /// A listed entry has a shorter object now.
    pub(crate) fn shrank(&self, bytes: u64) {
        self.links.lock().object_bytes -= bytes;
    }

    /// Gives a listed entry its second chance.
    #[inline]
    pub(crate) fn mark_referenced(&self, entry: &Entry) {
        let flags = &entry.flags;
        if flags.load(Ordering::Relaxed) & REFERENCED == 0 {
            let _links = self.links.lock();
            flags.store(LISTED | REFERENCED, Ordering::Relaxed);
        }
    }

    /// Looks at up to `budget` entries from the old end, and takes from it how many those were. Each goes to the young
    /// end, a referenced one without its mark. The first other one that `try_take` takes (it tries to lock the slot) is
    /// returned, still listed: who holds its slot decides what becomes of it.
    pub(crate) fn candidate(
        &self,
        slab: &EntrySlab,
        budget: &mut u64,
        mut try_take: impl FnMut(u32, &Entry) -> bool,
    ) -> Option<u32> {
        let mut links = self.links.lock();
        while *budget > 0 {
            let id = links.tail;
            if id == EMPTY {
                return None;
            }
            *budget -= 1;
            let entry = slab.at(id);
            let referenced = entry.flags.load(Ordering::Relaxed) & REFERENCED != 0;
            let taken = !referenced && try_take(id, entry);
            links.unlink(slab, entry);
            links.push_young(slab, id);
            if taken {
                return Some(id);
            }
        }
        None
    }

    /// Entries and bytes of their objects.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let links = self.links.lock();
        (links.entries, links.object_bytes)
    }

    /// What came and left.
    pub(crate) fn flow(&self) -> Flow {
        self.links.lock().flow
    }

    /// A page that was written back from here, or would have come here, was wanted from the swap device.
    pub(crate) fn count_disk_swapin(&self) {
        self.disk_swapins.fetch_add(1, Ordering::Relaxed);
    }

    /// Entries that are protected for now because so many pages had to be read from the swap device: never more than there
    /// are.
    pub(crate) fn protected(&self) -> u64 {
        self.disk_swapins.load(Ordering::Relaxed).min(self.counts().0)
    }

    /// What zswap's shrinker counts: the entries that are not protected, scaled by how much memory they take of the memory
    /// that they stand for. So the better a list compresses, the less it is pressed, for its pages cost as much I/O as
    /// any and give less.
    pub(crate) fn count_objects(&self) -> u64 {
        let (entries, object_bytes) = self.counts();
        let freeable = entries - self.disk_swapins.load(Ordering::Relaxed).min(entries);
        let backing = u128::from(freeable) * u128::from(object_bytes);
        (backing / (u128::from(entries.max(1)) * PAGE_SIZE as u128)) as u64
    }

    /// The same for somebody who acts on it, with whom half of the protection is used up.
    pub(crate) fn take_count(&self) -> u64 {
        let count = self.count_objects();
        let entries = self.counts().0;
        let half = |swapins: u64| Some(swapins.min(entries) / 2);
        let _ = self.disk_swapins.fetch_update(Ordering::Relaxed, Ordering::Relaxed, half);
        count
    }

    /// Free entries that wait here.
    pub(crate) fn free_entries(&self) -> u64 {
        self.links.lock().free.len()
    }

    /// Calls `visit` for every entry from young to old, and says how the links are broken, if they are.
    pub(crate) fn walk(&self, slab: &EntrySlab, mut visit: impl FnMut(u32)) -> Result<(), String> {
        let links = self.links.lock();
        let (mut id, mut before, mut seen) = (links.head, EMPTY, 0);
        while id != EMPTY {
            seen += 1;
            if seen > links.entries {
                return Err(format!("LRU list of {} entries goes on after them", links.entries));
            }
            let prev = slab.at(id).prev.load(Ordering::Relaxed);
            if prev != before {
                return Err(format!("entry {id} has {prev} before it, not {before}"));
            }
            visit(id);
            (before, id) = (id, slab.at(id).next.load(Ordering::Relaxed));
        }
        if before != links.tail || seen != links.entries {
            return Err(format!(
                "LRU list ends at {before} after {seen}, not at {} after {}",
                links.tail, links.entries
            ));
        }
        Ok(())
    }
}

impl Links {
    #[inline(always)]
    fn unlink(&mut self, slab: &EntrySlab, entry: &Entry) {
        debug_assert!(entry.flags.load(Ordering::Relaxed) & LISTED != 0, "the entry is on no list");
        let (prev, next) = (entry.prev.load(Ordering::Relaxed), entry.next.load(Ordering::Relaxed));
        match prev {
            EMPTY => self.head = next,
            prev => slab.at(prev).next.store(next, Ordering::Relaxed),
        }
        match next {
            EMPTY => self.tail = prev,
            next => slab.at(next).prev.store(prev, Ordering::Relaxed),
        }
        entry.flags.store(0, Ordering::Relaxed);
    }

    fn push_young(&mut self, slab: &EntrySlab, id: u32) {
        let entry = slab.at(id);
        entry.prev.store(EMPTY, Ordering::Relaxed);
        entry.next.store(self.head, Ordering::Relaxed);
        match self.head {
            EMPTY => self.tail = id,
            head => slab.at(head).prev.store(id, Ordering::Relaxed),
        }
        entry.flags.store(LISTED, Ordering::Relaxed);
        self.head = id;
    }
}

/// The lists of tenant 0 and of every other one that has stored something, by node index.
pub(crate) struct Lru {
    /// The lists of tenant 0, for those who know no tenants.
    first: Box<[List]>,
    /// The lists of the others.
    tenants: LazyArray<OnceLock<Box<[List]>>, 10, 6>,
    nodes: usize,
}

impl Lru {
    pub(crate) fn new(nodes: usize) -> Result<Lru, OutOfMemory> {
        Ok(Lru { first: (0..nodes).map(List::new).collect(), tenants: LazyArray::new()?, nodes })
    }

    /// The lists of a tenant, made if need be.
    pub(crate) fn make(&self, tenant: TenantId) -> Result<&[List], OutOfMemory> {
        if tenant.0 == 0 {
            return Ok(&self.first);
        }
        let index = usize::from(tenant.0);
        let cell = match self.tenants.get(index) {
            Some(cell) => cell,
            None => {
                self.tenants.make_leaf(index)?;
                self.tenants.at(index)
            }
        };
        Ok(cell.get_or_init(|| (0..self.nodes).map(List::new).collect()))
    }

    /// The list of a tenant, if it has one.
    pub(crate) fn get(&self, tenant: TenantId, node: usize) -> Option<&List> {
        let lists = match tenant.0 {
            0 => &self.first,
            number => self.tenants.get(number.into())?.get()?,
        };
        lists.get(node)
    }

    /// The list of an entry that was published, so that its lists are there.
    #[inline(always)]
    pub(crate) fn list(&self, tenant: TenantId, node: usize) -> &List {
        match tenant.0 {
            0 => &self.first[node],
            number => {
                &self.tenants.at(number.into()).get().expect("made before the store was published")[node]
            }
        }
    }

    /// All lists, with their tenant and node index.
    pub(crate) fn lists(&self) -> impl Iterator<Item = (TenantId, usize, &List)> {
        let cells = self.tenants.leaves().flat_map(|(first, leaf)| {
            leaf.iter().enumerate().filter_map(move |(i, cell)| Some((first + i, cell.get()?)))
        });
        let first = std::iter::once((0, &self.first));
        first.chain(cells).flat_map(|(index, lists)| {
            let tenant = TenantId(u16::try_from(index).expect("65536 tenants"));
            lists.iter().enumerate().map(move |(node, list)| (tenant, node, list))
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.tenants.bytes() + self.lists().map(|(_, _, list)| size_of_val(list) as u64).sum::<u64>()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use zfolio_accel::NodeId;

    fn slab_with(entries: u32) -> (EntrySlab, Vec<u32>) {
        let slab = EntrySlab::new(&[NodeId(0)]).unwrap();
        let mut magazines = Magazines::default();
        let ids = (0..entries).map(|_| magazines.take(&slab, 0).expect("there is memory").0).collect();
        (slab, ids)
    }

    fn order(list: &List, slab: &EntrySlab) -> Vec<u32> {
        let mut order = Vec::new();
        list.walk(slab, |id| order.push(id)).unwrap();
        order
    }

    fn run<'s>(slab: &'s EntrySlab, ids: &[u32]) -> Run<'s> {
        let mut run = Run::default();
        ids.iter().for_each(|&id| run.push(id, slab.at(id), 100));
        run
    }

    #[test]
    fn referenced_entries_get_a_second_chance_and_only_one() {
        let (slab, ids) = slab_with(3);
        let list = List::new(0);
        list.add(&slab, run(&slab, &ids));
        assert_eq!(list.candidate(&slab, &mut 3, |_, _| true), None, "all were just stored");
        assert_eq!(order(&list, &slab), ids, "one round leaves the order");
        list.mark_referenced(slab.at(ids[2]));
        assert_eq!(
            list.candidate(&slab, &mut 2, |_, _| true),
            Some(ids[1]),
            "the oldest was read, the next was not"
        );
    }

    #[test]
    fn candidate_whose_slot_is_taken_is_passed_over() {
        let (slab, ids) = slab_with(3);
        let list = List::new(0);
        list.add(&slab, run(&slab, &ids));
        assert_eq!(list.candidate(&slab, &mut 3, |_, _| false), None);
        assert_eq!(list.candidate(&slab, &mut 3, |id, _| id != ids[2]), Some(ids[1]));
        assert_eq!(list.counts(), (3, 300), "a candidate stays listed until its slot's holder removes it");
    }

    #[test]
    fn removal_from_anywhere_keeps_the_order_of_the_rest() {
        let (slab, ids) = slab_with(5);
        let list = List::new(0);
        list.add(&slab, run(&slab, &ids[3..]));
        list.add(&slab, run(&slab, &ids[..3]));
        assert_eq!(order(&list, &slab), ids);
        for gone in [2, 0, 4] {
            list.remove(&slab, ids[gone], slab.at(ids[gone]), 100, Leaves::Unwanted);
        }
        assert_eq!(order(&list, &slab), [ids[1], ids[3]]);
        assert_eq!(list.counts(), (2, 200));
        list.remove(&slab, ids[1], slab.at(ids[1]), 100, Leaves::Loaded);
        list.remove(&slab, ids[3], slab.at(ids[3]), 100, Leaves::WrittenBack);
        assert_eq!((order(&list, &slab), list.counts()), (vec![], (0, 0)));
        assert_eq!(list.flow(), Flow { stored: 5, loaded: 1, written_back: 1 });
    }

    #[test]
    fn count_leaves_out_what_is_protected_and_scales_with_the_ratio() {
        let (slab, ids) = slab_with(64);
        let list = List::new(0);
        let mut run = Run::default();
        ids.iter().for_each(|&id| run.push(id, slab.at(id), PAGE_SIZE as u64 / 4));
        list.add(&slab, run);
        assert_eq!(list.count_objects(), 16, "four pages in the memory of one");
        for _ in 0..32 {
            list.count_disk_swapin();
        }
        assert_eq!((list.protected(), list.count_objects()), (32, 8));
        let counts: Vec<u64> = (0..7).map(|_| list.take_count()).collect();
        assert_eq!(counts, [8, 12, 14, 15, 15, 15, 16], "protection is halved by each count");
        for _ in 0..1000 {
            list.count_disk_swapin();
        }
        assert_eq!((list.protected(), list.take_count()), (64, 0), "never more than there are");
        assert_eq!(list.take_count(), 8, "and what was beyond is forgotten");
    }
}
