//! One thread, one thing at a time.

use super::*;
use crate::{Incompressible, InvalidateError, LoadError, StoreError, SwapoffError};

fn pages(count: usize, seed: u64) -> Vec<PageBytes> {
    let mut random = Random::new(seed);
    (0..count).map(|tag| any_page(&mut random, tag as u64)).collect()
}

fn load(zswap: &Zswap, offset: usize) -> Result<PageBytes, LoadError> {
    let mut page = [0xee; PAGE_SIZE];
    zswap.load(at(offset), &mut page).map(|()| page)
}

#[test]
fn what_goes_in_comes_out_once_with_every_method_and_folio_size() {
    for method in Method::ALL.into_iter().chain([Method::PerPage]) {
        let zswap = store_with(Config { method: Some(method), ..Config::default() });
        let pages = pages(1024, 1);
        for size in [1, 2, 16, 512] {
            for (k, chunk) in pages.chunks(size).enumerate() {
                zswap.store(&folio(k * size, chunk)).unwrap();
            }
            zswap.check().unwrap();
            assert_eq!(zswap.stats().stored_pages, 1024);
            for (offset, page) in pages.iter().enumerate() {
                let mut read = [0xee; PAGE_SIZE];
                zswap.read(at(offset), &mut read).unwrap();
                assert!(read == *page, "{method}: read of page {offset}");
                assert!(load(&zswap, offset) == Ok(*page), "{method}: load of page {offset}");
                assert_eq!(load(&zswap, offset), Err(LoadError::NotFound), "a load takes the page");
            }
            zswap.check().unwrap();
            let stats = zswap.stats();
            assert_eq!((stats.stored_pages, stats.object_bytes), (0, 0));
        }
    }
}

#[test]
fn storing_again_replaces_the_page_and_frees_the_old_one() {
    let zswap = store_with(Config::default());
    let (old, new) = (pages(64, 2), pages(64, 3));
    zswap.store(&folio(0, &old)).unwrap();
    zswap.store(&folio(0, &new)).unwrap();
    zswap.check().unwrap();
    assert_eq!(zswap.stats().stored_pages, 64);
    assert!((0..64).all(|k| load(&zswap, k) == Ok(new[k])));
}

#[test]
fn batch_gives_each_page_once_even_when_it_is_asked_for_twice() {
    let zswap = store_with(Config::default());
    let pages = pages(256, 4);
    zswap.store(&folio(0, &pages)).unwrap();
    let mut entries: Vec<SwapEntry> = (0..256).rev().map(at).collect();
    entries.insert(10, at(200));
    entries.push(at(9999));
    let mut out = zfolio_accel::Page::zeroed_vec(entries.len());
    let mut results = vec![None; entries.len()];
    zswap.load_batch(&entries, &mut out, |index, result| {
        assert!(results[index].replace(result).is_none(), "told twice of {index}");
    });
    let mut loaded = 0;
    for ((entry, result), page) in entries.iter().zip(&results).zip(&out) {
        match result.expect("every entry is told of") {
            Ok(()) => {
                assert!(**page == pages[entry.offset() as usize], "{entry}");
                loaded += 1;
            }
            Err(error) => assert_eq!(error, LoadError::NotFound),
        }
    }
    assert_eq!(loaded, 256, "the second 200 and slot 9999 have nothing");
    zswap.check().unwrap();
}

#[test]
fn panic_in_the_callers_closure_loses_no_page_that_it_was_not_told_of() {
    let zswap = store_with(Config::default());
    let pages = pages(128, 5);
    zswap.store(&folio(0, &pages)).unwrap();
    let entries: Vec<SwapEntry> = (0..128).map(at).collect();
    let mut out = zfolio_accel::Page::zeroed_vec(128);
    let mut told = Vec::new();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        zswap.load_batch(&entries, &mut out, |index, result| {
            result.unwrap();
            told.push(index);
            assert!(told.len() < 70, "the caller gives up");
        });
    }));
    assert!(caught.is_err());
    zswap.check().unwrap();
    for (offset, page) in pages.iter().enumerate() {
        let got = if told.contains(&offset) { Ok(*out[offset]) } else { load(&zswap, offset) };
        assert!(got == Ok(*page), "page {offset} is neither with the caller nor in the store");
    }
}

#[test]
fn incompressible_pages_are_kept_raw_or_refused_as_told() {
    let mut random = Random::new(6);
    let noise: PageBytes = std::array::from_fn(|_| random.next() as u8);
    let zswap = store_with(Config::default());
    zswap.store(&folio(0, &[noise])).unwrap();
    assert_eq!(zswap.stats().stored_incompressible_pages, 1);
    assert_eq!(zswap.stats().object_bytes, 4096);
    assert!(load(&zswap, 0) == Ok(noise));

    let zswap = store_with(Config { incompressible: Incompressible::Refuse, ..Config::default() });
    zswap.store(&folio(0, &[[7; PAGE_SIZE], [8; PAGE_SIZE]])).unwrap();
    let error = zswap.store(&folio(0, &[[7; PAGE_SIZE], noise])).unwrap_err();
    assert_eq!(error, StoreError::Incompressible { entry: at(1) });
    assert_eq!(zswap.stats().stored_pages, 0, "an old page of the slot would hide the new one");
    assert_eq!(zswap.stats().reject_compress_poor, 1);
    zswap.check().unwrap();
}

#[test]
fn cut_off_on_the_stored_size_counts_as_incompressible() {
    let page: PageBytes = any_page_of_len(2000);
    let zswap = store_with(Config { max_compressed_len: 1000, ..Config::default() });
    zswap.store(&folio(0, &[page])).unwrap();
    assert_eq!(zswap.stats().stored_incompressible_pages, 1);
    assert!(load(&zswap, 0) == Ok(page));
}

/// A page of this many random bytes and text.
fn any_page_of_len(random_bytes: usize) -> PageBytes {
    let mut random = Random::new(7);
    std::array::from_fn(|i| if i < random_bytes { random.next() as u8 } else { b'x' })
}

#[test]
fn same_filled_pages_take_no_pool_memory_and_zero_pages_no_entry() {
    let zswap = store_with(Config::default());
    let pages: Vec<PageBytes> = (0..64u8).map(|k| [k / 2; PAGE_SIZE]).collect();
    zswap.store(&folio(0, &pages)).unwrap();
    let stats = zswap.stats();
    assert_eq!((stats.zero_pages, stats.same_filled_pages), (2, 62));
    assert_eq!((stats.object_bytes, stats.pool_bytes), (0, 0));
    assert_eq!(zswap.entries_in_use(), 62);
    zswap.check().unwrap();
    assert!((0..64).all(|k| load(&zswap, k) == Ok(pages[k])));
}

#[test]
fn store_each_keeps_the_pages_that_fit_and_empties_the_slots_of_the_others() {
    let zswap = store_with(Config { incompressible: Incompressible::Refuse, ..Config::default() });
    let old = [[1; PAGE_SIZE], [2; PAGE_SIZE], [3; PAGE_SIZE], [4; PAGE_SIZE]];
    zswap.store(&folio(0, &old)).unwrap();
    let noise = any_page_of_len(PAGE_SIZE);
    let new = [[5; PAGE_SIZE], noise, [0; PAGE_SIZE], any_page_of_len(100)];
    let mut results = Vec::new();
    zswap.store_each(&folio(0, &new), |index, result| results.push((index, result.is_ok()))).unwrap();
    assert_eq!(results, [(0, true), (1, false), (2, true), (3, true)]);
    zswap.check().unwrap();
    assert_eq!(load(&zswap, 1), Err(LoadError::NotFound), "not the old page");
    assert!([0, 2, 3].iter().all(|&k| load(&zswap, k) == Ok(new[k])));
}

#[test]
fn full_pool_refuses_the_whole_folio_until_usage_has_fallen() {
    let zswap = store_with(Config { warm_bytes: 1 << 30, ..pool_of(64) });
    let noise = [any_page_of_len(PAGE_SIZE)];
    let stored = (0..200).find(|&k| zswap.store(&folio(k, &noise)).is_err()).unwrap();
    assert_eq!(stored, 64, "64 pages of 4096 bytes");
    let error = zswap.store(&folio(100, &noise)).unwrap_err();
    assert_eq!(error, StoreError::PoolFull { max_bytes: 64 * 4096, accept_bytes: 57 * 4096 });
    assert_eq!((zswap.stats().pool_limit_hit, zswap.stats().reject_full), (1, 2));
    assert!(
        zswap.store(&folio(0, &[[1; PAGE_SIZE]])).is_err(),
        "full is full, also for what takes no memory"
    );
    assert_eq!(load(&zswap, 0), Err(LoadError::NotFound), "and the old page is gone");
    for k in 1..64 {
        load(&zswap, k).unwrap();
    }
    zswap.store(&folio(0, &noise)).unwrap();
    zswap.check().unwrap();
}

#[test]
fn warm_memory_is_given_back_before_a_store_is_refused() {
    let zswap = store_with(Config { warm_bytes: 1 << 30, ..pool_of(64) });
    let noise = vec![any_page_of_len(PAGE_SIZE); 64];
    zswap.store(&folio(0, &noise)).unwrap();
    zswap.invalidate_range(at(0), 64).unwrap();
    assert_eq!(zswap.stats().warm_bytes, 64 * 4096);
    let text = [any_page_of_len(1500)];
    for k in 0..100 {
        zswap.store(&folio(k, &text)).unwrap();
    }
    zswap.check().unwrap();
    assert_eq!(zswap.stats().pool_limit_hit, 0);
}

#[test]
fn emptied_memory_goes_back_to_the_kernel_but_for_the_warm_stock() {
    let zswap = store_with(Config { warm_bytes: 10 * 4096, ..Config::default() });
    let noise = vec![any_page_of_len(PAGE_SIZE); 512];
    zswap.store(&folio(0, &noise)).unwrap();
    // A large class takes a page or two in advance.
    let resident = zswap.resident_arena_bytes().unwrap();
    assert!((512 * 4096..=516 * 4096).contains(&resident), "{resident}");
    zswap.invalidate_range(at(0), 512).unwrap();
    assert_eq!(zswap.resident_arena_bytes().unwrap(), zswap.stats().warm_bytes);
    assert!(zswap.stats().warm_bytes <= 10 * 4096);
    zswap.release_warm();
    assert_eq!(zswap.resident_arena_bytes().unwrap(), 0);
    zswap.check().unwrap();
}

#[test]
fn range_invalidation_counts_pages_and_skips_what_was_never_there() {
    let zswap = store_with(Config::default());
    zswap.store(&folio(512, &pages(512, 8))).unwrap();
    assert_eq!(zswap.invalidate(at(600)), Ok(true));
    assert_eq!(zswap.invalidate(at(600)), Ok(false));
    assert_eq!(zswap.invalidate_range(at(0), u32::MAX), Ok(511));
    assert_eq!(zswap.invalidate_range(SwapEntry::new(31, 5), u32::MAX), Ok(0));
    assert_eq!(zswap.stats().stored_pages, 0);
    zswap.check().unwrap();
}

#[test]
fn swapoff_forgets_the_pages_and_the_area_can_come_back() {
    let zswap = store_with(Config::default());
    zswap.store(&folio(0, &pages(64, 9))).unwrap();
    zswap.swapoff(0).unwrap();
    assert_eq!(zswap.swapoff(0), Err(SwapoffError::NotOn { swap_type: 0 }));
    assert_eq!(load(&zswap, 3), Err(LoadError::NotFound));
    assert_eq!(zswap.stats().stored_pages, 0);
    assert!(matches!(zswap.store(&folio(0, &pages(1, 1))), Err(StoreError::NoSuchSwap { .. })));
    zswap.swapon(0, 16).unwrap();
    zswap.store(&folio(0, &pages(16, 10))).unwrap();
    assert!(matches!(zswap.store(&folio(16, &pages(1, 1))), Err(StoreError::NoSuchSwap { .. })));
    zswap.check().unwrap();
}

#[test]
fn slot_that_stays_locked_is_an_error_and_not_a_hang() {
    let zswap = store_with(Config { lock_timeout: std::time::Duration::from_millis(5), ..Config::default() });
    zswap.store(&folio(0, &pages(4, 11))).unwrap();
    let slot = zswap.tree.slot(at(2)).unwrap();
    assert!(slot.try_lock());
    assert_eq!(zswap.store(&folio(0, &pages(4, 12))), Err(StoreError::Busy { entry: at(2) }));
    assert_eq!(load(&zswap, 2), Err(LoadError::Busy { entry: at(2) }));
    assert_eq!(zswap.invalidate(at(2)), Err(InvalidateError::Busy { entry: at(2) }));
    assert_eq!(zswap.swapoff(0), Err(SwapoffError::Busy { entry: at(2) }));
    assert_eq!(zswap.stats().reject_busy, 1);
    slot.unlock(&zswap.lot, slot.id());
    assert!(load(&zswap, 3).is_ok() || load(&zswap, 3) == Err(LoadError::NotFound));
    zswap.check().unwrap();
}

#[test]
fn failed_store_waits_for_a_write_that_is_in_flight_or_says_that_it_is() {
    let config = Config {
        lock_timeout: std::time::Duration::from_millis(5),
        incompressible: Incompressible::Refuse,
        ..Config::default()
    };
    let zswap = store_with(config);
    let (good, noise) = ([any_page_of_len(100)], [any_page_of_len(PAGE_SIZE)]);
    zswap.store(&folio(7, &good)).unwrap();
    let slot = zswap.tree.slot(at(7)).unwrap();
    assert!(slot.try_lock());
    slot.unlock_with_io(&zswap.lot);
    zswap.store(&folio(7, &good)).unwrap();
    assert!(load(&zswap, 7) == Ok(good[0]), "neither store nor load waits for a disk");
    zswap.store(&folio(7, &good)).unwrap();
    assert_eq!(zswap.store(&folio(7, &noise)), Err(StoreError::WritebackPending { entry: at(7) }));
    assert_eq!(zswap.invalidate(at(7)), Err(InvalidateError::WritebackPending { entry: at(7) }));
    slot.end_io(&zswap.lot);
    assert_eq!(zswap.store(&folio(7, &noise)), Err(StoreError::Incompressible { entry: at(7) }));
    assert_eq!(zswap.invalidate(at(7)), Ok(false));
}

#[test]
fn corrupt_bytes_are_told_and_kept_and_never_given_out_as_a_page() {
    let zswap = store_with(Config::default());
    let page = any_page_of_len(500);
    zswap.store(&folio(0, &[page])).unwrap();
    let id = zswap.tree.slot(at(0)).unwrap().id();
    let crate::entry::Contents::Object { object, codec, crc } = zswap.slab.at(id).contents() else {
        panic!()
    };
    zswap.slab.at(id).set_object(object, codec, crc ^ 1);
    let expected = LoadError::Corrupt { entry: at(0), error: zfolio_accel::EngineError::CrcMismatch };
    assert_eq!(load(&zswap, 0), Err(expected));
    assert_eq!(zswap.stats().corrupt_loads, 1);
    zswap.slab.at(id).set_object(object, codec, crc);
    assert!(load(&zswap, 0) == Ok(page), "the entry was kept");
}

#[test]
fn tenants_have_lists_of_their_own() {
    let zswap = store_with(Config::default());
    for tenant in [0, 9, 65535] {
        let page = [any_page_of_len(300)];
        let folio = folio(usize::from(tenant % 100), &page).with_tenant(crate::TenantId(tenant));
        zswap.store(&folio).unwrap();
    }
    zswap.check().unwrap();
    assert_eq!(zswap.lru.list(crate::TenantId(9), 0).counts().0, 1);
}

/// The second of two equal entries of a batch was told NotFound before the first one's fate was known. Where the
/// first was Busy the page was still in the store, and a caller who went to the disk for it read an older one.
#[test]
fn second_of_two_equal_entries_fails_as_the_first_does() {
    let zswap = store_with(Config { lock_timeout: std::time::Duration::from_millis(5), ..Config::default() });
    zswap.store(&folio(0, &pages(4, 20))).unwrap();
    let slot = zswap.tree.slot(at(2)).unwrap();
    assert!(slot.try_lock());
    let mut results = [None; 3];
    zswap.load_batch(&[at(2), at(1), at(2)], &mut zfolio_accel::Page::zeroed_vec(3), |index, result| {
        results[index] = Some(result);
    });
    slot.unlock(&zswap.lot, slot.id());
    let busy = Err(LoadError::Busy { entry: at(2) });
    assert_eq!(results, [Some(busy), Some(Ok(())), Some(busy)]);
}

#[test]
fn limits_that_mean_nothing_are_refused_with_the_reason() {
    let error = |config| Zswap::new(config).unwrap_err().to_string();
    for percent in [0, 101, 255] {
        let text = error(Config { max_pool: Limit::Percent(percent), ..Config::default() });
        assert_eq!(text, format!("limit of {percent} percent; it must be 1 to 100"));
    }
    let nowhere = tempfile::tempdir().unwrap();
    let node_limits = vec![(NodeId(0), Limit::Percent(50))];
    let text = error(Config { sysfs: nowhere.path().to_owned(), node_limits, ..Config::default() });
    assert_eq!(text, "cannot tell the memory of node 0; give its limit in bytes");
}

#[test]
fn store_without_address_space_is_an_error_at_every_table() {
    let mut step = 1;
    loop {
        let (made, reached) = crate::fail::with_failure_at(step, || Zswap::new(Config::default()));
        match made {
            Err(error) => assert!(matches!(error, crate::NewError::OutOfMemory), "{error}"),
            Ok(zswap) if reached => panic!("step {step} failed unnoticed: {zswap:?}"),
            Ok(_) => break,
        }
        step += 1;
    }
    assert!(step > 4, "entries, lists, headers, back-references: {step}");
    let zswap = Zswap::new(Config::default()).unwrap();
    let (on, _) = crate::fail::with_failure_at(1, || zswap.swapon(3, 16));
    assert_eq!(on, Err(crate::SwaponError::OutOfMemory));
    assert_eq!(zswap.swapon(3, 16), Ok(()));
}
