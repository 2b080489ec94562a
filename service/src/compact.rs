//! Work on pages that stay: compaction within a node, and the way home for pages that are on another one.
//!
//! It runs on the thread that asks for it, for as long as that says, and tries slots only: loads and stores go on.

use std::time::{Duration, Instant};

use zfolio_accel::{NodeId, PAGE_SIZE};

use crate::claim::NoRoom;
use crate::error::ShrinkError;
use crate::sync::Ordering;
use crate::zsmalloc::Compaction;
use crate::zswap::Zswap;

/// What a call of [`Zswap::compact`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compacted {
    /// Bytes that went back to the kernel.
    pub released_bytes: u64,
    /// Pages whose compressed bytes were moved.
    pub moved_pages: u64,
    /// Those bytes.
    pub moved_bytes: u64,
}

impl Zswap {
    /// Moves compressed pages of node `nid` together, for `time` at most, and gives the memory between them back to the
    /// kernel. The next call goes on where this one ends. Loads and stores go on meanwhile, and what they have at the
    /// moment stays where it is.
    ///
    /// # Errors
    /// See [`ShrinkError`].
    pub fn compact(&self, nid: NodeId, time: Duration) -> Result<Compacted, ShrinkError> {
        if self.fork.is_child() {
            return Err(ShrinkError::Forked);
        }
        let node = self.nodes.index_of(nid).ok_or(ShrinkError::NoSuchNode { nid })?;
        let compaction = self.compact_node(node, u64::MAX, Instant::now().checked_add(time));
        Ok(Compacted {
            released_bytes: compaction.released_pages * PAGE_SIZE as u64,
            moved_pages: compaction.moved_objects,
            moved_bytes: compaction.moved_bytes,
        })
    }

    pub(crate) fn compact_node(
        &self,
        node: usize,
        enough_pages: u64,
        deadline: Option<Instant>,
    ) -> Compaction {
        let mut compaction = Compaction { deadline, enough_pages, ..Compaction::default() };
        let hold =
            |owner, zspage, index, work: &mut dyn FnMut(_) -> _| self.hold_object(owner, zspage, index, work);
        self.pool.compact(node, &hold, &mut compaction);
        compaction
    }

    /// Moves pages whose bytes are on node `nid`, though they came from another one that was full then, to their own node,
    /// for `time` at most. The next call goes on where this one ends. A node that is still full keeps its pages waiting.
    ///
    /// # Errors
    /// See [`ShrinkError`].
    pub fn repair(&self, nid: NodeId, time: Duration) -> Result<Repaired, ShrinkError> {
        if self.fork.is_child() {
            return Err(ShrinkError::Forked);
        }
        let node = self.nodes.index_of(nid).ok_or(ShrinkError::NoSuchNode { nid })?;
        let mut repaired = Repaired::default();
        if self.nodes.len() == 1 {
            return Ok(repaired);
        }
        let deadline = Instant::now().checked_add(time);
        let cursor = &self.repair_cursors[node];
        let mut visit = |owner, zspage, index| {
            match self.bring_home(owner, zspage, index) {
                Ok(0) => {}
                Ok(bytes) => {
                    repaired.moved_pages += 1;
                    repaired.moved_bytes += bytes;
                }
                Err(NoRoom) => repaired.waiting_pages += 1,
            }
            deadline.is_none_or(|deadline| Instant::now() < deadline)
        };
        let next = self.pool.visit_objects(node, cursor.load(Ordering::Relaxed), &mut visit);
        cursor.store(next.unwrap_or(0), Ordering::Relaxed);
        Ok(repaired)
    }
}

/// What a call of [`Zswap::repair`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// Pages that are on their node now.
    pub moved_pages: u64,
    /// Their compressed bytes.
    pub moved_bytes: u64,
    /// Pages that their node has no room for.
    pub waiting_pages: u64,
}
