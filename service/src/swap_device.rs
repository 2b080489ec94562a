//! Where writeback goes.

mod file;
mod memory;
#[cfg(feature = "io-uring")]
mod ring;

use std::io;

use zfolio_accel::PageBytes;

use crate::folio::SwapEntry;

pub use file::{FileDevice, WriteMethod};
pub use memory::MemoryDevice;

/// A place for pages that leave the store: slots of a page each. Given to [`Zswap::swapon_with_device`].
///
/// - No lock of the store is held while it is called, so it may take its time.
/// - It must not call back into the store.
/// - Of one slot, at most one read or write is under way at a time. Different slots may come from several threads.
/// - A page is dropped from the store only after its write has returned success. What that means after a power cut
///   is the device's matter: the pool is RAM, and swap is not storage.
///
/// [`Zswap::swapon_with_device`]: crate::Zswap::swapon_with_device
pub trait SwapDevice: Send + Sync {
    /// Writes the page of `entry`, so that a later read of it gives these bytes.
    ///
    /// # Errors
    /// The device's; the page stays in the store.
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()>;

    /// Writes several pages, in ascending order of their entries, and finishes each. One that is not finished counts as
    /// failed.
    fn write_batch(&self, writes: &mut [PageWrite<'_>]) {
        for write in writes {
            write.finish(self.write(write.entry(), write.page()));
        }
    }

    /// Reads what was last written for `entry`.
    ///
    /// # Errors
    /// The device's; `page` is undefined.
    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()>;
}

/// One page of a batch.
#[derive(Debug)]
pub struct PageWrite<'a> {
    entry: SwapEntry,
    page: &'a PageBytes,
    result: Option<io::Result<()>>,
}

impl<'a> PageWrite<'a> {
    /// A page that is to be written.
    pub fn new(entry: SwapEntry, page: &'a PageBytes) -> PageWrite<'a> {
        PageWrite { entry, page, result: None }
    }

    /// Where it goes.
    pub fn entry(&self) -> SwapEntry {
        self.entry
    }

    /// Its bytes.
    pub fn page(&self) -> &'a PageBytes {
        self.page
    }

    /// Says how it went.
    pub fn finish(&mut self, result: io::Result<()>) {
        self.result = Some(result);
    }

    /// Whether somebody said.
    pub fn is_finished(&self) -> bool {
        self.result.is_some()
    }

    /// How it went; an error if nobody said.
    pub fn into_result(self) -> io::Result<()> {
        self.result.unwrap_or_else(|| Err(io::Error::other("the swap device said nothing of this page")))
    }
}
