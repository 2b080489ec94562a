//! Objects: bytes of up to a page in a zspage of their size class.
//!
//! Memory that a class already has is used before new memory is taken: freed objects first, of the fullest zspages
//! first, then the next object of a growing zspage, and last a new zspage.
//!
//! Each class has half a page idle, on average, and in a small pool that weighs more than wasted bytes of objects. So
//! every second class has no zspages of its own until the next larger one, which takes its objects meanwhile, has grown
//! to [`FINE_FROM_PAGES`]. The size of an object is therefore its zspage's, not what its length says.
//!
//! Each class of each node has a short lock of its own.

#![allow(unsafe_code)]

mod check;
mod compact;
mod grow;
mod release;
mod stray;

use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::AtomicBool;

use zfolio_accel::{NodeId, PAGE_SIZE};

use crate::lazy_array::OutOfMemory;
use crate::leaf::{Leaf, LeafGuard};
use crate::sync::{AtomicU32, Ordering};
use crate::zsmalloc::arena::{Arena, ArenaConfig, ArenaError};
use crate::zsmalloc::backrefs::{BackRefs, FREE, free_word, next_free};
use crate::zsmalloc::class::{CLASS_STEP, CLASSES, class_of, object_size};
use crate::zsmalloc::homes::Homes;
use crate::zsmalloc::zspage::{Closed, NIL, NO_OBJECT, Zspage, ZspageList};

pub(crate) use compact::Compaction;
pub(crate) use release::Release;

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
/// Not on a list: every object is in use, or the zspage is closed.
const FULL: usize = FULLNESS_LISTS + 1;

/// Pages of a class for each page that it takes beyond what the next object needs. So a large class asks the kernel
/// less often, and no class has more than 1/256 of its memory idle that way.
const PAGES_PER_EXTRA: u64 = 256;

/// A class of so many pages is worth splitting in two: 16 bytes of each object of the smaller half are then more than
/// the half page that one more class has idle.
const FINE_FROM_PAGES: u64 = 100;

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
    /// Objects that may go there before the node is asked again.
    until_asked: usize,
}

/// Compressed pages of all nodes.
pub(crate) struct ZsPool {
    arena: Arena,
    backrefs: BackRefs,
    nodes: Box<[NodeClasses]>,
    homes: Homes,
}

struct NodeClasses {
    classes: Box<[Leaf<Class>]>,
    /// Which classes have zspages of their own. Those whose size is a multiple of 32 always do.
    fine: Box<[AtomicBool]>,
    /// The class that compaction goes on with.
    compact_next: AtomicU32,
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
    pub(crate) fn new(config: ArenaConfig<'_>, homes: Homes) -> Result<ZsPool, OutOfMemory> {
        let nids: Vec<NodeId> = config.nodes.to_vec();
        let classes = |_: &NodeId| NodeClasses {
            classes: (0..CLASSES).map(|_| Leaf::default()).collect(),
            fine: (0..CLASSES).map(|class| AtomicBool::new(is_coarse(class))).collect(),
            compact_next: AtomicU32::new(0),
        };
        Ok(ZsPool {
            arena: Arena::new(config)?,
            backrefs: BackRefs::new(&nids)?,
            nodes: nids.iter().map(classes).collect(),
            homes,
        })
    }

    /// The object of `bytes`, 1 to 4096 of them, of a page of this node: on it, or on another that such pages may be on. It
    /// belongs to the entry `owner`, whose slot the caller holds.
    ///
    /// When a limit or the end of the node's memory is in the way, warm memory is given back first.
    #[inline(always)]
    pub(crate) fn store(&self, bytes: &[u8], node: usize, owner: u32) -> Result<Object<'_>, ArenaError> {
        let class = self.class_for(bytes.len(), node);
        let (zspage, index) = match self.alloc(class, bytes.len(), node, owner) {
            Ok(place) => place,
            Err(ArenaError::PoolLimit | ArenaError::NodeLimit(_)) if self.release_warm() > 0 => {
                self.alloc(class, bytes.len(), node, owner)?
            }
            Err(ArenaError::Elsewhere) if self.release_warm_of(node) > 0 => {
                self.alloc(class, bytes.len(), node, owner)?
            }
            Err(error) => return Err(error),
        };
        Ok(self.fill((zspage, index), bytes))
    }

    /// The same on this node and no other: in memory that is at hand there, or in new memory if it may grow.
    pub(crate) fn store_on(&self, bytes: &[u8], node: usize, owner: u32, grow: bool) -> Option<Object<'_>> {
        let class = self.class_for(bytes.len(), node);
        let mut found = self.take_at_hand_of(node, class, owner);
        if found.is_none() && grow {
            found = self.alloc_on(class, node, owner);
        }
        let (mut state, place) = found?;
        state.objects += 1;
        state.object_bytes += bytes.len() as u64;
        drop(state);
        Some(self.fill(place, bytes))
    }

    /// Copies the bytes into an object that was just taken.
    #[inline(always)]
    fn fill(&self, (zspage, index): (u32, u16), bytes: &[u8]) -> Object<'_> {
        let len = bytes.len() as u16;
        let object = Object { pool: self, raw: RawObject { zspage, index, len } };
        // SAFETY: the object was free until now, is ours alone, and has room for a class's worth of bytes, which
        // are populated. `bytes` cannot overlap it: no reference to a free object exists.
        unsafe {
            ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.address(self.header(object.raw), object.raw),
                bytes.len(),
            )
        };
        object
    }

    /// The header of an object's zspage, for those who look at it more than once.
    #[inline(always)]
    pub(crate) fn header(&self, raw: RawObject) -> &Zspage {
        self.arena.header(raw.zspage)
    }

    /// The first byte of an object of the zspage with this header.
    #[inline(always)]
    fn address(&self, header: &Zspage, raw: RawObject) -> *mut u8 {
        let offset = usize::from(raw.index) * object_size(header.class());
        self.arena.address(raw.zspage).as_ptr().wrapping_add(offset)
    }

    /// The bytes of an object, of the zspage with this header.
    ///
    /// # Safety
    /// `raw` names an object of this pool that is neither freed nor moved as long as the bytes are borrowed, and
    /// `header` is what [`header`](ZsPool::header) says of it.
    #[inline(always)]
    pub(crate) unsafe fn bytes(&self, header: &Zspage, raw: RawObject) -> &[u8] {
        // SAFETY: the object's `len` bytes were written by `store`, lie in populated memory, and are not written
        // again while it lives, which the caller vouches for.
        unsafe { std::slice::from_raw_parts(self.address(header, raw), raw.len.into()) }
    }

    /// Asks the CPU to bring near what freeing the object will change, beside the header.
    #[inline(always)]
    pub(crate) fn prefetch_free(&self, header: &Zspage, raw: RawObject) {
        self.backrefs.prefetch(header.backrefs.load(Ordering::Relaxed), raw.index);
    }

    /// Frees an object by its name and the header of its zspage.
    ///
    /// # Safety
    /// `raw` came from [`Object::into_raw`] of this pool, and was not freed since; nobody borrows its bytes; `header` is
    /// what [`header`](ZsPool::header) says of it.
    #[inline(always)]
    pub(crate) unsafe fn free_raw(&self, header: &Zspage, raw: RawObject) {
        self.free(header, raw);
    }

    /// The same, and memory that is empty then goes back to the kernel with what was collected before: how many pages.
    ///
    /// # Safety
    /// As [`free_raw`](ZsPool::free_raw).
    pub(crate) unsafe fn free_and_release(
        &self,
        header: &Zspage,
        raw: RawObject,
        release: &mut Release<'_>,
    ) -> u64 {
        let (node, class) = (header.node(), header.class());
        self.free_locked(self.class(node, class).lock(), raw, header, class)
            .map_or(0, |state| release.add_slot(self.unlist_zspage(state, raw.zspage, header, class)))
    }

    /// The index of the node that the object's memory is on.
    #[inline]
    pub(crate) fn node_of(&self, raw: RawObject) -> usize {
        if self.nodes.len() == 1 { 0 } else { self.arena.header(raw.zspage).node() }
    }

    #[inline]
    fn class(&self, node: usize, class: usize) -> &Leaf<Class> {
        &self.nodes[node].classes[class]
    }

    /// The class that objects of this length go to.
    #[inline(always)]
    fn class_for(&self, len: usize, node: usize) -> usize {
        let class = class_of(len);
        if self.nodes[node].fine[class].load(Ordering::Relaxed) { class } else { class + 1 }
    }

    #[inline(always)]
    fn alloc(&self, class: usize, len: usize, node: usize, owner: u32) -> Result<(u32, u16), ArenaError> {
        let mut state = self.class(node, class).lock();
        let place = match self.take_at_hand(&mut state, class, owner) {
            Some(place) => place,
            None => {
                let place;
                (state, place) = self.alloc_more(state, class, node, owner)?;
                place
            }
        };
        state.objects += 1;
        state.object_bytes += len as u64;
        Ok(place)
    }

    /// An object in memory that the class has already.
    #[inline(always)]
    fn take_at_hand(&self, state: &mut Class, class: usize, owner: u32) -> Option<(u32, u16)> {
        if let Some(place) = self.take_freed(state, owner) {
            return Some(place);
        }
        let id = state.lists[GROWING].0;
        if id == NIL {
            return None;
        }
        let header = self.arena.header(id);
        let reached = (usize::from(header.bump.load(Ordering::Relaxed)) + 1) * object_size(class);
        (reached <= header.populated() * PAGE_SIZE).then(|| (id, self.take_next(state, id, header, owner)))
    }

    /// A freed object, of the fullest zspage that has one.
    #[inline(always)]
    fn take_freed(&self, state: &mut Class, owner: u32) -> Option<(u32, u16)> {
        let id = state.lists[..FULLNESS_LISTS].iter().rev().map(|list| list.0).find(|&id| id != NIL)?;
        Some((id, self.take_free_of(state, id, self.arena.header(id), owner)))
    }

    /// A freed object of a zspage that has one.
    #[inline(always)]
    fn take_free_of(&self, state: &mut Class, id: u32, header: &Zspage, owner: u32) -> u16 {
        let index = header.free.load(Ordering::Relaxed);
        let word = self.backrefs.word(header.backrefs.load(Ordering::Relaxed), index);
        let (free, in_use) =
            (next_free(word.load(Ordering::Relaxed)), header.in_use.load(Ordering::Relaxed) + 1);
        header.free.store(free, Ordering::Relaxed);
        word.store(owner, Ordering::Relaxed);
        header.in_use.store(in_use, Ordering::Relaxed);
        if free == NO_OBJECT || in_use > header.stays_to.load(Ordering::Relaxed) {
            self.relist(state, id, header);
        }
        index
    }

    /// The next object of a zspage that has no freed ones, is not at its end, and has memory for it.
    #[inline(always)]
    fn take_next(&self, state: &mut Class, id: u32, header: &Zspage, owner: u32) -> u16 {
        let index = header.bump.load(Ordering::Relaxed);
        let word = self.backrefs.word(header.backrefs.load(Ordering::Relaxed), index);
        word.store(owner, Ordering::Relaxed);
        header.bump.store(index + 1, Ordering::Relaxed);
        header.in_use.store(header.in_use.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        if index + 1 == header.capacity.load(Ordering::Relaxed) {
            self.relist(state, id, header);
        }
        index
    }

    /// Puts a zspage on the list that it belongs to.
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
        let (from, to) = stays(new, header.capacity.load(Ordering::Relaxed));
        header.stays_from.store(from, Ordering::Relaxed);
        header.stays_to.store(to, Ordering::Relaxed);
    }

    #[inline(always)]
    fn free(&self, header: &Zspage, raw: RawObject) {
        let (node, class) = (header.node(), header.class());
        if let Some(state) = self.free_locked(self.class(node, class).lock(), raw, header, class) {
            self.retire(state, raw.zspage, header, class);
        }
    }

    /// Frees an object. If it was the last one of its zspage, the locked class comes back, and the caller is to take the zspage
    /// from it.
    #[inline(always)]
    fn free_locked<'p>(
        &'p self,
        mut state: LeafGuard<'p, Class>,
        raw: RawObject,
        header: &Zspage,
        class: usize,
    ) -> Option<LeafGuard<'p, Class>> {
        debug_assert!(object_size(class) >= raw.len.into(), "{raw:?} in class {class}");
        state.objects -= 1;
        state.object_bytes -= u64::from(raw.len);
        let in_use = header.in_use.load(Ordering::Relaxed) - 1;
        header.in_use.store(in_use, Ordering::Relaxed);
        let word = self.backrefs.word(header.backrefs.load(Ordering::Relaxed), raw.index);
        debug_assert!(word.load(Ordering::Relaxed) & FREE == 0, "object freed twice: {raw:?}");
        word.store(free_word(header.free.load(Ordering::Relaxed)), Ordering::Relaxed);
        header.free.store(raw.index, Ordering::Relaxed);
        if in_use >= header.stays_from.load(Ordering::Relaxed) {
            return None;
        }
        if in_use != 0 {
            self.relist(&mut state, raw.zspage, header);
            return None;
        }
        // Else whoever releases its end retires it.
        (!header.is_closed(Closed::Releasing)).then_some(state)
    }

    pub(crate) fn homes(&self) -> &Homes {
        &self.homes
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
            let state = state.lock();
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
        let classes = self.nodes.len() * CLASSES * (size_of::<Leaf<Class>>() + size_of::<AtomicBool>());
        self.arena.metadata_bytes() + self.backrefs.bytes() + classes as u64
    }
}

/// True for the classes that take the objects of the next smaller one while they are small.
const fn is_coarse(class: usize) -> bool {
    object_size(class).is_multiple_of(2 * CLASS_STEP)
}

/// Pages of a zspage that objects ever reached.
fn used_pages(header: &Zspage, class: usize) -> usize {
    (usize::from(header.bump.load(Ordering::Relaxed)) * object_size(class)).div_ceil(PAGE_SIZE)
}

/// The list that a zspage with objects belongs to.
#[inline]
fn list_of(header: &Zspage) -> usize {
    let capacity = usize::from(header.capacity.load(Ordering::Relaxed));
    if !header.is_open() {
        FULL
    } else if header.free.load(Ordering::Relaxed) != NO_OBJECT {
        // In use is below capacity here, for one is free.
        usize::from(header.in_use.load(Ordering::Relaxed)) * FULLNESS_LISTS / capacity
    } else if usize::from(header.bump.load(Ordering::Relaxed)) < capacity {
        GROWING
    } else {
        FULL
    }
}

/// From how many objects in use to how many a zspage with freed ones stays on this list. Not at all on the lists of those
/// that have none: the next object that is freed takes it off them. And without objects in use it is on no list.
fn stays(list: usize, capacity: u16) -> (u16, u16) {
    if list >= FULLNESS_LISTS {
        return (u16::MAX, 0);
    }
    let first = |list: usize| (usize::from(capacity) * list).div_ceil(FULLNESS_LISTS);
    ((first(list) as u16).max(1), (first(list + 1) - 1) as u16)
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
        unsafe { self.pool.bytes(self.pool.header(self.raw), self.raw) }
    }

    #[cfg(test)]
    pub(crate) fn free_and_release(self, release: &mut Release<'_>) {
        let (pool, raw) = (self.pool, self.into_raw());
        // SAFETY: the object is the caller's alone, and is not dropped any more.
        unsafe { pool.free_and_release(pool.header(raw), raw, release) };
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        self.pool.free(self.pool.header(self.raw), self.raw);
    }
}
