//! What several processes have a model do, counted together: words in shared memory.
//!
//! Each process has its own model and adds what its [`Summary`] has grown by; whoever started them reads the sum.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{FaultPlan, Summary};

const ATTACHED: usize = 0;
const GENERATION: usize = 1;
const TAKEN: usize = 2;
const QUEUE_FULL: usize = 3;
const NOT_PERMITTED: usize = 4;
const DISABLED: usize = 5;
const ABANDONED: usize = 6;
const SOFTWARE_ERRORS: usize = 7;
const STRUCK: usize = 8;
/// Rules of a plan that are counted.
const RULES: usize = 256;
/// Pairs of key and count, found by probing. 0 is no key.
const COMPLETED: usize = STRUCK + RULES;
/// More than there are kinds of answers.
const KINDS: usize = 1024;

/// Words of a tally. Relaxed throughout: they are counts, and publish nothing.
#[derive(Clone, Copy, Debug)]
pub struct Tally<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Tally<'a> {
    /// How many words it needs, zero at first.
    pub const WORDS: usize = COMPLETED + 2 * KINDS;

    /// The tally in `words`; `None` if they are fewer than [`Tally::WORDS`].
    pub fn new(words: &'a [AtomicU64]) -> Option<Tally<'a>> {
        (words.len() >= Self::WORDS).then_some(Tally { words })
    }

    /// A process has the model under it.
    pub fn attach(&self) {
        self.add(ATTACHED, 1);
    }

    /// How many have, or had.
    pub fn attached(&self) -> u64 {
        self.get(ATTACHED)
    }

    /// How often the configuration has changed.
    pub fn generation(&self) -> u64 {
        // Acquire and release: who sees that something changed sees the files that say what.
        self.words[GENERATION].load(Ordering::Acquire)
    }

    /// The configuration has changed.
    pub fn next_generation(&self) {
        self.words[GENERATION].fetch_add(1, Ordering::Release);
    }

    /// Adds what `now` has more than `before`.
    pub fn add_growth(&self, before: &Summary, now: &Summary) {
        for (word, before, now) in [
            (TAKEN, before.taken, now.taken),
            (QUEUE_FULL, before.queue_full, now.queue_full),
            (NOT_PERMITTED, before.not_permitted, now.not_permitted),
            (DISABLED, before.disabled, now.disabled),
            (ABANDONED, before.abandoned, now.abandoned),
            (SOFTWARE_ERRORS, before.software_errors, now.software_errors),
        ] {
            self.add(word, now - before);
        }
        for (rule, &now) in now.struck.iter().take(RULES).enumerate() {
            self.add(STRUCK + rule, now - before.struck.get(rule).unwrap_or(&0));
        }
        for (&kind, &now) in &now.completed {
            let grown = now - before.completed.get(&kind).unwrap_or(&0);
            if grown != 0 {
                self.add_completed(kind, grown);
            }
        }
    }

    fn add_completed(&self, (opcode, status, error): (u8, u8, u8), count: u64) {
        let key = u64::from_le_bytes([1, opcode, status, error, 0, 0, 0, 0]);
        let first = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        for probe in 0..KINDS {
            let slot = COMPLETED + 2 * ((first as usize + probe) % KINDS);
            let relaxed = Ordering::Relaxed;
            match self.words[slot].compare_exchange(0, key, relaxed, relaxed) {
                Err(other) if other != key => {}
                _ => return self.add(slot + 1, count),
            }
        }
    }

    /// The sum, as if one model with this plan had done it all.
    pub fn summary(&self, faults: FaultPlan) -> Summary {
        let mut summary = Summary {
            taken: self.get(TAKEN),
            queue_full: self.get(QUEUE_FULL),
            not_permitted: self.get(NOT_PERMITTED),
            disabled: self.get(DISABLED),
            abandoned: self.get(ABANDONED),
            software_errors: self.get(SOFTWARE_ERRORS),
            struck: (0..faults.rules.len().min(RULES)).map(|rule| self.get(STRUCK + rule)).collect(),
            faults,
            ..Summary::default()
        };
        for slot in 0..KINDS {
            if let [1, opcode, status, error, ..] = self.get(COMPLETED + 2 * slot).to_le_bytes() {
                summary.completed.insert((opcode, status, error), self.get(COMPLETED + 2 * slot + 1));
            }
        }
        summary
    }

    fn add(&self, word: usize, count: u64) {
        if count != 0 {
            self.words[word].fetch_add(count, Ordering::Relaxed);
        }
    }

    fn get(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_of_two_models_is_summed_by_kind() {
        let words: Vec<AtomicU64> = (0..Tally::WORDS).map(|_| AtomicU64::new(0)).collect();
        let tally = Tally::new(&words).unwrap();
        let mut first = Summary { taken: 5, queue_full: 2, ..Summary::default() };
        first.completed.extend([((0, 1, 0), 3), ((0x43, 0x0a, 25), 2)]);
        tally.add_growth(&Summary::default(), &first);
        let mut later = first.clone();
        later.taken = 6;
        later.completed.insert((0, 1, 0), 4);
        tally.add_growth(&first, &later);
        tally.add_growth(&Summary::default(), &first);
        let mut sum = Summary { taken: 11, queue_full: 4, ..Summary::default() };
        sum.completed.extend([((0, 1, 0), 7), ((0x43, 0x0a, 25), 4)]);
        assert_eq!(tally.summary(FaultPlan::none()), sum);
    }

    #[test]
    fn every_kind_has_its_own_count() {
        let words: Vec<AtomicU64> = (0..Tally::WORDS).map(|_| AtomicU64::new(0)).collect();
        let tally = Tally::new(&words).unwrap();
        let mut summary = Summary::default();
        summary.completed.extend((0..1000u64).map(|n| ((n as u8, (n >> 8) as u8, 7), n + 1)));
        tally.add_growth(&Summary::default(), &summary);
        assert_eq!(tally.summary(FaultPlan::none()), summary);
        assert!(Tally::new(&words[1..]).is_none());
    }
}
