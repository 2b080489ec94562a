//! The word of a swap slot: an entry id, a lock bit and W.
//!
//! | bits | meaning |
//! |---|---|
//! | 0..30 | entry id: 0 is none, [`ZERO_PAGE`] is a page of zeros, which has no entry |
//! | 30 | locked: the holder owns the page, its entry and its compressed bytes |
//! | 31 | W: a write of this slot to the swap device is in flight |
//!
//! All bits change under the lock only. Background work never waits for it, it tries. Load and a successful store
//! ignore W, for RAM is newer; who gives the slot's place on the device away waits until W is clear first.

use std::time::Instant;

use crate::park::{ParkingLot, TimedOut};
use crate::sync::{AtomicU32, Ordering};

const ID: u32 = (1 << 30) - 1;
const LOCKED: u32 = 1 << 30;
const WRITEBACK: u32 = 1 << 31;

/// The id of no entry.
pub(crate) const EMPTY: u32 = 0;
/// The id that stands for a page of zeros.
pub(crate) const ZERO_PAGE: u32 = ID;
/// The largest id of an entry.
pub(crate) const MAX_ID: u32 = ID - 1;

/// Looks this often before it parks; a store or load of one page takes longer than this anyway.
#[cfg(not(loom))]
const SPINS: u32 = 64;
#[cfg(loom)]
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
    /// another entry is refused, and one with the same entry id is the same page: ids are given back under the
    /// lock only.
    #[cfg(any(test, loom))]
    pub(crate) fn try_lock_holding(&self, id: u32) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word & (ID | LOCKED) == id
            && self.0.compare_exchange(word, word | LOCKED, Ordering::Acquire, Ordering::Relaxed).is_ok()
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
            if cfg!(not(loom)) && Instant::now() >= deadline {
                return if self.try_lock() { Ok(self.id()) } else { Err(TimedOut) };
            }
        }
    }

    /// Gives the lock back, with `id` in the slot. W stays as it is.
    #[inline(always)]
    pub(crate) fn unlock(&self, lot: &ParkingLot, id: u32) {
        let word = self.0.load(Ordering::Relaxed);
        debug_assert!(word & LOCKED != 0 && id <= ID, "unlock of {word:#x} with {id:#x}");
        self.0.swap(word & WRITEBACK | id, Ordering::SeqCst);
        lot.changed(&self.0);
    }

    /// Gives the lock back with W set or cleared; for writeback.
    #[cfg(any(test, loom))]
    pub(crate) fn unlock_with_writeback(&self, lot: &ParkingLot, id: u32, in_flight: bool) {
        debug_assert!(self.is_locked());
        self.0.swap(id | if in_flight { WRITEBACK } else { 0 }, Ordering::SeqCst);
        lot.changed(&self.0);
    }

    /// True while a write of this slot to the swap device is in flight.
    #[inline]
    pub(crate) fn in_writeback(&self) -> bool {
        // Acquire pairs with the unlock that clears W: what the writer did is done, not only said to be.
        self.0.load(Ordering::Acquire) & WRITEBACK != 0
    }

    /// Waits until no write of this slot to the swap device is in flight. The caller holds no slot: who clears W
    /// needs the lock for it.
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
        slot.unlock_with_writeback(&lot, 7, true);
        assert!(slot.try_lock_holding(7));
        slot.unlock(&lot, EMPTY);
        assert!(slot.in_writeback(), "a load must not end somebody's write");
        assert!(slot.is_vacant(), "W alone is no page");
        assert_eq!(slot.wait_for_writeback(&lot, soon()), Err(TimedOut));
        assert!(slot.try_lock());
        slot.unlock_with_writeback(&lot, EMPTY, false);
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
