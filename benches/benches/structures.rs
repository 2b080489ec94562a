//! Micro benches of what is around the codec: the pool, an LRU list and the tree of slots, by one thread.
//!
//! One iteration is one object, entry or slot (a run of 16 where that is said). A bench goes through its things turn
//! by turn; what makes them ready for the next turn is not timed. All is checked between turns and at the end.

use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use zfolio::micro::{List, Pool, Tree};
use zfolio_fallback::{Codec, Codecs, max_compressed_len};

const PAGE: usize = 4096;
/// More than caches hold: about 100 MB.
const OBJECTS: usize = 1 << 16;
/// 2 MiB of entries, and 32.
const ENTRIES: [usize; 2] = [1 << 16, 1 << 20];
/// Entries of a run: a folio of 64 KiB.
const RUN: usize = 16;
const SLOTS: usize = 1 << 20;

/// Benches `work` on things 0 to `len`, one an iteration, turn after turn, with `reset` after each.
fn turns<S>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    len: usize,
    state: &mut S,
    mut work: impl FnMut(&mut S, Range<usize>),
    mut reset: impl FnMut(&mut S),
) {
    // Kept over samples, so that a short one does not see the beginning of a turn only.
    let mut at = 0_usize;
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut left = usize::try_from(iterations).expect("64 bits");
            let mut time = Duration::ZERO;
            while left > 0 {
                let end = len.min(at.saturating_add(left));
                let start = Instant::now();
                work(state, at..end);
                time += start.elapsed();
                left -= end - at;
                at = end;
                if at == len {
                    reset(state);
                    at = 0;
                }
            }
            time
        });
    });
    work(state, at..len);
    reset(state);
}

fn shuffle<T>(things: &mut [T]) {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    for i in (1..things.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        things.swap(i, (random % (i as u64 + 1)) as usize);
    }
}

/// Lengths of LZ4 streams of pages of this program's own file, raw above 4080 bytes, in random order.
fn lengths() -> Vec<usize> {
    let program = std::env::current_exe().and_then(std::fs::read).expect("a program can read its own file");
    let mut codecs = Codecs::new();
    let mut stream = vec![0; max_compressed_len(PAGE)];
    let pages = program.as_chunks().0.iter().filter(|page: &&[u8; PAGE]| page[8..] != page[..PAGE - 8]);
    let of_pages: Vec<usize> = pages
        .map(|page| codecs.compress(Codec::Lz4, page, &mut stream).expect("the bound always fits"))
        .map(|len| if len > 4080 { PAGE } else { len })
        .collect();
    let mut lengths: Vec<usize> = of_pages.into_iter().cycle().take(OBJECTS).collect();
    shuffle(&mut lengths);
    lengths
}

fn pool(criterion: &mut Criterion) {
    let lengths = lengths();
    let total: usize = lengths.iter().sum();
    let page = [7; PAGE];
    let mut group = criterion.benchmark_group("pool");

    // What storing costs with no pool at all, one object behind the other and anywhere.
    let mut memory = vec![1; total];
    let ends = lengths.iter().scan(0, |end, &len| {
        *end += len;
        Some(*end)
    });
    let mut places: Vec<Range<usize>> = ends.zip(&lengths).map(|(end, &len)| end - len..end).collect();
    for name in ["bare copy in order", "bare copy at random"] {
        turns(
            &mut group,
            name,
            OBJECTS,
            &mut memory,
            |memory, range| {
                for place in &places[range] {
                    memory[place.clone()].copy_from_slice(black_box(&page[..place.len()]));
                }
            },
            |memory| assert!(memory.iter().all(|&byte| byte == 7), "all was copied"),
        );
        shuffle(&mut places);
    }
    drop(memory);

    let warm_pool = || Pool::new(1 << 40);
    let full = (OBJECTS as u64, total as u64);
    let in_order: Vec<usize> = (0..OBJECTS).collect();
    let mut at_random = in_order.clone();
    shuffle(&mut at_random);

    for (name, order) in [("in order", &in_order), ("at random", &at_random)] {
        // The objects in the order in which they are freed.
        let pool = warm_pool();
        let store = |range: Range<usize>| lengths[range].iter().map(|&len| Some(pool.store(&page[..len])));
        let stored = |objects: &mut Vec<_>| {
            objects.clear();
            objects.extend(store(0..OBJECTS));
            if name == "at random" {
                shuffle(objects);
            }
            assert_eq!(pool.counts(), full);
        };
        let mut objects = Vec::with_capacity(OBJECTS);
        // The first turn asks the kernel for memory.
        stored(&mut objects);
        stored(&mut objects);
        turns(
            &mut group,
            &format!("free {name}"),
            OBJECTS,
            &mut objects,
            |objects, range| objects[range].iter_mut().for_each(|object| *object = None),
            |objects| {
                assert_eq!(pool.counts(), (0, 0));
                stored(objects);
            },
        );
        pool.check();
        objects.clear();
        turns(
            &mut group,
            &format!("store after all were freed {name}"),
            OBJECTS,
            &mut objects,
            |objects, range| objects.extend(store(range)),
            |objects| {
                assert_eq!(pool.counts(), full);
                if name == "at random" {
                    shuffle(objects);
                }
                objects.clear();
                assert_eq!(pool.counts(), (0, 0));
            },
        );
        pool.check();

        // Each place gets an object of the length that another one had: holes in all classes, and growth beside.
        objects.extend(store(0..OBJECTS));
        let other_lengths = |lengths: &mut [usize]| lengths.rotate_left(7919);
        let mut state = (objects, lengths.clone());
        other_lengths(&mut state.1);
        turns(
            &mut group,
            &format!("free and store {name}"),
            OBJECTS,
            &mut state,
            |(objects, lengths), range| {
                for (&place, &len) in order[range.clone()].iter().zip(&lengths[range]) {
                    objects[place] = None;
                    objects[place] = Some(pool.store(&page[..len]));
                }
            },
            |(_, lengths)| {
                assert_eq!(pool.counts(), full);
                other_lengths(lengths);
            },
        );
        pool.check();
        drop(state);
        assert_eq!(pool.counts(), (0, 0));
        pool.check();
    }
    group.finish();
}

fn lru(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lru");
    for entries in ENTRIES {
        let list = List::new();
        let add_all = |ids: &mut [u32]| ids.chunks_mut(RUN).for_each(|run| list.add(run));
        let remove_all = |ids: &[u32]| ids.iter().for_each(|&id| list.remove(id));
        let mut ids = vec![0; entries];
        // As after a long time: neighbours on the list are not neighbours in memory.
        add_all(&mut ids);
        shuffle(&mut ids);
        remove_all(&ids);

        turns(
            &mut group,
            &format!("add a run of {RUN} until there are {entries}"),
            entries / RUN,
            &mut ids,
            |ids, range| add_all(&mut ids[range.start * RUN..range.end * RUN]),
            |ids| {
                assert_eq!(list.ids().len(), entries);
                shuffle(ids);
                remove_all(ids);
            },
        );

        let fill = |ids: &mut Vec<u32>| {
            assert!(list.ids().is_empty(), "all were removed");
            add_all(ids);
            shuffle(ids);
        };
        fill(&mut ids);
        turns(
            &mut group,
            &format!("remove at random of {entries}"),
            entries,
            &mut ids,
            |ids, range| remove_all(&ids[range]),
            fill,
        );

        let mark = |ids: &mut Vec<u32>, range: Range<usize>| {
            ids[range].iter().for_each(|&id| list.mark_referenced(id));
        };
        turns(&mut group, &format!("mark one of {entries} that is marked"), entries, &mut ids, mark, |_| {});
        let clear = |ids: &mut Vec<u32>| ids.iter().for_each(|&id| list.clear_referenced(id));
        clear(&mut ids);
        turns(&mut group, &format!("mark one of {entries} that is not"), entries, &mut ids, mark, clear);

        let mut listed = list.ids();
        listed.sort_unstable();
        ids.sort_unstable();
        assert!(listed == ids, "marking changed the list");
    }
    group.finish();
}

fn tree(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tree");
    let slots = u32::try_from(SLOTS).expect("few");
    let in_order: Vec<u32> = (0..slots).collect();
    let mut at_random = in_order.clone();
    shuffle(&mut at_random);
    // Each slot's id is one more than the offset of the slot after it, in random order; the last leads to the first.
    let mut ids = vec![0; SLOTS];
    let after = at_random.iter().cycle().skip(1);
    at_random.iter().zip(after).for_each(|(&offset, &after)| ids[offset as usize] = after + 1);
    let tree = Tree::new(&ids);

    let all: u64 = (1..=u64::from(slots)).sum();
    let seen_all = |seen: &mut u64| assert_eq!(std::mem::take(seen), all, "each slot once");
    let lock = |offset: u32| tree.lock_and_unlock(offset);
    let look_up = |offset: u32| tree.id(offset);
    for (name, order) in [("in order", &in_order), ("at random", &at_random)] {
        let mut seen = 0;
        turns(
            &mut group,
            &format!("look up {name}"),
            SLOTS,
            &mut seen,
            |seen, range| *seen += order[range].iter().map(|&offset| u64::from(look_up(offset))).sum::<u64>(),
            seen_all,
        );
        turns(
            &mut group,
            &format!("look up, lock and unlock {name}"),
            SLOTS,
            &mut seen,
            |seen, range| *seen += order[range].iter().map(|&offset| u64::from(lock(offset))).sum::<u64>(),
            seen_all,
        );
    }
    // No look-up overlaps with the one before, of whose slot it is.
    let mut at = at_random[0];
    turns(
        &mut group,
        "look up at random, one after another",
        SLOTS,
        &mut at,
        |at, range| range.for_each(|_| *at = look_up(*at) - 1),
        |at| assert_eq!(*at, at_random[0], "a whole turn ends where it began"),
    );
    turns(
        &mut group,
        "look up, lock and unlock one slot",
        SLOTS,
        &mut at,
        |at, range| range.for_each(|_| assert_eq!(lock(black_box(*at)), ids[*at as usize])),
        |_| {},
    );
    assert!(tree.ids() == ids, "locking changed what slots hold");
    group.finish();
}

criterion_group!(benches, pool, lru, tree);
criterion_main!(benches);
