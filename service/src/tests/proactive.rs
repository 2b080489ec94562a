//! The controller over a whole store, on a clock that the test makes up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::*;
use crate::{
    ColdAgeConfig, ColdPages, MemoryDevice, Proactive, ProactiveConfig, Reclaimer, ReclaimerConfig,
    ShrinkBudget, Swap, SwapDevice, TenantConfig, TenantId,
};

const PAGES: usize = 2000;
/// 1 % of the pages a minute.
const TARGET: f64 = PAGES as f64 / 100.0;

fn config(cold_pages: ColdPages) -> ProactiveConfig {
    ProactiveConfig {
        tick: Duration::from_secs(5),
        ticks_per_step: 12,
        budget: Duration::from_secs(60),
        cold_pages,
        cold_age: ColdAgeConfig {
            promotions_per_million: 10_000,
            min_age: 2,
            history: 20,
            percentile: 90,
            warm_up: 3,
        },
    }
}

fn page(slot: usize) -> PageBytes {
    let mut page = [0; PAGE_SIZE];
    let text: String =
        (0..1200usize).map(|i| format!("{slot} {:x} ", i.wrapping_mul(slot * 77 + 13))).collect();
    page.copy_from_slice(&text.as_bytes()[..PAGE_SIZE]);
    page
}

fn swap_over_memory() -> Swap {
    let zswap = Zswap::new(Config { method: Some(Method::Lz4), ..Config::default() }).unwrap();
    zswap.swapon_with_device(0, 1 << 16, Arc::new(MemoryDevice::new())).unwrap();
    Swap::new(Arc::new(zswap))
}

/// Pages in a store, each taken out and stored again at random, on average every so many seconds.
struct Program {
    swap: Swap,
    pages: Vec<PageBytes>,
    random: Random,
    every: Vec<f64>,
    /// The next use of each page.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    second: u64,
}

impl Program {
    /// Pages used every 20 to 3000 seconds: as many in each octave between.
    fn new() -> Program {
        let mut random = Random::new(11);
        let every = (0..PAGES).map(|_| 20.0 * 150f64.powf(random.below(1 << 20) as f64 / f64::from(1 << 20)));
        let every: Vec<f64> = every.collect();
        let pages = (0..PAGES).map(page).collect();
        let mut program =
            Program { swap: swap_over_memory(), pages, random, every, next: BinaryHeap::new(), second: 0 };
        for slot in 0..PAGES {
            program.swap.store(&folio(slot, &program.pages[slot..=slot])).unwrap();
            program.plan(slot);
        }
        program
    }

    fn plan(&mut self, slot: usize) {
        let wait = -self.every[slot] * ((1 + self.random.below(1 << 20)) as f64 / f64::from(1 << 20)).ln();
        self.next.push(Reverse((self.second + 1 + wait as u64, slot)));
    }

    /// Uses pages for a minute, and lets the controller run whenever it likes. Says how many came from the device.
    fn minute(&mut self, proactive: &mut Proactive) -> u64 {
        let before = self.swap.zswap().stats().device_reads;
        let mut bytes = [0; PAGE_SIZE];
        for _ in 0..60 {
            self.second += 1;
            while let Some(&Reverse((second, slot))) = self.next.peek()
                && second <= self.second
            {
                self.next.pop();
                self.swap.load(at(slot), &mut bytes).unwrap();
                assert!(bytes == self.pages[slot], "slot {slot}");
                self.swap.store(&folio(slot, &[bytes])).unwrap();
                self.plan(slot);
            }
            proactive.run(self.swap.zswap(), Duration::from_secs(self.second)).unwrap();
        }
        self.swap.zswap().stats().device_reads - before
    }

    fn minutes(&mut self, minutes: usize, proactive: &mut Proactive) -> f64 {
        (0..minutes).map(|_| self.minute(proactive)).sum::<u64>() as f64 / minutes as f64
    }
}

#[test]
fn pages_leave_ram_as_far_as_the_target_of_reads_allows() {
    let mut program = Program::new();
    let mut proactive = Proactive::new(config(ColdPages::WriteBack), Duration::ZERO);
    program.minutes(60, &mut proactive);
    let rate = program.minutes(60, &mut proactive);
    let stats = program.swap.zswap().stats();
    let threshold = proactive.stats().threshold;
    assert!(
        (0.4 * TARGET..=1.1 * TARGET).contains(&rate),
        "{rate} reads a minute at {threshold:?}, {TARGET} wanted"
    );
    assert!(stats.on_device_pages > PAGES as u64 / 20, "{}", stats.on_device_pages);
    let done = proactive.stats();
    assert_eq!(done.written_back_pages, stats.written_back_pages);
    assert_eq!(done.promoted_pages, stats.device_reads);
    // A job that uses all pages three times as often: for a while more are read than the target, and then not.
    program.every.iter_mut().for_each(|every| *every /= 3.0);
    program.next.clear();
    (0..PAGES).for_each(|slot| program.plan(slot));
    program.minutes(40, &mut proactive);
    let rate = program.minutes(30, &mut proactive);
    assert!(rate <= 1.1 * TARGET, "{rate} reads a minute at {:?}", proactive.stats().threshold);
    assert!(proactive.stats().threshold < threshold, "{threshold:?} before, {:?} after", proactive.stats());
    assert_nothing_is_left(program.swap.zswap());
}

#[test]
fn pages_that_were_used_are_never_written_back_by_age() {
    let swap = swap_over_memory();
    let zswap = swap.zswap();
    for slot in 0..64 {
        swap.store(&folio(slot, &[page(slot)])).unwrap();
    }
    let kept = TenantId(9);
    zswap.create_tenant(kept, TenantConfig { writeback: false, ..TenantConfig::default() }).unwrap();
    swap.store(&folio(64, &[page(64)]).with_tenant(kept)).unwrap();
    (0..5).for_each(|_| zswap.tick());
    let mut bytes = [0; PAGE_SIZE];
    for slot in (0..64).step_by(2) {
        zswap.read(at(slot), &mut bytes).unwrap();
    }
    let cold = |age, pages| {
        let budget = ShrinkBudget { pages, ..ShrinkBudget::default() };
        let before = zswap.stats();
        let shrunk = zswap.write_back_cold(NodeId(0), age, budget).unwrap();
        zswap.check().unwrap();
        assert_eq!(shrunk.released_bytes, before.pool_bytes - zswap.stats().pool_bytes);
        shrunk.written_back_pages
    };
    assert_eq!(cold(6, u64::MAX), 0);
    assert_eq!(cold(0, 0), 0, "a budget of nothing");
    assert_eq!(cold(5, 10), 10, "as many as the budget says");
    assert_eq!(cold(5, u64::MAX) + cold(5, u64::MAX), 22, "the next calls do the rest");
    assert_eq!(cold(1, u64::MAX) + cold(1, u64::MAX), 0, "the others were read in this tick");
    assert_eq!(cold(0, u64::MAX) + cold(0, u64::MAX), 32, "all but the page that must not be written");
    assert_eq!(zswap.stats().stored_pages, 1);
    for slot in 0..=64 {
        swap.load(at(slot), &mut bytes).unwrap();
        assert!(bytes == page(slot), "slot {slot}");
    }
    assert_nothing_is_left(zswap);
}

/// A device that lets the pages of a store age by each write.
#[derive(Default)]
struct Aging(OnceLock<Weak<Zswap>>);

impl SwapDevice for Aging {
    fn write(&self, _: SwapEntry, _: &PageBytes) -> io::Result<()> {
        self.0.get().unwrap().upgrade().unwrap().tick();
        Ok(())
    }

    fn read(&self, _: SwapEntry, _: &mut PageBytes) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

/// The slots of a few cold pages were held, and their I/O under way, until as many as fill a batch were found: on a node of
/// young pages as long as it takes to look at all of them, and a load or an invalidation waited for that.
#[test]
fn cold_page_is_written_before_many_others_are_looked_at() {
    let device = Arc::new(Aging::default());
    let zswap = Arc::new(Zswap::new(Config { method: Some(Method::Lz4), ..Config::default() }).unwrap());
    device.0.set(Arc::downgrade(&zswap)).unwrap();
    zswap.swapon_with_device(0, 1 << 16, device).unwrap();
    zswap.store(&folio(0, &[page(0)])).unwrap();
    zswap.tick();
    let young = page(1);
    for slot in 1..6000 {
        zswap.store(&folio(slot, std::slice::from_ref(&young))).unwrap();
    }
    // The first is the only one that is cold, and its write makes the others cold that were not yet looked at.
    let shrunk = zswap.write_back_cold(NodeId(0), 1, ShrinkBudget::default()).unwrap();
    assert!(shrunk.written_back_pages > 1000, "{shrunk:?}");
    assert!(shrunk.written_back_pages < 6000, "{shrunk:?}");
    zswap.check().unwrap();
    assert_nothing_is_left(&zswap);
}

#[test]
fn cold_pages_may_be_compressed_again_instead() {
    let mut program = Program::new();
    let before = program.swap.zswap().stats().object_bytes;
    let mut proactive = Proactive::new(config(ColdPages::Recompress(Method::DeflateDynamic)), Duration::ZERO);
    program.minutes(60, &mut proactive);
    let (stats, done) = (program.swap.zswap().stats(), proactive.stats());
    assert_eq!((stats.written_back_pages, done.promoted_pages), (0, 0));
    assert!(done.recompressed_pages > PAGES as u64 / 20, "{done:?}");
    assert!(stats.object_bytes < before - before / 100, "{} of {before}", stats.object_bytes);
    assert_nothing_is_left(program.swap.zswap());
}

#[test]
fn driver_that_was_late_lets_pages_age_by_the_time_that_passed() {
    let swap = swap_over_memory();
    swap.store(&folio(0, &[page(0)])).unwrap();
    let zswap = swap.zswap();
    let cold_age = ColdAgeConfig { min_age: 40, warm_up: 0, ..ColdAgeConfig::default() };
    let tick = Duration::from_secs(1);
    let config = ProactiveConfig { tick, ticks_per_step: 60, cold_age, ..config(ColdPages::WriteBack) };
    let mut proactive = Proactive::new(config.clone(), Duration::from_secs(100));
    assert_eq!(proactive.next(), Duration::from_secs(101));
    proactive.run(zswap, Duration::from_millis(100_900)).unwrap();
    proactive.run(zswap, Duration::from_millis(139_100)).unwrap();
    assert_eq!((proactive.next(), proactive.stats().threshold), (Duration::from_secs(140), None));
    proactive.run(zswap, Duration::from_secs(160)).unwrap();
    assert_eq!(proactive.stats().threshold, Some(40));
    assert_eq!(zswap.stats().on_device_pages, 1, "it is sixty ticks old");
    // Times that make no sense are no reason to fail.
    proactive.run(zswap, Duration::ZERO).unwrap();
    proactive.run(zswap, Duration::MAX).unwrap();
    let config = ProactiveConfig { tick: Duration::MAX, ..config };
    Proactive::new(config.clone(), Duration::MAX).run(zswap, Duration::MAX).unwrap();
    let config = ProactiveConfig { tick: Duration::ZERO, ticks_per_step: 0, ..config };
    Proactive::new(config, Duration::ZERO).run(zswap, Duration::MAX).unwrap();
    assert_nothing_is_left(zswap);
}

#[test]
fn thread_deals_with_cold_pages_if_it_is_asked_to() {
    let swap = swap_over_memory();
    for slot in 0..64 {
        swap.store(&folio(slot, &[page(slot)])).unwrap();
    }
    let cold_age = ColdAgeConfig { min_age: 1, warm_up: 0, ..ColdAgeConfig::default() };
    let tick = Duration::from_millis(1);
    let proactive = ProactiveConfig { tick, ticks_per_step: 2, cold_age, ..ProactiveConfig::default() };
    let config = ReclaimerConfig { proactive: Some(proactive), ..ReclaimerConfig::default() };
    let reclaimer = Reclaimer::spawn(Arc::clone(swap.zswap()), config).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while swap.zswap().stats().on_device_pages < 64 {
        assert!(Instant::now() < deadline, "{:?}", swap.zswap().stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(reclaimer);
    let mut bytes = [0; PAGE_SIZE];
    for slot in 0..64 {
        swap.load(at(slot), &mut bytes).unwrap();
        assert!(bytes == page(slot), "slot {slot}");
    }
    assert_nothing_is_left(swap.zswap());
}
