//! Density over a long life: pages of mixed sizes come and go, sizes shift, half of the pages leave at once, compaction is on.
//!
//! The codec is left out, so that fifty million operations take minutes: an engine "compresses" a page to the bytes in front
//! of it whose number the page names. Everything else is a store's; each load compares every byte.

use std::time::{Duration, Instant};

use zfolio::{
    Channels, Codec, Config, EngineError, Folio, Limit, NodeId, PAGE_SIZE, PageBytes, Topology, Zswap,
};
use zfolio_accel::{Compressed, Engine, Job, Outcome};

use crate::{Options, Random, aim, at};

/// Slots in use swing between these.
const LEAST: usize = 260_000;
const MOST: usize = 400_000;
/// Operations between two swings.
const PHASE: u64 = 2_000_000;
/// Operations between two calls of compaction, and the time of a call.
const COMPACT_EVERY: u64 = 2_000;
const COMPACT_TIME: Duration = Duration::from_micros(500);
/// Operations between two looks at the figures.
const LOOK_EVERY: u64 = 50_000;
/// Bytes of which all pages are pieces.
const NOISE: usize = 1 << 20;

/// A page is its length, its number, and a piece of the noise; the rest of it is of no interest.
struct Pages {
    noise: Vec<u8>,
}

impl Pages {
    fn new() -> Pages {
        let mut random = Random::new(1);
        Pages { noise: (0..NOISE / 8).flat_map(|_| random.next().to_ne_bytes()).collect() }
    }

    fn piece(&self, version: u64, len: usize) -> &[u8] {
        let start = version.wrapping_mul(0x9E37_79B9) as usize % (NOISE - PAGE_SIZE);
        &self.noise[start..start + len - 16]
    }

    fn fill(&self, page: &mut PageBytes, version: u64, len: usize) {
        page[..8].copy_from_slice(&(len as u64).to_ne_bytes());
        page[8..16].copy_from_slice(&version.to_ne_bytes());
        page[16..len].copy_from_slice(self.piece(version, len));
    }

    fn is(&self, page: &PageBytes, version: u64, len: usize) -> bool {
        page[..8] == (len as u64).to_ne_bytes()
            && page[8..16] == version.to_ne_bytes()
            && page[16..len] == *self.piece(version, len)
    }
}

/// Takes pages at their word; see the module.
struct AtTheirWord;

fn crc_of(bytes: &[u8]) -> u32 {
    bytes[8..12].iter().fold(0, |crc, &byte| crc << 8 | u32::from(byte))
}

impl Engine for AtTheirWord {
    fn name(&self) -> &'static str {
        "at-their-word"
    }

    fn window(&self) -> usize {
        1
    }

    fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(Outcome<'a, '_>),
    ) {
        for page in pages {
            let len = u64::from_ne_bytes(*page.first_chunk().expect("long enough")) as usize;
            let crc = crc_of(page);
            sink(Outcome::Done(Compressed::Bytes { bytes: &page[..len], codec: Codec::Lz4, crc }));
        }
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        for job in jobs.iter_mut().flatten() {
            job.page[..job.bytes.len()].copy_from_slice(job.bytes);
            let fits = job.bytes.len() >= 16;
            job.finish(if fits { Ok(crc_of(job.bytes)) } else { Err(EngineError::NotDone) });
        }
    }
}

/// Lengths shift with the phases, so that what is left of one is in the way of the next.
fn len(random: &mut Random, phase: u64) -> usize {
    let shift = (phase % 5) as usize * 350;
    match random.below(20) {
        0..8 => 64 + (random.below(600) + shift / 2) % 1200,
        8..17 => 600 + (random.below(1600) + shift) % 2400,
        _ => 2400 + random.below(1680),
    }
}

/// The live pages of a test: which slots are in use, and what they hold.
struct Live {
    slots: Vec<(u64, u16)>,
    used: Vec<u32>,
    place: Vec<u32>,
    free: Vec<u32>,
}

pub(crate) fn run(options: &Options) {
    let operations = options.operations;
    println!(
        "churn: {operations} operations of mixed sizes, {LEAST} to {MOST} pages live, compaction of at most"
    );
    println!(
        "{COMPACT_TIME:?} every {COMPACT_EVERY} operations; allocated is all memory of the pool, the warm stock included"
    );
    let config = Config { max_pool: Limit::Bytes(1 << 40), warm_bytes: 1 << 20, ..Config::default() };
    let topology = Topology::single_node();
    let channels =
        Channels::with_engine(Codec::Lz4, &topology, "at-their-word", |_, _| Box::new(AtTheirWord));
    let zswap = Zswap::with_channels(config, &topology, channels).expect("it needs nothing");
    zswap.swapon(0, u32::try_from(MOST).expect("few")).expect("first swapon");
    let pages = Pages::new();
    let mut live = Live {
        slots: vec![(0, 0); MOST],
        used: Vec::new(),
        place: vec![0; MOST],
        free: (0..u32::try_from(MOST).expect("few")).rev().collect(),
    };
    let mut random = Random::new(2);
    let mut page = [0; PAGE_SIZE];
    let (mut worst, mut sum, mut looks, mut least_live) = (0f64, 0.0, 0u32, usize::MAX);
    let (mut moved, mut compacting) = (0u64, Duration::ZERO);
    let (mut phase, mut growing, mut warm) = (0, true, false);
    let start = Instant::now();
    println!("{:>12}{:>10}{:>14}{:>14}{:>10}", "operations", "live", "compressed", "allocated", "ratio");
    for operation in 0..operations {
        if operation % PHASE == PHASE - 1 {
            phase += 1;
            growing = !growing;
        }
        // A walk that drifts up to the most, or down to the least.
        let stores = if live.used.len() <= LEAST {
            true
        } else if live.used.len() >= MOST {
            false
        } else {
            random.below(100) < if growing { 60 } else { 40 }
        };
        if stores {
            let slot = live.free.swap_remove(random.below(live.free.len()));
            let len = len(&mut random, phase);
            pages.fill(&mut page, operation, len);
            let folio =
                Folio::new(at(slot as usize), NodeId(0), std::slice::from_ref(&page)).expect("one page");
            zswap.store(&folio).expect("there is room");
            live.slots[slot as usize] = (operation, u16::try_from(len).expect("a page at most"));
            live.place[slot as usize] = u32::try_from(live.used.len()).expect("few");
            live.used.push(slot);
        } else {
            let slot = live.used[random.below(live.used.len())];
            take(&mut live, slot);
            let (version, len) = live.slots[slot as usize];
            zswap.load(at(slot as usize), &mut page).expect("stored");
            assert!(pages.is(&page, version, len.into()), "slot {slot} came back changed");
            live.free.push(slot);
        }
        if operation % COMPACT_EVERY == 0 {
            let before = Instant::now();
            moved += zswap.compact(NodeId(0), COMPACT_TIME).expect("node 0 is there").moved_pages;
            compacting += before.elapsed();
        }
        // It is warm when it has been full, and half-way down once.
        warm |= operation >= 2 * PHASE || operation >= operations / 2;
        if operation % LOOK_EVERY == LOOK_EVERY - 1 || operation == operations - 1 {
            let stats = zswap.stats();
            let ratio = stats.pool_bytes as f64 / stats.object_bytes as f64;
            if warm {
                worst = worst.max(ratio);
                sum += ratio;
                looks += 1;
                least_live = least_live.min(live.used.len());
            }
            if operation % (operations / 20).max(1) < LOOK_EVERY || operation == operations - 1 {
                println!(
                    "{:>12}{:>10}{:>14}{:>14}{ratio:>10.4}",
                    operation + 1,
                    live.used.len(),
                    stats.object_bytes,
                    stats.pool_bytes
                );
            }
        }
    }
    let took = start.elapsed();
    zswap.check().expect("consistent");
    let stats = zswap.stats();
    let end = stats.pool_bytes as f64 / stats.object_bytes as f64;
    for slot in live.used.iter().map(|&slot| slot as usize) {
        let (version, len) = live.slots[slot];
        zswap.load(at(slot), &mut page).expect("stored");
        assert!(pages.is(&page, version, len.into()), "slot {slot} came back changed");
    }
    println!(
        "{:.2} us an operation, {:.0} % of the time in compaction, which moved {moved} pages; every byte verified",
        took.as_secs_f64() * 1e6 / operations as f64,
        100.0 * compacting.as_secs_f64() / took.as_secs_f64(),
    );
    println!(
        "at least {least_live} pages live after warm-up; ratio {:.4} on average there",
        sum / f64::from(looks)
    );
    aim("allocated/compressed at the end", "<= 1.05", &format!("{end:.4}"), end <= 1.05);
    aim("and at its worst after warm-up", "<= 1.05", &format!("{worst:.4}"), worst <= 1.05);
}

/// Takes a slot out of those in use.
fn take(live: &mut Live, slot: u32) {
    let place = live.place[slot as usize] as usize;
    live.used.swap_remove(place);
    if let Some(&moved) = live.used.get(place) {
        live.place[moved as usize] = u32::try_from(place).expect("few");
    }
}
