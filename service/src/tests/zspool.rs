//! The allocator by itself: objects of any length, from any order of work, never overlap, and all comes back.

use std::sync::Arc;

use proptest::prelude::*;
use zfolio_accel::ForkGuard;

use super::*;
use crate::Placement;
use crate::limit;
use crate::zsmalloc::{ArenaConfig, Homes, Object, Release, ZsPool};

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
    /// Frees the object at this place among those that the thread has, and collects memory that is empty then, or not.
    Free {
        place: usize,
        collect: bool,
    },
    ReleaseWarm,
    /// Collects what is idle. It goes back to the kernel by a later step.
    CollectWarm {
        node: usize,
    },
    Flush,
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
        4 => any::<(usize, bool)>().prop_map(|(place, collect)| Step::Free { place, collect }),
        1 => Just(Step::ReleaseWarm),
        1 => any::<usize>().prop_map(|node| Step::CollectWarm { node }),
        1 => Just(Step::Flush),
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
    let mut threads = steps.map(|steps| (steps.into_iter(), Vec::<Kept<'_>>::new(), Release::new(pool)));
    let (mut tag, mut objects, mut object_bytes) = (0, 0u64, 0u64);
    for turn in turns.iter().cycle().take(turns.len() * 4) {
        let (steps, kept, release) = &mut threads[usize::from(*turn)];
        match steps.next() {
            Some(Step::Store { len }) => {
                tag += 1;
                let bytes = pattern(tag, len);
                let node = usize::from(*turn) % nodes;
                let Ok(object) = pool.store(&bytes, node, OWNER) else { continue };
                kept.push(Kept { object, bytes });
                (objects, object_bytes) = (objects + 1, object_bytes + len as u64);
            }
            Some(Step::Free { place, collect }) if !kept.is_empty() => {
                let kept = kept.swap_remove(place % kept.len());
                kept.assert_intact();
                (objects, object_bytes) = (objects - 1, object_bytes - kept.bytes.len() as u64);
                if collect {
                    kept.object.free_and_release(release);
                }
            }
            Some(Step::ReleaseWarm) => drop(pool.release_warm()),
            Some(Step::CollectWarm { node }) => drop(pool.collect_warm(node % nodes, release)),
            Some(Step::Flush) => release.flush(),
            _ => {}
        }
    }
    threads.iter_mut().for_each(|(_, _, release)| release.flush());
    threads.iter().for_each(|(_, kept, _)| kept.iter().for_each(Kept::assert_intact));
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

/// An object in a zspage with memory of an earlier one behind it, 5 idle pages, which were collected.
fn with_idle_end_collected<'p>(pool: &'p ZsPool, release: &mut Release<'_>) -> Kept<'p> {
    drop((0..8).map(|tag| kept(pool, tag, 3000)).collect::<Vec<_>>());
    let object = kept(pool, 8, 3000);
    assert_eq!(pool.collect_warm(0, release), 5);
    object
}

fn kept(pool: &ZsPool, tag: usize, len: usize) -> Kept<'_> {
    let bytes = pattern(tag, len);
    Kept { object: pool.store(&bytes, 0, OWNER).unwrap(), bytes }
}

/// Were they put into the idle memory, they would go with it.
#[test]
fn objects_that_come_while_idle_memory_is_given_back_stay_whole() {
    let pool = pool(1, 1 << 30, 1 << 20);
    let mut release = Release::new(&pool);
    let mut objects = vec![with_idle_end_collected(&pool, &mut release)];
    objects.extend((10..20).map(|tag| kept(&pool, tag, 3000)));
    assert_eq!(pool.release_warm(), 0, "it is collected once");
    release.flush();
    objects.extend((20..30).map(|tag| kept(&pool, tag, 3000)));
    objects.iter().for_each(Kept::assert_intact);
    pool.check().unwrap();
    drop(objects);
    pool.release_warm();
    assert_eq!((pool.arena().pool_limit().used_pages(), pool.arena().resident_bytes().unwrap()), (0, 0));
}

#[test]
fn zspage_whose_last_object_goes_while_its_end_is_given_back_is_free_then() {
    let pool = pool(1, 1 << 30, 1 << 20);
    let mut release = Release::new(&pool);
    drop(with_idle_end_collected(&pool, &mut release));
    assert_eq!((pool.usage(0).zspages, pool.usage(0).pool_pages), (1, 6));
    drop(release);
    let usage = pool.usage(0);
    assert_eq!((usage.zspages, usage.pool_pages, usage.warm_pages), (0, 1, 1));
    pool.check().unwrap();
}

/// More than go in one call to the kernel.
#[test]
fn any_number_of_zspages_is_given_back_at_once() {
    let pool = pool(1, 1 << 30, 1 << 30);
    let objects: Vec<_> = (0..24 * 300).map(|_| pool.store(&[7; PAGE_SIZE], 0, OWNER).unwrap()).collect();
    drop(objects);
    assert_eq!(pool.usage(0).warm_pages, 24 * 300);
    let mut release = Release::new(&pool);
    assert_eq!(pool.collect_warm(0, &mut release), 24 * 300);
    release.flush();
    pool.check().unwrap();
    assert_eq!((pool.usage(0).pool_pages, pool.arena().resident_bytes().unwrap()), (0, 0));
}
