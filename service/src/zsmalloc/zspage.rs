//! The header of a zspage: 32 bytes of relaxed atomics.
//!
//! While the zspage has objects, its header belongs to the lock of its class on its node; `node` and `class` do not
//! change in that time, so the holder of an object may read them. Otherwise it belongs to the lock of the arena
//! whose slot it is.

use crate::sync::{AtomicU8, AtomicU16, AtomicU32, Ordering};

/// No zspage, no object.
pub(crate) const NIL: u32 = u32::MAX;
/// The end of a free list of objects.
pub(crate) const NO_OBJECT: u16 = u16::MAX;

/// See the module.
#[derive(Default)]
pub(crate) struct Zspage {
    pub(crate) prev: AtomicU32,
    pub(crate) next: AtomicU32,
    /// Where its back-references are.
    pub(crate) backrefs: AtomicU32,
    /// The index of the node its memory is on.
    pub(crate) node: AtomicU16,
    /// The index of the node whose arena the slot belongs to.
    pub(crate) home: AtomicU16,
    pub(crate) in_use: AtomicU16,
    /// Objects it can have: fewer than its shape says once the kernel gave memory of another node.
    pub(crate) capacity: AtomicU16,
    /// Objects that were ever used; those from here on are free.
    pub(crate) bump: AtomicU16,
    /// The first free object below `bump`.
    pub(crate) free: AtomicU16,
    pub(crate) class: AtomicU8,
    /// Pages with memory, from the first on.
    pub(crate) populated: AtomicU8,
    /// The list of its class that it is on.
    pub(crate) list: AtomicU8,
    /// Why nothing is put into it, by [`Closed`]: 0 if it is open.
    closed: AtomicU8,
    /// It stays on its list as long as it has freed objects and so many in use: at least ..
    pub(crate) stays_from: AtomicU16,
    /// .. and at most.
    pub(crate) stays_to: AtomicU16,
}

/// Why nothing may be put into a zspage.
#[derive(Clone, Copy)]
pub(crate) enum Closed {
    /// The kernel has moved memory of it to another node than `node`.
    Strayed = 1,
    /// Memory of it is on its way back to the kernel. It stays a zspage until that is done, also without objects.
    Releasing = 2,
}

const _: () = assert!(size_of::<Zspage>() <= 32 || cfg!(any(loom, shuttle)));

impl Zspage {
    #[inline]
    pub(crate) fn class(&self) -> usize {
        self.class.load(Ordering::Relaxed).into()
    }

    #[inline]
    pub(crate) fn node(&self) -> usize {
        self.node.load(Ordering::Relaxed).into()
    }

    /// The index of the node whose arena the slot belongs to.
    pub(crate) fn home(&self) -> usize {
        self.home.load(Ordering::Relaxed).into()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.closed.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn has_strayed(&self) -> bool {
        self.is_closed(Closed::Strayed)
    }

    pub(crate) fn is_closed(&self, why: Closed) -> bool {
        self.closed.load(Ordering::Relaxed) & why as u8 != 0
    }

    pub(crate) fn set_closed(&self, why: Closed, closed: bool) {
        let others = self.closed.load(Ordering::Relaxed) & !(why as u8);
        self.closed.store(others | if closed { why as u8 } else { 0 }, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) {
        self.closed.store(0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn populated(&self) -> usize {
        self.populated.load(Ordering::Relaxed).into()
    }
}

/// A list of zspages, linked by their headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZspageList(pub(crate) u32);

impl Default for ZspageList {
    fn default() -> ZspageList {
        ZspageList(NIL)
    }
}

impl ZspageList {
    #[inline]
    pub(crate) fn push<'a>(&mut self, id: u32, at: impl Fn(u32) -> &'a Zspage) {
        at(id).prev.store(NIL, Ordering::Relaxed);
        at(id).next.store(self.0, Ordering::Relaxed);
        if self.0 != NIL {
            at(self.0).prev.store(id, Ordering::Relaxed);
        }
        self.0 = id;
    }

    #[inline]
    pub(crate) fn remove<'a>(&mut self, id: u32, at: impl Fn(u32) -> &'a Zspage) {
        let (prev, next) = (at(id).prev.load(Ordering::Relaxed), at(id).next.load(Ordering::Relaxed));
        match prev {
            NIL => self.0 = next,
            prev => at(prev).next.store(next, Ordering::Relaxed),
        }
        if next != NIL {
            at(next).prev.store(prev, Ordering::Relaxed);
        }
    }

    /// The first of the list, taken off it.
    pub(crate) fn pop<'a>(&mut self, at: impl Fn(u32) -> &'a Zspage) -> Option<u32> {
        let id = self.0;
        (id != NIL).then(|| {
            self.remove(id, at);
            id
        })
    }

    /// All of the list, from the first on.
    pub(crate) fn iter<'a, F: Fn(u32) -> &'a Zspage>(&self, at: F) -> impl Iterator<Item = u32> + use<'a, F> {
        let mut next = self.0;
        std::iter::from_fn(move || {
            let id = next;
            (id != NIL).then(|| {
                next = at(id).next.load(Ordering::Relaxed);
                id
            })
        })
    }
}
