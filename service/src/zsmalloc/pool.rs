//! Objects: bytes of up to a page in a zspage of their size class.
//!
//! Memory that a class already has is used before new memory is taken: freed objects first, of the fullest zspages
//! first, then the next object of a growing zspage, and last a new zspage. Each class of each node has a short lock
//! of its own.

#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::ptr;

use zfolio_accel::{NodeId, PAGE_SIZE};

use crate::sync::{Mutex, MutexGuard, Ordering, lock};
use crate::zsmalloc::arena::{Arena, ArenaConfig, ArenaError};
use crate::zsmalloc::backrefs::{BackRefs, FREE, free_word, next_free};
use crate::zsmalloc::class::{CLASSES, SHAPES, class_of, object_size, object_size_of};
use crate::zsmalloc::zspage::{NIL, NO_OBJECT, Zspage, ZspageList};

/// An object as an entry keeps it: a name, no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawObject {
    pub(crate) zspage: u32,
    pub(crate) index: u16,
    /// Bytes, 1 to 4096.
    pub(crate) len: u16,
}

/// Lists by how full a zspage with freed objects is: up to a quarter, a half, three quarters, more.
const FULLNESS_LISTS: usize = 4;
/// The list of zspages without freed objects and with objects that were never used.
const GROWING: usize = FULLNESS_LISTS;
/// Not on a list: every object is in use.
const FULL: usize = FULLNESS_LISTS + 1;

/// Pages of a class for each page that it takes beyond what the next object needs. So a large class asks the kernel
/// less often, and no class has more than 1/128 of its memory idle that way.
const PAGES_PER_EXTRA: u64 = 128;

/// The zspages of one class on one node.
#[derive(Default)]
struct Class {
    lists: [ZspageList; FULLNESS_LISTS + 1],
    zspages: u64,
    objects: u64,
    object_bytes: u64,
    populated_pages: u64,
    /// The node whose memory the last new zspage for this node got, if it is another one.
    elsewhere: Option<usize>,
}

/// Compressed pages of all nodes.
pub(crate) struct ZsPool {
    arena: Arena,
    backrefs: BackRefs,
    nodes: Box<[NodeClasses]>,
}

struct NodeClasses {
    classes: Box<[Mutex<Class>]>,
}

/// What a node's memory is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeUsage {
    pub(crate) objects: u64,
    pub(crate) object_bytes: u64,
    pub(crate) zspages: u64,
    pub(crate) pool_pages: u64,
    pub(crate) warm_pages: u64,
}

impl ZsPool {
    pub(crate) fn new(config: ArenaConfig<'_>) -> ZsPool {
        let nids: Vec<NodeId> = config.nodes.to_vec();
        let classes = |_: &NodeId| NodeClasses { classes: (0..CLASSES).map(|_| Mutex::default()).collect() };
        ZsPool {
            arena: Arena::new(config),
            backrefs: BackRefs::new(&nids),
            nodes: nids.iter().map(classes).collect(),
        }
    }

    /// The object of `bytes`, 1 to 4096 of them, in memory of this node by preference. It belongs to the entry
    /// `owner`, whose slot the caller holds.
    ///
    /// When a limit is in the way, warm memory is given back first.
    #[inline(always)]
    pub(crate) fn store(&self, bytes: &[u8], node: usize, owner: u32) -> Result<Object<'_>, ArenaError> {
        let class = class_of(bytes.len());
        let (zspage, index) = match self.alloc(class, bytes.len(), node, owner) {
            Ok(place) => place,
            Err(ArenaError::PoolLimit | ArenaError::NodeLimit(_)) if self.release_warm() > 0 => {
                self.alloc(class, bytes.len(), node, owner)?
            }
            Err(error) => return Err(error),
        };
        let len = bytes.len() as u16;
        let object = Object { pool: self, raw: RawObject { zspage, index, len } };
        // SAFETY: the object was free until now, is ours alone, and has room for a class's worth of bytes, which
        // are populated. `bytes` cannot overlap it: no reference to a free object exists.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.address(object.raw), bytes.len()) };
        Ok(object)
    }

    /// The first byte of an object.
    #[inline(always)]
    fn address(&self, raw: RawObject) -> *mut u8 {
        let offset = usize::from(raw.index) * object_size_of(raw.len.into());
        self.arena.address(raw.zspage).as_ptr().wrapping_add(offset)
    }

    /// The bytes of an object.
    ///
    /// # Safety
    /// `raw` names an object of this pool that is neither freed nor moved as long as the bytes are borrowed.
    #[inline]
    pub(crate) unsafe fn bytes(&self, raw: RawObject) -> &[u8] {
        // SAFETY: the object's `len` bytes were written by `store`, lie in populated memory, and are not written
        // again while it lives, which the caller vouches for.
        unsafe { std::slice::from_raw_parts(self.address(raw), raw.len.into()) }
    }

    /// Frees an object by its name.
    ///
    /// # Safety
    /// `raw` came from [`Object::into_raw`] of this pool, and was not freed since; nobody borrows its bytes.
    #[inline(always)]
    pub(crate) unsafe fn free_raw(&self, raw: RawObject) {
        self.free(raw);
    }

    /// The index of the node that the object's memory is on.
    #[inline]
    pub(crate) fn node_of(&self, raw: RawObject) -> usize {
        if self.nodes.len() == 1 { 0 } else { self.arena.header(raw.zspage).node() }
    }

    #[inline]
    fn class(&self, node: usize, class: usize) -> &Mutex<Class> {
        &self.nodes[node].classes[class]
    }

    #[inline(always)]
    fn alloc(&self, class: usize, len: usize, node: usize, owner: u32) -> Result<(u32, u16), ArenaError> {
        let mut state = lock(self.class(node, class));
        let place = match self.alloc_from(&mut state, class, owner)? {
            Some(place) => place,
            None => {
                let elsewhere = state.elsewhere;
                drop(state);
                let place;
                (state, place) = self.alloc_more(class, node, elsewhere, owner)?;
                place
            }
        };
        state.objects += 1;
        state.object_bytes += len as u64;
        Ok(place)
    }

    /// An object of a class that has none left on its node, and the class of the node that it is on. While the
    /// kernel takes the node's memory from another one, zspages there are filled before the node is asked again.
    #[cold]
    fn alloc_more(
        &self,
        class: usize,
        node: usize,
        elsewhere: Option<usize>,
        owner: u32,
    ) -> Result<(MutexGuard<'_, Class>, (u32, u16)), ArenaError> {
        if let Some(on) = elsewhere {
            let mut state = lock(self.class(on, class));
            if let Ok(Some(place)) = self.alloc_from(&mut state, class, owner) {
                return Ok((state, place));
            }
        }
        let (slot, on) = self.new_zspage(class, node)?;
        if self.nodes.len() > 1 {
            lock(self.class(node, class)).elsewhere = (on != node).then_some(on);
        }
        let mut state = lock(self.class(on, class));
        let place = self.list_new_zspage(&mut state, slot, owner);
        Ok((state, place))
    }

    /// An object of a zspage that the class has.
    #[inline(always)]
    fn alloc_from(
        &self,
        state: &mut Class,
        class: usize,
        owner: u32,
    ) -> Result<Option<(u32, u16)>, ArenaError> {
        for list in (0..FULLNESS_LISTS).rev() {
            let id = state.lists[list].0;
            if id != NIL {
                return Ok(Some((id, self.take_freed(state, id, owner))));
            }
        }
        while state.lists[GROWING].0 != NIL {
            let id = state.lists[GROWING].0;
            match self.grow(state, id, class, owner) {
                Ok(index) => return Ok(Some((id, index))),
                // It ends here; the class goes on with memory from wherever it comes.
                Err(ArenaError::Elsewhere) => {
                    let header = self.arena.header(id);
                    header.capacity.store(header.bump.load(Ordering::Relaxed), Ordering::Relaxed);
                    self.relist(state, id, header);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The first freed object of a zspage that has one.
    #[inline(always)]
    fn take_freed(&self, state: &mut Class, id: u32, owner: u32) -> u16 {
        let header = self.arena.header(id);
        let index = header.free.load(Ordering::Relaxed);
        let word = self.backrefs.word(header.backrefs.load(Ordering::Relaxed), index);
        header.free.store(next_free(word.load(Ordering::Relaxed)), Ordering::Relaxed);
        word.store(owner, Ordering::Relaxed);
        header.in_use.store(header.in_use.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.relist(state, id, header);
        index
    }

    /// The next object of a zspage that has no freed ones and is not at its end.
    #[inline(always)]
    fn grow(&self, state: &mut Class, id: u32, class: usize, owner: u32) -> Result<u16, ArenaError> {
        let header = self.arena.header(id);
        let index = header.bump.load(Ordering::Relaxed);
        let needed = ((usize::from(index) + 1) * object_size(class)).div_ceil(PAGE_SIZE);
        if needed > header.populated() {
            self.populate(state, id, class, needed)?;
        }
        let word = self.backrefs.word(header.backrefs.load(Ordering::Relaxed), index);
        word.store(owner, Ordering::Relaxed);
        header.bump.store(index + 1, Ordering::Relaxed);
        header.in_use.store(header.in_use.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if index + 1 == header.capacity.load(Ordering::Relaxed) {
            self.relist(state, id, header);
        }
        Ok(index)
    }

    /// Memory for the first `needed` pages of a growing zspage, and a few more for a large class.
    #[cold]
    fn populate(&self, state: &mut Class, id: u32, class: usize, needed: usize) -> Result<(), ArenaError> {
        let header = self.arena.header(id);
        while needed > header.populated() {
            let before = header.populated();
            let extra = usize::try_from(state.populated_pages / PAGES_PER_EXTRA).unwrap_or(usize::MAX);
            let to = needed.saturating_add(extra).min(SHAPES[class].pages);
            // What is only convenient must not make a limit appear reached.
            match self.arena.populate(id, header.node(), to) {
                Err(_) if to > needed => self.arena.populate(id, header.node(), needed)?,
                result => result?,
            }
            state.populated_pages += (header.populated() - before) as u64;
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
            self.arena.retire_slot(slot);
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
        self.backrefs.word(header.backrefs.load(Ordering::Relaxed), 0).store(owner, Ordering::Relaxed);
        header.bump.store(1, Ordering::Relaxed);
        header.in_use.store(1, Ordering::Relaxed);
        self.relist(state, id, header);
        (id, 0)
    }

    /// Puts a zspage on the list that it belongs to.
    #[inline(always)]
    fn relist(&self, state: &mut Class, id: u32, header: &Zspage) {
        let (old, new) = (usize::from(header.list.load(Ordering::Relaxed)), list_of(header));
        if old == new {
            return;
        }
        let at = |id| self.arena.header(id);
        if old != FULL {
            state.lists[old].remove(id, at);
        }
        if new != FULL {
            state.lists[new].push(id, at);
        }
        header.list.store(new as u8, Ordering::Relaxed);
    }

    #[inline(always)]
    fn free(&self, raw: RawObject) {
        let header = self.arena.header(raw.zspage);
        let (node, class) = (header.node(), header.class());
        debug_assert_eq!(class, class_of(raw.len.into()));
        let mut state = lock(self.class(node, class));
        state.objects -= 1;
        state.object_bytes -= u64::from(raw.len);
        let in_use = header.in_use.load(Ordering::Relaxed) - 1;
        header.in_use.store(in_use, Ordering::Relaxed);
        let word = self.backrefs.word(header.backrefs.load(Ordering::Relaxed), raw.index);
        debug_assert!(word.load(Ordering::Relaxed) & FREE == 0, "object freed twice: {raw:?}");
        word.store(free_word(header.free.load(Ordering::Relaxed)), Ordering::Relaxed);
        header.free.store(raw.index, Ordering::Relaxed);
        if in_use != 0 {
            self.relist(&mut state, raw.zspage, header);
            return;
        }
        self.retire(state, raw.zspage, header, class);
    }

    /// Takes a zspage without objects from its class.
    fn retire(&self, mut state: MutexGuard<'_, Class>, id: u32, header: &Zspage, class: usize) {
        let list = usize::from(header.list.load(Ordering::Relaxed));
        if list != FULL {
            state.lists[list].remove(id, |id| self.arena.header(id));
        }
        state.zspages -= 1;
        state.populated_pages -= header.populated() as u64;
        drop(state);
        let home = usize::from(header.home.load(Ordering::Relaxed));
        self.backrefs.free(home, header.backrefs.load(Ordering::Relaxed), SHAPES[class].objects);
        self.arena.retire_slot(id);
    }

    /// Gives all memory that holds no object, and that no object was ever in, back to the kernel, and says how many
    /// pages that was: the stock of free slots, and the idle ends of zspages.
    pub(crate) fn release_warm(&self) -> u64 {
        let mut released = self.arena.release_stock();
        for node in &self.nodes {
            for (class, state) in node.classes.iter().enumerate() {
                let state = &mut *lock(state);
                for id in state.lists.iter().flat_map(|list| list.iter(|id| self.arena.header(id))) {
                    let (keep, populated) =
                        (used_pages(self.arena.header(id), class), self.arena.header(id).populated());
                    self.arena.release(id, keep);
                    state.populated_pages -= (populated - keep) as u64;
                    released += (populated - keep) as u64;
                }
            }
        }
        released
    }

    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    pub(crate) fn usage(&self, node: usize) -> NodeUsage {
        let mut usage = NodeUsage {
            pool_pages: self.arena.node_limit(node).used_pages(),
            warm_pages: self.arena.warm_pages(node),
            ..NodeUsage::default()
        };
        for (class, state) in self.nodes[node].classes.iter().enumerate() {
            let state = lock(state);
            for id in state.lists.iter().flat_map(|list| list.iter(|id| self.arena.header(id))) {
                let header = self.arena.header(id);
                usage.warm_pages += (header.populated() - used_pages(header, class)) as u64;
            }
            usage.objects += state.objects;
            usage.object_bytes += state.object_bytes;
            usage.zspages += state.zspages;
        }
        usage
    }

    /// Bytes of everything that is not memory of objects.
    pub(crate) fn metadata_bytes(&self) -> u64 {
        let classes = self.nodes.len() * CLASSES * size_of::<Mutex<Class>>();
        self.arena.metadata_bytes() + self.backrefs.bytes() + classes as u64
    }

    /// The entry that an object belongs to; for checks.
    pub(crate) fn owner(&self, raw: RawObject) -> u32 {
        let block = self.arena.header(raw.zspage).backrefs.load(Ordering::Relaxed);
        self.backrefs.word(block, raw.index).load(Ordering::Relaxed)
    }

    /// Proves that lists, headers, counts and the kernel agree, while nobody uses the pool.
    pub(crate) fn check(&self) -> Result<(), String> {
        let free: std::collections::HashMap<u32, usize> = self.arena.free_slots().into_iter().collect();
        let mut counted: Vec<Vec<Class>> =
            self.nodes.iter().map(|_| (0..CLASSES).map(|_| Class::default()).collect()).collect();
        let mut pages = vec![0u64; self.nodes.len()];
        for slot in self.arena.slots() {
            let header = self.arena.header(slot);
            pages[header.node()] += header.populated() as u64;
            if let Some(&populated) = free.get(&slot) {
                if header.populated() != populated {
                    return Err(format!(
                        "free slot {slot}: {} pages, listed as {populated}",
                        header.populated()
                    ));
                }
                continue;
            }
            let sum = &mut counted[header.node()][header.class()];
            sum.zspages += 1;
            sum.objects += u64::from(header.in_use.load(Ordering::Relaxed));
            sum.populated_pages += header.populated() as u64;
            self.check_zspage(slot)?;
        }
        for (node, classes) in counted.iter().enumerate() {
            let used = self.arena.node_limit(node).used_pages();
            if used != pages[node] {
                return Err(format!("node index {node}: {used} pages charged, {} populated", pages[node]));
            }
            for (class, sum) in classes.iter().enumerate() {
                let state = lock(self.class(node, class));
                let is = (state.zspages, state.objects, state.populated_pages);
                let found = (sum.zspages, sum.objects, sum.populated_pages);
                if is != found {
                    return Err(format!("node index {node}, class {class}: counts {is:?}, found {found:?}"));
                }
                for (number, list) in state.lists.iter().enumerate() {
                    for id in list.iter(|id| self.arena.header(id)) {
                        if list_of(self.arena.header(id)) != number {
                            return Err(format!("zspage {id} is on list {number} of class {class}"));
                        }
                    }
                }
            }
        }
        let charged = self.arena.pool_limit().used_pages();
        let resident = self.arena.resident_bytes().map_err(|error| format!("mincore: {error}"))?;
        if pages.iter().sum::<u64>() != charged || resident != charged * PAGE_SIZE as u64 {
            return Err(format!(
                "{charged} pages charged to the pool, {resident} bytes resident by the kernel"
            ));
        }
        Ok(())
    }

    fn check_zspage(&self, id: u32) -> Result<(), String> {
        let header = self.arena.header(id);
        let shape = &SHAPES[header.class()];
        let block = header.backrefs.load(Ordering::Relaxed);
        let bump = header.bump.load(Ordering::Relaxed);
        let (mut index, mut free) = (header.free.load(Ordering::Relaxed), 0);
        while index != NO_OBJECT {
            let word = self.backrefs.word(block, index).load(Ordering::Relaxed);
            if index >= bump || free >= bump || word & FREE == 0 {
                return Err(format!(
                    "zspage {id}: free list leads to object {index}, whose word is {word:#x}"
                ));
            }
            (index, free) = (next_free(word), free + 1);
        }
        let in_use = header.in_use.load(Ordering::Relaxed);
        if in_use + free != bump
            || header.populated() < used_pages(header, header.class())
            || header.populated() > shape.pages
        {
            return Err(format!(
                "zspage {id}: {in_use} in use and {free} free of {bump}, {} pages",
                header.populated()
            ));
        }
        Ok(())
    }
}

/// Pages of a zspage that objects ever reached.
fn used_pages(header: &Zspage, class: usize) -> usize {
    (usize::from(header.bump.load(Ordering::Relaxed)) * object_size(class)).div_ceil(PAGE_SIZE)
}

/// The list that a zspage with objects belongs to.
#[inline]
fn list_of(header: &Zspage) -> usize {
    let capacity = usize::from(header.capacity.load(Ordering::Relaxed));
    if header.free.load(Ordering::Relaxed) != NO_OBJECT {
        // In use is below capacity here, for one is free.
        usize::from(header.in_use.load(Ordering::Relaxed)) * FULLNESS_LISTS / capacity
    } else if usize::from(header.bump.load(Ordering::Relaxed)) < capacity {
        GROWING
    } else {
        FULL
    }
}

/// An object that nobody else knows. Dropping it frees it.
#[must_use]
pub(crate) struct Object<'p> {
    pool: &'p ZsPool,
    raw: RawObject,
}

impl Object<'_> {
    /// The object's name, by which it is kept in an entry. It is the keeper's to take it back and free it.
    #[inline]
    pub(crate) fn into_raw(self) -> RawObject {
        ManuallyDrop::new(self).raw
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the object is ours, and is freed only when dropped.
        unsafe { self.pool.bytes(self.raw) }
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        self.pool.free(self.raw);
    }
}
