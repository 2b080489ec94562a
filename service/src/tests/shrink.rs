//! Pages on their way out: what is freed, what is kept, and who wins.

mod recompress;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::{
    InvalidateError, LoadError, MemoryDevice, PageWrite, ShrinkBudget, ShrinkError, StoreError, SwapDevice,
    SwapoffError, TenantId,
};

/// Pages that take some memory each, told apart by their number.
fn pages(count: usize) -> Vec<PageBytes> {
    let mut random = Random::new(77);
    let page = |tag: usize| {
        let mut page = [tag as u8 | 1; PAGE_SIZE];
        let noise = 100 + random.below(2500);
        page[..noise].as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = random.next().to_ne_bytes());
        page[..8].copy_from_slice(&(tag as u64).to_ne_bytes());
        page
    };
    (0..count).map(page).collect()
}

fn store_over(device: Arc<dyn SwapDevice>, config: Config) -> Zswap {
    let zswap = Zswap::new(config).unwrap();
    zswap.swapon_with_device(0, 1 << 16, device).unwrap();
    zswap
}

fn store_all(zswap: &Zswap, pages: &[PageBytes]) {
    for (k, chunk) in pages.chunks(16).enumerate() {
        zswap.store(&folio(16 * k, chunk)).unwrap();
    }
}

/// The page of a slot, from the store or, if it was written back, from the device.
fn find(zswap: &Zswap, device: &dyn SwapDevice, slot: usize) -> (PageBytes, bool) {
    let mut page = [0xee; PAGE_SIZE];
    match zswap.read(at(slot), &mut page) {
        Ok(()) => (page, true),
        Err(LoadError::WrittenBack { entry }) => {
            assert_eq!(entry, at(slot));
            device.read(entry, &mut page).unwrap();
            (page, false)
        }
        Err(error) => panic!("slot {slot}: {error}"),
    }
}

#[test]
fn shrink_writes_the_oldest_pages_and_tells_exactly_what_it_freed() {
    let device = Arc::new(MemoryDevice::new());
    let zswap = store_over(device.clone(), Config { warm_bytes: 1 << 30, ..Config::default() });
    let pages = pages(4096);
    store_all(&zswap, &pages);
    // Emptied memory that is kept warm goes first.
    for slot in 4000..4096 {
        zswap.invalidate(at(slot)).unwrap();
    }
    let mut random = Random::new(3);
    for round in 0..25 {
        let before = (zswap.stats(), zswap.resident_arena_bytes().unwrap());
        let bytes = random.below(200_000) as u64;
        let shrunk = zswap.shrink(NodeId(0), bytes).unwrap();
        zswap.check().unwrap();
        let after = (zswap.stats(), zswap.resident_arena_bytes().unwrap());
        assert_eq!(shrunk.object_bytes, before.0.object_bytes - after.0.object_bytes, "round {round}");
        assert_eq!(shrunk.released_bytes, before.0.pool_bytes - after.0.pool_bytes, "round {round}");
        assert_eq!(shrunk.released_bytes, before.1 - after.1, "the kernel disagrees in round {round}");
        assert!(shrunk.released_bytes >= bytes || after.0.stored_pages == 0, "round {round}: {shrunk:?}");
        assert_eq!(shrunk.written_back_pages, before.0.stored_pages - after.0.stored_pages);
        assert_eq!(after.0.written_back_pages, after.0.on_device_pages);
    }
    let there: Vec<bool> = (0..4000)
        .map(|slot| {
            let (page, in_ram) = find(&zswap, &*device, slot);
            assert!(page == pages[slot], "slot {slot}");
            in_ram
        })
        .collect();
    let gone = there.iter().filter(|&&in_ram| !in_ram).count();
    assert!(gone > 0 && gone < 4000, "{gone} pages were written back: choose other numbers");
    assert!(there[..gone - 64].iter().all(|&in_ram| !in_ram), "the oldest go first, but for the last batch");
    assert_nothing_is_left(&zswap);
    assert_eq!(zswap.stats().on_device_pages, 0);
}

#[test]
fn page_that_was_read_stays_longer_than_one_that_was_not() {
    let device = Arc::new(MemoryDevice::new());
    let zswap = store_over(device.clone(), Config::default());
    let pages = pages(1024);
    store_all(&zswap, &pages);
    // The first pass takes the marks that stored pages come with.
    let budget = ShrinkBudget { pages: 1, ..ShrinkBudget::default() };
    zswap.shrink_within(NodeId(0), u64::MAX, budget).unwrap();
    let mut page = [0; PAGE_SIZE];
    for slot in (100..1024).step_by(2) {
        zswap.read(at(slot), &mut page).unwrap();
    }
    let budget = ShrinkBudget { pages: 460, ..ShrinkBudget::default() };
    let shrunk = zswap.shrink_within(NodeId(0), u64::MAX, budget).unwrap();
    assert_eq!(shrunk.written_back_pages, 460);
    for slot in (100..1024).step_by(2) {
        assert!(find(&zswap, &*device, slot).1, "slot {slot} was read");
    }
    assert_nothing_is_left(&zswap);
}

#[test]
fn everything_can_be_written_back_and_nothing_but_same_filled_pages_stays() {
    let device = Arc::new(MemoryDevice::new());
    let zswap = store_over(device.clone(), Config::default());
    let mut random = Random::new(9);
    let pages: Vec<PageBytes> = (0..1024).map(|tag| any_page(&mut random, tag)).collect();
    store_all(&zswap, &pages);
    let shrunk = zswap.shrink(NodeId(0), u64::MAX).unwrap();
    let stats = zswap.stats();
    assert_eq!(stats.stored_pages, stats.zero_pages + stats.same_filled_pages);
    assert_eq!((stats.pool_bytes, stats.object_bytes, shrunk.failed_pages), (0, 0, 0));
    assert_eq!(stats.nodes[0].zspages, 0);
    for (slot, expected) in pages.iter().enumerate() {
        assert!(find(&zswap, &*device, slot).0 == *expected, "slot {slot}");
    }
    assert_nothing_is_left(&zswap);
}

#[test]
fn pages_of_a_type_without_a_device_stay() {
    let device = Arc::new(MemoryDevice::new());
    let zswap = store_over(device, Config::default());
    zswap.swapon(1, 1 << 16).unwrap();
    let pages = pages(256);
    store_all(&zswap, &pages);
    for (k, chunk) in pages.chunks(16).enumerate() {
        let first = SwapEntry::new(1, 16 * k as u32);
        zswap.store(&Folio::new(first, NodeId(0), chunk).unwrap()).unwrap();
    }
    let shrunk = zswap.shrink(NodeId(0), u64::MAX).unwrap();
    assert_eq!((shrunk.written_back_pages, shrunk.failed_pages), (256, 0));
    assert_eq!(zswap.stats().stored_pages, 256);
    assert_eq!(zswap.shrink(NodeId(5), 1), Err(ShrinkError::NoSuchNode { nid: NodeId(5) }));
    assert_nothing_is_left(&zswap);
}

#[test]
fn every_tenant_gives_its_share() {
    let device = Arc::new(MemoryDevice::new());
    let zswap = store_over(device, Config::default());
    let pages = pages(2048);
    for (k, chunk) in pages.chunks(16).enumerate() {
        let tenant = TenantId([0, 3, 700, 65535][k % 4]);
        zswap.store(&folio(16 * k, chunk).with_tenant(tenant)).unwrap();
    }
    for _ in 0..64 {
        let budget = ShrinkBudget { pages: 16, ..ShrinkBudget::default() };
        zswap.shrink_within(NodeId(0), u64::MAX, budget).unwrap();
    }
    let left: Vec<u64> = zswap.lru.lists().map(|(_, _, list)| list.counts().0).collect();
    assert_eq!(left.iter().sum::<u64>(), 1024);
    assert_eq!(left, [256; 4], "calls of a few pages each take turns among tenants");
    assert_nothing_is_left(&zswap);
}

/// What a device does with the pages of one test.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Fails,
    FailsEveryThird,
    SaysNothing,
    Panics,
}

struct FaultyDevice {
    memory: MemoryDevice,
    fault: Fault,
    writes: AtomicU64,
}

impl SwapDevice for FaultyDevice {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::Fails => Err(io::Error::from_raw_os_error(libc::EIO)),
            Fault::FailsEveryThird if number.is_multiple_of(3) => {
                Err(io::Error::from_raw_os_error(libc::ENOSPC))
            }
            Fault::Panics if number == 20 => std::panic::resume_unwind(Box::new("the device panics")),
            _ => self.memory.write(entry, page),
        }
    }

    fn write_batch(&self, writes: &mut [PageWrite<'_>]) {
        if self.fault != Fault::SaysNothing {
            for write in writes {
                write.finish(self.write(write.entry(), write.page()));
            }
        }
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()> {
        self.memory.read(entry, page)
    }
}

#[test]
fn page_whose_write_failed_stays() {
    let pages = pages(256);
    for fault in [Fault::Fails, Fault::FailsEveryThird, Fault::SaysNothing, Fault::Panics] {
        let device = Arc::new(FaultyDevice { memory: MemoryDevice::new(), fault, writes: AtomicU64::new(0) });
        let zswap = store_over(device.clone(), Config::default());
        store_all(&zswap, &pages);
        let result = catch_unwind(AssertUnwindSafe(|| zswap.shrink(NodeId(0), u64::MAX)));
        assert_eq!(result.is_err(), fault == Fault::Panics);
        if let Ok(shrunk) = result {
            let shrunk = shrunk.unwrap();
            let stats = zswap.stats();
            assert_eq!(shrunk.failed_pages, stats.reject_reclaim_fail);
            assert!(shrunk.failed_pages >= 16);
            match fault {
                Fault::FailsEveryThird => assert_eq!(stats.written_back_pages, 256),
                _ => assert_eq!((stats.written_back_pages, stats.stored_pages), (0, 256), "{fault:?}"),
            }
        }
        zswap.check().unwrap();
        for (slot, expected) in pages.iter().enumerate() {
            assert!(find(&zswap, &*device, slot).0 == *expected, "{fault:?}: slot {slot}");
        }
        assert_nothing_is_left(&zswap);
    }
}

#[test]
fn damaged_page_is_not_written_over_a_good_one() {
    let device = Arc::new(MemoryDevice::new());
    let zswap = store_over(device.clone(), Config::default());
    let pages = pages(32);
    store_all(&zswap, &pages);
    let id = zswap.tree.slot(at(5)).unwrap().id();
    let entry = zswap.slab.at(id);
    let crate::entry::Contents::Object { object, codec, crc } = entry.contents() else { panic!() };
    entry.set_object(object, codec, !crc);
    let shrunk = zswap.shrink(NodeId(0), u64::MAX).unwrap();
    assert_eq!(shrunk.written_back_pages, 31);
    assert!(shrunk.failed_pages >= 1);
    assert!(device.read(at(5), &mut [0; PAGE_SIZE]).is_err());
    assert!(matches!(zswap.load(at(5), &mut [0; PAGE_SIZE]), Err(LoadError::Corrupt { .. })));
    assert_nothing_is_left(&zswap);
}

/// A device whose writes wait until the test lets them go on.
struct SlowDevice {
    memory: MemoryDevice,
    begun: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
    fails: AtomicBool,
}

impl SlowDevice {
    fn new() -> (Arc<SlowDevice>, Receiver<()>, Sender<()>) {
        let ((begun, has_begun), (let_go, go_on)) = (channel(), channel());
        let device = SlowDevice {
            memory: MemoryDevice::new(),
            begun: Mutex::new(begun),
            go_on: Mutex::new(go_on),
            fails: AtomicBool::new(false),
        };
        (Arc::new(device), has_begun, let_go)
    }
}

impl SwapDevice for SlowDevice {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()> {
        self.memory.write(entry, page)
    }

    fn write_batch(&self, writes: &mut [PageWrite<'_>]) {
        self.begun.lock().unwrap().send(()).unwrap();
        self.go_on.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
        for write in writes {
            let result = self.write(write.entry(), write.page());
            let result =
                if self.fails.load(Ordering::Relaxed) { Err(io::Error::other("it")) } else { result };
            write.finish(result);
        }
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()> {
        self.memory.read(entry, page)
    }
}

/// Has 16 pages written, calls `meanwhile` when the write has begun, and then lets it end, with success or not.
fn during_a_write(config: Config, fails: bool, meanwhile: impl FnOnce(&Zswap, &[PageBytes])) -> Zswap {
    let (device, has_begun, let_go) = SlowDevice::new();
    device.fails.store(fails, Ordering::Relaxed);
    let zswap = store_over(device, config);
    let pages = pages(16);
    store_all(&zswap, &pages);
    std::thread::scope(|scope| {
        let shrinker = scope.spawn(|| {
            let budget = ShrinkBudget { pages: 16, ..ShrinkBudget::default() };
            zswap.shrink_within(NodeId(0), u64::MAX, budget).unwrap()
        });
        has_begun.recv_timeout(Duration::from_secs(60)).unwrap();
        meanwhile(&zswap, &pages);
        // As many batches as there may be, when some pages have to be tried again.
        for _ in 0..40 {
            let _ = let_go.send(());
        }
        shrinker.join().unwrap();
    });
    zswap.check().unwrap();
    zswap
}

fn load(zswap: &Zswap, slot: usize) -> Result<PageBytes, LoadError> {
    let mut page = [0xee; PAGE_SIZE];
    zswap.load(at(slot), &mut page).map(|()| page)
}

#[test]
fn load_during_the_write_wins_and_does_not_wait() {
    let config = Config { lock_timeout: Duration::ZERO, ..Config::default() };
    let zswap = during_a_write(config, false, |zswap, pages| {
        for slot in [0, 7, 15] {
            assert!(load(zswap, slot) == Ok(pages[slot]));
            assert_eq!(load(zswap, slot), Err(LoadError::NotFound));
        }
    });
    let stats = zswap.stats();
    assert_eq!((stats.reclaim_races, stats.written_back_pages, stats.on_device_pages), (3, 13, 13));
    for slot in 0..16 {
        let expected = if [0, 7, 15].contains(&slot) {
            LoadError::NotFound
        } else {
            LoadError::WrittenBack { entry: at(slot) }
        };
        assert_eq!(load(&zswap, slot), Err(expected), "slot {slot}");
    }
    assert_nothing_is_left(&zswap);
}

#[test]
fn store_during_the_write_wins_whatever_entry_it_gets() {
    let newer = [[[9; PAGE_SIZE], [8; PAGE_SIZE]], [[7; PAGE_SIZE], [6; PAGE_SIZE]]];
    let mut newer = newer;
    newer.iter_mut().flatten().enumerate().for_each(|(k, page)| {
        page[..700].iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * (k + 3) % 251) as u8);
    });
    let config = Config { lock_timeout: Duration::ZERO, ..Config::default() };
    let zswap = during_a_write(config, false, |zswap, _| {
        // Replaced.
        zswap.store(&folio(4, &newer[0])).unwrap();
        // Loaded and stored again: the new page gets the very entry that is being written.
        let id = zswap.tree.slot(at(9)).unwrap().id();
        load(zswap, 8).unwrap();
        load(zswap, 9).unwrap();
        zswap.store(&folio(9, &newer[1][1..])).unwrap();
        assert_eq!(zswap.tree.slot(at(9)).unwrap().id(), id, "else this test is of less");
        zswap.store(&folio(8, &newer[1][..1])).unwrap();
    });
    // The shrinker may write them later, but not free them for having written the older ones.
    let device = zswap.tree.device(0).unwrap();
    for (slot, expected) in [(4, newer[0][0]), (5, newer[0][1]), (8, newer[1][0]), (9, newer[1][1])] {
        assert!(find(&zswap, &*device, slot).0 == expected, "slot {slot}: an older page came back");
    }
    assert_nothing_is_left(&zswap);
}

#[test]
fn who_gives_a_slot_away_waits_for_its_write() {
    let config = Config { lock_timeout: Duration::from_millis(20), ..Config::default() };
    let config = Config { incompressible: crate::Incompressible::Refuse, ..config };
    let mut noise = [[0; PAGE_SIZE]];
    let mut random = Random::new(5);
    noise[0].as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = random.next().to_ne_bytes());
    let zswap = during_a_write(config, false, |zswap, _| {
        let pending = at(2);
        assert_eq!(zswap.invalidate(pending), Err(InvalidateError::WritebackPending { entry: pending }));
        assert_eq!(
            zswap.store(&folio(3, &noise)),
            Err(StoreError::WritebackPending { entry: at(3) }),
            "the caller would write the page at once, and the older one after it"
        );
        assert_eq!(zswap.swapoff(0), Err(SwapoffError::WritebackPending { entry: at(0) }));
        assert_eq!(zswap.invalidate(at(1)), Err(InvalidateError::WritebackPending { entry: at(1) }));
    });
    for slot in [0, 1, 2, 3] {
        assert_eq!(load(&zswap, slot), Err(LoadError::NotFound));
        assert_eq!(zswap.invalidate(at(slot)), Ok(false), "the write is over");
    }
    assert_nothing_is_left(&zswap);
}

#[test]
fn page_is_written_by_one_shrinker_at_a_time() {
    let zswap = during_a_write(Config::default(), true, |zswap, pages| {
        let shrunk = zswap.shrink(NodeId(0), u64::MAX).unwrap();
        assert_eq!((shrunk.written_back_pages, shrunk.failed_pages), (0, 0));
        assert!((0..16).all(|slot| find(zswap, &MemoryDevice::new(), slot) == (pages[slot], true)));
    });
    assert_eq!(zswap.stats().written_back_pages, 0);
    assert!((0..16).all(|slot| load(&zswap, slot).is_ok()), "the writes failed");
    assert_nothing_is_left(&zswap);
}

/// Pages of any length come and go, half of them for good.
#[test]
fn half_of_many_pages_freed_at_random_leaves_a_dense_pool_after_compaction() {
    const PAGES: usize = 1 << 16;
    let zswap = store_with(Config { method: Some(Method::Lz4), warm_bytes: 0, ..Config::default() });
    let mut random = Random::new(21);
    let page = |random: &mut Random, slot: usize| {
        let mut page = [slot as u8; PAGE_SIZE];
        // Lengths as memory has them: most pages shrink to a third, some hardly.
        let noise = (random.below(3800) * random.below(3800) / 3800).max(16);
        page[..noise].as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = random.next().to_ne_bytes());
        page[..8].copy_from_slice(&(slot as u64).to_ne_bytes());
        page
    };
    for first in (0..PAGES).step_by(16) {
        let pages: Vec<PageBytes> = (first..first + 16).map(|slot| page(&mut random, slot)).collect();
        zswap.store(&folio(first, &pages)).unwrap();
    }
    let density = |zswap: &Zswap| {
        let stats = zswap.stats();
        stats.pool_bytes as f64 / stats.object_bytes as f64
    };
    let full = density(&zswap);
    let mut gone = 0;
    while gone < PAGES / 2 {
        gone += usize::from(zswap.invalidate(at(random.below(PAGES))).unwrap());
    }
    let sparse = density(&zswap);
    let compacted = zswap.compact(NodeId(0), Duration::MAX).unwrap();
    let dense = density(&zswap);
    println!(
        "allocated/compressed: {full:.4} full, {sparse:.4} half freed, {dense:.4} compacted: {compacted:?}"
    );
    zswap.check().unwrap();
    assert!(dense <= 1.03, "{dense}");
    let mut page = [0; PAGE_SIZE];
    for slot in 0..PAGES {
        match zswap.load(at(slot), &mut page) {
            Ok(()) => assert_eq!(page[..8], (slot as u64).to_ne_bytes(), "slot {slot}"),
            Err(error) => assert_eq!(error, LoadError::NotFound),
        }
    }
    assert_nothing_is_left(&zswap);
}
