//! Software page codecs of zfolio: byte slices in, byte slices out.
//!
//! Three codecs. [`Vw`] takes single pages; where the CPU has AVX-512 or AVX2 it is the fastest, denser than LZ4, and the
//! default. [`Lz4`] is the default of other machines without Intel IAA. [`Deflate`] compresses
//! as fast as it, is denser, and its streams can be read by the device, as the device's can be read by it.
//! [`Codecs`] is all of one thread. A [`Method`] chooses how to compress, the [`Codec`] that a stored entry names how
//! to decode.
//!
//! With the feature `zstd` there is Zstandard too, by its C library.
//!
//! Construction takes all the memory that is ever used; compressing and decoding allocate nothing and never
//! panic, whatever bytes they are given. Decoding is exact: the whole input must be one stream of exactly the
//! length asked for. It does not prove that the bytes are those once compressed: keep a CRC-32 beside them.
//!
//! ```
//! use zfolio_fallback::{Codec, Codecs, max_compressed_len};
//!
//! let mut codecs = Codecs::new();
//! let page = [7; 4096];
//! let mut stream = [0; max_compressed_len(4096)];
//! let len = codecs.compress(Codec::Deflate, &page, &mut stream).expect("the bound always fits");
//!
//! let mut back = [0; 4096];
//! codecs.decompress(Codec::Deflate, &stream[..len], &mut back)?;
//! assert_eq!(back, page);
//! # Ok::<(), zfolio_fallback::DecodeError>(())
//! ```

#![deny(unsafe_code)]
#![cfg_attr(not(feature = "simd"), forbid(unsafe_code))]

#[doc(hidden)]
pub mod check;
mod codec;
mod codecs;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod cpu;
mod decode_error;
mod deflate;
mod lz4;
mod method;
mod vw;
#[cfg(feature = "zstd")]
mod zstd;

pub use codec::{Codec, UnknownCodec};
pub use codecs::Codecs;
pub use decode_error::DecodeError;
pub use deflate::{Deflate, tree};
pub use lz4::Lz4;
pub use method::Method;
pub use vw::{Vw, VwLevel};
#[cfg(feature = "zstd")]
pub use zstd::Zstd;

/// Longest input of any codec, in bytes: a folio of 512 pages.
pub const MAX_INPUT: usize = 2 << 20;

/// Output bytes that always suffice for `len` bytes of input, for every codec that takes such an input.
pub const fn max_compressed_len(len: usize) -> usize {
    let (lz4, deflate) = (lz4::max_compressed_len(len), deflate::max_compressed_len(len));
    if lz4 > deflate { lz4 } else { deflate }
}
