//! Store and swap device as one: pages go to RAM, or past it when RAM refuses them, and come back from wherever they are.
//!
//! A slot's I/O is under W, as writeback's is, so that reads, writes and writeback of one slot never overlap on the device,
//! and under no lock, so that a store of the slot goes ahead of any of them.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::Arc;

use zfolio_accel::PageBytes;

use crate::claim::{DeviceIo, SlotGuard};
use crate::counters::Counter;
use crate::error::{InvalidateError, LoadError, StoreError};
use crate::folio::{Folio, SwapEntry};
use crate::park::TimedOut;
use crate::swap_device::SwapDevice;
use crate::word::{EMPTY, is_on_device, on_device};
use crate::zswap::Zswap;

/// A store with the devices of its swap types behind it.
///
/// It writes nothing back by itself: that is [`Zswap::shrink`]'s, or a [`Reclaimer`](crate::Reclaimer)'s.
///
/// The pool is RAM. Neither it nor the record of what is on a device survives the process.
#[derive(Clone, Debug)]
pub struct Swap {
    zswap: Arc<Zswap>,
}

/// A locked slot and its device.
type Locked<'s> = (SlotGuard<'s>, Arc<dyn SwapDevice>);

/// Where a stored folio is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// In the store.
    InRam,
    /// On the swap device, because the store refused it for this reason.
    OnDevice(StoreError),
}

/// Why [`Swap`] failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum SwapError {
    /// The store's reason; a device could not help, or is not there.
    Store(StoreError),
    /// The store's reason.
    Load(LoadError),
    /// The device's, with the slot.
    Device {
        /// The slot.
        entry: SwapEntry,
        /// What it said.
        error: io::Error,
    },
}

impl fmt::Display for SwapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SwapError::Store(error) => error.fmt(f),
            SwapError::Load(error) => error.fmt(f),
            SwapError::Device { entry, error } => write!(f, "swap device, {entry}: {error}"),
        }
    }
}

impl std::error::Error for SwapError {}

impl Swap {
    /// The two as one. Pages of types that were switched on without a device are in the store or nowhere.
    pub fn new(zswap: Arc<Zswap>) -> Swap {
        Swap { zswap }
    }

    /// The store.
    pub fn zswap(&self) -> &Arc<Zswap> {
        &self.zswap
    }

    /// Stores every page of `folio`, in the store if it takes them, or on the device.
    ///
    /// # Errors
    /// Nothing is in the folio's slots then, unless [`StoreError::slots_are_empty`] says otherwise.
    pub fn store(&self, folio: &Folio<'_>) -> Result<Stored, SwapError> {
        let refused = match self.zswap.store(folio) {
            Ok(()) => return Ok(Stored::InRam),
            Err(error) => error,
        };
        let helps = refused.slots_are_empty() && !matches!(refused, StoreError::WritebackPending { .. });
        if !helps {
            return Err(SwapError::Store(refused));
        }
        // The store knows the node, or it had said that there is none, which does not help.
        let place = on_device(folio.tenant(), self.zswap.nodes.index_of(folio.nid()).unwrap_or(0));
        for (index, page) in folio.pages().iter().enumerate() {
            if let Err(error) = self.write(folio.first().plus(index), page, place, refused) {
                let pages = u32::try_from(folio.pages().len()).expect("at most 512");
                return match self.zswap.invalidate_range(folio.first(), pages) {
                    Ok(_) => Err(error),
                    Err(InvalidateError::WritebackPending { entry }) => {
                        Err(SwapError::Store(StoreError::WritebackPending { entry }))
                    }
                    Err(InvalidateError::Forked) => Err(SwapError::Store(StoreError::Forked)),
                    Err(InvalidateError::Busy { entry }) => Err(SwapError::Store(StoreError::Busy { entry })),
                };
            }
        }
        Ok(Stored::OnDevice(refused))
    }

    /// Writes a page that the store refused, and has its slot say by `place` whose it is. A page that came to the slot
    /// meanwhile is newer.
    fn write(
        &self,
        entry: SwapEntry,
        page: &PageBytes,
        place: u32,
        refused: StoreError,
    ) -> Result<(), SwapError> {
        let busy = |TimedOut| SwapError::Store(StoreError::Busy { entry });
        loop {
            let (guard, device) = match self.lock(entry) {
                Ok(Some(locked)) => locked,
                Ok(None) => return Err(SwapError::Store(refused)),
                Err(timed_out) => return Err(busy(timed_out)),
            };
            if guard.id() != EMPTY {
                return Ok(());
            }
            // Swapoff has been here, and would not wait for a write that begins now.
            if !self.zswap.tree.still_on(entry, 1) {
                return Err(SwapError::Store(refused));
            }
            let Some(io) = self.begin(guard, entry).map_err(busy)? else { continue };
            device.write(entry, page).map_err(|error| SwapError::Device { entry, error })?;
            self.zswap.counters.add(Counter::DeviceWrites, 1);
            // Swapoff that went by meanwhile waits for this write only: a page left behind would come back with the area.
            let is_on = || self.zswap.tree.still_on(entry, 1);
            io.finish(EMPTY, || if is_on() { place } else { EMPTY }).map_err(busy)?;
            return Ok(());
        }
    }

    /// Loads the page of `entry` into `page`, from the store or from the device. Neither counts as having it then.
    ///
    /// # Errors
    /// See [`SwapError`]. The page stays where it is.
    pub fn load(&self, entry: SwapEntry, page: &mut PageBytes) -> Result<(), SwapError> {
        self.load_from(entry, page, |page| self.zswap.load(entry, page), false)
    }

    /// Loads the page and keeps it where it is.
    ///
    /// # Errors
    /// As [`load`](Swap::load).
    pub fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> Result<(), SwapError> {
        self.load_from(entry, page, |page| self.zswap.read(entry, page), true)
    }

    fn load_from(
        &self,
        entry: SwapEntry,
        page: &mut PageBytes,
        from_ram: impl Fn(&mut PageBytes) -> Result<(), LoadError>,
        keep: bool,
    ) -> Result<(), SwapError> {
        let busy = |TimedOut| SwapError::Load(LoadError::Busy { entry });
        loop {
            match from_ram(page) {
                Ok(()) => return Ok(()),
                Err(LoadError::WrittenBack { .. }) => {}
                Err(error) => return Err(SwapError::Load(error)),
            }
            // Gone with its device.
            let Some((guard, device)) = self.lock(entry).map_err(busy)? else { continue };
            let id = guard.id();
            if !is_on_device(id) {
                continue;
            }
            let Some(io) = self.begin(guard, entry).map_err(busy)? else { continue };
            device.read(entry, page).map_err(|error| SwapError::Device { entry, error })?;
            self.zswap.counters.add(Counter::DeviceReads, 1);
            // Who invalidated it meanwhile was told that it was there: it must not be had twice.
            if io.finish(id, || if keep { id } else { EMPTY }).map_err(busy)? {
                return Ok(());
            }
        }
    }

    /// Forgets the page of `entry`, and says whether there was one.
    ///
    /// # Errors
    /// See [`InvalidateError`].
    pub fn invalidate(&self, entry: SwapEntry) -> Result<bool, InvalidateError> {
        self.zswap.invalidate(entry)
    }

    /// The locked slot and its device, if there are both.
    fn lock(&self, entry: SwapEntry) -> Result<Option<Locked<'_>>, TimedOut> {
        let Some(slot) = self.zswap.tree.slot(entry) else { return Ok(None) };
        let started = Cell::new(None);
        let guard = SlotGuard::lock(&self.zswap, slot, || self.zswap.deadline(&started))?;
        Ok(self.zswap.tree.device(entry.swap_type()).map(|device| (guard, device)))
    }

    /// Lets the slot go with W set. `None` if I/O was in flight, after it ended: everything may be different now.
    fn begin<'s>(&'s self, guard: SlotGuard<'s>, entry: SwapEntry) -> Result<Option<DeviceIo<'s>>, TimedOut> {
        match guard.begin_io() {
            Ok(io) => Ok(Some(io)),
            Err(guard) => {
                drop(guard);
                let Some(slot) = self.zswap.tree.slot(entry) else { return Ok(None) };
                slot.wait_for_writeback(&self.zswap.lot, self.zswap.deadline(&Cell::new(None)))?;
                Ok(None)
            }
        }
    }
}
