//! Storing: claim, compress, publish.
//!
//! Everything that can fail happens before publish, and publish cannot fail. A claim that is not published erases
//! its slots, so there is nothing to unwind here.

use std::cell::Cell;

use zfolio_accel::{Codec, Compressed, PAGE_SIZE, PageBytes, Purpose, repeated_word};

use crate::claim::{NoClaim, StoreClaim};
use crate::config::Incompressible;
use crate::counters::Counter;
use crate::entry::{Chain, Entry};
use crate::error::StoreError;
use crate::folio::{Folio, MAX_FOLIO_PAGES, TenantId};
use crate::lru::List;
use crate::sync::Ordering;
use crate::tree::NoSlots;
use crate::word::{EMPTY, ZERO_PAGE};
use crate::zsmalloc::ArenaError;
use crate::zswap::Zswap;

/// Folios up to 64 KiB.
const SMALL_FOLIO_PAGES: usize = 16;

impl Zswap {
    /// Stores every page of `folio`, or none.
    ///
    /// A page that was in one of the slots is replaced.
    ///
    /// # Errors
    /// On error no slot of the folio is left in the store, including entries from earlier stores: the caller now
    /// writes these pages to the swap device, and an old entry would hide them. [`StoreError`] names the four errors
    /// that change nothing instead. After [`StoreError::PoolFull`] and [`StoreError::NodeFull`] trying again later
    /// can succeed.
    pub fn store(&self, folio: &Folio<'_>) -> Result<(), StoreError> {
        // Small folios do not pay for the room of the largest.
        if folio.pages().len() <= SMALL_FOLIO_PAGES {
            self.store_with(folio, &[const { Cell::new(EMPTY) }; SMALL_FOLIO_PAGES])
        } else {
            self.store_with(folio, &[const { Cell::new(EMPTY) }; MAX_FOLIO_PAGES])
        }
    }

    fn store_with(&self, folio: &Folio<'_>, room: &[Cell<u32>]) -> Result<(), StoreError> {
        let (claim, node) = self.claim(folio, room)?;
        let failed = Cell::new(None);
        if let Err(error) = self.accepts(node, folio.tenant()) {
            failed.set(Some(error));
        } else {
            self.fill(&claim, folio, node, &|_, error| {
                failed.set(failed.get().or(Some(error)));
                false
            });
        }
        match failed.get() {
            None => claim.publish(|_| unreachable!("no slot of a whole folio is left empty")),
            Some(error) => {
                claim.erase().map_err(|entry| StoreError::WritebackPending { entry })?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Stores each page of `folio` by itself, and tells `each` how it went, with the index of the page: for a caller
    /// to whom some pages are better than none.
    ///
    /// A page that fails leaves its slot empty, as [`store`](Zswap::store) does. `each` is called after all pages
    /// are done; should it panic, the store is as usable as before, with the pages that it holds.
    ///
    /// # Errors
    /// Those that concern the whole folio; `each` is not called then. [`StoreError::Busy`], [`StoreError::NoSuchSwap`],
    /// [`StoreError::NoSuchNode`] and [`StoreError::Forked`] change nothing; after [`StoreError::OutOfMemory`], for which
    /// the slots must never have been used, they are empty.
    pub fn store_each(
        &self,
        folio: &Folio<'_>,
        mut each: impl FnMut(usize, Result<(), StoreError>),
    ) -> Result<(), StoreError> {
        let room = [const { Cell::new(EMPTY) }; MAX_FOLIO_PAGES];
        let (claim, node) = self.claim(folio, &room)?;
        let failed = [const { Cell::new(None) }; MAX_FOLIO_PAGES];
        match self.accepts(node, folio.tenant()) {
            Ok(()) => self.fill(&claim, folio, node, &|index, error| {
                failed[index].set(Some(error));
                true
            }),
            Err(error) => failed[..folio.pages().len()].iter().for_each(|cell| cell.set(Some(error))),
        }
        claim.publish(|index| {
            failed[index].set(Some(StoreError::WritebackPending { entry: folio.first().plus(index) }));
        });
        for (index, cell) in failed[..folio.pages().len()].iter().enumerate() {
            each(index, cell.get().map_or(Ok(()), Err));
        }
        Ok(())
    }

    /// Locks the folio's slots, and gives the index of its node. On error nothing was changed.
    #[inline]
    fn claim<'s>(
        &'s self,
        folio: &Folio<'_>,
        room: &'s [Cell<u32>],
    ) -> Result<(StoreClaim<'s>, usize), StoreError> {
        if self.fork.is_child() {
            return Err(StoreError::Forked);
        }
        let (first, pages) = (folio.first(), folio.pages().len());
        let node = self.nodes.index_of(folio.nid()).ok_or(StoreError::NoSuchNode { nid: folio.nid() })?;
        let slots = match self.tree.folio_slots(first, pages) {
            Ok(slots) => slots,
            Err(NoSlots::NoSuchSwap) => return Err(StoreError::NoSuchSwap { first, pages }),
            // Slots without memory hold nothing, so none of the folio is in the store.
            Err(NoSlots::OutOfMemory) => return Err(self.count_error(StoreError::OutOfMemory)),
        };
        match StoreClaim::lock(self, first, slots, &room[..pages]) {
            Ok(claim) => Ok((claim, node)),
            Err(NoClaim::Busy(entry)) => Err(self.count_error(StoreError::Busy { entry })),
            Err(NoClaim::NoSuchSwap) => Err(StoreError::NoSuchSwap { first, pages }),
        }
    }

    /// The fast refusal of a full pool. The limit itself is charged when memory is populated.
    #[inline]
    fn accepts(&self, node: usize, tenant: TenantId) -> Result<(), StoreError> {
        let arena = self.pool.arena();
        if !arena.pool_limit().accepts() {
            return Err(self.count_error(self.pool_full()));
        }
        if !arena.node_limit(node).accepts() {
            return Err(self.count_error(self.node_full(node)));
        }
        self.tenants.accepts(tenant).map_err(|error| self.count_error(error))
    }

    /// Compresses the pages and stages an entry for each. `fail` hears of each page that gets none, and says whether
    /// to go on.
    fn fill(
        &self,
        claim: &StoreClaim<'_>,
        folio: &Folio<'_>,
        node: usize,
        fail: &dyn Fn(usize, StoreError) -> bool,
    ) {
        if self.lru.make(folio.tenant()).is_err() || self.tenants.make(folio.tenant()).is_err() {
            let error = self.count_error(StoreError::OutOfMemory);
            let _ = (0..folio.pages().len()).all(|index| fail(index, error));
            return;
        }
        let work = Work {
            store: self,
            claim,
            folio,
            node,
            fail,
            going: Cell::new(true),
            set_aside: SetAside::default(),
            entries: Cell::new(Chain::default()),
        };
        let (mut next, mut done) = (0, 0);
        let mut pages = std::iter::from_fn(|| work.next_to_compress(&mut next));
        let mut sink = |_, outcome: Compressed<'_>| {
            // Outcomes come in the order of the pages; those that were set aside have none.
            while work.set_aside.contains(done) {
                done += 1;
            }
            work.stage_outcome(done, outcome);
            done += 1;
        };
        self.channels.with(Purpose::Store, |channel| channel.compress(&mut pages, &mut sink));
        let pages = folio.pages().len();
        while done < pages && work.set_aside.contains(done) {
            done += 1;
        }
        // Otherwise its slot would be empty, and the caller in the belief that the page is stored.
        assert!(!work.going.get() || done == pages, "the engine told of {done} pages of {pages}");
    }

    fn pool_full(&self) -> StoreError {
        let limit = self.pool.arena().pool_limit();
        let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE as u64);
        StoreError::PoolFull {
            max_bytes: bytes(limit.max_pages()),
            accept_bytes: bytes(limit.accept_pages()),
        }
    }

    fn node_full(&self, node: usize) -> StoreError {
        let limit = self.pool.arena().node_limit(node);
        let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE as u64);
        StoreError::NodeFull {
            nid: self.nodes.nid(node),
            max_bytes: bytes(limit.max_pages()),
            accept_bytes: bytes(limit.accept_pages()),
        }
    }

    /// What stopped a page of this node on the way. After a limit stores are refused at once, until usage has fallen.
    fn hit(&self, error: ArenaError, node: usize) -> StoreError {
        match error {
            ArenaError::PoolLimit => {
                self.pool.arena().pool_limit().hit();
                self.pool_full()
            }
            ArenaError::NodeLimit(full) => {
                self.pool.arena().node_limit(full).hit();
                self.node_full(full)
            }
            ArenaError::Elsewhere => StoreError::NodeOutOfMemory { nid: self.nodes.nid(node) },
            ArenaError::OutOfMemory => StoreError::OutOfMemory,
        }
    }

    fn count_error(&self, error: StoreError) -> StoreError {
        let counter = match error {
            StoreError::PoolFull { .. } | StoreError::NodeFull { .. } | StoreError::TenantFull { .. } => {
                self.pressure.raise();
                Counter::RejectFull
            }
            StoreError::Incompressible { .. } => Counter::RejectCompressPoor,
            StoreError::OutOfMemory => Counter::RejectAllocFail,
            StoreError::NodeOutOfMemory { .. } => Counter::RejectPlacement,
            StoreError::Busy { .. } => Counter::RejectBusy,
            _ => return error,
        };
        self.counters.add(counter, 1);
        error
    }
}

/// Pages of a folio that need no compressing, by index.
#[derive(Default)]
struct SetAside([Cell<u64>; MAX_FOLIO_PAGES / 64]);

impl SetAside {
    #[inline]
    fn insert(&self, index: usize) {
        let word = &self.0[index / 64];
        word.set(word.get() | 1 << (index % 64));
    }

    #[inline]
    fn contains(&self, index: usize) -> bool {
        self.0[index / 64].get() & 1 << (index % 64) != 0
    }
}

/// One folio on its way into the store. Dropping it, also by a panic of the engine, gives back the entries that it
/// took and did not need.
struct Work<'w> {
    store: &'w Zswap,
    claim: &'w StoreClaim<'w>,
    folio: &'w Folio<'w>,
    node: usize,
    fail: &'w dyn Fn(usize, StoreError) -> bool,
    /// False once a failure has ended the work.
    going: Cell<bool>,
    set_aside: SetAside,
    /// Free entries taken for pages to come.
    entries: Cell<Chain>,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.list().give_entries(&self.store.slab, self.entries.take());
    }
}

impl<'w> Work<'w> {
    /// The list that has the folio's free entries.
    fn list(&self) -> &'w List {
        self.store.lru_list((self.folio.tenant(), self.node))
    }

    /// The next page that is not same-filled. Those that are get their entries on the way.
    #[inline(always)]
    fn next_to_compress(&self, next: &mut usize) -> Option<&'w PageBytes> {
        while self.going.get() {
            let page = self.folio.pages().get(*next)?;
            let index = *next;
            *next += 1;
            let Some(word) = repeated_word(page) else { return Some(page) };
            self.set_aside.insert(index);
            self.finish(index, self.stage_same_filled(index, word));
        }
        None
    }

    fn stage_same_filled(&self, index: usize, word: u64) -> Result<(), StoreError> {
        if word == 0 {
            self.store.counters.add(Counter::ZeroPages, 1);
            self.claim.stage(index, ZERO_PAGE);
            return Ok(());
        }
        let (id, entry) = self.new_entry(index)?;
        entry.set_same_filled(word);
        self.store.counters.add(Counter::SameFilledPages, 1);
        self.claim.stage(index, id);
        Ok(())
    }

    #[inline(always)]
    fn stage_outcome(&self, index: usize, outcome: Compressed<'_>) {
        if !self.going.get() {
            return;
        }
        let max_len = self.store.max_compressed_len;
        let result = match outcome {
            Compressed::Bytes { bytes, codec, crc } if (1..=max_len).contains(&bytes.len()) => {
                self.stage_object(index, bytes, Some(codec), crc)
            }
            Compressed::Bytes { crc, .. } | Compressed::Incompressible { crc } => {
                match self.store.incompressible {
                    Incompressible::StoreRaw if self.store.tenants.may_write_back(self.folio.tenant()) => {
                        self.stage_object(index, &self.folio.pages()[index], None, crc)
                    }
                    _ => Err(StoreError::Incompressible { entry: self.folio.first().plus(index) }),
                }
            }
        };
        self.finish(index, result);
    }

    #[inline(always)]
    fn stage_object(
        &self,
        index: usize,
        bytes: &[u8],
        codec: Option<Codec>,
        crc: u32,
    ) -> Result<(), StoreError> {
        let (id, entry) = self.new_entry(index)?;
        let tenant = self.folio.tenant();
        if let Err(error) = self.store.tenants.charge(tenant, bytes.len() as u64) {
            self.list().free(&self.store.slab, id, entry);
            return Err(error);
        }
        match self.store.pool.store(bytes, self.node, id) {
            Ok(object) => entry.set_object(object.into_raw(), codec, crc),
            Err(error) => {
                self.store.tenants.uncharge(tenant, bytes.len() as u64);
                self.list().free(&self.store.slab, id, entry);
                return Err(self.store.hit(error, self.node));
            }
        }
        self.claim.stage(index, id);
        Ok(())
    }

    #[inline(always)]
    fn new_entry(&self, index: usize) -> Result<(u32, &'w Entry), StoreError> {
        let mut entries = self.entries.take();
        if entries.len() == 0 {
            entries = self.list().take_entries(&self.store.slab).map_err(|_| StoreError::OutOfMemory)?;
        }
        let (id, entry) = entries.pop(&self.store.slab).expect("there was one, or one was taken");
        self.entries.set(entries);
        let tick = self.store.clock.load(Ordering::Relaxed);
        entry.set_owner(self.folio.first().plus(index), self.node, self.folio.tenant(), tick);
        Ok((id, entry))
    }

    #[inline(always)]
    fn finish(&self, index: usize, result: Result<(), StoreError>) {
        if let Err(error) = result
            && !(self.fail)(index, self.store.count_error(error))
        {
            self.going.set(false);
        }
    }
}
