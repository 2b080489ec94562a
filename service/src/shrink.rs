//! The shrinker: pages of one node out of the store and onto the swap device, those first that were not used for longest.
//!
//! It runs on the thread that asks for it, and never waits for a slot: a candidate is taken from its LRU list with the
//! list locked, by trying its slot's lock. A page's way out is
//!
//! 1. decompress into a buffer of the shrinker's, many in flight, with the slot held;
//! 2. let the slot go with W set, so that whoever wants the page has it at once;
//! 3. write, many pages at a time, with no lock held;
//! 4. try the slot again, and free the page if it is still the one that was written.

mod cold;
mod pressure;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zfolio_accel::{Job, NodeId, PAGE_SIZE, Page, Purpose, crc32};

use crate::claim::{Freed, Held, SlotGuard, Writing};
use crate::counters::Counter;
use crate::error::ShrinkError;
use crate::folio::{SwapEntry, TenantId};
use crate::lru::List;
use crate::swap_device::{PageWrite, SwapDevice};
use crate::sync::Ordering;
use crate::zsmalloc::Release;
use crate::zswap::Zswap;

/// Slots held at once while their pages are decompressed.
const HELD: usize = 16;
/// Pages written at once.
const WRITE_BATCH: usize = 64;
/// Entries looked at with an LRU list locked.
const SCAN: u64 = 32;
/// Failures of the swap device in a row after which a call gives up; as zswap has it.
const MAX_FAILURES: u32 = 16;

/// What a call of [`Zswap::shrink`] did. Bytes are those of the node that was asked for, and exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shrunk {
    /// Bytes of the objects that were freed.
    pub object_bytes: u64,
    /// Bytes that went back to the kernel.
    pub released_bytes: u64,
    /// Pages written to the swap device and freed.
    pub written_back_pages: u64,
    /// Pages that could not be written back; they are still in the store.
    pub failed_pages: u64,
    /// Entries looked at.
    pub scanned_pages: u64,
    /// Bytes of objects that compaction moved.
    pub moved_bytes: u64,
}

/// How much a call may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShrinkBudget {
    /// The most pages written to the swap device.
    pub pages: u64,
    /// No new batch is begun after this time.
    pub time: Duration,
}

impl Default for ShrinkBudget {
    /// Whatever it takes.
    fn default() -> ShrinkBudget {
        ShrinkBudget { pages: u64::MAX, time: Duration::MAX }
    }
}

impl Zswap {
    /// Gives `bytes` of memory of node `nid` back to the kernel: first empty memory, which the store keeps warm or which
    /// lies between pages, then that of pages, which are written to their swap devices. Only pages whose bytes are on that node are touched.
    ///
    /// It ends when so many bytes were released, when there is nothing more to write, or when the swap device fails
    /// again and again; see what it returns.
    ///
    /// # Errors
    /// See [`ShrinkError`].
    pub fn shrink(&self, nid: NodeId, bytes: u64) -> Result<Shrunk, ShrinkError> {
        self.shrink_within(nid, bytes, ShrinkBudget::default())
    }

    /// Writes back pages of `tenant` and its descendants, on whatever node, until `bytes` of their compressed bytes are freed.
    ///
    /// # Errors
    /// See [`ShrinkError`].
    pub fn shrink_tenant(&self, tenant: TenantId, bytes: u64) -> Result<Shrunk, ShrinkError> {
        if self.fork.is_child() {
            return Err(ShrinkError::Forked);
        }
        let mut sum = Shrunk::default();
        for node in 0..self.nodes.len() {
            let mut shrinker = Shrinker::new(self, node, ShrinkBudget::default());
            shrinker.tenant = Some(tenant);
            shrinker.run(bytes - sum.object_bytes);
            let shrunk = shrinker.shrunk;
            sum.object_bytes += shrunk.object_bytes;
            sum.released_bytes += shrunk.released_bytes;
            sum.written_back_pages += shrunk.written_back_pages;
            sum.failed_pages += shrunk.failed_pages;
            sum.scanned_pages += shrunk.scanned_pages;
            sum.moved_bytes += shrunk.moved_bytes;
            if sum.object_bytes >= bytes {
                break;
            }
        }
        Ok(sum)
    }

    /// The same as [`shrink`](Zswap::shrink), within a budget.
    ///
    /// # Errors
    /// See [`ShrinkError`].
    pub fn shrink_within(
        &self,
        nid: NodeId,
        bytes: u64,
        budget: ShrinkBudget,
    ) -> Result<Shrunk, ShrinkError> {
        let node = self.node_to_shrink(nid)?;
        let mut shrinker = Shrinker::new(self, node, budget);
        shrinker.run(bytes);
        Ok(shrinker.shrunk)
    }

    /// The index of a node whose pages are to move or to leave.
    pub(crate) fn node_to_shrink(&self, nid: NodeId) -> Result<usize, ShrinkError> {
        if self.fork.is_child() {
            return Err(ShrinkError::Forked);
        }
        self.nodes.index_of(nid).ok_or(ShrinkError::NoSuchNode { nid })
    }
}

/// One call.
struct Shrinker<'s> {
    store: &'s Zswap,
    node: usize,
    budget: ShrinkBudget,
    /// Whose pages, if not everybody's. Then the target is of object bytes, and memory is not compacted.
    tenant: Option<TenantId>,
    deadline: Option<Instant>,
    /// Buffers of the batch; made when there is something to write.
    pages: Vec<Page>,
    shrunk: Shrunk,
    /// Failures since the last success.
    failures: u32,
    /// Entries looked at since the last success.
    fruitless: u64,
    /// Bytes of objects that were freed and whose memory was not yet released: what compaction can give.
    loose: u64,
    /// Memory that counts as released and is on its way.
    release: Release<'s>,
}

/// A page of the batch.
struct Pending<'s> {
    entry: SwapEntry,
    writing: Writing<'s>,
    /// Its buffer.
    page: usize,
    device: Arc<dyn SwapDevice>,
}

impl<'s> Shrinker<'s> {
    fn new(store: &'s Zswap, node: usize, budget: ShrinkBudget) -> Shrinker<'s> {
        Shrinker {
            store,
            node,
            budget,
            tenant: None,
            deadline: Instant::now().checked_add(budget.time),
            pages: Vec::new(),
            shrunk: Shrunk::default(),
            failures: 0,
            fruitless: 0,
            loose: 0,
            release: Release::new(&store.pool),
        }
    }

    fn run(&mut self, bytes: u64) {
        if self.tenant.is_none() {
            self.take_empty(bytes);
        }
        while !self.is_done(bytes) {
            if self.wanted(bytes) == 0 {
                self.compact(bytes);
                continue;
            }
            let lists = self.lists();
            let entries: u64 = lists.iter().map(|(_, list)| list.counts().0).sum();
            // Each entry may be passed over once for its mark, and once for being held.
            if entries == 0 || self.fruitless > 2 * entries {
                break;
            }
            for (tenant, list) in lists {
                if self.is_done(bytes) || self.wanted(bytes) == 0 {
                    break;
                }
                let mut scan = 8 * WRITE_BATCH as u64;
                self.write_back(list, self.wanted_pages(list, bytes), &mut scan);
                self.store.reclaim_cursors[self.node].store(u32::from(tenant.0) + 1, Ordering::Relaxed);
            }
        }
        if self.tenant.is_none() {
            self.take_loose(bytes);
        }
    }

    /// Releases empty memory, which costs nobody a write, and neither does what compaction gives.
    fn take_empty(&mut self, bytes: u64) {
        let pages = self.store.pool.collect_warm(self.node, &mut self.release);
        self.shrunk.released_bytes += pages * PAGE_SIZE as u64;
        // Zspages are closed meanwhile, and writes may take long.
        self.release.flush();
        self.compact(bytes);
    }

    /// Releases what freed pages have left between others, if it is still wanted.
    fn take_loose(&mut self, bytes: u64) {
        if self.shrunk.released_bytes < bytes {
            self.compact(bytes);
        }
    }

    /// The lists that may be written back from. Tenants take turns, and the next call goes on where this one ends.
    fn lists(&self) -> Vec<(TenantId, &'s List)> {
        let store = self.store;
        let last = store.reclaim_cursors[self.node].load(Ordering::Relaxed);
        let mut lists: Vec<(TenantId, &List)> = store
            .lru
            .lists()
            .filter(|&(tenant, node, list)| {
                node == self.node
                    && list.counts().0 != 0
                    && self.tenant.is_none_or(|only| store.tenants.is_within(tenant, only))
                    && store.tenants.may_write_back(tenant)
            })
            .map(|(tenant, _, list)| (tenant, list))
            .collect();
        lists.sort_by_key(|(tenant, _)| (u32::from(tenant.0) < last, tenant.0));
        lists
    }

    /// How many pages of a list give the bytes that are wanted, as far as a batch goes.
    fn wanted_pages(&self, list: &List, bytes: u64) -> usize {
        let (entries, object_bytes) = list.counts();
        let each = (object_bytes / entries.max(1)).max(1);
        self.wanted(bytes).div_ceil(each).min(WRITE_BATCH as u64) as usize
    }

    /// Object bytes that are still to be freed for the target, before compaction.
    fn wanted(&self, bytes: u64) -> u64 {
        match self.tenant {
            Some(_) => bytes.saturating_sub(self.shrunk.object_bytes),
            None => bytes.saturating_sub(self.shrunk.released_bytes).saturating_sub(self.loose),
        }
    }

    /// Moves what is left together, until the target is reached.
    fn compact(&mut self, bytes: u64) {
        self.loose = 0;
        let enough_pages = bytes.saturating_sub(self.shrunk.released_bytes).div_ceil(PAGE_SIZE as u64);
        let compaction = self.store.compact_node(self.node, enough_pages, self.deadline);
        self.shrunk.released_bytes += compaction.released_pages * PAGE_SIZE as u64;
        self.shrunk.moved_bytes += compaction.moved_bytes;
    }

    fn is_done(&self, bytes: u64) -> bool {
        let freed = if self.tenant.is_some() { self.shrunk.object_bytes } else { self.shrunk.released_bytes };
        freed >= bytes
            || self.shrunk.written_back_pages >= self.budget.pages
            || self.failures >= MAX_FAILURES
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Writes up to `wanted` pages of a list, if so many are found among `scan` entries.
    fn write_back(&mut self, list: &List, wanted: usize, scan: &mut u64) {
        let left = self.budget.pages - self.shrunk.written_back_pages;
        let wanted = wanted.min(WRITE_BATCH).min(usize::try_from(left).unwrap_or(WRITE_BATCH));
        let mut pending = Vec::with_capacity(wanted);
        let mut used = 0;
        while used < wanted && *scan > 0 {
            let buffers = used..wanted.min(used + HELD);
            let taken = self.decompress_some(list, buffers, scan, &mut pending);
            used += taken;
            if taken == 0 {
                break;
            }
        }
        self.write(pending);
    }

    /// Takes candidates for these buffers, decompresses them, and lets them go with W set. Says how many buffers it used.
    fn decompress_some(
        &mut self,
        list: &List,
        buffers: Range<usize>,
        scan: &mut u64,
        pending: &mut Vec<Pending<'s>>,
    ) -> usize {
        let store = self.store;
        let mut guards: Vec<(SlotGuard<'s>, Arc<dyn SwapDevice>)> = Vec::with_capacity(HELD);
        while guards.len() < buffers.len() && *scan > 0 {
            let slice = SCAN.min(*scan);
            let mut left = slice;
            let mut taken = None;
            list.candidate(&store.slab, &mut left, |id, entry| {
                taken = SlotGuard::try_lock_without_io(store, id, store.slab.at(id));
                debug_assert!(std::ptr::eq(entry, store.slab.at(id)));
                taken.is_some()
            });
            let scanned = slice - left;
            *scan -= scanned;
            self.shrunk.scanned_pages += scanned;
            self.fruitless += scanned;
            if scanned == 0 {
                break;
            }
            // A type without a device has nowhere to go.
            let Some(guard) = taken else { continue };
            if let Some(device) = store.tree.device(guard.swap_entry().swap_type()) {
                guards.push((guard, device));
            }
        }
        let taken = guards.len();
        self.decompress_held(guards, buffers.start, pending);
        taken
    }

    /// Decompresses the pages of held slots into the buffers from `first` on, and lets them go with W set.
    fn decompress_held(
        &mut self,
        guards: Vec<(SlotGuard<'s>, Arc<dyn SwapDevice>)>,
        first: usize,
        pending: &mut Vec<Pending<'s>>,
    ) {
        if guards.is_empty() {
            return;
        }
        if self.pages.is_empty() {
            self.pages = Page::zeroed_vec(WRITE_BATCH);
        }
        let results = decompress(self.store, &guards, &mut self.pages[first..first + guards.len()]);
        // The buffers of pages that failed stay unused.
        for (index, (guard, device)) in guards.into_iter().enumerate() {
            if !results[index] {
                self.store.counters.add(Counter::CorruptLoads, 1);
                self.failed();
                continue;
            }
            let (entry, page) = (guard.swap_entry(), first + index);
            pending.push(Pending { entry, writing: guard.begin_writeback(), page, device });
        }
    }

    /// Writes the batch and frees what was written.
    fn write(&mut self, mut pending: Vec<Pending<'s>>) {
        pending.sort_unstable_by_key(|pending| pending.entry);
        while !pending.is_empty() {
            let swap_type = pending[0].entry.swap_type();
            let same = pending.iter().take_while(|pending| pending.entry.swap_type() == swap_type).count();
            let rest = pending.split_off(same);
            let device = Arc::clone(&pending[0].device);
            let mut writes: Vec<PageWrite<'_>> = pending
                .iter()
                .map(|pending| PageWrite::new(pending.entry, &self.pages[pending.page]))
                .collect();
            // Should the device panic, `pending` ends all writes.
            device.write_batch(&mut writes);
            let results: Vec<bool> = writes.into_iter().map(|write| write.into_result().is_ok()).collect();
            for (pending, written) in pending.into_iter().zip(results) {
                self.release.make_room();
                if !written {
                    drop(pending.writing);
                    self.failed();
                } else if let Some(freed) = pending.writing.finish(&mut self.release) {
                    self.freed(freed);
                }
            }
            pending = rest;
        }
    }

    fn freed(&mut self, freed: Freed) {
        self.failures = 0;
        self.fruitless = 0;
        self.shrunk.written_back_pages += 1;
        // Somebody may have moved it since it was a candidate.
        if freed.node == self.node {
            self.shrunk.object_bytes += freed.object_bytes;
            let released = freed.released_pages * PAGE_SIZE as u64;
            self.shrunk.released_bytes += released;
            self.loose = (self.loose + freed.object_bytes).saturating_sub(released);
        }
    }

    fn failed(&mut self) {
        self.failures += 1;
        self.shrunk.failed_pages += 1;
        self.store.counters.add(Counter::RejectReclaimFail, 1);
    }
}

/// Decompresses the pages of held slots, and says of each if it is the one that was stored.
fn decompress(
    store: &Zswap,
    guards: &[(SlotGuard<'_>, Arc<dyn SwapDevice>)],
    pages: &mut [Page],
) -> [bool; HELD] {
    let mut good = [false; HELD];
    let mut jobs: [Option<Job<'_>>; HELD] = [const { None }; HELD];
    for (index, ((guard, _), page)) in guards.iter().zip(pages).enumerate() {
        match guard.held() {
            Held::Compressed { codec, bytes, crc } => jobs[index] = Some(Job::new(codec, bytes, crc, page)),
            Held::Raw { bytes, crc } if bytes.len() == PAGE_SIZE => {
                page.copy_from_slice(bytes);
                good[index] = crc32(&page[..]) == crc;
            }
            Held::Raw { .. } | Held::Nothing | Held::SameFilled(_) => {}
        }
    }
    if jobs.iter().any(Option::is_some) {
        store.channels.with(Purpose::Load, |channel| channel.decompress(&mut jobs));
    }
    for (good, job) in good.iter_mut().zip(&jobs) {
        *good |= job.as_ref().is_some_and(|job| job.result().is_ok());
    }
    good
}
