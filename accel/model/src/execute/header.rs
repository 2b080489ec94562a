//! The header of a block, as the device reads it: more strictly than the format asks for.
//!
//! A header that the input ends within is kept whole and read again with the bits that follow; so the log of what
//! was taken is as large as the AECS can hold back.

use idxd_sys::aecs::{DISTANCES, LITERALS};
use idxd_sys::error_code as error;

use super::bits::Bits;
use super::codes::{Code, DISTANCE_PLACES, LITERAL_PLACES, Lengths};
use super::stop::Stop;

/// Why a header was not read.
pub(crate) enum NoHeader {
    /// The input ends within it.
    Ends,
    Stop(Stop),
}

impl From<Stop> for NoHeader {
    fn from(stop: Stop) -> NoHeader {
        NoHeader::Stop(stop)
    }
}

/// What a header says.
pub(crate) enum Block {
    Stored { len: u32 },
    Fixed,
    Dynamic(Box<Lengths>),
}

/// The bits of a header that were taken already.
pub(crate) struct Header<'a, 'b> {
    bits: &'b mut Bits<'a>,
    taken: Vec<(u64, u32)>,
}

const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

impl<'a, 'b> Header<'a, 'b> {
    pub(crate) fn new(bits: &'b mut Bits<'a>) -> Header<'a, 'b> {
        Header { bits, taken: Vec::new() }
    }

    /// What was taken, to be read again.
    pub(crate) fn taken(self) -> Vec<(u64, u32)> {
        self.taken
    }

    /// Reads a header: whether its block is the last one, and what it says.
    pub(crate) fn read(&mut self, strict: bool) -> Result<(bool, Block), NoHeader> {
        let last = self.take(1)? == 1;
        let block = match self.take(2)? {
            0 => self.stored()?,
            1 => Block::Fixed,
            2 => Block::Dynamic(self.dynamic(strict)?),
            _ => return err(error::INVALID_BLOCK_TYPE),
        };
        Ok((last, block))
    }

    fn stored(&mut self) -> Result<Block, NoHeader> {
        self.bits.refill()?;
        let padding = self.bits.to_byte();
        self.take(padding)?;
        let len = self.take(16)?;
        let complement = self.take(16)?;
        if len != complement ^ 0xffff {
            return err(error::INVALID_STORED_LENGTH);
        }
        Ok(Block::Stored { len: len as u32 })
    }

    fn dynamic(&mut self, strict: bool) -> Result<Box<Lengths>, NoHeader> {
        let literals = 257 + self.take(5)? as usize;
        if literals > LITERALS {
            return err(error::TOO_MANY_LL_CODES);
        }
        let distances = 1 + self.take(5)? as usize;
        if distances > DISTANCES {
            return err(error::TOO_MANY_D_CODES);
        }
        let given = 4 + self.take(4)? as usize;
        let mut lengths = [0; 19];
        for &place in &ORDER[..given] {
            lengths[place] = self.take(3)? as u8;
        }
        let mut code = Box::new(Code::EMPTY);
        if code.set(&lengths).is_err() {
            return err(error::BAD_CL_CODE_LENGTHS);
        }

        let mut all = [0_u8; LITERAL_PLACES + DISTANCE_PLACES];
        let total = literals + distances;
        let mut at = 0;
        while at < total {
            // The device reads two lists. For one that is not strict they are one.
            let begin = if strict && at >= literals { literals } else { 0 };
            let end = if strict && at < literals { literals } else { total };
            let (value, times) = match self.symbol(&code)? {
                16 if at == begin => {
                    return err(match at {
                        0 => error::FIRST_LL_CODE_IS_REPEAT,
                        _ => error::FIRST_D_CODE_IS_REPEAT,
                    });
                }
                16 => (all[at - 1], 3 + self.take(2)? as usize),
                17 => (0, 3 + self.take(3)? as usize),
                18 => (0, 11 + self.take(7)? as usize),
                len => (len as u8, 1),
            };
            if at + times > end {
                return err(match end == total {
                    true => error::WRONG_NUM_D_CODES,
                    false => error::WRONG_NUM_LL_CODES,
                });
            }
            all[at..at + times].fill(value);
            at += times;
        }

        let mut lengths = Box::new(Lengths::NONE);
        lengths.literals[..literals].copy_from_slice(&all[..literals]);
        lengths.distances[..distances].copy_from_slice(&all[literals..total]);
        if all[..literals].iter().all(|&len| len == 0) {
            return err(error::NO_LL_CODE);
        }
        Ok(lengths)
    }

    fn symbol(&mut self, code: &Code) -> Result<usize, NoHeader> {
        self.bits.refill()?;
        match code.find(self.bits.waiting()) {
            Some((symbol, len)) if len <= self.bits.waiting_len() => {
                self.take(len)?;
                Ok(symbol)
            }
            None if self.bits.waiting_len() >= 7 => err(error::BAD_CL_CODE),
            _ => Err(NoHeader::Ends),
        }
    }

    fn take(&mut self, len: u32) -> Result<u64, NoHeader> {
        self.bits.refill()?;
        if self.bits.waiting_len() < len {
            return Err(NoHeader::Ends);
        }
        let bits = self.bits.take(len);
        match self.taken.last_mut() {
            Some((word, count)) if *count + len <= 64 => {
                *word |= bits.checked_shl(*count).unwrap_or(0);
                *count += len;
            }
            _ if len > 0 => self.taken.push((bits, len)),
            _ => {}
        }
        Ok(bits)
    }
}

fn err<T>(code: u8) -> Result<T, NoHeader> {
    Err(NoHeader::Stop(Stop::Error(code)))
}
