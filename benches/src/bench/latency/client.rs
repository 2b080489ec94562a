//! A thread whose calls arrive by the clock, whether or not those before them are done.
//!
//! A call's latency counts from the moment it was due, so that a call that waits behind a slow one counts as slow too.
//! Arrivals are at random (a Poisson process), as those of many independent callers are. Pages that come back are compared
//! after their time is taken; the time that takes is the thread's own, as a caller's use of its page would be.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use zfolio::{Folio, SwapEntry, Zswap};
use zfolio_accel::{NodeId, Page};

use super::super::plan::{FolioSpan, Share};
use super::super::stopwatch::call_histogram;
use super::super::worker::{Faults, SWAP_TYPE};
use crate::corpus::Arranged;
use crate::corpus::random::Random;
use crate::interrupt::Interrupt;
use crate::os::ThreadUsage;

/// Waits shorter than this are not worth sleeping: the kernel wakes a sleeper some 50 us late.
const SPIN: Duration = Duration::from_micros(150);

/// How long a thread sleeps before it looks for Ctrl-C again.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often a vacant folio is looked for.
const TRIES: u32 = 8;

/// Into how many steps the waiting times of calls that were never served are put.
const STEPS: u64 = 1_000;

/// What a thread is to do.
pub(super) struct Load {
    /// Arrivals a second at this thread.
    pub(super) rate: f64,
    /// Calls are due for so long.
    pub(super) time: Duration,
    /// How many of a hundred calls are loads.
    pub(super) loads_percent: u32,
}

/// What a thread found.
pub(super) struct Found {
    pub(super) stores: Histogram<u64>,
    pub(super) loads: Histogram<u64>,
    /// Of the loads, those that left the page in the store because few were left.
    pub(super) reads: u64,
    pub(super) served: u64,
    /// Calls that were due and not begun when the time was over. They count with the time they had waited by then.
    pub(super) unserved: u64,
    pub(super) elapsed: Duration,
    /// Of all threads, in that time.
    pub(super) usage: ThreadUsage,
    pub(super) faults: Faults,
}

/// A thread's slots and what lies in them.
pub(super) struct Client<'a> {
    source: Arranged<'a>,
    folios: &'a [FolioSpan],
    nid: NodeId,
    first: u32,
    /// Of each folio, which content it was given last.
    generations: Vec<u32>,
    stored: Vec<u32>,
    /// The place of each slot among the stored ones; `u32::MAX` when it is not there.
    places: Vec<u32>,
    folio_of: Vec<u32>,
    page: Page,
    random: Random,
    faults: Faults,
}

impl<'a> Client<'a> {
    pub(super) fn new(source: Arranged<'a>, share: &'a Share, nid: NodeId, seed: u64) -> Self {
        let slots = share.slots();
        let spans = share.folios.iter().enumerate();
        let folio_of = spans.flat_map(|(number, span)| span.slots().map(move |_| number as u32)).collect();
        Self {
            source,
            folios: &share.folios,
            nid,
            first: slots.start,
            generations: vec![0; share.folios.len()],
            stored: Vec::with_capacity(slots.len()),
            places: vec![u32::MAX; slots.len()],
            folio_of,
            page: Page::default(),
            random: Random::new(seed),
            faults: Faults::default(),
        }
    }

    /// Stores half of the folios, every second one, before the clock starts.
    pub(super) fn fill(&mut self, zswap: &Zswap) {
        for folio in (0..self.folios.len()).step_by(2) {
            self.store(folio, zswap);
        }
    }

    /// Serves calls until their time is over.
    pub(super) fn serve(
        mut self,
        load: &Load,
        zswap: &Zswap,
        interrupt: &Interrupt,
        start: Instant,
    ) -> Found {
        let (mut stores, mut loads) = (call_histogram(), call_histogram());
        let (mut served, mut unserved, mut reads) = (0, 0, 0);
        let usage = ThreadUsage::now();
        let mut due = self.gap(load);
        while due < load.time {
            if !wait(start, due, interrupt) {
                break;
            }
            let now = start.elapsed();
            if now >= load.time {
                unserved = 1 + ((load.time - due).as_secs_f64() * load.rate) as u64;
                self.count_waiting(load, due, unserved, [&mut stores, &mut loads]);
                break;
            }
            if self.is_load(load) {
                let slot = self.stored[self.random.below(self.stored.len() as u64) as usize];
                let keep = self.stored.len() * 4 < self.places.len();
                self.load(slot, keep, zswap, || loads.saturating_record(late(start, due)));
                reads += u64::from(keep);
            } else {
                let folio = self.choose();
                self.store_timed(folio, zswap, || stores.saturating_record(late(start, due)));
            }
            served += 1;
            due += self.gap(load);
        }
        let (elapsed, usage) = (start.elapsed(), ThreadUsage::now().since(usage));
        self.empty(zswap);
        Found { stores, loads, reads, served, unserved, elapsed, usage, faults: self.faults }
    }

    /// The time from one arrival to the next.
    fn gap(&mut self, load: &Load) -> Duration {
        // Above 0, so that its logarithm is a number.
        let uniform = (self.random.next() >> 11).max(1) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() / load.rate)
    }

    fn is_load(&mut self, load: &Load) -> bool {
        let wanted = self.random.below(100) < u64::from(load.loads_percent);
        wanted && !self.stored.is_empty()
    }

    /// A folio to store. Where less than half is stored, one that is not is looked for: loads take as many as that.
    fn choose(&mut self) -> usize {
        let mut folio = 0;
        for _ in 0..TRIES {
            folio = self.random.below(self.folios.len() as u64) as usize;
            let vacant = self.places[(self.folios[folio].first - self.first) as usize] == u32::MAX;
            if vacant || self.stored.len() * 2 >= self.places.len() {
                break;
            }
        }
        folio
    }

    /// Calls that were due since `due` and never began: waiting times from none to the whole, evenly.
    fn count_waiting(&self, load: &Load, due: Duration, calls: u64, histograms: [&mut Histogram<u64>; 2]) {
        let whole = (load.time - due).as_nanos() as u64;
        let loads = calls * u64::from(load.loads_percent) / 100;
        for (histogram, calls) in histograms.into_iter().zip([calls - loads, loads]) {
            let steps = calls.clamp(1, STEPS);
            for step in 0..steps {
                let count = calls * (step + 1) / steps - calls * step / steps;
                let waited = (u128::from(whole) * u128::from(step + 1) / u128::from(steps)) as u64;
                histogram.saturating_record_n(waited.max(1), count);
            }
        }
    }

    fn store(&mut self, folio: usize, zswap: &Zswap) {
        self.store_timed(folio, zswap, || {});
    }

    /// Stores a folio with other content than before. `done` is called as soon as the store has answered.
    fn store_timed(&mut self, folio: usize, zswap: &Zswap, done: impl FnOnce()) {
        let span = self.folios[folio];
        self.generations[folio] = self.generations[folio].wrapping_add(1);
        let pages = self.source.pages(self.content(folio), span.pages as usize);
        let stored = Folio::new(SwapEntry::new(SWAP_TYPE, span.first), self.nid, pages)
            .map_err(|error| error.to_string())
            .and_then(|folio| zswap.store(&folio).map_err(|error| error.to_string()));
        done();
        for slot in span.slots() {
            match stored {
                Ok(()) => self.note(slot),
                // A store that fails leaves no slot of the folio.
                Err(_) => self.forget(slot),
            }
        }
        if let Err(reason) = stored {
            self.faults.rejected_pages += u64::from(span.pages);
            self.faults.refusal.get_or_insert(reason);
        }
    }

    /// Loads a page, or reads it when it is to stay, and compares it.
    fn load(&mut self, slot: u32, keep: bool, zswap: &Zswap, done: impl FnOnce()) {
        let entry = SwapEntry::new(SWAP_TYPE, slot);
        let loaded = if keep { zswap.read(entry, &mut self.page) } else { zswap.load(entry, &mut self.page) };
        done();
        let folio = self.folio_of[(slot - self.first) as usize] as usize;
        let span = self.folios[folio];
        let expected = self.source.page(self.content(folio) + (slot - span.first));
        let wrong = match loaded {
            Ok(()) if *self.page == *expected => None,
            Ok(()) => Some("other bytes than were stored last".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(wrong) = wrong {
            self.faults.mismatched_pages += 1;
            self.faults.tell(|| format!("load of the page at slot {slot}: {wrong}"));
        }
        if !keep {
            self.forget(slot);
        }
    }

    /// Loads and compares what is left.
    fn empty(&mut self, zswap: &Zswap) {
        while let Some(&slot) = self.stored.last() {
            self.load(slot, false, zswap, || {});
        }
    }

    /// The first page of a folio's content: another one each time it is stored, so that an old page is known as such.
    fn content(&self, folio: usize) -> u32 {
        let (span, generation) = (self.folios[folio], self.generations[folio]);
        // A prime number of pages further each time, and never over the end of the corpus, unless it is smaller than a folio.
        let period = u64::from(self.source.period());
        let starts =
            (period + 1).checked_sub(u64::from(span.pages)).filter(|starts| *starts > 0).unwrap_or(period);
        ((u64::from(span.first) + u64::from(generation) * 1_031) % starts) as u32
    }

    fn note(&mut self, slot: u32) {
        let place = &mut self.places[(slot - self.first) as usize];
        if *place == u32::MAX {
            *place = self.stored.len() as u32;
            self.stored.push(slot);
        }
    }

    fn forget(&mut self, slot: u32) {
        let place = std::mem::replace(&mut self.places[(slot - self.first) as usize], u32::MAX);
        if place == u32::MAX {
            return;
        }
        self.stored.swap_remove(place as usize);
        if let Some(&moved) = self.stored.get(place as usize) {
            self.places[(moved - self.first) as usize] = place;
        }
    }
}

/// Until a call is due: asleep while that is long, then awake. False after Ctrl-C.
fn wait(start: Instant, due: Duration, interrupt: &Interrupt) -> bool {
    while !interrupt.raised() {
        let left = due.saturating_sub(start.elapsed());
        if left.is_zero() {
            return true;
        }
        if left > SPIN {
            std::thread::sleep((left - SPIN).min(LOOK_EVERY));
        } else {
            std::hint::spin_loop();
        }
    }
    false
}

/// Nanoseconds since a call was due.
fn late(start: Instant, due: Duration) -> u64 {
    (start.elapsed().saturating_sub(due).as_nanos() as u64).max(1)
}
