//! The holders that take pages out of the store behind their owners' backs: they only try.

use std::cell::Cell;

use zfolio_accel::{Method, Page, crc32};
use zfolio_fallback::Codecs;

use crate::claim::SlotGuard;
use crate::counters::Counter;
use crate::entry::{Contents, Entry};
use crate::folio::SwapEntry;
use crate::lru::{Leaves, Run};
use crate::park::TimedOut;
use crate::sync::Ordering;
use crate::word::{Slot, is_on_device, on_device};
use crate::zsmalloc::{CLASS_STEP, RawObject, Release};
use crate::zswap::Zswap;

/// What the freeing of a page gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Freed {
    /// The index of the node that the bytes were on.
    pub(crate) node: usize,
    pub(crate) object_bytes: u64,
    /// Pages that went back to the kernel.
    pub(crate) released_pages: u64,
}

/// What recompression works with, and what it did.
pub(crate) struct Recompress {
    pub(crate) codecs: Codecs,
    pub(crate) method: Method,
    pub(crate) page: Box<Page>,
    pub(crate) stream: Box<[u8]>,
    pub(crate) tried_pages: u64,
    pub(crate) pages: u64,
    pub(crate) saved_bytes: u64,
}

/// The node has no memory for what belongs there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// A page that is being written to the swap device: W is set, and nobody holds the slot for it. Dropping it ends the
/// write and leaves the slot as it is.
pub(crate) struct Writing<'s> {
    store: &'s Zswap,
    slot: &'s Slot,
    id: u32,
    entry: &'s Entry,
}

impl<'s> SlotGuard<'s> {
    /// Locks the slot of an entry that the caller knows to be in use, if nobody has it and no I/O of it is in flight.
    pub(crate) fn try_lock_without_io(store: &'s Zswap, id: u32, entry: &'s Entry) -> Option<SlotGuard<'s>> {
        let slot = store.tree.slot(entry.swap_entry())?;
        slot.try_lock_without_io(id).then(|| SlotGuard { store, slot, id, entry: Some(entry) })
    }

    /// Locks the slot of the page that has this object, if nobody has it and the presumed owner owns it.
    fn try_lock_object(store: &'s Zswap, owner: u32, zspage: u32, index: u16) -> Option<SlotGuard<'s>> {
        let entry = store.slab.get(owner)?;
        // It may be free, or another page's by now; then its slot does not hold it, or it has another object.
        let slot = store.tree.slot(entry.swap_entry())?;
        if !slot.try_lock_holding(owner) {
            return None;
        }
        let guard = SlotGuard { store, slot, id: owner, entry: Some(entry) };
        let owns = matches!(entry.contents(), Contents::Object { object, .. }
            if (object.zspage, object.index) == (zspage, index));
        owns.then_some(guard)
    }

    /// Locks the slot of the page that has this object, if it was not used for `min_age` ticks, may be written back, has no
    /// I/O in flight, and nobody has it.
    pub(crate) fn try_lock_cold(
        store: &'s Zswap,
        (owner, zspage, index): (u32, u32, u16),
        min_age: u16,
    ) -> Option<SlotGuard<'s>> {
        // First by a look, for most pages are not.
        let is_cold = |entry: &Entry| entry.age(store.clock.load(Ordering::Relaxed)) >= min_age;
        let entry = store.slab.get(owner).filter(|entry| is_cold(entry))?;
        let guard = SlotGuard::try_lock_object(store, owner, zspage, index)?;
        let may =
            is_cold(entry) && !guard.slot.in_writeback() && store.tenants.may_write_back(entry.tenant());
        may.then_some(guard)
    }

    /// The slot that is held, of a page with an entry.
    pub(crate) fn swap_entry(&self) -> SwapEntry {
        self.entry.expect("only entries are on LRU lists").swap_entry()
    }

    /// Lets the slot go with W set. The caller has the page in a buffer of its own.
    pub(crate) fn begin_writeback(self) -> Writing<'s> {
        let guard = std::mem::ManuallyDrop::new(self);
        let entry = guard.entry.expect("only entries are on LRU lists");
        entry.mark_writing();
        guard.slot.unlock_with_io(&guard.store.lot);
        Writing { store: guard.store, slot: guard.slot, id: guard.id, entry }
    }
}

/// I/O of a slot's place on the swap device, which is not of a page of the store: W is set, and nobody holds the slot for
/// it. Dropping it ends the I/O and leaves the slot as it is.
pub(crate) struct DeviceIo<'s> {
    store: &'s Zswap,
    slot: &'s Slot,
}

impl<'s> SlotGuard<'s> {
    /// Lets the slot go with W set, or gives the guard back if I/O is in flight.
    pub(crate) fn begin_io(self) -> Result<DeviceIo<'s>, SlotGuard<'s>> {
        if self.slot.in_writeback() {
            return Err(self);
        }
        let guard = std::mem::ManuallyDrop::new(self);
        guard.slot.unlock_with_io(&guard.store.lot);
        Ok(DeviceIo { store: guard.store, slot: guard.slot })
    }
}

impl DeviceIo<'_> {
    /// Ends I/O that succeeded, and makes `old` in the slot what `new` says under its lock, neither of which is a page of
    /// the store. What came to the slot meanwhile is newer and stays; then the answer is false.
    pub(crate) fn finish(self, old: u32, new: impl FnOnce() -> u32) -> Result<bool, TimedOut> {
        let (store, slot) = (self.store, self.slot);
        let started = Cell::new(None);
        let id = slot.lock(&store.lot, || store.deadline(&started))?;
        std::mem::forget(self);
        if id != old {
            slot.unlock_after_io(&store.lot, id);
            return Ok(false);
        }
        let new = new();
        match (is_on_device(old), is_on_device(new)) {
            (true, false) => store.counters.sub(Counter::OnDevicePages, 1),
            (false, true) => store.counters.add(Counter::OnDevicePages, 1),
            _ => {}
        }
        slot.unlock_after_io(&store.lot, new);
        Ok(true)
    }
}

impl Drop for DeviceIo<'_> {
    fn drop(&mut self) {
        self.slot.end_io(&self.store.lot);
    }
}

impl Writing<'_> {
    /// Ends a write that succeeded: frees the page, if it is still the one that was written and nobody has it at the
    /// moment, and collects memory that is empty then. Whoever took the page meanwhile has the newer claim.
    pub(crate) fn finish(self, release: &mut Release<'_>) -> Option<Freed> {
        let writing = std::mem::ManuallyDrop::new(self);
        let (store, slot) = (writing.store, writing.slot);
        let held = slot.try_lock_holding(writing.id);
        if !held || !writing.entry.is_writing() {
            if held {
                // The same entry, used again for a newer page.
                slot.unlock_after_io(&store.lot, writing.id);
            } else {
                slot.end_io(&store.lot);
            }
            store.counters.add(Counter::ReclaimRaces, 1);
            return None;
        }
        let tenant = writing.entry.tenant();
        let freed = store.release_for_reclaim(writing.id, writing.entry, release);
        store.counters.add(Counter::OnDevicePages, 1);
        store.counters.add(Counter::WrittenBackPages, 1);
        slot.unlock_after_io(&store.lot, on_device(tenant, freed.node));
        Some(freed)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.slot.end_io(&self.store.lot);
    }
}

impl Zswap {
    /// What the pool asks for the right to move an object: the lock of its page's slot, tried.
    pub(crate) fn hold_object(
        &self,
        owner: u32,
        zspage: u32,
        index: u16,
        work: &mut dyn FnMut(RawObject) -> Option<RawObject>,
    ) -> bool {
        let Some(guard) = SlotGuard::try_lock_object(self, owner, zspage, index) else { return false };
        let Some(entry) = guard.entry else { return false };
        let Contents::Object { object, codec, crc } = entry.contents() else { return false };
        match work(object) {
            Some(moved) => {
                entry.set_object(moved, codec, crc);
                true
            }
            None => false,
        }
    }

    /// Compresses a page again, if it is old enough, nobody has it at the moment, and it gets shorter by at least a size class.
    pub(crate) fn recompress_object(
        &self,
        (owner, zspage, index): (u32, u32, u16),
        min_age: u16,
        with: &mut Recompress,
    ) {
        let guard = SlotGuard::try_lock_object(self, owner, zspage, index);
        let Some((guard, entry)) = guard.and_then(|guard| guard.entry.map(|entry| (guard, entry))) else {
            return;
        };
        let Contents::Object { object, codec: Some(codec), crc } = entry.contents() else { return };
        // One that did not get shorter will not.
        if entry.age(self.clock.load(Ordering::Relaxed)) < min_age || !entry.try_codec(with.method.codec()) {
            return;
        }
        let header = self.pool.header(object);
        // SAFETY: the guard holds the slot of the page that owns the object, and only its holder frees or moves it.
        let bytes = unsafe { self.pool.bytes(header, object) };
        with.tried_pages += 1;
        let good = with.codecs.decompress(codec, bytes, &mut with.page[..]).is_ok();
        if !good || crc32(&with.page[..]) != crc {
            return;
        }
        let Some(len) = with.codecs.compress(with.method, &with.page[..], &mut with.stream) else { return };
        let old_len = usize::from(object.len);
        if len == 0 || len + CLASS_STEP > old_len {
            return;
        }
        let node = header.node();
        let Some(shorter) = self.pool.store_on(&with.stream[..len], node, owner, true) else { return };
        let saved = (old_len - len) as u64;
        entry.set_object(shorter.into_raw(), Some(with.method.codec()), crc);
        self.lru_list((entry.tenant(), node)).shrank(saved);
        self.tenants.uncharge(entry.tenant(), saved);
        if node != entry.home() {
            self.counters.sub(Counter::MisplacedBytes, saved);
        }
        with.pages += 1;
        with.saved_bytes += saved;
        // SAFETY: the entry has the other object now, so nobody frees this one again; `bytes` is not used any more, and
        // the guard keeps others from borrowing.
        unsafe { self.pool.free_raw(header, object) };
        drop(guard);
    }

    /// Moves the object of a page to the node that the page came from, if it is not there (any more) and nobody has it at the
    /// moment: how many bytes. `Err` if that node has no room. Where density is the aim, holes are the only room for those that
    /// were placed elsewhere.
    pub(crate) fn bring_home(&self, owner: u32, zspage: u32, index: u16) -> Result<u64, NoRoom> {
        let guard = SlotGuard::try_lock_object(self, owner, zspage, index);
        let Some((guard, entry)) = guard.and_then(|guard| guard.entry.map(|entry| (guard, entry))) else {
            return Ok(0);
        };
        let Contents::Object { object, codec, crc } = entry.contents() else { return Ok(0) };
        let header = self.pool.header(object);
        let (node, home, len) = (header.node(), entry.home(), u64::from(object.len));
        let strayed = header.has_strayed();
        if node == home && !strayed {
            return Ok(0);
        }
        // SAFETY: the guard holds the slot of the page that owns the object, and only its holder frees or moves it.
        let bytes = unsafe { self.pool.bytes(header, object) };
        let may_grow = strayed || !self.pool.homes().are_dense();
        let moved = self.pool.store_on(bytes, home, owner, may_grow).ok_or(NoRoom)?;
        if node == home {
            entry.set_object(moved.into_raw(), codec, crc);
        } else {
            self.lru_list((entry.tenant(), node)).remove(&self.slab, owner, entry, len, Leaves::Unwanted);
            entry.set_object(moved.into_raw(), codec, crc);
            let mut run = Run::default();
            run.push(owner, entry, len);
            self.lru_list((entry.tenant(), home)).adopt(&self.slab, run);
            self.counters.sub(Counter::MisplacedPages, 1);
            self.counters.sub(Counter::MisplacedBytes, len);
        }
        // SAFETY: the entry has the other object now, so nobody frees this one again; `bytes` is not used any more, and
        // the guard keeps others from borrowing.
        unsafe { self.pool.free_raw(header, object) };
        drop(guard);
        Ok(len)
    }

    /// Frees a published entry, and collects memory that is empty then. The caller holds its slot.
    fn release_for_reclaim(&self, id: u32, entry: &Entry, release: &mut Release<'_>) -> Freed {
        let Contents::Object { object, codec, .. } = entry.contents() else {
            unreachable!("only entries with objects are on LRU lists");
        };
        if codec.is_none() {
            self.counters.sub(Counter::IncompressiblePages, 1);
        }
        let header = self.pool.header(object);
        let node = header.node();
        self.unlist(id, entry, object, node, Leaves::WrittenBack);
        // SAFETY: the entry took over the object when it was staged, and is no more, so nobody frees it again; who
        // borrowed its bytes borrowed the guard of this slot.
        let released_pages = unsafe { self.pool.free_and_release(header, object, release) };
        Freed { node, object_bytes: object.len.into(), released_pages }
    }
}
