//! LZ4 blocks: those of pages by code of our own, others by `lz4_flex`.
//!
//! The codec of a machine without a device: it decodes several times faster than any DEFLATE. A block has no
//! frame, no length and no checksum; whoever stores it keeps both lengths and checks the page's CRC-32. Pages are compressed
//! in safe code, and decoded with AVX2 where the CPU has it and the feature `simd` is on, else by `lz4_flex` too. All
//! of them read the same blocks, and refuse the same.

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod avx2;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod decode;
mod encode;

use lz4_flex::block::{self, CompressTable, DecompressError};

use self::encode::Encoder;
use crate::decode_error::reported;
use crate::{Codec, DecodeError, MAX_INPUT};

/// Inputs from this length on need a match table of 32-bit positions.
const LONG: usize = u16::MAX as usize;

const PAGE: usize = 4096;
/// No match is shorter.
const MIN_MATCH: usize = 4;

/// Where a sequence begins, in the block and in the page.
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
#[derive(Clone, Copy)]
struct At {
    src: usize,
    page: usize,
}

/// Output bytes without which `lz4_flex` does not start.
pub(crate) const fn max_compressed_len(len: usize) -> usize {
    block::get_maximum_output_size(len)
}

/// LZ4 compressor and decompressor of one thread, with the memory they reuse.
pub struct Lz4 {
    short: CompressTable,
    long: CompressTable,
    page: Box<Encoder>,
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    avx2: Option<avx2::Avx2>,
}

impl Lz4 {
    /// Takes all the memory that later calls use.
    pub fn new() -> Lz4 {
        // Two tables, because one that has grown for a long input stays large, and then costs each page twice
        // the clearing and a worse cache.
        Lz4 {
            short: CompressTable::small(),
            long: CompressTable::large(),
            page: Box::new(Encoder::EMPTY),
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            avx2: avx2::Avx2::new(),
        }
    }

    /// Compresses `src` into the front of `dst` as one block and returns the block's length.
    ///
    /// `None` if `src` is longer than [`MAX_INPUT`], or if `dst` is shorter than
    /// [`max_compressed_len`](crate::max_compressed_len) of `src`: the encoder does not begin what might not fit,
    /// however well `src` would have compressed. Bytes of `dst` beyond the returned length may change.
    pub fn compress(&mut self, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        if src.len() > MAX_INPUT || dst.len() < crate::max_compressed_len(src.len()) {
            return None;
        }
        if let Ok(page) = src.try_into()
            && let Some(dst) = dst.first_chunk_mut()
        {
            return Some(self.page.encode(page, dst));
        }
        let table = if src.len() < LONG { &mut self.short } else { &mut self.long };
        block::compress_into_with_table(src, dst, table).ok()
    }

    /// Decodes the block `src` into `dst`, which must have exactly the decoded length.
    ///
    /// # Errors
    /// [`DecodeError`] if `src` is not one whole block of that length. `dst` then holds garbage made of `src` and
    /// of what the caller had in `dst`, and nothing else.
    pub fn decompress(&mut self, src: &[u8], dst: &mut [u8]) -> Result<(), DecodeError> {
        #[cfg(all(feature = "simd", target_arch = "x86_64"))]
        if let Some(avx2) = self.avx2
            && let Ok(page) = <&mut [u8; PAGE]>::try_from(&mut *dst)
        {
            let stopped = avx2.sequences(src, page);
            return decode::end(src, page, stopped);
        }
        let (codec, expected) = (Codec::Lz4, reported(dst.len()));
        match block::decompress_into(src, dst) {
            // A block ends where its bytes end, so nothing can trail.
            Ok(decoded) if decoded == dst.len() => Ok(()),
            Ok(decoded) => Err(DecodeError::TooShort { codec, expected, decoded: reported(decoded) }),
            Err(DecompressError::OutputTooSmall { .. }) => Err(DecodeError::TooLong { codec, expected }),
            Err(DecompressError::LiteralOutOfBounds | DecompressError::ExpectedAnotherByte) => {
                Err(DecodeError::Truncated { codec, src_len: reported(src.len()) })
            }
            // Matches that begin before the output, or nowhere (offset zero).
            Err(_) => Err(DecodeError::Malformed { codec, decoded: 0 }),
        }
    }
}

impl Default for Lz4 {
    fn default() -> Lz4 {
        Lz4::new()
    }
}
