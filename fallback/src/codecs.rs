//! All codecs of one thread.
//!
//! A channel holds one and picks for each page: the configured method to compress, the codec that the entry names to
//! decode.

#[cfg(feature = "zstd")]
use crate::Zstd;
use crate::{Codec, DecodeError, Deflate, Lz4, Method, Vw, VwLevel};

/// A compressor and decompressor of every [`Method`] and [`Codec`], for one thread.
#[derive(Default)]
pub struct Codecs {
    lz4: Lz4,
    deflate: Deflate,
    vw: Vw,
    #[cfg(feature = "zstd")]
    zstd: Zstd,
}

impl Codecs {
    /// Takes all the memory that later calls use: less than 240 KiB, and as much again with the feature `zstd`.
    pub fn new() -> Codecs {
        Codecs::default()
    }

    /// The same with another reader and writer of LZ4.
    pub(crate) fn with_lz4(lz4: Lz4) -> Codecs {
        Codecs { lz4, ..Codecs::default() }
    }

    /// Compresses `src` into the front of `dst` and returns the compressed length.
    ///
    /// `None` as [`Lz4::compress`], [`Deflate::compress`] and [`Vw::compress`] say; never with a `dst` of
    /// [`max_compressed_len`](crate::max_compressed_len) and a `src` of at most [`MAX_INPUT`](crate::MAX_INPUT) that
    /// the codec [takes](Codec::takes). Always with [`Method::PerPage`]: ask [`Method::for_page`] first.
    pub fn compress(&mut self, method: impl Into<Method>, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        match method.into() {
            Method::Lz4 => self.lz4.compress(src, dst),
            Method::Deflate => self.deflate.compress(src, dst),
            Method::DeflateDynamic => self.deflate.compress_dynamic(src, dst),
            Method::Vw => self.vw.compress(VwLevel::Standard, src, dst),
            Method::VwFast => self.vw.compress(VwLevel::Fast, src, dst),
            Method::VwDense => self.vw.compress(VwLevel::Dense, src, dst),
            #[cfg(feature = "zstd")]
            Method::Zstd => self.zstd.compress(src, dst),
            // Whoever stores the bytes must know their codec.
            Method::PerPage => None,
        }
    }

    /// Decodes `src` into `dst`, which must have exactly the decoded length.
    ///
    /// # Errors
    /// [`DecodeError`] if `src` is not one whole stream of that codec and length; `dst` then holds garbage.
    pub fn decompress(&mut self, codec: Codec, src: &[u8], dst: &mut [u8]) -> Result<(), DecodeError> {
        match codec {
            Codec::Lz4 => self.lz4.decompress(src, dst),
            Codec::Deflate => self.deflate.decompress(src, dst),
            Codec::Vw => self.vw.decompress(src, dst),
            #[cfg(feature = "zstd")]
            Codec::Zstd => self.zstd.decompress(src, dst),
        }
    }
}
