//! The memory nodes of a store: the kernel's numbers, the dense index by which everything inside is found, and in
//! which order the others may help out one that is full.
//!
//! A tier is a kind of memory; the lower its number, the faster. What came from slow memory never goes to faster memory by
//! being compressed: it was moved there because it is cold, and would take the room of what is not.

use zfolio_accel::{NodeId, Topology};

/// No node of the store.
const ABSENT: u16 = u16::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Nodes {
    nids: Box<[NodeId]>,
    memory_bytes: Box<[u64]>,
    tiers: Box<[u32]>,
    /// By index: the others that are no faster, nearest first, those of the same tier before slower ones.
    substitutes: Vec<Box<[usize]>>,
    /// Index by node number.
    index: Box<[u16]>,
}

impl Nodes {
    /// The nodes with memory; all of them, if none says that it has any. `tiers` is believed before the kernel; a node that
    /// neither names is as fast as the fastest.
    pub(crate) fn new(topology: &Topology, tiers: &[(NodeId, u32)]) -> Nodes {
        let any_memory = topology.nodes().iter().any(|node| node.memory_bytes != 0);
        let nodes: Vec<_> =
            topology.nodes().iter().filter(|node| !any_memory || node.memory_bytes != 0).collect();
        let last = nodes.iter().map(|node| usize::from(node.nid.0)).max().unwrap_or(0);
        let mut index = vec![ABSENT; last + 1].into_boxed_slice();
        for (i, node) in nodes.iter().enumerate() {
            index[usize::from(node.nid.0)] = u16::try_from(i).expect("at most 1024 nodes");
        }
        let given = |nid| tiers.iter().find(|&&(named, _)| named == nid).map(|&(_, tier)| tier);
        let tiers: Vec<_> = nodes.iter().map(|node| given(node.nid).or(node.tier)).collect();
        let fastest = tiers.iter().flatten().min().copied().unwrap_or(0);
        let tiers: Box<[u32]> = tiers.into_iter().map(|tier| tier.unwrap_or(fastest)).collect();
        let place_of = |nid| topology.nodes().iter().position(|node| node.nid == nid).expect("one of them");
        let places: Vec<usize> = nodes.iter().map(|node| place_of(node.nid)).collect();
        let substitutes_of = |of: usize| {
            let distance = |other: usize| nodes[of].distances.get(places[other]).copied().unwrap_or(u32::MAX);
            let no_faster = |&other: &usize| other != of && tiers[other] >= tiers[of];
            let mut others: Vec<usize> = (0..nodes.len()).filter(no_faster).collect();
            others.sort_by_key(|&other| (tiers[other], distance(other), other));
            others.into_boxed_slice()
        };
        Nodes {
            substitutes: (0..nodes.len()).map(substitutes_of).collect(),
            tiers,
            nids: nodes.iter().map(|node| node.nid).collect(),
            memory_bytes: nodes.iter().map(|node| node.memory_bytes).collect(),
            index,
        }
    }

    /// The index of a node of this store.
    #[inline]
    pub(crate) fn index_of(&self, nid: NodeId) -> Option<usize> {
        match self.index.get(usize::from(nid.0)) {
            None | Some(&ABSENT) => None,
            Some(&index) => Some(index.into()),
        }
    }

    pub(crate) fn nid(&self, index: usize) -> NodeId {
        self.nids[index]
    }

    pub(crate) fn nids(&self) -> &[NodeId] {
        &self.nids
    }

    /// Bytes of memory of each node, by index; 0 where it is not known.
    pub(crate) fn memory_bytes(&self) -> &[u64] {
        &self.memory_bytes
    }

    /// The tier of a node; the lower, the faster.
    pub(crate) fn tier(&self, index: usize) -> u32 {
        self.tiers[index]
    }

    /// By index: the other nodes that are no faster, the best first.
    pub(crate) fn substitutes(&self) -> &[Box<[usize]>] {
        &self.substitutes
    }

    pub(crate) fn len(&self) -> usize {
        self.nids.len()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Four nodes with memory and one (2) without, and the tiers that the kernel tells of them.
    fn sysfs(tiers: &[(u32, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join("devices").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("system/node/online", "0-4\n");
        let distances =
            ["10 21 10 17 28", "21 10 21 28 17", "10 21 10 17 28", "17 28 17 10 28", "28 17 28 28 10"];
        for (nid, distances) in distances.iter().enumerate() {
            write(&format!("system/node/node{nid}/distance"), distances);
            let kib = if nid == 2 { 0 } else { 1 << 20 };
            write(&format!("system/node/node{nid}/meminfo"), &format!("Node {nid} MemTotal: {kib} kB\n"));
        }
        for (tier, nodes) in tiers {
            write(&format!("virtual/memory_tiering/memory_tier{tier}/nodelist"), nodes);
        }
        dir
    }

    fn substitutes(sysfs: &Path, tiers: &[(NodeId, u32)]) -> Vec<Vec<u16>> {
        let nodes = Nodes::new(&Topology::read(sysfs).unwrap(), tiers);
        let nids = |of: &[usize]| of.iter().map(|&index| nodes.nid(index).0).collect();
        nodes.substitutes().iter().map(|of| nids(of)).collect()
    }

    #[test]
    fn without_tiers_every_node_serves_for_every_other_the_nearest_first() {
        let dir = sysfs(&[]);
        assert_eq!(substitutes(dir.path(), &[]), [[3, 1, 4], [4, 0, 3], [0, 1, 4], [1, 0, 3]]);
    }

    #[test]
    fn faster_node_never_serves_for_a_slower_one() {
        let dir = sysfs(&[(4, "0-1\n"), (22, "3-4\n")]);
        assert_eq!(substitutes(dir.path(), &[]), [vec![1, 3, 4], vec![0, 4, 3], vec![4], vec![3]]);
    }

    #[test]
    fn tiers_of_the_configuration_are_believed_before_the_kernel_s() {
        let dir = sysfs(&[(4, "0-1\n"), (22, "3-4\n")]);
        let given = [(NodeId(4), 30), (NodeId(1), 22)];
        assert_eq!(substitutes(dir.path(), &given), [vec![3, 1, 4], vec![3, 4], vec![1, 4], vec![]]);
    }

    /// As the kernel's own default: memory of which it knows nothing is ordinary memory.
    #[test]
    fn node_without_a_tier_is_as_fast_as_the_fastest() {
        let dir = sysfs(&[(4, "0\n"), (22, "3-4\n")]);
        assert_eq!(substitutes(dir.path(), &[])[1], [0, 4, 3]);
        assert_eq!(substitutes(dir.path(), &[])[2], [4]);
    }
}
