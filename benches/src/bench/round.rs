//! One round of one variant: store everything, look at the memory, read everything, load everything.

use zfolio::Zswap;
use zfolio_accel::PAGE_SIZE;

use super::crew::{Crew, PassTime};
use super::worker::{Faults, Pass};
use crate::memory::rss_anon_bytes;
use crate::progress::Progress;

/// Whether the store's memory has been touched before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arena {
    /// First fill: the kernel gives and clears every page.
    Cold,
    /// Filled and emptied at least once.
    Warm,
}

impl Arena {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        }
    }
}

/// The store's memory after everything is stored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) stored_pages: u64,
    pub(crate) zero_pages: u64,
    pub(crate) same_filled_pages: u64,
    pub(crate) raw_pages: u64,
    pub(crate) object_bytes: u64,
    pub(crate) pool_bytes: u64,
    /// Of the arena, as the kernel sees it; `None` where it does not tell.
    pub(crate) resident_arena_bytes: Option<u64>,
    /// Emptied memory of earlier rounds that the stores have not taken again; resident too.
    pub(crate) warm_bytes: u64,
    pub(crate) metadata_bytes: u64,
    /// Growth of RssAnon since this variant's store was empty and new; `None` where the kernel does not tell.
    pub(crate) rss_anon_growth_bytes: Option<i64>,
}

/// What a round found. Passes that Ctrl-C left out are missing.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) number: u32,
    pub(crate) arena: Arena,
    pub(crate) passes: Vec<(Pass, PassTime)>,
    pub(crate) memory: Memory,
    pub(crate) faults: Faults,
}

impl Round {
    pub(crate) fn pass(&self, wanted: Pass) -> Option<&PassTime> {
        self.passes.iter().find(|(pass, _)| *pass == wanted).map(|(_, time)| time)
    }

    pub(crate) fn complete(&self) -> bool {
        self.passes.len() == Pass::ALL.len() && self.passes.iter().all(|(_, time)| time.complete)
    }
}

/// Growth of a variant's store in RssAnon, told from the growth of everything else in the process.
///
/// Several variants live side by side, so only changes during a variant's own passes are its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    bytes: Option<i64>,
}

impl Growth {
    /// Of a store that has stored nothing yet.
    pub(crate) fn new() -> Self {
        Self { bytes: Some(0) }
    }

    fn during<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = rss_anon_bytes();
        let result = work();
        self.bytes = match (self.bytes, before, rss_anon_bytes()) {
            (Some(bytes), Some(before), Some(after)) => Some(bytes + after as i64 - before as i64),
            _ => None,
        };
        result
    }
}

/// Makes the passes of a round. Stops after the pass that Ctrl-C cut short.
pub(crate) fn run<'a>(
    number: u32,
    crew: &Crew<'a>,
    zswap: &'a Zswap,
    growth: &mut Growth,
    progress: &mut Progress,
    label: &str,
) -> Round {
    run_with(number, crew, zswap, growth, progress, label, &mut |_| {})
}

/// The same, and calls `full` before the last pass, while the store has all pages.
pub(crate) fn run_with<'a>(
    number: u32,
    crew: &Crew<'a>,
    zswap: &'a Zswap,
    growth: &mut Growth,
    progress: &mut Progress,
    label: &str,
    full: &mut dyn FnMut(&Zswap),
) -> Round {
    let arena = if number == 1 { Arena::Cold } else { Arena::Warm };
    let mut round =
        Round { number, arena, passes: Vec::new(), memory: Memory::default(), faults: Faults::default() };
    for pass in Pass::ALL {
        if pass == Pass::Load {
            full(zswap);
        }
        let (time, faults) = growth.during(|| {
            crew.pass(pass, u64::from(number), zswap, progress, &format!("{label}, {}", verb(pass)))
        });
        let complete = time.complete;
        round.passes.push((pass, time));
        round.faults.add(faults);
        if pass == Pass::Store {
            round.memory = memory(zswap, growth);
        }
        if !complete {
            return round;
        }
    }
    check_empty(zswap, &mut round.faults);
    round
}

/// After every page was loaded nothing may be left, and the store's books must agree.
pub(super) fn check_empty(zswap: &Zswap, faults: &mut Faults) {
    let left = zswap.stats().stored_pages;
    if left > 0 {
        faults.fail_check(format!("{left} pages are still in the store after all were loaded"));
    }
    if let Err(error) = zswap.check() {
        faults.fail_check(error.to_string());
    }
}

fn verb(pass: Pass) -> &'static str {
    match pass {
        Pass::Store => "storing",
        Pass::Read => "reading in order",
        Pass::Load => "loading at random",
    }
}

/// What is allocated for the pages. Memory that is only kept warm for the next stores is given back before.
fn memory(zswap: &Zswap, growth: &mut Growth) -> Memory {
    let warm_bytes = growth.during(|| zswap.release_warm());
    let stats = zswap.stats();
    Memory {
        stored_pages: stats.stored_pages,
        zero_pages: stats.zero_pages,
        same_filled_pages: stats.same_filled_pages,
        raw_pages: stats.stored_incompressible_pages,
        object_bytes: stats.object_bytes,
        pool_bytes: stats.pool_bytes,
        resident_arena_bytes: zswap.resident_arena_bytes().ok(),
        warm_bytes,
        metadata_bytes: stats.metadata_bytes,
        rss_anon_growth_bytes: growth.bytes,
    }
}

impl Memory {
    /// Bytes stored to bytes of objects. Same-filled pages need no object and count as stored.
    pub(crate) fn ratio(&self) -> Option<f64> {
        divide(self.stored_pages * PAGE_SIZE as u64, self.object_bytes)
    }

    pub(crate) fn allocated_over_compressed(&self) -> Option<f64> {
        divide(self.resident_arena_bytes?, self.object_bytes)
    }

    pub(crate) fn metadata_bytes_per_page(&self) -> Option<f64> {
        divide(self.metadata_bytes, self.stored_pages)
    }

    /// All a stored page costs: its part of the resident arena and of the metadata.
    pub(crate) fn memory_bytes_per_page(&self) -> Option<f64> {
        divide(self.resident_arena_bytes? + self.metadata_bytes, self.stored_pages)
    }
}

fn divide(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
