//! A node that is full: its pages lie elsewhere, are counted there, and come home.

use super::*;

/// A full node is no failure: the kernel takes the memory from another one and says nothing. Who believed it had
/// done as told would show a full node ever fuller, and never touch the limit of the one that really fills up.
#[test]
fn pages_of_a_full_node_are_counted_where_the_kernel_put_them() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let Some(full) = machine.node_to_fill() else { return };
    let nid = machine.nids[full];
    // Zspages of every length run into the end of the node, from two threads.
    let page = |number: u64| match number % 2 {
        0 => noise(number),
        _ => page_with(number, 16 + (number as usize).wrapping_mul(2_654_435_761) % 4000),
    };
    let (left, threads, folios) = (16 * MIB, 2, 512);
    let hog = machine.hog(full, left);
    let zswap = store_of(roomy());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let zswap = &zswap;
            scope.spawn(move || {
                for folio in thread * folios..(thread + 1) * folios {
                    store_folio(zswap, nid, folio, page).unwrap();
                }
            });
        }
    });
    let stats = machine.assert_told_the_truth(&zswap);
    let elsewhere: u64 =
        stats.nodes.iter().filter(|node| node.nid != nid).map(|node| node.stored_pages).sum();
    println!(
        "full node {nid}: {} pages on it, {elsewhere} elsewhere, {:.1} MiB of pool for {:.1} MiB of objects: {:?}",
        stats.nodes[full].stored_pages,
        stats.pool_bytes as f64 / MIB as f64,
        stats.object_bytes as f64 / MIB as f64,
        stats.nodes,
    );
    assert_eq!(stats.misplaced_pages, elsewhere, "every page is of node {nid}");
    assert_eq!(stats.stored_pages, (threads * folios * FOLIO) as u64);
    assert!(elsewhere > 0, "the node is full");
    assert!(
        stats.pool_bytes <= stats.object_bytes + stats.object_bytes / 4,
        "a full node must not cost more memory than a roomy one: {stats}"
    );
    assert_there(&zswap, 0..threads * folios, page);

    // The others are as before: their pages are placed right, while pages of the full node lie among them.
    for (index, &other) in machine.nids.iter().enumerate().filter(|(index, _)| *index != full) {
        let folios = 2000 + index * 64..2064 + index * 64;
        folios.clone().for_each(|folio| store_folio(&zswap, other, folio, page).unwrap());
        assert_there(&zswap, folios, page);
    }
    assert_eq!(machine.assert_told_the_truth(&zswap).misplaced_pages, elsewhere);

    // Once the node has room again, what is emptied and stored anew is at home again.
    drop(hog);
    zswap.invalidate_range(at(0), 1 << 20).unwrap();
    machine.assert_told_the_truth(&zswap);
    (0..threads * folios).for_each(|folio| store_folio(&zswap, nid, folio, page).unwrap());
    assert_eq!(machine.assert_told_the_truth(&zswap).misplaced_pages, 0);
    assert_there(&zswap, 0..threads * folios, page);
    machine.assert_empty(&zswap);
}

/// Memory that the kernel takes from another node is charged to that node's limit. What is over it is refused in
/// the name of the node that is full, and given back: nobody else may find memory of ours there.
#[test]
fn limits_hold_for_memory_that_a_full_node_takes_elsewhere() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let Some(full) = machine.node_to_fill() else { return };
    let others: Vec<NodeId> = machine.nids.iter().copied().filter(|&nid| nid != machine.nids[full]).collect();
    let hog = machine.hog(full, 8 * MIB);
    let limits = others.iter().map(|&nid| (nid, Limit::Bytes(4 * MIB))).collect();
    let zswap = store_of(Config { node_limits: limits, ..roomy() });
    let page = |number: u64| page_with(number, 3000);
    let mut stored = Vec::new();
    let mut refused = 0;
    for folio in 0..512 {
        match store_folio(&zswap, machine.nids[full], folio, page) {
            Ok(()) => stored.push(folio),
            Err(StoreError::NodeFull { nid, max_bytes, .. }) => {
                assert!(others.contains(&nid) && max_bytes == 4 * MIB, "refused by node {nid}");
                let mut page = [0; PAGE_SIZE];
                assert_eq!(zswap.read(at(folio * FOLIO), &mut page), Err(LoadError::NotFound));
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let stats = machine.assert_told_the_truth(&zswap);
    println!("limits elsewhere: {} folios stored, {refused} refused: {:?}", stored.len(), stats.nodes);
    assert!(refused > 0 && stats.misplaced_pages > 0, "it ran over: {stats}");
    assert!(stats.nodes.iter().all(|node| node.nid == machine.nids[full] || node.pool_bytes <= 4 * MIB));
    assert_there(&zswap, stored, page);
    drop(hog);
    machine.assert_empty(&zswap);
}

/// A node that was full for a moment: pages that come and go one at a time must find the way home once it has room,
/// else a minute of pressure makes every access of its owner remote for as long as the store lives.
#[test]
fn pages_that_come_and_go_return_to_a_node_that_has_room_again() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let Some(full) = machine.node_to_fill() else { return };
    let nid = machine.nids[full];
    let page = |number: u64| page_with(number, 600);
    let hog = machine.hog(full, 4 * MIB);
    let zswap = store_of(roomy());
    let folios = 1024;
    (0..folios).for_each(|folio| store_folio(&zswap, nid, folio, page).unwrap());
    let mut misplaced = vec![machine.assert_told_the_truth(&zswap).misplaced_pages];
    assert!(misplaced[0] > 0, "the node was full");
    drop(hog);
    let mut read = [0; PAGE_SIZE];
    for _ in 0..4 {
        for number in 0..folios * FOLIO {
            zswap.load(at(number), &mut read).unwrap();
            assert!(read == page(number as u64), "page {number}");
            zswap.store(&Folio::new(at(number), nid, &[read]).unwrap()).unwrap();
        }
        misplaced.push(machine.assert_told_the_truth(&zswap).misplaced_pages);
    }
    println!("misplaced of {}, by rounds of coming and going: {misplaced:?}", folios * FOLIO);
    let last = *misplaced.last().unwrap();
    assert!(last <= misplaced[0] / 10, "pages still misplaced, by rounds: {misplaced:?}");
    assert_there(&zswap, 0..folios, page);
    machine.assert_empty(&zswap);
}

#[test]
fn misplaced_pages_come_home_once_their_node_has_room() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let Some(full) = machine.node_to_fill() else { return };
    let nid = machine.nids[full];
    let page = |number: u64| page_with(number, 600);
    let hog = machine.hog(full, 4 * MIB);
    let zswap = store_of(roomy());
    let folios = 1024;
    (0..folios).for_each(|folio| store_folio(&zswap, nid, folio, page).unwrap());
    let misplaced = machine.assert_told_the_truth(&zswap).misplaced_pages;
    assert!(misplaced > 0, "the node was full");
    drop(hog);
    let mut moved = 0;
    for &other in machine.nids.iter().filter(|&&other| other != nid) {
        moved += zswap.repair(other, std::time::Duration::MAX).unwrap().moved_pages;
    }
    let left = machine.assert_told_the_truth(&zswap).misplaced_pages;
    println!("{misplaced} pages misplaced, {moved} brought home, {left} left");
    assert_eq!((moved, left), (misplaced, 0));
    assert_there(&zswap, 0..folios, page);
    machine.assert_empty(&zswap);
}
