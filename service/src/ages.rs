//! How long pages had not been used when they were used again, counted by age.
//!
//! Ages are in ticks, 0 to 65535. Up to 16 each has a count of its own, above that eight share an octave: a count is of ages that differ by
//! an eighth at most.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts up to this age are of one age each.
const EXACT: u16 = 16;
const OCTAVE_BITS: u32 = 3;

/// Number of counts.
pub(crate) const BUCKETS: usize = EXACT as usize + 12 * (1 << OCTAVE_BITS);

/// The count of an age.
pub(crate) const fn bucket(age: u16) -> usize {
    if age < EXACT {
        return age as usize;
    }
    let octave = age.ilog2();
    let eighth = (age >> (octave - OCTAVE_BITS)) as usize & ((1 << OCTAVE_BITS) - 1);
    EXACT as usize + ((octave as usize - 4) << OCTAVE_BITS) + eighth
}

/// The smallest age of a count.
pub(crate) const fn first_age(bucket: usize) -> u16 {
    match bucket.checked_sub(EXACT as usize) {
        None => bucket as u16,
        Some(above) => {
            let octave = 4 + (above >> OCTAVE_BITS) as u32;
            let eighth = (above & ((1 << OCTAVE_BITS) - 1)) as u16;
            (1 << octave) + (eighth << (octave - OCTAVE_BITS))
        }
    }
}

/// Uses by age, since they were last taken.
pub(crate) struct Ages([AtomicU64; BUCKETS]);

impl Ages {
    pub(crate) fn new() -> Ages {
        Ages([const { AtomicU64::new(0) }; BUCKETS])
    }

    /// A page was used that had not been for so long.
    pub(crate) fn count(&self, age: u16) {
        self.0[bucket(age)].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts, which start again from nothing.
    pub(crate) fn take(&self) -> [u64; BUCKETS] {
        std::array::from_fn(|bucket| self.0[bucket].swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_age_has_one_count_and_their_order_is_that_of_ages() {
        for age in 0..=u16::MAX {
            let bucket = bucket(age);
            assert!(
                first_age(bucket) <= age && (bucket + 1 == BUCKETS || age < first_age(bucket + 1)),
                "{age}"
            );
            assert!(age - first_age(bucket) <= age / 8);
        }
        assert_eq!(bucket(u16::MAX), BUCKETS - 1);
    }
}
