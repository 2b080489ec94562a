//! What a store took from the kernel, it gives back when dropped. A process of its own: nobody else maps anything.

#![allow(clippy::unwrap_used)]

use zfolio::{Config, Folio, NodeId, PAGE_SIZE, PageBytes, SwapEntry, Zswap};

/// A figure of /proc/self/status, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Fills a store with pages that take 64 MiB as they are, and drops it full.
fn fill_and_drop(pages: &[PageBytes]) -> u64 {
    let zswap = Zswap::new(Config::default()).unwrap();
    for swap_type in [0, 31] {
        zswap.swapon(swap_type, 1 << 20).unwrap();
    }
    for k in 0..64u32 {
        let first = SwapEntry::new(if k % 2 == 0 { 0 } else { 31 }, k * 256);
        zswap.store(&Folio::new(first, NodeId(0), pages).unwrap()).unwrap();
    }
    let mapped = status("VmSize:");
    assert!(zswap.resident_arena_bytes().unwrap() >= 64 << 20);
    drop(zswap);
    mapped
}

#[test]
fn dropped_store_leaves_no_mapping_and_no_memory() {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let pages: Vec<PageBytes> = (0..256).map(|_| std::array::from_fn(|_| random())).collect();
    // The first round also makes what is made once for a process.
    fill_and_drop(&pages);
    let before = (status("VmSize:"), status("RssAnon:"));
    for _ in 0..4 {
        let full = fill_and_drop(&pages);
        assert!(full > before.0 + (64 << 20), "the pool is mapped while there is a store");
    }
    let after = (status("VmSize:"), status("RssAnon:"));
    // The allocator may keep a little for itself; a region of the pool has 64 MiB.
    let slack = 1 << 20;
    assert!(after.0 <= before.0 + slack, "{} bytes mapped before, {} after", before.0, after.0);
    assert!(after.1 <= before.1 + slack, "{} bytes resident before, {} after", before.1, after.1);
    assert_eq!(pages[0].len(), PAGE_SIZE);
}
