//! The primitives of what loom and shuttle check: std's, or theirs when built with `--cfg loom` or `--cfg shuttle`.

#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering, fence},
};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering, fence},
};

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Condvar, Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering, fence},
};

/// Gives loom what two sequentially consistent accesses give by themselves: loom takes SeqCst accesses for
/// acquire-release ones and knows a total order of fences only.
#[inline]
pub(crate) fn seq_cst_for_loom() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// Locks a leaf lock. Nothing that runs under one panics half-way, so a poisoned one (by a test's panic, or an
/// allocation that failed loudly) holds consistent data.
#[cfg(not(loom))]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(loom)]
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a loom test panicked")
}
