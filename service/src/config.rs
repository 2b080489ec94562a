//! How a store is set up.

use std::path::PathBuf;
use std::time::Duration;

use zfolio_accel::{Backend, Method, NodeId};

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many bytes.
    Bytes(u64),
    /// 1 to 100 percent of the machine's memory, or of the node's for a limit of a node.
    Percent(u8),
}

/// What becomes of a page that does not shrink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Incompressible {
    /// It is kept as it is, as zswap does.
    #[default]
    StoreRaw,
    /// Its store fails, and the caller writes it elsewhere.
    Refuse,
}

/// On which node compressed bytes may lie. Never on one of a faster tier than the page's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// On the page's own node, and on another one while that has no memory, as zswap does since it knows nodes.
    #[default]
    Prefer,
    /// On the page's own node. When it has no memory, the store fails with
    /// [`NodeOutOfMemory`](crate::StoreError::NodeOutOfMemory).
    Bind,
    /// Wherever there is a hole of the size, on the page's own node first; new memory comes from that node by preference. The densest,
    /// at the price of pages that are not on their node, also where all nodes have room.
    Dense,
}

/// How a store is set up. `Config::default()` is zswap's own defaults where it has any.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where pages are compressed.
    pub backend: Backend,
    /// How new pages are compressed, or the backend's best.
    pub method: Option<Method>,
    /// The most pages in flight on one channel, 1 to 128.
    pub window: usize,
    /// The most memory for compressed pages, bookkeeping not included.
    pub max_pool: Limit,
    /// Once a limit was hit, stores are refused until usage has fallen to this many percent of it.
    pub accept_threshold_percent: u8,
    /// Limits of single nodes; a node that is not named has the pool's limit only.
    pub node_limits: Vec<(NodeId, Limit)>,
    /// Where compressed bytes may lie.
    pub placement: Placement,
    /// Memory tiers of nodes, the lower the faster, where they are to be others than the kernel tells
    /// (`devices/virtual/memory_tiering` below `sysfs`).
    pub tiers: Vec<(NodeId, u32)>,
    /// The most bytes a page may take to be kept compressed; above it the page counts as incompressible. The default
    /// is the largest length whose object is smaller than a page; 0 keeps every page as it is.
    pub max_compressed_len: usize,
    /// What becomes of a page that does not shrink, or not enough.
    pub incompressible: Incompressible,
    /// The most emptied memory that each node keeps for the next stores instead of giving it back to the kernel.
    pub warm_bytes: u64,
    /// How long an operation waits for another one on the same slot before it gives up with `Busy`.
    pub lock_timeout: Duration,
    /// Where the machine's nodes and devices are read; `/sys` but in tests.
    pub sysfs: PathBuf,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            backend: Backend::Auto,
            method: None,
            window: 8,
            max_pool: Limit::Percent(20),
            accept_threshold_percent: 90,
            node_limits: Vec::new(),
            placement: Placement::Prefer,
            tiers: Vec::new(),
            max_compressed_len: 4080,
            incompressible: Incompressible::StoreRaw,
            warm_bytes: 16 << 20,
            lock_timeout: Duration::from_secs(10),
            sysfs: PathBuf::from("/sys"),
        }
    }
}
