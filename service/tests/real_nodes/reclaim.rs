//! Memory that is given back is that of the node which was asked for.

use zfolio::MemoryDevice;

use super::*;

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
