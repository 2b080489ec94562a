//! How many pages channels have under way when a queue takes a descriptor: the window that is in effect.
//!
//! Each channel has a column of counts that only it writes, so counting takes no locked instruction; whoever wants to
//! know adds the columns up. In a child of fork the list of columns is left alone: a thread of the parent may have
//! locked it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{ForkGuard, MAX_WINDOW};

/// How often a descriptor was taken with this many pages under way in its channel, itself counted.
pub type UnderWay = [u64; MAX_WINDOW + 1];

/// One channel's counts.
#[derive(Debug)]
pub(crate) struct Column([AtomicU64; MAX_WINDOW + 1]);

impl Column {
    /// Counts `descriptors` that were taken with `under_way` pages under way. Only the channel's own thread does.
    #[inline]
    pub(crate) fn count(&self, under_way: usize, descriptors: usize) {
        if let Some(count) = self.0.get(under_way) {
            count.store(count.load(Ordering::Relaxed) + descriptors as u64, Ordering::Relaxed);
        }
    }

    fn add_to(&self, sums: &mut UnderWay) {
        sums.iter_mut().zip(&self.0).for_each(|(sum, count)| *sum += count.load(Ordering::Relaxed));
    }
}

/// The counts of all channels.
#[derive(Debug)]
pub(crate) struct Columns(Mutex<(UnderWay, Vec<Arc<Column>>)>);

impl Default for Columns {
    fn default() -> Columns {
        Columns(Mutex::new(([0; MAX_WINDOW + 1], Vec::new())))
    }
}

impl Columns {
    /// The counts of a new channel.
    pub(crate) fn column(&self, guard: &ForkGuard) -> Arc<Column> {
        let column = Arc::new(Column([const { AtomicU64::new(0) }; MAX_WINDOW + 1]));
        if !guard.is_child() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).1.push(Arc::clone(&column));
        }
        column
    }

    /// Keeps the counts of a channel that goes, and forgets the channel.
    pub(crate) fn fold(&self, column: &Arc<Column>, guard: &ForkGuard) {
        if guard.is_child() {
            return;
        }
        let (gone, columns) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        column.add_to(gone);
        columns.retain(|other| !Arc::ptr_eq(other, column));
    }

    /// The counts so far, of channels that are there and of those that were; none in a child of fork.
    pub(crate) fn sum(&self, guard: &ForkGuard) -> UnderWay {
        if guard.is_child() {
            return [0; MAX_WINDOW + 1];
        }
        let (gone, columns) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = *gone;
        columns.iter().for_each(|column| column.add_to(&mut sums));
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_channels_that_went_are_kept_and_counted_once() {
        let (columns, guard) = (Columns::default(), ForkGuard::new().unwrap());
        let (one, two) = (columns.column(&guard), columns.column(&guard));
        one.count(1, 1);
        two.count(8, 3);
        two.count(MAX_WINDOW + 1, 7);
        columns.fold(&two, &guard);
        one.count(1, 1);
        let sums = columns.sum(&guard);
        assert_eq!((sums[1], sums[8], sums.iter().sum::<u64>()), (2, 3, 5));
        assert_eq!(columns.sum(&guard), sums);
    }
}
