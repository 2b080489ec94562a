//! Memory on its way back to the kernel, the ends of many zspages at once.
//!
//! To take pages from an address space the kernel interrupts every other CPU that runs it: some microseconds to each, and to the caller
//! the wait for all of them. So what compaction and the shrinker empty is collected, and goes in one call, under no lock.
//!
//! Meanwhile nobody may use it. A slot without objects is in no list of free slots. A zspage with objects further
//! in front is closed ([`Closed::Releasing`]): it takes no objects and gets no memory, and stays a zspage of its class should the last
//! object leave it. What is collected counts as released at once, for nothing but the kernel's call is left to do;
//! limits are told when it is done.

use std::sync::atomic::Ordering;

use super::{Class, ZsPool, used_pages};
use crate::zsmalloc::memory::MAX_RANGES;
use crate::zsmalloc::zspage::{Closed, Zspage};

/// Collects memory, and gives it back when dropped at the latest.
pub(crate) struct Release<'p> {
    pool: &'p ZsPool,
    /// Zspages, how many pages each keeps, and whether it is one still: else it is a slot without objects, which keeps none.
    waiting: [(u32, u8, bool); MAX_RANGES],
    len: usize,
}

impl<'p> Release<'p> {
    pub(crate) fn new(pool: &'p ZsPool) -> Release<'p> {
        Release { pool, waiting: [(0, 0, false); MAX_RANGES], len: 0 }
    }

    /// How many more it can collect.
    pub(super) fn room(&self) -> usize {
        MAX_RANGES - self.len
    }

    /// Gives back what was collected, if there is no room for another. To be called without locks.
    pub(crate) fn make_room(&mut self) {
        if self.room() == 0 {
            self.flush();
        }
    }

    /// Takes a slot without objects, which is on no list: how many pages.
    pub(super) fn add_slot(&mut self, slot: u32) -> u64 {
        let pages = self.pool.arena.header(slot).populated();
        self.add(slot, 0, false);
        pages as u64
    }

    /// Takes the end of a zspage that `keep` pages are in use of, and which was closed.
    pub(super) fn add_end(&mut self, id: u32, keep: usize) -> u64 {
        let header = self.pool.arena.header(id);
        debug_assert!(header.is_closed(Closed::Releasing) && header.populated() > keep);
        self.add(id, u8::try_from(keep).expect("at most 24"), true);
        (header.populated() - keep) as u64
    }

    fn add(&mut self, id: u32, keep: u8, is_zspage: bool) {
        self.make_room();
        self.waiting[self.len] = (id, keep, is_zspage);
        self.len += 1;
    }

    /// Gives back what was collected.
    pub(crate) fn flush(&mut self) {
        let waiting = &self.waiting[..std::mem::take(&mut self.len)];
        if waiting.is_empty() {
            return;
        }
        let ZsPool { arena, .. } = self.pool;
        arena.discard_ends(waiting.iter().map(|&(id, keep, _)| (id, keep.into())));
        for &(id, keep, is_zspage) in waiting {
            if is_zspage {
                self.pool.open_again(id, keep.into());
            } else {
                arena.uncharge_end(id, 0);
                arena.put_empty(id);
            }
        }
    }
}

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

impl ZsPool {
    /// Gives all memory that holds no object, and that no object was ever in, back to the kernel, and says how many
    /// pages that was: the stock of free slots, and the idle ends of zspages.
    pub(crate) fn release_warm(&self) -> u64 {
        let mut release = Release::new(self);
        (0..self.nodes.len()).map(|node| self.collect_warm(node, &mut release)).sum()
    }

    /// The same of one node.
    pub(crate) fn release_warm_of(&self, node: usize) -> u64 {
        self.collect_warm(node, &mut Release::new(self))
    }

    /// The same, collected.
    pub(crate) fn collect_warm(&self, node: usize, release: &mut Release<'_>) -> u64 {
        let mut pages = self.collect_stock(node, release);
        for class in 0..self.nodes[node].classes.len() {
            release.make_room();
            while !self.collect_ends(node, class, release, &mut pages) {
                release.flush();
            }
        }
        pages
    }

    /// Gives the memory of a node's free slots back to the kernel, and says how many pages that was.
    pub(crate) fn release_stock(&self, node: usize) -> u64 {
        self.collect_stock(node, &mut Release::new(self))
    }

    fn collect_stock(&self, node: usize, release: &mut Release<'_>) -> u64 {
        let mut pages = 0;
        loop {
            release.make_room();
            let room = release.room();
            pages += self.arena.take_stock(node, room).map(|slot| release.add_slot(slot)).sum::<u64>();
            if release.room() != 0 {
                return pages;
            }
        }
    }

    /// Collects the idle ends of a class's zspages. False if there are more than there is room for.
    fn collect_ends(&self, node: usize, class: usize, release: &mut Release<'_>, pages: &mut u64) -> bool {
        let mut state = self.class(node, class).lock();
        for list in 0..state.lists.len() {
            // What is closed leaves the list, whose iterator has its successor by then.
            for id in state.lists[list].iter(|id| self.arena.header(id)) {
                if release.room() == 0 {
                    return false;
                }
                *pages += self.collect_end(&mut state, id, self.arena.header(id), class, release);
            }
        }
        true
    }

    /// Collects the pages of a zspage behind those that its objects reach, and closes it if there are any.
    pub(super) fn collect_end(
        &self,
        state: &mut Class,
        id: u32,
        header: &Zspage,
        class: usize,
        release: &mut Release<'_>,
    ) -> u64 {
        let keep = used_pages(header, class);
        if header.populated() == keep {
            return 0;
        }
        header.set_closed(Closed::Releasing, true);
        self.relist(state, id, header);
        release.add_end(id, keep)
    }

    /// Ends that memory of a zspage is on its way back: what is left is open to new objects, or is retired if no object is left.
    fn open_again(&self, id: u32, keep: usize) {
        let header = self.arena.header(id);
        let class = header.class();
        let mut state = self.class(header.node(), class).lock();
        state.populated_pages -= (header.populated() - keep) as u64;
        self.arena.uncharge_end(id, keep);
        header.set_closed(Closed::Releasing, false);
        if header.in_use.load(Ordering::Relaxed) == 0 {
            self.retire(state, id, header, class);
        } else {
            self.relist(&mut state, id, header);
        }
    }
}
