//! Machines that have several memory nodes in truth: what a store says of its nodes is compared with what the kernel
//! says of its pages (`/proc/self/numa_maps`), not with what was asked for.
//!
//! Skipped on a machine of one node, with the reason; `ci/numa.sh` runs it on one of three, in a virtual machine.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zfolio::{
    Config, Folio, Limit, LoadError, MemoryDevice, NodeId, PAGE_SIZE, Page, PageBytes, Stats, StoreError,
    SwapEntry, Zswap,
};
use zfolio_accel::{Topology, numa};

const MIB: u64 = 1 << 20;
/// Pages of the folios that are stored here.
const FOLIO: usize = 16;
/// Free memory that each node must have for "there is room" to be true.
const ROOM: u64 = 96 * MIB;
/// The largest node that a test may fill up: filling it takes all its memory from everybody else.
const FILLABLE: u64 = 1024 * MIB;

/// The machine, for one test at a time: the kernel's account is of the whole process.
struct Machine {
    topology: Topology,
    nids: Vec<NodeId>,
    _alone: MutexGuard<'static, ()>,
}

/// Bytes on each node, in the order of `Machine::nids`.
type ByNode = Vec<u64>;

impl Machine {
    /// The machine, if its kernel has several nodes, gives memory of each and says so.
    fn of_several_nodes() -> Option<Machine> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let topology = Topology::read(Path::new("/sys")).unwrap();
        let nids: Vec<NodeId> =
            topology.nodes().iter().filter(|node| node.memory_bytes != 0).map(|node| node.nid).collect();
        if nids.len() < 2 {
            eprintln!("skipped: real nodes: this machine has one memory node");
            return None;
        }
        // Else the allocator may serve a chunk of entries from memory that it touched long ago, anywhere.
        // SAFETY: sets a tunable of the allocator.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10) };
        let machine = Machine { topology, nids, _alone: alone };
        for &nid in &machine.nids {
            let free = machine.free(nid);
            if free < ROOM {
                eprintln!("skipped: real nodes: node {nid} has {} MiB free only", free / MIB);
                return None;
            }
            let on = numa::with_preferred(nid, node_of_new_memory);
            if on != i32::from(nid.0) {
                eprintln!("skipped: real nodes: memory preferred on node {nid} came from {on}");
                return None;
            }
        }
        Some(machine)
    }

    /// The node to be filled up: one without CPUs, if there is one, for it holds nothing but what is put there.
    fn node_to_fill(&self) -> Option<usize> {
        let cpus = |index: &usize| self.node(*index).cpus.len();
        let index = (0..self.nids.len()).rev().min_by_key(cpus).unwrap();
        let bytes = self.node(index).memory_bytes;
        if bytes > FILLABLE {
            eprintln!("skipped: a full node: node {} has {} MiB", self.nids[index], bytes / MIB);
            return None;
        }
        Some(index)
    }

    fn node(&self, index: usize) -> &zfolio_accel::Node {
        self.topology.nodes().iter().find(|node| node.nid == self.nids[index]).unwrap()
    }

    /// Bytes of a node that nobody uses.
    fn free(&self, nid: NodeId) -> u64 {
        let text = fs::read_to_string(format!("/sys/devices/system/node/node{nid}/meminfo")).unwrap();
        let line = text.lines().find(|line| line.contains("MemFree:")).unwrap();
        line.split_ascii_whitespace().rev().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Takes memory of a node until the kernel has no more for us, and gives so much of it back.
    fn hog(&self, index: usize, leave: u64) -> Vec<Vec<Page>> {
        const CHUNK: usize = 2 << 20;
        let (nid, pages) = (self.nids[index], CHUNK / PAGE_SIZE);
        let mut taken = Vec::new();
        let mut touch = || {
            let mut chunk = Page::zeroed_vec(pages);
            chunk.iter_mut().for_each(|page| page[0] = 1);
            let on = node_of(&chunk[pages - 1]);
            taken.push(chunk);
            on == i32::from(nid.0)
        };
        numa::with_preferred(nid, || while touch() {});
        // The last one came from elsewhere.
        taken.truncate((taken.len() - 1).saturating_sub(leave as usize / CHUNK));
        taken
    }

    /// The kernel's account of this process: memory of the pool, whose mappings prefer a node, and all other.
    fn kernel_says(&self) -> (ByNode, ByNode) {
        let (mut pool, mut other) = (vec![0; self.nids.len()], vec![0; self.nids.len()]);
        for line in fs::read_to_string("/proc/self/numa_maps").unwrap().lines() {
            let mut words = line.split_ascii_whitespace();
            let policy = words.nth(1).unwrap();
            let account = if policy.starts_with("prefer:") { &mut pool } else { &mut other };
            for word in words {
                let node = word.strip_prefix('N').and_then(|word| word.split_once('='));
                let Some((nid, pages)) = node else { continue };
                let nid = NodeId(nid.parse().unwrap());
                let index = self.nids.iter().position(|&known| known == nid).unwrap();
                account[index] += pages.parse::<u64>().unwrap() * PAGE_SIZE as u64;
            }
        }
        (pool, other)
    }

    /// The store agrees with itself and with the kernel, node by node, to the page.
    fn assert_told_the_truth(&self, zswap: &Zswap) -> Stats {
        zswap.check().unwrap();
        let stats = zswap.stats();
        assert_eq!(stats.nodes.iter().map(|node| node.nid).collect::<Vec<_>>(), self.nids);
        assert_eq!(stats.refused_policies, 0, "this kernel prefers the nodes it has");
        let pool: ByNode = stats.nodes.iter().map(|node| node.pool_bytes).collect();
        assert_eq!(pool, self.kernel_says().0, "pool bytes by node: the store's word, then the kernel's");
        assert_eq!(pool.iter().sum::<u64>(), stats.pool_bytes);
        assert_eq!(zswap.resident_arena_bytes().unwrap(), stats.pool_bytes);
        stats
    }

    /// Nothing is left on any node.
    fn assert_empty(&self, zswap: &Zswap) {
        zswap.invalidate_range(at(0), u32::MAX).unwrap();
        zswap.release_warm();
        let stats = self.assert_told_the_truth(zswap);
        assert_eq!((stats.stored_pages, stats.pool_bytes, stats.misplaced_pages), (0, 0, 0));
    }
}

/// Where memory that the calling thread touches now comes from.
fn node_of_new_memory() -> i32 {
    // Large enough for a mapping of its own.
    let mut memory = Page::zeroed_vec(64);
    memory[32][0] = 1;
    node_of(&memory[32])
}

/// The node of a page that was touched.
fn node_of(page: &Page) -> i32 {
    let mut nodes = [-1];
    numa::nodes_of(NonNull::from(page).cast(), &mut nodes).unwrap();
    nodes[0]
}

fn at(offset: usize) -> SwapEntry {
    SwapEntry::new(0, u32::try_from(offset).unwrap())
}

fn store_of(config: Config) -> Zswap {
    let zswap = Zswap::new(config).unwrap();
    zswap.swapon(0, 1 << 20).unwrap();
    zswap
}

/// A pool with room for everything here.
fn roomy() -> Config {
    Config { max_pool: Limit::Bytes(1 << 30), ..Config::default() }
}

/// The page of a number: noise at its head, of a length that compresses to any class; `noise` of 4096 is raw.
fn page_with(number: u64, noise: usize) -> PageBytes {
    let mut page = [number as u8 | 1; PAGE_SIZE];
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for byte in &mut page[..noise] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    page
}

/// Pages of all kinds: zero, same-filled, raw and everything between.
fn any_page(number: u64) -> PageBytes {
    match number % 8 {
        0 => [0; PAGE_SIZE],
        1 => page_with(number, 0),
        2 => page_with(number, PAGE_SIZE),
        _ => page_with(number, 16 + (number as usize).wrapping_mul(2_654_435_761) % 4000),
    }
}

/// Of 8 pages of any kind, so many have bytes in the pool.
const WITH_BYTES_OF_8: u64 = 6;

fn noise(number: u64) -> PageBytes {
    page_with(number, PAGE_SIZE)
}

/// Stores the folio of this number, of pages numbered like their slots, from a node.
fn store_folio(
    zswap: &Zswap,
    nid: NodeId,
    folio: usize,
    page: impl Fn(u64) -> PageBytes,
) -> Result<(), StoreError> {
    let first = folio * FOLIO;
    let pages: Vec<PageBytes> = (first..first + FOLIO).map(|number| page(number as u64)).collect();
    zswap.store(&Folio::new(at(first), nid, &pages).unwrap())
}

/// Every page of these folios, byte for byte; they stay in the store.
fn assert_there(zswap: &Zswap, folios: impl IntoIterator<Item = usize>, page: impl Fn(u64) -> PageBytes) {
    let mut read = [0; PAGE_SIZE];
    for number in folios.into_iter().flat_map(|folio| folio * FOLIO..(folio + 1) * FOLIO) {
        zswap.read(at(number), &mut read).unwrap();
        assert!(read == page(number as u64), "page {number}");
    }
}

/// Runs on a CPU.
fn on_cpu<T: Send>(cpu: usize, f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: an all-zero set is a valid one without CPUs; the calls fill it and read it.
            let pinned = unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(cpu, &mut set);
                libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
            };
            assert_eq!(pinned, 0, "this thread cannot run on CPU {cpu}");
            f()
        });
        thread.join().unwrap()
    })
}

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

/// The two harms of a wrong list: pressure on a node that cannot free what is there, and frees elsewhere instead, and says
/// that it freed here.
#[test]
fn shrinking_a_node_frees_memory_there_and_nowhere_else() {
    let Some(machine) = Machine::of_several_nodes() else { return };
    let zswap = Zswap::new(roomy()).unwrap();
    zswap.swapon_with_device(0, 1 << 20, std::sync::Arc::new(MemoryDevice::new())).unwrap();
    for (index, &nid) in machine.nids.iter().enumerate() {
        (index * 128..index * 128 + 128).for_each(|folio| store_folio(&zswap, nid, folio, any_page).unwrap());
    }
    let mut random = 1u64;
    let mut rounds = 0;
    for round in 0..1000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let index = (random >> 33) as usize % machine.nids.len();
        let bytes = (random >> 40) % 50_000;
        let (before, (pool_before, _)) = (zswap.stats(), machine.kernel_says());
        let shrunk = zswap.shrink(machine.nids[index], bytes).unwrap();
        let (after, (pool_after, _)) = (zswap.stats(), machine.kernel_says());
        for node in 0..machine.nids.len() {
            let (object_bytes, released_bytes) =
                if node == index { (shrunk.object_bytes, shrunk.released_bytes) } else { (0, 0) };
            let freed = before.nodes[node].object_bytes - after.nodes[node].object_bytes;
            assert_eq!(freed, object_bytes, "object bytes of node index {node} in round {round}");
            let released = pool_before[node] - pool_after[node];
            assert_eq!(released, released_bytes, "the kernel, of node index {node} in round {round}");
        }
        // What was written back comes again, in one of the rounds on each node.
        let folio = index * 128 + (random >> 20) as usize % 128;
        store_folio(&zswap, machine.nids[index], folio, any_page).unwrap();
        rounds += usize::from(shrunk.released_bytes > 0);
    }
    println!("{rounds} of 1000 calls released memory, each on the node that was asked for");
    assert!(rounds > 100);
    machine.assert_told_the_truth(&zswap);
    zswap.invalidate_range(at(0), u32::MAX).unwrap();
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
