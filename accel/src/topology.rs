//! The machine's memory nodes and CPU packages, as sysfs tells them.
//!
//! Accelerators belong to packages and memory to nodes; a machine may have more of one than of the other, so the
//! two are kept apart. The root of sysfs is a parameter, so that machines can be made up in tests.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A memory node, by the kernel's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

impl NodeId {
    /// One more than the largest node number that is supported, the kernel's own limit on x86-64.
    pub const MAX: u16 = 1024;
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One memory node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The kernel's number for it.
    pub nid: NodeId,
    /// CPUs on it; none on a node of memory only.
    pub cpus: Vec<usize>,
    /// Bytes of memory; 0 on a node of CPUs only.
    pub memory_bytes: u64,
    /// Distances to all nodes, in the order of [`Topology::nodes`]; 10 is local.
    pub distances: Vec<u32>,
    /// The kernel's number of its memory tier: the lower, the faster. `None` where the kernel tells of no tiers, or of
    /// none for this node.
    pub tier: Option<u32>,
}

/// The machine's nodes and packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    nodes: Vec<Node>,
    package_of_cpu: Vec<u16>,
    packages: usize,
}

/// A sysfs file that could not be read or understood.
#[derive(Debug)]
pub struct TopologyError {
    path: PathBuf,
    reason: String,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the machine's nodes: {}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for TopologyError {}

impl Topology {
    /// A machine of one node and one package, whatever it has.
    pub fn single_node() -> Topology {
        let node =
            Node { nid: NodeId(0), cpus: Vec::new(), memory_bytes: 0, distances: vec![10], tier: None };
        Topology { nodes: vec![node], package_of_cpu: Vec::new(), packages: 1 }
    }

    /// Reads the machine below `sysfs`, which is `/sys` but in tests. A kernel without NUMA, which has no
    /// `devices/system/node`, is a machine of one node.
    ///
    /// # Errors
    /// When a file that is there cannot be read or understood; it says which.
    pub fn read(sysfs: &Path) -> Result<Topology, TopologyError> {
        let node_dir = sysfs.join("devices/system/node");
        let cpu_dir = sysfs.join("devices/system/cpu");
        let mut topology = Topology::single_node();
        if let Some(online) = read_optional(&node_dir.join("online"))? {
            let online = parse_list(&online, &node_dir.join("online"))?;
            topology.nodes =
                online.iter().map(|&number| read_node(&node_dir, number)).collect::<Result<_, _>>()?;
            topology.read_tiers(&sysfs.join("devices/virtual/memory_tiering"))?;
        }
        let online = cpu_dir.join("online");
        let cpus = match read_optional(&online)? {
            Some(text) => parse_list(&text, &online)?,
            None => Vec::new(),
        };
        topology.read_packages(&cpu_dir, &cpus)?;
        Ok(topology)
    }

    /// Directories `memory_tierN`, each with a list of nodes. Kernels before 6.1 have none, and one that has may still
    /// lose one while we look.
    fn read_tiers(&mut self, dir: &Path) -> Result<(), TopologyError> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(bad(dir, error.to_string())),
        };
        for entry in entries {
            let entry = entry.map_err(|error| bad(dir, error.to_string()))?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("memory_tier"));
            let Some(tier) = number.and_then(|number| number.parse().ok()) else { continue };
            let path = entry.path().join("nodelist");
            let Some(text) = read_optional(&path)? else { continue };
            let nids = parse_list(&text, &path)?;
            for node in &mut self.nodes {
                if nids.contains(&usize::from(node.nid.0)) {
                    node.tier = Some(tier);
                }
            }
        }
        Ok(())
    }

    /// Packages are numbered densely, in the order of their first CPU: the kernel's ids may have gaps or be -1.
    fn read_packages(&mut self, cpu_dir: &Path, cpus: &[usize]) -> Result<(), TopologyError> {
        let mut ids: Vec<i64> = Vec::new();
        self.package_of_cpu = vec![0; cpus.iter().max().map_or(0, |&last| last + 1)];
        for &cpu in cpus {
            let path = cpu_dir.join(format!("cpu{cpu}/topology/physical_package_id"));
            let Some(text) = read_optional(&path)? else { continue };
            let id: i64 =
                text.trim().parse().map_err(|_| bad(&path, format!("{text:?} is no package id")))?;
            let package = ids.iter().position(|&known| known == id).unwrap_or_else(|| {
                ids.push(id);
                ids.len() - 1
            });
            self.package_of_cpu[cpu] =
                u16::try_from(package).map_err(|_| bad(&path, "more than 65536 packages".to_owned()))?;
        }
        self.packages = ids.len().max(1);
        Ok(())
    }

    /// The nodes, in the order of their numbers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// How many CPU packages there are.
    pub fn packages(&self) -> usize {
        self.packages
    }

    /// The package of each CPU, by CPU number; packages are numbered from 0 without gaps.
    pub fn package_of_cpu(&self) -> &[u16] {
        &self.package_of_cpu
    }

    /// The node of a CPU.
    pub fn node_of_cpu(&self, cpu: usize) -> Option<NodeId> {
        self.nodes.iter().find(|node| node.cpus.contains(&cpu)).map(|node| node.nid)
    }
}

fn read_node(node_dir: &Path, number: usize) -> Result<Node, TopologyError> {
    let dir = node_dir.join(format!("node{number}"));
    let nid = u16::try_from(number)
        .ok()
        .filter(|&nid| nid < NodeId::MAX)
        .ok_or_else(|| bad(&dir, format!("node numbers of {} and above are not supported", NodeId::MAX)))?;
    let cpulist = dir.join("cpulist");
    let cpus = match read_optional(&cpulist)? {
        Some(text) => parse_list(&text, &cpulist)?,
        None => Vec::new(),
    };
    let distance = dir.join("distance");
    let distances = read_optional(&distance)?
        .unwrap_or_default()
        .split_ascii_whitespace()
        .map(|word| word.parse().map_err(|_| bad(&distance, format!("{word:?} is no distance"))))
        .collect::<Result<_, _>>()?;
    let meminfo = dir.join("meminfo");
    let memory_bytes = match read_optional(&meminfo)? {
        Some(text) => parse_mem_total(&text, &meminfo)?,
        None => 0,
    };
    Ok(Node { nid: NodeId(nid), cpus, memory_bytes, distances, tier: None })
}

/// Finds "Node 0 MemTotal:  12345 kB".
fn parse_mem_total(text: &str, path: &Path) -> Result<u64, TopologyError> {
    let Some(line) = text.lines().find(|line| line.contains("MemTotal:")) else {
        return Err(bad(path, "has no MemTotal".to_owned()));
    };
    let kib: Option<u64> = line.split_ascii_whitespace().rev().nth(1).and_then(|word| word.parse().ok());
    kib.and_then(|kib| kib.checked_mul(1024)).ok_or_else(|| bad(path, format!("{line:?} is no size in kB")))
}

/// Parses a kernel list such as `0-3,8,10-11`; an empty one is legal.
fn parse_list(text: &str, path: &Path) -> Result<Vec<usize>, TopologyError> {
    /// Above what any kernel lists; keeps a damaged file from asking for all memory.
    const MOST: usize = 1 << 16;
    let wrong = || bad(path, format!("{:?} is no list of numbers", text.trim()));
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= MOST {
            return Err(wrong());
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// The text of a file, or `None` if it does not exist.
fn read_optional(path: &Path) -> Result<Option<String>, TopologyError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(bad(path, error.to_string())),
    }
}

fn bad(path: &Path, reason: String) -> TopologyError {
    TopologyError { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A made-up sysfs.
    fn sysfs(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join("devices/system").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn two_packages_with_a_node_of_memory_only_are_told_apart() {
        let dir = sysfs(&[
            ("node/online", "0-1,4\n"),
            ("node/node0/cpulist", "0,2\n"),
            ("node/node0/distance", "10 21 31\n"),
            ("node/node0/meminfo", "Node 0 MemTotal:       1024 kB\nNode 0 MemFree: 1 kB\n"),
            ("node/node1/cpulist", "1,3\n"),
            ("node/node1/distance", "21 10 31\n"),
            ("node/node1/meminfo", "Node 1 MemTotal:       2048 kB\n"),
            ("node/node4/cpulist", "\n"),
            ("node/node4/distance", "31 31 10\n"),
            ("node/node4/meminfo", "Node 4 MemTotal:       4096 kB\n"),
            ("cpu/online", "0-3\n"),
            ("cpu/cpu0/topology/physical_package_id", "0\n"),
            ("cpu/cpu1/topology/physical_package_id", "36\n"),
            ("cpu/cpu2/topology/physical_package_id", "0\n"),
            ("cpu/cpu3/topology/physical_package_id", "36\n"),
        ]);
        let topology = Topology::read(dir.path()).unwrap();
        let nids: Vec<u16> = topology.nodes().iter().map(|node| node.nid.0).collect();
        assert_eq!(nids, [0, 1, 4]);
        assert_eq!(topology.nodes()[2].memory_bytes, 4096 * 1024);
        assert!(topology.nodes()[2].cpus.is_empty(), "a memory-only node has no CPU to serve it");
        assert_eq!(topology.nodes()[1].distances, [21, 10, 31]);
        assert_eq!(topology.packages(), 2);
        assert_eq!(topology.package_of_cpu(), [0, 1, 0, 1]);
        assert_eq!(topology.node_of_cpu(3), Some(NodeId(1)));
    }

    #[test]
    fn tiers_are_read_where_the_kernel_tells_of_them() {
        let tiers = |files: &[(&str, &str)]| -> Vec<Option<u32>> {
            let mut all = vec![("node/online", "0-3\n"), ("cpu/online", "0\n")];
            all.extend(files);
            let topology = Topology::read(sysfs(&all).path()).unwrap();
            topology.nodes().iter().map(|node| node.tier).collect()
        };
        assert_eq!(tiers(&[]), [None; 4], "an older kernel");
        let tiering = [
            ("../virtual/memory_tiering/memory_tier4/nodelist", "0-1\n"),
            ("../virtual/memory_tiering/memory_tier22/nodelist", "3,9\n"),
            ("../virtual/memory_tiering/memory_tier9/uevent", "\n"),
            ("../virtual/memory_tiering/memory_tiers/nodelist", "2\n"),
            ("../virtual/memory_tiering/power/control", "auto\n"),
        ];
        assert_eq!(tiers(&tiering), [Some(4), Some(4), None, Some(22)]);
    }

    #[test]
    fn kernel_without_numa_is_a_machine_of_one_node() {
        let dir = sysfs(&[("cpu/online", "0-1\n")]);
        let topology = Topology::read(dir.path()).unwrap();
        assert_eq!(topology.nodes().len(), 1);
        assert_eq!(topology.packages(), 1);
    }

    #[test]
    fn damaged_files_are_named_with_what_is_wrong() {
        for (file, text, part) in [
            ("node/online", "0-x\n", "is no list of numbers"),
            ("node/online", "3-1\n", "is no list of numbers"),
            ("node/online", "0-99999999999\n", "is no list of numbers"),
            ("node/online", "0,5000\n", "node numbers of 1024 and above are not supported"),
            ("node/node0/meminfo", "Node 0 MemTotal: lots\n", "is no size in kB"),
            ("node/node0/distance", "10 far\n", "is no distance"),
            ("../virtual/memory_tiering/memory_tier4/nodelist", "0-\n", "is no list of numbers"),
            ("cpu/cpu0/topology/physical_package_id", "first\n", "is no package id"),
        ] {
            let mut files = vec![("node/online", "0\n"), ("cpu/online", "0\n")];
            files.push((file, text));
            let dir = sysfs(&files);
            let error = Topology::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert!(error.contains("/devices/"), "the file is named: {error}");
        }
    }

    #[test]
    fn this_machine_can_be_read() {
        let topology = Topology::read(Path::new("/sys")).unwrap();
        assert!(!topology.nodes().is_empty() && topology.packages() > 0);
    }
}
