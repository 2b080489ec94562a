//! A userspace zswap: pages in, compressed pages kept in RAM on the right NUMA node, pages out, exactly.
//!
//! [`Zswap`] is the store. A page is named by a [`SwapEntry`] (swap type and offset) and stored as part of a [`Folio`]
//! of 1 to 512 pages from memory of one node.
//!
//! ```
//! use zfolio::{Config, Folio, NodeId, SwapEntry, Zswap};
//!
//! let zswap = Zswap::new(Config::default())?;
//! zswap.swapon(0, 1 << 20)?; // swap type 0, a million slots
//!
//! let pages = vec![[42u8; 4096]; 16]; // a folio of 64 KiB, from memory of node 0
//! zswap.store(&Folio::new(SwapEntry::new(0, 16), NodeId(0), &pages)?)?;
//!
//! let mut page = [0u8; 4096];
//! zswap.load(SwapEntry::new(0, 17), &mut page)?; // exclusive, as zswap: it is gone from the store now
//! assert_eq!(page, pages[1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The life of a page
//!
//! A store claims the slots of its folio, compresses the pages through a channel of `zfolio-accel` into objects
//! of a pool, and publishes them. Everything that can fail happens before publish, and publish cannot fail. A load locks the slot,
//! decompresses straight from the pool into the caller's page, checks its CRC-32, and frees the entry.
//!
//! One lock a page: the word of its slot. Who holds it owns the page, its entry and its compressed bytes. Every wait has a
//! deadline, [`Config::lock_timeout`].

#![deny(unsafe_code)]
#![cfg_attr(loom, allow(dead_code))]

mod ages;
mod check;
mod claim;
mod cold_age;
mod compact;
mod config;
mod counters;
mod entry;
mod error;
mod fail;
mod folio;
mod lazy_array;
mod leaf;
mod limit;
mod load;
mod lru;
#[doc(hidden)]
pub mod micro;
mod nodes;
mod park;
mod proactive;
mod prometheus;
mod reclaimer;
mod shrink;
mod stats;
mod store;
mod swap;
mod swap_device;
mod sync;
mod tenant;
mod tree;
mod word;
mod zsmalloc;
mod zswap;

pub use check::CheckError;
pub use cold_age::{ColdAge, ColdAgeConfig};
pub use compact::{Compacted, Recompressed, Repaired};
pub use config::{Config, Incompressible, Limit, Placement};
pub use error::{InvalidateError, LoadError, NewError, ShrinkError, StoreError, SwapoffError, SwaponError};
pub use folio::{Folio, FolioError, MAX_FOLIO_PAGES, SwapEntry, TenantId};
pub use proactive::{ColdPages, Proactive, ProactiveConfig, ProactiveStats};
pub use prometheus::Prometheus;
pub use reclaimer::{Reclaimer, ReclaimerConfig};
pub use shrink::{ShrinkBudget, Shrunk};
pub use stats::{NodeStats, Stats};
pub use swap::{Stored, Swap, SwapError};
pub use swap_device::{FileDevice, MemoryDevice, PageWrite, SwapDevice, WriteMethod};
pub use tenant::{TenantConfig, TenantError, TenantStats};
pub use tree::{MAX_SWAP_SLOTS, MAX_SWAP_TYPES};
pub use zfolio_accel::{
    Backend, BackendError, Channels, ChannelsConfig, Codec, DecodeError, EngineError, FallbackCounts, Method,
    NodeId, PAGE_SIZE, Page, PageBytes, Topology, TopologyError,
};
pub use zswap::Zswap;

#[cfg(test)]
#[cfg(loom)]
mod loom;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
