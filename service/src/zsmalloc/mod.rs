//! Memory for compressed pages: size classes, zspages, one arena a node.
//!
//! A zspage is up to 24 contiguous pages cut into equal objects. Userspace has what the kernel lacks, contiguous
//! addresses, so objects never straddle anything, and classes can be 16 bytes apart: pages of a zspage get memory
//! only when an object reaches them, so an unfinished zspage costs address space and not memory.
//!
//! | file | concept |
//! |---|---|
//! | [`class`] | which object sizes there are, and how a zspage is cut |
//! | [`zspage`] | the header of a zspage |
//! | [`backrefs`] | the word of each object: free-list link, or the entry that owns it |
//! | [`arena`] | address space, memory with a known node, and the stock of warm memory |
//! | [`homes`] | on which nodes the pages of a node may lie |
//! | [`memory`] | what the kernel is asked for |
//! | [`pool`] | objects |

mod arena;
mod backrefs;
mod class;
mod homes;
mod memory;
mod pool;
mod zspage;

pub(crate) use arena::{ArenaConfig, ArenaError};
pub(crate) use class::CLASS_STEP;
pub(crate) use homes::Homes;
#[cfg(all(test, not(loom)))]
pub(crate) use pool::Object;
pub(crate) use pool::{Compaction, RawObject, Release, ZsPool};
pub(crate) use zspage::Zspage;
