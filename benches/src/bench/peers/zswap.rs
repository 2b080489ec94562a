//! Linux zswap: anonymous memory is swapped out by advice and comes back by page faults.
//!
//! What is timed contains what zswap cannot be had without: reclaim on the way out, the fault on the way in. The kernel has
//! to be set up for it (`ci/peers.sh`): zswap enabled, a swap area, no readahead.

use std::fs;

use zfolio_accel::{Page, PageBytes};

use super::peer::{Memory, Pass, Peer};
use super::region::Region;
use super::zram::kernel;
use crate::bench::worker::Faults;
use crate::machine::kib_field;

const PARAMETERS: &str = "/sys/module/zswap/parameters";

/// Pages of which one may be left in memory at first: it is asked for again, in no time that counts.
const LEFT_ONE_IN: usize = 100;

/// zswap of the running kernel, over memory of this process.
pub(super) struct Zswap {
    compressor: String,
    region: Option<Region>,
    pages: usize,
    swapped_before: (u64, u64),
}

impl Zswap {
    /// zswap as the kernel is set up, or what is lacking.
    pub(super) fn new() -> Result<Self, String> {
        let parameter = |name: &str| fs::read_to_string(format!("{PARAMETERS}/{name}"));
        let enabled = parameter("enabled").map_err(|_| "this kernel has no zswap".to_owned())?;
        if enabled.trim() != "Y" {
            return Err("it is not enabled".to_owned());
        }
        if fs::read_to_string("/proc/swaps").unwrap_or_default().lines().count() < 2 {
            return Err("there is no swap area".to_owned());
        }
        if fs::read_to_string("/proc/sys/vm/page-cluster").unwrap_or_default().trim() != "0" {
            return Err("vm.page-cluster is not 0: a fault would bring its neighbours".to_owned());
        }
        let compressor = parameter("compressor").map_err(|error| error.to_string())?.trim().to_owned();
        Ok(Self { compressor, region: None, pages: 0, swapped_before: (0, 0) })
    }

    fn region(&mut self) -> Result<&mut Region, String> {
        self.region.as_mut().ok_or_else(|| "zswap: no memory mapped".to_owned())
    }

    fn page_out(&mut self, pages: std::ops::Range<usize>) -> Result<(), String> {
        self.region()?.page_out(pages).map_err(|error| format!("MADV_PAGEOUT: {error}"))
    }

    /// The pages that are still in memory.
    fn left(&mut self) -> Result<Vec<usize>, String> {
        let resident = self.region()?.resident().map_err(|error| format!("mincore: {error}"))?;
        Ok(resident.iter().enumerate().filter(|(_, left)| **left).map(|(page, _)| page).collect())
    }
}

/// Pages read from and written to swap areas since the machine started.
fn swapped() -> (u64, u64) {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    (count("pswpin"), count("pswpout"))
}

impl Peer for Zswap {
    fn codec(&self) -> &str {
        &self.compressor
    }

    fn backend(&self) -> &str {
        "zswap"
    }

    fn report(&self) -> String {
        format!(
            "Linux {}, MADV_PAGEOUT of 64 pages in a call and page faults; memory is the pool alone, without the kernel's \
             entries and swap map",
            kernel()
        )
    }

    fn passes(&self) -> &'static [Pass] {
        &[Pass::Store, Pass::LoadInOrder, Pass::Load]
    }

    fn begin(&mut self, pages: usize) -> Result<(), String> {
        self.region = Some(Region::new(pages).map_err(|error| error.to_string())?);
        self.pages = pages;
        self.swapped_before = swapped();
        Ok(())
    }

    fn prepare(&mut self, pass: Pass, slots: &[u32], source: &[PageBytes]) -> Result<(), String> {
        if pass.stores() {
            let region = self.region()?;
            slots.iter().zip(source).for_each(|(slot, page)| region.write(*slot as usize, page));
        }
        Ok(())
    }

    fn store(&mut self, _: Pass, slots: &[u32], _: &[PageBytes]) -> Result<(), String> {
        let first = slots[0] as usize;
        self.page_out(first..first + slots.len())
    }

    fn load(&mut self, _: Pass, slots: &[u32], _: &mut [Page]) -> Result<(), String> {
        let region = self.region()?;
        slots.iter().for_each(|slot| region.touch(*slot as usize));
        Ok(())
    }

    fn settle(&mut self, slots: &[u32], pages: &mut [Page]) {
        if let Some(region) = &self.region {
            slots.iter().zip(pages).for_each(|(slot, page)| region.read(*slot as usize, page));
        }
    }

    fn stored(&mut self) -> Result<(), String> {
        let left = self.left()?;
        if left.len() * LEFT_ONE_IN > self.pages {
            return Err(format!("zswap: the kernel left {} of {} pages in memory", left.len(), self.pages));
        }
        left.iter().try_for_each(|page| self.page_out(*page..page + 1))?;
        match self.left()?.len() {
            0 => Ok(()),
            left => Err(format!("zswap: the kernel keeps {left} of {} pages in memory", self.pages)),
        }
    }

    fn memory(&mut self) -> Result<Memory, String> {
        let text = fs::read_to_string("/proc/meminfo").map_err(|error| error.to_string())?;
        let bytes = kib_field(&text, "Zswap").ok_or("this kernel does not tell what zswap takes")?;
        Ok(Memory { bytes, metadata_bytes: 0, compressed_bytes: None })
    }

    fn end(&mut self, faults: &mut Faults) -> Result<(), String> {
        self.region = None;
        let (before, after) = (self.swapped_before, swapped());
        if after != before {
            faults.fail_check(format!(
                "zswap: {} pages were read from and {} written to the swap area itself",
                after.0 - before.0,
                after.1 - before.1
            ));
        }
        Ok(())
    }
}
