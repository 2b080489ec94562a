//! What each placement costs: density against pages that are not on their node.
//!
//!     cargo run --release -p zfolio --example placement [-- [FILE...] [--pages N] [--rounds N]]
//!
//! The same pages (of the files, or of this program and its libraries) come from the machine's memory nodes at random, into a
//! store of each placement in turn. Then half of the pages, chosen at random, leave, each node is compacted, and they come
//! again one by one, from random nodes. Every page that is counted is read back and compared. On a machine of one node three
//! are made up: what is asked of such a node is taken to be there, so all but its distance is as on a real one.
//!
//! Where a node is small enough to be filled up by a program (a virtual machine's), what a full node does is measured too.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use zfolio::{
    Channels, ChannelsConfig, Config, Folio, Limit, NodeId, PAGE_SIZE, Page, PageBytes, Placement, Stats,
    StoreError, SwapEntry, Topology, Zswap,
};
use zfolio_accel::numa;

const PLACEMENTS: [(&str, Placement); 3] =
    [("prefer", Placement::Prefer), ("bind", Placement::Bind), ("dense", Placement::Dense)];
/// Pages of a folio: 64 KiB.
const FOLIO: usize = 16;
/// The largest node to be filled up. What is taken from it is missing to everybody else meanwhile.
const FILLABLE: u64 = 1 << 30;

type Fallible<T> = Result<T, Box<dyn Error>>;

struct Options {
    files: Vec<PathBuf>,
    /// Sizes of stores.
    pages: Vec<usize>,
    rounds: usize,
}

fn options() -> Fallible<Options> {
    let mut options = Options { files: Vec::new(), pages: vec![4096, 65_536], rounds: 5 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let number =
            |text: Option<String>| text.and_then(|text| text.parse().ok()).filter(|&n: &usize| n > 0);
        match &arg[..] {
            "--pages" => {
                let pages = number(args.next()).ok_or("--pages wants a number above 0")?;
                options.pages = vec![pages.next_multiple_of(FOLIO)];
            }
            "--rounds" => options.rounds = number(args.next()).ok_or("--rounds wants a number above 0")?,
            file => options.files.push(file.into()),
        }
    }
    Ok(options)
}

/// The machine's nodes with memory, or three that no kernel has.
fn machine() -> Fallible<(Topology, Vec<NodeId>, &'static str)> {
    let topology = Topology::read(Path::new("/sys"))?;
    let nids = with_memory(&topology);
    if nids.len() > 1 {
        return Ok((topology, nids, "of this machine"));
    }
    let dir = tempfile::tempdir()?;
    let nodes = dir.path().join("devices/system/node");
    for nid in 1021..1024 {
        fs::create_dir_all(nodes.join(format!("node{nid}")))?;
        fs::write(nodes.join(format!("node{nid}/meminfo")), format!("Node {nid} MemTotal: 67108864 kB\n"))?;
    }
    fs::write(nodes.join("online"), "1021-1023\n")?;
    let topology = Topology::read(dir.path())?;
    let nids = with_memory(&topology);
    Ok((topology, nids, "made up, as this machine has one"))
}

fn with_memory(topology: &Topology) -> Vec<NodeId> {
    topology.nodes().iter().filter(|node| node.memory_bytes != 0).map(|node| node.nid).collect()
}

/// The pages of the files that take memory, again and again, each with its number in its first bytes.
struct Corpus {
    pages: Vec<PageBytes>,
}

impl Corpus {
    fn read(files: &[PathBuf]) -> Fallible<Corpus> {
        let mut own = BTreeSet::new();
        for line in fs::read_to_string("/proc/self/maps")?.lines() {
            own.extend(line.split_ascii_whitespace().nth(5).map(PathBuf::from).filter(|path| path.is_file()));
        }
        let files = if files.is_empty() { own.into_iter().collect() } else { files.to_vec() };
        let mut pages = Vec::new();
        for file in &files {
            let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            let full = bytes.as_chunks::<PAGE_SIZE>().0.iter();
            pages.extend(full.filter(|page| zfolio_accel::repeated_word(page).is_none()));
        }
        if pages.is_empty() { Err("the files have no page to store".into()) } else { Ok(Corpus { pages }) }
    }

    fn page(&self, number: usize) -> PageBytes {
        let mut page = self.pages[number % self.pages.len()];
        page[..8].copy_from_slice(&(number as u64 | 1 << 63).to_ne_bytes());
        page
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) as usize % n
    }
}

fn open(topology: &Topology, placement: Placement, pages: usize) -> Fallible<Zswap> {
    // Nothing is kept warm: what is allocated is what the pages need.
    let config = Config { placement, max_pool: Limit::Bytes(1 << 40), warm_bytes: 0, ..Config::default() };
    let channels = Channels::new(ChannelsConfig::default(), topology)?;
    let zswap = Zswap::with_channels(config, topology, channels)?;
    zswap.swapon(0, u32::try_from(pages)?)?;
    Ok(zswap)
}

/// What a placement came to at one point, over the rounds.
#[derive(Default)]
struct Row {
    rates: Vec<f64>,
    stats: Stats,
    refused: usize,
}

struct Bench<'b> {
    corpus: &'b Corpus,
    topology: &'b Topology,
    nids: &'b [NodeId],
    pages: usize,
}

impl Bench<'_> {
    /// Stores folios of these numbers, each from a node, and says how many were refused and how long the stores took.
    fn store(
        &self,
        zswap: &Zswap,
        folios: impl Iterator<Item = (usize, usize, NodeId)>,
        there: &mut [bool],
    ) -> Fallible<(usize, Duration)> {
        let (mut refused, mut time) = (0, Duration::ZERO);
        for (first, len, nid) in folios {
            let pages: Vec<PageBytes> = (first..first + len).map(|number| self.corpus.page(number)).collect();
            let folio = Folio::new(SwapEntry::new(0, u32::try_from(first)?), nid, &pages)?;
            let started = Instant::now();
            let result = zswap.store(&folio);
            time += started.elapsed();
            there[first..first + len].fill(result.is_ok());
            match result {
                Ok(()) => {}
                Err(StoreError::NodeOutOfMemory { .. }) => refused += len,
                Err(error) => return Err(error.into()),
            }
        }
        Ok((refused, time))
    }

    /// Every page that should be there, byte for byte, and every count.
    fn verify(&self, zswap: &Zswap, there: &[bool]) -> Fallible<()> {
        let mut page = [0; PAGE_SIZE];
        for (number, _) in there.iter().enumerate().filter(|(_, there)| **there) {
            zswap.read(SwapEntry::new(0, u32::try_from(number)?), &mut page)?;
            if page != self.corpus.page(number) {
                return Err(format!("page {number} is wrong").into());
            }
        }
        zswap.check()?;
        Ok(())
    }

    /// One round of one placement.
    fn round(&self, placement: Placement, seed: u64, rows: &mut [Row; 4]) -> Fallible<()> {
        let zswap = open(self.topology, placement, self.pages)?;
        let mut random = Random(seed);
        let mut there = vec![false; self.pages];
        let nid = |random: &mut Random| self.nids[random.below(self.nids.len())];
        let mut note = |row: usize, refused: usize, stored: usize, time: Duration| {
            rows[row].stats = zswap.stats();
            rows[row].refused = refused;
            if stored > 0 {
                rows[row].rates.push(stored as f64 / time.as_secs_f64());
            }
        };
        let folios = (0..self.pages).step_by(FOLIO).map(|first| (first, FOLIO, nid(&mut random)));
        let (refused, time) = self.store(&zswap, folios, &mut there)?;
        note(0, refused, self.pages, time);
        self.verify(&zswap, &there)?;

        let leave: Vec<usize> = (0..self.pages).filter(|_| random.below(2) == 0).collect();
        for &number in &leave {
            zswap.invalidate(SwapEntry::new(0, u32::try_from(number)?))?;
        }
        leave.iter().for_each(|&number| there[number] = false);
        note(1, 0, 0, Duration::ZERO);
        for &nid in self.nids {
            zswap.compact(nid, Duration::MAX)?;
        }
        note(2, 0, 0, Duration::ZERO);
        self.verify(&zswap, &there)?;

        // They come again in another order.
        let mut come = leave;
        for k in (1..come.len()).rev() {
            come.swap(k, random.below(k + 1));
        }
        let singles = come.iter().map(|&number| (number, 1, nid(&mut random)));
        let (refused, time) = self.store(&zswap, singles, &mut there)?;
        note(3, refused, come.len(), time);
        self.verify(&zswap, &there)
    }

    /// Pages of a node that has memory for a part of them only.
    fn full_node(&self, full: NodeId, seed: u64, rows: &mut [Row; 3]) -> Fallible<()> {
        for (row, (_, placement)) in rows.iter_mut().zip(PLACEMENTS) {
            let zswap = open(self.topology, placement, self.pages)?;
            // Others have pages too, of lengths that leave holes.
            let mut random = Random(seed);
            let mut there = vec![false; self.pages];
            let other = self.nids.iter().copied().find(|&nid| nid != full).ok_or("one node")?;
            let singles = (0..self.pages / 4).map(|number| (number, 1, other));
            self.store(&zswap, singles, &mut there)?;
            for number in (0..self.pages / 4).filter(|_| random.below(4) == 0) {
                zswap.invalidate(SwapEntry::new(0, u32::try_from(number)?))?;
                there[number] = false;
            }
            let hog = hog(full, self.pages as u64 * 1024);
            let from = (self.pages / 4).next_multiple_of(FOLIO);
            let folios = (from..self.pages).step_by(FOLIO).map(|first| (first, FOLIO, full));
            let (refused, time) = self.store(&zswap, folios, &mut there)?;
            row.rates.push((self.pages - from) as f64 / time.as_secs_f64());
            row.refused = refused;
            row.stats = zswap.stats();
            self.verify(&zswap, &there)?;
            drop(hog);
        }
        Ok(())
    }
}

/// Takes memory of a node until the kernel has no more, and gives so much of it back.
fn hog(nid: NodeId, leave: u64) -> Vec<Vec<Page>> {
    const CHUNK: usize = 512;
    let mut taken = Vec::new();
    let mut touch = || {
        let mut chunk = Page::zeroed_vec(CHUNK);
        chunk.iter_mut().for_each(|page| page[0] = 1);
        let mut on = [-1];
        let asked = numa::nodes_of(NonNull::from(&chunk[CHUNK - 1]).cast(), &mut on);
        taken.push(chunk);
        asked.is_ok() && on[0] == i32::from(nid.0)
    };
    numa::with_preferred(nid, || while touch() {});
    let leave = usize::try_from(leave).unwrap_or(usize::MAX).div_ceil(CHUNK * PAGE_SIZE);
    // The last one came from elsewhere.
    taken.truncate((taken.len() - 1).saturating_sub(leave));
    taken
}

fn print(when: &str, rows: &[&Row]) {
    for (k, ((name, _), row)) in PLACEMENTS.iter().zip(rows).enumerate() {
        let stats = &row.stats;
        let share = 100.0 * stats.misplaced_bytes as f64 / stats.object_bytes.max(1) as f64;
        let mut rates: Vec<f64> = row.rates.iter().map(|rate| rate / 1000.0).collect();
        rates.sort_by(f64::total_cmp);
        let rate = match rates[..] {
            [] => String::new(),
            [.., last] => format!("{:>6.0} [{:.0}..{last:.0}]", rates[rates.len() / 2], rates[0]),
        };
        println!(
            "{:<12}{name:<10}{:>10.4} {:>14} {:>14} {share:>7.1} % {:>9} {rate}",
            if k == 0 { when } else { "" },
            stats.pool_bytes as f64 / stats.object_bytes.max(1) as f64,
            stats.object_bytes,
            stats.misplaced_bytes,
            row.refused,
        );
    }
}

fn main() -> Fallible<()> {
    let options = options()?;
    let (topology, nids, whose) = machine()?;
    let corpus = Corpus::read(&options.files)?;
    let list: Vec<String> = nids.iter().map(NodeId::to_string).collect();
    for pages in options.pages {
        println!(
            "{pages} pages ({} different) from nodes {} ({whose}), {} rounds; every page compared with its source\n",
            corpus.pages.len().min(pages),
            list.join(", "),
            options.rounds,
        );
        measure(&Bench { corpus: &corpus, topology: &topology, nids: &nids, pages }, options.rounds)?;
        println!();
    }
    Ok(())
}

fn measure(bench: &Bench<'_>, rounds: usize) -> Fallible<()> {
    let mut rows: [[Row; 4]; 3] = Default::default();
    for round in 0..rounds {
        for turn in 0..PLACEMENTS.len() {
            let which = (round + turn) % PLACEMENTS.len();
            bench.round(PLACEMENTS[which].1, 1 + round as u64, &mut rows[which])?;
        }
    }
    println!(
        "            placement allocated/     compressed   not at home     share   refused 1000 stores/s\n\
         {:22}compressed          bytes          bytes              pages median [min..max]",
        ""
    );
    for (at, when) in ["filled", "half freed", "compacted", "refilled"].iter().enumerate() {
        print(when, &rows.each_ref().map(|row| &row[at]));
    }
    let fillable = |node: &&zfolio_accel::Node| {
        (1..=FILLABLE).contains(&node.memory_bytes) && bench.nids.contains(&node.nid)
    };
    // Made-up nodes are larger.
    match bench.topology.nodes().iter().rfind(fillable) {
        Some(node) if bench.nids.len() > 1 => {
            let mut rows: [Row; 3] = Default::default();
            bench.full_node(node.nid, 7, &mut rows)?;
            print(&format!("node {} full", node.nid), &rows.each_ref());
        }
        _ => println!("A full node is left out: none is real and small enough to be filled up."),
    }
    Ok(())
}
