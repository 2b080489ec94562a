//! Raw DEFLATE: an encoder whose streams Intel IAA can read, and a reader of any stream.
//!
//! The encoder is our own, because the device asks for what general ones do not promise at speed: no match
//! over 4096 bytes back, and no dynamic header. A stream is one block of the fixed Huffman code or, where
//! that would be longer than the data, stored blocks; both are plain DEFLATE. The reader is `zlib-rs` with
//! its full window, so that it also reads what other encoders and the device's dynamic mode have written.

mod bits;
mod dynamic;
mod encode;
mod fixed;
mod matches;
mod symbols;
pub mod tree;

use zlib_rs::{Inflate, InflateFlush, Status};

use self::bits::Overflow;
use self::dynamic::Dynamic;
use self::matches::Seen;
use crate::decode_error::reported;
use crate::{Codec, DecodeError, MAX_INPUT};

/// Most data a stored block can hold, and the bytes it adds.
const STORED_MAX: usize = 65535;
const STORED_HEADER: usize = 5;

/// Window of the reader, as a power of two: the largest that DEFLATE knows.
const WINDOW_BITS: u8 = 15;

/// Length of `len` bytes as stored blocks: no stream is longer.
pub(crate) const fn max_compressed_len(len: usize) -> usize {
    let blocks = if len == 0 { 1 } else { len.div_ceil(STORED_MAX) };
    len + STORED_HEADER * blocks
}

/// DEFLATE compressor and decompressor of one thread, with the memory they reuse.
pub struct Deflate {
    seen: Seen,
    dynamic: Dynamic,
    inflate: Inflate,
}

impl Deflate {
    /// Takes all the memory that later calls use.
    pub fn new() -> Deflate {
        Deflate { seen: Seen::new(), dynamic: Dynamic::new(), inflate: Inflate::new(false, WINDOW_BITS) }
    }

    /// Compresses `src` into the front of `dst` as one raw stream and returns the stream's length.
    ///
    /// `None` if the stream does not fit, or if `src` is longer than [`MAX_INPUT`]. A `dst` of any length is
    /// tried, up to the first byte that does not fit: a caller who keeps nothing above some length gives a
    /// `dst` of that length, and pays less for what does not compress. The stream does not depend on the
    /// length of `dst`. Bytes of `dst` beyond the returned length may change.
    pub fn compress(&mut self, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        compress(src, dst, |dst| encode::fixed_block(&mut self.seen, src, dst))
    }

    /// As [`compress`](Deflate::compress), but with Huffman codes of its own for each page or so of `src`, where that
    /// is shorter: a denser stream that takes longer to make.
    pub fn compress_dynamic(&mut self, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        compress(src, dst, |dst| self.dynamic.blocks(&mut self.seen, src, dst))
    }

    /// Decodes the raw stream `src`, of any encoder, into `dst`, which must have exactly the decoded length.
    ///
    /// # Errors
    /// [`DecodeError`] if `src` is not one whole stream of that length, with nothing after it. `dst` then
    /// holds garbage made of `src` and of what the caller had in `dst`, and nothing else.
    pub fn decompress(&mut self, src: &[u8], dst: &mut [u8]) -> Result<(), DecodeError> {
        let (codec, expected, src_len) = (Codec::Deflate, dst.len(), src.len());
        // A reset forgets the window's contents, so that no distance reaches an earlier stream. It also sets
        // the window to 15 bits, whatever it was: the very size that it has here.
        self.inflate.reset(false);
        let status = self.inflate.decompress(src, dst, InflateFlush::Finish);
        let used = self.inflate.total_in() as usize;
        let decoded = self.inflate.total_out() as usize;
        match status {
            Ok(Status::StreamEnd) if decoded < expected => {
                Err(DecodeError::TooShort { codec, expected: reported(expected), decoded: reported(decoded) })
            }
            Ok(Status::StreamEnd) if used < src_len => {
                Err(DecodeError::TrailingBytes { codec, used: reported(used), src_len: reported(src_len) })
            }
            Ok(Status::StreamEnd) => Ok(()),
            // Either side may have run out. One more byte of room tells which.
            Ok(_) => {
                let _ = self.inflate.decompress(&src[used..], &mut [0], InflateFlush::Finish);
                if self.inflate.total_out() as usize > expected {
                    Err(DecodeError::TooLong { codec, expected: reported(expected) })
                } else {
                    Err(DecodeError::Truncated { codec, src_len: reported(src_len) })
                }
            }
            Err(_) => Err(DecodeError::Malformed { codec, decoded: reported(decoded) }),
        }
    }
}

impl Default for Deflate {
    fn default() -> Deflate {
        Deflate::new()
    }
}

/// Compresses `src` with `encode`, or stores it, if one of the two fits.
#[inline(always)]
fn compress(
    src: &[u8],
    dst: &mut [u8],
    encode: impl FnOnce(&mut [u8]) -> Result<usize, Overflow>,
) -> Option<usize> {
    if src.len() > MAX_INPUT {
        return None;
    }
    let stored_len = max_compressed_len(src.len());
    let limit = dst.len().min(stored_len);
    match encode(&mut dst[..limit]) {
        Ok(len) => Some(len),
        Err(Overflow) if stored_len <= dst.len() => Some(store(src, dst)),
        Err(Overflow) => None,
    }
}

/// Writes `src` as stored blocks, for which `dst` is known to have room, and returns their length.
fn store(src: &[u8], dst: &mut [u8]) -> usize {
    let mut at = 0;
    let mut blocks = src.chunks(STORED_MAX).peekable();
    while let Some(block) = blocks.next() {
        // One byte says last or not, then stored; the length follows, and its complement.
        let len = block.len() as u16;
        dst[at] = u8::from(blocks.peek().is_none());
        dst[at + 1..at + 3].copy_from_slice(&len.to_le_bytes());
        dst[at + 3..at + STORED_HEADER].copy_from_slice(&(!len).to_le_bytes());
        at += STORED_HEADER;
        dst[at..at + block.len()].copy_from_slice(block);
        at += block.len();
    }
    at
}
