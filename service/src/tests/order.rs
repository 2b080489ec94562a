//! The proof that each slot behaved as if the operations on it took place one after another.
//!
//! Every page names its slot and its version, and the rest of it follows from these, so a torn or foreign page is
//! told at once. What each operation did to each slot is recorded with the times of its call and return. Afterwards
//! an order of the operations is looked for, slot by slot, that keeps to these times and in which every answer is
//! right. Where there is none, something was lost, came back, or was given to two.

use std::collections::{HashMap, HashSet};

use super::*;

/// How many words behind the first are noise in the page of a version: what its length will be.
pub(super) type Noise = fn(u64, &mut Random) -> usize;

/// A page of this slot and version; their tag is in its first word, whatever kind of page it is.
pub(super) fn stamped(slot: usize, version: u64, noise: Noise) -> PageBytes {
    let tag = (slot as u64) << 48 | version;
    let mut page = [0; PAGE_SIZE];
    page.as_chunks_mut().0.fill(tag.to_ne_bytes());
    let mut random = Random::new(tag);
    let noise = noise(version, &mut random);
    for word in &mut page.as_chunks_mut().0[1..=noise] {
        *word = random.next().to_ne_bytes();
    }
    page
}

/// The version of a page that was loaded from `slot`.
pub(super) fn version_in(page: &PageBytes, slot: usize, noise: Noise) -> u64 {
    let tag = u64::from_ne_bytes(page[..8].try_into().unwrap());
    let version = tag & ((1 << 48) - 1);
    assert_eq!((tag >> 48) as usize, slot, "a page of another slot");
    assert!(*page == stamped(slot, version, noise), "slot {slot}: a torn page of version {version}");
    version
}

/// What an operation did to one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    Store(u64),
    /// Loaded this version, and took it out.
    Take(u64),
    Read(u64),
    /// Found nothing.
    Miss,
    /// Invalidated a page that was there.
    Remove,
    /// Emptied the slot, whether or not there was a page: a failed store, a range, swapoff.
    Erase,
    /// Emptied the slot and then stored: past the store, which refused it.
    StorePast(u64),
    /// The same, and emptied it once more: the device had it for a while, if at all.
    TriedPast(u64),
}

impl Did {
    /// What is in the slot afterwards, if `before` can have been in it (0 is nothing).
    fn apply(self, before: u64) -> Option<u64> {
        match self {
            Did::Store(version) => Some(version),
            Did::Take(version) => (before == version).then_some(0),
            Did::Read(version) => (before == version).then_some(before),
            Did::Miss => (before == 0).then_some(0),
            Did::Remove => (before != 0).then_some(0),
            Did::Erase | Did::TriedPast(_) => Some(0),
            Did::StorePast(version) => Some(version),
        }
    }
}

/// One operation on one slot by one thread, called and returned at these times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) slot: usize,
    pub(super) thread: usize,
    pub(super) called: u64,
    pub(super) returned: u64,
    pub(super) did: Did,
}

/// Looks for an order of one slot's operations in which every answer is right. At any time there are only as many
/// operations under way as threads; so all that can be at a time is what is in the slot, and which of the operations
/// under way have taken place already.
pub(super) fn assert_one_after_another(slot: usize, events: &[Event]) {
    let mut times: Vec<(u64, usize, bool)> = Vec::new();
    for (index, event) in events.iter().enumerate() {
        times.push((event.called, index, true));
        times.push((event.returned, index, false));
    }
    times.sort_unstable();
    let mut under_way: HashMap<usize, Event> = HashMap::new();
    let mut possible: HashSet<(u64, u64)> = HashSet::from([(0, 0)]);
    for (_, index, is_call) in times {
        let event = events[index];
        let bit = 1u64 << event.thread;
        if is_call {
            assert!(under_way.insert(event.thread, event).is_none(), "one operation a thread and slot");
            continue;
        }
        // By now it has taken place, perhaps after others that are under way.
        let mut after = HashSet::new();
        let mut open: Vec<(u64, u64)> = possible.iter().copied().collect();
        let mut seen = possible.clone();
        while let Some((value, done)) = open.pop() {
            if done & bit != 0 {
                after.insert((value, done & !(bit | bit << 32)));
                continue;
            }
            for (thread, other) in under_way.iter().filter(|(thread, _)| done & 1 << **thread == 0) {
                let first_half = 1 << (thread + 32);
                let nexts = match other.did {
                    Did::StorePast(_) | Did::TriedPast(_) if done & first_half == 0 => {
                        [Some((0, done | first_half)), None]
                    }
                    Did::TriedPast(version) => [Some((version, done)), Some((0, done | 1 << thread))],
                    did => [did.apply(value).map(|value| (value, done | 1 << thread)), None],
                };
                for next in nexts.into_iter().flatten() {
                    if seen.insert(next) {
                        open.push(next);
                    }
                }
            }
        }
        under_way.remove(&event.thread);
        if after.is_empty() {
            let mut around: Vec<_> =
                events.iter().filter(|other| other.returned + 400 > event.called).collect();
            around.retain(|other| other.called < event.returned);
            panic!("slot {slot}: nothing explains {event:?} after {possible:?}; around it: {around:#?}");
        }
        possible = after;
    }
}
