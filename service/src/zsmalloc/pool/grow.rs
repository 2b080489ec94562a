//! How a class comes to memory and gives it up: new pages, new zspages, and zspages without objects.
//!
//! All of this is off the common path, on which a class has memory at hand.

use std::sync::atomic::Ordering;

use zfolio_accel::PAGE_SIZE;

use super::{Class, FINE_FROM_PAGES, FULL, GROWING, PAGES_PER_EXTRA, ZsPool, is_coarse, stays};
use crate::leaf::LeafGuard;
use crate::zsmalloc::arena::ArenaError;
use crate::zsmalloc::class::{SHAPES, object_size};
use crate::zsmalloc::zspage::{NIL, NO_OBJECT, Zspage};

impl ZsPool {
    /// An object for a class that has no memory at hand, and the locked class that it belongs to: one that was freed in
    /// the class that took its objects before, where density is the aim one at hand on another node, one in a new page of a
    /// growing zspage, or one in a new zspage.
    #[cold]
    pub(super) fn alloc_more<'p>(
        &'p self,
        mut state: LeafGuard<'p, Class>,
        class: usize,
        node: usize,
        owner: u32,
    ) -> Result<(LeafGuard<'p, Class>, (u32, u16)), ArenaError> {
        if !is_coarse(class) {
            drop(state);
            let mut larger = self.class(node, class + 1).lock();
            if let Some(place) = self.take_freed(&mut larger, owner) {
                return Ok((larger, place));
            }
            drop(larger);
            state = self.class(node, class).lock();
        }
        if self.homes.are_dense() {
            drop(state);
            let mut substitutes = self.homes.substitutes(node).iter();
            if let Some(found) = substitutes.find_map(|&on| self.take_at_hand_of(on, class, owner)) {
                return Ok(found);
            }
            state = self.class(node, class).lock();
        }
        if let Some(place) = self.grow(&mut state, class, owner)? {
            return Ok((state, place));
        }
        // While the kernel takes the node's memory from another one, zspages there are filled before the node is
        // asked again; but now and then it is asked, for else pages that come and go would never find home.
        let elsewhere = state.elsewhere;
        let patient = state.until_asked > 0;
        state.until_asked = state.until_asked.saturating_sub(1);
        drop(state);
        let grow_on = |on: usize| {
            let mut state = self.class(on, class).lock();
            let place = self.grow(&mut state, class, owner).ok().flatten()?;
            Some((state, place))
        };
        if patient && let Some(found) = elsewhere.and_then(grow_on) {
            return Ok(found);
        }
        let (slot, on) = match self.new_zspage_for(class, node) {
            Ok(new) => new,
            Err(error) => return elsewhere.filter(|_| !patient).and_then(grow_on).ok_or(error),
        };
        if self.nodes.len() > 1 {
            let mut state = self.class(node, class).lock();
            state.elsewhere = (on != node).then_some(on);
            state.until_asked = SHAPES[class].objects;
        }
        if on != node
            && !patient
            && let Some((state, place)) = grow_on(on)
        {
            // Still full, and there is room where its pages are.
            drop(state);
            self.arena.retire_slot(self.forget_zspage(slot, class));
            return Ok((self.class(on, class).lock(), place));
        }
        let mut state = self.class(on, class).lock();
        let place = self.list_new_zspage(&mut state, slot, owner);
        Ok((state, place))
    }

    /// An object in memory that a class of this node has, or in the next larger one if that takes its objects now and then; and
    /// the locked class that it belongs to.
    pub(super) fn take_at_hand_of(
        &self,
        node: usize,
        class: usize,
        owner: u32,
    ) -> Option<(LeafGuard<'_, Class>, (u32, u16))> {
        let mut state = self.class(node, class).lock();
        if let Some(place) = self.take_at_hand(&mut state, class, owner) {
            return Some((state, place));
        }
        drop(state);
        if is_coarse(class) {
            return None;
        }
        let mut larger = self.class(node, class + 1).lock();
        let place = self.take_freed(&mut larger, owner)?;
        Some((larger, place))
    }

    /// An object in new memory of this node and no other, and its locked class.
    #[cold]
    pub(super) fn alloc_on(
        &self,
        class: usize,
        node: usize,
        owner: u32,
    ) -> Option<(LeafGuard<'_, Class>, (u32, u16))> {
        let mut state = self.class(node, class).lock();
        if let Some(place) = self.grow(&mut state, class, owner).ok()? {
            return Some((state, place));
        }
        drop(state);
        let (slot, _) = self.new_zspage(class, node, &|_| false).ok()?;
        let mut state = self.class(node, class).lock();
        let place = self.list_new_zspage(&mut state, slot, owner);
        Some((state, place))
    }

    /// An object of a zspage that the class has, with new memory if need be.
    fn grow(&self, state: &mut Class, class: usize, owner: u32) -> Result<Option<(u32, u16)>, ArenaError> {
        loop {
            if let Some(place) = self.take_at_hand(state, class, owner) {
                return Ok(Some(place));
            }
            let id = state.lists[GROWING].0;
            if id == NIL {
                return Ok(None);
            }
            match self.populate(state, id, class) {
                Ok(()) => {}
                // The zspage ends here; the class goes on with memory from wherever it comes.
                Err(ArenaError::Elsewhere) => {
                    let header = self.arena.header(id);
                    header.capacity.store(header.bump.load(Ordering::Relaxed), Ordering::Relaxed);
                    self.relist(state, id, header);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Memory for the next object of a growing zspage, and a little more in a large class.
    fn populate(&self, state: &mut Class, id: u32, class: usize) -> Result<(), ArenaError> {
        let header = self.arena.header(id);
        let bump = usize::from(header.bump.load(Ordering::Relaxed));
        let needed = ((bump + 1) * object_size(class)).div_ceil(PAGE_SIZE);
        let before = header.populated();
        let extra = usize::try_from(state.populated_pages / PAGES_PER_EXTRA).unwrap_or(usize::MAX);
        let to = needed.saturating_add(extra).min(SHAPES[class].pages);
        // What is only convenient must not make a limit appear reached.
        match self.arena.populate(id, header.node(), to, &|_| false) {
            Err(_) if to > needed => self.arena.populate(id, header.node(), needed, &|_| false)?,
            result => result?,
        }
        state.populated_pages += (header.populated() - before) as u64;
        if state.populated_pages >= FINE_FROM_PAGES && is_coarse(class) && class > 0 {
            self.nodes[header.node()].fine[class - 1].store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A slot with memory for at least one object of a page of `node`, and the index of the node that it is on.
    #[cold]
    fn new_zspage_for(&self, class: usize, node: usize) -> Result<(u32, usize), ArenaError> {
        let may_be_on = |on| self.homes.allow(node, on);
        let mut result = self.new_zspage(class, node, &may_be_on);
        if matches!(result, Err(ArenaError::Elsewhere)) {
            // The kernel falls back to the nearest node that has memory, also where these pages may not be.
            for &substitute in self.homes.substitutes(node) {
                match self.new_zspage(class, substitute, &may_be_on) {
                    Ok(new) => return Ok(new),
                    Err(ArenaError::Elsewhere) => {}
                    Err(error) => result = Err(error),
                }
            }
        }
        result
    }

    /// A slot of this node's regions with memory for at least one object, and the index of the node that it is on: this one,
    /// or another one that it may be on.
    fn new_zspage(
        &self,
        class: usize,
        node: usize,
        may_be_on: &dyn Fn(usize) -> bool,
    ) -> Result<(u32, usize), ArenaError> {
        let shape = &SHAPES[class];
        let block = self.backrefs.alloc(node, shape.objects).map_err(|_| ArenaError::OutOfMemory)?;
        let slot = match self.arena.take_slot(node, shape.pages) {
            Ok(slot) => slot,
            Err(error) => {
                self.backrefs.free(node, block, shape.objects);
                return Err(error);
            }
        };
        let header = self.arena.header(slot);
        header.backrefs.store(block, Ordering::Relaxed);
        header.class.store(u8::try_from(class).expect("255 classes"), Ordering::Relaxed);
        header.capacity.store(u16::try_from(shape.objects).expect("at most 2048"), Ordering::Relaxed);
        header.in_use.store(0, Ordering::Relaxed);
        header.bump.store(0, Ordering::Relaxed);
        header.free.store(NO_OBJECT, Ordering::Relaxed);
        header.open();
        // One page holds the first object of any class. A warm slot has it already.
        if header.populated() == 0
            && let Err(error) = self.arena.populate(slot, node, 1, may_be_on)
        {
            self.arena.retire_slot(self.forget_zspage(slot, class));
            return Err(error);
        }
        Ok((slot, header.node()))
    }

    /// Gives up a zspage that is on no list and has no objects: the slot is the caller's.
    fn forget_zspage(&self, slot: u32, class: usize) -> u32 {
        let header = self.arena.header(slot);
        self.backrefs.free(header.home(), header.backrefs.load(Ordering::Relaxed), SHAPES[class].objects);
        slot
    }

    /// Gives a new zspage to its class, and takes its first object.
    fn list_new_zspage(&self, state: &mut Class, id: u32, owner: u32) -> (u32, u16) {
        let header = self.arena.header(id);
        state.zspages += 1;
        state.populated_pages += header.populated() as u64;
        state.lists[GROWING].push(id, |id| self.arena.header(id));
        header.list.store(GROWING as u8, Ordering::Relaxed);
        let (from, to) = stays(GROWING, 0);
        header.stays_from.store(from, Ordering::Relaxed);
        header.stays_to.store(to, Ordering::Relaxed);
        self.backrefs.word(header.backrefs.load(Ordering::Relaxed), 0).store(owner, Ordering::Relaxed);
        header.bump.store(1, Ordering::Relaxed);
        header.in_use.store(1, Ordering::Relaxed);
        self.relist(state, id, header);
        (id, 0)
    }

    /// Takes a zspage without objects from its class; its memory may stay for the next stores.
    pub(super) fn retire(&self, state: LeafGuard<'_, Class>, id: u32, header: &Zspage, class: usize) {
        self.arena.retire_slot(self.unlist_zspage(state, id, header, class));
    }

    /// Takes a zspage without objects from its class: the slot is the caller's.
    pub(super) fn unlist_zspage(
        &self,
        mut state: LeafGuard<'_, Class>,
        id: u32,
        header: &Zspage,
        class: usize,
    ) -> u32 {
        let list = usize::from(header.list.load(Ordering::Relaxed));
        if list != FULL {
            state.lists[list].remove(id, |id| self.arena.header(id));
        }
        state.zspages -= 1;
        state.populated_pages -= header.populated() as u64;
        if state.zspages == 0 && !is_coarse(class) {
            // It may be long until there are as many again.
            self.nodes[header.node()].fine[class].store(false, Ordering::Relaxed);
        }
        drop(state);
        self.forget_zspage(id, class)
    }
}
