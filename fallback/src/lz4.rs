//! LZ4 blocks: those of pages by code of our own, others by `lz4_flex`.
//!
//! The codec of a machine without a device: it decodes several times faster than any DEFLATE. A block has no
//! frame, no length and no checksum; whoever stores it keeps both lengths and checks the page's CRC-32. Pages are compressed
//! in safe code, and decoded with AVX-512 or AVX2 where the CPU has it and the feature `simd` is on, else by `lz4_flex`
//! too. All of them read the same blocks, and refuse the same.

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod avx2;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod avx512;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod decode;
mod encode;

use lz4_flex::block::{self, CompressTable, DecompressError};

use self::encode::Encoder;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
use crate::cpu::is_sapphire_rapids_or_later;
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
    avx512: Option<avx512::Avx512>,
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
            // Where it was measured to be faster than AVX2.
            avx512: avx512::Avx512::new().filter(|_| is_sapphire_rapids_or_later()),
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            avx2: avx2::Avx2::new(),
        }
    }

    /// With AVX-512 also where AVX2 may be faster; `None` if the CPU has it not, or it is not built in.
    pub fn avx512() -> Option<Lz4> {
        #[cfg(all(feature = "simd", target_arch = "x86_64"))]
        return avx512::Avx512::new().map(|avx512| Lz4 { avx512: Some(avx512), ..Lz4::new() });
        #[cfg(not(all(feature = "simd", target_arch = "x86_64")))]
        None
    }

    /// Without AVX-512, whatever the CPU has; `None` if it has no AVX2 either, or they are not built in.
    pub fn avx2() -> Option<Lz4> {
        #[cfg(all(feature = "simd", target_arch = "x86_64"))]
        return avx2::Avx2::new().map(|avx2| Lz4 { avx512: None, avx2: Some(avx2), ..Lz4::new() });
        #[cfg(not(all(feature = "simd", target_arch = "x86_64")))]
        None
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
        if let Ok(page) = <&mut [u8; PAGE]>::try_from(&mut *dst) {
            if let Some(avx512) = &mut self.avx512 {
                let done = avx512.decode(src, page);
                return if done { Ok(()) } else { decode::plain(src, page, At { src: 0, page: 0 }) };
            }
            if let Some(avx2) = self.avx2 {
                let stopped = avx2.sequences(src, page);
                return decode::end(src, page, stopped);
            }
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
