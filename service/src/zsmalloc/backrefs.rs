//! One word for each object of each zspage.
//!
//! | word | meaning |
//! |---|---|
//! | an entry id | the entry that owns the object, published or about to be: its slot is the lock of both |
//! | [`FREE`] + next | free; the rest is the index of the next free object |
//!
//! The words of a zspage are a block of a multiple of 16 words, from lazily grown leaves; blocks are used again by
//! zspages of the same number of objects, or fewer.

use zfolio_accel::{NodeId, numa};

use crate::fail;
use crate::lazy_array::{LazyArray, OutOfMemory};
use crate::leaf::Leaf;
use crate::sync::{AtomicU32, Ordering};
use crate::zsmalloc::zspage::NO_OBJECT;

/// The mark of a free object's word.
pub(crate) const FREE: u32 = 1 << 31;

/// Words of a block's unit: a cache line.
const UNIT: usize = 16;
/// Units of the largest block: 2048 objects.
const MAX_UNITS: usize = 2048 / UNIT;

#[cfg(not(shuttle))]
type Words = LazyArray<AtomicU32, 18, 14>;
/// Shuttle's atomics are large.
#[cfg(shuttle)]
type Words = LazyArray<AtomicU32, 18, 12>;

/// The back-references of all zspages, and the free blocks of each node.
pub(crate) struct BackRefs {
    words: Words,
    nodes: Box<[Leaf<Blocks>]>,
    nids: Box<[NodeId]>,
    /// Leaves made so far.
    leaves: Leaf<usize>,
}

/// The free blocks of a node.
struct Blocks {
    /// The first free block of each number of units, linked by the blocks' first words; 0 is none, and block 0 is
    /// never given out.
    free: [u32; MAX_UNITS + 1],
    /// Units of the newest leaf that were never used: from `fresh` up to `end`.
    fresh: u32,
    end: u32,
}

fn units(objects: usize) -> usize {
    objects.div_ceil(UNIT)
}

impl BackRefs {
    pub(crate) fn new(nids: &[NodeId]) -> Result<BackRefs, OutOfMemory> {
        let blocks = |_: &NodeId| Leaf::new(Blocks { free: [0; MAX_UNITS + 1], fresh: 0, end: 0 });
        Ok(BackRefs {
            words: Words::new()?,
            nodes: nids.iter().map(blocks).collect(),
            nids: nids.into(),
            leaves: Leaf::new(0),
        })
    }

    /// The word of the `index`-th object of the zspage with this block.
    #[inline]
    pub(crate) fn word(&self, block: u32, index: u16) -> &AtomicU32 {
        self.words.at(block as usize * UNIT + usize::from(index))
    }

    /// Asks the CPU to bring a word near.
    #[inline(always)]
    pub(crate) fn prefetch(&self, block: u32, index: u16) {
        self.words.prefetch(block as usize * UNIT + usize::from(index));
    }

    /// A block for a zspage of `objects` objects, from memory of this node. Its words hold anything.
    pub(crate) fn alloc(&self, node: usize, objects: usize) -> Result<u32, OutOfMemory> {
        let units = units(objects);
        let mut blocks = self.nodes[node].lock();
        if let Some(block) = self.pop(&mut blocks, units) {
            return Ok(block);
        }
        if ((blocks.end - blocks.fresh) as usize) < units {
            // What is left of the leaf serves smaller zspages.
            let (rest, left) = (blocks.fresh, (blocks.end - blocks.fresh) as usize);
            let (first, end) = self.new_leaf(node)?;
            if left != 0 {
                self.push(&mut blocks, left, rest);
            }
            (blocks.fresh, blocks.end) = (first, end);
        }
        let block = blocks.fresh;
        blocks.fresh += u32::try_from(units).expect("at most 128");
        Ok(block)
    }

    /// Gives a block back.
    pub(crate) fn free(&self, node: usize, block: u32, objects: usize) {
        self.push(&mut self.nodes[node].lock(), units(objects), block);
    }

    /// A free block of these units, or one a little larger, whose rest becomes a block of its own.
    fn pop(&self, blocks: &mut Blocks, units: usize) -> Option<u32> {
        let found = (units..=MAX_UNITS).find(|&size| blocks.free[size] != 0)?;
        let block = blocks.free[found];
        blocks.free[found] = self.word(block, 0).load(Ordering::Relaxed);
        if found > units {
            self.push(blocks, found - units, block + u32::try_from(units).expect("at most 128"));
        }
        Some(block)
    }

    fn push(&self, blocks: &mut Blocks, units: usize, block: u32) {
        self.word(block, 0).store(blocks.free[units], Ordering::Relaxed);
        blocks.free[units] = block;
    }

    /// The units of a new leaf.
    fn new_leaf(&self, node: usize) -> Result<(u32, u32), OutOfMemory> {
        if fail::here() {
            return Err(OutOfMemory);
        }
        let mut leaves = self.leaves.lock();
        let first = *leaves * Words::LEAF_LEN;
        let make = || self.words.make_leaf(first).map(drop);
        if self.nids.len() > 1 { numa::with_preferred(self.nids[node], make) } else { make() }?;
        *leaves += 1;
        let unit = |word: usize| u32::try_from(word / UNIT).expect("2^32 words");
        // Block 0 means none.
        Ok((unit(first).max(1), unit(first + Words::LEAF_LEN)))
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.words.bytes() + size_of_val(&*self.nodes) as u64
    }
}

/// The word of a free object that is followed by `next` in the free list.
#[inline]
pub(crate) fn free_word(next: u16) -> u32 {
    FREE | u32::from(next)
}

/// The object that follows the free one with this word.
#[inline]
pub(crate) fn next_free(word: u32) -> u16 {
    debug_assert!(word & FREE != 0, "object in use on a free list: {word:#x}");
    (word & u32::from(NO_OBJECT)) as u16
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn blocks_never_overlap_and_are_used_again() {
        let backrefs = BackRefs::new(&[NodeId(0)]).unwrap();
        for round in 0..3u32 {
            let sizes = [16, 2048, 17, 40, 400, 2047, 1];
            let blocks: Vec<_> = (0..300)
                .map(|i| (sizes[i % sizes.len()], backrefs.alloc(0, sizes[i % sizes.len()]).unwrap()))
                .collect();
            for (owner, &(objects, block)) in blocks.iter().enumerate() {
                for index in 0..objects {
                    let word = backrefs.word(block, u16::try_from(index).unwrap());
                    word.store(u32::try_from(owner).unwrap() + 1000 * round, Ordering::Relaxed);
                }
            }
            for (owner, &(objects, block)) in blocks.iter().enumerate() {
                for index in 0..objects {
                    let word = backrefs.word(block, u16::try_from(index).unwrap()).load(Ordering::Relaxed);
                    assert_eq!(word, u32::try_from(owner).unwrap() + 1000 * round, "shared by two zspages");
                }
            }
            let bytes = backrefs.bytes();
            for &(objects, block) in blocks.iter().rev() {
                backrefs.free(0, block, objects);
            }
            if round > 0 {
                assert_eq!(backrefs.bytes(), bytes);
            }
        }
    }
}
