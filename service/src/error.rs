//! One small enum of errors for each operation.

use std::fmt;
use std::io;

use zfolio_accel::{BackendError, EngineError, NodeId, TopologyError};

use crate::folio::{SwapEntry, TenantId};
use crate::tree::{MAX_SWAP_SLOTS, MAX_SWAP_TYPES};

/// Why a store could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum NewError {
    /// The machine's nodes cannot be read.
    Topology(TopologyError),
    /// The backend cannot be had.
    Backend(BackendError),
    /// The kernel refused a page for the fork guard.
    ForkGuard(io::Error),
    /// A setting makes no sense; the text says which and why.
    Config(String),
    /// The kernel gives no address space for the store's tables.
    OutOfMemory,
}

impl fmt::Display for NewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NewError::Topology(error) => error.fmt(f),
            NewError::Backend(error) => error.fmt(f),
            NewError::ForkGuard(error) => {
                write!(f, "cannot map the page that tells a child of fork: {error}")
            }
            NewError::Config(text) => f.write_str(text),
            NewError::OutOfMemory => f.write_str(NO_ADDRESS_SPACE),
        }
    }
}

impl std::error::Error for NewError {}

impl From<TopologyError> for NewError {
    fn from(error: TopologyError) -> NewError {
        NewError::Topology(error)
    }
}

impl From<BackendError> for NewError {
    fn from(error: BackendError) -> NewError {
        NewError::Backend(error)
    }
}

/// Why a folio was not stored.
///
/// After every error but [`Busy`](StoreError::Busy), [`NoSuchSwap`](StoreError::NoSuchSwap),
/// [`NoSuchNode`](StoreError::NoSuchNode) and [`Forked`](StoreError::Forked), which change nothing, no slot of the
/// folio holds anything, entries of earlier stores included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// The pool's limit is reached.
    PoolFull {
        /// The limit.
        max_bytes: u64,
        /// Stores are accepted again when usage has fallen to this.
        accept_bytes: u64,
    },
    /// The limit of the node is reached.
    NodeFull {
        /// The node.
        nid: NodeId,
        /// The limit.
        max_bytes: u64,
        /// Stores are accepted again when usage has fallen to this.
        accept_bytes: u64,
    },
    /// The limit of the tenant, or of one of its ancestors, is reached.
    TenantFull {
        /// Whose limit.
        tenant: TenantId,
        /// The limit.
        max_bytes: u64,
        /// Stores are accepted again when usage has fallen to this.
        accept_bytes: u64,
    },
    /// The tenant was removed.
    NoSuchTenant {
        /// The tenant.
        tenant: TenantId,
    },
    /// This page does not shrink (or not enough), and such pages are to be refused.
    Incompressible {
        /// The slot of the page.
        entry: SwapEntry,
    },
    /// The kernel or the allocator gives no memory.
    OutOfMemory,
    /// The kernel gives no memory of the page's node, and where it does give some the page may not be: see
    /// [`Placement`](crate::Placement).
    NodeOutOfMemory {
        /// The node.
        nid: NodeId,
    },
    /// The swap type is not on, or has fewer slots.
    NoSuchSwap {
        /// The first slot.
        first: SwapEntry,
        /// The number of pages.
        pages: usize,
    },
    /// The machine had no memory on this node when the store was made.
    NoSuchNode {
        /// The node.
        nid: NodeId,
    },
    /// Another operation held this slot until the deadline.
    Busy {
        /// The slot.
        entry: SwapEntry,
    },
    /// The folio was not stored and its slots are empty, but an older page of this slot is still being written to
    /// the swap device: writing the slot now could be undone by it.
    WritebackPending {
        /// The slot.
        entry: SwapEntry,
    },
    /// This process is a child of the one that made the store.
    Forked,
}

impl StoreError {
    /// True when no slot of the folio holds anything now, so that its pages can be written elsewhere. Otherwise
    /// nothing was changed, and older pages of the slots are to be invalidated first.
    pub fn slots_are_empty(&self) -> bool {
        !matches!(
            self,
            StoreError::Busy { .. }
                | StoreError::NoSuchSwap { .. }
                | StoreError::NoSuchNode { .. }
                | StoreError::Forked
        )
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::PoolFull { max_bytes, accept_bytes } => {
                write!(f, "pool full (limit {max_bytes} bytes, accepting again at {accept_bytes})")
            }
            StoreError::NodeFull { nid, max_bytes, accept_bytes } => {
                write!(f, "node {nid} full (limit {max_bytes} bytes, accepting again at {accept_bytes})")
            }
            StoreError::TenantFull { tenant, max_bytes, accept_bytes } => {
                let tenant = tenant.0;
                write!(f, "tenant {tenant} full (limit {max_bytes} bytes, accepting again at {accept_bytes})")
            }
            StoreError::NoSuchTenant { tenant } => write!(f, "tenant {} was removed", tenant.0),
            StoreError::Incompressible { entry } => {
                write!(f, "page for {entry} does not shrink, and such pages are to be refused")
            }
            StoreError::OutOfMemory => f.write_str("the kernel gives no memory for compressed pages"),
            StoreError::NodeOutOfMemory { nid } => {
                write!(f, "node {nid} has no memory left, and its pages may not be where there is some")
            }
            StoreError::NoSuchSwap { first, pages } => {
                write!(f, "no {pages} slots from {first} on; swapon the type with as many slots as it needs")
            }
            StoreError::NoSuchNode { nid } => write!(f, "node {nid} has no memory"),
            StoreError::Busy { entry } => write!(f, "another operation held {entry} until the deadline"),
            StoreError::WritebackPending { entry } => {
                write!(f, "an older page of {entry} is still being written to the swap device")
            }
            StoreError::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for StoreError {}

/// Why a page was not loaded. The page stays in the store, if it was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// Nothing is stored in the slot.
    NotFound,
    /// The page was written to the swap device, which has it now, and the store has it no more.
    WrittenBack {
        /// The slot.
        entry: SwapEntry,
    },
    /// The stored bytes do not give the page that was stored, by any engine. The entry is kept, for whoever wants
    /// to look at it; invalidate frees it.
    Corrupt {
        /// The slot.
        entry: SwapEntry,
        /// What is wrong.
        error: EngineError,
    },
    /// Another operation held this slot until the deadline.
    Busy {
        /// The slot.
        entry: SwapEntry,
    },
    /// This process is a child of the one that made the store.
    Forked,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::NotFound => f.write_str("not stored"),
            LoadError::WrittenBack { entry } => {
                write!(f, "page of {entry} was written to the swap device; read it there")
            }
            LoadError::Corrupt { entry, error } => write!(f, "page of {entry} is corrupt: {error}"),
            LoadError::Busy { entry } => write!(f, "another operation held {entry} until the deadline"),
            LoadError::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for LoadError {}

/// Why slots were not invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidateError {
    /// Another operation held this slot until the deadline; it and those after it are as they were.
    Busy {
        /// The slot.
        entry: SwapEntry,
    },
    /// The slots are empty, but an older page of this one is still being written to the swap device.
    WritebackPending {
        /// The slot.
        entry: SwapEntry,
    },
    /// This process is a child of the one that made the store.
    Forked,
}

impl fmt::Display for InvalidateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidateError::Busy { entry } => write!(f, "another operation held {entry} until the deadline"),
            InvalidateError::WritebackPending { entry } => {
                write!(f, "an older page of {entry} is still being written to the swap device")
            }
            InvalidateError::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for InvalidateError {}

/// Why a swap type could not be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwaponError {
    /// There is no such type.
    NoSuchType {
        /// The type.
        swap_type: u8,
    },
    /// No area has so many slots.
    Slots {
        /// The number.
        slots: u32,
    },
    /// The type is on already.
    AlreadyOn {
        /// The type.
        swap_type: u8,
    },
    /// The kernel gives no address space for the table of slots.
    OutOfMemory,
    /// This process is a child of the one that made the store.
    Forked,
}

impl fmt::Display for SwaponError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SwaponError::NoSuchType { swap_type } => {
                write!(f, "swap type {swap_type}; types are 0 to {}", MAX_SWAP_TYPES - 1)
            }
            SwaponError::Slots { slots } => write!(f, "{slots} slots; an area has 1 to {MAX_SWAP_SLOTS}"),
            SwaponError::AlreadyOn { swap_type } => write!(f, "swap type {swap_type} is on already"),
            SwaponError::OutOfMemory => f.write_str(NO_ADDRESS_SPACE),
            SwaponError::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for SwaponError {}

/// Why a swap type could not be switched off. It stays on, with the pages it still has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SwapoffError {
    /// The type is not on.
    NotOn {
        /// The type.
        swap_type: u8,
    },
    /// Another operation held this slot until the deadline.
    Busy {
        /// The slot.
        entry: SwapEntry,
    },
    /// A page of this slot was still being written to the swap device at the deadline.
    WritebackPending {
        /// The slot.
        entry: SwapEntry,
    },
    /// This process is a child of the one that made the store.
    Forked,
}

impl fmt::Display for SwapoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SwapoffError::NotOn { swap_type } => write!(f, "swap type {swap_type} is not on"),
            SwapoffError::Busy { entry } => write!(f, "another operation held {entry} until the deadline"),
            SwapoffError::WritebackPending { entry } => {
                write!(f, "a page of {entry} is still being written to the swap device")
            }
            SwapoffError::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for SwapoffError {}

/// Why nothing could be reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShrinkError {
    /// The machine had no memory on this node when the store was made.
    NoSuchNode {
        /// The node.
        nid: NodeId,
    },
    /// This process is a child of the one that made the store.
    Forked,
}

impl fmt::Display for ShrinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShrinkError::NoSuchNode { nid } => write!(f, "node {nid} has no memory"),
            ShrinkError::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for ShrinkError {}

const NO_ADDRESS_SPACE: &str =
    "the kernel gives no address space for the store's tables; is RLIMIT_AS (ulimit -v) set very low?";

const FORKED: &str = "this process is a child of the one that made the store; make a store of its own";
