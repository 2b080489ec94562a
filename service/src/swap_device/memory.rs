//! A swap device in memory, for tests and for measuring without a disk.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use zfolio_accel::PageBytes;

use crate::folio::SwapEntry;
use crate::swap_device::SwapDevice;

/// Pages as they are, uncompressed, in the heap: it saves nothing.
#[derive(Default)]
pub struct MemoryDevice {
    pages: Mutex<HashMap<SwapEntry, Box<PageBytes>>>,
}

impl MemoryDevice {
    /// A device without pages.
    pub fn new() -> MemoryDevice {
        MemoryDevice::default()
    }
}

impl SwapDevice for MemoryDevice {
    fn write(&self, entry: SwapEntry, page: &PageBytes) -> io::Result<()> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(entry, Box::new(*page));
        Ok(())
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()> {
        match self.pages.lock().unwrap_or_else(PoisonError::into_inner).get(&entry) {
            Some(written) => {
                page.copy_from_slice(&written[..]);
                Ok(())
            }
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("{entry} was never written"))),
        }
    }
}
