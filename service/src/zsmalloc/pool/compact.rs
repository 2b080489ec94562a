//! Compaction: objects of sparse zspages move into the holes of fuller ones, and the last sparse zspage of a class into
//! its own front, until a class has idle at most part of one page. The memory behind goes back to the kernel.
//!
//! An object is found by its back-reference and moved under the lock of its page's slot, which is only tried: what is in
//! use at the moment stays. So it can be stopped after any object, and others store and load meanwhile.

use std::ptr;
use std::time::Instant;

use super::{Class, FULLNESS_LISTS, RawObject, Release, ZsPool};
use crate::sync::Ordering;
use crate::zsmalloc::backrefs::{FREE, free_word, next_free};
use crate::zsmalloc::class::{CLASSES, object_size};
use crate::zsmalloc::zspage::{Closed, NO_OBJECT, Zspage};

/// Runs the work on an object with its page's slot held, and gives the entry the name that the work returns. It gets
/// the object's presumable owner, zspage and index, and says if all of that was so and the object moved.
pub(crate) type Hold<'h> = dyn Fn(u32, u32, u16, &mut dyn FnMut(RawObject) -> Option<RawObject>) -> bool + 'h;

/// How much a compaction may do, and what it did.
pub(crate) struct Compaction<'p> {
    /// It ends then.
    pub(crate) deadline: Option<Instant>,
    /// It ends when so many pages went back.
    pub(crate) enough_pages: u64,
    pub(crate) moved_objects: u64,
    pub(crate) moved_bytes: u64,
    /// Pages that went back to the kernel.
    pub(crate) released_pages: u64,
    release: Release<'p>,
}

impl<'p> Compaction<'p> {
    pub(crate) fn new(pool: &'p ZsPool, enough_pages: u64, deadline: Option<Instant>) -> Compaction<'p> {
        let release = Release::new(pool);
        Compaction { deadline, enough_pages, moved_objects: 0, moved_bytes: 0, released_pages: 0, release }
    }

    fn is_over(&self) -> bool {
        self.released_pages >= self.enough_pages
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// A zspage with holes, or with objects yet to be used.
struct Sparse {
    id: u32,
    in_use: u16,
    /// Freed objects.
    holes: u16,
}

impl ZsPool {
    /// Compacts the classes of a node, going on where the last call ended.
    pub(crate) fn compact(&self, node: usize, hold: &Hold<'_>, compaction: &mut Compaction<'_>) {
        let cursor = &self.nodes[node].compact_next;
        for _ in 0..CLASSES {
            if compaction.is_over() {
                break;
            }
            let class = cursor.load(Ordering::Relaxed) as usize % CLASSES;
            self.compact_class(node, class, hold, compaction);
            cursor.store((class + 1) as u32, Ordering::Relaxed);
        }
        compaction.release.flush();
    }

    fn compact_class(&self, node: usize, class: usize, hold: &Hold<'_>, compaction: &mut Compaction<'_>) {
        // Each round empties a zspage or fills all holes of the others. Others may make new ones meanwhile, for ever.
        let mut rounds = 0;
        loop {
            let sparse = self.sparse(&self.class(node, class).lock());
            rounds += 1;
            let Some(source) = sparse.iter().min_by_key(|zspage| zspage.in_use) else { return };
            let elsewhere =
                sparse.iter().filter(|zspage| zspage.id != source.id).any(|zspage| zspage.holes > 0);
            if !elsewhere || rounds > 2 * sparse.len() + 8 {
                for zspage in &sparse {
                    self.squeeze(zspage.id, node, class, hold, compaction);
                }
                return;
            }
            if !self.move_out(source.id, node, class, hold, compaction) {
                // What is in use there at the moment stays.
                for zspage in &sparse {
                    self.squeeze(zspage.id, node, class, hold, compaction);
                }
                return;
            }
            if compaction.is_over() {
                return;
            }
        }
    }

    /// Calls `visit` for what are presumably objects on a node, with owner, zspage and index, going on after zspage
    /// `from`, until it says that it is enough: then it gives the zspage to go on after. `None` at the end.
    pub(crate) fn visit_objects(
        &self,
        node: usize,
        from: u32,
        visit: &mut dyn FnMut(u32, u32, u16) -> bool,
    ) -> Option<u32> {
        for id in self.arena.slots().filter(|&id| id >= from) {
            let header = self.arena.header(id);
            if header.in_use.load(Ordering::Relaxed) == 0 || header.node() != node {
                continue;
            }
            let block = header.backrefs.load(Ordering::Relaxed);
            for index in 0..header.bump.load(Ordering::Relaxed) {
                let owner = self.backrefs.word(block, index).load(Ordering::Relaxed);
                if owner & FREE == 0 && !visit(owner, id, index) {
                    return Some(id);
                }
            }
        }
        None
    }

    fn sparse(&self, state: &Class) -> Vec<Sparse> {
        let sparse = |id| {
            let header = self.arena.header(id);
            let in_use = header.in_use.load(Ordering::Relaxed);
            Sparse { id, in_use, holes: header.bump.load(Ordering::Relaxed) - in_use }
        };
        state.lists.iter().flat_map(|list| list.iter(|id| self.arena.header(id))).map(sparse).collect()
    }

    /// Moves objects of a zspage into holes of others of its class, from the last on, while there are holes. False if
    /// none moved.
    fn move_out(
        &self,
        source: u32,
        node: usize,
        class: usize,
        hold: &Hold<'_>,
        compaction: &mut Compaction<'_>,
    ) -> bool {
        let header = self.arena.header(source);
        let mut moved = false;
        for index in (0..header.bump.load(Ordering::Relaxed)).rev() {
            if compaction.is_over() {
                break;
            }
            let block = header.backrefs.load(Ordering::Relaxed);
            let owner = self.backrefs.word(block, index).load(Ordering::Relaxed);
            if owner & FREE != 0 {
                continue;
            }
            compaction.release.make_room();
            let (mut full, mut emptied) = (false, false);
            let went = hold(owner, source, index, &mut |raw| {
                let mut state = self.class(node, class).lock();
                if !belongs(header, node, class) {
                    return None;
                }
                let Some((zspage, index)) = self.take_hole(&mut state, source, owner) else {
                    full = true;
                    return None;
                };
                let new = RawObject { zspage, index, len: raw.len };
                self.copy(raw, new);
                compaction.moved_objects += 1;
                compaction.moved_bytes += u64::from(raw.len);
                state.objects += 1;
                state.object_bytes += u64::from(raw.len);
                if let Some(state) = self.free_locked(state, raw, header, class) {
                    emptied = true;
                    let slot = self.unlist_zspage(state, raw.zspage, header, class);
                    compaction.released_pages += compaction.release.add_slot(slot);
                }
                Some(new)
            });
            moved |= went;
            if full || emptied {
                break;
            }
        }
        moved
    }

    /// Moves the last objects of a zspage into its own holes, and gives the pages behind the last one back.
    fn squeeze(&self, id: u32, node: usize, class: usize, hold: &Hold<'_>, compaction: &mut Compaction<'_>) {
        let header = self.arena.header(id);
        loop {
            let index = {
                let mut state = self.class(node, class).lock();
                if !belongs(header, node, class) {
                    return;
                }
                self.tidy(&mut state, id, header);
                header.bump.load(Ordering::Relaxed) - 1
            };
            // From the trimmed end down, as long as it goes without another trim: holes are in ascending order.
            let mut index = Some(index);
            let mut moved = false;
            while let Some(last) = index.filter(|_| !compaction.is_over()) {
                let owner =
                    self.backrefs.word(header.backrefs.load(Ordering::Relaxed), last).load(Ordering::Relaxed);
                let went = owner & FREE == 0
                    && hold(owner, id, last, &mut |raw| {
                        let mut state = self.class(node, class).lock();
                        let hole = header.free.load(Ordering::Relaxed);
                        if !belongs(header, node, class) || hole == NO_OBJECT || hole > last {
                            return None;
                        }
                        let block = header.backrefs.load(Ordering::Relaxed);
                        let hole_word = self.backrefs.word(block, hole);
                        let next = next_free(hole_word.load(Ordering::Relaxed));
                        let new = RawObject { index: hole, ..raw };
                        self.copy(raw, new);
                        hole_word.store(owner, Ordering::Relaxed);
                        if last + 1 == header.bump.load(Ordering::Relaxed) {
                            header.bump.store(last, Ordering::Relaxed);
                            self.backrefs.word(block, last).store(free_word(NO_OBJECT), Ordering::Relaxed);
                            header.free.store(next, Ordering::Relaxed);
                        } else {
                            self.backrefs.word(block, last).store(free_word(next), Ordering::Relaxed);
                            header.free.store(last, Ordering::Relaxed);
                        }
                        self.relist(&mut state, id, header);
                        compaction.moved_objects += 1;
                        compaction.moved_bytes += u64::from(raw.len);
                        Some(new)
                    });
                moved |= went;
                // A hole at the end is passed over; what cannot be moved ends the round.
                index = if went || owner & FREE != 0 { last.checked_sub(1) } else { None };
            }
            if !moved || compaction.is_over() {
                break;
            }
        }
        compaction.release.make_room();
        let mut state = self.class(node, class).lock();
        if belongs(header, node, class) {
            self.tidy(&mut state, id, header);
            compaction.released_pages +=
                self.collect_end(&mut state, id, header, class, &mut compaction.release);
        }
    }

    /// Forgets the holes at the end of a zspage, and puts the others in ascending order.
    fn tidy(&self, state: &mut Class, id: u32, header: &Zspage) {
        let block = header.backrefs.load(Ordering::Relaxed);
        let mut bump = header.bump.load(Ordering::Relaxed);
        let word = |index: u16| self.backrefs.word(block, index);
        while bump > 0 && word(bump - 1).load(Ordering::Relaxed) & FREE != 0 {
            bump -= 1;
        }
        header.bump.store(bump, Ordering::Relaxed);
        let mut free = NO_OBJECT;
        for index in (0..bump).rev() {
            if word(index).load(Ordering::Relaxed) & FREE != 0 {
                word(index).store(free_word(free), Ordering::Relaxed);
                free = index;
            }
        }
        header.free.store(free, Ordering::Relaxed);
        self.relist(state, id, header);
    }

    /// A freed object of the fullest zspage that has one and is not `source`.
    fn take_hole(&self, state: &mut Class, source: u32, owner: u32) -> Option<(u32, u16)> {
        let at = |id| self.arena.header(id);
        let mut lists = state.lists[..FULLNESS_LISTS].iter().rev();
        let id = lists.find_map(|list| list.iter(at).find(|&id| id != source))?;
        let header = self.arena.header(id);
        // Nothing is gained by moving from one to another and back.
        if header.in_use.load(Ordering::Relaxed) < self.arena.header(source).in_use.load(Ordering::Relaxed) {
            return None;
        }
        Some((id, self.take_free_of(state, id, header, owner)))
    }

    fn copy(&self, from: RawObject, to: RawObject) {
        debug_assert!(object_size(self.arena.header(to.zspage).class()) >= from.len.into());
        let (from_address, to_address) =
            (self.address(self.header(from), from), self.address(self.header(to), to));
        // SAFETY: whoever calls holds the slot of `from`'s page, so that nobody frees, moves or writes it, and took `to`
        // from the free objects of the same class, so that nobody else knows it. They are different objects of
        // populated pages, and neither is longer than the class's size.
        unsafe { ptr::copy_nonoverlapping(from_address, to_address, from.len.into()) };
    }
}

/// True while a zspage is one of this class on this node, with objects, and no memory of it is on its way back to the kernel. To be
/// asked with the class locked.
pub(super) fn belongs(header: &Zspage, node: usize, class: usize) -> bool {
    header.in_use.load(Ordering::Relaxed) != 0
        && header.node() == node
        && header.class() == class
        && !header.is_closed(Closed::Releasing)
}
