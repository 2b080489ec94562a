//! What can fail is made to fail, at its first occasion, its second, and so on until the operation comes through
//! untouched. Each time the contract of a failed store must hold, and nothing may leak.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use zfolio_accel::{Compressed, Engine, EngineError, Job, Outcome, Page, Software, crc32};

use super::*;
use crate::{Incompressible, InvalidateError, LoadError, StoreError, SwapoffError, TenantId, fail};

/// Pages that go through every part of the store: each eighth is zero, same-filled or noise, the others shrink.
fn pages(count: usize, seed: u64) -> Vec<PageBytes> {
    let mut random = Random::new(seed);
    (0..count).map(|tag| any_page(&mut random, tag as u64 + 1)).collect()
}

/// A page that shrinks to about this many bytes.
fn page_of_len(len: usize, tag: u8) -> PageBytes {
    let mut random = Random::new(tag.into());
    std::array::from_fn(|i| if i < len { random.next() as u8 } else { tag })
}

fn load(zswap: &Zswap, offset: usize) -> Result<PageBytes, LoadError> {
    let mut page = [0xee; PAGE_SIZE];
    zswap.load(at(offset), &mut page).map(|()| page)
}

/// Neighbours of the folio of a test, at a slot far from it and in the leaf before it.
const NEIGHBOURS: usize = 8;
const FIRST: usize = 2048;

/// A store with neighbours, and with pages in some of the slots where the test's folio goes, if it is to replace them.
fn prepared(topology: &Topology, config: &Config, old: bool) -> (Zswap, Vec<PageBytes>) {
    let zswap = store_on(topology, config.clone());
    let neighbours = pages(NEIGHBOURS, 77);
    if old {
        zswap.store(&folio(FIRST - NEIGHBOURS, &neighbours)).unwrap();
        zswap.store(&folio(FIRST, &pages(16, 78))).unwrap();
    }
    (zswap, if old { neighbours } else { Vec::new() })
}

fn assert_neighbours_are_intact(zswap: &Zswap, neighbours: &[PageBytes]) {
    for (k, neighbour) in neighbours.iter().enumerate() {
        assert!(load(zswap, FIRST - NEIGHBOURS + k) == Ok(*neighbour), "neighbour {k} of the folio");
    }
}

/// Runs `operation` on fresh stores with its 1st, 2nd, .. step failing, until none does, and `after` when nothing
/// fails any more. Gives the number of steps.
fn for_every_step(old: bool, operation: impl Fn(&Zswap, &str), after: impl Fn(&Zswap, &str)) -> u32 {
    let machines = [Topology::single_node(), machine(&[0, 1])];
    let mut most = 0;
    for topology in &machines {
        let config = Config { warm_bytes: 4 * 4096, method: Some(Method::Lz4), ..Config::default() };
        for step in 1.. {
            let (zswap, neighbours) = prepared(topology, &config, old);
            let what = format!("step {step} on {} nodes", topology.nodes().len());
            let ((), reached) = fail::with_failure_at(step, || operation(&zswap, &what));
            zswap.check().unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_neighbours_are_intact(&zswap, &neighbours);
            after(&zswap, &what);
            assert_nothing_is_left(&zswap);
            if !reached {
                most = most.max(step - 1);
                break;
            }
        }
    }
    most
}

fn is_for_want_of_memory(error: StoreError) -> bool {
    matches!(error, StoreError::OutOfMemory | StoreError::PoolFull { .. } | StoreError::NodeFull { .. })
}

#[test]
fn store_that_fails_at_any_step_leaves_no_slot_of_the_folio_and_everything_else() {
    for (old, tenant) in [(false, 0), (true, 0), (true, 300)] {
        let new = pages(64, 79);
        let folio = folio(FIRST, &new).with_tenant(TenantId(tenant));
        let all_come_back = |zswap: &Zswap, what: &str| {
            (0..64).for_each(|k| assert!(load(zswap, FIRST + k) == Ok(new[k]), "{what}: page {k}"));
        };
        let operation = |zswap: &Zswap, what: &str| match zswap.store(&folio) {
            Ok(()) => all_come_back(zswap, what),
            Err(error) => {
                assert!(is_for_want_of_memory(error), "{what}: {error}");
                for k in 0..64 {
                    assert_eq!(
                        load(zswap, FIRST + k),
                        Err(LoadError::NotFound),
                        "{what}: an old page hides the new"
                    );
                }
            }
        };
        let steps = for_every_step(old, operation, |zswap, what| {
            zswap.store(&folio).unwrap_or_else(|error| panic!("{what}: again: {error}"));
            assert_eq!(zswap.stats().stored_pages, 64, "{what}");
            all_come_back(zswap, what);
        });
        assert!(steps > 30, "only {steps} steps can fail; is the injection still wired up?");
    }
}

#[test]
fn page_by_page_store_that_fails_at_any_step_keeps_the_pages_it_says_it_keeps() {
    let new = pages(32, 80);
    let operation = |zswap: &Zswap, what: &str| {
        let mut results = Vec::new();
        match zswap.store_each(&folio(FIRST, &new), |_, result| results.push(result)) {
            Ok(()) => assert_eq!(results.len(), 32),
            // The slots themselves got no memory.
            Err(error) => {
                assert_eq!(error, StoreError::OutOfMemory, "{what}");
                results = vec![Err(error); 32];
            }
        }
        for (k, result) in results.into_iter().enumerate() {
            match result {
                Ok(()) => assert!(load(zswap, FIRST + k) == Ok(new[k]), "{what}: page {k}"),
                Err(error) => {
                    assert!(is_for_want_of_memory(error), "{what}: {error}");
                    assert_eq!(load(zswap, FIRST + k), Err(LoadError::NotFound), "{what}: page {k}");
                }
            }
        }
    };
    for_every_step(true, operation, |_, _| {});
}

#[test]
fn loads_have_no_step_that_can_fail_for_want_of_memory() {
    let operation = |zswap: &Zswap, what: &str| {
        let old = pages(16, 78);
        let entries: Vec<SwapEntry> = (FIRST..FIRST + 16).map(at).collect();
        let mut out = Page::zeroed_vec(16);
        let mut page = [0; PAGE_SIZE];
        zswap.read(entries[0], &mut page).unwrap();
        assert!(page == old[0] && load(zswap, FIRST + 1) == Ok(old[1]), "{what}");
        zswap.load_batch(&entries[2..], &mut out, |index, result| {
            assert_eq!(result, Ok(()), "{what}: page {index}");
        });
        assert!((2..16).all(|k| *out[k - 2] == old[k]), "{what}");
        assert_eq!(zswap.invalidate_range(entries[0], 16), Ok(1), "{what}");
    };
    assert_eq!(for_every_step(true, operation, |_, _| {}), 0);
}

/// The list of tenant 0 was asked for even by a store without a page for it, and was not there until tenant 0 had
/// stored something: the first store of any other tenant panicked in publish, and a first store that failed for
/// want of memory panicked in the claim's drop, which ends the process.
#[test]
fn first_store_may_be_of_any_tenant_and_may_fail() {
    let zswap = store_with(Config::default());
    zswap.store(&folio(0, &pages(16, 81)).with_tenant(TenantId(9))).unwrap();
    zswap.check().unwrap();
    assert_nothing_is_left(&zswap);
}

/// How an engine misbehaves with one page.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Says that it failed.
    Fails,
    /// Tells a wrong CRC of the page.
    WrongCrc,
    /// Hands over other bytes.
    WrongBytes,
    /// Hands over no bytes.
    NoBytes,
    /// Hands over more bytes than a page has.
    TooManyBytes,
    /// Never tells what became of the page.
    Loses,
    /// Panics before it tells.
    Panics,
    /// Panics after it has told.
    PanicsAfter,
}

/// Software that misbehaves with its `at`-th page in one direction.
struct Faulty {
    software: Software,
    fault: Fault,
    purpose: zfolio_accel::Purpose,
    at: usize,
    done: usize,
}

const STORES: zfolio_accel::Purpose = zfolio_accel::Purpose::Store;
const LOADS: zfolio_accel::Purpose = zfolio_accel::Purpose::Load;

/// A panic without a message on the terminal.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("the engine panics"))
}

impl Engine for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn window(&self) -> usize {
        4
    }

    fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(Outcome<'a, '_>),
    ) {
        for page in pages {
            self.done += 1;
            let fault = (self.purpose == STORES && self.done == self.at).then_some(self.fault);
            let codec = Codec::Lz4;
            match fault {
                Some(Fault::Fails) => sink(Outcome::Failed { page, error: EngineError::TimedOut }),
                Some(Fault::WrongCrc) => {
                    let bytes = vec![0x5a; 100];
                    sink(Outcome::Done(Compressed::Bytes { bytes: &bytes, codec, crc: !crc32(page) }));
                }
                Some(Fault::WrongBytes) => {
                    sink(Outcome::Done(Compressed::Bytes { bytes: &[0x5a; 100], codec, crc: crc32(page) }))
                }
                Some(Fault::NoBytes) => {
                    sink(Outcome::Done(Compressed::Bytes { bytes: &[], codec, crc: crc32(page) }))
                }
                Some(Fault::TooManyBytes) => {
                    sink(Outcome::Done(Compressed::Bytes { bytes: &[0; 5000], codec, crc: crc32(page) }));
                }
                Some(Fault::Loses) => {}
                Some(Fault::Panics) => panic_quietly(),
                Some(Fault::PanicsAfter) | None => {
                    self.software.compress(&mut [page].into_iter(), sink);
                    if fault.is_some() {
                        panic_quietly();
                    }
                }
            }
        }
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        for slot in jobs {
            let Some(job) = slot else { continue };
            self.done += 1;
            let fault = (self.purpose == LOADS && self.done == self.at).then_some(self.fault);
            match fault {
                Some(Fault::Fails | Fault::NoBytes | Fault::TooManyBytes) => {
                    job.finish(Err(EngineError::PageFault))
                }
                Some(Fault::WrongCrc | Fault::WrongBytes) => {
                    job.page.fill(0xbd);
                    let crc = crc32(job.page);
                    job.finish(Ok(crc));
                }
                Some(Fault::Loses) => job.page.fill(0xbd),
                Some(Fault::Panics) => panic_quietly(),
                Some(Fault::PanicsAfter) | None => {
                    self.software.decompress(std::slice::from_mut(slot));
                    if fault.is_some() {
                        panic_quietly();
                    }
                }
            }
        }
    }
}

fn faulty_store(fault: Fault, purpose: zfolio_accel::Purpose, at: usize) -> Zswap {
    let topology = Topology::single_node();
    let channels = Channels::with_engine(Codec::Lz4, &topology, "faulty", move |_, this| {
        let software = Software::new(Codec::Lz4, 1);
        // Engines of the other direction never get there.
        Box::new(Faulty { software, fault, purpose, at: if this == purpose { at } else { 0 }, done: 0 })
    });
    let zswap = Zswap::with_channels(Config::default(), &topology, channels).unwrap();
    zswap.swapon(0, 1 << 16).unwrap();
    zswap
}

/// Pages that all go through the engine.
fn shrinking_pages(count: u8) -> Vec<PageBytes> {
    (1..=count).map(|tag| page_of_len(usize::from(tag) * 50, tag)).collect()
}

/// `f`, with a panic of the engine as `None`.
fn caught<T>(f: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(f)).ok()
}

#[test]
fn page_that_the_engine_fails_or_lies_about_is_never_given_out_as_another() {
    let (old, new) = (shrinking_pages(24), shrinking_pages(40));
    for fault in [Fault::Fails, Fault::WrongCrc, Fault::WrongBytes, Fault::TooManyBytes] {
        for k in 1..=17 {
            // The first 24 pages go to slots of their own; the fault comes with the second folio.
            let zswap = faulty_store(fault, STORES, 24 + k);
            for (slot, page) in old.iter().enumerate() {
                zswap.store(&folio(slot, &[*page])).unwrap();
            }
            zswap.store(&folio(16, &new[24..])).unwrap();
            zswap.check().unwrap();
            for slot in 0..32 {
                let expected = if slot < 16 { &old[slot] } else { &new[24 + slot - 16] };
                match load(&zswap, slot) {
                    Ok(page) => {
                        assert!(page == *expected, "{fault:?} with page {k}: slot {slot} gave another page")
                    }
                    Err(LoadError::Corrupt { .. }) => {
                        assert!(
                            matches!(fault, Fault::WrongCrc | Fault::WrongBytes),
                            "{fault:?}, slot {slot}"
                        );
                        assert_eq!(slot, 15 + k, "{fault:?}: only that page can be lost");
                    }
                    Err(error) => panic!("{fault:?} with page {k}: slot {slot}: {error}"),
                }
            }
            let fallbacks = zswap.stats().fallbacks.timed_out;
            assert_eq!(fallbacks, u64::from(fault == Fault::Fails && k < 17), "{fault:?} with page {k}");
            assert_nothing_is_left(&zswap);
        }
    }
}

#[test]
fn engine_that_panics_or_loses_a_page_in_a_store_leaves_no_slot_of_the_folio() {
    let (old, new) = (shrinking_pages(24), shrinking_pages(40));
    for fault in [Fault::Loses, Fault::Panics, Fault::PanicsAfter] {
        for k in 1..=17 {
            let zswap = faulty_store(fault, STORES, 24 + k);
            for (slot, page) in old.iter().enumerate() {
                zswap.store(&folio(slot, &[*page])).unwrap();
            }
            let result = caught(|| zswap.store(&folio(16, &new[24..])));
            assert_eq!(result, if k < 17 { None } else { Some(Ok(())) }, "{fault:?} with page {k}");
            zswap.check().unwrap();
            for (slot, page) in old[..16].iter().enumerate() {
                assert!(load(&zswap, slot) == Ok(*page), "{fault:?} with page {k}: slot {slot}");
            }
            for slot in 16..32 {
                let expected = if k < 17 { Err(LoadError::NotFound) } else { Ok(new[24 + slot - 16]) };
                assert!(load(&zswap, slot) == expected, "{fault:?} with page {k}: slot {slot}");
            }
            if k < 17 {
                zswap
                    .store(&folio(16, &new[24..]))
                    .unwrap_or_else(|error| panic!("{fault:?}: again: {error}"));
            }
            assert_nothing_is_left(&zswap);
        }
    }
}

/// What is loaded one by one and in batches, with the `k`-th page of the engine being faulty.
fn load_all(zswap: &Zswap, pages: &[PageBytes], what: &str) {
    // Twice: what failed the first time is still there, and comes then.
    let mut there = vec![true; pages.len()];
    for round in 0..2 {
        let mut out = Page::zeroed_vec(16);
        let entries: Vec<SwapEntry> = (0..16).map(at).collect();
        let mut results = vec![Err(LoadError::NotFound); 16];
        let _ = caught(|| zswap.load_batch(&entries, &mut out, |index, result| results[index] = result));
        for slot in 0..16 {
            if results[slot].is_ok() {
                assert!(there[slot] && *out[slot] == pages[slot], "{what}: slot {slot} in round {round}");
                there[slot] = false;
            }
        }
        for slot in 16..pages.len() {
            if let Some(Ok(page)) = caught(|| load(zswap, slot)) {
                assert!(there[slot] && page == pages[slot], "{what}: slot {slot} in round {round}");
                there[slot] = false;
            }
        }
        zswap.check().unwrap();
    }
    assert!(!there.contains(&true), "{what}: these are lost: {there:?}");
}

#[test]
fn page_that_an_engine_cannot_load_stays_in_the_store() {
    let pages = shrinking_pages(32);
    for fault in [Fault::Fails, Fault::WrongCrc, Fault::Loses, Fault::Panics, Fault::PanicsAfter] {
        for k in 1..=33 {
            let zswap = faulty_store(fault, LOADS, k);
            zswap.store(&folio(0, &pages)).unwrap();
            load_all(&zswap, &pages, &format!("{fault:?} with page {k}"));
            assert_nothing_is_left(&zswap);
        }
    }
}

#[test]
fn object_of_no_bytes_is_not_stored_as_one() {
    let zswap = faulty_store(Fault::NoBytes, STORES, 1);
    let page = page_of_len(100, 1);
    zswap.store(&folio(0, &[page])).unwrap();
    assert!(load(&zswap, 0) == Ok(page), "the page itself is kept instead");
    assert_nothing_is_left(&zswap);
}

/// A swapoff closed the area for everybody, and a slot that stayed locked opened it again. In between, invalidate
/// found nothing and said so; its caller gave the slot's place to another page, and then the old page was back in
/// the store and hid it.
#[test]
fn invalidation_during_a_swapoff_that_fails_is_not_undone() {
    let zswap =
        store_with(Config { lock_timeout: std::time::Duration::from_millis(100), ..Config::default() });
    zswap.store(&folio(0, &pages(16, 82))).unwrap();
    let slot = zswap.tree.slot(at(8)).unwrap();
    assert!(slot.try_lock());
    std::thread::scope(|scope| {
        let swapoff = scope.spawn(|| zswap.swapoff(0));
        // Pages 0 to 7 go first; then it waits for slot 8.
        while zswap.tree.slot(at(7)).is_some_and(|slot| !slot.is_vacant()) {
            std::thread::yield_now();
        }
        let refused = zswap.store(&folio(1024, &pages(1, 83)));
        assert!(
            matches!(refused, Err(StoreError::NoSuchSwap { .. })),
            "no page may come in meanwhile: {refused:?}"
        );
        assert_eq!(zswap.invalidate(at(9)), Ok(true));
        assert!(load(&zswap, 10).is_ok(), "what is not yet forgotten is still there");
        assert_eq!(swapoff.join().unwrap(), Err(SwapoffError::Busy { entry: at(8) }));
    });
    slot.unlock(&zswap.lot, slot.id());
    assert_eq!((load(&zswap, 9), load(&zswap, 10)), (Err(LoadError::NotFound), Err(LoadError::NotFound)));
    assert!(load(&zswap, 11).is_ok() && zswap.store(&folio(0, &pages(16, 84))).is_ok(), "it is on again");
    assert_nothing_is_left(&zswap);
}

/// Of several pages that failed in one `store_each`, only the first whose older page was still being written to the
/// swap device was told as such. The caller wrote the others to the device at once, and the older writes could
/// finish after them.
#[test]
fn every_failed_page_is_told_that_its_older_page_is_still_being_written() {
    let config = Config {
        lock_timeout: std::time::Duration::from_millis(5),
        incompressible: Incompressible::Refuse,
        ..Config::default()
    };
    let zswap = store_with(config);
    zswap.store(&folio(0, &[page_of_len(100, 1); 4])).unwrap();
    for k in [1, 2] {
        let slot = zswap.tree.slot(at(k)).unwrap();
        assert!(slot.try_lock());
        slot.unlock_with_io(&zswap.lot);
    }
    let noise = page_of_len(PAGE_SIZE, 2);
    let mut results = Vec::new();
    zswap.store_each(&folio(0, &[noise; 4]), |_, result| results.push(result.unwrap_err())).unwrap();
    let expected = [
        StoreError::Incompressible { entry: at(0) },
        StoreError::WritebackPending { entry: at(1) },
        StoreError::WritebackPending { entry: at(2) },
        StoreError::Incompressible { entry: at(3) },
    ];
    assert_eq!(results, expected);
}

/// A time-out of `Duration::MAX`, which is how one says for ever, overflowed the clock in the first operation that
/// had to wait; it panicked with slots of its folio locked, and nobody unlocked them.
#[test]
fn lock_timeout_may_be_for_ever() {
    let zswap = store_with(Config { lock_timeout: std::time::Duration::MAX, ..Config::default() });
    let slot = zswap.tree.folio_slots(at(1), 1).unwrap();
    assert!(slot[0].try_lock());
    std::thread::scope(|scope| {
        let store = scope.spawn(|| zswap.store(&folio(0, &pages(2, 85))));
        std::thread::sleep(std::time::Duration::from_millis(20));
        slot[0].unlock(&zswap.lot, 0);
        assert_eq!(store.join().unwrap(), Ok(()));
    });
    assert_nothing_is_left(&zswap);
}

#[test]
fn invalidation_that_meets_a_locked_slot_says_which_and_keeps_the_rest() {
    let zswap = store_with(Config { lock_timeout: std::time::Duration::from_millis(5), ..Config::default() });
    zswap.store(&folio(0, &[page_of_len(100, 3); 8])).unwrap();
    let slot = zswap.tree.slot(at(3)).unwrap();
    assert!(slot.try_lock());
    assert_eq!(zswap.invalidate_range(at(0), 8), Err(InvalidateError::Busy { entry: at(3) }));
    slot.unlock(&zswap.lot, slot.id());
    assert_eq!(
        zswap.invalidate_range(at(0), 8),
        Ok(5),
        "those before it are done, it and the others are there"
    );
    assert_nothing_is_left(&zswap);
}
