//! The index of a stream: where its headers, mini-blocks and ends of block are, for random access.
//!
//! A mini-block is so many bytes of output that nothing in it refers to what came before. An entry is a bit offset and
//! the CRC of all output up to there.

use idxd_sys::error_code as error;

use super::access::Access;
use super::stop::Stop;
use super::window::Window;

/// Bytes of a mini-block by its number in the flags; 0 for none.
pub(crate) fn mini_block_size(number: u16) -> u32 {
    if number == 0 { 0 } else { 256 << number }
}

/// The index that one descriptor writes.
pub(crate) struct Index<'a> {
    access: &'a Access<'a>,
    addr: u64,
    left: u32,
    entries: u32,
    size: u32,
    filled: u32,
}

impl<'a> Index<'a> {
    /// An index of mini-blocks of `size` bytes, of which the first has `filled` already, to at most `room` bytes at `addr`.
    pub(crate) fn new(access: &'a Access<'a>, (addr, room): (u64, u32), size: u32, filled: u32) -> Index<'a> {
        Index { access, addr, left: room, entries: 0, size, filled: filled % size }
    }

    /// Bytes written, and how many bytes the mini-block has that is not full.
    pub(crate) fn finish(&self) -> (u32, u32) {
        (8 * self.entries, self.filled)
    }

    /// Output of `len` bytes, from `distance` bytes back unless that is 0, begins at bit `offset`.
    pub(crate) fn data(
        &mut self,
        offset: u64,
        window: &mut Window<'_>,
        (len, distance): (u32, u32),
    ) -> Result<(), Stop> {
        if self.filled == 0 {
            self.entry(offset, window)?;
        }
        if distance > self.filled {
            return Err(Stop::Error(error::DISTANCE_SPANS_MINI_BLOCKS));
        }
        if self.filled + len > self.size {
            return Err(Stop::Error(error::LENGTH_SPANS_MINI_BLOCKS));
        }
        self.filled = (self.filled + len) % self.size;
        Ok(())
    }

    /// A block's end is from bit `begin` to bit `end`.
    pub(crate) fn end_of_block(&mut self, begin: u64, end: u64, window: &mut Window<'_>) -> Result<(), Stop> {
        self.filled = 0;
        self.entry(begin, window)?;
        self.entry(end, window)
    }

    fn entry(&mut self, offset: u64, window: &mut Window<'_>) -> Result<(), Stop> {
        window.flush()?;
        let (_, checksums) = window.written();
        self.left = self.left.checked_sub(8).ok_or(Stop::Error(error::UNRECOVERABLE_OVERFLOW))?;
        let entry = u64::from(checksums.crc()) << 32 | offset & 0xffff_ffff;
        self.access.write(self.addr, &entry.to_le_bytes())?;
        self.addr = self.addr.wrapping_add(8);
        self.entries += 1;
        Ok(())
    }
}
