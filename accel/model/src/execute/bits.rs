//! The decompressor's input: bits that the AECS held back, then those of source 1, less the ignored ones at its end.
//!
//! Bits wait in one word. Whoever takes no more than [`Bits::WAITING`] at a time asks for them once only, and leaves what is
//! too few for a whole symbol where it is: what waits at the end goes back to the AECS.

use super::access::{Access, CHUNK};
use super::stop::Stop;

/// Bits of one descriptor, lowest first.
pub(crate) struct Bits<'a> {
    access: &'a Access<'a>,
    /// Words of the AECS that are yet to come, last first: value and number of bits.
    held_back: Vec<(u64, u32)>,
    addr: u64,
    /// Bytes of source 1 that have bits to be read.
    size: u64,
    /// Bytes of source 1 that are not in `chunk` yet.
    bytes_left: u64,
    /// Bits of source 1 that do not wait yet.
    bits_left: u64,
    chunk: &'a mut [u8; CHUNK],
    at: usize,
    end: usize,
    waiting: u64,
    waiting_len: u32,
    /// Bits of the last byte that are ignored, once it waits.
    cut: u32,
    /// Offset of the end of the input, as indexes count.
    end_offset: u64,
}

impl<'a> Bits<'a> {
    /// As many bits wait after a refill, unless the input ends.
    pub(crate) const WAITING: u32 = 56;

    pub(crate) fn new(
        access: &'a Access<'a>,
        held_back: Vec<(u64, u32)>,
        (addr, size): (u64, u32),
        ignored: u32,
        offset: u32,
        chunk: &'a mut [u8; CHUNK],
    ) -> Bits<'a> {
        let bits_left = (u64::from(size) * 8).saturating_sub(u64::from(ignored));
        let all = bits_left + held_back.iter().map(|&(_, len)| u64::from(len)).sum::<u64>();
        Bits {
            access,
            held_back,
            addr,
            size: bits_left.div_ceil(8),
            bytes_left: bits_left.div_ceil(8),
            bits_left,
            chunk,
            at: 0,
            end: 0,
            waiting: 0,
            waiting_len: 0,
            cut: 0,
            end_offset: u64::from(offset) + all,
        }
    }

    /// The offset of the next bit.
    pub(crate) fn offset(&self) -> u64 {
        let held_back: u64 = self.held_back.iter().map(|&(_, len)| u64::from(len)).sum();
        self.end_offset - self.bits_left - held_back - u64::from(self.waiting_len)
    }

    /// Lets [`Bits::WAITING`] bits wait, or all there are.
    #[inline(always)]
    pub(crate) fn refill(&mut self) -> Result<(), Stop> {
        if self.waiting_len >= Bits::WAITING {
            return Ok(());
        }
        if let Some(eight) = self.chunk[..self.end].get(self.at..).and_then(|rest| rest.first_chunk::<8>())
            && self.bits_left >= 64
        {
            self.waiting |= u64::from_le_bytes(*eight) << self.waiting_len;
            let bytes = (63 - self.waiting_len) / 8;
            self.at += bytes as usize;
            self.waiting_len += bytes * 8;
            self.bits_left -= u64::from(bytes * 8);
            // What lies above are bits of bytes that come again.
            self.waiting &= u64::MAX >> (64 - self.waiting_len);
            return Ok(());
        }
        self.refill_slowly()
    }

    #[cold]
    fn refill_slowly(&mut self) -> Result<(), Stop> {
        while self.waiting_len < Bits::WAITING {
            if let Some((word, len)) = self.held_back.last_mut() {
                let taken = (*len).min(64 - self.waiting_len);
                self.waiting |= (*word & low(taken)) << self.waiting_len;
                self.waiting_len += taken;
                *len -= taken;
                *word = word.checked_shr(taken).unwrap_or(0);
                if *len == 0 {
                    self.held_back.pop();
                }
                continue;
            }
            if self.bits_left == 0 {
                break;
            }
            if self.at == self.end {
                // Never across the end of a page, so that a fault is that of a byte which is needed.
                let in_page = CHUNK as u64 - self.addr % CHUNK as u64;
                let len = self.bytes_left.min(in_page);
                self.end = len as usize;
                self.at = 0;
                self.access.read(self.addr, &mut self.chunk[..self.end])?;
                self.addr = self.addr.wrapping_add(len);
                self.bytes_left -= len;
            }
            let len = self.bits_left.min(8) as u32;
            self.waiting |= (u64::from(self.chunk[self.at]) & low(len)) << self.waiting_len;
            self.at += 1;
            self.waiting_len += len;
            self.bits_left -= u64::from(len);
            self.cut = 8 - len;
        }
        Ok(())
    }

    /// The bits that wait, the next one lowest; bits beyond them are zero.
    #[inline(always)]
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    #[inline(always)]
    pub(crate) fn waiting_len(&self) -> u32 {
        self.waiting_len
    }

    /// Takes `len` bits of those that wait.
    #[inline(always)]
    pub(crate) fn take(&mut self, len: u32) -> u64 {
        debug_assert!(len <= self.waiting_len && len < 64);
        let bits = self.waiting & low(len);
        self.waiting >>= len;
        self.waiting_len -= len;
        bits
    }

    /// How many bits there are before the next byte begins.
    pub(crate) fn to_byte(&self) -> u32 {
        (self.waiting_len + self.cut) % 8
    }

    /// Ends reading: what still waits, in order, and how many bytes of source 1 were never needed. Whole bytes of source 1
    /// that wait are among these if `give_back`.
    pub(crate) fn finish(mut self, give_back: bool) -> (Vec<(u64, u32)>, u64) {
        let mut unread = self.bytes_left + (self.end - self.at) as u64;
        if give_back {
            // Source 1 came last, so what waits ends with its bytes.
            let whole = u64::from((self.waiting_len + self.cut) / 8).min(self.size - unread);
            if whole > 0 {
                unread += whole;
                self.waiting_len = self.waiting_len + self.cut - 8 * whole as u32;
                self.waiting &= low(self.waiting_len);
            }
        }
        if self.waiting_len > 0 {
            self.held_back.push((self.waiting, self.waiting_len));
        }
        self.held_back.reverse();
        (self.held_back, unread)
    }
}

/// The lowest `len` bits.
#[inline(always)]
fn low(len: u32) -> u64 {
    u64::MAX.checked_shr(64 - len).unwrap_or(0)
}
