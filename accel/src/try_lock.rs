//! A lock that nobody waits for: who finds it taken does something else.
//!
//! Channels are borrowed by it, twice or more for every page that is loaded; that is what the unsafe code is for. A
//! panic of the holder leaves the value as it is, for the next one.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};

/// A value that one thread at a time may use, on cache lines of its own (CPUs fetch them in pairs): the thread of the
/// neighbour must not be slowed down.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct TryLock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: a reference to the value exists in a guard only, and at most one guard exists at a time: so sharing the lock
// hands the value from thread to thread, for which it must be `Send`, and no more.
unsafe impl<T: Send> Sync for TryLock<T> {}

/// The right to the value. Dropping it gives the right back.
pub(crate) struct TryLockGuard<'a, T> {
    lock: &'a TryLock<T>,
    /// It is shared and sent as the reference that it gives.
    _value: PhantomData<&'a mut T>,
}

impl<T> TryLock<T> {
    /// The right to the value, unless another has it.
    #[inline(always)]
    pub(crate) fn try_lock(&self) -> Option<TryLockGuard<'_, T>> {
        // Acquire pairs with the release of the guard before: what was done to the value is seen.
        let taken = self.taken.swap(true, Ordering::Acquire);
        (!taken).then(|| TryLockGuard { lock: self, _value: PhantomData })
    }
}

impl<T> Deref for TryLockGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the right is ours until drop, so no other reference to the value exists but those borrowed from this
        // guard, which are shared as `&self` is.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for TryLockGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` lets no other reference be borrowed meanwhile.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for TryLockGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.lock.taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_at_a_time_has_the_value() {
        let lock = TryLock::<(u64, u64)>::default();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut turns = 0;
                    while turns < 10_000 {
                        let Some(mut value) = lock.try_lock() else { continue };
                        value.0 += 1;
                        value.1 += 1;
                        assert_eq!(value.0, value.1, "two threads at once");
                        turns += 1;
                    }
                });
            }
        });
        assert_eq!(*lock.try_lock().unwrap(), (30_000, 30_000));
    }

    #[test]
    fn panic_of_the_holder_gives_the_right_back() {
        let lock = TryLock::<u64>::default();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _value = lock.try_lock().unwrap();
            assert!(lock.try_lock().is_none(), "taken");
            panic!("with the value in hand");
        }));
        assert!(caught.is_err());
        assert!(lock.try_lock().is_some());
    }
}
