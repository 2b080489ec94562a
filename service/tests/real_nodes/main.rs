//! Machines that have several memory nodes in truth: what a store says of its nodes is compared with what the kernel
//! says of its pages (`/proc/self/numa_maps`), not with what was asked for.
//!
//! Skipped on a machine of one node, with the reason; `ci/numa.sh` runs it on one of three, in a virtual machine.

#![allow(clippy::unwrap_used)]

mod full_node;
mod machine;
mod moved;
mod placed;
mod policies;
mod reclaim;

use zfolio::{Config, Folio, Limit, LoadError, NodeId, PAGE_SIZE, PageBytes, StoreError, SwapEntry, Zswap};
use zfolio_accel::numa;

use machine::{Machine, node_of_new_memory, on_cpu};

const MIB: u64 = 1 << 20;
/// Pages of the folios that are stored here.
const FOLIO: usize = 16;
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
