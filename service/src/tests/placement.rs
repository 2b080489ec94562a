//! Where compressed pages may lie: placements and tiers, on machines that are made up.
//!
//! Memory of these tests comes from the nodes that the kernel has. A store that knows node 0 hears that all of it is there; one
//! of nodes that the kernel does not have takes all memory for that of the node it was asked of.

use super::nodes::{assert_pages_come_back, folio_from, memory_is_on_node_0, pages};
use super::*;
use crate::{Placement, StoreError};

fn placed(placement: Placement) -> Config {
    Config { placement, warm_bytes: 0, ..Config::default() }
}

#[test]
fn bound_pages_are_refused_when_their_node_has_no_memory() {
    if !memory_is_on_node_0() {
        return;
    }
    let pages = pages(64);
    let zswap = store_on(&machine(&[0, 1]), placed(Placement::Bind));
    zswap.store(&folio_from(0, 0, &pages[..16])).unwrap();
    zswap.store(&folio_from(0, 16, &pages[..16])).unwrap();
    // What was in its slots is gone, as after any failed store.
    let refused = StoreError::NodeOutOfMemory { nid: NodeId(1) };
    assert_eq!(zswap.store(&folio_from(1, 16, &pages[..16])), Err(refused));
    assert_eq!(
        refused.to_string(),
        "node 1 has no memory left, and its pages may not be where there is some"
    );
    let mut results = Vec::new();
    zswap.store_each(&folio_from(1, 32, &pages[..4]), |_, result| results.push(result)).unwrap();
    assert_eq!(results, [Err(refused); 4]);
    // A page that needs no memory has its place everywhere.
    zswap.store(&folio_from(1, 63, &[[7; PAGE_SIZE]])).unwrap();
    zswap.check().unwrap();
    let stats = zswap.stats();
    assert_eq!((stats.stored_pages, stats.misplaced_pages, stats.reject_placement), (17, 0, 5));
    assert_eq!((stats.reject_full, stats.reject_alloc_fail), (0, 0));
    assert_eq!((stats.nodes[1].pool_bytes, stats.nodes[1].limit_hit), (0, 0));
    assert_pages_come_back(&zswap, &pages[..16]);
    assert_nothing_is_left(&zswap);
}

/// The limit of the node that the kernel happens to fall back to has no say in it.
#[test]
fn refusal_of_a_bound_page_is_in_the_name_of_its_own_node() {
    if !memory_is_on_node_0() {
        return;
    }
    let node_limits = vec![(NodeId(0), Limit::Bytes(0))];
    let zswap = store_on(&machine(&[0, 1]), Config { node_limits, ..placed(Placement::Bind) });
    assert_eq!(
        zswap.store(&folio_from(1, 0, &pages(1))),
        Err(StoreError::NodeOutOfMemory { nid: NodeId(1) })
    );
    assert_eq!(zswap.stats().pool_limit_hit, 0);
}

/// Cold pages were moved to slow memory to make room. If they came back compressed, they would take some of it again.
#[test]
fn slow_page_is_refused_where_only_faster_memory_is_left() {
    if !memory_is_on_node_0() {
        return;
    }
    let pages = pages(32);
    for placement in [Placement::Prefer, Placement::Bind, Placement::Dense] {
        let tiers = vec![(NodeId(1), 22), (NodeId(0), 4)];
        let zswap = store_on(&machine(&[0, 1]), Config { tiers, ..placed(placement) });
        // Holes of the right size are no reason to climb either.
        zswap.store(&folio_from(0, 0, &pages)).unwrap();
        zswap.invalidate_range(at(8), 24).unwrap();
        assert_eq!(
            zswap.store(&folio_from(1, 32, &pages)),
            Err(StoreError::NodeOutOfMemory { nid: NodeId(1) }),
            "{placement:?}"
        );
        zswap.check().unwrap();
        let stats = zswap.stats();
        assert_eq!((stats.stored_pages, stats.misplaced_pages, stats.reject_placement), (8, 0, 1));
        assert_eq!(stats.nodes.iter().map(|node| node.tier).collect::<Vec<_>>(), [4, 22]);
    }
}

#[test]
fn fast_page_goes_to_slower_memory_when_that_is_all_there_is() {
    if !memory_is_on_node_0() {
        return;
    }
    let pages = pages(32);
    let tiers = vec![(NodeId(0), 22), (NodeId(1), 4)];
    let zswap = store_on(&machine(&[0, 1]), Config { tiers, ..placed(Placement::Prefer) });
    zswap.store(&folio_from(1, 0, &pages)).unwrap();
    zswap.check().unwrap();
    let stats = zswap.stats();
    assert_eq!((stats.misplaced_pages, stats.misplaced_bytes), (32, stats.object_bytes));
    assert_pages_come_back(&zswap, &pages);
    assert_nothing_is_left(&zswap);
}

#[test]
fn tier_of_a_node_that_is_not_there_is_refused_by_name() {
    let channels = Channels::new(ChannelsConfig::default(), &machine(&[0, 1])).unwrap();
    let config = Config { tiers: vec![(NodeId(5), 1)], ..Config::default() };
    let error = Zswap::with_channels(config, &machine(&[0, 1]), channels).unwrap_err();
    assert_eq!(error.to_string(), "tier of node 5, which has no memory");
}

/// Nodes that the kernel does not have.
const NIDS: [u16; 3] = [700, 800, 900];

/// A store with pages of every length from each of three nodes in turn, and the pages.
fn spread(placement: Placement) -> (Zswap, Vec<PageBytes>) {
    let mut random = Random::new(11);
    let pages: Vec<PageBytes> = (0..3000)
        .map(|tag| {
            let mut page = [tag as u8 | 1; PAGE_SIZE];
            let noise = 16 + random.below(3900);
            page[..noise].fill_with(|| random.next() as u8);
            page
        })
        .collect();
    let zswap = store_on(&machine(&NIDS), placed(placement));
    for (k, page) in pages.iter().enumerate() {
        zswap.store(&folio_from(NIDS[k % 3], k, std::slice::from_ref(page))).unwrap();
    }
    (zswap, pages)
}

#[test]
fn dense_store_takes_less_memory_and_tells_exactly_what_is_not_at_home() {
    let (prefer, pages) = spread(Placement::Prefer);
    let (dense, _) = spread(Placement::Dense);
    for zswap in [&prefer, &dense] {
        zswap.check().unwrap();
    }
    let (prefer_stats, dense_stats) = (prefer.stats(), dense.stats());
    assert_eq!((prefer_stats.misplaced_pages, prefer_stats.misplaced_bytes), (0, 0));
    assert!(dense_stats.misplaced_pages > 0, "{dense_stats}");
    assert!(dense_stats.pool_bytes < prefer_stats.pool_bytes * 97 / 100, "{prefer_stats}\n{dense_stats}");
    // What leaves is no longer counted.
    dense.invalidate_range(at(0), 1500).unwrap();
    dense.check().unwrap();
    for (k, page) in pages.iter().enumerate().skip(1500) {
        let mut read = [0; PAGE_SIZE];
        dense.load(at(k), &mut read).unwrap();
        assert!(read == *page, "page {k}");
    }
    assert_eq!((dense.stats().misplaced_pages, dense.stats().misplaced_bytes), (0, 0));
    assert_nothing_is_left(&dense);
}

/// Repair must not undo what density was bought for, but what costs nothing it takes.
#[test]
fn repair_of_a_dense_store_uses_holes_only() {
    let (zswap, pages) = spread(Placement::Dense);
    let repair = || {
        NIDS.map(|nid| zswap.repair(NodeId(nid), std::time::Duration::MAX).unwrap().moved_pages)
            .iter()
            .sum::<u64>()
    };
    let before = zswap.stats();
    let moved = repair();
    zswap.check().unwrap();
    let after = zswap.stats();
    assert!(after.pool_bytes <= before.pool_bytes, "{before}\n{after}");
    assert_eq!(after.misplaced_pages, before.misplaced_pages - moved);
    // Every fifth page goes, and leaves holes.
    (0..3000).step_by(5).for_each(|k| assert_eq!(zswap.invalidate_range(at(k), 1), Ok(1)));
    let before = zswap.stats();
    assert!(repair() > 0);
    zswap.check().unwrap();
    assert!(zswap.stats().pool_bytes <= before.pool_bytes);
    for (k, page) in pages.iter().enumerate().filter(|(k, _)| k % 5 != 0) {
        let mut read = [0; PAGE_SIZE];
        zswap.load(at(k), &mut read).unwrap();
        assert!(read == *page, "page {k}");
    }
    assert_nothing_is_left(&zswap);
}

/// As if the kernel had moved all memory of a node elsewhere: nothing new goes there, and what is there is moved out.
#[test]
fn zspage_that_strayed_takes_no_page_and_ends_with_its_last() {
    let (zswap, pages) = spread(Placement::Prefer);
    let before = zswap.stats();
    let mut strayed = Vec::new();
    let mut objects = Vec::new();
    zswap.pool.visit_objects(0, 0, &mut |owner, zspage, index| {
        strayed.push(zspage);
        objects.push((owner, zspage, index));
        true
    });
    strayed.dedup();
    strayed.iter().for_each(|&zspage| zswap.pool.set_strayed(zspage, 0, true));
    zswap.check().unwrap();
    // Pages that leave make no room in them, and pages that come find none.
    zswap.invalidate_range(at(0), 300).unwrap();
    for (k, page) in pages[..300].iter().enumerate() {
        zswap.store(&folio_from(NIDS[k % 3], k, std::slice::from_ref(page))).unwrap();
    }
    zswap.check().unwrap();
    assert!(zswap.stats().pool_bytes > before.pool_bytes);
    let in_strayed = || {
        let mut count = 0;
        zswap.pool.visit_objects(0, 0, &mut |_, zspage, _| {
            count += usize::from(zswap.pool.arena().header(zspage).has_strayed());
            true
        });
        count
    };
    assert_eq!(in_strayed(), 1000 - 100, "those that came from the node and did not leave");
    for (owner, zspage, index) in objects {
        zswap.bring_home(owner, zspage, index).unwrap();
    }
    zswap.check().unwrap();
    assert_eq!(in_strayed(), 0);
    let stats = zswap.stats();
    assert_eq!((stats.stored_pages, stats.misplaced_pages), (3000, 0));
    assert!(stats.pool_bytes <= before.pool_bytes * 101 / 100, "{before}\n{stats}");
    assert_pages_come_back(&zswap, &pages);
    assert_nothing_is_left(&zswap);
}
