//! What the store holds and what became of requests, in zswap's words.

use std::fmt;

use zfolio_accel::{FallbackCounts, NodeId, PAGE_SIZE};

use crate::counters::Counter;
use crate::zswap::Zswap;

/// A snapshot of the whole store. Exact while no operation is under way.
///
/// Names that zswap has mean what they mean there:
///
/// | zswap | here |
/// |---|---|
/// | `stored_pages` | with same-filled pages, which the kernel keeps elsewhere; those of nodes and tenants are without |
/// | `pool_total_size` | `pool_bytes` |
/// | `pool_limit_hit` | hits of the nodes' limits included |
/// | `reject_alloc_fail`, `reject_kmemcache_fail` | `reject_alloc_fail`, of objects and entries together |
/// | `reject_compress_fail` | none: what an engine fails, software does (`fallbacks`) |
/// | `decompress_fail` | `corrupt_loads` |
/// | `zswpout`, `zswpin`, `zswpwb` | `pages_out`, `pages_in`, `written_back_pages`, also by node and tenant |
/// | `swpout_zero`, `swpin_zero` | `same_filled_pages_out`, `same_filled_pages_in`, of any word |
/// | `zswap`, `zswapped` of a memcg | `charged_bytes`, `stored_pages` of a tenant |
/// | `nr_disk_swapins` | `protected_pages` of a node or tenant, never more than its pages |
///
/// The others have zswap's own names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Pages in the store, same-filled ones included.
    pub stored_pages: u64,
    /// Pages of zeros among them; they take no memory but their slot.
    pub zero_pages: u64,
    /// Pages that another 8-byte word fills; they take no pool memory.
    pub same_filled_pages: u64,
    /// Pages kept as they are, because they did not shrink enough.
    pub stored_incompressible_pages: u64,
    /// Pages whose bytes are not on the node that the page came from.
    pub misplaced_pages: u64,
    /// Bytes of their objects.
    pub misplaced_bytes: u64,
    /// Bytes of all objects: what the codec made of the pages.
    pub object_bytes: u64,
    /// Memory of the pool, the warm stock included: `pool_total_size` of zswap.
    pub pool_bytes: u64,
    /// Memory of the pool that is empty and kept for the next stores.
    pub warm_bytes: u64,
    /// Everything else that grows with the number of pages: slots, entries, back-references, zspage headers, lists.
    pub metadata_bytes: u64,
    /// Pages stored since the start: `zswpout`.
    pub pages_out: u64,
    /// Those of them that one word fills, which are no node's and no tenant's.
    pub same_filled_pages_out: u64,
    /// Pages loaded or read since the start: `zswpin`.
    pub pages_in: u64,
    /// Those of them that one word fills.
    pub same_filled_pages_in: u64,
    /// Pages written to a swap device, and so out of the store, since the start: `written_back_pages` and `zswpwb` of
    /// zswap.
    pub written_back_pages: u64,
    /// Pages that are on a swap device, by what the store remembers of its writeback.
    pub on_device_pages: u64,
    /// Writebacks that failed, in decompressing or in the device; the pages are still in the store.
    pub reject_reclaim_fail: u64,
    /// Pages that a store, load or invalidate took while they were being written: it won, and the write was for nothing.
    pub reclaim_races: u64,
    /// Pages read from a swap device by [`Swap`](crate::Swap).
    pub device_reads: u64,
    /// Pages that [`Swap`](crate::Swap) wrote past the store, which refused them.
    pub device_writes: u64,
    /// How often the pool's limit, or a node's, was hit.
    pub pool_limit_hit: u64,
    /// Refusals because the pool or node was full: of a folio at once, or of a page that met the limit on its way.
    pub reject_full: u64,
    /// Pages refused because they did not shrink, where such pages are refused.
    pub reject_compress_poor: u64,
    /// Failures because there was no memory: of a folio at once, or of a page on its way.
    pub reject_alloc_fail: u64,
    /// Pages refused because memory was to be had only where they may not be: see [`Placement`](crate::Placement).
    pub reject_placement: u64,
    /// Stores that gave up waiting for another operation on a slot.
    pub reject_busy: u64,
    /// Loads that found a page corrupt.
    pub corrupt_loads: u64,
    /// mbind calls that the kernel refused. Memory then comes from where the thread's policy says, and is counted
    /// where it is.
    pub refused_policies: u64,
    /// Pages done in software because the engine failed them.
    pub fallbacks: FallbackCounts,
    /// The same by node.
    pub nodes: Vec<NodeStats>,
}

/// What is on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeStats {
    /// The node.
    pub nid: NodeId,
    /// Its memory tier; the lower, the faster.
    pub tier: u32,
    /// Pages whose bytes are on this node.
    pub stored_pages: u64,
    /// Bytes of their objects.
    pub object_bytes: u64,
    /// Memory of the pool on this node, the warm stock included.
    pub pool_bytes: u64,
    /// Memory on this node that is empty and kept for the next stores.
    pub warm_bytes: u64,
    /// Zspages on this node.
    pub zspages: u64,
    /// How often the node's limit was hit.
    pub limit_hit: u64,
    /// Pages stored whose bytes went to this node.
    pub pages_out: u64,
    /// Pages loaded or read whose bytes were on this node.
    pub pages_in: u64,
    /// Pages written back from this node.
    pub written_back_pages: u64,
    /// Pages that pressure leaves alone for now, because so many had to be read from the swap device lately.
    pub protected_pages: u64,
    /// What the shrinker counts: the other pages, scaled by their compressed bytes to their bytes. See
    /// [`Zswap::reclaim`](crate::Zswap::reclaim).
    pub freeable_pages: u64,
}

impl Zswap {
    /// What the store holds, and what became of requests. All zero in a child of fork, which has nothing of it.
    pub fn stats(&self) -> Stats {
        if self.fork.is_child() {
            return Stats::default();
        }
        let get = |counter| self.counters.get(counter);
        let arena = self.pool.arena();
        let mut stats = Stats {
            zero_pages: get(Counter::ZeroPages),
            same_filled_pages: get(Counter::SameFilledPages),
            stored_incompressible_pages: get(Counter::IncompressiblePages),
            misplaced_pages: get(Counter::MisplacedPages),
            misplaced_bytes: get(Counter::MisplacedBytes),
            pool_bytes: arena.pool_limit().used_pages() * PAGE_SIZE as u64,
            metadata_bytes: self.tree.bytes()
                + self.slab.bytes()
                + self.lru.bytes()
                + self.tenants.bytes()
                + self.pool.metadata_bytes(),
            same_filled_pages_out: get(Counter::SameFilledOut),
            same_filled_pages_in: get(Counter::SameFilledIn),
            written_back_pages: get(Counter::WrittenBackPages),
            on_device_pages: get(Counter::OnDevicePages),
            reject_reclaim_fail: get(Counter::RejectReclaimFail),
            reclaim_races: get(Counter::ReclaimRaces),
            device_reads: get(Counter::DeviceReads),
            device_writes: get(Counter::DeviceWrites),
            pool_limit_hit: arena.pool_limit().hits(),
            reject_full: get(Counter::RejectFull),
            reject_compress_poor: get(Counter::RejectCompressPoor),
            reject_alloc_fail: get(Counter::RejectAllocFail),
            reject_placement: get(Counter::RejectPlacement),
            reject_busy: get(Counter::RejectBusy),
            corrupt_loads: get(Counter::CorruptLoads),
            refused_policies: arena.refused_policies(),
            fallbacks: self.channels.fallbacks(),
            ..Stats::default()
        };
        for node in 0..self.nodes.len() {
            let usage = self.pool.usage(node);
            let limit_hit = arena.node_limit(node).hits();
            stats.object_bytes += usage.object_bytes;
            stats.stored_pages += usage.objects;
            stats.warm_bytes += usage.warm_pages * PAGE_SIZE as u64;
            stats.pool_limit_hit += limit_hit;
            stats.nodes.push(NodeStats {
                nid: self.nodes.nid(node),
                tier: self.nodes.tier(node),
                stored_pages: usage.objects,
                object_bytes: usage.object_bytes,
                pool_bytes: usage.pool_pages * PAGE_SIZE as u64,
                warm_bytes: usage.warm_pages * PAGE_SIZE as u64,
                zspages: usage.zspages,
                limit_hit,
                pages_in: self.pages_read[node].get(),
                ..NodeStats::default()
            });
        }
        for (_, node, list) in self.lru.lists() {
            let (node, flow) = (&mut stats.nodes[node], list.flow());
            node.pages_out += flow.stored;
            node.pages_in += flow.loaded;
            node.written_back_pages += flow.written_back;
            node.protected_pages += list.protected();
            node.freeable_pages += list.count_objects();
        }
        stats.pages_out =
            stats.nodes.iter().map(|node| node.pages_out).sum::<u64>() + stats.same_filled_pages_out;
        stats.pages_in =
            stats.nodes.iter().map(|node| node.pages_in).sum::<u64>() + stats.same_filled_pages_in;
        stats.stored_pages += stats.zero_pages + stats.same_filled_pages;
        stats
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stored pages           {:>14}", self.stored_pages)?;
        writeln!(f, "  zero                 {:>14}", self.zero_pages)?;
        writeln!(f, "  other same-filled    {:>14}", self.same_filled_pages)?;
        writeln!(f, "  incompressible       {:>14}", self.stored_incompressible_pages)?;
        writeln!(f, "  not on their node    {:>14}", self.misplaced_pages)?;
        writeln!(f, "on the swap device     {:>14}", self.on_device_pages)?;
        writeln!(f, "object bytes           {:>14}", self.object_bytes)?;
        writeln!(f, "pool bytes             {:>14}", self.pool_bytes)?;
        writeln!(f, "  warm                 {:>14}", self.warm_bytes)?;
        write!(f, "metadata bytes         {:>14}", self.metadata_bytes)
    }
}
