//! What is raced: anything that takes pages and gives them back, and a round of it.
//!
//! Peers are timed in chunks of pages, by the CPU clock of this thread and of helper processes, and by the wall clock.
//! Between chunks pages are prepared and compared with their source; that is in no number.

use std::time::{Duration, Instant};

use zfolio_accel::{PAGE_SIZE, Page, PageBytes};

use crate::bench::stopwatch::CHUNK_PAGES;
use crate::bench::worker::Faults;
use crate::corpus::random::Random;
use crate::interrupt::Interrupt;
use crate::os::thread_cpu_time;

/// Pages that a batch loads together.
pub(super) const BATCH: usize = 16;

/// What is done with every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Stores page by page, in order.
    Store,
    /// Loads page by page, in order.
    LoadInOrder,
    /// Loads page by page, at random.
    Load,
    /// Stores folios of 64 KiB, in order.
    StoreFolios,
    /// Loads [`BATCH`] pages with a call, at random.
    LoadBatch,
}

impl Pass {
    pub(super) const ALL: [Self; 5] =
        [Self::Store, Self::LoadInOrder, Self::Load, Self::StoreFolios, Self::LoadBatch];

    /// What the names of its figures begin with.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::LoadInOrder => "load_seq",
            Self::Load => "load",
            Self::StoreFolios => "store_64k",
            Self::LoadBatch => "load_batch",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::LoadInOrder => "load in order",
            Self::Load => "load at random",
            Self::StoreFolios => "store 64K folios",
            Self::LoadBatch => "load 16 at random",
        }
    }

    pub(super) fn stores(self) -> bool {
        matches!(self, Self::Store | Self::StoreFolios)
    }

    /// What other peers, that have no such thing, are compared with in it.
    pub(super) fn plain(self) -> Self {
        match self {
            Self::StoreFolios => Self::Store,
            Self::LoadBatch => Self::Load,
            pass => pass,
        }
    }
}

/// What a peer's pages take in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// Everything, metadata included.
    pub(super) bytes: u64,
    pub(super) metadata_bytes: u64,
    /// The compressed bytes alone, where the peer tells.
    pub(super) compressed_bytes: Option<u64>,
}

/// Something that takes pages and gives them back.
pub(super) trait Peer {
    /// The codec, and who has it.
    fn codec(&self) -> &str;
    fn backend(&self) -> &str;

    /// What it is, with versions.
    fn report(&self) -> String;

    /// The passes it can make.
    fn passes(&self) -> &'static [Pass];

    /// Rounds after this one are left out: the peer is too slow for more.
    fn last_round(&self) -> u32 {
        u32::MAX
    }

    /// Makes it empty and ready for all of `pages` pages. Not timed.
    fn begin(&mut self, pages: usize) -> Result<(), String>;

    /// What has to happen before a chunk and is not timed.
    fn prepare(&mut self, pass: Pass, slots: &[u32], source: &[PageBytes]) -> Result<(), String> {
        let _ = (pass, slots, source);
        Ok(())
    }

    /// Stores the pages that `slots` name, which follow each other. Timed.
    fn store(&mut self, pass: Pass, slots: &[u32], source: &[PageBytes]) -> Result<(), String>;

    /// All pages are stored. Not timed.
    fn stored(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Loads the pages of `slots` into `pages`. Timed.
    fn load(&mut self, pass: Pass, slots: &[u32], pages: &mut [Page]) -> Result<(), String>;

    /// Brings what a chunk has loaded into `pages`, where `load` has not. Not timed.
    fn settle(&mut self, slots: &[u32], pages: &mut [Page]) {
        let _ = (slots, pages);
    }

    /// Are the pages still there after this pass?
    fn keeps(&self, pass: Pass) -> bool {
        pass.stores()
    }

    /// After all pages were stored.
    fn memory(&mut self) -> Result<Memory, String>;

    /// CPU time that others have used for it so far.
    fn others_cpu_time(&self) -> Duration {
        Duration::ZERO
    }

    /// Gives back what it holds after a round. Not timed.
    fn end(&mut self, faults: &mut Faults) -> Result<(), String> {
        let _ = faults;
        Ok(())
    }
}

/// Time of a pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Took {
    pub(super) pages: u64,
    pub(super) wall: Duration,
    pub(super) cpu: Duration,
}

/// A round of a peer.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) number: u32,
    pub(super) passes: Vec<(Pass, Took)>,
    pub(super) memory: Memory,
    pub(super) faults: Faults,
}

impl Round {
    pub(super) fn pass(&self, wanted: Pass) -> Option<Took> {
        self.passes.iter().find(|(pass, _)| *pass == wanted).map(|(_, took)| *took)
    }
}

/// The pages of a run, and what is needed to go through them.
pub(super) struct Course<'a> {
    source: &'a [PageBytes],
    in_order: Vec<u32>,
    at_random: Vec<u32>,
    buffers: Vec<Page>,
    interrupt: &'a Interrupt,
}

impl<'a> Course<'a> {
    /// Pages are aligned, as devices want them.
    pub(super) fn new(source: &'a [PageBytes], interrupt: &'a Interrupt) -> Self {
        let in_order: Vec<u32> = (0..source.len() as u32).collect();
        let at_random = in_order.clone();
        Self { source, in_order, at_random, buffers: Page::zeroed_vec(CHUNK_PAGES), interrupt }
    }

    /// A round of a peer; none after Ctrl-C.
    pub(super) fn round(&mut self, peer: &mut dyn Peer, number: u32) -> Result<Option<Round>, String> {
        // The same order for every peer of a round.
        self.at_random.copy_from_slice(&self.in_order);
        Random::new(u64::from(number)).shuffle(&mut self.at_random);
        let mut round =
            Round { number, passes: Vec::new(), memory: Memory::default(), faults: Faults::default() };
        peer.begin(self.source.len())?;
        let mut stored = false;
        for &pass in peer.passes() {
            if !pass.stores() && !stored && self.pass(peer, Pass::Store, &mut round.faults)?.is_none() {
                return Ok(None);
            }
            let Some(took) = self.pass(peer, pass, &mut round.faults)? else { return Ok(None) };
            round.passes.push((pass, took));
            if pass == Pass::Store {
                round.memory = peer.memory()?;
            }
            stored = peer.keeps(pass);
        }
        peer.end(&mut round.faults)?;
        Ok(Some(round))
    }

    fn pass(&mut self, peer: &mut dyn Peer, pass: Pass, faults: &mut Faults) -> Result<Option<Took>, String> {
        let random = matches!(pass, Pass::Load | Pass::LoadBatch);
        let order = if random { &self.at_random } else { &self.in_order };
        let mut took = Took { pages: order.len() as u64, ..Took::default() };
        for slots in order.chunks(CHUNK_PAGES) {
            if self.interrupt.raised() {
                return Ok(None);
            }
            let chunk = &self.source[slots[0] as usize..];
            let chunk = &chunk[..chunk.len().min(slots.len())];
            peer.prepare(pass, slots, chunk)?;
            let buffers = &mut self.buffers[..slots.len()];
            let (others, cpu) = (peer.others_cpu_time(), thread_cpu_time());
            let start = Instant::now();
            if pass.stores() {
                peer.store(pass, slots, chunk)?;
            } else {
                peer.load(pass, slots, buffers)?;
            }
            took.wall += start.elapsed();
            took.cpu += thread_cpu_time() - cpu + peer.others_cpu_time().saturating_sub(others);
            if !pass.stores() {
                peer.settle(slots, buffers);
                compare(self.source, slots, buffers, pass, faults);
            }
        }
        if pass.stores() {
            peer.stored()?;
        }
        Ok(Some(took))
    }
}

fn compare(source: &[PageBytes], slots: &[u32], pages: &mut [Page], pass: Pass, faults: &mut Faults) {
    for (slot, page) in slots.iter().zip(pages) {
        if **page != source[*slot as usize] {
            faults.mismatched_pages += 1;
            faults.tell(|| format!("{}: the page of slot {slot} is not what was stored", pass.title()));
        }
        // What the next chunk does not write must not pass for its answer.
        page[..8].fill(0xa5);
        page[PAGE_SIZE - 8..].fill(0xa5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps pages as they are, until it is asked for the one it loses.
    struct Forgetful {
        pages: Vec<PageBytes>,
        loses: Option<usize>,
        loaded: Vec<u32>,
    }

    impl Peer for Forgetful {
        fn codec(&self) -> &str {
            "none"
        }
        fn backend(&self) -> &str {
            "test"
        }
        fn report(&self) -> String {
            String::new()
        }
        fn passes(&self) -> &'static [Pass] {
            &[Pass::Store, Pass::LoadInOrder, Pass::Load]
        }
        fn begin(&mut self, pages: usize) -> Result<(), String> {
            self.pages = vec![[0; PAGE_SIZE]; pages];
            Ok(())
        }
        fn store(&mut self, _: Pass, slots: &[u32], source: &[PageBytes]) -> Result<(), String> {
            assert_eq!(slots.len(), source.len());
            slots.iter().zip(source).for_each(|(slot, page)| self.pages[*slot as usize] = *page);
            Ok(())
        }
        fn load(&mut self, _: Pass, slots: &[u32], pages: &mut [Page]) -> Result<(), String> {
            for (slot, page) in slots.iter().zip(pages) {
                self.loaded.push(*slot);
                if self.loses != Some(*slot as usize) {
                    **page = self.pages[*slot as usize];
                }
            }
            Ok(())
        }
        fn memory(&mut self) -> Result<Memory, String> {
            Ok(Memory::default())
        }
    }

    fn race(loses: Option<usize>) -> (Round, Vec<u32>) {
        let source: Vec<PageBytes> = (0..150u8).map(|fill| [fill; PAGE_SIZE]).collect();
        let interrupt = Interrupt::default();
        let mut peer = Forgetful { pages: Vec::new(), loses, loaded: Vec::new() };
        let round = Course::new(&source, &interrupt).round(&mut peer, 3).expect("it does not fail");
        (round.expect("nobody interrupts"), peer.loaded)
    }

    #[test]
    fn every_page_is_loaded_once_a_pass_in_order_and_then_not() {
        let (round, loaded) = race(None);
        assert_eq!(round.faults.mismatched_pages, 0);
        assert_eq!(round.passes.iter().map(|(_, took)| took.pages).collect::<Vec<_>>(), [150; 3]);
        let (in_order, at_random) = loaded.split_at(150);
        assert!(in_order.is_sorted() && !at_random.is_sorted());
        let mut sorted = at_random.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, in_order);
    }

    #[test]
    fn page_that_does_not_come_back_is_told_in_each_pass() {
        // Page 100 is in the second chunk, whose buffer holds another page by then.
        let (round, _) = race(Some(100));
        assert_eq!(round.faults.mismatched_pages, 2, "{:?}", round.faults);
    }
}
