//! Work on pages that stay: compaction within a node, and the way home for pages that are on another one.
//!
//! It runs on the thread that asks for it, for as long as that says, and tries slots only: loads and stores go on.

use std::time::{Duration, Instant};

use zfolio_accel::{Method, NodeId, PAGE_SIZE, Page};
use zfolio_fallback::{Codecs, max_compressed_len};

use crate::claim::{NoRoom, Recompress};
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
        let node = self.node_to_shrink(nid)?;
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
    ) -> Compaction<'_> {
        let mut compaction = Compaction::new(&self.pool, enough_pages, deadline);
        let hold =
            |owner, zspage, index, work: &mut dyn FnMut(_) -> _| self.hold_object(owner, zspage, index, work);
        self.pool.compact(node, &hold, &mut compaction);
        compaction
    }

    /// Moves pages whose bytes are on node `nid`, though they came from another one that was full then, to their own node,
    /// for `time` at most. The next call goes on where this one ends. A node that is still full keeps its pages waiting.
    ///
    /// Of the memory of that node the kernel is asked again where it is, for the kernel may have moved it later (demotion,
    /// `migratepages`). Pages in memory that has left the node are moved home too, and the memory goes back to the kernel.
    ///
    /// Under [`Placement::Dense`](crate::Placement::Dense) pages that were put elsewhere are moved into holes of their own node only, and
    /// never for new memory.
    ///
    /// # Errors
    /// See [`ShrinkError`].
    pub fn repair(&self, nid: NodeId, time: Duration) -> Result<Repaired, ShrinkError> {
        let node = self.node_to_shrink(nid)?;
        let mut repaired = Repaired::default();
        if self.nodes.len() == 1 {
            return Ok(repaired);
        }
        let deadline = Instant::now().checked_add(time);
        let cursor = &self.repair_cursors[node];
        let mut asked = None;
        let mut visit = |owner, zspage, index| {
            if asked.replace(zspage) != Some(zspage) {
                let strayed_pages = self.pool.ask_again(zspage, node);
                repaired.strayed_bytes += strayed_pages * PAGE_SIZE as u64;
                if strayed_pages != 0 {
                    // What is empty was moved as well, by all one can tell.
                    self.pool.release_stock(node);
                }
            }
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

    /// Moves the store's clock on by one tick. Pages have ages in ticks: since they were stored, or last read. How long a
    /// tick is, is the caller's choice; without ticks every page is of age 0.
    pub fn tick(&self) {
        self.clock.fetch_add(1, Ordering::Relaxed);
    }

    /// Compresses pages of node `nid` that are at least `min_age` ticks old once more, by `method`, for `time` at most, and
    /// keeps what is shorter. In software, on this thread, and with the page's slot held meanwhile. A page is tried with a
    /// codec once, until it is stored again. The next call goes on where this one ends.
    ///
    /// # Errors
    /// See [`ShrinkError`].
    pub fn recompress(
        &self,
        nid: NodeId,
        method: Method,
        min_age: u16,
        time: Duration,
    ) -> Result<Recompressed, ShrinkError> {
        let node = self.node_to_shrink(nid)?;
        let deadline = Instant::now().checked_add(time);
        let mut work = Recompress {
            codecs: Codecs::new(),
            method,
            page: Box::new(Page::zeroed()),
            stream: vec![0; max_compressed_len(PAGE_SIZE)].into(),
            tried_pages: 0,
            pages: 0,
            saved_bytes: 0,
        };
        let mut visit = |owner, zspage, index| {
            self.recompress_object((owner, zspage, index), min_age, &mut work);
            deadline.is_none_or(|deadline| Instant::now() < deadline)
        };
        let cursor = &self.recompress_cursors[node];
        let next = self.pool.visit_objects(node, cursor.load(Ordering::Relaxed), &mut visit);
        cursor.store(next.unwrap_or(0), Ordering::Relaxed);
        let Recompress { tried_pages, pages, saved_bytes, .. } = work;
        Ok(Recompressed { tried_pages, pages, saved_bytes })
    }
}

/// What a call of [`Zswap::recompress`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recompressed {
    /// Pages that were old enough, and not tried before.
    pub tried_pages: u64,
    /// Pages that are shorter now.
    pub pages: u64,
    /// By how many bytes, all together.
    pub saved_bytes: u64,
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
    /// Memory that was taken from this node, and that the kernel has on another one now.
    pub strayed_bytes: u64,
}
