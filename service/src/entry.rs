//! What zswap keeps for one page: 32 bytes, named by a 30-bit id.
//!
//! All fields are relaxed atomics, so that this is safe code; which lock orders them is said below, and no field
//! belongs to two. The lock of the page's slot: everything but the links and flags, which the lock of the LRU list
//! that the entry is on (or is about to go on) has. While an entry is free its links belong to whoever has its chain. `offset` and `swap_type` do not change while listed.
//!
//! | codec byte | meaning of the object words |
//! |---|---|
//! | [`RAW`] | an object of the 4096 bytes of the page |
//! | [`SAME_FILLED`] | no object: the word that fills the page is in `zspage` and `crc`; on no LRU |
//! | a [`Codec`]'s number | an object of bytes in that codec |

use zfolio_accel::{Codec, NodeId, numa};

use crate::fail;
use crate::folio::{SwapEntry, TenantId};
use crate::lazy_array::{LazyArray, OutOfMemory};
use crate::leaf::Leaf;
use crate::sync::{AtomicU8, AtomicU16, AtomicU32, Ordering};
use crate::word::{EMPTY, MAX_ID, MIN_ID, is_entry};
use crate::zsmalloc::RawObject;

/// The codec byte of a page kept as it is.
pub(crate) const RAW: u8 = 0;
/// The codec byte of a page that one word fills.
pub(crate) const SAME_FILLED: u8 = 255;

/// Set while the entry is on an LRU list.
pub(crate) const LISTED: u8 = 1;
/// Set when the page was stored or read since the shrinker last came by.
pub(crate) const REFERENCED: u8 = 2;

/// The bits of the swap type in its byte.
const TYPE: u8 = 0x1f;
/// The bits beside them: see [`Entry::try_codec`].
const TRIED: u8 = 0x60;
const TRIED_SHIFT: u32 = 5;
/// The highest bit: see [`Entry::mark_writing`].
const WRITING: u8 = 0x80;

/// See the module.
#[derive(Default)]
pub(crate) struct Entry {
    pub(crate) prev: AtomicU32,
    pub(crate) next: AtomicU32,
    offset: AtomicU32,
    zspage: AtomicU32,
    /// Index in the zspage (11 bits), length (13 bits), codec (8 bits), from the lowest.
    object: AtomicU32,
    crc: AtomicU32,
    /// The index of the node of the page before it was stored, and of the slab that the entry is from.
    home: AtomicU16,
    tenant: AtomicU16,
    /// The store's clock when the page was stored or last read.
    tick: AtomicU16,
    pub(crate) flags: AtomicU8,
    /// And the marks of a write to the swap device and of recompression.
    swap_type: AtomicU8,
}

#[cfg(not(any(loom, shuttle)))]
const _: () = assert!(size_of::<Entry>() == 32);

impl Entry {
    /// Where the page belongs and whose it is.
    #[inline]
    pub(crate) fn set_owner(&self, entry: SwapEntry, home: usize, tenant: TenantId, tick: u16) {
        self.tick.store(tick, Ordering::Relaxed);
        self.offset.store(entry.offset(), Ordering::Relaxed);
        self.swap_type.store(entry.swap_type(), Ordering::Relaxed);
        self.home.store(home as u16, Ordering::Relaxed);
        self.tenant.store(tenant.0, Ordering::Relaxed);
        self.flags.store(0, Ordering::Relaxed);
    }

    pub(crate) fn swap_entry(&self) -> SwapEntry {
        SwapEntry::new(self.swap_type.load(Ordering::Relaxed) & TYPE, self.offset.load(Ordering::Relaxed))
    }

    /// Marks the entry as the one whose page is being written to the swap device. An entry that is freed and used again
    /// loses the mark by [`set_owner`](Entry::set_owner): so who finds it after the write knows that the page is
    /// the one that was written, though neither slot nor entry was held meanwhile. Under the lock of the slot.
    pub(crate) fn mark_writing(&self) {
        self.swap_type.store(self.swap_type.load(Ordering::Relaxed) | WRITING, Ordering::Relaxed);
    }

    /// True if the entry was marked and not used for another page since. Under the lock of the slot.
    pub(crate) fn is_writing(&self) -> bool {
        self.swap_type.load(Ordering::Relaxed) & WRITING != 0
    }

    /// True if the page was not the last time tried to be recompressed with this codec (lz4 and zstd count as one), which it
    /// is from now on. Under the lock of the slot.
    pub(crate) fn try_codec(&self, codec: Codec) -> bool {
        let byte = self.swap_type.load(Ordering::Relaxed);
        let tried = (1 + codec as u8 % 3) << TRIED_SHIFT;
        self.swap_type.store(byte & !TRIED | tried, Ordering::Relaxed);
        byte & TRIED != tried
    }

    /// Ticks of the store's clock since the page was stored or read. Under the lock of the slot.
    pub(crate) fn age(&self, now: u16) -> u16 {
        now.wrapping_sub(self.tick.load(Ordering::Relaxed))
    }

    /// The page was read now.
    #[inline]
    pub(crate) fn set_tick(&self, now: u16) {
        self.tick.store(now, Ordering::Relaxed);
    }

    /// The index of the node of the page before it was stored.
    #[inline]
    pub(crate) fn home(&self) -> usize {
        self.home.load(Ordering::Relaxed).into()
    }

    #[inline]
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId(self.tenant.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_object(&self, object: RawObject, codec: Option<Codec>, crc: u32) {
        let codec = codec.map_or(RAW, |codec| codec as u8);
        let packed = u32::from(object.index) | u32::from(object.len) << 11 | u32::from(codec) << 24;
        self.zspage.store(object.zspage, Ordering::Relaxed);
        self.object.store(packed, Ordering::Relaxed);
        self.crc.store(crc, Ordering::Relaxed);
    }

    pub(crate) fn set_same_filled(&self, word: u64) {
        let (high, low) = ((word >> 32) as u32, word as u32);
        self.zspage.store(high, Ordering::Relaxed);
        self.crc.store(low, Ordering::Relaxed);
        self.object.store(u32::from(SAME_FILLED) << 24, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn contents(&self) -> Contents {
        let packed = self.object.load(Ordering::Relaxed);
        let zspage = self.zspage.load(Ordering::Relaxed);
        let crc = self.crc.load(Ordering::Relaxed);
        let codec = (packed >> 24) as u8;
        if codec == SAME_FILLED {
            return Contents::SameFilled(u64::from(zspage) << 32 | u64::from(crc));
        }
        let object = RawObject {
            zspage,
            index: u16::try_from(packed & 0x7ff).expect("11 bits"),
            len: u16::try_from(packed >> 11 & 0x1fff).expect("13 bits"),
        };
        Contents::Object { object, codec: Codec::from_number(codec), crc }
    }
}

/// What an entry holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Contents {
    /// The page is this word over and over.
    SameFilled(u64),
    /// The page is in the pool; as it is, if there is no codec.
    Object { object: RawObject, codec: Option<Codec>, crc: u32 },
}

/// Entries of a leaf: 128 KiB.
#[cfg(not(any(loom, shuttle)))]
const CHUNK_BITS: u32 = 12;
/// Loom keeps account of every atomic.
#[cfg(loom)]
const CHUNK_BITS: u32 = 2;
/// Shuttle's atomics are large.
#[cfg(shuttle)]
const CHUNK_BITS: u32 = 6;
type Entries = LazyArray<Entry, 18, CHUNK_BITS>;

/// Entries that travel together between a magazine and its node.
const CHAIN: u32 = 64;

/// All entries, and the free ones of each node.
///
/// A free entry is linked by `next`. Free entries near at hand are in [`Magazines`], which live where a lock is held
/// anyway; full chains of them go to the depot of the node, whose stack is linked by `prev` of their first entries.
pub(crate) struct EntrySlab {
    entries: Entries,
    depots: Box<[Depot]>,
    /// Leaves made so far, over all nodes; each belongs to the node that made it.
    chunks: Leaf<u32>,
}

struct Depot {
    nid: NodeId,
    free: Leaf<DepotFree>,
}

#[derive(Default)]
struct DepotFree {
    /// The first entry of the first full chain.
    full: u32,
    /// Ids of the newest chunk that were never used: from `fresh` up to `end`.
    fresh: u32,
    end: u32,
}

/// Free entries, linked by `next`; the last one's link means nothing.
#[derive(Clone, Copy, Default)]
pub(crate) struct Chain {
    head: u32,
    len: u32,
}

impl Chain {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The first entry, taken off the chain.
    #[inline(always)]
    pub(crate) fn pop<'s>(&mut self, slab: &'s EntrySlab) -> Option<(u32, &'s Entry)> {
        self.len = self.len.checked_sub(1)?;
        let id = self.head;
        let entry = slab.at(id);
        self.head = entry.next.load(Ordering::Relaxed);
        // Whoever pops the next one finds its link at hand.
        slab.prefetch(self.head);
        Some((id, entry))
    }

    #[inline]
    pub(crate) fn push(&mut self, id: u32, entry: &Entry) {
        entry.next.store(self.head, Ordering::Relaxed);
        *self = Chain { head: id, len: self.len + 1 };
    }
}

/// Free entries of one node, under somebody's lock: two chains of at most [`CHAIN`] entries, so that neither taking
/// nor giving walks anything, and a pair of them at the border costs no trip to the depot.
#[derive(Default)]
pub(crate) struct Magazines([Chain; 2]);

impl Magazines {
    /// A free entry of the node with this index.
    #[cfg(test)]
    pub(crate) fn take<'s>(
        &mut self,
        slab: &'s EntrySlab,
        node: usize,
    ) -> Result<(u32, &'s Entry), OutOfMemory> {
        let mut chain = self.take_chain(slab, node)?;
        let taken = chain.pop(slab).ok_or(OutOfMemory)?;
        self.give_chain(slab, node, chain);
        Ok(taken)
    }

    /// Takes back an entry of the node with this index.
    #[inline(always)]
    pub(crate) fn give(&mut self, slab: &EntrySlab, node: usize, id: u32, entry: &Entry) {
        if self.0[0].len == CHAIN {
            self.0.swap(0, 1);
            if self.0[0].len == CHAIN {
                slab.give_chain(node, std::mem::take(&mut self.0[0]));
            }
        }
        self.0[0].push(id, entry);
    }

    /// All the entries of one chain, at least one.
    #[inline]
    pub(crate) fn take_chain(&mut self, slab: &EntrySlab, node: usize) -> Result<Chain, OutOfMemory> {
        if self.0[0].len == 0 {
            self.0.swap(0, 1);
            if self.0[0].len == 0 {
                return slab.take_chain(node);
            }
        }
        Ok(std::mem::take(&mut self.0[0]))
    }

    /// Takes back what is left of a chain.
    #[inline]
    pub(crate) fn give_chain(&mut self, slab: &EntrySlab, node: usize, mut chain: Chain) {
        if self.0[0].len == 0 {
            self.0[0] = chain;
            return;
        }
        while let Some((id, entry)) = chain.pop(slab) {
            self.give(slab, node, id, entry);
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|chain| u64::from(chain.len)).sum()
    }
}

impl EntrySlab {
    /// A slab for these nodes, which are named by their index from here on.
    pub(crate) fn new(nodes: &[NodeId]) -> Result<EntrySlab, OutOfMemory> {
        let depots = nodes.iter().map(|&nid| Depot { nid, free: Leaf::new(DepotFree::default()) }).collect();
        Ok(EntrySlab { entries: Entries::new()?, depots, chunks: Leaf::new(0) })
    }

    /// The entry of an id that was allocated.
    #[inline]
    pub(crate) fn at(&self, id: u32) -> &Entry {
        self.entries.at(id as usize)
    }

    /// The entry of what may be an id.
    pub(crate) fn get(&self, id: u32) -> Option<&Entry> {
        if is_entry(id) { self.entries.get(id as usize) } else { None }
    }

    /// Asks the CPU to bring an entry near.
    #[inline(always)]
    pub(crate) fn prefetch(&self, id: u32) {
        self.entries.prefetch(id as usize);
    }

    /// A full chain, or one of entries that were never used.
    #[cold]
    fn take_chain(&self, node: usize) -> Result<Chain, OutOfMemory> {
        let depot = &self.depots[node];
        let mut free = depot.free.lock();
        if free.full != EMPTY {
            let head = free.full;
            free.full = self.at(head).prev.load(Ordering::Relaxed);
            return Ok(Chain { head, len: CHAIN });
        }
        if free.fresh == free.end {
            (free.fresh, free.end) = self.new_chunk(depot.nid)?;
        }
        let first = free.fresh;
        let len = CHAIN.min(free.end - first);
        free.fresh += len;
        drop(free);
        for id in first..first + len {
            self.at(id).next.store(if id + 1 < first + len { id + 1 } else { EMPTY }, Ordering::Relaxed);
        }
        Ok(Chain { head: first, len })
    }

    #[cold]
    fn give_chain(&self, node: usize, chain: Chain) {
        debug_assert_eq!(chain.len, CHAIN);
        let mut free = self.depots[node].free.lock();
        self.at(chain.head).prev.store(free.full, Ordering::Relaxed);
        free.full = chain.head;
    }

    /// The ids of a new chunk of entries.
    fn new_chunk(&self, nid: NodeId) -> Result<(u32, u32), OutOfMemory> {
        if fail::here() {
            return Err(OutOfMemory);
        }
        let mut chunks = self.chunks.lock();
        let first = *chunks << CHUNK_BITS;
        let end = first.checked_add(1 << CHUNK_BITS).filter(|&end| end <= MAX_ID + 1).ok_or(OutOfMemory)?;
        if self.depots.len() > 1 {
            numa::with_preferred(nid, || self.entries.make_leaf(first as usize).map(drop))?;
        } else {
            self.entries.make_leaf(first as usize)?;
        }
        *chunks += 1;
        // The lowest and the highest ids stand for what has no entry.
        Ok((first.max(MIN_ID), end))
    }

    /// Entries that are neither in a depot nor never used: in use, or in magazines. Exact while nobody is at work.
    pub(crate) fn handed_out(&self) -> u64 {
        let chunks = *self.chunks.lock();
        let mut handed_out =
            (u64::from(chunks) << CHUNK_BITS) - if chunks == 0 { 0 } else { u64::from(MIN_ID) };
        for depot in &self.depots {
            let free = depot.free.lock();
            handed_out -= u64::from(free.end - free.fresh);
            let mut head = free.full;
            while head != EMPTY {
                handed_out -= u64::from(CHAIN);
                head = self.at(head).prev.load(Ordering::Relaxed);
            }
        }
        handed_out
    }

    /// Bytes of entries and depots.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.bytes() + size_of_val(&*self.depots) as u64
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_given_once_and_come_back() {
        let slab = EntrySlab::new(&[NodeId(0)]).unwrap();
        let mut magazines = Magazines::default();
        let take = |magazines: &mut Magazines| magazines.take(&slab, 0).unwrap().0;
        let mut ids: Vec<u32> = (0..10_000).map(|_| take(&mut magazines)).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert!(ids.iter().all(|&id| crate::word::is_entry(id)));
        assert_eq!(slab.handed_out() - magazines.len(), 10_000);
        let bytes = slab.bytes();
        for _ in 0..3 {
            for id in ids.drain(..) {
                magazines.give(&slab, 0, id, slab.at(id));
            }
            assert_eq!(slab.handed_out(), magazines.len());
            ids.extend((0..10_000).map(|_| take(&mut magazines)));
        }
        assert_eq!(slab.bytes(), bytes, "freed entries are used again before new memory is");
    }

    #[test]
    fn threads_never_share_an_entry() {
        let slab = EntrySlab::new(&[NodeId(0)]).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..3u32 {
                let slab = &slab;
                scope.spawn(move || {
                    let mut magazines = Magazines::default();
                    for round in 0..200 {
                        let ids: Vec<u32> =
                            (0..100 + round).map(|_| magazines.take(slab, 0).unwrap().0).collect();
                        ids.iter().for_each(|&id| slab.at(id).crc.store(thread, Ordering::Relaxed));
                        for id in ids {
                            assert_eq!(slab.at(id).crc.load(Ordering::Relaxed), thread, "entry {id}");
                            magazines.give(slab, 0, id, slab.at(id));
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn every_field_comes_back_as_it_went_in() {
        let entry = Entry::default();
        for (index, len) in [(0, 1), (2047, 4096), (1, 4095)] {
            let object = RawObject { zspage: u32::MAX - 7, index, len };
            entry.set_object(object, Some(Codec::Deflate), 0xdead_beef);
            let Contents::Object { object: back, codec, crc } = entry.contents() else { panic!() };
            assert_eq!((back, codec, crc), (object, Some(Codec::Deflate), 0xdead_beef));
        }
        entry.set_same_filled(0x0123_4567_89ab_cdef);
        assert!(matches!(entry.contents(), Contents::SameFilled(0x0123_4567_89ab_cdef)));
        entry.set_owner(SwapEntry::new(31, u32::MAX), 1023, TenantId(65535), 7);
        assert_eq!(entry.swap_entry(), SwapEntry::new(31, u32::MAX));
        assert_eq!((entry.home(), entry.tenant()), (1023, TenantId(65535)));
    }
}
