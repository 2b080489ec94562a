//! Store and device as one, under a shrinker that never rests.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::{
    FileDevice, Incompressible, LoadError, MemoryDevice, StoreError, Stored, Swap, SwapDevice, SwapError,
};

/// Fails now and then.
pub(crate) struct Moody(pub(crate) MemoryDevice, pub(crate) AtomicU64);

impl SwapDevice for Moody {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()> {
        if self.1.fetch_add(1, Ordering::Relaxed) % 7 == 3 {
            // Half of it was written.
            let mut half = *page;
            half[2048..].fill(0xbd);
            self.0.write(entry, &half)?;
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.0.write(entry, page)
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()> {
        if self.1.fetch_add(1, Ordering::Relaxed) % 11 == 3 {
            page.fill(0xbd);
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.0.read(entry, page)
    }
}

const SLOTS: usize = 64;

/// One thread with slots of its own: what it stored last is what it finds, wherever that is.
pub(crate) fn work(swap: &Swap, thread: usize, operations: usize) {
    let nodes = swap.zswap().nodes.len();
    let mut random = Random::new(thread as u64 + 100);
    let base = thread * SLOTS;
    let mut pages: Vec<Option<PageBytes>> = vec![None; SLOTS];
    for operation in 0..operations {
        let slot = random.below(SLOTS);
        let mut page = [0xee; PAGE_SIZE];
        match random.below(10) {
            0..5 => {
                let size = 1 << random.below(4);
                let first = slot / size * size;
                let new: Vec<PageBytes> =
                    (0..size).map(|_| any_page(&mut random, operation as u64)).collect();
                let nid = NodeId(random.below(nodes) as u16);
                let stored = swap.store(&Folio::new(at(base + first), nid, &new).unwrap());
                for (k, page) in new.into_iter().enumerate() {
                    pages[first + k] = stored.is_ok().then_some(page);
                }
                if let Err(error) = stored {
                    assert!(matches!(error, SwapError::Device { .. }), "{error}");
                }
            }
            5..9 => {
                let takes = random.below(2) == 0;
                let result = if takes {
                    swap.load(at(base + slot), &mut page)
                } else {
                    swap.read(at(base + slot), &mut page)
                };
                match (result, &pages[slot]) {
                    (Ok(()), Some(expected)) => {
                        assert!(page == *expected, "slot {slot} gave another page");
                        if takes {
                            pages[slot] = None;
                        }
                    }
                    (Err(SwapError::Load(LoadError::NotFound)), None) => {}
                    (Err(SwapError::Device { .. }), Some(_)) => {}
                    (result, expected) => panic!("slot {slot}: {result:?}, {}", expected.is_some()),
                }
            }
            _ => {
                let was = swap.invalidate(at(base + slot)).unwrap();
                assert_eq!(was, pages[slot].take().is_some(), "slot {slot}");
            }
        }
    }
}

#[test]
fn pages_are_neither_lost_nor_revived_under_a_shrinker_that_never_rests() {
    for config in [Config::default(), Config { incompressible: Incompressible::Refuse, ..pool_of(60) }] {
        let zswap = Arc::new(Zswap::new(config).unwrap());
        zswap
            .swapon_with_device(0, 1 << 16, Arc::new(Moody(MemoryDevice::new(), AtomicU64::new(0))))
            .unwrap();
        let swap = Swap::new(Arc::clone(&zswap));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = Random::new(1);
                while !stop.load(Ordering::Relaxed) {
                    zswap.shrink(NodeId(0), random.below(1 << 16) as u64).unwrap();
                    zswap.compact(NodeId(0), std::time::Duration::MAX).unwrap();
                }
            });
            let swap = &swap;
            let threads: Vec<_> =
                (0..3).map(|thread| scope.spawn(move || work(swap, thread, 6000))).collect();
            let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            stop.store(true, Ordering::Relaxed);
            results.into_iter().for_each(|result| result.unwrap());
        });
        let stats = zswap.stats();
        assert!(stats.written_back_pages > 0 && stats.device_reads > 0 && stats.reject_reclaim_fail > 0);
        println!(
            "{} written back, {} races, {} read",
            stats.written_back_pages, stats.reclaim_races, stats.device_reads
        );
        assert_nothing_is_left(&zswap);
    }
}

#[test]
fn page_that_the_store_refuses_goes_past_it() {
    let dir = tempfile::tempdir().unwrap();
    let device = Arc::new(FileDevice::open(&dir.path().join("swap"), 1 << 10, false).unwrap());
    let zswap = Arc::new(Zswap::new(pool_of(4)).unwrap());
    zswap.swapon_with_device(0, 1 << 10, device).unwrap();
    let swap = Swap::new(zswap.clone());
    let mut random = Random::new(8);
    let pages: Vec<PageBytes> = (0..64).map(|tag| any_page(&mut random, tag)).collect();
    let stored: Vec<Stored> =
        (0..64).map(|slot| swap.store(&folio(slot, &pages[slot..=slot])).unwrap()).collect();
    assert!(stored.contains(&Stored::InRam));
    assert!(stored.iter().any(|stored| matches!(stored, Stored::OnDevice(StoreError::PoolFull { .. }))));
    zswap.check().unwrap();
    let mut page = [0; PAGE_SIZE];
    for _ in 0..2 {
        for (slot, expected) in pages.iter().enumerate() {
            swap.read(at(slot), &mut page).unwrap();
            assert!(page == *expected, "slot {slot}");
        }
    }
    // Stored again, the page on the device is an old one.
    zswap.invalidate_range(at(0), 32).unwrap();
    let on_device = (32..64).find(|&slot| matches!(stored[slot], Stored::OnDevice(_))).unwrap();
    assert_eq!(swap.store(&folio(on_device, &[[0; PAGE_SIZE]])).unwrap_or(Stored::InRam), Stored::InRam);
    swap.load(at(on_device), &mut page).unwrap();
    assert!(page == [0; PAGE_SIZE]);
    assert!(matches!(swap.load(at(on_device), &mut page), Err(SwapError::Load(LoadError::NotFound))));
    assert_nothing_is_left(&zswap);
    assert!(Path::new(&dir.path().join("swap")).exists());
}

/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until it is so.
fn wait_until(it_is: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !it_is() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
}

/// A device whose I/O begins when the test has heard of it, and ends when the test says so.
struct Gate(MemoryDevice, Mutex<Receiver<()>>, SyncSender<()>);

impl Gate {
    /// The device, what hears that I/O has begun, and what lets it end.
    fn new() -> (Arc<Gate>, Receiver<()>, SyncSender<()>) {
        let (begun, hears) = sync_channel(1);
        let (lets, end) = sync_channel(1);
        (Arc::new(Gate(MemoryDevice::new(), Mutex::new(end), begun)), hears, lets)
    }

    fn pass(&self) {
        self.2.send(()).unwrap();
        self.1.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    }
}

impl SwapDevice for Gate {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()> {
        self.pass();
        self.0.write(entry, page)
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()> {
        self.pass();
        self.0.read(entry, page)
    }
}

/// Shuttle's find: swapoff had gone by the slot, which was empty then, and waited for the write to end; the write left word of its
/// page behind, and the next swapon brought a page of another device.
#[test]
fn page_that_is_written_past_the_store_during_swapoff_does_not_come_back_with_the_area() {
    let zswap = Arc::new(Zswap::new(pool_of(0)).unwrap());
    let (device, begun, end) = Gate::new();
    zswap.swapon_with_device(0, 8, device.clone()).unwrap();
    let swap = Swap::new(zswap.clone());
    let page = any_noise();
    std::thread::scope(|scope| {
        let store = scope.spawn(|| swap.store(&folio(3, std::slice::from_ref(&page))));
        begun.recv_timeout(PATIENCE).unwrap();
        let swapoff = scope.spawn(|| zswap.swapoff(0));
        wait_until(|| !zswap.tree.still_on(at(3), 1));
        end.send(()).unwrap();
        assert!(matches!(store.join().unwrap(), Ok(Stored::OnDevice(_))));
        swapoff.join().unwrap().unwrap();
    });
    zswap.swapon_with_device(0, 8, device).unwrap();
    let mut room = [0; PAGE_SIZE];
    assert_eq!(zswap.load(at(3), &mut room), Err(LoadError::NotFound));
    assert_nothing_is_left(&zswap);
}

/// Shuttle's find as well: the one was told that the page was there and is gone, the other was given it.
#[test]
fn page_that_is_invalidated_while_it_is_read_from_the_device_is_not_had_twice() {
    let zswap = Arc::new(Zswap::new(pool_of(0)).unwrap());
    let (device, begun, end) = Gate::new();
    zswap.swapon_with_device(0, 8, device).unwrap();
    let swap = Swap::new(zswap.clone());
    end.send(()).unwrap();
    swap.store(&folio(3, &[any_noise()])).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| swap.load(at(3), &mut [0; PAGE_SIZE]));
        begun.recv_timeout(PATIENCE).unwrap();
        let invalidate = scope.spawn(|| swap.invalidate(at(3)));
        wait_until(|| zswap.tree.slot(at(3)).unwrap().is_vacant());
        end.send(()).unwrap();
        assert_eq!(invalidate.join().unwrap(), Ok(true));
        assert!(matches!(load.join().unwrap(), Err(SwapError::Load(LoadError::NotFound))));
    });
    assert_nothing_is_left(&zswap);
}

/// A page that a store of no memory refuses.
fn any_noise() -> PageBytes {
    let mut random = Random::new(9);
    std::array::from_fn(|_| random.next() as u8)
}
