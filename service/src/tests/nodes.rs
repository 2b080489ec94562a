//! Machines of several nodes, made up on a kernel that has fewer: the kernel says where memory is, and that counts.
//!
//! Node 0 is where the memory is, on the machines that run these tests as a rule; where it is not, the store's word
//! is still compared with the kernel's by `check`, and the tests that need to know skip, with the reason.

use zfolio_accel::numa;

use super::*;
use crate::StoreError;

/// Pages that take memory.
pub(super) fn pages(count: usize) -> Vec<PageBytes> {
    let mut random = Random::new(5);
    let page = |tag| {
        let mut page = [tag as u8 | 1; PAGE_SIZE];
        page[..600].as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = random.next().to_ne_bytes());
        page
    };
    (0..count).map(page).collect()
}

pub(super) fn folio_from(nid: u16, offset: usize, pages: &[PageBytes]) -> Folio<'_> {
    Folio::new(at(offset), NodeId(nid), pages).unwrap()
}

pub(super) fn assert_pages_come_back(zswap: &Zswap, pages: &[PageBytes]) {
    for (k, page) in pages.iter().enumerate() {
        let mut read = [0; PAGE_SIZE];
        zswap.load(at(k), &mut read).unwrap();
        assert!(read == *page, "page {k}");
    }
}

/// True where all memory of this kernel is on node 0 and it says so.
pub(super) fn memory_is_on_node_0() -> bool {
    let mut page = Box::new(zfolio_accel::Page::zeroed());
    page[0] = 1;
    let mut nodes = [-1];
    let answer = numa::nodes_of(std::ptr::NonNull::from(&mut **page).cast(), &mut nodes);
    let one = Topology::read(std::path::Path::new("/sys")).is_ok_and(|topology| topology.nodes().len() == 1);
    let is = one && answer.is_ok() && nodes == [0];
    if !is {
        eprintln!("skipped: the kernel must have one node and tell it ({answer:?}, {nodes:?})");
    }
    is
}

#[test]
fn pages_are_counted_and_listed_where_the_kernel_put_them() {
    if !memory_is_on_node_0() {
        return;
    }
    let pages = pages(256);
    for nids in [&[0, 1][..], &[0, 1, 2], &[0, 3, 900]] {
        let (topology, home) = (machine(nids), nids[1]);
        let zswap = store_on(&topology, Config { warm_bytes: 1 << 30, ..Config::default() });
        for (k, chunk) in pages.chunks(16).enumerate() {
            zswap.store(&folio_from(if k % 2 == 0 { 0 } else { home }, k * 16, chunk)).unwrap();
        }
        zswap.check().unwrap();
        let stats = zswap.stats();
        assert_eq!(stats.nodes.iter().map(|node| node.nid.0).collect::<Vec<_>>(), nids);
        assert_eq!((stats.nodes[0].stored_pages, stats.misplaced_pages), (256, 128), "{nids:?}");
        assert_eq!(stats.nodes[0].object_bytes, stats.object_bytes);
        assert_eq!(stats.nodes[0].pool_bytes, stats.pool_bytes);
        let none = crate::NodeStats { nid: NodeId(home), ..Default::default() };
        assert_eq!(stats.nodes[1], none, "there is no such node, so nothing can be on it");
        assert_eq!(zswap.lru.list(crate::TenantId(0), 0).counts().0, 256);
        assert_eq!(zswap.lru.list(crate::TenantId(0), 1).counts().0, 0);
        assert!(stats.refused_policies > 0, "the kernel refused to prefer node {home}");
        assert_pages_come_back(&zswap, &pages);
        assert_eq!(zswap.stats().misplaced_pages, 0);
        assert_nothing_is_left(&zswap);
    }
}

/// Every page of a node whose memory the kernel takes from elsewhere got a zspage of its own, for the zspages that
/// such pages had made before are on the list of the node where they are, and nobody looked there: 600 bytes took
/// 4096. A full node, from which the kernel silently falls back, does just that.
#[test]
fn pages_of_a_full_node_share_zspages_elsewhere() {
    let pages = pages(1024);
    let topology = machine(&[0, 1]);
    let pool_bytes = |nid| {
        let zswap = store_on(&topology, Config::default());
        for (k, chunk) in pages.chunks(16).enumerate() {
            zswap.store(&folio_from(nid, k * 16, chunk)).unwrap();
        }
        zswap.check().unwrap();
        let pool_bytes = zswap.stats().pool_bytes;
        assert_pages_come_back(&zswap, &pages);
        assert_nothing_is_left(&zswap);
        pool_bytes
    };
    let (near, elsewhere) = (pool_bytes(0), pool_bytes(1));
    assert!(elsewhere <= near + near / 4, "{near} bytes on the node itself, {elsewhere} bytes elsewhere");
}

/// Memory that the kernel took from a node which the store did not know, for it came later (memory is added to
/// running machines) or the caller's topology left it out, was given back, and the store failed: `OutOfMemory`, on a
/// machine with more memory than before. Here the kernel has node 0, and the store does not.
#[test]
fn memory_of_a_node_that_the_store_does_not_know_is_as_good_as_any() {
    let pages = pages(256);
    let zswap = store_on(&machine(&[700, 900]), Config { warm_bytes: 1 << 30, ..Config::default() });
    for _ in 0..2 {
        for (k, chunk) in pages.chunks(16).enumerate() {
            zswap.store(&folio_from(if k % 2 == 0 { 700 } else { 900 }, k * 16, chunk)).unwrap();
        }
        zswap.check().unwrap();
        let stats = zswap.stats();
        assert_eq!(
            (stats.stored_pages, stats.misplaced_pages),
            (256, 0),
            "it is counted where it was asked for"
        );
        assert_eq!((stats.nodes[0].stored_pages, stats.nodes[1].stored_pages), (128, 128));
        assert_pages_come_back(&zswap, &pages);
    }
    assert_nothing_is_left(&zswap);
}

#[test]
fn limit_of_a_node_is_of_the_memory_that_is_on_it() {
    if !memory_is_on_node_0() {
        return;
    }
    let noise: Vec<PageBytes> = {
        let mut random = Random::new(6);
        (0..64).map(|_| std::array::from_fn(|_| random.next() as u8)).collect()
    };
    let limit = |nid, pages: u64| Config {
        node_limits: vec![(NodeId(nid), Limit::Bytes(pages * 4096))],
        ..Config::default()
    };
    let stored = |zswap: &Zswap, nid| {
        (0..64).find_map(|k| zswap.store(&folio_from(nid, k, &noise[k..][..1])).err().map(|error| (k, error)))
    };

    let zswap = store_on(&machine(&[0, 1]), limit(0, 20));
    let full = StoreError::NodeFull { nid: NodeId(0), max_bytes: 20 * 4096, accept_bytes: 18 * 4096 };
    assert_eq!(stored(&zswap, 1), Some((20, full)), "the page is of node 1, but the memory is of node 0");
    assert_eq!(zswap.stats().nodes[0].limit_hit, 1);
    zswap.check().unwrap();
    assert_eq!(stored(&zswap, 0), Some((0, full)), "and it is full for its own pages too");
    assert_nothing_is_left(&zswap);

    let zswap = store_on(&machine(&[0, 1]), limit(1, 20));
    assert_eq!(stored(&zswap, 1), None, "nothing of it is on node 1");
    zswap.check().unwrap();
    assert_nothing_is_left(&zswap);
}

#[test]
fn limit_of_a_node_that_is_not_there_is_refused_by_name() {
    let config = Config { node_limits: vec![(NodeId(5), Limit::Bytes(1 << 20))], ..Config::default() };
    let channels = Channels::new(ChannelsConfig::default(), &machine(&[0, 1])).unwrap();
    let error = Zswap::with_channels(config, &machine(&[0, 1]), channels).unwrap_err();
    assert_eq!(error.to_string(), "limit for node 5, which has no memory");
}

#[test]
fn page_of_a_node_that_is_not_there_is_refused_and_changes_nothing() {
    let zswap = store_on(&machine(&[0, 3, 900]), Config::default());
    let pages = pages(1);
    zswap.store(&folio(0, &pages)).unwrap();
    for nid in [1, 2, 899, 901, u16::MAX] {
        assert_eq!(
            zswap.store(&folio_from(nid, 0, &pages)),
            Err(StoreError::NoSuchNode { nid: NodeId(nid) })
        );
    }
    assert_pages_come_back(&zswap, &pages);
}

#[test]
fn kernel_without_numa_is_a_store_of_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { sysfs: dir.path().to_owned(), ..Config::default() };
    let zswap = store_with(config);
    let pages = pages(64);
    zswap.store(&folio(0, &pages)).unwrap();
    let stats = zswap.stats();
    assert_eq!((stats.nodes.len(), stats.misplaced_pages, stats.refused_policies), (1, 0, 0));
    assert_pages_come_back(&zswap, &pages);
    assert_nothing_is_left(&zswap);
}

#[test]
fn warm_memory_is_used_again_on_every_machine() {
    let pages = pages(256);
    for nids in [&[0][..], &[0, 1]] {
        let zswap = store_on(&machine(nids), Config { warm_bytes: 1 << 30, ..Config::default() });
        let fill = || {
            pages.chunks(16).enumerate().for_each(|(k, chunk)| zswap.store(&folio(k * 16, chunk)).unwrap())
        };
        fill();
        let pool_bytes = zswap.stats().pool_bytes;
        for _ in 0..10 {
            zswap.invalidate_range(at(0), 256).unwrap();
            fill();
            zswap.check().unwrap();
        }
        assert_eq!(zswap.stats().pool_bytes, pool_bytes, "the same pages need the same memory");
        assert_nothing_is_left(&zswap);
    }
}
