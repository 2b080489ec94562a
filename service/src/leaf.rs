//! The lock of everything that is short: lists, classes, free slots, tables.
//!
//! Nobody does I/O or waits for anything else under one, and every store and load takes two or three of them. So it is
//! as small as a lock can be: one word, and no poison, for nothing that runs under one panics half-way (or, should an
//! allocation fail loudly, leaves what the next holder could not use). Who finds it taken looks again for a
//! while, then sleeps in the kernel.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free |
//! | 1 | taken |
//! | 2 | taken, and somebody may be asleep: unlock wakes one |

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use crate::sync::{AtomicU32, Ordering};

#[cfg(not(loom))]
use std::cell::UnsafeCell;

#[cfg(loom)]
use loom::cell::{MutPtr, UnsafeCell};

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const AWAITED: u32 = 2;

/// Looks this often before it sleeps: longer than what is usually done under a leaf lock.
#[cfg(not(any(loom, shuttle)))]
const SPINS: u32 = 100;
#[cfg(any(loom, shuttle))]
const SPINS: u32 = 1;

/// A value that one thread at a time may use. See the module.
#[derive(Default)]
pub(crate) struct Leaf<T> {
    word: AtomicU32,
    #[cfg(any(loom, shuttle))]
    sleepers: Sleepers,
    value: UnsafeCell<T>,
}

// SAFETY: a reference to the value exists in a guard only, and at most one guard of a leaf exists at a time: so sharing
// the leaf hands the value from thread to thread, for which it must be `Send`, and no more.
unsafe impl<T: Send> Sync for Leaf<T> {}

/// The right to a leaf's value. Dropping it unlocks the leaf.
pub(crate) struct LeafGuard<'a, T> {
    leaf: &'a Leaf<T>,
    /// What loom watches: two of these at a time would be two holders. `None` in drop only.
    #[cfg(loom)]
    value: Option<MutPtr<T>>,
    /// It is shared and sent as the reference that it gives.
    _value: PhantomData<&'a mut T>,
}

impl<T> Leaf<T> {
    pub(crate) fn new(value: T) -> Leaf<T> {
        Leaf {
            word: AtomicU32::new(FREE),
            #[cfg(any(loom, shuttle))]
            sleepers: Sleepers::default(),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock, as soon as it is free.
    #[inline(always)]
    pub(crate) fn lock(&self) -> LeafGuard<'_, T> {
        // Acquire pairs with the release of the unlock before: what was done under the lock is seen.
        if self.word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slowly();
        }
        LeafGuard {
            leaf: self,
            #[cfg(loom)]
            value: Some(self.value.get_mut()),
            _value: PhantomData,
        }
    }

    #[cold]
    fn lock_slowly(&self) {
        let mut left = SPINS;
        while left > 0 && self.word.load(Ordering::Relaxed) == TAKEN {
            std::hint::spin_loop();
            left -= 1;
        }
        if self.word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return;
        }
        // From here on the word says that somebody may be asleep, also once it is ours: there may be others.
        while self.word.swap(AWAITED, Ordering::Acquire) != FREE {
            self.sleep();
        }
    }

    #[inline(always)]
    fn unlock(&self) {
        if self.word.swap(FREE, Ordering::Release) == AWAITED {
            self.wake();
        }
    }
}

/// Sleeping as the kernel has it: it looks at the word and puts the caller to sleep in one step, so no wake-up comes
/// between.
#[cfg(not(any(loom, shuttle)))]
impl<T> Leaf<T> {
    #[cold]
    fn sleep(&self) {
        futex(&self.word, libc::FUTEX_WAIT, AWAITED);
    }

    #[cold]
    fn wake(&self) {
        futex(&self.word, libc::FUTEX_WAKE, 1);
    }
}

/// Waits while `word` is `value`, or wakes `value` waiters. Any return is right: who waited looks again.
#[cfg(not(any(loom, shuttle)))]
fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    let forever = std::ptr::null::<libc::timespec>();
    // SAFETY: the kernel only reads the word, which is borrowed for the call.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation | libc::FUTEX_PRIVATE_FLAG, value, forever)
    };
}

/// Sleeping as loom and shuttle have it: the same single step, by a mutex. A wake-up that is lost is a deadlock, which
/// they report.
#[cfg(any(loom, shuttle))]
#[derive(Default)]
struct Sleepers {
    mutex: crate::sync::Mutex<()>,
    woken: crate::sync::Condvar,
}

#[cfg(any(loom, shuttle))]
impl<T> Leaf<T> {
    fn sleep(&self) {
        let guard = crate::sync::lock(&self.sleepers.mutex);
        if self.word.load(Ordering::Relaxed) == AWAITED {
            drop(self.sleepers.woken.wait(guard));
        }
    }

    fn wake(&self) {
        drop(self.sleepers.mutex.lock());
        self.sleepers.woken.notify_one();
    }
}

impl<T> LeafGuard<'_, T> {
    #[inline(always)]
    fn value(&self) -> *mut T {
        #[cfg(not(loom))]
        return self.leaf.value.get();
        #[cfg(loom)]
        return self.value.as_ref().expect("there until drop").with(|value| value);
    }
}

impl<T> Deref for LeafGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the lock is ours until drop, so no other reference to the value exists but those borrowed from this
        // guard, which are shared as `&self` is.
        unsafe { &*self.value() }
    }
}

impl<T> DerefMut for LeafGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` lets no other reference be borrowed meanwhile.
        unsafe { &mut *self.value() }
    }
}

impl<T> Drop for LeafGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        #[cfg(loom)]
        drop(self.value.take());
        self.leaf.unlock();
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns_and_all_come_through() {
        let leaf = Leaf::new((0u64, 0u64));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let mut value = leaf.lock();
                        value.0 += 1;
                        // Now and then long enough for others to fall asleep.
                        if value.0.is_multiple_of(4096) {
                            std::thread::yield_now();
                        }
                        value.1 += 1;
                        assert_eq!(value.0, value.1, "two threads at once");
                    }
                });
            }
        });
        assert_eq!(*leaf.lock(), (80_000, 80_000));
        assert_eq!(leaf.word.load(Ordering::Relaxed), FREE);
    }

    #[test]
    fn sleeper_is_woken_by_the_unlock() {
        let leaf = Leaf::new(0);
        let mut value = leaf.lock();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| *leaf.lock());
            while leaf.word.load(Ordering::Relaxed) != AWAITED {
                std::thread::yield_now();
            }
            *value = 5;
            drop(value);
            assert_eq!(sleeper.join().unwrap(), 5);
        });
    }

    #[test]
    fn panic_under_the_lock_unlocks_it() {
        let leaf = Leaf::new(1);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut value = leaf.lock();
            *value += 1;
            panic!("under the lock");
        }));
        assert!(caught.is_err());
        assert_eq!(*leaf.lock(), 2);
    }
}
