//! An array of a fixed, large number of elements whose memory comes as it is used.
//!
//! Two levels: a root of pointers, whose own memory the kernel gives page by page as it is touched, and leaves of
//! `2^LEAF_BITS` elements, allocated when first needed and freed with the array. So an element, once there, stays
//! where it is, and is found without any lock by two loads. The tree of swap slots, the entries, the headers of
//! zspages and their back-references all live in such arrays, and every store and load looks at each of them a few
//! times; that is what the unsafe blocks here are for.

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::fail;

/// Memory that the allocator did not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

/// See the module. Dropping it frees all leaves.
pub(crate) struct LazyArray<T, const ROOT_BITS: u32, const LEAF_BITS: u32> {
    /// `2^ROOT_BITS` pointers, each null or to the first element of a leaf that this array owns. A pointer is set
    /// once.
    root: NonNull<AtomicPtr<T>>,
    leaves: AtomicU64,
    _owns: PhantomData<T>,
}

// SAFETY: it owns its elements, as a `Vec<T>` does.
unsafe impl<T: Send, const ROOT_BITS: u32, const LEAF_BITS: u32> Send for LazyArray<T, ROOT_BITS, LEAF_BITS> {}
// SAFETY: through `&self` it gives `&T` only, and moves a leaf of `T` in, from whatever thread; the pointers to
// leaves are published with release and read with acquire.
unsafe impl<T: Send + Sync, const ROOT_BITS: u32, const LEAF_BITS: u32> Sync
    for LazyArray<T, ROOT_BITS, LEAF_BITS>
{
}

impl<T: Default, const ROOT_BITS: u32, const LEAF_BITS: u32> LazyArray<T, ROOT_BITS, LEAF_BITS> {
    /// Elements of a leaf.
    pub(crate) const LEAF_LEN: usize = 1 << LEAF_BITS;
    /// Elements of the whole array; an index is below it.
    pub(crate) const LEN: usize = 1 << (ROOT_BITS + LEAF_BITS);
    const ROOT_LEN: usize = 1 << ROOT_BITS;

    /// An array without leaves; only address space is taken.
    pub(crate) fn new() -> Result<Self, OutOfMemory> {
        if fail::here() {
            return Err(OutOfMemory);
        }
        // From the kernel itself: an allocator that has freed memory of this size before may use it again, and
        // clears, and so touches, all of it then.
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        let len = root_layout::<T>(ROOT_BITS).size();
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let root = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if root == libc::MAP_FAILED {
            return Err(OutOfMemory);
        }
        // SAFETY: the range is the mapping just made. A kernel without huge pages refuses, which is as good.
        unsafe { libc::madvise(root, len, libc::MADV_NOHUGEPAGE) };
        // Zeroed memory is an array of null pointers.
        let root = NonNull::new(root.cast()).expect("mmap does not map address 0");
        Ok(LazyArray { root, leaves: AtomicU64::new(0), _owns: PhantomData })
    }

    fn root(&self) -> &[AtomicPtr<T>] {
        // SAFETY: `root` was allocated and initialised with this length, and is freed by drop only.
        unsafe { std::slice::from_raw_parts(self.root.as_ptr(), Self::ROOT_LEN) }
    }

    /// The leaf that holds `index`, if it is there.
    #[inline]
    pub(crate) fn leaf(&self, index: usize) -> Option<&[T]> {
        // Acquire pairs with the release that published the leaf: its elements are visible too.
        debug_assert!(index < Self::LEN, "{index}");
        // The mask spares the bounds check: callers keep below `LEN`.
        let leaf = self.root()[(index >> LEAF_BITS) & (Self::ROOT_LEN - 1)].load(Ordering::Acquire);
        // SAFETY: a pointer in the root is null or to a whole leaf that lives as long as the array, which `&self`
        // borrows.
        (!leaf.is_null()).then(|| unsafe { std::slice::from_raw_parts(leaf, Self::LEAF_LEN) })
    }

    /// The element, if its leaf is there.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        Some(&self.leaf(index)?[index & (Self::LEAF_LEN - 1)])
    }

    /// The element, whose leaf must be there.
    #[inline]
    pub(crate) fn at(&self, index: usize) -> &T {
        self.get(index).expect("the leaf of a used element is there")
    }

    /// Asks the CPU to bring the element near, if its leaf is there, while it does other things.
    #[inline(always)]
    pub(crate) fn prefetch(&self, index: usize) {
        let leaf = self.root()[(index >> LEAF_BITS) & (Self::ROOT_LEN - 1)].load(Ordering::Relaxed);
        let element = leaf.wrapping_add(index & (Self::LEAF_LEN - 1));
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch changes nothing and faults nowhere, not even at no address, and SSE is part of x86-64.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(element.cast());
        };
        #[cfg(not(target_arch = "x86_64"))]
        let _ = element;
    }

    /// The leaf that holds `index`, made if need be. An index beyond the array is `OutOfMemory` too.
    pub(crate) fn make_leaf(&self, index: usize) -> Result<&[T], OutOfMemory> {
        if index >= Self::LEN {
            return Err(OutOfMemory);
        }
        let cell = &self.root()[index >> LEAF_BITS];
        if let Some(leaf) = self.leaf(index) {
            return Ok(leaf);
        }
        if fail::here() {
            return Err(OutOfMemory);
        }
        let mut elements = Vec::new();
        elements.try_reserve_exact(Self::LEAF_LEN).map_err(|_| OutOfMemory)?;
        elements.resize_with(Self::LEAF_LEN, T::default);
        let made = Box::into_raw(elements.into_boxed_slice());
        // Counted before it can be found: `leaves` must not stop short of it.
        self.leaves.fetch_add(1, Ordering::SeqCst);
        // Release: who finds the leaf finds its elements initialised.
        let won = cell.compare_exchange(ptr::null_mut(), made.cast(), Ordering::Release, Ordering::Relaxed);
        if won.is_err() {
            self.leaves.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: another thread's leaf is there already; this one came from a box and nobody has seen it.
            drop(unsafe { Box::from_raw(made) });
        }
        Ok(self.leaf(index).expect("there by now, ours or another thread's"))
    }

    /// All leaves that are there, with the index of their first element.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (usize, &[T])> {
        // Untouched pages of a long root must stay untouched: it stops at the last leaf.
        let leaves = usize::try_from(self.leaves.load(Ordering::SeqCst)).expect("as many as pointers");
        let there = (0..Self::ROOT_LEN).filter_map(|number| {
            let first = number << LEAF_BITS;
            Some((first, self.leaf(first)?))
        });
        there.take(leaves)
    }

    /// Bytes of the leaves and of their pointers.
    pub(crate) fn bytes(&self) -> u64 {
        let leaf_bytes = Self::LEAF_LEN * size_of::<T>() + size_of::<AtomicPtr<T>>();
        self.leaves.load(Ordering::Relaxed) * leaf_bytes as u64
    }
}

impl<T, const ROOT_BITS: u32, const LEAF_BITS: u32> Drop for LazyArray<T, ROOT_BITS, LEAF_BITS> {
    fn drop(&mut self) {
        // Leaves were made from the lowest index on or not; most roots are short, and untouched pages of a long one
        // must stay untouched: so it stops at the last leaf.
        let mut left = *self.leaves.get_mut();
        let mut number = 0;
        while left > 0 {
            // SAFETY: `number` is below the root's length: as many leaves are left as pointers that are not null.
            let leaf = unsafe { *self.root.add(number).as_mut().get_mut() };
            if !leaf.is_null() {
                // SAFETY: the leaf came from a boxed slice of this length, and nothing borrows the array any more.
                drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(leaf, 1 << LEAF_BITS)) });
                left -= 1;
            }
            number += 1;
        }
        // SAFETY: mapped by `new` with this length, and nothing borrows it any more.
        unsafe { libc::munmap(self.root.as_ptr().cast(), root_layout::<T>(ROOT_BITS).size()) };
    }
}

fn root_layout<T>(root_bits: u32) -> Layout {
    Layout::array::<AtomicPtr<T>>(1 << root_bits).expect("a few MiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    type Small = LazyArray<AtomicU32, 4, 3>;

    #[test]
    fn elements_are_absent_until_their_leaf_is_made_and_stay_where_they_are() {
        let array = Small::new().unwrap();
        assert!(array.get(77).is_none());
        let leaf = array.make_leaf(77).unwrap();
        leaf[77 & 7].store(5, Ordering::Relaxed);
        let at = std::ptr::from_ref(array.at(77));
        for index in 0..128 {
            array.make_leaf(index).unwrap();
        }
        assert_eq!(array.at(77).load(Ordering::Relaxed), 5);
        assert_eq!(at, std::ptr::from_ref(array.at(77)));
        assert_eq!(array.leaves().count(), 16);
        assert!(array.leaves().all(|(first, leaf)| leaf.len() == 8 && first % 8 == 0));
    }

    #[test]
    fn index_beyond_the_array_is_refused() {
        let array = Small::new().unwrap();
        assert_eq!(array.make_leaf(128).err(), Some(OutOfMemory));
    }

    #[test]
    fn failed_allocation_leaves_no_leaf_behind() {
        let array = Small::new().unwrap();
        let (result, reached) = fail::with_failure_at(1, || array.make_leaf(3).map(<[_]>::len));
        assert_eq!((result, reached), (Err(OutOfMemory), true));
        assert!(array.get(3).is_none());
        assert_eq!(array.make_leaf(3).map(<[_]>::len), Ok(8));
    }

    #[test]
    fn threads_that_race_for_a_leaf_use_the_same_one_and_every_element_is_dropped_once() {
        struct Counted(Arc<()>);
        impl Default for Counted {
            fn default() -> Counted {
                Counted(COUNT.with(Arc::clone))
            }
        }
        thread_local! {
            static COUNT: Arc<()> = Arc::new(());
        }
        for _ in 0..200 {
            let array = LazyArray::<Counted, 4, 3>::new().unwrap();
            let counts: Vec<Arc<()>> = std::thread::scope(|scope| {
                let make = || {
                    let leaf = array.make_leaf(60).unwrap();
                    (leaf.as_ptr().addr(), COUNT.with(Arc::clone))
                };
                let threads = [scope.spawn(make), scope.spawn(make)];
                let made = threads.map(|thread| thread.join().unwrap());
                assert_eq!(made[0].0, made[1].0);
                made.map(|(_, count)| count).into()
            });
            assert_eq!(array.at(60).0.as_ref(), &());
            drop(array);
            assert!(counts.iter().all(|count| Arc::strong_count(count) == 1), "an element was leaked");
        }
    }
}
