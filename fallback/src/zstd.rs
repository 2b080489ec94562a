//! Zstandard frames, by the C library: for pages that are cold and are compressed again.
//!
//! Denser than everything else here and slower in both directions, so nothing stores with it unless asked to. It takes single
//! pages, as vw does, and keeps the memory of a thread's contexts to what they need for those.

use zstd_safe::zstd_sys::ZSTD_ErrorCode::{ZSTD_error_dstSize_tooSmall, ZSTD_error_srcSize_wrong};
use zstd_safe::{CCtx, CParameter, DCtx};

use crate::decode_error::reported;
use crate::{Codec, DecodeError};

const PAGE: usize = 4096;
/// zstd's own default. Higher levels gain little on 4 KiB and take several times as long.
const LEVEL: i32 = 3;

/// Zstandard compressor and decompressor of one thread, with the memory they reuse.
pub struct Zstd {
    compressor: CCtx<'static>,
    decompressor: DCtx<'static>,
}

impl Zstd {
    /// Takes all the memory that later calls use.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn new() -> Zstd {
        let mut compressor = CCtx::create();
        compressor.set_parameter(CParameter::CompressionLevel(LEVEL)).expect("zstd knows its own default");
        let mut zstd = Zstd { compressor, decompressor: DCtx::create() };
        // The compressor takes its tables when it is first used.
        zstd.compress(&[0; PAGE], &mut [0; PAGE]);
        zstd
    }

    /// Compresses the page `src` into the front of `dst` as one frame and returns its length.
    ///
    /// `None` if the frame does not fit, or if `src` is no page of 4096 bytes. Bytes of `dst` beyond the returned length may
    /// change.
    pub fn compress(&mut self, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        if src.len() != PAGE {
            return None;
        }
        self.compressor.compress2(dst, src).ok()
    }

    /// Decodes the frame `src` into `dst`, which must have exactly the decoded length.
    ///
    /// # Errors
    /// [`DecodeError`] if `src` is not one whole frame of that length. `dst` then holds garbage made of `src` and of
    /// what the caller had in `dst`, and nothing else.
    pub fn decompress(&mut self, src: &[u8], dst: &mut [u8]) -> Result<(), DecodeError> {
        let (codec, expected, src_len) = (Codec::Zstd, reported(dst.len()), reported(src.len()));
        // The library's answers are lengths, or codes from the end of their range.
        let error = |answer: usize| match answer.wrapping_neg() {
            code if code == ZSTD_error_dstSize_tooSmall as usize => DecodeError::TooLong { codec, expected },
            code if code == ZSTD_error_srcSize_wrong as usize => DecodeError::Truncated { codec, src_len },
            _ => DecodeError::Malformed { codec, decoded: 0 },
        };
        // The library would go on with what follows a frame.
        let used = zstd_safe::find_frame_compressed_size(src).map_err(error)?;
        if used != src.len() {
            return Err(DecodeError::TrailingBytes { codec, used: reported(used), src_len });
        }
        match self.decompressor.decompress(dst, src) {
            Ok(len) if len == dst.len() => Ok(()),
            Ok(len) => Err(DecodeError::TooShort { codec, expected, decoded: reported(len) }),
            Err(code) => Err(error(code)),
        }
    }
}

impl Default for Zstd {
    fn default() -> Zstd {
        Zstd::new()
    }
}
