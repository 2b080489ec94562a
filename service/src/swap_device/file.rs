//! A file or block device as swap device: slots of 4096 bytes from its start on.
//!
//! What it needs is settled when it is opened: the kind of file, its length, memory of the file system behind every
//! slot, and that nobody else uses it. So a write that fails later is an error of the disk and not of the set-up.
//! Consecutive slots of a batch are one write, by `pwritev` one after another or by io_uring (feature `io-uring`) all at once.
//! Nothing is synced: swap is not storage.

#![allow(unsafe_code)]

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use zfolio_accel::{PAGE_SIZE, Page, PageBytes};

use crate::folio::SwapEntry;
#[cfg(feature = "io-uring")]
use crate::swap_device::ring::Rings;
use crate::swap_device::{PageWrite, SwapDevice};

/// Pages of one system call, and of a ring; Linux takes up to 1024.
pub(super) const MAX_PAGES: usize = 64;

/// See the module. For one swap type: slots are told apart by their offset alone.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    slots: u32,
    direct: bool,
    #[cfg(feature = "io-uring")]
    rings: Option<Rings>,
    /// Why there are no rings although they were wanted.
    refused: Option<String>,
}

/// How a [`FileDevice`] writes batches.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteMethod {
    /// Run after run of consecutive slots, each by a system call.
    Pwritev,
    /// All runs at once.
    IoUring,
    /// As `Pwritev`, because io_uring was wanted and is not to be had.
    IoUringRefused {
        /// Why, in words.
        reason: String,
    },
}

impl fmt::Display for WriteMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteMethod::Pwritev => f.write_str("pwritev"),
            WriteMethod::IoUring => f.write_str("io_uring"),
            WriteMethod::IoUringRefused { reason } => {
                write!(f, "pwritev, for there is no io_uring: {reason}")
            }
        }
    }
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
        let device = FileDevice {
            file,
            slots,
            direct,
            #[cfg(feature = "io-uring")]
            rings: None,
            refused: None,
        };
        Ok(device.with_io_uring(direct && cfg!(feature = "io-uring")))
    }

    /// Whether batches are to be written by io_uring. Where the kernel refuses that, or it was not built in (feature `io-uring`),
    /// they go by `pwritev` as ever; [`write_method`](FileDevice::write_method) tells. If nothing is said and it was built in, it is
    /// wanted with `direct`: where the page cache takes the pages there is nothing to wait for, and `pwritev` is twice as fast.
    pub fn with_io_uring(mut self, wanted: bool) -> FileDevice {
        self.refused = None;
        #[cfg(feature = "io-uring")]
        {
            self.rings = None;
            if wanted {
                match Rings::new() {
                    Ok(rings) => self.rings = Some(rings),
                    Err(error) => self.refused = Some(error.to_string()),
                }
            }
        }
        #[cfg(not(feature = "io-uring"))]
        if wanted {
            self.refused = Some("not built in (feature `io-uring`)".to_owned());
        }
        self
    }

    /// How batches are written now.
    pub fn write_method(&self) -> WriteMethod {
        let refused = self.refused.as_deref();
        #[cfg(feature = "io-uring")]
        let refused = refused.or(self.rings.as_ref().and_then(Rings::refused));
        if let Some(reason) = refused {
            return WriteMethod::IoUringRefused { reason: reason.to_owned() };
        }
        #[cfg(feature = "io-uring")]
        if self.rings.is_some() {
            return WriteMethod::IoUring;
        }
        WriteMethod::Pwritev
    }

    /// The first byte of a slot.
    fn place(&self, entry: SwapEntry) -> io::Result<u64> {
        if entry.offset() >= self.slots {
            let text = format!("{entry} is beyond the {} slots of the device", self.slots);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(place_of(entry))
    }

    /// Writes consecutive slots and finishes each. The pages of a run that failed are tried one by one, so that one bad place fails
    /// the page that is to go there, and no other; two in a row, and the disk is taken for bad.
    fn write_run(&self, writes: &mut [PageWrite<'_>]) {
        if self.direct && !writes.iter().all(|write| aligned(write.page())) {
            return writes.iter_mut().for_each(|write| write.finish(self.write(write.entry(), write.page())));
        }
        let (written, error) = self.pwritev(writes);
        let (whole, rest) = writes.split_at_mut(written / PAGE_SIZE);
        whole.iter_mut().for_each(|write| write.finish(Ok(())));
        let Some(error) = error else { return };
        let mut result = Err(error);
        // Of a single page the answer is known.
        let mut failures = if rest.len() == 1 { 2 } else { 0 };
        for write in rest {
            if failures < 2 {
                result = self.write(write.entry(), write.page());
                failures = if result.is_ok() { 0 } else { failures + 1 };
            }
            write.finish(again(&result));
        }
    }

    /// Writes consecutive slots as far as it can. Says how many bytes that were, and why not all.
    fn pwritev(&self, writes: &[PageWrite<'_>]) -> (usize, Option<io::Error>) {
        let mut slices = [IoSlice::new(&[]); MAX_PAGES];
        for (slice, write) in slices.iter_mut().zip(writes) {
            *slice = IoSlice::new(write.page());
        }
        let mut slices = &mut slices[..writes.len()];
        let mut done = 0;
        while !slices.is_empty() {
            let count = i32::try_from(slices.len()).expect("at most 64");
            let place = place_of(writes[0].entry()) + done as u64;
            let offset = i64::try_from(place).expect("2^32 slots are 2^44 bytes");
            // SAFETY: reads the pages that the slices borrow. `IoSlice` is laid out as `iovec` by its contract.
            let written =
                unsafe { libc::pwritev(self.file.as_raw_fd(), slices.as_ptr().cast(), count, offset) };
            match usize::try_from(written) {
                Ok(0) => return (done, Some(io::Error::from(io::ErrorKind::WriteZero))),
                Ok(written) => {
                    done += written;
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return (done, Some(error));
                    }
                }
            }
        }
        (done, None)
    }
}

impl SwapDevice for FileDevice {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()> {
        let place = self.place(entry)?;
        #[cfg(feature = "io-uring")]
        self.rings.as_ref().map_or(Ok(()), Rings::check)?;
        if self.direct && !aligned(page) {
            return self.file.write_all_at(&Page::from(page)[..], place);
        }
        self.file.write_all_at(page, place)
    }

    fn write_batch(&self, writes: &mut [PageWrite<'_>]) {
        for writes in writes.chunks_mut(MAX_PAGES) {
            for write in writes.iter_mut() {
                if let Err(error) = self.place(write.entry()) {
                    write.finish(Err(error));
                }
            }
            #[cfg(feature = "io-uring")]
            if let Some(rings) = &self.rings {
                rings.write(&self.file, writes);
            }
            let mut from = 0;
            while let Some(run) = next_run(writes, from) {
                from = run.end;
                self.write_run(&mut writes[run]);
            }
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

/// The same result once more.
fn again(result: &io::Result<()>) -> io::Result<()> {
    result.as_ref().map(|_| ()).map_err(|error| match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    })
}

/// The first byte of a slot.
pub(super) fn place_of(entry: SwapEntry) -> u64 {
    u64::from(entry.offset()) * PAGE_SIZE as u64
}

/// The next consecutive slots from `from` on that are not finished.
pub(super) fn next_run(writes: &[PageWrite<'_>], from: usize) -> Option<Range<usize>> {
    let start = from + writes[from..].iter().position(|write| !write.is_finished())?;
    let consecutive = |pair: &[PageWrite<'_>]| {
        !pair[1].is_finished() && pair[0].entry().offset().checked_add(1) == Some(pair[1].entry().offset())
    };
    Some(start..start + 1 + writes[start..].windows(2).take_while(|pair| consecutive(pair)).count())
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
        for (direct, ring) in [(false, false), (false, true), (true, false), (true, true)] {
            let path = dir.path().join(format!("swap{direct}{ring}"));
            let device = match FileDevice::open(&path, 256, direct) {
                Err(error) if direct => {
                    eprintln!("skipped: O_DIRECT: {error}");
                    continue;
                }
                device => device.unwrap().with_io_uring(ring),
            };
            if let WriteMethod::IoUringRefused { reason } = device.write_method() {
                assert!(ring);
                eprintln!("skipped: io_uring: {reason}");
            }
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
            let beyond = [page(1), page(2), page(3)];
            let mut writes: Vec<PageWrite<'_>> = (254..)
                .zip(&beyond)
                .map(|(slot, page)| PageWrite::new(SwapEntry::new(5, slot), page))
                .collect();
            writes.remove(1);
            device.write_batch(&mut writes);
            let results: Vec<bool> = writes.into_iter().map(|write| write.into_result().is_ok()).collect();
            assert_eq!(results, [true, false], "a slot that is not there fails alone");
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
