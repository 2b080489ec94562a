//! Failure on demand, in tests: every step that can fail asks here first.
//!
//! A test arms a countdown for its thread; the step that brings it to zero fails. Outside tests the question is a
//! constant.

/// True when the calling step is to fail.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn here() -> bool {
    false
}

#[cfg(test)]
pub(crate) use armed::{here, with_failure_at};

#[cfg(test)]
mod armed {
    use std::cell::Cell;

    thread_local! {
        /// Steps until failure; 0 when not armed.
        static COUNTDOWN: Cell<u32> = const { Cell::new(0) };
    }

    pub(crate) fn here() -> bool {
        COUNTDOWN.with(|countdown| match countdown.get() {
            0 => false,
            left => {
                countdown.set(left - 1);
                left == 1
            }
        })
    }

    /// Runs `f` with its `step`-th fallible step failing (counted from 1), and says whether it came that far.
    pub(crate) fn with_failure_at<T>(step: u32, f: impl FnOnce() -> T) -> (T, bool) {
        COUNTDOWN.with(|countdown| countdown.set(step));
        let result = f();
        let left = COUNTDOWN.with(|countdown| countdown.replace(0));
        (result, left == 0)
    }
}
