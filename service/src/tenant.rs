//! Tenants: whose pages they are, as zswap's memcg.
//!
//! A tenant is charged for the compressed bytes of its pages, and so are its ancestors. Tenant 0 is the root: it has no limit
//! of its own and is charged for nothing. One that nobody created has no limit and the root as parent.
//!
//! A tenant can be removed while it has pages. It is dead then: stores are refused, its pages stay, listed under its
//! id and charged to its ancestors, until they are loaded, invalidated or written back. Only then can the id be used
//! for another one.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::config;
use crate::counters::Striped;
use crate::error::StoreError;
use crate::folio::TenantId;
use crate::lazy_array::{LazyArray, OutOfMemory};
use crate::limit::Limit;
use crate::lru::{Flow, List};
use crate::zswap::Zswap;

/// A tenant and its ancestors, the root not counted.
const MAX_DEPTH: usize = 8;

const UNMANAGED: u8 = 0;
const ALIVE: u8 = 1;
const DEAD: u8 = 2;

/// How a tenant is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantConfig {
    /// The most compressed bytes of it and its descendants; percent are of the pool's limit. `None` for no limit.
    pub limit: Option<config::Limit>,
    /// Once the limit was hit, stores are refused until usage has fallen to this many percent of it.
    pub accept_threshold_percent: u8,
    /// False if its pages must not be written back. Its pages that do not shrink are refused then, for kept as they
    /// are they save nothing.
    pub writeback: bool,
    /// Who is charged as well.
    pub parent: TenantId,
}

impl Default for TenantConfig {
    fn default() -> TenantConfig {
        TenantConfig { limit: None, accept_threshold_percent: 90, writeback: true, parent: TenantId(0) }
    }
}

/// Why a tenant was not created, changed or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TenantError {
    /// Tenant 0 is always there and has no limit.
    Root,
    /// The tenant is there already, or a removed one of this id still has pages.
    InUse {
        /// The tenant.
        tenant: TenantId,
        /// Its compressed bytes.
        bytes: u64,
    },
    /// There is no such tenant.
    NoSuchTenant {
        /// The tenant.
        tenant: TenantId,
    },
    /// It has children; they are to be removed first.
    HasChildren {
        /// One of them.
        child: TenantId,
    },
    /// Its parent has too many ancestors.
    TooDeep,
    /// The limit or the threshold makes no sense.
    Limit,
    /// The allocator gives no memory.
    OutOfMemory,
    /// This process is a child of the one that made the store.
    Forked,
}

impl fmt::Display for TenantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TenantError::Root => f.write_str("tenant 0 is the root, which is always there and has no limit"),
            TenantError::InUse { tenant, bytes } => {
                write!(f, "tenant {} is there already, or was removed and still has {bytes} bytes", tenant.0)
            }
            TenantError::NoSuchTenant { tenant } => write!(f, "no tenant {}", tenant.0),
            TenantError::HasChildren { child } => {
                write!(f, "it has children, tenant {} for one; remove them first", child.0)
            }
            TenantError::TooDeep => write!(f, "a tenant has at most {MAX_DEPTH} levels to the root"),
            TenantError::Limit => f.write_str("limits and thresholds are 0 to 100 percent, or bytes"),
            TenantError::OutOfMemory => f.write_str("the allocator gives no memory for a tenant"),
            TenantError::Forked => f.write_str("this process is a child of the one that made the store"),
        }
    }
}

impl std::error::Error for TenantError {}

/// What a tenant has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TenantStats {
    /// The tenant.
    pub tenant: TenantId,
    /// True once it was removed and until its id is used again.
    pub removed: bool,
    /// Pages of its own with compressed or raw bytes.
    pub stored_pages: u64,
    /// Those bytes.
    pub object_bytes: u64,
    /// Those bytes and its descendants': what the limit is of. 0 for the root.
    pub charged_bytes: u64,
    /// The limit, if there is one.
    pub max_bytes: Option<u64>,
    /// How often the limit was hit.
    pub limit_hit: u64,
    /// Its pages stored since it was created, those that one word fills left out: its `zswpout`.
    pub pages_out: u64,
    /// Its pages loaded or read since then, likewise: its `zswpin`.
    pub pages_in: u64,
    /// Its pages written back since then: its `zswpwb`.
    pub written_back_pages: u64,
    /// Its pages that pressure leaves alone for now: see [`NodeStats::protected_pages`](crate::NodeStats::protected_pages).
    pub protected_pages: u64,
    /// Its object bytes by node, in the order of [`Stats::nodes`](crate::Stats::nodes).
    pub node_object_bytes: Vec<u64>,
}

/// See the module.
struct Tenant {
    state: AtomicU8,
    /// In bytes.
    limit: Limit,
    writeback: AtomicBool,
    parent: AtomicU16,
    /// Its pages that were read and stayed.
    pages_read: AtomicU64,
    /// What its lists and `pages_read` had counted when it was created.
    before: Mutex<Flow>,
}

impl Tenant {
    fn new() -> Tenant {
        Tenant {
            state: AtomicU8::new(UNMANAGED),
            limit: Limit::new(u64::MAX, 100),
            writeback: AtomicBool::new(true),
            parent: AtomicU16::new(0),
            pages_read: AtomicU64::new(0),
            before: Mutex::default(),
        }
    }
}

/// The tenants that were ever used. A record, once made, stays.
pub(crate) struct Tenants {
    records: LazyArray<OnceLock<Box<Tenant>>, 10, 6>,
    /// Held by whoever creates, changes or removes one.
    change: Mutex<()>,
}

impl Tenants {
    pub(crate) fn new() -> Result<Tenants, OutOfMemory> {
        Ok(Tenants { records: LazyArray::new()?, change: Mutex::new(()) })
    }

    fn get(&self, tenant: TenantId) -> Option<&Tenant> {
        Some(self.records.get(tenant.0.into())?.get()?)
    }

    /// Makes the record of a tenant that is about to store something.
    #[inline]
    pub(crate) fn make(&self, tenant: TenantId) -> Result<(), OutOfMemory> {
        if tenant.0 == 0 {
            return Ok(());
        }
        self.make_record(tenant).map(drop)
    }

    fn make_record(&self, tenant: TenantId) -> Result<&Tenant, OutOfMemory> {
        let index = usize::from(tenant.0);
        if self.records.get(index).is_none() {
            self.records.make_leaf(index)?;
        }
        Ok(self.records.at(index).get_or_init(|| Box::new(Tenant::new())))
    }

    /// The tenant and its ancestors but the root, nearest first.
    fn lineage(&self, tenant: TenantId) -> impl Iterator<Item = (TenantId, &Tenant)> {
        let mut next = tenant;
        std::iter::from_fn(move || {
            let record = if next.0 == 0 { None } else { self.get(next) }?;
            let this = next;
            next = TenantId(record.parent.load(Ordering::Relaxed));
            Some((this, record))
        })
        .take(MAX_DEPTH)
    }

    /// True if `tenant` is `other` or one of its descendants.
    pub(crate) fn is_within(&self, tenant: TenantId, other: TenantId) -> bool {
        tenant == other || other.0 == 0 || self.lineage(tenant).any(|(ancestor, _)| ancestor == other)
    }

    /// False if the tenant or an ancestor forbids that its pages are written back.
    pub(crate) fn may_write_back(&self, tenant: TenantId) -> bool {
        self.lineage(tenant).all(|(_, record)| record.writeback.load(Ordering::Relaxed))
    }

    /// The fast refusal.
    #[inline]
    pub(crate) fn accepts(&self, tenant: TenantId) -> Result<(), StoreError> {
        if tenant.0 == 0 { Ok(()) } else { self.lineage_accepts(tenant) }
    }

    #[cold]
    fn lineage_accepts(&self, tenant: TenantId) -> Result<(), StoreError> {
        for (which, record) in self.lineage(tenant) {
            if which == tenant && record.state.load(Ordering::Relaxed) == DEAD {
                return Err(StoreError::NoSuchTenant { tenant });
            }
            if !record.limit.accepts() {
                return Err(full(which, record));
            }
        }
        Ok(())
    }

    /// Charges bytes to the tenant and its ancestors, to all or none.
    #[inline]
    pub(crate) fn charge(&self, tenant: TenantId, bytes: u64) -> Result<(), StoreError> {
        if tenant.0 == 0 { Ok(()) } else { self.charge_lineage(tenant, bytes) }
    }

    #[cold]
    fn charge_lineage(&self, tenant: TenantId, bytes: u64) -> Result<(), StoreError> {
        for (index, (which, record)) in self.lineage(tenant).enumerate() {
            if !record.limit.charge(bytes) {
                self.lineage(tenant).take(index).for_each(|(_, record)| record.limit.uncharge(bytes));
                record.limit.hit();
                return Err(full(which, record));
            }
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn uncharge(&self, tenant: TenantId, bytes: u64) {
        if tenant.0 != 0 {
            self.uncharge_lineage(tenant, bytes);
        }
    }

    #[cold]
    fn uncharge_lineage(&self, tenant: TenantId, bytes: u64) {
        self.lineage(tenant).for_each(|(_, record)| record.limit.uncharge(bytes));
    }

    /// The root's are what is left of the nodes'.
    #[inline]
    pub(crate) fn count_read(&self, tenant: TenantId) {
        if tenant.0 != 0
            && let Some(record) = self.get(tenant)
        {
            record.pages_read.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tenants whose limit was hit and whose usage has not fallen yet, with the bytes that it has to fall by.
    pub(crate) fn over_threshold(&self) -> Vec<(TenantId, u64)> {
        let over = |(tenant, record): (TenantId, &Tenant)| {
            let bytes = record.limit.used_pages().saturating_sub(record.limit.accept_pages());
            (record.limit.is_full() && bytes > 0).then_some((tenant, bytes))
        };
        self.all().filter_map(over).collect()
    }

    fn all(&self) -> impl Iterator<Item = (TenantId, &Tenant)> {
        self.records.leaves().flat_map(|(first, leaf)| {
            leaf.iter()
                .enumerate()
                .filter_map(move |(i, cell)| Some((TenantId(u16::try_from(first + i).ok()?), &**cell.get()?)))
        })
    }

    /// Charged bytes by tenant; for checks.
    pub(crate) fn charged(&self) -> Vec<(TenantId, u64)> {
        self.all().map(|(tenant, record)| (tenant, record.limit.used_pages())).collect()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.records.bytes() + (self.all().count() * size_of::<Tenant>()) as u64
    }
}

fn full(tenant: TenantId, record: &Tenant) -> StoreError {
    StoreError::TenantFull {
        tenant,
        max_bytes: record.limit.max_pages(),
        accept_bytes: record.limit.accept_pages(),
    }
}

impl Zswap {
    /// Creates a tenant, or takes over one that stored pages before anybody created it.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub fn create_tenant(&self, tenant: TenantId, config: TenantConfig) -> Result<(), TenantError> {
        if self.fork.is_child() {
            return Err(TenantError::Forked);
        }
        let tenants = &self.tenants;
        let _change = tenants.change.lock().unwrap_or_else(PoisonError::into_inner);
        if tenant.0 == 0 {
            return Err(TenantError::Root);
        }
        let parent_is_there = config.parent.0 == 0
            || tenants.get(config.parent).is_some_and(|parent| parent.state.load(Ordering::Relaxed) == ALIVE);
        if !parent_is_there || config.parent == tenant {
            return Err(TenantError::NoSuchTenant { tenant: config.parent });
        }
        if tenants.lineage(config.parent).count() >= MAX_DEPTH {
            return Err(TenantError::TooDeep);
        }
        let (max, accept) = self.tenant_limit(config)?;
        let record = tenants.make_record(tenant).map_err(|OutOfMemory| TenantError::OutOfMemory)?;
        let bytes = record.limit.used_pages();
        let fresh = match record.state.load(Ordering::Relaxed) {
            UNMANAGED => config.parent.0 == 0 || bytes == 0,
            ALIVE => false,
            _ => bytes == 0,
        };
        if !fresh {
            return Err(TenantError::InUse { tenant, bytes });
        }
        record.limit.set(max, accept);
        record.parent.store(config.parent.0, Ordering::Relaxed);
        record.writeback.store(config.writeback, Ordering::Relaxed);
        *record.before.lock().unwrap_or_else(PoisonError::into_inner) = self.flow_of(tenant, record);
        record.state.store(ALIVE, Ordering::Relaxed);
        Ok(())
    }

    /// Changes the limit, the threshold and the writeback switch of a tenant; its parent stays. A limit below what
    /// the tenant has refuses stores until that has fallen.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub fn configure_tenant(&self, tenant: TenantId, config: TenantConfig) -> Result<(), TenantError> {
        if self.fork.is_child() {
            return Err(TenantError::Forked);
        }
        let _change = self.tenants.change.lock().unwrap_or_else(PoisonError::into_inner);
        let (max, accept) = self.tenant_limit(config)?;
        let record = self.alive(tenant)?;
        record.limit.set(max, accept);
        record.writeback.store(config.writeback, Ordering::Relaxed);
        if record.limit.used_pages() > max {
            record.limit.hit();
            self.pressure.raise();
        }
        Ok(())
    }

    /// Removes a tenant, which may still have pages: see the [module](crate::TenantId) on what becomes of them.
    ///
    /// # Errors
    /// See [`TenantError`].
    pub fn remove_tenant(&self, tenant: TenantId) -> Result<(), TenantError> {
        if self.fork.is_child() {
            return Err(TenantError::Forked);
        }
        let _change = self.tenants.change.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.alive(tenant)?;
        let is_child = |(_, other): &(TenantId, &Tenant)| {
            other.state.load(Ordering::Relaxed) == ALIVE && other.parent.load(Ordering::Relaxed) == tenant.0
        };
        if let Some((child, _)) = self.tenants.all().find(is_child) {
            return Err(TenantError::HasChildren { child });
        }
        record.state.store(DEAD, Ordering::Relaxed);
        Ok(())
    }

    /// All that came to a tenant and left it, by whatever name it went.
    fn flow_of(&self, tenant: TenantId, record: &Tenant) -> Flow {
        let lists = (0..self.nodes.len()).filter_map(|node| self.lru.get(tenant, node));
        let mut flow = lists.map(List::flow).fold(Flow::default(), Flow::plus);
        flow.loaded += record.pages_read.load(Ordering::Relaxed);
        flow
    }

    fn alive(&self, tenant: TenantId) -> Result<&Tenant, TenantError> {
        if tenant.0 == 0 {
            return Err(TenantError::Root);
        }
        let record = self.tenants.get(tenant).filter(|record| record.state.load(Ordering::Relaxed) == ALIVE);
        record.ok_or(TenantError::NoSuchTenant { tenant })
    }

    /// Bytes of the limit, and those from which stores are accepted again.
    fn tenant_limit(&self, config: TenantConfig) -> Result<(u64, u64), TenantError> {
        let pool = self.pool.arena().pool_limit().max_pages().saturating_mul(zfolio_accel::PAGE_SIZE as u64);
        let max = match config.limit {
            None => u64::MAX,
            Some(config::Limit::Bytes(bytes)) => bytes,
            Some(config::Limit::Percent(percent @ 0..=100)) => pool / 100 * u64::from(percent),
            Some(config::Limit::Percent(_)) => return Err(TenantError::Limit),
        };
        if config.accept_threshold_percent > 100 {
            return Err(TenantError::Limit);
        }
        let accept = u128::from(max) * u128::from(config.accept_threshold_percent) / 100;
        Ok((max, u64::try_from(accept).unwrap_or(max)))
    }

    /// What each tenant has that ever stored something or was created, the root first.
    pub fn tenant_stats(&self) -> Vec<TenantStats> {
        if self.fork.is_child() {
            return Vec::new();
        }
        let mut stats: Vec<TenantStats> = std::iter::once((TenantId(0), None))
            .chain(self.tenants.all().map(|(tenant, record)| (tenant, Some(record))))
            .map(|(tenant, record)| {
                let mut stats = TenantStats {
                    tenant,
                    node_object_bytes: vec![0; self.nodes.len()],
                    ..TenantStats::default()
                };
                if let Some(record) = record {
                    let max = record.limit.max_pages();
                    stats.removed = record.state.load(Ordering::Relaxed) == DEAD;
                    stats.charged_bytes = record.limit.used_pages();
                    stats.max_bytes = (max != u64::MAX).then_some(max);
                    stats.limit_hit = record.limit.hits();
                    let before = *record.before.lock().unwrap_or_else(PoisonError::into_inner);
                    let flow = self.flow_of(tenant, record).minus(before);
                    (stats.pages_out, stats.pages_in) = (flow.stored, flow.loaded);
                    stats.written_back_pages = flow.written_back;
                }
                stats
            })
            .collect();
        for (tenant, node, list) in self.lru.lists() {
            let (pages, bytes) = list.counts();
            if let Ok(index) = stats.binary_search_by_key(&tenant, |stats| stats.tenant) {
                stats[index].stored_pages += pages;
                stats[index].object_bytes += bytes;
                stats[index].node_object_bytes[node] += bytes;
                stats[index].protected_pages += list.protected();
            }
        }
        // All reads are counted by node, and those of tenants by tenant.
        let root = &mut stats[0];
        let lists = (0..self.nodes.len()).filter_map(|node| self.lru.get(TenantId(0), node));
        let flow = lists.map(List::flow).fold(Flow::default(), Flow::plus);
        let read: u64 = self.pages_read.iter().map(Striped::get).sum();
        let by_tenants: u64 =
            self.tenants.all().map(|(_, record)| record.pages_read.load(Ordering::Relaxed)).sum();
        (root.pages_out, root.written_back_pages) = (flow.stored, flow.written_back);
        root.pages_in = flow.loaded + read.saturating_sub(by_tenants);
        stats
    }
}
