//! Address space for zspages, memory of a known node behind it, and the stock of warm memory.
//!
//! Address space comes in regions of 48 MiB, each with a preference for one node, cut into slots of 24 pages, one
//! slot a zspage. Memory comes in runs of pages of a slot ([`Arena::populate`]), always from its first page on.
//! The kernel may take a run from another node than the preferred one without saying so; therefore its node is
//! read back before it is used, and what is counted is where the memory is. On a machine of one node there is
//! nothing to ask.
//!
//! Preferred, never bound: a full node under a binding policy calls the out-of-memory killer.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64};

use zfolio_accel::{ForkGuard, NodeId, PAGE_SIZE, numa};

use crate::fail;
use crate::lazy_array::{LazyArray, OutOfMemory};
use crate::leaf::Leaf;
use crate::limit::Limit;
use crate::sync::Ordering;
use crate::zsmalloc::class::ZSPAGE_PAGES;
use crate::zsmalloc::memory::{MAX_RANGES, discard, discard_all, map, touch};
use crate::zsmalloc::zspage::{Zspage, ZspageList};

/// Bytes of a slot.
const SLOT_LEN: usize = ZSPAGE_PAGES * PAGE_SIZE;
const REGION_SLOTS_BITS: u32 = 9;
const REGION_LEN: usize = SLOT_LEN << REGION_SLOTS_BITS;
/// 3 TiB of address space at most.
const MAX_REGIONS: u32 = 1 << 16;

/// Why there is no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArenaError {
    /// The pool's limit.
    PoolLimit,
    /// The limit of the node with this index.
    NodeLimit(usize),
    /// The kernel gives no memory or address space, or the allocator none for bookkeeping.
    OutOfMemory,
    /// The kernel gave memory of another node than the rest of the zspage has, or of one where it may not be; it was given back.
    Elsewhere,
}

/// All regions of a pool. Dropping it unmaps them, except in a child of fork, which does not have them.
pub(crate) struct Arena {
    bases: LazyArray<AtomicPtr<u8>, 10, 6>,
    headers: LazyArray<Zspage, 16, REGION_SLOTS_BITS>,
    nodes: Box<[NodeArena]>,
    /// Regions mapped so far.
    regions: Leaf<u32>,
    pool_limit: Limit,
    warm_pages_max: u64,
    fork: Arc<ForkGuard>,
    /// mbind calls that the kernel refused; then memory comes from where the thread's policy says.
    refused_policies: AtomicU64,
}

struct NodeArena {
    nid: NodeId,
    /// Of the memory that is on this node, whichever node's region it is in.
    limit: Limit,
    slots: Leaf<FreeSlots>,
}

/// Slots of a node's regions that are no zspage.
struct FreeSlots {
    /// Without memory.
    empty: ZspageList,
    /// With memory of this node in their first pages, by how many.
    warm: [ZspageList; ZSPAGE_PAGES + 1],
    warm_pages: u64,
    /// Slots of the newest region that were never used: from `fresh` up to `end`.
    fresh: u32,
    end: u32,
}

impl FreeSlots {
    fn none() -> FreeSlots {
        let (empty, warm) = (ZspageList::default(), [ZspageList::default(); ZSPAGE_PAGES + 1]);
        FreeSlots { empty, warm, warm_pages: 0, fresh: 0, end: 0 }
    }
}

/// How an arena is made.
pub(crate) struct ArenaConfig<'a> {
    pub(crate) nodes: &'a [NodeId],
    pub(crate) pool_limit: Limit,
    /// By node index.
    pub(crate) node_limits: Vec<Limit>,
    /// The most pages each node keeps warm.
    pub(crate) warm_pages: u64,
    pub(crate) fork: Arc<ForkGuard>,
}

impl Arena {
    pub(crate) fn new(config: ArenaConfig<'_>) -> Result<Arena, OutOfMemory> {
        let node = |(&nid, limit)| NodeArena { nid, limit, slots: Leaf::new(FreeSlots::none()) };
        Ok(Arena {
            bases: LazyArray::new()?,
            headers: LazyArray::new()?,
            nodes: config.nodes.iter().zip(config.node_limits).map(node).collect(),
            regions: Leaf::new(0),
            pool_limit: config.pool_limit,
            warm_pages_max: config.warm_pages,
            fork: config.fork,
            refused_policies: AtomicU64::new(0),
        })
    }

    /// The header of a slot.
    #[inline]
    pub(crate) fn header(&self, slot: u32) -> &Zspage {
        self.headers.at(slot as usize)
    }

    /// The first byte of a slot.
    #[inline]
    pub(crate) fn address(&self, slot: u32) -> NonNull<u8> {
        let base = self.bases.at((slot >> REGION_SLOTS_BITS) as usize).load(Ordering::Relaxed);
        let offset = (slot as usize & ((1 << REGION_SLOTS_BITS) - 1)) * SLOT_LEN;
        NonNull::new(base.wrapping_add(offset)).expect("slots are handed out once their region is mapped")
    }

    /// A slot of this node's regions for a zspage of `pages` pages: a warm one, if there is one, of which no more
    /// than `pages` pages have memory.
    pub(crate) fn take_slot(&self, node: usize, pages: usize) -> Result<u32, ArenaError> {
        let mut guard = self.nodes[node].slots.lock();
        let slots = &mut *guard;
        let at = |slot| self.header(slot);
        // Most memory first; and rather too much, which is trimmed, than none.
        for populated in (1..=pages).rev().chain(pages + 1..=ZSPAGE_PAGES) {
            if let Some(slot) = slots.warm[populated].pop(at) {
                slots.warm_pages -= populated as u64;
                drop(guard);
                self.release(slot, pages);
                return Ok(slot);
            }
        }
        if let Some(slot) = slots.empty.pop(at) {
            return Ok(slot);
        }
        if slots.fresh == slots.end {
            (slots.fresh, slots.end) = self.map_region(node)?;
        }
        slots.fresh += 1;
        Ok(slots.fresh - 1)
    }

    /// Takes back a slot whose zspage has no objects any more. Its memory joins the warm stock, if there is room, or goes
    /// back to the kernel.
    pub(crate) fn retire_slot(&self, slot: u32) {
        let header = self.header(slot);
        let (home, on, populated) = (header.home(), header.node(), header.populated());
        let scarce = self.pool_limit.is_full() || self.nodes[on].limit.is_full();
        if populated != 0 && home == on && !scarce && !header.has_strayed() {
            let mut slots = self.nodes[home].slots.lock();
            let slots = &mut *slots;
            if slots.warm_pages + populated as u64 <= self.warm_pages_max {
                slots.warm_pages += populated as u64;
                slots.warm[populated].push(slot, |slot| self.header(slot));
                return;
            }
        }
        self.release(slot, 0);
        self.put_empty(slot);
    }

    /// Takes back a slot without memory.
    pub(crate) fn put_empty(&self, slot: u32) {
        let home = self.header(slot).home();
        self.nodes[home].slots.lock().empty.push(slot, |slot| self.header(slot));
    }

    /// Takes up to `most` slots from a node's warm stock.
    pub(crate) fn take_stock(&self, node: usize, most: usize) -> impl Iterator<Item = u32> {
        let mut guard = self.nodes[node].slots.lock();
        let mut populated = ZSPAGE_PAGES;
        std::iter::from_fn(move || {
            let slots = &mut *guard;
            while populated > 0 {
                if let Some(slot) = slots.warm[populated].pop(|slot| self.header(slot)) {
                    slots.warm_pages -= populated as u64;
                    return Some(slot);
                }
                populated -= 1;
            }
            None
        })
        .take(most)
    }

    /// Puts memory behind the pages of a slot up to `to`, and counts it where it is. For the first pages of a slot
    /// (and only for them) that may be another node than `node`, if `may_be_on` says so of its index; the header's `node` says
    /// which.
    ///
    /// Where a run would lie on several nodes, one page is taken instead, so less than asked may come; never none.
    pub(crate) fn populate(
        &self,
        slot: u32,
        node: usize,
        to: usize,
        may_be_on: &dyn Fn(usize) -> bool,
    ) -> Result<(), ArenaError> {
        let header = self.header(slot);
        let from = header.populated();
        debug_assert!(from < to && to <= ZSPAGE_PAGES);
        match self.populate_run(slot, node, from..to, may_be_on) {
            Err(ArenaError::Elsewhere) if to > from + 1 => {
                self.populate_run(slot, node, from..from + 1, may_be_on)
            }
            result => result,
        }
    }

    fn populate_run(
        &self,
        slot: u32,
        node: usize,
        Range { start: from, end: to }: Range<usize>,
        may_be_on: &dyn Fn(usize) -> bool,
    ) -> Result<(), ArenaError> {
        let pages = (to - from) as u64;
        if fail::here() || !self.pool_limit.charge(pages) {
            return Err(ArenaError::PoolLimit);
        }
        let mut charged = Charge { arena: self, node: None, pages };
        if fail::here() || !self.nodes[node].limit.charge(pages) {
            return Err(ArenaError::NodeLimit(node));
        }
        charged.node = Some(node);
        if touch(self.page(slot, from), to - from).is_err() || fail::here() {
            // The kernel may have given some of the pages before it had no more.
            discard(self.page(slot, from), to - from);
            return Err(ArenaError::OutOfMemory);
        }
        let on = self.node_of(slot, node, from, to);
        if on != Some(node) {
            let Some(on) = on.filter(|&on| from == 0 && may_be_on(on)) else {
                discard(self.page(slot, from), to - from);
                return Err(ArenaError::Elsewhere);
            };
            if !self.nodes[on].limit.charge(pages) {
                discard(self.page(slot, from), to - from);
                return Err(ArenaError::NodeLimit(on));
            }
            self.nodes[node].limit.uncharge(pages);
        }
        std::mem::forget(charged);
        let header = self.header(slot);
        header
            .node
            .store(u16::try_from(on.unwrap_or(node)).expect("fewer than 1024 nodes"), Ordering::Relaxed);
        header.populated.store(u8::try_from(to).expect("at most 24"), Ordering::Relaxed);
        Ok(())
    }

    /// The index of the node that all these pages are on. A kernel that does not answer is believed to have done as
    /// it was told; so is one that names a node which came after the store was made, for memory there must not make
    /// stores fail, and has to be counted somewhere.
    fn node_of(&self, slot: u32, expected: usize, from: usize, to: usize) -> Option<usize> {
        if self.nodes.len() == 1 {
            return Some(expected);
        }
        let mut nodes = [-1; ZSPAGE_PAGES];
        let nodes = &mut nodes[..to - from];
        if numa::nodes_of(self.page(slot, from), nodes).is_err() {
            return Some(expected);
        }
        let first = self.index_of(nodes[0], expected);
        nodes.iter().all(|&nid| self.index_of(nid, expected) == first).then_some(first)
    }

    /// The index of a node by the kernel's number.
    fn index_of(&self, nid: i32, otherwise: usize) -> usize {
        self.nodes.iter().position(|node| i32::from(node.nid.0) == nid).unwrap_or(otherwise)
    }

    /// How many pages of a slot the kernel has on another node now than they were on when they were populated.
    pub(crate) fn strayed_pages(&self, slot: u32) -> u64 {
        let (mut nodes, node) = ([-1; ZSPAGE_PAGES], self.header(slot).node());
        let nodes = &mut nodes[..self.header(slot).populated()];
        if nodes.is_empty() || numa::nodes_of(self.page(slot, 0), nodes).is_err() {
            return 0;
        }
        nodes.iter().filter(|&&nid| self.index_of(nid, node) != node).count() as u64
    }

    /// Gives the memory of a slot from page `keep` on back to the kernel. Nothing there is in use.
    fn release(&self, slot: u32, keep: usize) {
        let populated = self.header(slot).populated();
        if populated > keep {
            discard(self.page(slot, keep), populated - keep);
            self.uncharge_end(slot, keep);
        }
    }

    /// Gives the memory of slots from some page on back to the kernel, at most [`MAX_RANGES`] of them. Nothing there is in use, nor
    /// will be before [`uncharge_end`](Arena::uncharge_end) was called for each.
    pub(crate) fn discard_ends(&self, ends: impl Iterator<Item = (u32, usize)>) {
        let mut ranges = [(NonNull::dangling(), 0); MAX_RANGES];
        let mut len = 0;
        for (range, (slot, keep)) in ranges.iter_mut().zip(ends) {
            *range = (self.page(slot, keep), self.header(slot).populated() - keep);
            len += 1;
        }
        discard_all(&ranges[..len]);
    }

    /// Says that the memory of a slot from page `keep` on is the kernel's again.
    pub(crate) fn uncharge_end(&self, slot: u32, keep: usize) {
        let header = self.header(slot);
        let pages = (header.populated() - keep) as u64;
        header.populated.store(u8::try_from(keep).expect("at most 24"), Ordering::Relaxed);
        drop(Charge { arena: self, node: Some(header.node()), pages });
    }

    fn page(&self, slot: u32, page: usize) -> NonNull<u8> {
        // SAFETY: a slot has 24 pages, and `page` is one of them.
        unsafe { self.address(slot).add(page * PAGE_SIZE) }
    }

    /// Maps a region for a node, and gives its slots.
    fn map_region(&self, node: usize) -> Result<(u32, u32), ArenaError> {
        let mut regions = self.regions.lock();
        if fail::here() || *regions == MAX_REGIONS {
            return Err(ArenaError::OutOfMemory);
        }
        let first = *regions << REGION_SLOTS_BITS;
        self.bases.make_leaf(*regions as usize).map_err(|_| ArenaError::OutOfMemory)?;
        let make_headers = || self.headers.make_leaf(first as usize);
        let headers = if self.nodes.len() > 1 {
            numa::with_preferred(self.nodes[node].nid, make_headers)
        } else {
            make_headers()
        };
        for header in headers.map_err(|_| ArenaError::OutOfMemory)? {
            header.home.store(u16::try_from(node).expect("fewer than 1024 nodes"), Ordering::Relaxed);
        }
        let base = map(REGION_LEN).map_err(|_| ArenaError::OutOfMemory)?;
        if self.nodes.len() > 1 && numa::prefer(base, REGION_LEN, self.nodes[node].nid).is_err() {
            self.refused_policies.fetch_add(1, Ordering::Relaxed);
        }
        self.bases.at(*regions as usize).store(base.as_ptr(), Ordering::Relaxed);
        *regions += 1;
        Ok((first, first + (1 << REGION_SLOTS_BITS)))
    }

    pub(crate) fn pool_limit(&self) -> &Limit {
        &self.pool_limit
    }

    pub(crate) fn node_limit(&self, node: usize) -> &Limit {
        &self.nodes[node].limit
    }

    pub(crate) fn warm_pages(&self, node: usize) -> u64 {
        self.nodes[node].slots.lock().warm_pages
    }

    pub(crate) fn refused_policies(&self) -> u64 {
        self.refused_policies.load(Ordering::Relaxed)
    }

    /// Bytes of headers and tables.
    pub(crate) fn metadata_bytes(&self) -> u64 {
        self.bases.bytes() + self.headers.bytes() + size_of_val(&*self.nodes) as u64
    }

    /// Bytes of all regions that have memory, by the kernel's own account.
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let regions = *self.regions.lock();
        let mut resident = 0;
        let mut residency = vec![0u8; REGION_LEN / PAGE_SIZE];
        for region in 0..regions {
            let base = self.bases.at(region as usize).load(Ordering::Relaxed);
            // SAFETY: the range is a mapping of ours, and `residency` has a byte for each page of it.
            if unsafe { libc::mincore(base.cast(), REGION_LEN, residency.as_mut_ptr()) } != 0 {
                return Err(io::Error::last_os_error());
            }
            resident += residency.iter().filter(|&&byte| byte & 1 != 0).count() * PAGE_SIZE;
        }
        Ok(resident as u64)
    }

    /// Every slot that was ever handed out.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        let regions = *self.regions.lock();
        let unused: Vec<_> = self
            .nodes
            .iter()
            .map(|node| {
                let slots = node.slots.lock();
                slots.fresh..slots.end
            })
            .collect();
        (0..regions << REGION_SLOTS_BITS).filter(move |slot| !unused.iter().any(|range| range.contains(slot)))
    }

    /// The free slots and how many pages of each have memory.
    pub(crate) fn free_slots(&self) -> Vec<(u32, usize)> {
        let at = |slot| self.header(slot);
        let mut free = Vec::new();
        for node in &self.nodes {
            let slots = node.slots.lock();
            free.extend(slots.empty.iter(at).map(|slot| (slot, 0)));
            for (populated, list) in slots.warm.iter().enumerate() {
                free.extend(list.iter(at).map(|slot| (slot, populated)));
            }
        }
        free
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.fork.is_child() {
            return;
        }
        for region in 0..*self.regions.lock() {
            let base = self.bases.at(region as usize).load(Ordering::Relaxed);
            // SAFETY: the region was mapped by `map_region`, and objects do not outlive the pool they borrow.
            unsafe { libc::munmap(base.cast(), REGION_LEN) };
        }
    }
}

/// Pages charged to the pool, and to a node once that is set. Dropping it uncharges them.
struct Charge<'a> {
    arena: &'a Arena,
    node: Option<usize>,
    pages: u64,
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.arena.pool_limit.uncharge(self.pages);
        if let Some(node) = self.node {
            self.arena.nodes[node].limit.uncharge(self.pages);
        }
    }
}
