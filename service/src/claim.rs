//! Who holds a slot: a store holds the slots of its folio, everybody else one slot.
//!
//! Holding a slot's lock is owning its page, its entry and its compressed bytes. This is the one place outside the
//! pool that turns the names of objects into bytes and frees them; the unsafe blocks below rest on that ownership.
//!
//! | type | dropping it |
//! |---|---|
//! | [`StoreClaim`] | erases every slot of the folio, old entries too |
//! | [`SlotGuard`] | unlocks, and changes nothing |
//! | [`CompressedGuard`] | the same |
//! | [`Writing`], [`DeviceIo`] | ends I/O of a slot that nobody holds meanwhile, and changes nothing |

#![allow(unsafe_code)]

use std::cell::Cell;
use std::time::Instant;

use zfolio_accel::Codec;

use crate::counters::Counter;
use crate::entry::{Contents, Entry};
use crate::folio::{SwapEntry, TenantId};
use crate::lru::{Leaves, Run};
use crate::park::TimedOut;
use crate::sync::Ordering;
use crate::word::{EMPTY, Slot, ZERO_PAGE, is_entry, is_on_device};
use crate::zsmalloc::{RawObject, Zspage};
use crate::zswap::Zswap;

mod reclaim;

pub(crate) use reclaim::{DeviceIo, Freed, NoRoom, Recompress, Writing};

/// The locked slots of a folio that is being stored. Dropping it unpublished erases them all, older entries
/// included: the caller of the failed store writes these pages elsewhere, and an old entry would hide them.
pub(crate) struct StoreClaim<'s> {
    store: &'s Zswap,
    first: SwapEntry,
    slots: &'s [Slot],
    /// The entries to be published, by page; `EMPTY` where there is none (yet). As long as `slots`.
    staged: &'s [Cell<u32>],
}

/// Why slots could not be claimed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoClaim {
    Busy(SwapEntry),
    NoSuchSwap,
}

impl<'s> StoreClaim<'s> {
    /// Locks `slots`, which start at `first`, in ascending order. It waits for a store or load of the same slots,
    /// and for nothing else. `staged` is room for the claim's use, all `EMPTY`.
    #[inline(always)]
    pub(crate) fn lock(
        store: &'s Zswap,
        first: SwapEntry,
        slots: &'s [Slot],
        staged: &'s [Cell<u32>],
    ) -> Result<Self, NoClaim> {
        debug_assert_eq!(slots.len(), staged.len());
        let started = Cell::new(None);
        let deadline = || store.deadline(&started);
        for (index, slot) in slots.iter().enumerate() {
            if slot.lock(&store.lot, deadline).is_err() {
                unlock_unchanged(store, &slots[..index]);
                return Err(NoClaim::Busy(first.plus(index)));
            }
        }
        if !store.tree.still_on(first, slots.len()) {
            unlock_unchanged(store, slots);
            return Err(NoClaim::NoSuchSwap);
        }
        Ok(StoreClaim { store, first, slots, staged })
    }

    /// Sets the entry that page `index` will have.
    #[inline]
    pub(crate) fn stage(&self, index: usize, id: u32) {
        debug_assert!(index < self.slots.len() && self.staged[index].get() == EMPTY);
        self.staged[index].set(id);
    }

    /// Puts the staged pages into their slots, and nothing into the others. Cannot fail.
    ///
    /// `pending` hears of each slot that was emptied and whose older page is still being written to the swap device
    /// at the deadline, by page.
    pub(crate) fn publish(self, mut pending: impl FnMut(usize)) {
        self.settle();
        let claim = std::mem::ManuallyDrop::new(self);
        let started = Cell::new(None);
        for (index, slot) in claim.slots.iter().enumerate() {
            if claim.staged[index].get() == EMPTY && slot.in_writeback() {
                let deadline = claim.store.deadline(&started);
                if let Err(TimedOut) = slot.wait_for_writeback(&claim.store.lot, deadline) {
                    pending(index);
                }
            }
        }
    }

    /// Empties all slots, and waits for older pages that are still being written. The first of which one still is
    /// at the deadline is returned.
    pub(crate) fn erase(self) -> Result<(), SwapEntry> {
        let (first, mut result) = (self.first, Ok(()));
        self.discard_staged();
        self.publish(|index| result = result.and(Err(first.plus(index))));
        result
    }

    fn discard_staged(&self) {
        for staged in self.staged {
            self.store.discard(staged.replace(EMPTY));
        }
    }

    /// Frees the old entries, lists the staged ones, and unlocks the slots with them.
    #[inline(always)]
    fn settle(&self) {
        for slot in self.slots {
            self.store.release(slot.id());
        }
        self.list_staged();
        for (slot, staged) in self.slots.iter().zip(self.staged) {
            slot.unlock(&self.store.lot, staged.get());
        }
    }

    /// Lists every staged entry with an object on the list of its tenant and of the node that has its bytes.
    #[inline(always)]
    fn list_staged(&self) {
        let (store, mut run, mut same_filled) = (self.store, Run::default(), 0);
        // The place of the run; without a page there is none, and perhaps no list at all yet.
        let mut place: Option<(TenantId, usize)> = None;
        let list = |place: Option<_>, run| {
            if let Some(place) = place {
                store.lru_list(place).add(&store.slab, run);
            }
        };
        for staged in self.staged {
            let id = staged.get();
            if !is_entry(id) {
                same_filled += u64::from(id == ZERO_PAGE);
                continue;
            }
            let entry = store.slab.at(id);
            let Contents::Object { object, codec, .. } = entry.contents() else {
                same_filled += 1;
                continue;
            };
            let node = store.pool.node_of(object);
            if codec.is_none() {
                store.counters.add(Counter::IncompressiblePages, 1);
            }
            if node != entry.home() {
                store.counters.add(Counter::MisplacedPages, 1);
                store.counters.add(Counter::MisplacedBytes, object.len.into());
            }
            if place != Some((entry.tenant(), node)) {
                list(place, std::mem::take(&mut run));
                place = Some((entry.tenant(), node));
            }
            run.push(id, entry, object.len.into());
        }
        list(place, run);
        if same_filled != 0 {
            store.counters.add(Counter::SameFilledOut, same_filled);
        }
    }
}

impl Drop for StoreClaim<'_> {
    fn drop(&mut self) {
        self.discard_staged();
        self.settle();
    }
}

fn unlock_unchanged(store: &Zswap, slots: &[Slot]) {
    for slot in slots {
        slot.unlock(&store.lot, slot.id());
    }
}

/// The lock of one slot. Dropping it unlocks the slot, and changes nothing.
pub(crate) struct SlotGuard<'s> {
    store: &'s Zswap,
    slot: &'s Slot,
    id: u32,
    /// The entry of the id, if it has one.
    entry: Option<&'s Entry>,
}

/// What a locked slot holds.
pub(crate) enum Held<'g> {
    Nothing,
    SameFilled(u64),
    /// The page as it is.
    Raw {
        bytes: &'g [u8],
        crc: u32,
    },
    Compressed {
        codec: Codec,
        bytes: &'g [u8],
        crc: u32,
    },
}

impl<'s> SlotGuard<'s> {
    /// Locks the slot, waiting until the deadline for whoever has it.
    #[inline(always)]
    pub(crate) fn lock(
        store: &'s Zswap,
        slot: &'s Slot,
        deadline: impl Fn() -> Instant,
    ) -> Result<SlotGuard<'s>, TimedOut> {
        let id = slot.lock(&store.lot, deadline)?;
        Ok(SlotGuard::locked(store, slot, id))
    }

    /// The same of a slot that is not vacant.
    #[inline(always)]
    pub(crate) fn lock_unless_vacant(
        store: &'s Zswap,
        slot: &'s Slot,
        deadline: impl Fn() -> Instant,
    ) -> Result<Option<SlotGuard<'s>>, TimedOut> {
        Ok(slot.lock_unless_vacant(&store.lot, deadline)?.map(|id| SlotGuard::locked(store, slot, id)))
    }

    /// The guard of a slot that was just locked, with this id in it.
    #[inline(always)]
    fn locked(store: &'s Zswap, slot: &'s Slot, id: u32) -> SlotGuard<'s> {
        let entry = is_entry(id).then(|| store.slab.at(id));
        SlotGuard { store, slot, id, entry }
    }

    /// Goes on with the guard of a compressed page, which most are, or with this one, and with `page`. (By two closures, for an enum of
    /// both would be written to memory and read again.)
    #[inline(always)]
    pub(crate) fn if_compressed<P, T>(
        self,
        page: P,
        compressed: impl FnOnce(CompressedGuard<'s>, P) -> T,
        otherwise: impl FnOnce(SlotGuard<'s>, P) -> T,
    ) -> T {
        if let Some(entry) = self.entry
            && let Contents::Object { object, codec: Some(codec), crc } = entry.contents()
        {
            let header = self.store.pool.header(object);
            compressed(CompressedGuard { guard: self, entry, object, header, codec, crc }, page)
        } else {
            otherwise(self, page)
        }
    }

    /// The id in the slot.
    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// True if there is a page in the slot.
    #[inline(always)]
    pub(crate) fn has_page(&self) -> bool {
        self.entry.is_some() || self.id == ZERO_PAGE
    }

    /// The page, as it is stored.
    #[inline(always)]
    pub(crate) fn held(&self) -> Held<'_> {
        let Some(entry) = self.entry else {
            return if self.id == ZERO_PAGE { Held::SameFilled(0) } else { Held::Nothing };
        };
        match entry.contents() {
            Contents::SameFilled(word) => Held::SameFilled(word),
            Contents::Object { object, codec, crc } => {
                let pool = &self.store.pool;
                // SAFETY: the entry of a locked slot owns its object, and only the lock's holder frees or moves it:
                // `remove` consumes the guard, which `bytes` borrows.
                let bytes = unsafe { pool.bytes(pool.header(object), object) };
                match codec {
                    None => Held::Raw { bytes, crc },
                    Some(codec) => Held::Compressed { codec, bytes, crc },
                }
            }
        }
    }

    /// Brings near what [`remove`](SlotGuard::remove) will change, while pages are being decompressed: the entry's
    /// neighbours on its list (who may be others by then; it is a hint), and the object's word.
    #[inline(always)]
    pub(crate) fn prefetch_removal(&self) {
        if let Some(entry) = self.entry {
            self.store.prefetch_neighbours(entry);
            if let Contents::Object { object, .. } = entry.contents() {
                self.store.pool.prefetch_free(self.store.pool.header(object), object);
            }
        }
    }

    /// Frees the page and unlocks the slot, which is empty then.
    #[inline(always)]
    pub(crate) fn remove(self, leaves: Leaves) {
        let guard = std::mem::ManuallyDrop::new(self);
        match guard.entry {
            Some(entry) => guard.store.release_entry(guard.id, entry, leaves),
            None => guard.store.release(guard.id),
        }
        guard.slot.unlock(&guard.store.lot, EMPTY);
    }

    /// Counts a read, which gives the page its second chance with the shrinker.
    #[inline]
    pub(crate) fn mark_referenced(&self) {
        if let Some(entry) = self.entry
            && let Contents::Object { object, .. } = entry.contents()
        {
            self.store.mark_read(entry, self.store.pool.node_of(object));
        }
    }
}

/// The lock of a slot whose page is compressed, with all that was looked up of it. Dropping it unlocks the slot, and
/// changes nothing.
pub(crate) struct CompressedGuard<'s> {
    guard: SlotGuard<'s>,
    entry: &'s Entry,
    object: RawObject,
    /// The object's.
    header: &'s Zspage,
    codec: Codec,
    crc: u32,
}

impl CompressedGuard<'_> {
    #[inline(always)]
    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    #[inline(always)]
    pub(crate) fn crc(&self) -> u32 {
        self.crc
    }

    /// The compressed bytes.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: as in `SlotGuard::held`; `header` was looked up by the object's name.
        unsafe { self.guard.store.pool.bytes(self.header, self.object) }
    }

    /// Brings near the entry's neighbours on its list. (The object's word as well gained nothing that could be seen.)
    #[inline(always)]
    pub(crate) fn prefetch_neighbours(&self) {
        self.guard.store.prefetch_neighbours(self.entry);
    }

    /// As [`SlotGuard::mark_referenced`].
    #[inline]
    pub(crate) fn mark_referenced(&self) {
        self.guard.store.mark_read(self.entry, self.header.node());
    }

    /// Frees the page, which was loaded, and unlocks the slot, which is empty then.
    #[inline(always)]
    pub(crate) fn remove(self) {
        let CompressedGuard { guard, entry, object, header, .. } = self;
        let guard = std::mem::ManuallyDrop::new(guard);
        guard.store.release_object(guard.id, entry, object, header, Leaves::Loaded);
        guard.slot.unlock(&guard.store.lot, EMPTY);
    }
}

impl Drop for SlotGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        unlock_with(self.store, self.slot, self.id);
    }
}

/// Drop's work, by values: so that guards, which drop would have the address of, stay in registers.
#[inline(never)]
fn unlock_with(store: &Zswap, slot: &Slot, id: u32) {
    slot.unlock(&store.lot, id);
}

impl Zswap {
    #[inline(always)]
    fn prefetch_neighbours(&self, entry: &Entry) {
        self.slab.prefetch(entry.prev.load(Ordering::Relaxed));
        self.slab.prefetch(entry.next.load(Ordering::Relaxed));
    }

    /// Frees what a published entry holds, and the entry. The caller holds its slot.
    #[inline]
    fn release(&self, id: u32) {
        match id {
            EMPTY => {}
            ZERO_PAGE => self.counters.sub(Counter::ZeroPages, 1),
            id if is_on_device(id) => self.counters.sub(Counter::OnDevicePages, 1),
            id => self.release_entry(id, self.slab.at(id), Leaves::Unwanted),
        }
    }

    /// A page is used. The caller holds its slot.
    #[inline(always)]
    fn count_use(&self, entry: &Entry) {
        // Where nobody ticks there are no ages, and loads pay two instructions for that.
        let now = self.clock.load(Ordering::Relaxed);
        if now != 0 {
            self.count_age(entry, now);
        }
    }

    #[inline(never)]
    fn count_age(&self, entry: &Entry, now: u16) {
        match entry.age(now) {
            // What was used in this tick is nobody's cold page.
            0 => {}
            age => self.ages.count(age),
        }
    }

    /// A page was read and stays. The caller holds its slot.
    #[inline]
    fn mark_read(&self, entry: &Entry, node: usize) {
        self.pages_read[node].add(1);
        self.tenants.count_read(entry.tenant());
        self.count_use(entry);
        entry.set_tick(self.clock.load(Ordering::Relaxed));
        self.lru_list((entry.tenant(), node)).mark_referenced(entry);
    }

    #[inline]
    fn release_entry(&self, id: u32, entry: &Entry, leaves: Leaves) {
        let Contents::Object { object, codec, .. } = entry.contents() else {
            return self.discard_entry(id, entry);
        };
        if codec.is_none() {
            self.counters.sub(Counter::IncompressiblePages, 1);
        }
        self.release_object(id, entry, object, self.pool.header(object), leaves);
    }

    /// Frees a published entry and its object. The caller holds its slot, and `header` is the object's.
    #[inline(always)]
    fn release_object(&self, id: u32, entry: &Entry, object: RawObject, header: &Zspage, leaves: Leaves) {
        if leaves == Leaves::Loaded {
            self.count_use(entry);
        }
        self.unlist(id, entry, object, header.node(), leaves);
        // SAFETY: the entry took over the object when it was staged, and is no more, so nobody frees it again; who
        // borrowed its bytes borrowed the guard of this slot.
        unsafe { self.pool.free_raw(header, object) };
    }

    /// Takes a published entry off its list and frees it, but not its object. The caller holds its slot.
    #[inline(always)]
    fn unlist(&self, id: u32, entry: &Entry, object: RawObject, node: usize, leaves: Leaves) {
        let home = entry.home();
        self.tenants.uncharge(entry.tenant(), object.len.into());
        let len = object.len.into();
        self.lru_list((entry.tenant(), node)).remove(&self.slab, id, entry, len, leaves);
        if node != home {
            self.counters.sub(Counter::MisplacedPages, 1);
            self.counters.sub(Counter::MisplacedBytes, object.len.into());
            self.lru_list((entry.tenant(), home)).free(&self.slab, id, entry);
        }
    }

    /// Frees what an entry that is on no list holds, and the entry. The caller holds its slot, or is yet to
    /// publish it.
    #[inline]
    fn discard(&self, id: u32) {
        match id {
            EMPTY => {}
            ZERO_PAGE => self.counters.sub(Counter::ZeroPages, 1),
            id => self.discard_entry(id, self.slab.at(id)),
        }
    }

    #[inline]
    fn discard_entry(&self, id: u32, entry: &Entry) {
        match entry.contents() {
            Contents::SameFilled(_) => self.counters.sub(Counter::SameFilledPages, 1),
            Contents::Object { object, .. } => {
                self.tenants.uncharge(entry.tenant(), object.len.into());
                // SAFETY: the entry took over the object when it was staged, and is freed here, so nobody frees it
                // again; nobody has borrowed the bytes of an object that was not published.
                unsafe { self.pool.free_raw(self.pool.header(object), object) };
            }
        }
        self.lru_list((entry.tenant(), entry.home())).free(&self.slab, id, entry);
    }
}
