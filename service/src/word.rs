//! The word of a swap slot: an entry id, a lock bit and W.
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | entry id: 0 is none, [`ZERO_PAGE`] a page of zeros, [`on_device`] a page that was written back; they have no entry |
//! | 30 | locked: the holder owns the page, its entry and its compressed bytes |
//! | 31 | W: I/O of this slot's place on the swap device is in flight |
//!
//! Id and lock change under the lock only. W is set under it, and cleared by whoever set it, with the lock or
//! without: so nobody who does I/O waits for anybody. Background work never waits for a lock, it tries. Load and a
//! successful store ignore W, for RAM is newer; who gives the slot's place on the device away waits until W is clear
//! first.

use std::time::Instant;

use crate::folio::TenantId;
use crate::park::{ParkingLot, TimedOut};
use crate::sync::{AtomicU32, Ordering};

const ID: u32 = (1 << 30) - 1;
const LOCKED: u32 = 1 << 30;
const WRITEBACK: u32 = 1 << 31;

/// The id of no entry.
pub(crate) const EMPTY: u32 = 0;
/// The id that stands for a page of zeros.
pub(crate) const ZERO_PAGE: u32 = 1;
/// The smallest id of an entry.
pub(crate) const MIN_ID: u32 = 2;
/// The largest id of an entry.
pub(crate) const MAX_ID: u32 = FIRST_ON_DEVICE - 1;
/// The smallest id that stands for a page that the store has no more, because it is on the swap device.
const FIRST_ON_DEVICE: u32 = ID + 1 - (1 << (16 + NODE_BITS));
/// Bits of a node's index: there are at most 1024 nodes.
const NODE_BITS: u32 = 10;

/// The id that stands for a page on the swap device which this tenant had, with its bytes on the node of this index. A slot
/// remembers that, so that who wants the page back tells whose list was too short for it.
pub(crate) const fn on_device(tenant: TenantId, node: usize) -> u32 {
    debug_assert!(node < 1 << NODE_BITS);
    FIRST_ON_DEVICE + ((tenant.0 as u32) << NODE_BITS) + node as u32
}

/// What [`on_device`] was told.
pub(crate) const fn evicted_from(id: u32) -> Option<(TenantId, usize)> {
    match id.checked_sub(FIRST_ON_DEVICE) {
        None => None,
        Some(place) => Some((TenantId((place >> NODE_BITS) as u16), place as usize & ((1 << NODE_BITS) - 1))),
    }
}

/// True for the ids that [`on_device`] gives.
pub(crate) const fn is_on_device(id: u32) -> bool {
    id >= FIRST_ON_DEVICE
}

/// True for the id of an entry.
#[inline(always)]
pub(crate) const fn is_entry(id: u32) -> bool {
    id.wrapping_sub(MIN_ID) <= MAX_ID - MIN_ID
}

/// Looks this often before it parks; a store or load of one page takes longer than this anyway.
#[cfg(not(any(loom, shuttle)))]
const SPINS: u32 = 64;
#[cfg(any(loom, shuttle))]
const SPINS: u32 = 1;

/// One swap slot.
#[derive(Default)]
pub(crate) struct Slot(AtomicU32);

impl Slot {
    /// True when there is nothing in the slot and nobody at work on it.
    #[inline]
    pub(crate) fn is_vacant(&self) -> bool {
        self.0.load(Ordering::Acquire) & !WRITEBACK == 0
    }

    /// The id, for the holder of the lock (or for a look that may be out of date).
    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.0.load(Ordering::Relaxed) & ID
    }

    /// True while somebody holds the lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) & LOCKED != 0
    }

    /// Takes the lock if it is free.
    #[inline(always)]
    pub(crate) fn try_lock(&self) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word & LOCKED == 0
            && self.0.compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock if it is free and the slot holds `id`. A slot that was emptied and filled again with
    /// another entry is refused. One that holds the same id again may hold another page by now, unless the caller
    /// knows by other means that the entry was not freed: by the lock of the list that it is on, or its mark.
    pub(crate) fn try_lock_holding(&self, id: u32) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word & (ID | LOCKED) == id
            && self.0.compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// The same, but refuses a slot with I/O in flight: there is never more than one.
    pub(crate) fn try_lock_without_io(&self, id: u32) -> bool {
        self.0.compare_exchange(id, id | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Takes the lock, waiting until `deadline` for whoever has it, and gives the id in the slot.
    #[inline(always)]
    pub(crate) fn lock(&self, lot: &ParkingLot, deadline: impl Fn() -> Instant) -> Result<u32, TimedOut> {
        let word = self.0.load(Ordering::Relaxed);
        if word & LOCKED == 0
            && self.0.compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            return Ok(word & ID);
        }
        self.lock_slowly(lot, deadline())
    }

    /// The same, but a vacant slot is left alone: there is `EMPTY` in it, and it is not locked.
    #[inline(always)]
    pub(crate) fn lock_unless_vacant(
        &self,
        lot: &ParkingLot,
        deadline: impl Fn() -> Instant,
    ) -> Result<Option<u32>, TimedOut> {
        // Acquire, as `is_vacant`.
        let word = self.0.load(Ordering::Acquire);
        if word & !WRITEBACK == 0 {
            return Ok(None);
        }
        if word & LOCKED == 0
            && self.0.compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
        {
            return Ok(Some(word & ID));
        }
        self.lock_slowly(lot, deadline()).map(Some)
    }

    #[cold]
    fn lock_slowly(&self, lot: &ParkingLot, deadline: Instant) -> Result<u32, TimedOut> {
        loop {
            for _ in 0..SPINS {
                if self.try_lock() {
                    return Ok(self.id());
                }
                std::hint::spin_loop();
            }
            lot.wait(&self.0, deadline, |word| word & LOCKED == 0)?;
            // Free again, but perhaps not for us: others may be faster for ever.
            if cfg!(not(any(loom, shuttle))) && Instant::now() >= deadline {
                return if self.try_lock() { Ok(self.id()) } else { Err(TimedOut) };
            }
        }
    }

    /// Gives the lock back, with `id` in the slot. W stays as it is.
    #[inline(always)]
    pub(crate) fn unlock(&self, lot: &ParkingLot, id: u32) {
        self.change(lot, id, LOCKED);
    }

    /// Gives the lock back with W set: I/O of the slot's place begins. There is none in flight.
    pub(crate) fn unlock_with_io(&self, lot: &ParkingLot) {
        debug_assert!(!self.in_writeback(), "I/O of the slot is in flight");
        self.change(lot, self.id(), LOCKED | WRITEBACK);
    }

    /// Gives the lock back with `id` in the slot and W cleared: the caller's I/O is over.
    pub(crate) fn unlock_after_io(&self, lot: &ParkingLot, id: u32) {
        debug_assert!(self.in_writeback(), "no I/O of the slot is in flight");
        self.change(lot, id, LOCKED | WRITEBACK);
    }

    /// Clears W without the lock: the caller's I/O is over, and changes nothing.
    pub(crate) fn end_io(&self, lot: &ParkingLot) {
        self.0.fetch_and(!WRITEBACK, Ordering::SeqCst);
        lot.changed(&self.0);
    }

    /// Flips `bits`, and puts `id` into the slot. By exclusive or, because W may be cleared meanwhile by its owner.
    #[inline(always)]
    fn change(&self, lot: &ParkingLot, id: u32, bits: u32) {
        let word = self.0.load(Ordering::Relaxed);
        debug_assert!(word & LOCKED != 0 && id <= ID, "unlock of {word:#x} with {id:#x}");
        self.0.fetch_xor((word ^ id) & ID | bits, Ordering::SeqCst);
        lot.changed(&self.0);
    }

    /// True while I/O of this slot's place on the swap device is in flight.
    #[inline]
    pub(crate) fn in_writeback(&self) -> bool {
        // Acquire pairs with the unlock that clears W: what the writer did is done, not only said to be.
        self.0.load(Ordering::Acquire) & WRITEBACK != 0
    }

    /// Waits until no I/O of this slot's place on the swap device is in flight. The caller holds no slot, for others
    /// would wait as long as the device takes.
    pub(crate) fn wait_for_writeback(&self, lot: &ParkingLot, deadline: Instant) -> Result<(), TimedOut> {
        if !self.in_writeback() {
            return Ok(());
        }
        lot.wait(&self.0, deadline, |word| word & WRITEBACK == 0)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[test]
    fn slot_remembers_whose_page_is_on_the_device() {
        for (tenant, node) in [(0, 0), (0, 1023), (7, 3), (65535, 0), (65535, 1023)] {
            let id = on_device(TenantId(tenant), node);
            assert!(is_on_device(id) && !is_entry(id) && id <= ID);
            assert_eq!(evicted_from(id), Some((TenantId(tenant), node)));
        }
        for id in [EMPTY, ZERO_PAGE, MIN_ID, MAX_ID] {
            assert!(!is_on_device(id) && evicted_from(id).is_none());
        }
    }

    #[test]
    fn slot_is_four_bytes() {
        assert_eq!(size_of::<Slot>(), 4);
    }

    #[test]
    fn lock_that_is_never_given_back_times_out_instead_of_hanging() {
        let (slot, lot) = (Slot::default(), ParkingLot::new());
        assert!(slot.try_lock());
        assert_eq!(slot.lock(&lot, soon), Err(TimedOut));
        slot.unlock(&lot, 7);
        assert_eq!(slot.lock(&lot, soon), Ok(7));
    }

    #[test]
    fn unlock_keeps_w_and_only_its_end_wakes_who_waits_for_it() {
        let (slot, lot) = (Slot::default(), ParkingLot::new());
        assert!(slot.try_lock());
        slot.unlock(&lot, 7);
        assert!(slot.try_lock_without_io(7));
        slot.unlock_with_io(&lot);
        assert!(!slot.try_lock_without_io(7), "one write at a time");
        assert!(slot.try_lock_holding(7));
        slot.unlock(&lot, EMPTY);
        assert!(slot.in_writeback(), "a load must not end somebody's write");
        assert!(slot.is_vacant(), "W alone is no page");
        assert_eq!(slot.wait_for_writeback(&lot, soon()), Err(TimedOut));
        assert!(slot.try_lock());
        slot.unlock_after_io(&lot, EMPTY);
        assert_eq!(slot.wait_for_writeback(&lot, soon()), Ok(()));
    }

    #[test]
    fn shrinker_cannot_take_a_slot_that_holds_another_entry_by_now() {
        let (slot, lot) = (Slot::default(), ParkingLot::new());
        assert!(slot.try_lock());
        slot.unlock(&lot, 8);
        assert!(!slot.try_lock_holding(7));
        assert!(slot.try_lock_holding(8));
        assert!(!slot.try_lock_holding(8), "locked already");
    }

    #[test]
    fn waiting_threads_all_get_their_turn() {
        let (slot, lot) = (Slot::default(), ParkingLot::new());
        let far = || Instant::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let id = slot.lock(&lot, far).unwrap();
                        slot.unlock(&lot, id + 1);
                    }
                });
            }
        });
        assert_eq!(slot.id(), 8000, "a lost turn is two threads in one slot");
    }
}
