//! One thread of a run: stores its folios, reads and loads its pages, and compares every byte.
//!
//! Comparing happens between the timed chunks. The thread's buffers are made once, so that a pass allocates
//! nothing that would show as growth of the store.

use std::borrow::Cow;
use std::collections::TryReserveError;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use zfolio::{Folio, SwapEntry, Zswap};
use zfolio_accel::{NodeId, PAGE_SIZE, Page};

use super::layout::Layout;
use super::phases::{PhaseTime, Sampler};
use super::plan::{FolioSpan, Share};
use super::stopwatch::{CHUNK_PAGES, Stopwatch};
use crate::corpus::Arranged;
use crate::corpus::random::Random;
use crate::interrupt::Interrupt;
use crate::os::thread_cpu_time;

/// The swap type all runs use.
pub(crate) const SWAP_TYPE: u8 = 0;

/// Faults told in words; the rest is only counted.
const EXAMPLES: usize = 3;

/// What a pass does with every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Stores every folio, in order.
    Store,
    /// Reads every page in order; the store keeps it.
    Read,
    /// Loads every page in random order; the store gives it up.
    Load,
}

impl Pass {
    pub(crate) const ALL: [Self; 3] = [Self::Store, Self::Read, Self::Load];

    /// What it is called in tables of times.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Read => "read in order",
            Self::Load => "load at random",
        }
    }
}

/// What went wrong: nothing, on a good day.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Pages that came back different, or not at all although they were stored.
    pub(crate) mismatched_pages: u64,
    /// Pages of folios the store refused.
    pub(crate) rejected_pages: u64,
    /// Checks of the emptied store that did not hold.
    pub(crate) failed_checks: u64,
    pub(crate) examples: Vec<String>,
    /// What the store said when it first refused.
    pub(crate) refusal: Option<String>,
}

impl Faults {
    pub(crate) fn any(&self) -> bool {
        self.mismatched_pages + self.rejected_pages + self.failed_checks > 0
    }

    /// Wrong bytes or wrong books; a refusal, for lack of memory say, is neither.
    pub(crate) fn store_failed(&self) -> bool {
        self.mismatched_pages + self.failed_checks > 0
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.mismatched_pages += other.mismatched_pages;
        self.rejected_pages += other.rejected_pages;
        self.failed_checks += other.failed_checks;
        self.refusal = self.refusal.take().or(other.refusal);
        for example in other.examples {
            self.tell(|| example);
        }
    }

    pub(crate) fn fail_check(&mut self, what: String) {
        self.failed_checks += 1;
        self.tell(|| what);
    }

    pub(crate) fn tell(&mut self, example: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }
}

/// One thread's part of a run.
pub(crate) struct Worker<'a> {
    source: Arranged<'a>,
    /// In the order they are stored.
    folios: Cow<'a, [FolioSpan]>,
    layout: Option<Layout>,
    nid: NodeId,
    /// Page numbers, in the order of the current pass.
    order: Vec<u32>,
    buffers: Vec<Page>,
    /// Slots the store refused: ranges in order that do not touch, so that a store that refuses everything from
    /// some page on, for lack of memory, takes no memory here.
    rejected: Vec<Range<u32>>,
    watch: Stopwatch,
    /// Where calls are timed by phase.
    sampler: Option<Sampler>,
    faults: Faults,
    /// The part of a store's time by which it is slowed down, to see whether a comparison finds it.
    slow_store: f64,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(source: Arranged<'a>, share: &'a Share, nid: NodeId) -> Result<Self, TryReserveError> {
        let mut order = Vec::new();
        order.try_reserve_exact(share.slots().len())?;
        order.extend(share.slots());
        Ok(Self {
            source,
            folios: Cow::Borrowed(&share.folios),
            layout: None,
            nid,
            order,
            buffers: Page::zeroed_vec(CHUNK_PAGES),
            rejected: Vec::new(),
            watch: Stopwatch::new(),
            sampler: None,
            faults: Faults::default(),
            slow_store: 0.0,
        })
    }

    /// The same, with each store slowed down by so many percent of its time.
    pub(crate) fn slowed(self, percent: f64) -> Self {
        Self { slow_store: percent / 100.0, ..self }
    }

    /// The same in a layout: its folios in another order, its thread further down its stack.
    pub(crate) fn laid_out(mut self, layout: Option<&Layout>) -> Self {
        if let Some(layout) = layout {
            // Folios of one size: smaller ones are a rest, and come last.
            let folios = self.folios.to_mut();
            let size = folios.first().map_or(0, |folio| folio.pages);
            let end = folios.partition_point(|folio| folio.pages == size);
            layout.shuffle(&mut folios[..end]);
            self.layout = Some(layout.clone());
        }
        self
    }

    /// The same with one call in so many timed by phase.
    pub(crate) fn timed(self, one_in: Option<u32>) -> Self {
        Self { sampler: one_in.map(Sampler::new), ..self }
    }

    /// What the calls of the pass that has just ended took by phase.
    pub(crate) fn phases(&mut self) -> Option<PhaseTime> {
        self.sampler.as_mut().map(Sampler::finish)
    }

    /// The layout it is in, if any.
    pub(crate) fn layout(&self) -> Option<Layout> {
        self.layout.clone()
    }

    /// Pages of this worker.
    pub(crate) fn pages(&self) -> u64 {
        self.order.len() as u64
    }

    /// The clock of the pass that has just ended.
    pub(crate) fn watch(&mut self) -> &mut Stopwatch {
        &mut self.watch
    }

    /// The faults since the last call.
    pub(crate) fn take_faults(&mut self) -> Faults {
        std::mem::take(&mut self.faults)
    }

    /// Brings the pages into the order of `pass`. Not timed.
    pub(crate) fn prepare(&mut self, pass: Pass, seed: u64) {
        if let Some(sampler) = &mut self.sampler {
            sampler.prepare();
        }
        match pass {
            Pass::Store => self.rejected.clear(),
            Pass::Read => self.order.sort_unstable(),
            Pass::Load => {
                // From sorted order, so that a seed means the same order in every run.
                self.order.sort_unstable();
                let seed = self.layout.as_ref().map_or(seed, |layout| layout.reseed(seed));
                Random::new(seed).shuffle(&mut self.order);
            }
        }
    }

    /// Runs a pass; `false` when it was interrupted. `done` counts pages for whoever watches.
    pub(crate) fn run(&mut self, pass: Pass, zswap: &Zswap, interrupt: &Interrupt, done: &AtomicU64) -> bool {
        match pass {
            Pass::Store => self.store(zswap, interrupt, done),
            Pass::Read => self.fetch("read", interrupt, done, |entry, page| {
                zswap.read(entry, page).map_err(|error| error.to_string())
            }),
            Pass::Load => self.fetch("load", interrupt, done, |entry, page| {
                zswap.load(entry, page).map_err(|error| error.to_string())
            }),
        }
    }

    fn store(&mut self, zswap: &Zswap, interrupt: &Interrupt, done: &AtomicU64) -> bool {
        let Self { source, folios, nid, rejected, watch, sampler, faults, slow_store, .. } = self;
        let mut spans: &[FolioSpan] = folios;
        let mut refusals: Vec<(usize, String)> = Vec::new();
        while let Some(span) = spans.first() {
            if interrupt.raised() {
                return false;
            }
            let (chunk, rest) = spans.split_at((CHUNK_PAGES / span.pages as usize).clamp(1, spans.len()));
            spans = rest;
            let calls: Vec<Folio<'_>> = chunk
                .iter()
                .map(|span| {
                    let pages = source.pages(span.first, span.pages as usize);
                    Folio::new(SwapEntry::new(SWAP_TYPE, span.first), *nid, pages)
                        .expect("spans are powers of two and aligned to their size")
                })
                .collect();
            let pages = chunk.iter().map(|span| u64::from(span.pages)).sum();
            watch.chunk(chunk.len(), pages, |index| {
                let start = (*slow_store > 0.0).then(thread_cpu_time);
                let folio = &calls[index];
                timed(sampler, folio.pages().len() as u32, || {
                    if let Err(error) = zswap.store(folio) {
                        refusals.push((index, error.to_string()));
                    }
                });
                if let Some(start) = start {
                    let now = thread_cpu_time();
                    let until = now + (now - start).mul_f64(*slow_store);
                    while thread_cpu_time() < until {}
                }
            });
            for (index, reason) in refusals.drain(..) {
                let span = chunk[index];
                reject(rejected, span.slots());
                faults.rejected_pages += u64::from(span.pages);
                faults.refusal.get_or_insert(reason);
            }
            done.fetch_add(pages, Ordering::Relaxed);
        }
        // In a layout they did not come in order.
        rejected.sort_unstable_by_key(|slots| slots.start);
        true
    }

    fn fetch(
        &mut self,
        verb: &str,
        interrupt: &Interrupt,
        done: &AtomicU64,
        fetch: impl Fn(SwapEntry, &mut [u8; PAGE_SIZE]) -> Result<(), String>,
    ) -> bool {
        let Self { source, order, buffers, rejected, watch, sampler, faults, .. } = self;
        let mut refusals: Vec<(usize, String)> = Vec::new();
        let mut wanted = [0u32; CHUNK_PAGES];
        for numbers in order.chunks(CHUNK_PAGES) {
            if interrupt.raised() {
                return false;
            }
            let mut count = 0;
            for number in numbers.iter().filter(|number| !is_rejected(rejected, **number)) {
                wanted[count] = *number;
                count += 1;
            }
            let wanted = &wanted[..count];
            watch.chunk(count, count as u64, |index| {
                timed(sampler, 1, || {
                    if let Err(error) = fetch(SwapEntry::new(SWAP_TYPE, wanted[index]), &mut buffers[index]) {
                        refusals.push((index, error));
                    }
                });
            });
            for (index, reason) in &refusals {
                faults.mismatched_pages += 1;
                faults.tell(|| format!("{verb} of the page at slot {}: {reason}", wanted[*index]));
            }
            for (index, number) in wanted.iter().enumerate() {
                let (got, expected): (&[u8; PAGE_SIZE], _) = (&buffers[index], source.page(*number));
                if got != expected && refusals.iter().all(|(refused, _)| *refused != index) {
                    faults.mismatched_pages += 1;
                    faults.tell(|| difference(verb, *number, got, expected));
                }
            }
            refusals.clear();
            done.fetch_add(count as u64, Ordering::Relaxed);
        }
        true
    }
}

/// Makes a call, and has it timed where calls are.
#[inline(always)]
fn timed(sampler: &mut Option<Sampler>, pages: u32, call: impl FnOnce()) {
    match sampler {
        None => call(),
        Some(sampler) => sampler.call(pages, call),
    }
}

/// Adds slots that come after all before them.
fn reject(rejected: &mut Vec<Range<u32>>, slots: Range<u32>) {
    match rejected.last_mut() {
        Some(last) if last.end == slots.start => last.end = slots.end,
        _ => rejected.push(slots),
    }
}

fn is_rejected(rejected: &[Range<u32>], slot: u32) -> bool {
    let next = rejected.partition_point(|slots| slots.end <= slot);
    rejected.get(next).is_some_and(|slots| slots.contains(&slot))
}

fn difference(verb: &str, slot: u32, got: &[u8; PAGE_SIZE], expected: &[u8; PAGE_SIZE]) -> String {
    let differing = got.iter().zip(expected).filter(|(got, expected)| got != expected).count();
    let first = got.iter().zip(expected).position(|(got, expected)| got != expected).unwrap_or(0);
    format!(
        "{verb} of the page at slot {slot}: {differing} of {PAGE_SIZE} bytes differ, the first at {first}: {:#04x} instead \
         of {:#04x}",
        got[first], expected[first]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_slots_are_found_and_ranges_that_touch_are_one() {
        let mut rejected = Vec::new();
        for slots in [4..8, 8..12, 16..17, 20..24] {
            reject(&mut rejected, slots);
        }
        assert_eq!(rejected, [4..12, 16..17, 20..24]);
        let found: Vec<u32> = (0..30).filter(|slot| is_rejected(&rejected, *slot)).collect();
        assert_eq!(found, (4..12).chain(16..17).chain(20..24).collect::<Vec<_>>());
    }
}
