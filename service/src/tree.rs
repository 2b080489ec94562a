//! Slot to word: one lazily grown array of slots for each swap type.
//!
//! A look-up takes no lock and allocates nothing; only a store makes leaves. Leaves stay until the store is
//! dropped, also over swapoff and swapon, so a thread that still looks at one looks at valid memory.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, TryLockError};

use crate::error::{SwapoffError, SwaponError};
use crate::folio::{MAX_FOLIO_PAGES, SwapEntry};
use crate::lazy_array::{LazyArray, OutOfMemory};
use crate::swap_device::SwapDevice;
use crate::sync::{AtomicU32, Ordering, fence};
use crate::word::Slot;

/// How many swap types there can be: 0 to 31.
pub const MAX_SWAP_TYPES: usize = 32;

/// 2^30 slots, 4 TiB of pages: as many as there are entry ids.
#[cfg(not(shuttle))]
type Slots = LazyArray<Slot, 20, 10>;
/// Swapoff goes through all slots of a leaf: few, so that a schedule does not consist of that.
#[cfg(shuttle)]
type Slots = LazyArray<Slot, 20, 3>;

/// The most slots of one swap type.
pub const MAX_SWAP_SLOTS: u32 = 1 << 30;

const _: () = assert!(MAX_SWAP_SLOTS as usize == Slots::LEN || cfg!(shuttle));
const _: () =
    assert!(Slots::LEAF_LEN.is_multiple_of(MAX_FOLIO_PAGES) || cfg!(shuttle), "a folio lies in one leaf");

struct Area {
    /// Slots in use; 0 while swapped off.
    len: AtomicU32,
    /// The same for stores, which swapoff keeps out while others still see what it has not yet emptied.
    len_for_stores: AtomicU32,
    slots: Slots,
    /// Where its pages are written back to. Who holds a slot that is not empty finds the one of this swapon: swapoff
    /// empties every slot before it lets the device go.
    device: RwLock<Option<Arc<dyn SwapDevice>>>,
    /// Held by swapon and swapoff of this type.
    change: Mutex<()>,
}

impl Area {
    /// The right to switch the type on or off, if nobody is at it. A panic in the middle left the area on.
    fn try_change(&self) -> Option<MutexGuard<'_, ()>> {
        match self.change.try_lock() {
            Ok(change) => Some(change),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// The slots of all swap types.
pub(crate) struct Tree {
    areas: [OnceLock<Area>; MAX_SWAP_TYPES],
}

/// Why a store finds no slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlots {
    /// The swap type is not on, or ends before the last slot.
    NoSuchSwap,
    OutOfMemory,
}

impl Tree {
    pub(crate) fn new() -> Tree {
        Tree { areas: std::array::from_fn(|_| OnceLock::new()) }
    }

    pub(crate) fn swapon(
        &self,
        swap_type: u8,
        len: u32,
        device: Option<Arc<dyn SwapDevice>>,
    ) -> Result<(), SwaponError> {
        let area = self.areas.get(usize::from(swap_type)).ok_or(SwaponError::NoSuchType { swap_type })?;
        if len == 0 || len > MAX_SWAP_SLOTS {
            return Err(SwaponError::Slots { slots: len });
        }
        if area.get().is_none() {
            let slots = Slots::new().map_err(|OutOfMemory| SwaponError::OutOfMemory)?;
            let (len, len_for_stores) = (AtomicU32::new(0), AtomicU32::new(0));
            // Another thread's may be there by now; it is as good.
            let device = RwLock::new(None);
            let _ = area.set(Area { len, len_for_stores, slots, device, change: Mutex::new(()) });
        }
        let area = area.get().expect("just set, by us or by another thread");
        // Who has it switches the type on or off: it is on.
        let Some(_change) = area.try_change() else {
            return Err(SwaponError::AlreadyOn { swap_type });
        };
        if area.len.load(Ordering::Relaxed) != 0 {
            return Err(SwaponError::AlreadyOn { swap_type });
        }
        *area.device.write().unwrap_or_else(PoisonError::into_inner) = device;
        area.len.store(len, Ordering::Release);
        area.len_for_stores.store(len, Ordering::Release);
        Ok(())
    }

    /// Closes the area for stores, has `empty` empty every slot that may hold something, and opens it again if that
    /// fails. Until a slot is emptied, loads and invalidates see it: a page that they were told is not there must
    /// not come back with the area.
    ///
    /// A store that is under way either finds the area closed once it has its slots locked
    /// ([`still_on`](Tree::still_on)), or had them locked before, and `empty` waits for it: it locks every slot.
    pub(crate) fn swapoff(
        &self,
        swap_type: u8,
        mut empty: impl FnMut(SwapEntry, &Slot) -> Result<(), SwapoffError>,
    ) -> Result<(), SwapoffError> {
        let area = self.areas.get(usize::from(swap_type)).and_then(OnceLock::get);
        let area = area.ok_or(SwapoffError::NotOn { swap_type })?;
        let Some(_change) = area.try_change() else {
            return Err(SwapoffError::NotOn { swap_type });
        };
        let len = area.len_for_stores.swap(0, Ordering::SeqCst);
        if len == 0 {
            return Err(SwapoffError::NotOn { swap_type });
        }
        // Pairs with the fence in `folio_slots`: either we see the leaf made there, or they see the area closed. (A store
        // that finds a leaf which another thread has just made has no fence of its own; that x86-64 keeps stores in
        // order, and slots are locked by read-modify-writes, makes up for it.)
        fence(Ordering::SeqCst);
        let mut slots = area
            .slots
            .leaves()
            .flat_map(|(first, leaf)| leaf.iter().enumerate().map(move |(i, slot)| (first + i, slot)));
        let result = slots.try_for_each(|(offset, slot)| {
            empty(SwapEntry::new(swap_type, u32::try_from(offset).expect("at most 2^30 slots")), slot)
        });
        match result {
            Ok(()) => {
                area.len.store(0, Ordering::Release);
                *area.device.write().unwrap_or_else(PoisonError::into_inner) = None;
            }
            Err(_) => area.len_for_stores.store(len, Ordering::Release),
        }
        result
    }

    /// The slot, if it may hold something.
    #[inline]
    pub(crate) fn slot(&self, entry: SwapEntry) -> Option<&Slot> {
        let area = self.areas.get(usize::from(entry.swap_type()))?.get()?;
        if entry.offset() >= area.len.load(Ordering::Acquire) {
            return None;
        }
        area.slots.get(entry.offset() as usize)
    }

    /// Asks the CPU to bring the slot near.
    #[inline]
    pub(crate) fn prefetch(&self, entry: SwapEntry) {
        if let Some(area) = self.areas.get(usize::from(entry.swap_type())).and_then(OnceLock::get) {
            area.slots.prefetch(entry.offset() as usize);
        }
    }

    /// Where pages of this type are written back to. The caller holds a slot of it.
    pub(crate) fn device(&self, swap_type: u8) -> Option<Arc<dyn SwapDevice>> {
        let area = self.areas.get(usize::from(swap_type))?.get()?;
        area.device.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Slots of a swap type, 0 when it is off.
    pub(crate) fn len(&self, swap_type: u8) -> u32 {
        let area = self.areas.get(usize::from(swap_type)).and_then(OnceLock::get);
        area.map_or(0, |area| area.len.load(Ordering::Acquire))
    }

    /// The first offset after `offset`, of which [`slot`](Tree::slot) found none, that may have a slot.
    pub(crate) fn after_absent(&self, offset: u32) -> u64 {
        (u64::from(offset) | (Slots::LEAF_LEN as u64 - 1)) + 1
    }

    /// The slots of a folio, with memory behind them.
    #[inline]
    pub(crate) fn folio_slots(&self, first: SwapEntry, pages: usize) -> Result<&[Slot], NoSlots> {
        let area = self.areas.get(usize::from(first.swap_type())).and_then(OnceLock::get);
        let area = area.ok_or(NoSlots::NoSuchSwap)?;
        let start = first.offset() as usize;
        if start + pages > area.len_for_stores.load(Ordering::Acquire) as usize {
            return Err(NoSlots::NoSuchSwap);
        }
        let leaf = match area.slots.leaf(start) {
            Some(leaf) => leaf,
            None => {
                let leaf = area.slots.make_leaf(start).map_err(|OutOfMemory| NoSlots::OutOfMemory)?;
                fence(Ordering::SeqCst);
                leaf
            }
        };
        let start = start % Slots::LEAF_LEN;
        Ok(&leaf[start..start + pages])
    }

    /// True while the folio's area has not been closed since its slots were looked up. To be asked with the slots
    /// locked.
    #[inline]
    pub(crate) fn still_on(&self, first: SwapEntry, pages: usize) -> bool {
        self.areas[usize::from(first.swap_type())].get().is_some_and(|area| {
            first.offset() as usize + pages <= area.len_for_stores.load(Ordering::Relaxed) as usize
        })
    }

    /// Every slot with memory behind it.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (SwapEntry, &Slot)> {
        let areas = self.areas.iter().enumerate().filter_map(|(number, area)| Some((number, area.get()?)));
        areas.flat_map(|(number, area)| {
            let swap_type = u8::try_from(number).expect("fewer than 256 types");
            area.slots.leaves().flat_map(move |(first, leaf)| {
                leaf.iter().enumerate().map(move |(i, slot)| {
                    let offset = u32::try_from(first + i).expect("at most 2^30 slots");
                    (SwapEntry::new(swap_type, offset), slot)
                })
            })
        })
    }

    /// Bytes of all levels.
    pub(crate) fn bytes(&self) -> u64 {
        self.areas.iter().filter_map(OnceLock::get).map(|area| area.slots.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_exist_only_between_swapon_and_swapoff() {
        let tree = Tree::new();
        let entry = SwapEntry::new(3, 8);
        assert_eq!(tree.folio_slots(entry, 1).err(), Some(NoSlots::NoSuchSwap));
        tree.swapon(3, 16, None).unwrap();
        assert_eq!(tree.swapon(3, 16, None), Err(SwaponError::AlreadyOn { swap_type: 3 }));
        assert!(tree.slot(entry).is_none(), "a look-up makes no leaf");
        assert_eq!(tree.folio_slots(entry, 8).map(<[_]>::len), Ok(8));
        assert_eq!(tree.folio_slots(entry, 16).err(), Some(NoSlots::NoSuchSwap), "the area has 16 slots");
        assert!(tree.slot(entry).is_some());
        let mut seen = 0;
        tree.swapoff(3, |_, _| {
            seen += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, Slots::LEAF_LEN);
        assert!(tree.slot(entry).is_none() && !tree.still_on(entry, 1));
        assert_eq!(tree.swapoff(3, |_, _| Ok(())), Err(SwapoffError::NotOn { swap_type: 3 }));
        tree.swapon(3, 1 << 20, None).unwrap();
        assert!(tree.folio_slots(SwapEntry::new(3, 1 << 19), 512).is_ok(), "an area may come back larger");
    }

    #[test]
    fn types_and_sizes_out_of_range_are_refused() {
        let tree = Tree::new();
        assert_eq!(tree.swapon(32, 1, None), Err(SwaponError::NoSuchType { swap_type: 32 }));
        assert_eq!(tree.swapon(0, 0, None), Err(SwaponError::Slots { slots: 0 }));
        assert_eq!(tree.swapon(0, u32::MAX, None), Err(SwaponError::Slots { slots: u32::MAX }));
        assert!(tree.slot(SwapEntry::new(255, u32::MAX)).is_none());
    }
}
