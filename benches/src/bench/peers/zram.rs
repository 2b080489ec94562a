//! Linux zram: a compressed block device, written and read page by page past the page cache.
//!
//! The device must be the caller's own and unused. It is made anew for each round and reset afterwards, also when this is
//! dropped; adding and removing it is left to whoever starts this (`ci/peers.sh`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use zfolio_accel::{PAGE_SIZE, Page, PageBytes};

use super::peer::{Memory, Pass, Peer};
use crate::bench::worker::Faults;

/// Others (udev) may look at a device when it changes; a reset waits so long for them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of a page's place in the table, where the kernel does not show how large it is: a handle and flags.
const TABLE_BYTES: u64 = 16;

/// A zram device with one algorithm. Dropping it resets the device.
pub(super) struct Zram {
    device: PathBuf,
    sysfs: PathBuf,
    algorithm: &'static str,
    file: Option<File>,
    table_bytes: u64,
}

impl Zram {
    /// One peer for each of the algorithms that the device has, or why the device cannot be used.
    pub(super) fn all(device: &Path) -> Result<Vec<Self>, String> {
        let name = device.file_name().unwrap_or_default();
        let sysfs = Path::new("/sys/block").join(name);
        let is_device = fs::metadata(device).is_ok_and(|facts| facts.file_type().is_block_device());
        if !is_device || !name.to_string_lossy().starts_with("zram") || !sysfs.join("initstate").exists() {
            return Err(format!("{} is no zram device", device.display()));
        }
        let state = fs::read_to_string(sysfs.join("initstate")).unwrap_or_default();
        if state.trim() != "0" {
            return Err(format!(
                "{} is in use; add one of your own (`cat /sys/class/zram-control/hot_add`)",
                device.display()
            ));
        }
        let algorithms = fs::read_to_string(sysfs.join("comp_algorithm")).unwrap_or_default();
        let has = |wanted: &str| algorithms.split([' ', '[', ']', '\n']).any(|name| name == wanted);
        let found: Vec<Self> = (["lz4", "lzo-rle"].into_iter())
            .filter(|algorithm| has(algorithm))
            .map(|algorithm| Self {
                device: device.to_owned(),
                sysfs: sysfs.clone(),
                algorithm,
                file: None,
                table_bytes: 0,
            })
            .collect();
        if found.is_empty() {
            Err("this kernel's zram has neither lz4 nor lzo-rle".to_owned())
        } else {
            Ok(found)
        }
    }

    fn set(&self, attribute: &str, value: &str) -> Result<(), String> {
        let path = self.sysfs.join(attribute);
        let start = Instant::now();
        loop {
            match fs::write(&path, value) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && start.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(20));
                }
                result => {
                    return result.map_err(|error| format!("{value} in {}: {error}", path.display()));
                }
            }
        }
    }

    fn reset(&mut self) -> Result<(), String> {
        self.file = None;
        self.set("reset", "1")
    }

    fn file(&self) -> Result<&File, String> {
        self.file.as_ref().ok_or_else(|| format!("{} is not open", self.device.display()))
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = self.reset();
        }
    }
}

impl Peer for Zram {
    fn codec(&self) -> &str {
        self.algorithm
    }

    fn backend(&self) -> &str {
        "zram"
    }

    fn report(&self) -> String {
        format!("Linux {}, requests of 4 KiB with O_DIRECT", kernel())
    }

    fn passes(&self) -> &'static [Pass] {
        &[Pass::Store, Pass::LoadInOrder, Pass::Load]
    }

    fn begin(&mut self, pages: usize) -> Result<(), String> {
        self.reset()?;
        self.set("comp_algorithm", self.algorithm)?;
        let before = tables();
        self.set("disksize", &(pages * PAGE_SIZE).to_string())?;
        self.table_bytes = match tables().zip(before) {
            Some((after, before)) if after > before => after - before,
            _ => pages as u64 * TABLE_BYTES,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_DIRECT | libc::O_EXCL)
            .open(&self.device)
            .map_err(|error| format!("{}: {error}", self.device.display()))?;
        self.file = Some(file);
        Ok(())
    }

    fn store(&mut self, _: Pass, slots: &[u32], source: &[PageBytes]) -> Result<(), String> {
        let file = self.file()?;
        for (slot, page) in slots.iter().zip(source) {
            file.write_all_at(page, u64::from(*slot) * PAGE_SIZE as u64)
                .map_err(|error| format!("zram, write: {error}"))?;
        }
        Ok(())
    }

    fn load(&mut self, _: Pass, slots: &[u32], pages: &mut [Page]) -> Result<(), String> {
        let file = self.file()?;
        for (slot, page) in slots.iter().zip(pages) {
            file.read_exact_at(&mut **page, u64::from(*slot) * PAGE_SIZE as u64)
                .map_err(|error| format!("zram, read: {error}"))?;
        }
        Ok(())
    }

    fn keeps(&self, _: Pass) -> bool {
        true
    }

    fn memory(&mut self) -> Result<Memory, String> {
        let text = fs::read_to_string(self.sysfs.join("mm_stat")).map_err(|error| error.to_string())?;
        let mut numbers = text.split_whitespace().map(|word| word.parse::<u64>().ok());
        // In this order: bytes stored, compressed, of memory used.
        match (numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten()) {
            (Some(_), Some(compressed), Some(used)) => Ok(Memory {
                bytes: used + self.table_bytes,
                metadata_bytes: self.table_bytes,
                compressed_bytes: Some(compressed),
            }),
            _ => Err(format!("mm_stat is not understood: {text:?}")),
        }
    }

    fn end(&mut self, _: &mut Faults) -> Result<(), String> {
        self.reset()
    }
}

/// Bytes of all zram tables, where the kernel shows them.
fn tables() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmallocinfo").ok()?;
    // `0x...-0x... BYTES disksize_store+0x71/0x150 pages=256 vmalloc`; BYTES has a guard page.
    let tables = text.lines().filter(|line| line.contains("disksize_store"));
    tables.map(|line| Some(line.split_once("pages=")?.1.split(' ').next()?.parse::<u64>().ok()? * 4096)).sum()
}

/// The running kernel's release.
pub(super) fn kernel() -> String {
    crate::os::kernel().trim_start_matches("Linux ").to_owned()
}
