//! The compressor's output: bits into the destination, or what is left of them into the AECS.

use idxd_sys::error_code as error;

use super::access::{Access, CHUNK};
use super::stop::Stop;

/// The device writes so many bytes at a time. What does not fill them stays in the accumulator, unless it is flushed.
const UNIT: usize = 32;

/// Output of one descriptor.
pub(crate) struct Sink<'a> {
    access: &'a Access<'a>,
    buffer: &'a mut [u8; CHUNK],
    end: usize,
    waiting: u64,
    waiting_len: u32,
    addr: u64,
    left: u64,
    written: u32,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(
        access: &'a Access<'a>,
        buffer: &'a mut [u8; CHUNK],
        (addr, size): (u64, u32),
    ) -> Sink<'a> {
        Sink { access, buffer, end: 0, waiting: 0, waiting_len: 0, addr, left: u64::from(size), written: 0 }
    }

    /// Appends the lowest `len` bits of `bits`, at most 32, whose others are zero.
    #[inline(always)]
    pub(crate) fn put(&mut self, bits: u32, len: u32) -> Result<(), Stop> {
        self.waiting |= u64::from(bits) << self.waiting_len;
        self.waiting_len += len;
        if self.waiting_len >= 32 {
            self.store(4)?;
        }
        Ok(())
    }

    /// Appends the first `len` bits of `bytes`.
    pub(crate) fn put_all(&mut self, bytes: &[u8], len: u32) -> Result<(), Stop> {
        for (place, &byte) in bytes[..len.div_ceil(8) as usize].iter().enumerate() {
            let bits = (len - 8 * place as u32).min(8);
            self.put(u32::from(byte) & ((1 << bits) - 1), bits)?;
        }
        Ok(())
    }

    /// Appends zero bits up to the end of a byte.
    pub(crate) fn pad(&mut self) -> Result<(), Stop> {
        self.put(0, self.waiting_len.wrapping_neg() % 8)
    }

    fn store(&mut self, bytes: usize) -> Result<(), Stop> {
        if self.end + bytes > self.buffer.len() {
            self.write(self.end)?;
        }
        self.buffer[self.end..self.end + bytes].copy_from_slice(&self.waiting.to_le_bytes()[..bytes]);
        self.end += bytes;
        self.waiting >>= 8 * bytes;
        self.waiting_len -= 8 * bytes as u32;
        Ok(())
    }

    /// Writes the first `len` bytes of the buffer, which holds nothing else.
    fn write(&mut self, len: usize) -> Result<(), Stop> {
        self.left = self.left.checked_sub(len as u64).ok_or(Stop::Error(error::UNRECOVERABLE_OVERFLOW))?;
        if len > 0 {
            self.access.write(self.addr, &self.buffer[..len])?;
        }
        self.addr = self.addr.wrapping_add(len as u64);
        self.written += len as u32;
        self.end = 0;
        Ok(())
    }

    /// Writes all, the last byte filled with zeros: bytes written, and how many bits of the last one count (0 for all).
    pub(crate) fn flush(mut self) -> Result<(u32, u8), Stop> {
        let bits = self.waiting_len % 8;
        self.pad()?;
        self.store(self.waiting_len as usize / 8)?;
        self.write(self.end)?;
        Ok((self.written, bits as u8))
    }

    /// Writes whole units: bytes written; and puts the rest into `accumulator`, of which so many bits count then.
    pub(crate) fn hold_back(mut self, accumulator: &mut [u8; 256]) -> Result<(u32, u32), Stop> {
        self.store(self.waiting_len as usize / 8)?;
        let whole = self.end - self.end % UNIT;
        let rest = self.end - whole;
        accumulator.fill(0);
        accumulator[..rest].copy_from_slice(&self.buffer[whole..self.end]);
        accumulator[rest] = self.waiting as u8;
        self.write(whole)?;
        Ok((self.written, 8 * rest as u32 + self.waiting_len))
    }
}
