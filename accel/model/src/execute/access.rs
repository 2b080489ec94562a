//! Memory as one descriptor reaches it: with page requests if it blocks on faults, and a limit to them.

use std::cell::Cell;

use super::stop::Stop;
use crate::memory::{Fault, Memory};

/// Page requests of one descriptor: more than it can touch pages is a memory that never keeps one.
const MOST_REQUESTS: u32 = 1 << 20;

/// How many bytes are asked for at once.
pub(crate) const CHUNK: usize = 4096;

/// Memory for the time of one descriptor.
pub(crate) struct Access<'a> {
    memory: &'a dyn Memory,
    requests_left: Option<Cell<u32>>,
}

impl<'a> Access<'a> {
    pub(crate) fn new(memory: &'a dyn Memory, block_on_fault: bool) -> Access<'a> {
        Access { memory, requests_left: block_on_fault.then(|| Cell::new(MOST_REQUESTS)) }
    }

    pub(crate) fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), Stop> {
        self.blocking(|| self.memory.read(addr, into))
    }

    pub(crate) fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Stop> {
        self.blocking(|| self.memory.write(addr, bytes))
    }

    fn blocking(&self, mut access: impl FnMut() -> Result<(), Fault>) -> Result<(), Stop> {
        let mut last = None;
        loop {
            let Err(fault) = access() else { return Ok(()) };
            let Some(left) = &self.requests_left else { return Err(Stop::Fault(fault)) };
            // The same address twice: the answer to the page request was of no use.
            if last == Some(fault) || left.get() == 0 || !self.memory.request_page(fault) {
                return Err(Stop::PageRequest(fault));
            }
            left.set(left.get() - 1);
            last = Some(fault);
        }
    }
}
