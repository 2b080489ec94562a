//! The store: what it is made of, and the switching on and off of swap areas.

use std::cell::Cell;
use std::fmt;
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zfolio_accel::{Channels, ChannelsConfig, ForkGuard, Method, PAGE_SIZE, Topology};

use crate::ages::Ages;
use crate::claim::SlotGuard;
use crate::config::{Config, Incompressible, Limit};
use crate::counters::{Counters, Striped};
use crate::entry::EntrySlab;
use crate::error::{NewError, SwapoffError, SwaponError};
use crate::folio::TenantId;
use crate::lazy_array::OutOfMemory;
use crate::limit;
use crate::lru::{Leaves, List, Lru};
use crate::nodes::Nodes;
use crate::park::{ParkingLot, TimedOut};
use crate::reclaimer::Pressure;
use crate::swap_device::SwapDevice;
use crate::sync::{AtomicU16, AtomicU32};
use crate::tenant::Tenants;
use crate::tree::Tree;
use crate::zsmalloc::{ArenaConfig, Homes, ZsPool};

/// A userspace zswap: pages in, compressed pages in RAM on the right node, pages out.
///
/// Any number of threads may use it at once, on any slots; operations on one slot take place one after another. It
/// starts no thread and keeps no state outside itself. Dropping it frees all it holds; nothing is written anywhere.
pub struct Zswap {
    pub(crate) tree: Tree,
    pub(crate) lot: ParkingLot,
    pub(crate) slab: EntrySlab,
    pub(crate) lru: Lru,
    pub(crate) tenants: Tenants,
    /// Raised when a limit is in the way.
    pub(crate) pressure: Pressure,
    pub(crate) pool: ZsPool,
    pub(crate) nodes: Nodes,
    pub(crate) channels: Channels,
    pub(crate) counters: Counters,
    /// By node index: pages read that stayed.
    pub(crate) pages_read: Box<[Striped]>,
    pub(crate) fork: Arc<ForkGuard>,
    pub(crate) max_compressed_len: usize,
    pub(crate) incompressible: Incompressible,
    /// By node index: where the shrinker goes on among the tenants.
    pub(crate) reclaim_cursors: Box<[AtomicU32]>,
    /// By node index: the zspage at which writeback by age goes on.
    pub(crate) cold_cursors: Box<[AtomicU32]>,
    /// By node index: the zspage at which the repair of misplaced pages goes on.
    pub(crate) repair_cursors: Box<[AtomicU32]>,
    /// The same, of recompression.
    pub(crate) recompress_cursors: Box<[AtomicU32]>,
    /// Ticks, by which the age of pages is told.
    pub(crate) clock: AtomicU16,
    /// At which ages pages are used.
    pub(crate) ages: Ages,
    lock_timeout: Duration,
}

impl Zswap {
    /// An empty store, without swap areas.
    ///
    /// # Errors
    /// See [`NewError`].
    pub fn new(config: Config) -> Result<Zswap, NewError> {
        let topology = Topology::read(&config.sysfs)?;
        let channels = ChannelsConfig {
            backend: config.backend,
            method: config.method,
            window: config.window,
            sysfs: config.sysfs.clone(),
            ..ChannelsConfig::default()
        };
        let channels = Channels::new(channels, &topology)?;
        Zswap::with_channels(config, &topology, channels)
    }

    /// An empty store over channels of the caller's making; `config`'s backend, method, window and sysfs are not
    /// looked at.
    ///
    /// # Errors
    /// See [`NewError`].
    pub fn with_channels(config: Config, topology: &Topology, channels: Channels) -> Result<Zswap, NewError> {
        if config.max_compressed_len > PAGE_SIZE {
            let len = config.max_compressed_len;
            return Err(NewError::Config(format!("max_compressed_len of {len} is more than a page")));
        }
        if config.accept_threshold_percent > 100 {
            let percent = config.accept_threshold_percent;
            return Err(NewError::Config(format!("accept_threshold_percent of {percent} is more than 100")));
        }
        let fork = Arc::new(ForkGuard::new().map_err(NewError::ForkGuard)?);
        let nodes = Nodes::new(topology, &config.tiers);
        if let Some((nid, _)) = config.tiers.iter().find(|(nid, _)| nodes.index_of(*nid).is_none()) {
            return Err(NewError::Config(format!("tier of node {nid}, which has no memory")));
        }
        let arena = ArenaConfig {
            nodes: nodes.nids(),
            pool_limit: pool_limit(&config, &nodes)?,
            node_limits: node_limits(&config, &nodes)?,
            warm_pages: config.warm_bytes / PAGE_SIZE as u64,
            fork: Arc::clone(&fork),
        };
        let pool = ZsPool::new(arena, Homes::new(config.placement, nodes.substitutes()))
            .map_err(|OutOfMemory| NewError::OutOfMemory)?;
        let cursors = || -> Box<[AtomicU32]> { nodes.nids().iter().map(|_| AtomicU32::new(0)).collect() };
        let pages_read = nodes.nids().iter().map(|_| Striped::default()).collect();
        let (reclaim_cursors, repair_cursors) = (cursors(), cursors());
        let (recompress_cursors, cold_cursors) = (cursors(), cursors());
        Ok(Zswap {
            tree: Tree::new(),
            lot: ParkingLot::new(),
            slab: EntrySlab::new(nodes.nids()).map_err(|OutOfMemory| NewError::OutOfMemory)?,
            lru: Lru::new(nodes.len()).map_err(|OutOfMemory| NewError::OutOfMemory)?,
            tenants: Tenants::new().map_err(|OutOfMemory| NewError::OutOfMemory)?,
            pressure: Pressure::default(),
            pool,
            nodes,
            channels,
            counters: Counters::default(),
            pages_read,
            fork,
            max_compressed_len: config.max_compressed_len,
            incompressible: config.incompressible,
            reclaim_cursors,
            cold_cursors,
            ages: Ages::new(),
            repair_cursors,
            recompress_cursors,
            clock: AtomicU16::new(0),
            lock_timeout: config.lock_timeout,
        })
    }

    /// Switches a swap type (0 to 31) on, with this many slots.
    ///
    /// # Errors
    /// See [`SwaponError`].
    pub fn swapon(&self, swap_type: u8, slots: u32) -> Result<(), SwaponError> {
        if self.fork.is_child() {
            return Err(SwaponError::Forked);
        }
        self.tree.swapon(swap_type, slots, None)
    }

    /// Switches a swap type on whose pages can be written back to `device`.
    ///
    /// Nothing is written unless somebody asks, by [`shrink`](Zswap::shrink). What was written is in the store no more,
    /// and [`load`](Zswap::load) says [`WrittenBack`](crate::LoadError::WrittenBack) of it.
    ///
    /// # Errors
    /// See [`SwaponError`].
    pub fn swapon_with_device(
        &self,
        swap_type: u8,
        slots: u32,
        device: Arc<dyn SwapDevice>,
    ) -> Result<(), SwaponError> {
        if self.fork.is_child() {
            return Err(SwaponError::Forked);
        }
        self.tree.swapon(swap_type, slots, Some(device))
    }

    /// Switches a swap type off. Pages that it still has are forgotten.
    ///
    /// The memory of its tree stays for the next swapon of the type, and is freed with the store.
    ///
    /// # Errors
    /// See [`SwapoffError`]. The type is on again then, with the pages that were not yet forgotten.
    pub fn swapoff(&self, swap_type: u8) -> Result<(), SwapoffError> {
        if self.fork.is_child() {
            return Err(SwapoffError::Forked);
        }
        self.tree.swapoff(swap_type, |entry, slot| {
            let started = Cell::new(None);
            let deadline = || self.deadline(&started);
            // Locked also when it looks vacant: a store may have it locked, and we not see that yet.
            let guard =
                SlotGuard::lock(self, slot, deadline).map_err(|TimedOut| SwapoffError::Busy { entry })?;
            guard.remove(Leaves::Unwanted);
            slot.wait_for_writeback(&self.lot, deadline())
                .map_err(|TimedOut| SwapoffError::WritebackPending { entry })
        })
    }

    /// Gives the stock of emptied, still populated memory back to the kernel, and says how many bytes that was. The
    /// next stores ask the kernel for memory again, which costs them time.
    pub fn release_warm(&self) -> u64 {
        if self.fork.is_child() {
            return 0;
        }
        self.pool.release_warm() * PAGE_SIZE as u64
    }

    /// The backend in use and the reason for it, for people.
    pub fn backend_report(&self) -> &str {
        self.channels.report()
    }

    /// How new pages are compressed.
    pub fn method(&self) -> Method {
        self.channels.method()
    }

    /// Bytes of the pool that are in memory by the kernel's own account (mincore); none in a child of fork. Slow: it
    /// asks about every page.
    ///
    /// # Errors
    /// The kernel's.
    pub fn resident_arena_bytes(&self) -> io::Result<u64> {
        if self.fork.is_child() {
            return Ok(0);
        }
        self.pool.arena().resident_bytes()
    }

    /// When an operation that has to wait now gives up. `started` keeps it over the waits of one operation.
    pub(crate) fn deadline(&self, started: &Cell<Option<Instant>>) -> Instant {
        let deadline = started.get().unwrap_or_else(|| {
            let now = Instant::now();
            // A time-out beyond what the clock can count is for ever; a century will do.
            now.checked_add(self.lock_timeout).unwrap_or(now + Duration::from_secs(100 * 365 * 86_400))
        });
        started.set(Some(deadline));
        deadline
    }

    /// The LRU list of a tenant that has stored something, on the node with this index.
    #[inline]
    pub(crate) fn lru_list(&self, (tenant, node): (TenantId, usize)) -> &List {
        self.lru.list(tenant, node)
    }
}

impl fmt::Debug for Zswap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zswap").field("backend", &self.backend_report()).finish_non_exhaustive()
    }
}

/// A percentage above 100, or none, is refused.
fn check_percent(limit: Limit) -> Result<(), NewError> {
    match limit {
        Limit::Percent(percent @ (0 | 101..)) => {
            Err(NewError::Config(format!("limit of {percent} percent; it must be 1 to 100")))
        }
        _ => Ok(()),
    }
}

fn pages(limit: Limit, memory_bytes: u64) -> u64 {
    let bytes = match limit {
        Limit::Bytes(bytes) => bytes,
        Limit::Percent(percent) => memory_bytes / 100 * u64::from(percent),
    };
    bytes / PAGE_SIZE as u64
}

fn pool_limit(config: &Config, nodes: &Nodes) -> Result<limit::Limit, NewError> {
    check_percent(config.max_pool)?;
    let memory: u64 = nodes.memory_bytes().iter().sum();
    let memory = if memory == 0 { mem_total()? } else { memory };
    Ok(limit::Limit::new(pages(config.max_pool, memory), config.accept_threshold_percent))
}

fn node_limits(config: &Config, nodes: &Nodes) -> Result<Vec<limit::Limit>, NewError> {
    for (nid, limit) in &config.node_limits {
        check_percent(*limit)?;
        let Some(index) = nodes.index_of(*nid) else {
            return Err(NewError::Config(format!("limit for node {nid}, which has no memory")));
        };
        if matches!(limit, Limit::Percent(_)) && nodes.memory_bytes()[index] == 0 {
            let text = format!("cannot tell the memory of node {nid}; give its limit in bytes");
            return Err(NewError::Config(text));
        }
    }
    let limit_of = |(index, &memory): (usize, &u64)| {
        let given = config.node_limits.iter().find(|(nid, _)| *nid == nodes.nid(index));
        let max_pages = given.map_or(u64::MAX, |(_, limit)| pages(*limit, memory));
        limit::Limit::new(max_pages, config.accept_threshold_percent)
    };
    Ok(nodes.memory_bytes().iter().enumerate().map(limit_of).collect())
}

/// The machine's memory, where sysfs does not tell it by node.
fn mem_total() -> Result<u64, NewError> {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| {
        NewError::Config("cannot tell the machine's memory; give max_pool in bytes".to_owned())
    })
}
