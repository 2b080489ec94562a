//! A layout: where this process has its environment, stacks, heap and threads, and in what order it stores.
//!
//! Speed depends on them, and on nothing that a change to the code is meant to change. `--layout-seed` gives a process a
//! layout that follows from the seed alone: it starts itself anew with an environment of the layout's size and without the
//! kernel's own randomisation of addresses, and takes memory from its heap before anything else does. What stays to chance
//! is which physical pages the kernel gives.

use std::hint::black_box;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{env, mem};

use crate::corpus::random::Random;
use crate::os;

/// The variable that pads the environment: the seed, a colon, and as many letters as the layout has it.
pub(super) const VARIABLE: &str = "ZFOLIO_LAYOUT";

/// The longest padding of the environment: that of a stack's page, and some.
const ENVIRONMENT: u64 = 5_000;

/// The most frames that a thread begins below: over a page.
const FRAMES: u64 = 256;

/// What follows from a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) seed: u64,
    environment_bytes: usize,
    /// Frames on each thread's stack before its work.
    frames: usize,
    /// Blocks taken from the heap and kept; of small ones every second is given back.
    heap: Vec<usize>,
    /// For the order of CPUs and of folios.
    order: u64,
}

impl Layout {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let environment_bytes = random.below(ENVIRONMENT) as usize;
        let frames = random.below(FRAMES) as usize;
        let small = random.below(64) as usize;
        let mut heap: Vec<usize> = (0..small).map(|_| 16 + random.below(2_000) as usize).collect();
        // One that the allocator asks the kernel for: what comes later in the address space moves.
        heap.push((64 + random.below(512) as usize) << 12);
        Self { seed, environment_bytes, frames, heap, order: random.next() }
    }

    /// Gives this process the layout. Comes back only in the process that has it.
    ///
    /// # Errors
    /// When the process cannot be started anew.
    pub(super) fn enter(&self) -> io::Result<()> {
        let value = format!("{}:{}", self.seed, "x".repeat(self.environment_bytes));
        if env::var_os(VARIABLE).is_none_or(|other| other != *value) {
            // Where the kernel does not allow it, addresses are random too, and the records say so.
            let _ = os::fix_addresses();
            let mut itself = Command::new(env::current_exe()?);
            return Err(itself.args(env::args_os().skip(1)).env(VARIABLE, value).exec());
        }
        let mut blocks: Vec<Vec<u8>> = self.heap.iter().map(|len| Vec::with_capacity(*len)).collect();
        for block in blocks.iter_mut().step_by(2).filter(|block| block.capacity() < 4096) {
            *block = Vec::new();
        }
        // Until the process ends.
        mem::forget(black_box(blocks));
        Ok(())
    }

    /// A CPU for each thread, of those that it may run on; different ones while there are any.
    pub(super) fn pins(&self, threads: usize) -> Vec<usize> {
        let mut cpus = os::allowed_cpus().unwrap_or_default();
        Random::new(self.order).shuffle(&mut cpus);
        cpus.iter().copied().cycle().take(if cpus.is_empty() { 0 } else { threads }).collect()
    }

    /// Brings things into the layout's order.
    pub(super) fn shuffle<T>(&self, items: &mut [T]) {
        Random::new(!self.order).shuffle(items);
    }

    /// A seed of other orders, so that they are other ones in each layout.
    pub(super) fn reseed(&self, seed: u64) -> u64 {
        seed ^ self.order
    }

    /// Runs `work` as many frames down the stack as the layout has it.
    pub(super) fn below<T>(&self, work: impl FnOnce() -> T) -> T {
        deeper(self.frames, work)
    }
}

#[inline(never)]
fn deeper<T>(frames: usize, work: impl FnOnce() -> T) -> T {
    // Looked at from outside before and after: the frame must be there while the ones below it are.
    let mut frame = [0u64; 2];
    black_box(&mut frame);
    let result = if frames == 0 { work() } else { deeper(frames - 1, work) };
    black_box(&mut frame);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_follows_from_its_seed() {
        assert_eq!(Layout::of(7), Layout::of(7));
        assert_ne!(Layout::of(7).environment_bytes, Layout::of(8).environment_bytes);
        let order = |seed| {
            let mut items: Vec<u32> = (0..100).collect();
            Layout::of(seed).shuffle(&mut items);
            items
        };
        assert_eq!(order(7), order(7));
        assert_ne!(order(7), order(8));
    }

    #[test]
    fn work_runs_further_down_the_stack_the_more_frames_there_are() {
        let local = || {
            let here = 0u8;
            std::ptr::from_ref(black_box(&here)).addr()
        };
        let depth = |frames| deeper(frames, local);
        assert!(depth(0) - depth(100) >= 100 * 32, "{} {}", depth(0), depth(100));
    }

    #[test]
    fn each_thread_gets_a_cpu_it_may_run_on_and_few_threads_different_ones() {
        let cpus = os::allowed_cpus().unwrap();
        let pins = Layout::of(3).pins(cpus.len());
        let mut sorted = pins.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, cpus);
        assert_eq!(Layout::of(3).pins(cpus.len() + 1).len(), cpus.len() + 1);
    }
}
