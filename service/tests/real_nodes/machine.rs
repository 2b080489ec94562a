//! The machine under test, and what its kernel says of it.

use std::fs;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zfolio::{NodeId, PAGE_SIZE, Page, Stats, Zswap};
use zfolio_accel::{Topology, numa};

use crate::{MIB, at};

/// Free memory that each node must have for "there is room" to be true.
const ROOM: u64 = 96 * MIB;
/// The largest node that a test may fill up: filling it takes all its memory from everybody else.
const FILLABLE: u64 = 1024 * MIB;

/// The machine, for one test at a time: the kernel's account is of the whole process.
pub(crate) struct Machine {
    pub(crate) topology: Topology,
    pub(crate) nids: Vec<NodeId>,
    _alone: MutexGuard<'static, ()>,
}

/// Bytes on each node, in the order of `Machine::nids`.
pub(crate) type ByNode = Vec<u64>;

impl Machine {
    /// The machine, if its kernel has several nodes, gives memory of each and says so.
    pub(crate) fn of_several_nodes() -> Option<Machine> {
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
    pub(crate) fn node_to_fill(&self) -> Option<usize> {
        let cpus = |index: &usize| self.node(*index).cpus.len();
        let index = (0..self.nids.len()).rev().min_by_key(cpus).unwrap();
        let bytes = self.node(index).memory_bytes;
        if bytes > FILLABLE {
            eprintln!("skipped: a full node: node {} has {} MiB", self.nids[index], bytes / MIB);
            return None;
        }
        Some(index)
    }

    pub(crate) fn node(&self, index: usize) -> &zfolio_accel::Node {
        self.topology.nodes().iter().find(|node| node.nid == self.nids[index]).unwrap()
    }

    /// Bytes of a node that nobody uses.
    pub(crate) fn free(&self, nid: NodeId) -> u64 {
        let text = fs::read_to_string(format!("/sys/devices/system/node/node{nid}/meminfo")).unwrap();
        let line = text.lines().find(|line| line.contains("MemFree:")).unwrap();
        line.split_ascii_whitespace().rev().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Takes memory of a node until the kernel has no more for us, and gives so much of it back.
    pub(crate) fn hog(&self, index: usize, leave: u64) -> Vec<Vec<Page>> {
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
    pub(crate) fn kernel_says(&self) -> (ByNode, ByNode) {
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
    pub(crate) fn assert_told_the_truth(&self, zswap: &Zswap) -> Stats {
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
    pub(crate) fn assert_empty(&self, zswap: &Zswap) {
        zswap.invalidate_range(at(0), u32::MAX).unwrap();
        zswap.release_warm();
        let stats = self.assert_told_the_truth(zswap);
        assert_eq!((stats.stored_pages, stats.pool_bytes, stats.misplaced_pages), (0, 0, 0));
    }
}

/// Where memory that the calling thread touches now comes from.
pub(crate) fn node_of_new_memory() -> i32 {
    // Large enough for a mapping of its own.
    let mut memory = Page::zeroed_vec(64);
    memory[32][0] = 1;
    node_of(&memory[32])
}

/// The node of a page that was touched.
pub(crate) fn node_of(page: &Page) -> i32 {
    let mut nodes = [-1];
    numa::nodes_of(NonNull::from(page).cast(), &mut nodes).unwrap();
    nodes[0]
}

/// Runs on a CPU.
pub(crate) fn on_cpu<T: Send>(cpu: usize, f: impl FnOnce() -> T + Send) -> T {
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
