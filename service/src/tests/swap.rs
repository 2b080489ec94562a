//! Store and device as one, under a shrinker that never rests.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
                let stored = swap.store(&folio(base + first, &new));
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
