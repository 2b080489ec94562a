//! With room on every node: pages, entries and warm memory lie where they belong.

use super::*;

/// Otherwise a user on node 0 pays a remote access for every page of node 0, and the operator who watches the
/// figures of a node watches those of another. Whoever runs the store, and wherever.
#[test]
fn pages_lie_on_the_node_they_came_from_whichever_cpu_stores_them() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let (count, folios) = (machine.nids.len(), 128);
    let cpus: Vec<usize> =
        machine.topology.nodes().iter().filter_map(|node| node.cpus.first().copied()).collect();
    for cpu in cpus {
        let zswap = store_of(roomy());
        // The second round stores every page from the next node: it moves.
        for round in 0..2 {
            let index_of = |folio: usize| (folio + round) % count;
            on_cpu(cpu, || {
                for folio in 0..folios * count {
                    store_folio(&zswap, machine.nids[index_of(folio)], folio, any_page).unwrap();
                }
            });
            let stats = machine.assert_told_the_truth(&zswap);
            assert_eq!(stats.misplaced_pages, 0, "there is room on every node");
            for node in &stats.nodes {
                assert_eq!(
                    node.stored_pages,
                    (folios * FOLIO) as u64 * WITH_BYTES_OF_8 / 8,
                    "node {}",
                    node.nid
                );
                assert!(node.pool_bytes >= node.object_bytes && node.object_bytes > 0, "{node:?}");
            }
            assert_there(&zswap, 0..folios * count, any_page);
        }
        // What leaves, leaves its own node.
        let before = zswap.stats();
        for folio in (0..folios * count).filter(|folio| (folio + 1) % count == count - 1) {
            let mut page = [0; PAGE_SIZE];
            for number in folio * FOLIO..(folio + 1) * FOLIO {
                zswap.load(at(number), &mut page).unwrap();
                assert!(page == any_page(number as u64), "page {number}");
            }
        }
        let stats = machine.assert_told_the_truth(&zswap);
        assert_eq!(stats.nodes[count - 1].stored_pages, 0);
        for (index, node) in stats.nodes[..count - 1].iter().enumerate() {
            assert_eq!(node.object_bytes, before.nodes[index].object_bytes);
            assert_eq!(node.stored_pages, before.nodes[index].stored_pages);
        }
        machine.assert_empty(&zswap);
    }
}

/// The stock of one node must not be handed to another: the pages would be remote for as long as they are stored.
#[test]
fn warm_memory_serves_its_own_node_only() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let zswap = store_of(Config { warm_bytes: 1 << 30, ..roomy() });
    let fill = |nid| (0..256).for_each(|folio| store_folio(&zswap, nid, folio, noise).unwrap());
    let mut pool_bytes = vec![0; machine.nids.len()];
    for round in 0..2 {
        for (index, &nid) in machine.nids.iter().enumerate() {
            fill(nid);
            let stats = machine.assert_told_the_truth(&zswap);
            assert_eq!((stats.nodes[index].stored_pages, stats.misplaced_pages), (256 * FOLIO as u64, 0));
            assert_there(&zswap, 0..256, noise);
            if round == 1 {
                assert_eq!(stats.nodes[index].pool_bytes, pool_bytes[index], "its warm memory is used again");
            }
            zswap.invalidate_range(at(0), 256 * FOLIO as u32).unwrap();
            let stats = machine.assert_told_the_truth(&zswap);
            pool_bytes[index] = stats.nodes[index].pool_bytes;
            assert_eq!(stats.nodes[index].warm_bytes, pool_bytes[index], "all of it is warm now");
            assert!(pool_bytes[index] >= 256 * FOLIO as u64 * PAGE_SIZE as u64);
        }
    }
    machine.assert_empty(&zswap);
}

/// Threads of all CPUs, each with pages of all nodes.
#[test]
fn threads_at_once_put_every_page_on_its_node() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let zswap = store_of(roomy());
    let (count, threads, folios) = (machine.nids.len(), 4, 192);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (zswap, nids) = (&zswap, &machine.nids);
            scope.spawn(move || {
                for round in 0..3 {
                    for folio in thread * folios..(thread + 1) * folios {
                        store_folio(zswap, nids[(folio + round) % count], folio, any_page).unwrap();
                    }
                    assert_there(zswap, thread * folios..(thread + 1) * folios, any_page);
                }
            });
        }
    });
    let stats = machine.assert_told_the_truth(&zswap);
    assert_eq!(stats.misplaced_pages, 0);
    let with_bytes = (threads * folios * FOLIO) as u64 * WITH_BYTES_OF_8 / 8;
    assert_eq!(stats.nodes.iter().map(|node| node.stored_pages).sum::<u64>(), with_bytes);
    machine.assert_empty(&zswap);
}

/// The caller's memory policy is the caller's: a store on its thread neither follows it nor changes it.
#[test]
fn policy_of_the_calling_thread_is_neither_followed_nor_changed() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let count = machine.nids.len();
    for (own, &nid) in machine.nids.iter().enumerate() {
        let zswap = store_of(roomy());
        // Regions, headers, entries and back-references of every node are made under this policy.
        numa::with_preferred(nid, || {
            for folio in 0..32 * count {
                store_folio(&zswap, machine.nids[folio % count], folio, any_page).unwrap();
            }
            assert_eq!(
                node_of_new_memory(),
                i32::from(nid.0),
                "the thread's memory comes from where it said"
            );
        });
        let stats = machine.assert_told_the_truth(&zswap);
        assert_eq!(stats.misplaced_pages, 0, "a thread that prefers node index {own}");
        assert_there(&zswap, 0..32 * count, any_page);
        machine.assert_empty(&zswap);
    }
}

/// Entries are looked up on every operation: they belong near the pages, whoever stores first. Pages that one word
/// fills are nothing but an entry.
#[test]
fn entries_lie_near_the_pages_they_are_of() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    for (index, &nid) in machine.nids.iter().enumerate() {
        let zswap = store_of(roomy());
        let before = machine.kernel_says().1;
        let folios = 4 * 4096 / FOLIO;
        (0..folios).for_each(|folio| store_folio(&zswap, nid, folio, |n| page_with(n, 0)).unwrap());
        let after = machine.kernel_says().1;
        let entries = (folios * FOLIO * 32) as u64;
        let more = after[index].saturating_sub(before[index]);
        assert!(more >= entries, "{entries} bytes of entries of node {nid}, {more} more there than before");
        assert_there(&zswap, 0..folios, |n| page_with(n, 0));
        machine.assert_empty(&zswap);
    }
}

/// A full node under this limit must not cost the others a page, nor may it have a page more than it was given.
#[test]
fn limit_of_a_node_refuses_the_pages_of_that_node_only() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let count = machine.nids.len();
    for (limited, &nid) in machine.nids.iter().enumerate() {
        let config = Config { node_limits: vec![(nid, Limit::Bytes(4 * MIB))], ..roomy() };
        let zswap = store_of(config);
        let full =
            StoreError::NodeFull { nid, max_bytes: 4 * MIB, accept_bytes: 4 * MIB / 4096 * 90 / 100 * 4096 };
        let (mut stored, mut refused) = (Vec::new(), Vec::new());
        for folio in 0..128 * count {
            match store_folio(&zswap, machine.nids[folio % count], folio, noise) {
                Ok(()) => stored.push(folio),
                Err(error) => {
                    assert_eq!((folio % count, error), (limited, full), "folio {folio}");
                    refused.push(folio);
                }
            }
        }
        let stats = machine.assert_told_the_truth(&zswap);
        assert_eq!(stats.misplaced_pages, 0);
        assert_eq!(refused.len(), 64, "128 folios of 64 KiB, and room for 4 MiB");
        for (index, node) in stats.nodes.iter().enumerate() {
            let expected = if index == limited { (4 * MIB, 1) } else { (8 * MIB, 0) };
            assert_eq!((node.object_bytes, node.limit_hit), expected, "node {}", node.nid);
        }
        assert_eq!(stats.nodes[limited].pool_bytes, 4 * MIB, "to the page");
        assert_there(&zswap, stored.iter().copied(), noise);
        let mut page = [0; PAGE_SIZE];
        for number in refused.iter().flat_map(|folio| folio * FOLIO..(folio + 1) * FOLIO) {
            assert_eq!(
                zswap.load(at(number), &mut page),
                Err(LoadError::NotFound),
                "page {number} was refused"
            );
        }
        // Pages that leave other nodes make no room; those of its own do.
        let of = |index: usize| stored.iter().copied().filter(move |folio| folio % count == index);
        let leave = |folio: usize| zswap.invalidate_range(at(folio * FOLIO), FOLIO as u32).unwrap();
        of((limited + 1) % count).for_each(|folio| assert_eq!(leave(folio), FOLIO as u64));
        assert_eq!(store_folio(&zswap, nid, refused[0], noise), Err(full));
        of(limited).take(16).for_each(|folio| assert_eq!(leave(folio), FOLIO as u64));
        store_folio(&zswap, nid, refused[0], noise).unwrap();
        assert_there(&zswap, refused[..1].iter().copied(), noise);
        machine.assert_empty(&zswap);
    }
}
