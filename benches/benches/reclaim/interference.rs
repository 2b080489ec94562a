//! Load p99 while another core stores and shrinks flat out.
//!
//! Each round has all of these, in a different order each time: the loader alone; beside a thread that alternately stores and
//! shrinks, in the same store, tenant and node; and beside two that share nothing with the store, to tell what is the machine's: a
//! bare loop of the codec, and a loop that copies memory. The loader is pinned to one core, the other thread to another.

use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use zfolio::{
    Backend, Codec, Config, Folio, LoadError, NodeId, PAGE_SIZE, PageBytes, SwapDevice, SwapEntry, Zswap,
};
use zfolio_fallback::{Codecs, max_compressed_len};

use crate::{Options, Random, aim, at, median, pages};

/// Pages that the loader stores and then loads, in random order, before it stores the next.
const SET: usize = 4096;
/// Sets of an arm in a round.
const SETS: usize = 6;
/// Pages of the thread beside; what it stores replaces what it stored so many pages ago, if that is still there.
const BESIDE: usize = 1 << 15;
/// Pages of one turn of storing, and about those of one shrink.
const TURN: usize = 256;

const ARMS: [&str; 4] = ["idle", "stores and shrinks", "bare codec loop", "copying loop"];

/// Memory, in order of the slots of its one swap type.
struct Slots(Mutex<Vec<PageBytes>>);

impl SwapDevice for Slots {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()> {
        self.0.lock().expect("never poisoned")[entry.offset() as usize] = *page;
        Ok(())
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()> {
        page.copy_from_slice(&self.0.lock().expect("never poisoned")[entry.offset() as usize]);
        Ok(())
    }
}

/// Times of an arm's loads in nanoseconds, and what was not timed.
#[derive(Default)]
struct Arm {
    nanos: Vec<u32>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    p999: Vec<f64>,
    preempted: u64,
    written_back: u64,
}

fn pin(core: usize) {
    // SAFETY: an all-zero set is a valid one, and is only read.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result != 0 {
        println!("not pinned to core {core}: {}", io::Error::last_os_error());
    }
}

/// Involuntary context switches of this thread so far.
fn preemptions() -> u64 {
    // SAFETY: fills the struct it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    u64::try_from(usage.ru_nivcsw).unwrap_or(0)
}

/// The thread beside, which does `work` with the number of the turn until it is told to stop.
fn beside(stop: &AtomicBool, turns: &AtomicU64, mut work: impl FnMut(usize)) {
    pin(1);
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        work(turn);
        turn += 1;
        turns.fetch_add(1, Ordering::Relaxed);
    }
}

fn load_sets(zswap: &Zswap, sources: &[PageBytes], random: &mut Random, arm: &mut Arm) {
    let mut page = [0; PAGE_SIZE];
    for _ in 0..SETS {
        for (k, folio) in sources.chunks_exact(16).enumerate() {
            let folio = Folio::new(at(k * 16), NodeId(0), folio).expect("aligned");
            zswap.store(&folio).expect("there is room");
        }
        let mut order: Vec<usize> = (0..SET).collect();
        for k in (1..SET).rev() {
            order.swap(k, random.below(k + 1));
        }
        let before = preemptions();
        for offset in order {
            let start = Instant::now();
            let result = zswap.load(at(offset), &mut page);
            let nanos = start.elapsed().as_nanos();
            match result {
                Ok(()) => {
                    assert!(page == sources[offset], "page {offset} came back changed");
                    arm.nanos.push(u32::try_from(nanos).unwrap_or(u32::MAX));
                }
                // Rare, and counted: the loader's pages are the youngest.
                Err(LoadError::WrittenBack { .. }) => arm.written_back += 1,
                Err(error) => panic!("page {offset}: {error}"),
            }
        }
        arm.preempted += preemptions() - before;
    }
    arm.nanos.sort_unstable();
    let at = |share: f64| f64::from(arm.nanos[((arm.nanos.len() - 1) as f64 * share) as usize]);
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    arm.p50.push(p50);
    arm.p99.push(p99);
    arm.p999.push(p999);
    arm.nanos.clear();
}

/// One turn of the thread that stores and shrinks; its slots come after the loader's.
fn store_and_shrink(zswap: &Zswap, sources: &[PageBytes], turn: usize) -> u64 {
    let first = turn * TURN % BESIDE;
    for (k, folio) in sources[first..first + TURN].chunks_exact(16).enumerate() {
        let folio = Folio::new(at(SET + first + k * 16), NodeId(0), folio).expect("aligned");
        zswap.store(&folio).expect("there is room");
    }
    let shrunk = zswap.shrink(NodeId(0), (TURN * PAGE_SIZE / 2) as u64).expect("node 0 is there");
    shrunk.written_back_pages
}

pub(crate) fn run(options: &Options) {
    println!(
        "load p99, loader pinned to core 0, a thread on core 1, software backend, {} rounds",
        options.rounds
    );
    let (mine, theirs) = (pages(SET, 1), pages(BESIDE, 2));
    let config = Config { backend: Backend::Software, method: Some(Codec::Lz4.into()), ..Config::default() };
    let zswap = Zswap::new(config).expect("a software store needs nothing");
    let slots = SET + BESIDE;
    let device = Arc::new(Slots(Mutex::new(vec![[0; PAGE_SIZE]; slots])));
    zswap.swapon_with_device(0, u32::try_from(slots).expect("few"), device.clone()).expect("first swapon");
    pin(0);
    // Half of theirs is there from the start, for the shrinker to have older pages than the loader's.
    for turn in 0..BESIDE / TURN / 2 {
        store_and_shrink(&zswap, &theirs, turn);
    }
    let mut random = Random::new(3);
    let mut arms: [Arm; 4] = std::array::from_fn(|_| Arm::default());
    let mut turn = BESIDE / TURN / 2;
    let written_back = AtomicU64::new(0);
    load_sets(&zswap, &mine, &mut random, &mut Arm::default());
    for round in 0..options.rounds {
        for k in 0..ARMS.len() {
            let which = (k + round) % ARMS.len();
            let (stop, turns) = (AtomicBool::new(false), AtomicU64::new(0));
            let arm = &mut arms[which];
            std::thread::scope(|scope| {
                let (zswap, theirs, stop, turns, written_back) =
                    (&zswap, &theirs, &stop, &turns, &written_back);
                let first = turn;
                if which != 0 {
                    scope.spawn(move || match which {
                        1 => beside(stop, turns, |turn| {
                            let written = store_and_shrink(zswap, theirs, first + turn);
                            written_back.fetch_add(written, Ordering::Relaxed);
                        }),
                        2 => {
                            let mut codecs = Codecs::new();
                            let mut buffer = vec![0; max_compressed_len(PAGE_SIZE)];
                            beside(stop, turns, |turn| {
                                let page = &theirs[turn % BESIDE];
                                black_box(codecs.compress(Codec::Lz4, page, &mut buffer));
                            });
                        }
                        _ => {
                            let mut copy = vec![[0; PAGE_SIZE]; BESIDE];
                            beside(stop, turns, |turn| {
                                copy[turn % BESIDE] = theirs[turn % BESIDE];
                                black_box(&copy);
                            });
                        }
                    });
                    // It is at it before the loader begins.
                    while turns.load(Ordering::Relaxed) == 0 {
                        std::thread::yield_now();
                    }
                }
                load_sets(zswap, &mine, &mut random, arm);
                stop.store(true, Ordering::Relaxed);
            });
            if which == 1 {
                turn += usize::try_from(turns.load(Ordering::Relaxed)).expect("few");
            }
        }
    }
    // In a short run it has not come to all of its slots.
    verify(&zswap, &device, &theirs[..BESIDE.min(turn * TURN)]);
    zswap.check().expect("consistent");
    report(&arms, written_back.load(Ordering::Relaxed));
}

/// What the thread beside stored is in the store or on the device, exactly.
fn verify(zswap: &Zswap, device: &Slots, theirs: &[PageBytes]) {
    let mut page = [0; PAGE_SIZE];
    for (k, source) in theirs.iter().enumerate() {
        match zswap.load(at(SET + k), &mut page) {
            Ok(()) => {}
            Err(LoadError::WrittenBack { entry }) => device.read(entry, &mut page).expect("in memory"),
            Err(error) => panic!("page {k}: {error}"),
        }
        assert!(page == *source, "page {k} came back changed");
    }
}

fn report(arms: &[Arm; 4], written_back: u64) {
    println!(
        "{:<22}{:>10}{:>10}{:>10}   {:>26}  {:>9}",
        "beside", "p50 ns", "p99 ns", "p99.9 ns", "p99 of idle's", "preempted"
    );
    for (name, arm) in ARMS.iter().zip(arms) {
        let ratios: Vec<f64> = arm.p99.iter().zip(&arms[0].p99).map(|(p99, idle)| p99 / idle).collect();
        let (ratio, low, high) = median(&ratios);
        println!(
            "{name:<22}{:>10.0}{:>10.0}{:>10.0}   {ratio:>8.2} [{low:>5.2} .. {high:>5.2}]  {:>9}",
            median(&arm.p50).0,
            median(&arm.p99).0,
            median(&arm.p999).0,
            arm.preempted,
        );
    }
    let lost: u64 = arms.iter().map(|arm| arm.written_back).sum();
    println!("{written_back} pages written back meanwhile; {lost} of the loader's own, not timed");
    let ratios: Vec<f64> = arms[1].p99.iter().zip(&arms[0].p99).map(|(busy, idle)| busy / idle).collect();
    let (ratio, ..) = median(&ratios);
    let (floor, ..) =
        median(&arms[2].p99.iter().zip(&arms[0].p99).map(|(bare, idle)| bare / idle).collect::<Vec<_>>());
    aim(
        "load p99 of idle's",
        "<= 1.5",
        &format!("{ratio:.2} ({floor:.2} beside a bare codec loop)"),
        ratio <= 1.5,
    );
}
