//! The allocator by itself: objects of any length, from any order of work, never overlap, and all comes back.

use std::sync::Arc;

use proptest::prelude::*;
use zfolio_accel::ForkGuard;

use super::*;
use crate::Placement;
use crate::limit;
use crate::zsmalloc::{ArenaConfig, Homes, Object, ZsPool};

/// An entry that owns objects, for all that the pool knows.
const OWNER: u32 = 77;

fn pool(nodes: u16, max_pages: u64, warm_pages: u64) -> ZsPool {
    let nids: Vec<NodeId> = (0..nodes).map(NodeId).collect();
    let others = |of: u16| (0..nodes).filter(|&node| node != of).map(usize::from).collect();
    let homes = Homes::new(Placement::Prefer, &(0..nodes).map(others).collect::<Vec<_>>());
    let arena = ArenaConfig {
        nodes: &nids,
        pool_limit: limit::Limit::new(max_pages, 90),
        node_limits: nids.iter().map(|_| limit::Limit::new(u64::MAX, 90)).collect(),
        warm_pages,
        fork: Arc::new(ForkGuard::new().unwrap()),
    };
    ZsPool::new(arena, homes).unwrap()
}

/// What one thread of work does next.
#[derive(Clone, Debug)]
enum Step {
    Store {
        len: usize,
    },
    /// Frees the object at this place among those that the thread has.
    Free {
        place: usize,
    },
    ReleaseWarm,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![
        // Lengths around the borders of classes and pages, and of neighbouring classes.
        2 => prop::sample::select(vec![1, 31, 32, 33, 47, 48, 49, 2047, 2048, 2049, 4079, 4080, 4081, 4095, 4096]),
        3 => 1usize..=4096,
        3 => 300usize..340,
    ];
    prop_oneof![
        6 => len.prop_map(|len| Step::Store { len }),
        4 => any::<usize>().prop_map(|place| Step::Free { place }),
        1 => Just(Step::ReleaseWarm),
    ]
}

/// The bytes of the `tag`-th object.
fn pattern(tag: usize, len: usize) -> Vec<u8> {
    let mut random = Random::new(tag as u64);
    (0..len).map(|_| random.next() as u8).collect()
}

/// An object that knows what it should hold, freed when dropped.
struct Kept<'p> {
    object: Object<'p>,
    bytes: Vec<u8>,
}

impl Kept<'_> {
    fn assert_intact(&self) {
        assert!(self.object.bytes() == self.bytes, "an object of {} bytes was overwritten", self.bytes.len());
    }
}

/// Does the steps of both threads of work, now of one, now of the other, as `turns` says.
fn run(nodes: usize, pool: &ZsPool, steps: [Vec<Step>; 2], turns: &[bool]) {
    let mut threads = steps.map(|steps| (steps.into_iter(), Vec::<Kept<'_>>::new()));
    let (mut tag, mut objects, mut object_bytes) = (0, 0u64, 0u64);
    for turn in turns.iter().cycle().take(turns.len() * 4) {
        let (steps, kept) = &mut threads[usize::from(*turn)];
        match steps.next() {
            Some(Step::Store { len }) => {
                tag += 1;
                let bytes = pattern(tag, len);
                let node = usize::from(*turn) % nodes;
                let Ok(object) = pool.store(&bytes, node, OWNER) else { continue };
                kept.push(Kept { object, bytes });
                (objects, object_bytes) = (objects + 1, object_bytes + len as u64);
            }
            Some(Step::Free { place }) if !kept.is_empty() => {
                let kept = kept.swap_remove(place % kept.len());
                kept.assert_intact();
                (objects, object_bytes) = (objects - 1, object_bytes - kept.bytes.len() as u64);
            }
            Some(Step::ReleaseWarm) => drop(pool.release_warm()),
            _ => {}
        }
    }
    threads.iter().for_each(|(_, kept)| kept.iter().for_each(Kept::assert_intact));
    pool.check().unwrap();
    let usage: Vec<_> = (0..nodes).map(|node| pool.usage(node)).collect();
    assert_eq!(usage.iter().map(|usage| usage.objects).sum::<u64>(), objects);
    assert_eq!(usage.iter().map(|usage| usage.object_bytes).sum::<u64>(), object_bytes);
    assert!(pool.arena().pool_limit().used_pages() <= pool.arena().pool_limit().max_pages());
    drop(threads);
    pool.check().unwrap();
    pool.release_warm();
    assert_eq!((pool.arena().pool_limit().used_pages(), pool.arena().resident_bytes().unwrap()), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn objects_never_overlap_and_all_memory_comes_back(
        first in prop::collection::vec(step(), 1..400),
        second in prop::collection::vec(step(), 1..400),
        turns in prop::collection::vec(any::<bool>(), 200..400),
        nodes in 1u16..3,
        max_pages in prop_oneof![Just(1u64 << 30), 1u64..60],
        warm_pages in prop_oneof![Just(0u64), Just(7), Just(1 << 30)],
    ) {
        run(nodes.into(), &pool(nodes, max_pages, warm_pages), [first, second], &turns);
    }
}

#[test]
fn every_length_is_kept_whole_beside_its_neighbours() {
    let pool = pool(1, 1 << 30, 0);
    let kept: Vec<_> = (1..=PAGE_SIZE)
        .map(|len| {
            let bytes = pattern(len, len);
            Kept { object: pool.store(&bytes, 0, OWNER).unwrap(), bytes }
        })
        .collect();
    kept.iter().for_each(Kept::assert_intact);
    pool.check().unwrap();
}

/// The promise of fine classes: what is allocated is little more than what is stored, though objects of all lengths
/// are equally likely, which is hard on them. Holes that churn leaves are compaction's, which comes later.
#[test]
fn pool_of_many_objects_is_dense_also_after_churn() {
    let pool = pool(1, 1 << 30, 0);
    let mut random = Random::new(1);
    let len = |random: &mut Random| 300 + random.below(3400);
    let bytes = vec![7; PAGE_SIZE];
    let mut objects: Vec<_> =
        (0..40_000).map(|_| pool.store(&bytes[..len(&mut random)], 0, OWNER).unwrap()).collect();
    let ratio = || {
        let usage = pool.usage(0);
        (usage.pool_pages * PAGE_SIZE as u64) as f64 / usage.object_bytes as f64
    };
    let filled = ratio();
    assert!(filled < 1.02, "allocated/compressed {filled:.4} after the fill");
    for _ in 0..20_000 {
        let place = random.below(objects.len());
        objects[place] = pool.store(&bytes[..len(&mut random)], 0, OWNER).unwrap();
    }
    let churned = ratio();
    assert!(churned < 1.08, "allocated/compressed {churned:.4} after churn");
    drop(objects);
    pool.check().unwrap();
}
