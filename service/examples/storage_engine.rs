//! A storage engine's buffer pool with zfolio as its second tier.
//!
//! Blocks of 16 KiB come from a file. The first tier holds a few of them as they are; what falls out of it goes into
//! zfolio, compressed, and is found there before the file is asked. Clean blocks only: the file has them all, so a
//! block that the second tier refuses or loses costs a read and no more.
//!
//!     cargo run --release -p zfolio --example storage_engine

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;

use zfolio::{Config, Folio, Limit, NodeId, PAGE_SIZE, Page, PageBytes, SwapEntry, Zswap};

/// Pages of a block: a folio.
const PAGES: usize = 4;
type Block = [PageBytes; PAGES];

struct BufferPool<'f> {
    file: &'f File,
    /// The first tier: frames, and where each block is in them.
    frames: Vec<(u32, bool, Box<Block>)>,
    places: HashMap<u32, usize>,
    hand: usize,
    max_frames: usize,
    /// The second tier.
    zswap: Option<Zswap>,
    /// Its blocks in the order in which they came. (One that was loaded since is dropped early, should it come again.)
    stored: VecDeque<u32>,
    first_tier_hits: u64,
    second_tier_hits: u64,
    reads: u64,
}

impl<'f> BufferPool<'f> {
    /// A pool of so many frames, and of as much memory for compressed blocks.
    fn new(
        file: &'f File,
        blocks: u32,
        max_frames: usize,
        second_tier: Option<u64>,
    ) -> Result<Self, Box<dyn Error>> {
        let zswap = match second_tier {
            None => None,
            Some(bytes) => {
                let zswap = Zswap::new(Config { max_pool: Limit::Bytes(bytes), ..Config::default() })?;
                zswap.swapon(0, blocks * PAGES as u32)?; // a slot for each page of the file
                Some(zswap)
            }
        };
        let (frames, places) = (Vec::new(), HashMap::new());
        let pool = BufferPool {
            file,
            frames,
            places,
            hand: 0,
            max_frames,
            zswap,
            stored: VecDeque::new(),
            first_tier_hits: 0,
            second_tier_hits: 0,
            reads: 0,
        };
        Ok(pool)
    }

    /// The block, from wherever it is.
    fn get(&mut self, number: u32) -> Result<&Block, Box<dyn Error>> {
        let place = match self.places.get(&number) {
            Some(&place) => {
                self.first_tier_hits += 1;
                place
            }
            None => self.bring(number)?,
        };
        let frame = &mut self.frames[place];
        frame.1 = true;
        Ok(&frame.2)
    }

    fn bring(&mut self, number: u32) -> Result<usize, Box<dyn Error>> {
        let mut block = Box::new([[0; PAGE_SIZE]; PAGES]);
        if self.load(number, &mut block) {
            self.second_tier_hits += 1;
        } else {
            self.reads += 1;
            let at = u64::from(number) * (PAGES * PAGE_SIZE) as u64;
            self.file.read_exact_at(block.as_flattened_mut(), at)?;
        }
        let place = if self.frames.len() < self.max_frames {
            self.frames.push((number, false, block));
            self.frames.len() - 1
        } else {
            let place = self.victim();
            let old = std::mem::replace(&mut self.frames[place], (number, false, block));
            self.places.remove(&old.0);
            self.put_away(old.0, &old.2);
            place
        };
        self.places.insert(number, place);
        Ok(place)
    }

    /// The first frame that was not used since the hand last passed it.
    fn victim(&mut self) -> usize {
        loop {
            let place = self.hand % self.frames.len();
            self.hand = place + 1;
            if !std::mem::take(&mut self.frames[place].1) {
                return place;
            }
        }
    }

    /// Puts a block that falls out of the first tier into the second.
    fn put_away(&mut self, number: u32, block: &Block) {
        let Some(zswap) = &self.zswap else { return };
        let first = SwapEntry::new(0, number * PAGES as u32);
        let folio = Folio::new(first, NodeId(0), block).expect("four pages, aligned");
        // Full? The oldest blocks can go: the file has them. (With a swap device, `Zswap::shrink` writes them instead.)
        while zswap.store(&folio).is_err() {
            let Some(oldest) = self.stored.pop_front() else { return };
            let _ = zswap.invalidate_range(SwapEntry::new(0, oldest * PAGES as u32), PAGES as u32);
        }
        self.stored.push_back(number);
    }

    /// Takes a block out of the second tier, whole.
    fn load(&self, number: u32, block: &mut Block) -> bool {
        let Some(zswap) = &self.zswap else { return false };
        let entries: [SwapEntry; PAGES] =
            std::array::from_fn(|page| SwapEntry::new(0, number * PAGES as u32 + page as u32));
        let (mut pages, mut loaded) = (Page::zeroed_vec(PAGES), 0);
        zswap.load_batch(&entries, &mut pages, |_, result| loaded += usize::from(result.is_ok()));
        for (to, from) in block.iter_mut().zip(&pages) {
            to.copy_from_slice(&from[..]);
        }
        loaded == PAGES
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (blocks, accesses) = (4096u32, 200_000);
    let path = std::env::temp_dir().join(format!("zfolio-example-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    // Rows of text, as an engine's blocks are.
    for number in 0..blocks {
        let mut block = String::new();
        for row in 0.. {
            block += &format!("{number:08}|{row:04}|customer {:x}|", (u64::from(number) * 31 + row) * 0x9E37);
            if block.len() >= PAGES * PAGE_SIZE {
                break;
            }
        }
        let at = u64::from(number) * (PAGES * PAGE_SIZE) as u64;
        file.write_all_at(&block.as_bytes()[..PAGES * PAGE_SIZE], at)?;
    }
    println!("{blocks} blocks of 16 KiB, {accesses} accesses, most of them to few blocks");
    for (name, frames, second_tier) in
        [("16 MiB as they are", 1024, None), ("8 MiB as they are, 8 MiB compressed", 512, Some(8 << 20))]
    {
        let mut pool = BufferPool::new(&file, blocks, frames, second_tier)?;
        let mut state = 1u64;
        for _ in 0..accesses {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let uniform = (state >> 33) as f64 / f64::from(1u32 << 31);
            let number = (f64::from(blocks) * uniform.powi(3)) as u32;
            let block = pool.get(number)?;
            assert!(block[0].starts_with(format!("{number:08}|").as_bytes()), "another block");
        }
        let hits = 100.0 * (pool.first_tier_hits + pool.second_tier_hits) as f64 / f64::from(accesses);
        println!(
            "{name}: {hits:.1} % hits ({} first tier, {} second), {} reads of the file",
            pool.first_tier_hits, pool.second_tier_hits, pool.reads
        );
        if let Some(zswap) = &pool.zswap {
            let stats = zswap.stats();
            println!("    {} pages in {} KiB of memory", stats.stored_pages, stats.pool_bytes / 1024);
        }
    }
    Ok(())
}
