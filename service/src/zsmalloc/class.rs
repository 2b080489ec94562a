//! Size classes: objects of 32, 48, .. 4096 bytes, and how many pages a zspage of each has.

use std::sync::LazyLock;

use zfolio_accel::PAGE_SIZE;

/// Bytes between neighbouring classes.
pub(crate) const CLASS_STEP: usize = 16;
/// The smallest object.
pub(crate) const MIN_OBJECT: usize = 32;
/// The most pages of a zspage; each has this much address space, used or not.
pub(crate) const ZSPAGE_PAGES: usize = 24;
/// The most objects of a zspage: as many as an entry's index can name.
pub(crate) const MAX_OBJECTS: usize = 2048;
/// How many classes there are.
pub(crate) const CLASSES: usize = (PAGE_SIZE - MIN_OBJECT) / CLASS_STEP + 1;

/// The shape of one class's zspages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Pages that a full zspage uses, 1 to [`ZSPAGE_PAGES`].
    pub(crate) pages: usize,
    /// Objects of a full zspage.
    pub(crate) objects: usize,
}

/// The class of objects of `len` bytes, 1 to 4096.
#[inline]
pub(crate) fn class_of(len: usize) -> usize {
    debug_assert!((1..=PAGE_SIZE).contains(&len), "{len}");
    (len.max(MIN_OBJECT) - MIN_OBJECT).div_ceil(CLASS_STEP)
}

/// Bytes of the objects of a class.
#[inline]
pub(crate) const fn object_size(class: usize) -> usize {
    MIN_OBJECT + class * CLASS_STEP
}

/// The shape of every class.
pub(crate) static SHAPES: LazyLock<[Shape; CLASSES]> = LazyLock::new(|| std::array::from_fn(shape));

/// The number of pages that leaves the smallest part of a zspage unused; of equals the largest, for there are
/// fewer headers then.
fn shape(class: usize) -> Shape {
    let object_size = object_size(class);
    let unused = |pages: usize| ((pages * PAGE_SIZE) % object_size) as f64 / pages as f64;
    let pages = (1..=ZSPAGE_PAGES.min(MAX_OBJECTS * object_size / PAGE_SIZE))
        .rev()
        .min_by(|&a, &b| unused(a).total_cmp(&unused(b)))
        .expect("at least 16 to choose from");
    Shape { pages, objects: pages * PAGE_SIZE / object_size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_the_smallest_class_that_holds_it() {
        for len in 1..=PAGE_SIZE {
            let class = class_of(len);
            assert!(object_size(class) >= len);
            assert!(class == 0 || object_size(class - 1) < len);
        }
        assert_eq!(class_of(PAGE_SIZE), CLASSES - 1);
    }

    #[test]
    fn zspages_waste_little_and_can_be_indexed() {
        for (class, shape) in SHAPES.iter().enumerate() {
            let bytes = shape.pages * PAGE_SIZE;
            let used = shape.objects * object_size(class);
            assert!(used <= bytes && shape.objects <= MAX_OBJECTS);
            let unused = bytes - used;
            // Objects that are nearly a page waste what a page has more, however long the zspage is.
            assert!(unused * 100 <= bytes * 5, "class {class} of {shape:?} wastes {unused} bytes");
        }
        assert_eq!(SHAPES[CLASSES - 1].pages, 24, "raw pages share a header by 24");
    }
}
