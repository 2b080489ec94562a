//! Pressure: memory taken in proportion, as the kernel's reclaim takes it, where [`Zswap::shrink`] takes what it is told to.
//!
//! Each list, of a tenant and this node, has a count of what it can spare: zswap's `zswap_shrinker_count`. In each pass
//! over the lists so many entries are looked at as pages are wanted, of each list in proportion to its count, and
//! twice as many after a pass that gave nothing (the kernel's priorities). So who compresses well, and whose pages were lately
//! read back from the device, is pressed less.

use zfolio_accel::NodeId;

use super::Shrinker;
use crate::error::ShrinkError;
use crate::lru::List;
use crate::shrink::{ShrinkBudget, Shrunk};
use crate::sync::Ordering;
use crate::zswap::Zswap;

/// How often an entry that was counted is looked at: what the kernel's priorities come to. The first look takes the
/// mark of being used.
const LOOKS: u64 = 4;

/// The most times that a pass looks at as many entries as pages are wanted.
const MAX_EFFORT: u128 = 1 << 20;

/// A list that is pressed.
struct Pressed<'l> {
    tenant: u16,
    list: &'l List,
    /// What it can spare.
    count: u64,
    /// Entries that may still be looked at.
    left: u64,
}

impl Zswap {
    /// Gives up to `bytes` of memory of node `nid` back to the kernel, as memory pressure would: empty memory first, then
    /// pages of every tenant, in proportion to what it can spare.
    ///
    /// A tenant can spare its pages on the node less those that are protected, because so many of its pages had to be
    /// read from the swap device lately, times compressed bytes over bytes: pages that compress well cost as much I/O
    /// as others and give less memory. Protection lasts for a few calls: each uses up half of it.
    ///
    /// It may free less than `bytes` though there are pages, which [`shrink`](Zswap::shrink) would not.
    ///
    /// # Errors
    /// See [`ShrinkError`].
    pub fn reclaim(&self, nid: NodeId, bytes: u64, budget: ShrinkBudget) -> Result<Shrunk, ShrinkError> {
        let node = self.node_to_shrink(nid)?;
        let mut shrinker = Shrinker::new(self, node, budget);
        shrinker.take_empty(bytes);
        if !shrinker.is_done(bytes) {
            shrinker.press(bytes);
        }
        shrinker.take_loose(bytes);
        Ok(shrinker.shrunk)
    }
}

impl Shrinker<'_> {
    fn press(&mut self, bytes: u64) {
        let mut lists: Vec<Pressed<'_>> = self
            .lists()
            .into_iter()
            .map(|(tenant, list)| (tenant.0, list, list.take_count()))
            .map(|(tenant, list, count)| Pressed { tenant, list, count, left: LOOKS * count })
            .collect();
        let total: u64 = lists.iter().map(|pressed| pressed.count).sum();
        let mut effort = 1;
        while !self.is_done(bytes) && lists.iter().any(|pressed| pressed.left > 0) {
            let before = self.shrunk.written_back_pages;
            let (entries, object_bytes) = lists
                .iter()
                .map(|pressed| pressed.list.counts())
                .fold((0, 0), |(entries, bytes), (more, more_bytes)| (entries + more, bytes + more_bytes));
            let wanted = self.wanted(bytes).div_ceil((object_bytes / entries.max(1)).max(1));
            for pressed in &mut lists {
                let share =
                    u128::from(wanted) * effort * u128::from(pressed.count) / u128::from(total.max(1));
                let scan = u64::try_from(share).unwrap_or(u64::MAX).max(1).min(pressed.left);
                pressed.left -= scan;
                self.look(pressed.list, scan, bytes);
                let cursor = &self.store.reclaim_cursors[self.node];
                cursor.store(u32::from(pressed.tenant) + 1, Ordering::Relaxed);
                if self.is_done(bytes) {
                    return;
                }
            }
            if self.wanted(bytes) == 0 {
                self.compact(bytes);
            }
            effort = if self.shrunk.written_back_pages > before { 1 } else { (effort * 2).min(MAX_EFFORT) };
        }
    }

    /// Looks at so many entries of a list, and writes back those that are wanted.
    fn look(&mut self, list: &List, mut scan: u64, bytes: u64) {
        while scan > 0 && self.wanted(bytes) > 0 && !self.is_done(bytes) {
            let before = scan;
            self.write_back(list, self.wanted_pages(list, bytes), &mut scan);
            if scan == before {
                return;
            }
        }
    }
}
