//! Where threads wait for a slot word to change: hashed buckets of a mutex and a condition variable.
//!
//! Who changes a word looks at the number of waiters afterwards, and takes the mutex only when somebody waits. Both sides'
//! accesses are sequentially consistent: a waiter counts itself, then looks at the word; a changer changes the
//! word, then looks at the counter. So at least one of them sees the other.

use std::time::Instant;

use crate::sync::{AtomicU32, Condvar, Mutex, Ordering, lock, seq_cst_for_loom};

#[cfg(not(any(loom, shuttle)))]
const BUCKETS: usize = 64;
// Which bucket a word has depends on its address, and a schedule must not.
#[cfg(any(loom, shuttle))]
const BUCKETS: usize = 1;

/// A cache line of its own for each bucket (two: CPUs fetch them in pairs).
#[repr(align(128))]
struct Bucket {
    waiters: AtomicU32,
    mutex: Mutex<()>,
    changed: Condvar,
}

/// The buckets of one store.
pub(crate) struct ParkingLot {
    buckets: Box<[Bucket]>,
    /// Threads that wait in any bucket: what every unlock looks at.
    waiters: AtomicU32,
}

/// The deadline passed before the word changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

impl ParkingLot {
    pub(crate) fn new() -> ParkingLot {
        let bucket = || Bucket { waiters: AtomicU32::new(0), mutex: Mutex::new(()), changed: Condvar::new() };
        ParkingLot { buckets: (0..BUCKETS).map(|_| bucket()).collect(), waiters: AtomicU32::new(0) }
    }

    fn bucket(&self, word: &AtomicU32) -> &Bucket {
        let address = std::ptr::from_ref(word).addr();
        // Fibonacci hashing of the word's number; neighbours land in different buckets.
        let hash = (address / size_of::<AtomicU32>()).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        &self.buckets[(hash >> 57) % BUCKETS]
    }

    /// Waits until `done(word)` holds.
    pub(crate) fn wait(
        &self,
        word: &AtomicU32,
        deadline: Instant,
        done: impl Fn(u32) -> bool,
    ) -> Result<(), TimedOut> {
        let bucket = self.bucket(word);
        bucket.waiters.fetch_add(1, Ordering::SeqCst);
        self.waiters.fetch_add(1, Ordering::SeqCst);
        seq_cst_for_loom();
        let result = Self::wait_counted(bucket, word, deadline, done);
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        bucket.waiters.fetch_sub(1, Ordering::Relaxed);
        result
    }

    #[cfg(not(any(loom, shuttle)))]
    fn wait_counted(
        bucket: &Bucket,
        word: &AtomicU32,
        deadline: Instant,
        done: impl Fn(u32) -> bool,
    ) -> Result<(), TimedOut> {
        let mut guard = lock(&bucket.mutex);
        while !done(word.load(Ordering::SeqCst)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TimedOut);
            }
            guard = match bucket.changed.wait_timeout(guard, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        Ok(())
    }

    /// Loom and shuttle have no time: a wake-up that never comes is a deadlock, which they report.
    #[cfg(any(loom, shuttle))]
    fn wait_counted(
        bucket: &Bucket,
        word: &AtomicU32,
        _deadline: Instant,
        done: impl Fn(u32) -> bool,
    ) -> Result<(), TimedOut> {
        let mut guard = lock(&bucket.mutex);
        while !done(word.load(Ordering::SeqCst)) {
            guard = bucket.changed.wait(guard).expect("a test panicked");
        }
        Ok(())
    }

    /// Wakes those who wait for `word`, after it was changed by a sequentially consistent operation.
    #[inline]
    pub(crate) fn changed(&self, word: &AtomicU32) {
        seq_cst_for_loom();
        if self.waiters.load(Ordering::SeqCst) != 0 {
            self.wake(self.bucket(word));
        }
    }

    #[cold]
    fn wake(&self, bucket: &Bucket) {
        if bucket.waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        // With the mutex taken, a waiter is either asleep, and gets the notice, or has yet to look at the word.
        drop(lock(&bucket.mutex));
        bucket.changed.notify_all();
    }
}
