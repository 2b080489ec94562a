//! Tests of whole stores.

mod basics;
mod failure;
mod model;
mod nodes;
mod order;
mod placement;
mod pressure;
mod proactive;
#[cfg(shuttle)]
mod schedules;
mod shrink;
mod soak;
mod swap;
mod tenants;
mod threads;
mod zspool;

use std::fs;

use zfolio_accel::{Channels, ChannelsConfig, Codec, Method, PAGE_SIZE, PageBytes, Topology};

use crate::{Config, Folio, Limit, NodeId, SwapEntry, Zswap};

/// A small random number generator (xorshift64*), so that a seed gives the same test for ever.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n
    }
}

/// Pages of every kind that the store treats differently, told apart by `tag`: zero, same-filled, incompressible,
/// and such that compress to any length.
pub(crate) fn any_page(random: &mut Random, tag: u64) -> PageBytes {
    let mut page = [0u8; PAGE_SIZE];
    let random_part = match random.below(8) {
        0 => return page,
        1 => {
            page.as_chunks_mut().0.fill((tag | 1 << 63).to_ne_bytes());
            return page;
        }
        2 => PAGE_SIZE,
        _ => random.below(PAGE_SIZE),
    };
    page.as_chunks_mut().0.fill(tag.to_ne_bytes());
    for word in page[..random_part].as_chunks_mut::<8>().0 {
        *word = random.next().to_ne_bytes();
    }
    page[..8].copy_from_slice(&tag.to_ne_bytes());
    page
}

pub(crate) fn store_with(config: Config) -> Zswap {
    let zswap = Zswap::new(config).unwrap();
    zswap.swapon(0, 1 << 16).unwrap();
    zswap
}

/// A folio of tenant 0 from node 0.
pub(crate) fn folio(offset: usize, pages: &[PageBytes]) -> Folio<'_> {
    Folio::new(at(offset), NodeId(0), pages).unwrap()
}

pub(crate) fn at(offset: usize) -> SwapEntry {
    SwapEntry::new(0, u32::try_from(offset).unwrap())
}

/// A pool of so many pages.
pub(crate) fn pool_of(pages: u64) -> Config {
    Config { max_pool: Limit::Bytes(pages * PAGE_SIZE as u64), ..Config::default() }
}

/// A made-up machine of memory nodes with these numbers, of a GiB each, and one package. The kernel below it has the
/// nodes that it has: all memory of these tests comes from there, and the store has to find out.
pub(crate) fn machine(nids: &[u16]) -> Topology {
    let dir = tempfile::tempdir().unwrap();
    let nodes = dir.path().join("devices/system/node");
    let online: Vec<String> = nids.iter().map(u16::to_string).collect();
    for nid in nids {
        let node = nodes.join(format!("node{nid}"));
        fs::create_dir_all(&node).unwrap();
        fs::write(node.join("meminfo"), format!("Node {nid} MemTotal: 1048576 kB\n")).unwrap();
    }
    fs::write(nodes.join("online"), online.join(",")).unwrap();
    Topology::read(dir.path()).unwrap()
}

/// A store on a made-up machine, with a swap area of 65536 slots.
pub(crate) fn store_on(topology: &Topology, config: Config) -> Zswap {
    let channels =
        ChannelsConfig { method: config.method, window: config.window, ..ChannelsConfig::default() };
    let channels = Channels::new(channels, topology).unwrap();
    let zswap = Zswap::with_channels(config, topology, channels).unwrap();
    zswap.swapon(0, 1 << 16).unwrap();
    zswap
}

/// Empties a swap type and proves that nothing is left: no page, no entry, no object, no memory.
pub(crate) fn assert_nothing_is_left(zswap: &Zswap) {
    for swap_type in 0..32 {
        zswap.invalidate_range(SwapEntry::new(swap_type, 0), u32::MAX).unwrap();
    }
    zswap.check().unwrap();
    assert_eq!(zswap.entries_in_use(), 0, "entries");
    zswap.release_warm();
    zswap.check().unwrap();
    let stats = zswap.stats();
    assert_eq!(
        (stats.stored_pages, stats.object_bytes, stats.pool_bytes),
        (0, 0, 0),
        "pages, object and pool bytes"
    );
    assert!(stats.nodes.iter().all(|node| node.zspages == 0), "{:?}", stats.nodes);
    assert_eq!(zswap.resident_arena_bytes().unwrap(), 0, "the kernel says that memory is left");
}
