//! A file or block device as swap device: slots of 4096 bytes from its start on.
//!
//! What it needs is settled when it is opened: the kind of file, its length, memory of the file system behind every
//! slot, and that nobody else uses it. So a write that fails later is an error of the disk and not of the set-up.
//! Consecutive slots of a batch are one system call. Nothing is synced: swap is not storage.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use zfolio_accel::{PAGE_SIZE, Page, PageBytes};

use crate::folio::SwapEntry;
use crate::swap_device::{PageWrite, SwapDevice};

/// Pages of one system call; Linux takes up to 1024.
const MAX_RUN: usize = 64;

/// See the module. For one swap type: slots are told apart by their offset alone.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    slots: u32,
    direct: bool,
}

impl FileDevice {
    /// Opens the file or block device at `path` for `slots` slots. A file is made if need be, and made as long as that
    /// takes, with memory behind all of it. What it holds is lost.
    ///
    /// With `direct`, I/O goes past the page cache (O_DIRECT), which a file system may refuse.
    ///
    /// # Errors
    /// When it is neither file nor block device, too short, in use by another `FileDevice`, or the file system has no
    /// room, or refuses O_DIRECT. The text says which.
    pub fn open(path: &Path, slots: u32, direct: bool) -> io::Result<FileDevice> {
        let fail = |error: io::Error, what: &str| {
            io::Error::new(error.kind(), format!("swap device {}: {what}: {error}", path.display()))
        };
        let flags = libc::O_CLOEXEC | if direct { libc::O_DIRECT } else { 0 };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let what = if direct { "cannot be opened with O_DIRECT" } else { "cannot be opened" };
        let mut file = options.open(path).map_err(|error| fail(error, what))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let error = io::Error::from(io::ErrorKind::ResourceBusy);
                return Err(fail(error, "another process, or this one, has it open as a swap device"));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error, "cannot be locked")),
        }
        let kind = file.metadata().map_err(|error| fail(error, "cannot be examined"))?.file_type();
        let len = u64::from(slots) * PAGE_SIZE as u64;
        if kind.is_file() {
            allocate(&file, len).map_err(|error| fail(error, &format!("{len} bytes cannot be allocated")))?;
        } else if kind.is_block_device() {
            let has =
                file.seek(SeekFrom::End(0)).map_err(|error| fail(error, "its length cannot be told"))?;
            if has < len {
                let error = io::Error::from(io::ErrorKind::StorageFull);
                return Err(fail(error, &format!("{slots} slots take {len} bytes, and it has {has}")));
            }
        } else {
            let error = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(fail(error, "neither a file nor a block device"));
        }
        Ok(FileDevice { file, slots, direct })
    }

    /// The first byte of a slot.
    fn place(&self, entry: SwapEntry) -> io::Result<u64> {
        if entry.offset() >= self.slots {
            let text = format!("{entry} is beyond the {} slots of the device", self.slots);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(u64::from(entry.offset()) * PAGE_SIZE as u64)
    }

    /// Writes consecutive slots.
    fn write_run(&self, writes: &[PageWrite<'_>]) -> io::Result<()> {
        let mut place = self.place(writes[0].entry())?;
        self.place(writes[writes.len() - 1].entry())?;
        let mut slices = [IoSlice::new(&[]); MAX_RUN];
        for (slice, write) in slices.iter_mut().zip(writes) {
            *slice = IoSlice::new(write.page());
        }
        let mut slices = &mut slices[..writes.len()];
        while !slices.is_empty() {
            let count = i32::try_from(slices.len()).expect("at most 64");
            let offset = i64::try_from(place).map_err(io::Error::other)?;
            // SAFETY: reads the pages that the slices borrow. `IoSlice` is laid out as `iovec` by its contract.
            let written =
                unsafe { libc::pwritev(self.file.as_raw_fd(), slices.as_ptr().cast(), count, offset) };
            match usize::try_from(written) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(written) => {
                    place += written as u64;
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}

impl SwapDevice for FileDevice {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()> {
        let place = self.place(entry)?;
        if self.direct && !aligned(page) {
            return self.file.write_all_at(&Page::from(page)[..], place);
        }
        self.file.write_all_at(page, place)
    }

    fn write_batch(&self, writes: &mut [PageWrite<'_>]) {
        let mut rest = writes;
        while !rest.is_empty() {
            let consecutive = |pair: &[PageWrite<'_>]| {
                pair[0].entry().offset().checked_add(1) == Some(pair[1].entry().offset())
            };
            let run = 1 + rest.windows(2).take(MAX_RUN - 1).take_while(|pair| consecutive(pair)).count();
            let (now, later) = rest.split_at_mut(run);
            if self.direct && !now.iter().all(|write| aligned(write.page())) {
                now.iter_mut().for_each(|write| write.finish(self.write(write.entry(), write.page())));
            } else {
                // Which pages of a run that failed were written does not matter: all stay in the store.
                let error = self.write_run(now).err();
                for write in now {
                    let again = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
                    write.finish(error.as_ref().map_or(Ok(()), |error| Err(again(error))));
                }
            }
            rest = later;
        }
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()> {
        let place = self.place(entry)?;
        if self.direct && !aligned(page) {
            let mut buffer = Page::zeroed();
            self.file.read_exact_at(&mut buffer[..], place)?;
            page.copy_from_slice(&buffer[..]);
            return Ok(());
        }
        self.file.read_exact_at(page, place)
    }
}

/// O_DIRECT wants buffers at multiples of the disk's block, which is at most a page.
fn aligned(page: &PageBytes) -> bool {
    page.as_ptr().addr().is_multiple_of(PAGE_SIZE)
}

/// Has the file system keep room for the first `len` bytes. Where it cannot, the file is made as long as that.
fn allocate(file: &File, len: u64) -> io::Result<()> {
    let bytes = i64::try_from(len).map_err(io::Error::other)?;
    // SAFETY: changes the file's allocation and length, and no memory.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
        return Err(error);
    }
    if file.metadata()?.len() < len { file.set_len(len) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(tag: u8) -> Page {
        Page::from(&std::array::from_fn::<u8, PAGE_SIZE, _>(|i| (i as u8).wrapping_mul(tag)))
    }

    #[test]
    fn pages_come_back_from_their_slots_whatever_the_runs() {
        let dir = tempfile::tempdir().unwrap();
        for direct in [false, true] {
            let path = dir.path().join(format!("swap{direct}"));
            let device = match FileDevice::open(&path, 256, direct) {
                Err(error) if direct => {
                    eprintln!("skipped: O_DIRECT: {error}");
                    continue;
                }
                device => device.unwrap(),
            };
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 256 * PAGE_SIZE as u64);
            // A run longer than a call takes, single slots, and the last one.
            let slots: Vec<u32> = (3..100).chain([110, 120, 121, 255]).collect();
            let pages: Vec<Page> = slots.iter().map(|&slot| page(slot as u8)).collect();
            let mut writes: Vec<PageWrite<'_>> = slots
                .iter()
                .zip(&pages)
                .map(|(&slot, page)| PageWrite::new(SwapEntry::new(5, slot), page))
                .collect();
            device.write_batch(&mut writes);
            assert!(writes.into_iter().all(|write| write.into_result().is_ok()));
            // Unaligned memory is as good.
            let mut room = vec![0u8; PAGE_SIZE + 1];
            for (&slot, expected) in slots.iter().zip(&pages) {
                let page: &mut PageBytes = (&mut room[1..]).try_into().unwrap();
                device.read(SwapEntry::new(5, slot), page).unwrap();
                assert!(*page == **expected, "slot {slot}, direct {direct}");
                device.write(SwapEntry::new(5, slot), page).unwrap();
            }
            assert!(device.write(SwapEntry::new(5, 256), &page(1)).is_err());
        }
    }

    #[test]
    fn what_cannot_be_a_swap_device_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let text = |result: io::Result<FileDevice>| result.unwrap_err().to_string();
        assert!(text(FileDevice::open(dir.path(), 1, false)).contains("cannot be opened"));
        assert!(text(FileDevice::open(Path::new("/dev/null"), 1, false)).contains("neither a file nor"));
        let path = dir.path().join("swap");
        let first = FileDevice::open(&path, 4, false).unwrap();
        assert!(text(FileDevice::open(&path, 4, false)).contains("has it open"));
        drop(first);
        assert!(FileDevice::open(&path, 8, false).is_ok());
    }
}
