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
    /// the class that took its objects before, one in a new page of a growing zspage, or one in a new zspage.
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
        let (slot, on) = match self.new_zspage(class, node) {
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
            let block = self.arena.header(slot).backrefs.load(Ordering::Relaxed);
            self.backrefs.free(node, block, SHAPES[class].objects);
            self.arena.retire_slot(slot, true);
            return Ok((self.class(on, class).lock(), place));
        }
        let mut state = self.class(on, class).lock();
        let place = self.list_new_zspage(&mut state, slot, owner);
        Ok((state, place))
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
        match self.arena.populate(id, header.node(), to) {
            Err(_) if to > needed => self.arena.populate(id, header.node(), needed)?,
            result => result?,
        }
        state.populated_pages += (header.populated() - before) as u64;
        if state.populated_pages >= FINE_FROM_PAGES && is_coarse(class) && class > 0 {
            self.nodes[header.node()].fine[class - 1].store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A slot with memory for at least one object, and the index of the node that it is on.
    #[cold]
    fn new_zspage(&self, class: usize, node: usize) -> Result<(u32, usize), ArenaError> {
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
        // One page holds the first object of any class. A warm slot has it already.
        if header.populated() == 0
            && let Err(error) = self.arena.populate(slot, node, 1)
        {
            self.backrefs.free(node, block, shape.objects);
            self.arena.retire_slot(slot, true);
            return Err(error);
        }
        Ok((slot, header.node()))
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

    /// Takes a zspage without objects from its class, and says how many pages went back to the kernel.
    pub(super) fn retire(
        &self,
        mut state: LeafGuard<'_, Class>,
        id: u32,
        header: &Zspage,
        class: usize,
        keep_warm: bool,
    ) -> u64 {
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
        let home = usize::from(header.home.load(Ordering::Relaxed));
        self.backrefs.free(home, header.backrefs.load(Ordering::Relaxed), SHAPES[class].objects);
        self.arena.retire_slot(id, keep_warm)
    }
}
