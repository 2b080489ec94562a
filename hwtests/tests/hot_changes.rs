//! What changes while a store is used: the CPU under a thread in mid-call, tenants, swap areas, the queues of devices. Every
//! byte that comes back is compared, and nothing comes back that had gone.
//!
//! The machine is made up: two packages with a node and a modelled device each, and CPUs in turn to one and the other. Each
//! test ends when its threads have done so many operations; what changes goes on until then, and at least once.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use iaa_model::{Model, ModelConfig, OtherProcess, QueueId};
use zfolio::{
    Backend, Config, Folio, Limit, LoadError, MemoryDevice, NodeId, PAGE_SIZE, PageBytes, StoreError, Swap,
    SwapEntry, SwapError, TenantConfig, TenantError, TenantId, Zswap,
};
use zfolio_accel::direct::DirectConfig;
use zfolio_accel::{Channels, ChannelsConfig, Topology};

const THREADS: usize = 3;
/// Slots of each thread in each area.
const SLOTS: usize = 64;
/// The area that stays, and the one that comes and goes.
const STAYS: u8 = 0;
const COMES_AND_GOES: u8 = 1;
/// Tenants that come and go.
const TENANTS: std::ops::RangeInclusive<u16> = 1..=2;
/// Resets of a queue in one test: what is lost in them a channel retires, up to 64 ops, and then it uses no device any more.
const RESETS: usize = 6;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ value >> 31) as usize % sides
    }
}

/// A page like no other: its number, noise of some length, and words that repeat.
fn page(dice: &mut Dice, number: u64) -> PageBytes {
    let mut page = [0; PAGE_SIZE];
    page.as_chunks_mut::<8>().0.fill(number.to_ne_bytes());
    let noise = dice.roll(if number.is_multiple_of(9) { PAGE_SIZE } else { 1200 });
    page[8..].iter_mut().take(noise).for_each(|byte| *byte = dice.roll(256) as u8);
    page
}

/// The CPUs that this process may use.
fn cpus() -> Vec<usize> {
    // SAFETY: an all-zero set is a valid one without CPUs; the call fills it.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set), 0);
        set
    };
    // SAFETY: reads a set of so many bits.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Moves a thread to a CPU, wherever it is at the moment.
fn move_to(thread: i32, cpu: usize) {
    // SAFETY: an all-zero set is a valid one without CPUs; the calls fill it and read it.
    let moved = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(thread, size_of_val(&set), &raw const set)
    };
    // A thread that has ended cannot be moved any more.
    assert!(moved == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH));
}

/// Two packages, to which the CPUs belong in turn, each with a node.
fn two_packages() -> Topology {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: String, text: String| {
        let path = dir.path().join("devices/system").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let last = *cpus().last().unwrap();
    let list = |of: usize| {
        let cpus: Vec<String> = (of..=last).step_by(2).map(|cpu| cpu.to_string()).collect();
        cpus.join(",")
    };
    write("node/online".to_owned(), "0-1".to_owned());
    write("cpu/online".to_owned(), format!("0-{last}"));
    for nid in 0..2 {
        write(format!("node/node{nid}/cpulist"), list(nid));
        write(format!("node/node{nid}/distance"), if nid == 0 { "10 21" } else { "21 10" }.to_owned());
        write(format!("node/node{nid}/meminfo"), format!("Node {nid} MemTotal: 8388608 kB"));
    }
    for cpu in 0..=last {
        write(format!("cpu/cpu{cpu}/topology/physical_package_id"), (cpu % 2).to_string());
    }
    Topology::read(dir.path()).unwrap()
}

/// What changes: it is called again and again, with the number of the call.
type Change<'c> = &'c (dyn Fn(&Stage, usize) + Sync);

/// A store, what stands behind it, and the threads that use it.
struct Stage {
    zswap: Arc<Zswap>,
    swap: Swap,
    device: Arc<MemoryDevice>,
    /// Kernel ids of the threads.
    threads: [AtomicI32; THREADS],
    /// Threads that are not done.
    running: AtomicUsize,
    /// Calls that began on one CPU and ended on another.
    moved: AtomicU64,
}

impl Stage {
    fn new(backend: Backend, model: Option<&Arc<Model>>) -> Stage {
        let topology = two_packages();
        let direct = DirectConfig { rescan_interval: Duration::ZERO, ..DirectConfig::default() };
        let channels =
            ChannelsConfig { backend, window: 4, direct, model: model.cloned(), ..ChannelsConfig::default() };
        let channels = Channels::new(channels, &topology).unwrap();
        let config = Config { max_pool: Limit::Bytes(1 << 20), ..Config::default() };
        let zswap = Arc::new(Zswap::with_channels(config, &topology, channels).unwrap());
        let device = Arc::new(MemoryDevice::new());
        for swap_type in [STAYS, COMES_AND_GOES] {
            zswap.swapon_with_device(swap_type, (THREADS * SLOTS) as u32, device.clone()).unwrap();
        }
        Stage {
            swap: Swap::new(Arc::clone(&zswap)),
            zswap,
            device,
            threads: Default::default(),
            running: AtomicUsize::new(THREADS),
            moved: AtomicU64::new(0),
        }
    }

    /// Has each thread do so many operations, with these changes meanwhile.
    fn run(&self, operations: usize, changes: &[Change<'_>]) {
        let began = Barrier::new(THREADS + changes.len());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let began = &began;
                scope.spawn(move || {
                    // SAFETY: takes nothing and touches nothing.
                    self.threads[thread].store(unsafe { libc::gettid() }, Ordering::Relaxed);
                    began.wait();
                    let _done = Done(&self.running);
                    self.work(thread, operations);
                });
            }
            for change in changes {
                let began = &began;
                scope.spawn(move || {
                    began.wait();
                    for call in 0.. {
                        change(self, call);
                        if self.running.load(Ordering::Relaxed) == 0 {
                            break;
                        }
                        std::thread::sleep(Duration::from_micros(50));
                    }
                });
            }
        });
        self.zswap.check().unwrap();
        for swap_type in [STAYS, COMES_AND_GOES] {
            self.zswap.invalidate_range(SwapEntry::new(swap_type, 0), u32::MAX).unwrap();
        }
        self.zswap.release_warm();
        self.zswap.check().unwrap();
        let stats = self.zswap.stats();
        assert_eq!((stats.stored_pages, stats.on_device_pages, stats.pool_bytes), (0, 0, 0));
        assert_eq!(stats.corrupt_loads, 0);
    }

    /// What a thread stored last in a slot of its own is what it finds there; in the area that comes and goes, that or nothing.
    fn work(&self, thread: usize, operations: usize) {
        let mut dice = Dice(thread as u64 + 1);
        let mut areas: [Vec<Option<PageBytes>>; 2] = [vec![None; SLOTS], vec![None; SLOTS]];
        for operation in 0..operations {
            // SAFETY: takes nothing and touches nothing.
            let cpu = || unsafe { libc::sched_getcpu() };
            let before = cpu();
            self.operate(thread, operation, &mut dice, &mut areas);
            self.moved.fetch_add((cpu() != before).into(), Ordering::Relaxed);
        }
        // What is there at the end is an answer like any other.
        for (swap_type, pages) in areas.iter_mut().enumerate() {
            for slot in 0..SLOTS {
                self.load(swap_type as u8, thread, slot, pages);
            }
        }
    }

    fn operate(
        &self,
        thread: usize,
        operation: usize,
        dice: &mut Dice,
        areas: &mut [Vec<Option<PageBytes>>; 2],
    ) {
        let swap_type = dice.roll(2) as u8;
        let pages = &mut areas[usize::from(swap_type)];
        let slot = dice.roll(SLOTS);
        let entry = entry(swap_type, thread, slot);
        match dice.roll(8) {
            0..4 => {
                let len = 1 << dice.roll(4);
                let first = slot / len * len;
                let number = |k: usize| 1 + ((thread << 32) + (operation << 4) + k) as u64;
                let new: Vec<PageBytes> = (0..len).map(|k| page(dice, number(k))).collect();
                let tenant = TenantId(dice.roll(1 + TENANTS.count()) as u16);
                let folio =
                    Folio::new(self::entry(swap_type, thread, first), NodeId(dice.roll(2) as u16), &new);
                match self.swap.store(&folio.unwrap().with_tenant(tenant)) {
                    Ok(_) => {
                        pages[first..first + len].iter_mut().zip(new).for_each(|(old, new)| *old = Some(new))
                    }
                    // Between swapoff and swapon. What is still there is about to be forgotten.
                    Err(SwapError::Store(StoreError::NoSuchSwap { .. })) if swap_type == COMES_AND_GOES => {}
                    // The device went with its area: the store's refusal stands.
                    Err(SwapError::Store(error))
                        if error.slots_are_empty() && swap_type == COMES_AND_GOES =>
                    {
                        pages[first..first + len].fill(None);
                    }
                    Err(error) => panic!("store of {entry}: {error}"),
                }
            }
            4..6 => self.load(swap_type, thread, slot, pages),
            6 => {
                let mut read = [0xee; PAGE_SIZE];
                match (self.swap.read(entry, &mut read), &pages[slot]) {
                    (Ok(()), Some(page)) => assert!(read == *page, "{entry}: another page was read"),
                    (Err(SwapError::Load(LoadError::NotFound)), None) => {}
                    (Err(SwapError::Load(LoadError::NotFound)), Some(_)) if swap_type == COMES_AND_GOES => {
                        pages[slot] = None;
                    }
                    (result, page) => panic!("read of {entry}: {result:?}, stored: {}", page.is_some()),
                }
            }
            _ => {
                let was = self.swap.invalidate(entry).unwrap();
                let stored = pages[slot].take().is_some();
                assert!(was == stored || stored && swap_type == COMES_AND_GOES, "{entry}: {was}, {stored}");
            }
        }
    }

    fn load(&self, swap_type: u8, thread: usize, slot: usize, pages: &mut [Option<PageBytes>]) {
        let (entry, mut loaded) = (entry(swap_type, thread, slot), [0xee; PAGE_SIZE]);
        match (self.swap.load(entry, &mut loaded), pages[slot].take()) {
            (Ok(()), Some(page)) => assert!(loaded == page, "{entry}: another page was loaded"),
            (Err(SwapError::Load(LoadError::NotFound)), None) => {}
            (Err(SwapError::Load(LoadError::NotFound)), Some(_)) if swap_type == COMES_AND_GOES => {}
            (result, page) => panic!("load of {entry}: {result:?}, stored: {}", page.is_some()),
        }
    }
}

/// Counts a thread as done, also when it panics: nobody is to wait for it.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn entry(swap_type: u8, thread: usize, slot: usize) -> SwapEntry {
    SwapEntry::new(swap_type, (thread * SLOTS + slot) as u32)
}

/// Writeback and compaction beside everything.
fn shrink(stage: &Stage, call: usize) {
    for nid in [NodeId(0), NodeId(1)] {
        stage.zswap.shrink(nid, (call as u64 * 7919) % (1 << 16)).unwrap();
        stage.zswap.compact(nid, Duration::from_micros(200)).unwrap();
        stage.zswap.repair(nid, Duration::from_micros(200)).unwrap();
    }
}

/// Each thread to the other package.
fn move_threads(stage: &Stage, call: usize) {
    let cpus = cpus_of_the_machine();
    for (k, thread) in stage.threads.iter().enumerate() {
        move_to(thread.load(Ordering::Relaxed), cpus[(call + k) % cpus.len()]);
    }
}

/// The CPUs that there were before anything was moved.
fn cpus_of_the_machine() -> &'static [usize] {
    static CPUS: std::sync::LazyLock<Vec<usize>> = std::sync::LazyLock::new(cpus);
    &CPUS
}

fn change_tenants(stage: &Stage, call: usize) {
    for tenant in TENANTS.map(TenantId) {
        let limit = call.is_multiple_of(3).then_some(Limit::Bytes(20_000));
        match stage.zswap.create_tenant(tenant, TenantConfig { limit, ..TenantConfig::default() }) {
            // It lives until its last page is gone.
            Ok(()) | Err(TenantError::InUse { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    for tenant in TENANTS.map(TenantId) {
        match stage.zswap.remove_tenant(tenant) {
            Ok(()) | Err(TenantError::NoSuchTenant { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn change_area(stage: &Stage, _: usize) {
    stage.zswap.swapoff(COMES_AND_GOES).unwrap();
    let slots = (THREADS * SLOTS) as u32;
    stage.zswap.swapon_with_device(COMES_AND_GOES, slots, stage.device.clone()).unwrap();
}

/// A queue goes, in good order or by a reset; then the other, so that there is none; then both come again.
fn change_queues(model: &Model, call: usize) {
    let queues: Vec<QueueId> = model.queues().collect();
    let queue = queues[call % queues.len()];
    match call % 3 {
        0 if call % 24 == 12 && call / 24 < RESETS => assert!(model.abort(queue)),
        0 | 1 if model.is_enabled(queue) => assert!(model.disable(queue)),
        _ => queues.iter().for_each(|&queue| assert!(model.enable(queue))),
    }
}

fn two_devices() -> Arc<Model> {
    let mut config = ModelConfig::spr(2);
    config.devices.iter_mut().zip(0..).for_each(|(device, nid)| device.nid = nid);
    Model::new(config, Box::new(OtherProcess::this()))
}

#[test]
fn threads_that_change_package_in_mid_call_lose_nothing() {
    if cpus_of_the_machine().len() < 2 {
        eprintln!("skipped: threads that change package: this process may use one CPU");
        return;
    }
    let stage = Stage::new(Backend::Software, None);
    stage.run(20_000, &[&move_threads, &shrink]);
    println!("{} of {} calls ended on another CPU", stage.moved.load(Ordering::Relaxed), 20_000 * THREADS);
}

#[test]
fn tenants_and_swap_areas_come_and_go_under_load() {
    let stage = Stage::new(Backend::Software, None);
    let (tenants, areas) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let change_tenants = |stage: &Stage, call| {
        change_tenants(stage, call);
        tenants.fetch_add(1, Ordering::Relaxed);
    };
    let change_area = |stage: &Stage, call| {
        change_area(stage, call);
        areas.fetch_add(1, Ordering::Relaxed);
    };
    stage.run(20_000, &[&change_tenants, &change_area, &shrink]);
    println!("tenants came and went {tenants:?} times, the area {areas:?} times");
    for tenant in TENANTS.map(TenantId) {
        // Nothing of it is left, so its id is free.
        stage.zswap.create_tenant(tenant, TenantConfig::default()).unwrap();
    }
}

#[test]
fn queues_that_vanish_and_return_under_load_lose_nothing() {
    let model = two_devices();
    let stage = Stage::new(Backend::Model, Some(&model));
    stage.run(4000, &[&|_, call| change_queues(&model, call), &shrink]);
    let before = assert_devices_are_used_again(&stage, &model);
    let without = stage.zswap.stats().fallbacks.no_queue;
    println!("{before} descriptors taken before the end, {without} pages while there was no queue");
    assert!(before > 0 && without > 0);
}

#[test]
fn everything_changes_at_once_and_nothing_is_lost() {
    let model = two_devices();
    let stage = Stage::new(Backend::Model, Some(&model));
    let queues = |_: &Stage, call| change_queues(&model, call);
    if cpus_of_the_machine().len() < 2 {
        eprintln!("skipped: threads that change package: this process may use one CPU");
        stage.run(4000, &[&queues, &change_tenants, &change_area, &shrink]);
    } else {
        stage.run(4000, &[&queues, &change_tenants, &change_area, &shrink, &move_threads]);
    }
    assert_devices_are_used_again(&stage, &model);
}

/// Once all queues are back, a store uses them; how many descriptors they had taken before.
fn assert_devices_are_used_again(stage: &Stage, model: &Model) -> u64 {
    model.queues().for_each(|queue| assert!(model.enable(queue)));
    let before = model.summary().taken;
    let mut dice = Dice(99);
    for number in 1..1000 {
        let pages = [page(&mut dice, number)];
        let folio = Folio::new(SwapEntry::new(STAYS, 0), NodeId(0), &pages).unwrap();
        stage.zswap.store(&folio).unwrap();
        let mut loaded = [0; PAGE_SIZE];
        stage.zswap.load(SwapEntry::new(STAYS, 0), &mut loaded).unwrap();
        assert!(loaded == pages[0]);
        if model.summary().taken >= before + 4 {
            return before;
        }
    }
    panic!("a thousand pages, and no queue was used again: {:?}", stage.zswap.stats().fallbacks);
}
