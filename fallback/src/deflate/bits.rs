//! Writer of bits into a byte slice, lowest bit first, as DEFLATE wants them.
//!
//! The encoder puts up to 56 bits and then flushes; a flush stores eight bytes at once and keeps what does
//! not fill a byte. Near the end of the slice it stores only the bytes that count, so that a slice of exactly
//! the stream's length suffices.

/// The slice does not hold what was put.
#[derive(Debug)]
pub(super) struct Overflow;

/// Bits waiting to be stored, and the slice they go to.
pub(super) struct BitWriter<'a> {
    dst: &'a mut [u8],
    at: usize,
    waiting: u64,
    waiting_len: u32,
}

impl<'a> BitWriter<'a> {
    /// A writer at the first bit of `dst`.
    pub(super) fn new(dst: &'a mut [u8]) -> BitWriter<'a> {
        BitWriter { dst, at: 0, waiting: 0, waiting_len: 0 }
    }

    /// Appends the lowest `len` bits of `bits`, whose other bits are zero. At most 56 between two flushes.
    #[inline(always)]
    pub(super) fn put(&mut self, (bits, len): (u64, u32)) {
        debug_assert!(self.waiting_len + len < 64, "bits lost for want of a flush");
        self.waiting |= bits << (self.waiting_len & 63);
        self.waiting_len += len;
    }

    /// Stores every whole byte that waits.
    #[inline(always)]
    pub(super) fn flush(&mut self) -> Result<(), Overflow> {
        let whole = (self.waiting_len / 8) as usize;
        match self.dst.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut::<8>()) {
            Some(eight) => *eight = self.waiting.to_le_bytes(),
            // By value: a writer whose address is taken here would live in memory instead of registers.
            None => store_last(self.dst, self.at, self.waiting, whole)?,
        }
        self.at += whole;
        self.waiting >>= self.waiting_len & 0x38;
        self.waiting_len &= 7;
        Ok(())
    }

    /// Bits that still fit, besides those that wait.
    pub(super) fn room(&self) -> u64 {
        8 * (self.dst.len() - self.at) as u64 - u64::from(self.waiting_len)
    }

    /// Fills the last byte with zero bits and returns the number of bytes stored.
    pub(super) fn finish(mut self) -> Result<usize, Overflow> {
        self.waiting_len = self.waiting_len.next_multiple_of(8);
        self.flush()?;
        Ok(self.at)
    }
}

/// Stores the first `whole` bytes of `waiting` at `at`, where `dst` has no room for all eight.
#[cold]
#[inline(never)]
fn store_last(dst: &mut [u8], at: usize, waiting: u64, whole: usize) -> Result<(), Overflow> {
    let last = dst.get_mut(at..at + whole).ok_or(Overflow)?;
    last.copy_from_slice(&waiting.to_le_bytes()[..whole]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slice_of_exactly_the_streams_length_suffices() {
        for len in 0..40 {
            let mut dst = vec![0xee; len];
            let mut out = BitWriter::new(&mut dst);
            for byte in 0..len {
                out.put((byte as u64 & 0xf, 4));
                out.put((byte as u64 >> 4, 4));
                out.flush().unwrap();
            }
            assert_eq!(out.finish().unwrap(), len);
            assert!(dst.iter().enumerate().all(|(at, &byte)| usize::from(byte) == at));
        }
    }

    #[test]
    fn slice_one_byte_too_short_overflows_instead_of_being_overrun() {
        for len in 0..40 {
            let mut dst = vec![0; len];
            let mut out = BitWriter::new(&mut dst);
            let stored = (0..=len).all(|_| {
                out.put((0xff, 8));
                out.flush().is_ok()
            });
            assert!(!stored);
        }
    }
}
