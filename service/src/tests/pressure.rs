//! Pressure: who is pressed, and who is spared for a while.

use std::sync::Arc;

use zfolio_accel::Page;

use super::*;
use crate::{MemoryDevice, ShrinkBudget, Swap, TenantId};

const A: TenantId = TenantId(5);
const B: TenantId = TenantId(6);
const EACH: usize = 2048;

/// Pages that compress to a little more than `noise` bytes.
fn pages(noise: usize, seed: u64) -> Vec<PageBytes> {
    let mut random = Random::new(seed);
    let page = |tag: usize| {
        let mut page = [tag as u8 | 1; PAGE_SIZE];
        page[..noise].as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = random.next().to_ne_bytes());
        page
    };
    (0..EACH).map(page).collect()
}

fn store(swap: &Swap, tenant: TenantId, slot: usize, pages: &[PageBytes]) {
    for (k, chunk) in pages.chunks(16).enumerate() {
        swap.store(&folio(slot + 16 * k, chunk).with_tenant(tenant)).unwrap();
    }
}

/// Pages of A that compress to `a` bytes from slot 0 on, and of B behind them.
fn two_tenants(a: usize, b: usize) -> (Swap, Vec<PageBytes>) {
    let zswap = Zswap::new(Config { warm_bytes: 0, ..Config::default() }).unwrap();
    zswap.swapon_with_device(0, 1 << 16, Arc::new(MemoryDevice::new())).unwrap();
    let swap = Swap::new(Arc::new(zswap));
    let of_a = pages(a, 1);
    store(&swap, A, 0, &of_a);
    store(&swap, B, EACH, &pages(b, 2));
    (swap, of_a)
}

/// Takes the marks of being used, so that the next entry that is looked at is taken.
fn forget_use(zswap: &Zswap) {
    for (_, _, list) in zswap.lru.lists() {
        list.candidate(&zswap.slab, &mut list.counts().0.clone(), |_, _| false);
    }
}

/// Pages that one call of reclaim writes back, of A and of B.
fn pressed(swap: &Swap, bytes: u64) -> (u64, u64) {
    let zswap = swap.zswap();
    let written = |tenant| {
        zswap.tenant_stats().into_iter().find(|stats| stats.tenant == tenant).unwrap().written_back_pages
    };
    let before = (written(A), written(B));
    zswap.reclaim(NodeId(0), bytes, ShrinkBudget::default()).unwrap();
    zswap.check().unwrap();
    (written(A) - before.0, written(B) - before.1)
}

#[test]
fn who_compresses_well_is_pressed_less() {
    let (swap, _) = two_tenants(1000, 1000);
    forget_use(swap.zswap());
    let (a, b) = pressed(&swap, 300_000);
    assert!(a + b >= 200 && a.abs_diff(b) <= (a + b) / 5, "alike, they give alike: {a} and {b} pages");
    assert_nothing_is_left(swap.zswap());

    let (swap, _) = two_tenants(500, 3000);
    forget_use(swap.zswap());
    let (a, b) = pressed(&swap, 300_000);
    assert!(a > 0 && b > 3 * a, "a sixth of the memory a page: {a} and {b} pages");
    assert_nothing_is_left(swap.zswap());
}

#[test]
fn who_had_to_read_pages_back_is_spared_for_a_few_calls() {
    let (swap, of_a) = two_tenants(1000, 1000);
    let zswap = Arc::clone(swap.zswap());
    let tenant = |tenant| zswap.tenant_stats().into_iter().find(|stats| stats.tenant == tenant).unwrap();
    let out = 3 * EACH / 4;
    zswap.shrink_tenant(A, out as u64 * 1010).unwrap();
    let mut page = [0; PAGE_SIZE];
    for (slot, expected) in of_a.iter().enumerate() {
        swap.load(at(slot), &mut page).unwrap();
        assert!(page == *expected, "slot {slot}");
    }
    let read = zswap.stats().device_reads;
    assert!(read > out as u64 / 2, "{read}");
    store(&swap, A, 0, &of_a);
    let stats = zswap.stats();
    assert_eq!((stats.nodes[0].protected_pages, tenant(A).protected_pages), (read, read));
    assert_eq!(tenant(B).protected_pages, 0);
    forget_use(&zswap);
    let (a, b) = pressed(&swap, 200_000);
    assert!(b > 2 * a, "{read} of {EACH} pages are protected: {a} and {b} pages");
    assert_eq!(tenant(A).protected_pages, read / 2);
    let mut calls = 1;
    while tenant(A).protected_pages > 0 {
        assert!(pressed(&swap, 4096).1 <= 64);
        calls += 1;
    }
    assert!((8..=12).contains(&calls), "halved by each of {calls} calls");
    forget_use(&zswap);
    let (a, b) = pressed(&swap, 200_000);
    assert!(a.abs_diff(b) <= (a + b) / 4, "and then forgotten: {a} and {b} pages");
    assert_nothing_is_left(&zswap);
}

#[test]
fn protection_is_of_pressure_and_not_of_shrink() {
    let (swap, of_a) = two_tenants(1000, 1000);
    let zswap = swap.zswap();
    zswap.shrink(NodeId(0), u64::MAX).unwrap();
    let mut page = [0; PAGE_SIZE];
    for slot in 0..2 * EACH {
        swap.load(at(slot), &mut page).unwrap();
    }
    store(&swap, A, 0, &of_a[..EACH / 2]);
    let before = zswap.stats();
    assert_eq!(before.nodes[0].freeable_pages, 0, "all pages are protected");
    let none = zswap.reclaim(NodeId(0), 100_000, ShrinkBudget::default()).unwrap();
    assert_eq!((none.written_back_pages, none.scanned_pages), (0, 0));
    let shrunk = zswap.shrink(NodeId(0), 100_000).unwrap();
    let after = zswap.stats();
    assert!(shrunk.released_bytes >= 100_000, "{shrunk:?}");
    assert_eq!(shrunk.released_bytes + none.released_bytes, before.pool_bytes - after.pool_bytes);
    assert_eq!(shrunk.object_bytes, before.object_bytes - after.object_bytes);
    assert_nothing_is_left(zswap);
}

#[test]
fn who_forbids_writeback_is_not_pressed() {
    let (swap, _) = two_tenants(1000, 1000);
    let zswap = swap.zswap();
    zswap.create_tenant(A, crate::TenantConfig { writeback: false, ..Default::default() }).unwrap();
    forget_use(zswap);
    let (a, b) = pressed(&swap, 1 << 20);
    assert!(a == 0 && b > 500, "{b}");
    assert_nothing_is_left(zswap);
}

#[test]
fn every_page_is_counted_where_it_was_and_whose() {
    let topology = machine(&[0, 3]);
    let zswap = store_on(&topology, Config::default());
    zswap.swapoff(0).unwrap();
    zswap.swapon_with_device(0, 1 << 16, Arc::new(MemoryDevice::new())).unwrap();
    let pages = pages(1000, 3);
    zswap.store(&folio(0, &pages[..16]).with_tenant(A)).unwrap();
    zswap.store(&folio(16, &pages[16..32])).unwrap();
    zswap.store(&folio(32, &[[0; PAGE_SIZE], [7; PAGE_SIZE]]).with_tenant(A)).unwrap();
    let mut page = [0; PAGE_SIZE];
    for slot in [0, 1, 2, 16, 32, 33] {
        zswap.read(at(slot), &mut page).unwrap();
    }
    for slot in [0, 17, 18, 32] {
        zswap.load(at(slot), &mut page).unwrap();
    }
    let mut pages = Page::zeroed_vec(2);
    zswap.load_batch(&[at(33), at(3)], &mut pages, |_, result| result.unwrap());
    zswap.invalidate(at(4)).unwrap();
    zswap.shrink_tenant(A, 3 * 900).unwrap();
    let stats = zswap.stats();
    assert_eq!((stats.pages_out, stats.same_filled_pages_out), (34, 2));
    assert_eq!((stats.pages_in, stats.same_filled_pages_in), (12, 4));
    let sum = |figure: fn(&crate::NodeStats) -> u64| stats.nodes.iter().map(figure).sum::<u64>();
    assert_eq!((sum(|n| n.pages_out), sum(|n| n.pages_in), sum(|n| n.written_back_pages)), (32, 8, 3));
    let of = |zswap: &Zswap, tenant| {
        let all = zswap.tenant_stats();
        let stats = all.iter().find(|stats| stats.tenant == tenant).unwrap();
        (stats.pages_out, stats.pages_in, stats.written_back_pages)
    };
    assert_eq!(of(&zswap, A), (16, 5, 3));
    assert_eq!(of(&zswap, TenantId(0)), (16, 3, 0));
    // A tenant that is created starts at nothing, and the nodes' figures stay.
    zswap.invalidate_range(at(0), 1 << 16).unwrap();
    zswap.create_tenant(A, crate::TenantConfig::default()).unwrap();
    assert_eq!(of(&zswap, A), (0, 0, 0));
    assert_eq!(zswap.stats().pages_out, 34);
    zswap.store(&folio(0, &[[1; PAGE_SIZE]]).with_tenant(A)).unwrap();
    assert_eq!(of(&zswap, A), (0, 0, 0), "a page that one word fills is nobody's");
    assert_nothing_is_left(&zswap);
}
