//! The memory nodes of a store: the kernel's numbers, and the dense index by which everything inside is found.

use zfolio_accel::{NodeId, Topology};

/// No node of the store.
const ABSENT: u16 = u16::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Nodes {
    nids: Box<[NodeId]>,
    memory_bytes: Box<[u64]>,
    /// Index by node number.
    index: Box<[u16]>,
}

impl Nodes {
    /// The nodes with memory; all of them, if none says that it has any.
    pub(crate) fn new(topology: &Topology) -> Nodes {
        let any_memory = topology.nodes().iter().any(|node| node.memory_bytes != 0);
        let nodes: Vec<_> =
            topology.nodes().iter().filter(|node| !any_memory || node.memory_bytes != 0).collect();
        let last = nodes.iter().map(|node| usize::from(node.nid.0)).max().unwrap_or(0);
        let mut index = vec![ABSENT; last + 1].into_boxed_slice();
        for (i, node) in nodes.iter().enumerate() {
            index[usize::from(node.nid.0)] = u16::try_from(i).expect("at most 1024 nodes");
        }
        Nodes {
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

    pub(crate) fn len(&self) -> usize {
        self.nids.len()
    }
}
