//! A child of fork has nothing of its parent's store: no thread that would give a lock back, and no memory of the
//! pool. It is told so, by every operation and at once, and may drop what it has.

#![allow(clippy::unwrap_used)]

mod child;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use child::in_child;
use zfolio::{
    Config, Folio, InvalidateError, LoadError, NodeId, PAGE_SIZE, Page, PageBytes, Stats, StoreError,
    SwapEntry, SwapoffError, SwaponError, Zswap,
};

fn pages() -> Vec<PageBytes> {
    (0..64u64)
        .map(|tag| {
            let mut page = [0; PAGE_SIZE];
            let mut state = tag;
            for (i, byte) in page.iter_mut().enumerate() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = if i < 64 * tag as usize { (state >> 56) as u8 } else { tag as u8 };
            }
            page
        })
        .collect()
}

fn at(offset: u32) -> SwapEntry {
    SwapEntry::new(0, offset)
}

fn store() -> (Zswap, Vec<PageBytes>) {
    let zswap = Zswap::new(Config::default()).unwrap();
    zswap.swapon(0, 1 << 16).unwrap();
    let pages = pages();
    zswap.store(&Folio::new(at(0), NodeId(0), &pages).unwrap()).unwrap();
    (zswap, pages)
}

/// Every operation, each to be refused. A touch of the pool's memory would be a fault: the child has none of it.
fn everything_is_refused(zswap: &Zswap) -> bool {
    let page = [[7; PAGE_SIZE]];
    let folio = Folio::new(at(3), NodeId(0), &page).unwrap();
    let mut out = Page::zeroed_vec(64);
    let mut batch = Vec::new();
    zswap.load_batch(&[at(1), at(2)], &mut out, |_, result| batch.push(result));
    zswap.store(&folio) == Err(StoreError::Forked)
        && zswap.store_each(&folio, |_, _| ()) == Err(StoreError::Forked)
        && zswap.load(at(3), &mut out[0]) == Err(LoadError::Forked)
        && zswap.load(at(999), &mut out[0]) == Err(LoadError::Forked)
        && zswap.read(at(3), &mut out[0]) == Err(LoadError::Forked)
        && batch == [Err(LoadError::Forked); 2]
        && zswap.invalidate(at(3)) == Err(InvalidateError::Forked)
        && zswap.invalidate_range(at(0), 64) == Err(InvalidateError::Forked)
        && zswap.swapon(1, 1) == Err(SwaponError::Forked)
        && zswap.swapoff(0) == Err(SwapoffError::Forked)
        && zswap.release_warm() == 0
        && zswap.resident_arena_bytes().is_ok_and(|bytes| bytes == 0)
        && zswap.stats() == Stats::default()
        && zswap.check().is_err()
}

fn assert_unharmed(zswap: &Zswap, pages: &[PageBytes]) {
    zswap.check().unwrap();
    for (offset, expected) in (0..).zip(pages) {
        let mut page = [0; PAGE_SIZE];
        zswap.load(at(offset), &mut page).unwrap();
        assert!(page == *expected, "page {offset}");
    }
    zswap.store(&Folio::new(at(0), NodeId(0), pages).unwrap()).unwrap();
    zswap.check().unwrap();
}

#[test]
fn child_is_refused_everything_and_parent_goes_on_unharmed() {
    let (zswap, pages) = store();
    assert_eq!(in_child(|| everything_is_refused(&zswap)), Ok(()));
    assert_unharmed(&zswap, &pages);
}

#[test]
fn child_may_drop_the_store_and_parent_goes_on_unharmed() {
    let (zswap, pages) = store();
    let mut zswap = Some(zswap);
    let child = in_child(|| {
        drop(zswap.take());
        true
    });
    assert_eq!(child, Ok(()));
    assert_unharmed(&zswap.unwrap(), &pages);
}

#[test]
fn child_can_make_a_store_of_its_own() {
    let (zswap, pages) = store();
    let child = in_child(|| {
        let (own, pages) = store();
        assert_unharmed(&own, &pages);
        everything_is_refused(&zswap)
    });
    assert_eq!(child, Ok(()));
    assert_unharmed(&zswap, &pages);
}

/// The thread that holds the slots is not there in the child: whoever waited for it would wait for ever.
#[test]
fn child_does_not_wait_for_a_thread_that_it_does_not_have() {
    let (zswap, pages) = store();
    let (in_the_middle, wait) = mpsc::channel();
    let (go_on, until) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let (zswap, pages) = (&zswap, &pages);
        scope.spawn(move || {
            let entries: Vec<SwapEntry> = (0..64).map(at).collect();
            let mut out = Page::zeroed_vec(64);
            zswap.load_batch(&entries, &mut out, |index, result| {
                result.unwrap();
                if index == 0 {
                    in_the_middle.send(()).unwrap();
                    until.recv().unwrap();
                }
            });
            zswap.store(&Folio::new(at(0), NodeId(0), pages).unwrap()).unwrap();
        });
        wait.recv().unwrap();
        let started = Instant::now();
        let child = in_child(|| everything_is_refused(zswap));
        go_on.send(()).unwrap();
        assert_eq!(child, Ok(()));
        assert!(started.elapsed() < Duration::from_secs(5), "the child waited for a lock");
    });
    assert_unharmed(&zswap, &pages);
}
