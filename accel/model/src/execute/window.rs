//! The decompressor's output: a buffer that begins with the history and is written to the destination when it is full.

use super::access::Access;
use super::checksum::Checksums;
use super::stop::Stop;

/// How far back a match may reach.
pub(crate) const HISTORY: usize = 4096;

/// What is decompressed between two writes to memory, at most.
const ROOM: usize = 16 * 1024;

/// A buffer that can be used again.
pub(crate) type Buffer = [u8; HISTORY + ROOM];

pub(crate) static EMPTY: Buffer = [0; HISTORY + ROOM];

/// Output of one descriptor.
pub(crate) struct Window<'a> {
    access: &'a Access<'a>,
    buffer: &'a mut Buffer,
    /// Where history begins, where output begins that was not written yet, and where it ends.
    begin: usize,
    unwritten: usize,
    end: usize,
    addr: u64,
    /// Bytes that may still come after `end`.
    left: u64,
    /// Bytes that are written, or would be.
    written: u64,
    suppressed: bool,
    checksums: Checksums,
}

impl<'a> Window<'a> {
    /// An empty window that writes at most `size` bytes at `addr`, or if `suppressed` any number nowhere.
    pub(crate) fn new(
        access: &'a Access<'a>,
        buffer: &'a mut Buffer,
        (addr, size): (u64, u32),
        suppressed: bool,
        checksums: Checksums,
    ) -> Window<'a> {
        let left = u64::from(if suppressed { u32::MAX } else { size });
        Window {
            access,
            buffer,
            begin: HISTORY,
            unwritten: HISTORY,
            end: HISTORY,
            addr,
            left,
            written: 0,
            suppressed,
            checksums,
        }
    }

    /// Puts `history`, of which at most [`HISTORY`] bytes count, before the output.
    pub(crate) fn set_history(&mut self, history: &[u8]) {
        let history = &history[history.len().saturating_sub(HISTORY)..];
        self.begin = HISTORY - history.len();
        self.buffer[self.begin..HISTORY].copy_from_slice(history);
    }

    /// The last bytes of output, or of the history before it.
    pub(crate) fn history(&self) -> &[u8] {
        &self.buffer[self.begin.max(self.end - HISTORY)..self.end]
    }

    /// How many bytes a match could reach back.
    #[inline(always)]
    pub(crate) fn reach(&self) -> usize {
        self.end - self.begin
    }

    /// How many bytes may still come.
    #[inline(always)]
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Appends a byte; there is one left.
    #[inline(always)]
    pub(crate) fn push(&mut self, byte: u8) -> Result<(), Stop> {
        if self.end == self.buffer.len() {
            self.make_room()?;
        }
        self.buffer[self.end] = byte;
        self.end += 1;
        self.left -= 1;
        Ok(())
    }

    /// Appends `len` bytes from `distance` bytes back; both are in reach, and so many are left.
    #[inline(always)]
    pub(crate) fn copy(&mut self, len: usize, distance: usize) -> Result<(), Stop> {
        if self.end + len > self.buffer.len() {
            self.make_room()?;
        }
        let from = self.end - distance;
        if distance >= len {
            self.buffer.copy_within(from..from + len, self.end);
        } else {
            for at in 0..len {
                self.buffer[self.end + at] = self.buffer[from + at];
            }
        }
        self.end += len;
        self.left -= len as u64;
        Ok(())
    }

    /// Writes what was not written yet.
    pub(crate) fn flush(&mut self) -> Result<(), Stop> {
        let new = &self.buffer[self.unwritten..self.end];
        self.checksums.update(new);
        if !self.suppressed && !new.is_empty() {
            self.access.write(self.addr, new)?;
        }
        self.addr = self.addr.wrapping_add(new.len() as u64);
        self.written += new.len() as u64;
        self.unwritten = self.end;
        Ok(())
    }

    /// Bytes that were written, or would have been, and their checksums; after a flush.
    pub(crate) fn written(&self) -> (u64, Checksums) {
        (self.written, self.checksums)
    }

    #[cold]
    fn make_room(&mut self) -> Result<(), Stop> {
        self.flush()?;
        let kept = self.reach().min(HISTORY);
        self.buffer.copy_within(self.end - kept..self.end, HISTORY - kept);
        self.begin = HISTORY - kept;
        self.unwritten = HISTORY;
        self.end = HISTORY;
        Ok(())
    }
}
