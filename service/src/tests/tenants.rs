//! Tenants, their limits, and the thread that makes room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::{
    MemoryDevice, Reclaimer, ReclaimerConfig, StoreError, Swap, TenantConfig, TenantError, TenantId,
    TenantStats,
};

const A: TenantId = TenantId(7);
const B: TenantId = TenantId(8);
const CHILD: TenantId = TenantId(900);

/// Pages of some 600 bytes each.
fn pages(count: usize, seed: u64) -> Vec<PageBytes> {
    let mut random = Random::new(seed);
    let page = |tag: usize| {
        let mut page = [tag as u8 | 1; PAGE_SIZE];
        page[..600].as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = random.next().to_ne_bytes());
        page
    };
    (0..count).map(page).collect()
}

fn store(zswap: &Zswap, tenant: TenantId, slot: usize, pages: &[PageBytes]) -> Result<(), StoreError> {
    zswap.store(&folio(slot, pages).with_tenant(tenant))
}

fn stats(zswap: &Zswap, tenant: TenantId) -> TenantStats {
    zswap.tenant_stats().into_iter().find(|stats| stats.tenant == tenant).unwrap()
}

fn limited(bytes: u64) -> TenantConfig {
    TenantConfig { limit: Some(Limit::Bytes(bytes)), accept_threshold_percent: 50, ..TenantConfig::default() }
}

#[test]
fn limit_of_a_tenant_is_kept_and_hits_nobody_else() {
    let zswap = store_with(Config::default());
    zswap.create_tenant(A, limited(10_000)).unwrap();
    let pages = pages(64, 1);
    let mut slot = 0;
    let error = loop {
        match store(&zswap, A, slot, &pages[slot..=slot]) {
            Ok(()) => slot += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, StoreError::TenantFull { tenant: A, max_bytes: 10_000, accept_bytes: 5000 });
    assert_eq!(error.to_string(), "tenant 7 full (limit 10000 bytes, accepting again at 5000)");
    let mut read = [0; PAGE_SIZE];
    assert!(zswap.read(at(slot), &mut read).is_err(), "a failed store leaves nothing");
    let full = stats(&zswap, A);
    assert!(full.charged_bytes <= 10_000 && full.charged_bytes > 9000, "{full:?}");
    assert_eq!((full.limit_hit, full.stored_pages, full.pages_out), (1, slot as u64, slot as u64));
    assert_eq!(full.object_bytes, full.charged_bytes);
    store(&zswap, B, 32, &pages[..16]).unwrap();
    zswap.store(&folio(48, &pages[..16])).unwrap();
    // One page out does not let one page in.
    zswap.load(at(0), &mut read).unwrap();
    assert!(store(&zswap, A, 0, &pages[..1]).is_err());
    for slot in 0..slot / 2 + 1 {
        zswap.invalidate(at(slot)).unwrap();
    }
    store(&zswap, A, 0, &pages[..1]).unwrap();
    zswap.check().unwrap();
    assert_nothing_is_left(&zswap);
    assert_eq!(stats(&zswap, A).charged_bytes, 0);
}

#[test]
fn children_are_charged_to_their_parents_also_when_they_are_removed() {
    let zswap = store_with(Config::default());
    zswap.create_tenant(A, limited(50_000)).unwrap();
    let child = TenantConfig { parent: A, ..TenantConfig::default() };
    zswap.create_tenant(CHILD, child).unwrap();
    let pages = pages(64, 2);
    store(&zswap, CHILD, 0, &pages[..32]).unwrap();
    store(&zswap, A, 32, &pages[32..48]).unwrap();
    zswap.check().unwrap();
    let (parent, own) = (stats(&zswap, A), stats(&zswap, CHILD));
    assert_eq!(parent.charged_bytes, parent.object_bytes + own.object_bytes);
    assert!(matches!(
        store(&zswap, CHILD, 128, &crate::tests::tenants::pages(64, 3)),
        Err(StoreError::TenantFull { tenant: A, .. })
    ));
    assert_eq!(zswap.remove_tenant(A), Err(TenantError::HasChildren { child: CHILD }));
    zswap.remove_tenant(CHILD).unwrap();
    assert_eq!(store(&zswap, CHILD, 300, &pages[..1]), Err(StoreError::NoSuchTenant { tenant: CHILD }));
    let bytes = stats(&zswap, CHILD).charged_bytes;
    assert_eq!(zswap.create_tenant(CHILD, child), Err(TenantError::InUse { tenant: CHILD, bytes }));
    let mut read = [0; PAGE_SIZE];
    for (slot, page) in pages[..32].iter().enumerate() {
        zswap.load(at(slot), &mut read).unwrap();
        assert!(read == *page, "its pages are there until they are taken");
    }
    assert_eq!(stats(&zswap, A).charged_bytes, stats(&zswap, A).object_bytes);
    zswap.create_tenant(CHILD, TenantConfig::default()).unwrap();
    store(&zswap, CHILD, 0, &pages[..1]).unwrap();
    assert_nothing_is_left(&zswap);
}

#[test]
fn tenants_that_make_no_sense_are_refused() {
    let zswap = store_with(Config::default());
    let config = TenantConfig::default();
    assert_eq!(zswap.create_tenant(TenantId(0), config), Err(TenantError::Root));
    assert_eq!(zswap.remove_tenant(A), Err(TenantError::NoSuchTenant { tenant: A }));
    let orphan = TenantConfig { parent: B, ..config };
    assert_eq!(zswap.create_tenant(A, orphan), Err(TenantError::NoSuchTenant { tenant: B }));
    let much = TenantConfig { limit: Some(Limit::Percent(101)), ..config };
    assert_eq!(zswap.create_tenant(A, much), Err(TenantError::Limit));
    let mut parent = TenantId(0);
    for depth in 1..=8 {
        zswap.create_tenant(TenantId(depth), TenantConfig { parent, ..config }).unwrap();
        parent = TenantId(depth);
    }
    assert_eq!(
        zswap.create_tenant(TenantId(9), TenantConfig { parent, ..config }),
        Err(TenantError::TooDeep)
    );
    assert_eq!(zswap.create_tenant(parent, config), Err(TenantError::InUse { tenant: parent, bytes: 0 }));
}

#[test]
fn tenant_that_forbids_writeback_keeps_its_pages_in_ram() {
    let zswap = Zswap::new(Config::default()).unwrap();
    zswap.swapon_with_device(0, 1 << 16, Arc::new(MemoryDevice::new())).unwrap();
    zswap.create_tenant(A, TenantConfig { writeback: false, ..TenantConfig::default() }).unwrap();
    zswap.create_tenant(CHILD, TenantConfig { parent: A, ..TenantConfig::default() }).unwrap();
    let pages = pages(64, 4);
    store(&zswap, A, 0, &pages[..16]).unwrap();
    store(&zswap, CHILD, 16, &pages[16..32]).unwrap();
    store(&zswap, B, 32, &pages[32..]).unwrap();
    let mut noise = [[0; PAGE_SIZE]];
    let mut random = Random::new(5);
    noise[0].as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = random.next().to_ne_bytes());
    assert!(matches!(store(&zswap, CHILD, 64, &noise), Err(StoreError::Incompressible { .. })));
    store(&zswap, B, 64, &noise).unwrap();
    let shrunk = zswap.shrink(NodeId(0), u64::MAX).unwrap();
    assert_eq!(shrunk.written_back_pages, 33);
    assert_eq!((stats(&zswap, A).stored_pages, stats(&zswap, CHILD).stored_pages), (16, 16));
    assert_eq!((stats(&zswap, B).stored_pages, stats(&zswap, B).written_back_pages), (0, 33));
    zswap.configure_tenant(A, TenantConfig::default()).unwrap();
    let shrunk = zswap.shrink_tenant(CHILD, 5000).unwrap();
    assert!(shrunk.object_bytes >= 5000 && shrunk.object_bytes < 6000, "{shrunk:?}");
    assert_eq!(stats(&zswap, A).written_back_pages, 0, "that was of the child alone");
    assert_nothing_is_left(&zswap);
}

#[test]
fn thread_makes_room_when_a_limit_was_hit_and_stops_when_dropped() {
    let zswap = Arc::new(Zswap::new(pool_of(128)).unwrap());
    zswap.swapon_with_device(0, 1 << 16, Arc::new(MemoryDevice::new())).unwrap();
    zswap.create_tenant(A, limited(100_000)).unwrap();
    let swap = Swap::new(Arc::clone(&zswap));
    let config =
        ReclaimerConfig { compact_every: Some(Duration::from_millis(5)), ..ReclaimerConfig::default() };
    let reclaimer = Reclaimer::spawn(Arc::clone(&zswap), config).unwrap();
    let pages = pages(4096, 6);
    for (k, chunk) in pages.chunks(16).enumerate() {
        let tenant = if k % 2 == 0 { A } else { B };
        swap.store(&folio(16 * k, chunk).with_tenant(tenant)).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let relieved = |zswap: &Zswap| {
        let limit = zswap.pool.arena().pool_limit();
        let room = !limit.is_full() || limit.used_pages() <= limit.accept_pages();
        room && zswap.tenants.over_threshold().is_empty()
    };
    while !relieved(&zswap) {
        assert!(Instant::now() < deadline, "{:?}", zswap.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(reclaimer);
    assert_eq!(Arc::strong_count(&zswap), 2, "the thread is gone");
    zswap.check().unwrap();
    assert!(zswap.stats().written_back_pages > 0);
    let mut read = [0; PAGE_SIZE];
    for (slot, page) in pages.iter().enumerate() {
        swap.load(at(slot), &mut read).unwrap();
        assert!(read == *page, "slot {slot}");
    }
    assert_nothing_is_left(&zswap);
}
