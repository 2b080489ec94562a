//! Placements and tiers: where pages may lie when their node is full, and what density costs.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use zfolio::Placement;

use super::*;

/// Free memory of the full node. (The kernel itself keeps some MiB, and more of them right after somebody took the rest.)
const LEFT: u64 = 24 * MIB;
/// Folios of raw pages: 64 MiB.
const FOLIOS: usize = 1024;

/// Stores folios of the full node until some were refused, each in the node's own name: those that were stored, and how many
/// were not.
fn store_until_refused(zswap: &Zswap, nid: NodeId, folios: usize) -> (Vec<usize>, u64) {
    let (mut stored, mut refused) = (Vec::new(), 0);
    for folio in 0..folios {
        match store_folio(zswap, nid, folio, noise) {
            Ok(()) => stored.push(folio),
            Err(error) => {
                assert_eq!(error, StoreError::NodeOutOfMemory { nid });
                let mut page = [0; PAGE_SIZE];
                assert_eq!(zswap.read(at(folio * FOLIO), &mut page), Err(LoadError::NotFound));
                refused += 1;
            }
        }
    }
    (stored, refused)
}

#[test]
fn bound_pages_of_a_full_node_are_refused_and_nobody_else_has_to_take_them() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let Some(full) = machine.node_to_fill() else { return };
    let nid = machine.nids[full];
    let hog = machine.hog(full, LEFT);
    let zswap = store_of(Config { placement: Placement::Bind, ..roomy() });
    let (stored, refused) = store_until_refused(&zswap, nid, FOLIOS);
    let stats = machine.assert_told_the_truth(&zswap);
    println!("bind: {} folios on node {nid}, {refused} refused", stored.len());
    assert!(refused > 0 && !stored.is_empty());
    assert_eq!((stats.reject_placement, stats.misplaced_pages), (refused, 0));
    assert_eq!((stats.reject_full, stats.reject_alloc_fail, stats.pool_limit_hit), (0, 0, 0));
    assert!(stats.nodes.iter().all(|node| node.nid == nid || node.pool_bytes == 0), "{:?}", stats.nodes);
    assert_there(&zswap, stored, noise);
    // Others have room, and take their own.
    let other = machine.nids[(full + 1) % machine.nids.len()];
    store_folio(&zswap, other, FOLIOS, noise).unwrap();
    drop(hog);
    (0..FOLIOS).for_each(|folio| store_folio(&zswap, nid, folio, noise).unwrap());
    assert_eq!(machine.assert_told_the_truth(&zswap).misplaced_pages, 0);
    assert_there(&zswap, 0..FOLIOS, noise);
    machine.assert_empty(&zswap);
}

/// Tiers as the kernel tells them: this machine's nodes, and other tiers beside them.
fn sysfs_with_tiers(tiers: &[(u32, Vec<NodeId>)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("devices/virtual/memory_tiering")).unwrap();
    symlink("/sys/devices/system", dir.path().join("devices/system")).unwrap();
    for (tier, nids) in tiers {
        let tier = dir.path().join(format!("devices/virtual/memory_tiering/memory_tier{tier}"));
        fs::create_dir(&tier).unwrap();
        let nids: Vec<String> = nids.iter().map(NodeId::to_string).collect();
        fs::write(tier.join("nodelist"), nids.join(",") + "\n").unwrap();
    }
    dir
}

/// Cold pages were moved to the slow node to make room on the fast ones. The kernel falls back to whatever is nearest.
#[test]
fn slow_tier_never_climbs() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let Some(slow) = machine.node_to_fill() else { return };
    let nid = machine.nids[slow];
    let others: Vec<NodeId> = machine.nids.iter().copied().filter(|&other| other != nid).collect();
    let sysfs = sysfs_with_tiers(&[(4, others.clone()), (22, vec![nid])]);
    for placement in [Placement::Prefer, Placement::Dense] {
        let hog = machine.hog(slow, LEFT);
        let zswap = store_of(Config { placement, sysfs: sysfs.path().to_owned(), ..roomy() });
        // Fast nodes have pages and holes of just that size, and room.
        for (k, &other) in others.iter().enumerate() {
            (0..64).for_each(|folio| store_folio(&zswap, other, 2000 + 64 * k + folio, noise).unwrap());
            (0..32).for_each(|folio| {
                zswap.invalidate_range(at((2000 + 64 * k + 2 * folio) * FOLIO), FOLIO as u32).unwrap();
            });
        }
        let before = machine.assert_told_the_truth(&zswap);
        assert_eq!(before.nodes[slow].tier, 22);
        let (stored, refused) = store_until_refused(&zswap, nid, FOLIOS);
        let stats = machine.assert_told_the_truth(&zswap);
        println!("{placement:?}: {} folios on the slow node {nid}, {refused} refused", stored.len());
        assert!(refused > 0 && !stored.is_empty());
        // Of fast pages some are in a hole of the other fast node, where that is wanted.
        assert_eq!((stats.misplaced_pages, stats.reject_placement), (before.misplaced_pages, refused));
        for (now, then) in stats.nodes.iter().zip(&before.nodes).filter(|(now, _)| now.nid != nid) {
            assert_eq!(
                (now.pool_bytes, now.stored_pages),
                (then.pool_bytes, then.stored_pages),
                "node {}",
                now.nid
            );
        }
        assert_there(&zswap, stored, noise);
        drop(hog);
        machine.assert_empty(&zswap);
    }
}

/// The nearest node with memory may be a faster one; then those that are no faster are asked by name.
#[test]
fn pages_of_a_full_slow_node_go_to_one_that_is_as_slow() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let Some(slow) = machine.node_to_fill() else { return };
    let nid = machine.nids[slow];
    for (substitute, &name) in machine.nids.iter().enumerate().filter(|&(index, _)| index != slow) {
        // Two are slow, whichever the kernel likes best.
        let tier = |&nid: &NodeId| (nid, if nid == machine.nids[slow] || nid == name { 22 } else { 4 });
        let tiers = machine.nids.iter().map(tier).collect();
        let hog = machine.hog(slow, LEFT);
        let zswap = store_of(Config { tiers, ..roomy() });
        (0..FOLIOS).for_each(|folio| store_folio(&zswap, nid, folio, noise).unwrap());
        let stats = machine.assert_told_the_truth(&zswap);
        println!(
            "tier of node {nid} and {name}: {:?}",
            stats.nodes.iter().map(|n| n.stored_pages).collect::<Vec<_>>()
        );
        assert!(stats.misplaced_pages > 0);
        assert_eq!(stats.nodes[substitute].stored_pages, stats.misplaced_pages, "all that is not at home");
        assert_eq!(stats.misplaced_bytes, stats.nodes[substitute].object_bytes);
        assert_there(&zswap, 0..FOLIOS, noise);
        drop(hog);
        machine.assert_empty(&zswap);
    }
}

/// As many pages as the goal for one node speaks of, on all of them, and half of them gone at random.
#[test]
fn three_nodes_cost_at_most_three_percent_more_than_what_is_stored() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let page = |number: u64| page_with(number, 16 + (number as usize).wrapping_mul(2_654_435_761) % 3900);
    let folios = 65_536 / FOLIO;
    for placement in [Placement::Prefer, Placement::Dense] {
        let zswap = store_of(Config { placement, warm_bytes: 0, ..roomy() });
        for folio in 0..folios {
            store_folio(&zswap, machine.nids[folio * 7 % 11 % machine.nids.len()], folio, page).unwrap();
        }
        let ratio = |stats: &zfolio::Stats| stats.pool_bytes as f64 / stats.object_bytes as f64;
        let filled = machine.assert_told_the_truth(&zswap);
        let mut random = 1u64;
        for number in 0..folios * FOLIO {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if random >> 63 == 1 {
                zswap.invalidate(at(number)).unwrap();
            }
        }
        for &nid in &machine.nids {
            zswap.compact(nid, Duration::MAX).unwrap();
        }
        let compacted = machine.assert_told_the_truth(&zswap);
        println!(
            "{placement:?}, allocated/compressed: {:.4} filled, {:.4} after half was freed and compaction; {} of {} not at home",
            ratio(&filled),
            ratio(&compacted),
            filled.misplaced_pages,
            filled.stored_pages,
        );
        assert!(ratio(&filled) <= 1.03 && ratio(&compacted) <= 1.03);
        assert_eq!(filled.misplaced_pages == 0, placement == Placement::Prefer);
        machine.assert_empty(&zswap);
    }
}
