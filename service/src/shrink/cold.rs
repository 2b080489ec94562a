//! Writeback by age: pages that were not used for so many ticks, wherever they are on their lists.
//!
//! Lists are in order of use but for second chances, which a page that was only stored has too; ages are exact. So
//! this goes through the memory of the node, as recompression does, and leaves the lists as they are.

use std::sync::Arc;

use zfolio_accel::NodeId;

use super::{HELD, Pending, Shrinker, WRITE_BATCH};
use crate::claim::SlotGuard;
use crate::error::ShrinkError;
use crate::shrink::{ShrinkBudget, Shrunk};
use crate::swap_device::SwapDevice;
use crate::sync::Ordering;
use crate::zswap::Zswap;

/// Objects that are looked at while slots are held or being written: so few that who wants such a page does not wait for
/// all the others to be looked at.
const LOOKS: u64 = 1024;

impl Zswap {
    /// Writes back pages whose bytes are on node `nid` and which were not stored or read for `min_age` ticks of
    /// [`tick`](Zswap::tick), within a budget, and gives the memory that they leave back to the kernel. The next call goes on
    /// where this one ends.
    ///
    /// # Errors
    /// See [`ShrinkError`].
    pub fn write_back_cold(
        &self,
        nid: NodeId,
        min_age: u16,
        budget: ShrinkBudget,
    ) -> Result<Shrunk, ShrinkError> {
        let node = self.node_to_shrink(nid)?;
        let mut shrinker = Shrinker::new(self, node, budget);
        shrinker.write_back_cold(min_age);
        Ok(shrinker.shrunk)
    }
}

/// Cold pages on their way out.
#[derive(Default)]
struct Batch<'s> {
    /// Their slots, held.
    guards: Vec<(SlotGuard<'s>, Arc<dyn SwapDevice>)>,
    /// Those that were let go with W set.
    pending: Vec<Pending<'s>>,
    /// Buffers in use.
    used: usize,
    /// Objects looked at since it was empty.
    looks: u64,
}

impl<'s> Shrinker<'s> {
    fn write_back_cold(&mut self, min_age: u16) {
        if self.is_done(u64::MAX) {
            return;
        }
        let store = self.store;
        let (node, cursor) = (self.node, &store.cold_cursors[self.node]);
        let mut batch = Batch::default();
        let mut visit = |owner, zspage, index| {
            self.shrunk.scanned_pages += 1;
            if let Some(guard) = SlotGuard::try_lock_cold(store, (owner, zspage, index), min_age)
                && let Some(device) = store.tree.device(guard.swap_entry().swap_type())
            {
                batch.guards.push((guard, device));
            }
            let taken = (batch.pending.len() + batch.guards.len()) as u64;
            batch.looks = if taken == 0 { 0 } else { batch.looks + 1 };
            if batch.looks == LOOKS || self.shrunk.written_back_pages + taken >= self.budget.pages {
                self.flush(&mut batch);
            } else if batch.guards.len() == HELD {
                self.decompress_batch(&mut batch);
            }
            !self.is_done(u64::MAX)
        };
        let next = store.pool.visit_objects(node, cursor.load(Ordering::Relaxed), &mut visit);
        cursor.store(next.unwrap_or(0), Ordering::Relaxed);
        self.flush(&mut batch);
        if self.loose > 0 {
            self.compact(self.shrunk.released_bytes + self.loose);
        }
    }

    fn decompress_batch(&mut self, batch: &mut Batch<'s>) {
        let held = batch.guards.len();
        self.decompress_held(std::mem::take(&mut batch.guards), batch.used, &mut batch.pending);
        batch.used += held;
        if batch.used + HELD > WRITE_BATCH {
            self.flush(batch);
        }
    }

    fn flush(&mut self, batch: &mut Batch<'s>) {
        self.decompress_held(std::mem::take(&mut batch.guards), batch.used, &mut batch.pending);
        self.write(std::mem::take(&mut batch.pending));
        (batch.used, batch.looks) = (0, 0);
    }
}
