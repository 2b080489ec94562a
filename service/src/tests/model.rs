//! A store against a `HashMap`: thousands of random operations, and after each one both say the same.
//!
//! A seed is a whole test: the machine, the settings and the operations come from it. `ZFOLIO_SEED=n` runs that seed
//! alone, `ZFOLIO_SEEDS=n` as many from 0 on.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use zfolio_accel::{Page, repeated_word};

use super::*;
use crate::{Incompressible, LoadError, MemoryDevice, StoreError, SwapDevice, TenantId, fail};

/// Swap types in use, and the slots of each: within a leaf of the tree, over several, and one that is no multiple
/// of anything.
const AREAS: [(u8, u32); 3] = [(0, 1024), (7, 3072), (31, 77)];
const OPERATIONS: usize = 300;
const SEEDS: u64 = 120;

static MACHINES: LazyLock<[Topology; 3]> =
    LazyLock::new(|| [Topology::single_node(), machine(&[0, 1]), machine(&[0, 3, 900])]);

/// Names the seed when its test fails.
struct OnFailure(u64);

impl Drop for OnFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to see it again: ZFOLIO_SEED={} cargo test -p zfolio model", self.0);
        }
    }
}

#[test]
fn store_and_hash_map_never_differ() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse::<u64>().unwrap());
    let seeds = match number("ZFOLIO_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ZFOLIO_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let _on_failure = OnFailure(seed);
        let mut model = Model::new(seed);
        for operation in 0..OPERATIONS {
            model.step();
            if operation % 50 == 0 {
                model.compare();
            }
        }
        model.finish();
    }
}

/// A device that fails when the test wants a failure.
#[derive(Default)]
struct Device(MemoryDevice);

impl SwapDevice for Device {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> std::io::Result<()> {
        if fail::here() { Err(std::io::Error::other("as the test wants")) } else { self.0.write(entry, page) }
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> std::io::Result<()> {
        self.0.read(entry, page)
    }
}

struct Model {
    random: Random,
    zswap: Zswap,
    device: Arc<Device>,
    nids: Vec<u16>,
    /// Slots of each swap type that is on.
    on: HashMap<u8, u32>,
    pages: HashMap<SwapEntry, Box<PageBytes>>,
    /// No limit is in the way of anything.
    unlimited: bool,
    incompressible: Incompressible,
    tag: u64,
    pages_out: u64,
    pages_in: u64,
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut random = Random::new(seed);
        let topology = &MACHINES[random.below(3)];
        let nids: Vec<u16> = topology.nodes().iter().map(|node| node.nid.0).collect();
        let unlimited = random.below(2) == 0;
        let few = |random: &mut Random| Limit::Bytes((random.below(400) * PAGE_SIZE) as u64);
        let config = Config {
            method: Some(Method::ALL[random.below(Method::ALL.len())]),
            window: 1 + random.below(128),
            max_pool: if unlimited { Limit::Bytes(1 << 40) } else { few(&mut random) },
            accept_threshold_percent: [0, 50, 90, 100][random.below(4)],
            node_limits: match random.below(3) {
                0 if !unlimited => vec![(NodeId(nids[random.below(nids.len())]), few(&mut random))],
                _ => Vec::new(),
            },
            max_compressed_len: [4080, 4096, 2000, 100, 0][random.below(5)],
            incompressible: [Incompressible::StoreRaw, Incompressible::Refuse][random.below(2)],
            warm_bytes: [0, 4096, 1 << 16, 1 << 40][random.below(4)],
            ..Config::default()
        };
        let incompressible = config.incompressible;
        let channels =
            ChannelsConfig { method: config.method, window: config.window, ..ChannelsConfig::default() };
        let channels = Channels::new(channels, topology).unwrap();
        let zswap = Zswap::with_channels(config, topology, channels).unwrap();
        let mut model = Model {
            random,
            zswap,
            device: Arc::default(),
            nids,
            on: HashMap::new(),
            pages: HashMap::new(),
            unlimited,
            incompressible,
            tag: 0,
            pages_out: 0,
            pages_in: 0,
        };
        for (swap_type, slots) in AREAS {
            model.swapon(swap_type, slots);
        }
        model
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..45 => self.store(),
            45..55 => self.store_each(),
            55..70 => self.load(),
            70..78 => self.read(),
            78..86 => self.load_batch(),
            86..92 => self.invalidate(),
            92..94 => self.invalidate_range(),
            94 => self.shrink(),
            95 => self.compact(),
            96 => drop(self.zswap.release_warm()),
            97 => self.swapoff_and_on(),
            98 => self.zswap.check().unwrap(),
            _ => self.refused(),
        }
    }

    /// A slot of an area, or rarely one a little beyond its end.
    fn slot(&mut self) -> SwapEntry {
        let (swap_type, slots) = AREAS[self.random.below(3)];
        // Few slots, used often, but for every fourth time.
        let span = if self.random.below(4) == 0 { slots + 10 } else { slots.min(48) };
        let base = if swap_type == 7 { 1000 } else { 0 };
        SwapEntry::new(swap_type, (base + self.random.below(span as usize) as u32) % (slots + 10))
    }

    /// First slot and pages of a folio.
    fn folio(&mut self) -> (SwapEntry, Vec<PageBytes>) {
        let size = match self.random.below(80) {
            0 => 512,
            1 => 1 << self.random.below(9),
            _ => 1 << self.random.below(6),
        };
        let at = self.slot();
        let first = SwapEntry::new(at.swap_type(), at.offset() / size * size);
        let pages = (0..size).map(|_| {
            self.tag += 1;
            any_page(&mut self.random, self.tag)
        });
        (first, pages.collect())
    }

    fn exists(&self, first: SwapEntry, pages: usize) -> bool {
        self.on
            .get(&first.swap_type())
            .is_some_and(|&slots| first.offset() as usize + pages <= slots as usize)
    }

    fn stored(&mut self, entry: SwapEntry, page: &PageBytes) {
        self.pages.insert(entry, Box::new(*page));
        self.pages_out += 1;
    }

    /// A page that failed to be stored must not be in the store, and neither must an older one: it would hide what
    /// the caller writes to the swap device now.
    fn gone(&mut self, entry: SwapEntry) {
        self.pages.remove(&entry);
        let mut page = [0; PAGE_SIZE];
        assert_eq!(
            self.zswap.read(entry, &mut page),
            Err(LoadError::NotFound),
            "{entry} after a failed store"
        );
    }

    fn store(&mut self) {
        let (first, pages) = self.folio();
        let nid = NodeId(self.nids[self.random.below(self.nids.len())]);
        let tenant = TenantId([0, 5, 64, 65535][self.random.below(4)]);
        let folio = Folio::new(first, nid, &pages).unwrap().with_tenant(tenant);
        // Every eighth store meets a failure on its way, if its way is long enough.
        let failing = self.random.below(8) == 0;
        let step = if failing { 1 + self.random.below(40) as u32 } else { 0 };
        let (result, _) = fail::with_failure_at(step, || self.zswap.store(&folio));
        match result {
            Ok(()) => {
                assert!(self.exists(first, pages.len()));
                for (k, page) in pages.iter().enumerate() {
                    self.stored(first.plus(k), page);
                }
            }
            Err(StoreError::NoSuchSwap { .. }) => assert!(!self.exists(first, pages.len()), "{folio:?}"),
            Err(error) => {
                self.expected(error, failing, first, pages.len());
                // A limit that was hit, if only by the failure, is in the way until usage has fallen.
                self.unlimited &= !matches!(error, StoreError::PoolFull { .. } | StoreError::NodeFull { .. });
                for k in 0..pages.len() {
                    self.gone(first.plus(k));
                }
            }
        }
    }

    /// Only what is in the way may be given as the reason.
    fn expected(&self, error: StoreError, failing: bool, first: SwapEntry, pages: usize) {
        let legal = match error {
            StoreError::PoolFull { .. } | StoreError::NodeFull { .. } => !self.unlimited || failing,
            StoreError::OutOfMemory => failing,
            StoreError::Incompressible { entry } => {
                let named = first.offset()..first.offset() + pages as u32;
                self.incompressible == Incompressible::Refuse
                    && entry.swap_type() == first.swap_type()
                    && named.contains(&entry.offset())
            }
            _ => false,
        };
        assert!(legal, "{error:?}");
    }

    fn store_each(&mut self) {
        let (first, pages) = self.folio();
        let folio = Folio::new(first, NodeId(self.nids[0]), &pages).unwrap();
        let mut results = Vec::new();
        let whole = self.zswap.store_each(&folio, |index, result| {
            assert_eq!(index, results.len(), "told of in order, each once");
            results.push(result);
        });
        match whole {
            Ok(()) => assert_eq!(results.len(), pages.len()),
            Err(error) => {
                assert!(matches!(error, StoreError::NoSuchSwap { .. }) && results.is_empty(), "{error:?}");
                assert!(!self.exists(first, pages.len()));
            }
        }
        for (k, result) in results.into_iter().enumerate() {
            match result {
                Ok(()) => self.stored(first.plus(k), &pages[k]),
                Err(error) => {
                    self.expected(error, false, first.plus(k), 1);
                    self.gone(first.plus(k));
                }
            }
        }
    }

    /// What is on the device is the page that was stored.
    fn written_back(&self, entry: SwapEntry) {
        let mut page = [0xee; PAGE_SIZE];
        self.device.read(entry, &mut page).unwrap();
        assert!(page == *self.pages[&entry], "{entry}: another page is on the device");
    }

    fn shrink(&mut self) {
        let nid = NodeId(self.nids[self.random.below(self.nids.len())]);
        let bytes = self.random.below(1 << 17) as u64;
        let before = self.zswap.stats();
        let step = if self.random.below(4) == 0 { 1 + self.random.below(40) as u32 } else { 0 };
        let (shrunk, _) = fail::with_failure_at(step, || self.zswap.shrink(nid, bytes));
        let shrunk = shrunk.unwrap();
        self.zswap.check().unwrap();
        let after = self.zswap.stats();
        for (before, after) in before.nodes.iter().zip(&after.nodes) {
            let (object_bytes, released_bytes) =
                if before.nid == nid { (shrunk.object_bytes, shrunk.released_bytes) } else { (0, 0) };
            assert_eq!(before.object_bytes - after.object_bytes, object_bytes, "of node {}", before.nid);
            assert_eq!(before.pool_bytes - after.pool_bytes, released_bytes, "of node {}", before.nid);
            assert!(after.nid != nid || shrunk.released_bytes >= bytes || after.stored_pages == 0);
        }
        self.compare();
    }

    fn compact(&mut self) {
        let nid = NodeId(self.nids[self.random.below(self.nids.len())]);
        let before = self.zswap.stats();
        let compacted = self.zswap.compact(nid, std::time::Duration::MAX).unwrap();
        let after = self.zswap.stats();
        assert_eq!(before.pool_bytes - after.pool_bytes, compacted.released_bytes);
        assert_eq!(before.object_bytes, after.object_bytes);
        self.compare();
    }

    fn compare_loaded(&mut self, entry: SwapEntry, result: Result<(), LoadError>, page: &PageBytes) {
        match (result, self.pages.get(&entry)) {
            (Ok(()), Some(expected)) => {
                assert!(**expected == *page, "{entry} gave another page");
                self.pages_in += 1;
            }
            (Err(LoadError::NotFound), None) => {}
            (Err(LoadError::WrittenBack { entry: named }), Some(_)) => {
                assert_eq!(named, entry);
                self.written_back(entry);
                assert_eq!(self.zswap.invalidate(entry), Ok(true), "it is remembered until then");
                self.pages.remove(&entry);
            }
            (result, expected) => {
                panic!("{entry}: {result:?}, {} expected", expected.map_or("no page", |_| "a page"))
            }
        }
    }

    fn load(&mut self) {
        let (entry, mut page) = (self.slot(), [0xee; PAGE_SIZE]);
        let result = self.zswap.load(entry, &mut page);
        self.compare_loaded(entry, result, &page);
        self.pages.remove(&entry);
    }

    fn read(&mut self) {
        let (entry, mut page) = (self.slot(), [0xee; PAGE_SIZE]);
        let result = self.zswap.read(entry, &mut page);
        self.compare_loaded(entry, result, &page);
    }

    fn load_batch(&mut self) {
        // More than the store locks at once, and some twice.
        let count = self.random.below(150);
        let mut entries: Vec<SwapEntry> = (0..count).map(|_| self.slot()).collect();
        for _ in 0..self.random.below(5).min(count) {
            let again = entries[self.random.below(count)];
            let place = self.random.below(count);
            entries[place] = again;
        }
        let mut out = Page::zeroed_vec(count);
        let mut results = vec![None; count];
        self.zswap.load_batch(&entries, &mut out, |index, result| {
            assert!(results[index].replace(result).is_none(), "told twice of {index}");
        });
        let results: Vec<_> =
            results.into_iter().map(|result| result.expect("every entry is told of")).collect();
        // Of an entry that is named twice, one is loaded: the pages first, what was not found after them.
        let mut written_back = HashSet::new();
        for found in [true, false] {
            for (index, &entry) in entries.iter().enumerate() {
                let again = matches!(results[index], Err(LoadError::WrittenBack { .. }))
                    && !written_back.insert(entry);
                if results[index].is_ok() == found && !again {
                    self.compare_loaded(entry, results[index], &out[index]);
                    self.pages.remove(&entry);
                }
            }
        }
    }

    fn invalidate(&mut self) {
        let entry = self.slot();
        assert_eq!(self.zswap.invalidate(entry), Ok(self.pages.remove(&entry).is_some()), "{entry}");
    }

    fn invalidate_range(&mut self) {
        let first = self.slot();
        let slots = [1, 7, 100, 5000, u32::MAX][self.random.below(5)];
        let end = u64::from(first.offset()) + u64::from(slots);
        let before = self.pages.len();
        self.pages.retain(|entry, _| {
            let inside = (first.offset().into()..end).contains(&u64::from(entry.offset()));
            entry.swap_type() != first.swap_type() || !inside
        });
        let gone = (before - self.pages.len()) as u64;
        assert_eq!(self.zswap.invalidate_range(first, slots), Ok(gone), "{slots} slots from {first}");
    }

    fn swapon(&mut self, swap_type: u8, slots: u32) {
        self.zswap.swapon_with_device(swap_type, slots, self.device.clone()).unwrap();
        self.on.insert(swap_type, slots);
    }

    fn swapoff_and_on(&mut self) {
        let (swap_type, slots) = AREAS[self.random.below(3)];
        self.zswap.swapoff(swap_type).unwrap();
        self.on.remove(&swap_type);
        self.pages.retain(|entry, _| entry.swap_type() != swap_type);
        self.compare();
        self.refused();
        // It may come back smaller than it was.
        let slots =
            if self.random.below(4) == 0 { 1 + self.random.below(slots as usize) as u32 } else { slots };
        self.swapon(swap_type, slots);
    }

    /// What must be refused without a change.
    fn refused(&mut self) {
        let page = [[1; PAGE_SIZE]];
        let stranger = Folio::new(at(0), NodeId(77), &page).unwrap();
        assert_eq!(self.zswap.store(&stranger), Err(StoreError::NoSuchNode { nid: NodeId(77) }));
        let nowhere = Folio::new(SwapEntry::new(9, 0), NodeId(0), &page).unwrap();
        assert!(matches!(self.zswap.store(&nowhere), Err(StoreError::NoSuchSwap { .. })));
        let mut page = [0; PAGE_SIZE];
        for entry in [SwapEntry::new(9, 3), SwapEntry::new(200, u32::MAX)] {
            assert_eq!(self.zswap.load(entry, &mut page), Err(LoadError::NotFound));
            assert_eq!(self.zswap.invalidate(entry), Ok(false));
        }
    }

    /// Everything that the store says of itself, and every page in it.
    fn compare(&mut self) {
        self.zswap.check().unwrap();
        let mut page = [0xee; PAGE_SIZE];
        let mut on_device = 0;
        for (entry, expected) in &self.pages {
            match self.zswap.read(*entry, &mut page) {
                Ok(()) => assert!(page == **expected, "{entry} gave another page"),
                Err(LoadError::WrittenBack { .. }) => {
                    on_device += 1;
                    self.written_back(*entry);
                }
                Err(error) => panic!("{entry}: {error}"),
            }
        }
        self.pages_in += self.pages.len() as u64 - on_device;
        let filled = |zero| {
            let words = self.pages.values().filter_map(|page| repeated_word(page));
            words.filter(|&word| (word == 0) == zero).count() as u64
        };
        let stats = self.zswap.stats();
        assert_eq!(stats.stored_pages + on_device, self.pages.len() as u64);
        assert_eq!(stats.on_device_pages, on_device);
        assert_eq!((stats.zero_pages, stats.same_filled_pages), (filled(true), filled(false)));
        assert_eq!((stats.pages_out, stats.pages_in), (self.pages_out, self.pages_in));
        assert_eq!((stats.corrupt_loads, stats.reject_busy), (0, 0));
        let by_tenant = self.zswap.tenant_stats().into_iter().fold((0, 0, 0), |sum, stats| {
            (sum.0 + stats.pages_out, sum.1 + stats.pages_in, sum.2 + stats.written_back_pages)
        });
        let by_node = stats.nodes.iter().fold((0, 0, 0), |sum, stats| {
            (sum.0 + stats.pages_out, sum.1 + stats.pages_in, sum.2 + stats.written_back_pages)
        });
        assert_eq!(by_tenant, by_node);
        assert_eq!(by_node.0 + stats.same_filled_pages_out, stats.pages_out);
        assert_eq!(by_node.2, stats.written_back_pages);
    }

    fn finish(mut self) {
        self.compare();
        let mut page = [0xee; PAGE_SIZE];
        for (entry, expected) in self.pages.drain() {
            if let Err(error) = self.zswap.load(entry, &mut page) {
                assert_eq!(error, LoadError::WrittenBack { entry });
                self.device.read(entry, &mut page).unwrap();
                self.zswap.invalidate(entry).unwrap();
            }
            assert!(page == *expected, "{entry} gave another page");
            assert_eq!(self.zswap.load(entry, &mut page), Err(LoadError::NotFound), "a load takes the page");
        }
        let stats = self.zswap.stats();
        assert_eq!((stats.stored_pages, stats.object_bytes, self.zswap.entries_in_use()), (0, 0, 0));
        assert_nothing_is_left(&self.zswap);
    }
}
