//! Where writeback goes.

use std::io;

use zfolio_accel::PageBytes;

use crate::folio::SwapEntry;

/// A place for pages that leave the store. Nothing calls it yet: writeback comes with the shrinker. It is here
/// because the rules it must keep are those that the slot word is made for.
///
/// - No lock of the store is held while it is called, so it may take its time.
/// - It must not call back into the store.
/// - A page is dropped from the store only after its write has returned success.
pub trait SwapDevice: Send + Sync {
    /// Writes the page of `entry`, so that a later read of it gives these bytes.
    ///
    /// # Errors
    /// The device's; the page stays in the store.
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()>;
}
