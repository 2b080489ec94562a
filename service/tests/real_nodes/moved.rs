//! Memory that the kernel moves after a store got it.

use std::time::Duration;

use super::*;

/// Moves all memory of this process from one node to another, as `migratepages` does.
fn migrate(from: NodeId, to: NodeId) {
    let (from, to) = (1u64 << from.0, 1u64 << to.0);
    // SAFETY: reads two masks of 64 bits; what memory holds does not change by being moved.
    let left = unsafe { libc::syscall(libc::SYS_migrate_pages, 0, 65usize, &raw const from, &raw const to) };
    assert!(left >= 0, "migrate_pages: {}", std::io::Error::last_os_error());
}

/// The store says of each node what was true when it got the memory, and the kernel moved it. Without asking again the
/// figures of both nodes are wrong for ever, and who shrinks one frees memory of the other.
#[test]
fn memory_that_the_kernel_moved_away_is_noticed_and_its_pages_come_home() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let (count, folios) = (machine.nids.len(), 96);
    let zswap = store_of(Config { warm_bytes: 4 * MIB, ..roomy() });
    for folio in 0..folios * count {
        store_folio(&zswap, machine.nids[folio % count], folio, any_page).unwrap();
    }
    // Some memory of each node is warm.
    (0..12 * count).for_each(|folio| {
        zswap.invalidate_range(at(folio * FOLIO), FOLIO as u32).unwrap();
    });
    let before = machine.assert_told_the_truth(&zswap);
    for index in 0..count {
        let (from, to) = (machine.nids[index], machine.nids[(index + 1) % count]);
        migrate(from, to);
        let moved_away = before.nodes[index].pool_bytes - machine.kernel_says().0[index];
        assert!(moved_away > before.nodes[index].pool_bytes * 9 / 10, "{moved_away} bytes left node {from}");
        let repaired = zswap.repair(from, Duration::MAX).unwrap();
        println!("{moved_away} bytes were moved from node {from} to {to}: {repaired:?}");
        assert!(repaired.moved_pages >= before.nodes[index].stored_pages && repaired.waiting_pages == 0);
        let warm = before.nodes[index].warm_bytes;
        assert!(
            (moved_away - warm..=moved_away).contains(&repaired.strayed_bytes),
            "{repaired:?}, {warm} warm"
        );
        let after = machine.assert_told_the_truth(&zswap);
        assert_eq!(after.misplaced_pages, 0);
        assert_eq!(after.nodes[index].object_bytes, before.nodes[index].object_bytes);
        assert_eq!(zswap.repair(from, Duration::MAX).unwrap(), Default::default(), "all is at home");
    }
    assert_there(&zswap, 12 * count..folios * count, any_page);
    machine.assert_empty(&zswap);
}

/// A node that the kernel empties because it is short has no room for its pages either: they wait, and are told.
#[test]
fn pages_whose_node_is_full_by_now_wait_where_the_kernel_moved_them() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let Some(full) = machine.node_to_fill() else { return };
    let nid = machine.nids[full];
    let other = machine.nids[(full + 1) % machine.nids.len()];
    let zswap = store_of(Config { warm_bytes: 0, ..roomy() });
    let folios = 768;
    (0..folios).for_each(|folio| store_folio(&zswap, nid, folio, noise).unwrap());
    migrate(nid, other);
    let hog = machine.hog(full, 24 * MIB);
    let repaired = zswap.repair(nid, Duration::MAX).unwrap();
    println!("with the node full: {repaired:?}");
    assert!(repaired.waiting_pages > 0);
    zswap.check().unwrap();
    assert_there(&zswap, 0..folios, noise);
    drop(hog);
    let repaired = zswap.repair(nid, Duration::MAX).unwrap();
    println!("with room again: {repaired:?}");
    assert_eq!(repaired.waiting_pages, 0);
    assert_eq!(machine.assert_told_the_truth(&zswap).misplaced_pages, 0);
    assert_there(&zswap, 0..folios, noise);
    machine.assert_empty(&zswap);
}
