//! The hot path takes no memory from the allocator, proved by an allocator that counts: once a store has held the
//! pages and has been emptied, and its pool kept the memory, the same pages come and go without one allocation.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use zfolio::{Config, Folio, Method, NodeId, PAGE_SIZE, Page, PageBytes, SwapEntry, Zswap};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: everything is the system's allocator's; counting touches no memory but the thread's own counter, which
// needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's duties are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, len) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

const PAGES: usize = 2048;

/// Zero pages, same-filled ones, noise and everything in between.
fn pages() -> Vec<PageBytes> {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let page = |index: usize| {
        let mut page = [(index % 3) as u8; PAGE_SIZE];
        let noise = match index % 16 {
            0 => 0,
            1 => PAGE_SIZE,
            _ => random() % PAGE_SIZE,
        };
        page[..noise].iter_mut().for_each(|byte| *byte = random() as u8);
        page
    };
    (0..PAGES).map(page).collect()
}

fn at(offset: usize) -> SwapEntry {
    SwapEntry::new(0, u32::try_from(offset).unwrap())
}

/// Stores all pages in folios of `size`, and takes them out again in every way there is.
fn round(zswap: &Zswap, pages: &[PageBytes], size: usize, out: &mut [Page], entries: &[SwapEntry]) {
    for (k, chunk) in pages.chunks(size).enumerate() {
        zswap.store(&Folio::new(at(k * size), NodeId(0), chunk).unwrap()).unwrap();
    }
    // The second time they replace what is there.
    for (k, chunk) in pages.chunks(size).enumerate() {
        zswap.store(&Folio::new(at(k * size), NodeId(0), chunk).unwrap()).unwrap();
    }
    let mut page = [0; PAGE_SIZE];
    for (offset, expected) in pages.iter().enumerate() {
        zswap.read(at(offset), &mut page).unwrap();
        assert!(page == *expected);
    }
    for (offset, expected) in pages[..PAGES / 4].iter().enumerate() {
        zswap.load(at(offset), &mut page).unwrap();
        assert!(page == *expected);
    }
    let mut loaded = 0;
    zswap.load_batch(&entries[..PAGES / 2], out, |_, result| loaded += usize::from(result.is_ok()));
    assert_eq!(loaded, PAGES / 4, "a quarter was loaded before");
    for offset in PAGES / 2..PAGES * 3 / 4 {
        assert_eq!(zswap.invalidate(at(offset)), Ok(true));
    }
    assert_eq!(zswap.invalidate_range(at(0), u32::MAX), Ok(PAGES as u64 / 4));
}

#[test]
fn pages_come_and_go_without_an_allocation() {
    let pages = pages();
    let entries: Vec<SwapEntry> = (0..PAGES).map(at).collect();
    let mut out = Page::zeroed_vec(PAGES);
    for method in Method::ALL {
        let config = Config { method: Some(method), warm_bytes: 1 << 40, ..Config::default() };
        let zswap = Zswap::new(config).unwrap();
        zswap.swapon(0, 1 << 16).unwrap();
        for size in [1, 16] {
            let before = allocations();
            round(&zswap, &pages, size, &mut out, &entries);
            if size == 1 {
                assert!(allocations() > before, "the first round allocates; else nothing is counted");
            }
            round(&zswap, &pages, size, &mut out, &entries);
            let warm = allocations();
            round(&zswap, &pages, size, &mut out, &entries);
            assert_eq!(allocations() - warm, 0, "allocations with {method} and folios of {size} pages");
        }
        zswap.check().unwrap();
    }
}

#[test]
fn miss_takes_no_memory_wherever_it_looks() {
    let zswap = Zswap::new(Config::default()).unwrap();
    zswap.swapon(0, 1 << 30).unwrap();
    let before = allocations();
    let mut page = [0; PAGE_SIZE];
    for offset in [0, 77, 1 << 20, (1 << 30) - 1, u32::MAX] {
        for swap_type in [0, 1, 200] {
            let entry = SwapEntry::new(swap_type, offset);
            assert!(zswap.load(entry, &mut page).is_err());
            assert_eq!(zswap.invalidate(entry), Ok(false));
        }
    }
    assert_eq!(zswap.invalidate_range(at(0), u32::MAX), Ok(0));
    assert_eq!(allocations() - before, 0);
}
