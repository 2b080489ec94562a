//! Pages that nobody asked for in a while, compressed again.

use super::*;

#[test]
fn old_pages_are_compressed_again_and_others_are_not() {
    let zswap = store_with(Config { method: Some(Method::Lz4), ..Config::default() });
    let pages: Vec<PageBytes> = (0..64u32)
        .map(|tag| {
            let text: String =
                (0..1200u32).map(|i| format!("{tag} {:x} ", i.wrapping_mul(tag * 77 + 13))).collect();
            text.as_bytes()[..PAGE_SIZE].try_into().unwrap()
        })
        .collect();
    store_all(&zswap, &pages[..32]);
    zswap.create_tenant(TenantId(4), crate::TenantConfig::default()).unwrap();
    zswap.tick();
    zswap.tick();
    for slot in 0..8 {
        zswap.read(at(slot), &mut [0; PAGE_SIZE]).unwrap();
    }
    zswap.store(&folio(32, &pages[32..]).with_tenant(TenantId(4))).unwrap();
    let before = zswap.stats().object_bytes;
    let dense = |age| zswap.recompress(NodeId(0), Method::DeflateDynamic, age, Duration::MAX).unwrap();
    assert_eq!(dense(3).tried_pages, 0);
    let old = dense(2);
    assert_eq!((old.tried_pages, old.pages), (24, 24), "not those that were read or stored since");
    zswap.check().unwrap();
    assert_eq!(zswap.stats().object_bytes, before - old.saved_bytes);
    assert!(old.saved_bytes > before / 20, "{old:?} of {before}");
    // Whatever else is at hand; pages that are short already stay as they are.
    assert_eq!(dense(0).pages, 40);
    assert_eq!(dense(0).pages, 0);
    zswap.check().unwrap();
    for (slot, page) in pages.iter().enumerate() {
        assert!(load(&zswap, slot) == Ok(*page), "slot {slot}");
    }
    assert_nothing_is_left(&zswap);
}

#[test]
#[cfg(feature = "zstd")]
fn old_pages_are_readable_after_they_were_compressed_with_zstd() {
    let device = Arc::new(MemoryDevice::new());
    let config = Config { method: Some(Method::DeflateDynamic), ..Config::default() };
    let zswap = store_over(device.clone(), config);
    let mut random = Random::new(31);
    let pages: Vec<PageBytes> = (0..512u32)
        .map(|tag| {
            let text: String = (0..900)
                .map(|_| format!("{tag} the {:x} of {} ", random.below(400), random.below(20)))
                .collect();
            text.as_bytes()[..PAGE_SIZE].try_into().unwrap()
        })
        .collect();
    store_all(&zswap, &pages);
    let before = zswap.stats().object_bytes;
    zswap.tick();
    // As far as the budget goes, and the next call goes on.
    let (mut tried, mut calls) = (0, 0);
    while tried < 512 {
        let some = zswap.recompress(NodeId(0), Method::Zstd, 1, Duration::from_micros(200)).unwrap();
        assert!(some.tried_pages > 0 || tried > 0, "a budget too small for one page");
        (tried, calls) = (tried + some.tried_pages, calls + 1);
        assert!(calls < 100_000, "{tried} pages tried");
        zswap.check().unwrap();
    }
    assert!(calls > 1, "else the budget was none");
    let stats = zswap.stats();
    assert!(stats.object_bytes < before - before / 50, "{} of {before}", stats.object_bytes);
    let zstd = (0..512).filter(|&slot| {
        let entry = zswap.slab.at(zswap.tree.slot(at(slot)).unwrap().id());
        matches!(entry.contents(), crate::entry::Contents::Object { codec: Some(Codec::Zstd), .. })
    });
    assert!(zstd.count() > 256, "their entries say so");
    // Some come back from RAM, some from the device.
    zswap.shrink(NodeId(0), before / 4).unwrap();
    for (slot, page) in pages.iter().enumerate() {
        assert!(find(&zswap, &*device, slot).0 == *page, "slot {slot}");
    }
    assert_nothing_is_left(&zswap);
}
