//! vw, a page codec made for memory: words of 32 bits, 16 at a time.
//!
//! A page is 64 blocks of 16 words. A word is zero, literal, or a word of an earlier block with all or the upper
//! three of its bytes; literals are coded by byte planes. No word waits for another of its block, so that a vector
//! unit decodes a block at once. `FORMAT-VW.md` describes the format, from which a reader can be written.
//!
//! There is one format and there are three implementations of it, portable, with AVX2 and with AVX-512, chosen once by
//! what the CPU has. They write the same bytes, accept the same streams and make the same pages of them.

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod avx2;
#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod avx512;
mod bits;
mod decode;
mod deposit;
mod dictionary;
mod encode;
mod format;
mod parse;
mod planes;
mod ranks;
mod search;
mod sections;
mod write;

use self::encode::{EncodeSpace, Workspace};
use self::format::{HEADER_LEN, Header, MAX_STREAM, PAGE};
use self::search::{Dense, Fast, Search, Standard};
use crate::decode_error::reported;
use crate::{Codec, DecodeError};

/// Output bytes that always suffice.
pub(crate) const MAX_COMPRESSED_LEN: usize = MAX_STREAM;

/// How hard [`Vw`] searches. All levels write one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VwLevel {
    /// For speed: sources of whole words by one table.
    Fast,
    /// Nearly the ratio of `Dense` on the memory of processes.
    Standard,
    /// Sources at any byte: denser on text and programs.
    Dense,
}

impl VwLevel {
    /// Every level, from the fastest on.
    pub const ALL: [VwLevel; 3] = [VwLevel::Fast, VwLevel::Standard, VwLevel::Dense];
}

/// vw compressor and decompressor of one thread, with the memory they reuse.
pub struct Vw {
    work: Box<Workspace>,
    path: Path,
}

/// What a fast path is made of.
#[derive(Clone, Copy)]
#[cfg_attr(not(all(feature = "simd", target_arch = "x86_64")), expect(dead_code, reason = "there is none"))]
pub(crate) enum Vectors {
    Avx2,
    Avx512,
}

/// The implementation, with the memory that is its own.
enum Path {
    Portable(Box<EncodeSpace>),
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    Avx2(Box<avx2::Avx2>),
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    Avx512(Box<avx512::Avx512>),
}

impl Path {
    fn portable() -> Path {
        Path::Portable(Box::new(EncodeSpace::EMPTY))
    }

    /// The fastest that this CPU has.
    fn best() -> Path {
        #[cfg(all(feature = "simd", target_arch = "x86_64"))]
        {
            if let Some(path) = avx512::Avx512::new() {
                return Path::Avx512(path);
            }
            if let Some(path) = avx2::Avx2::new() {
                return Path::Avx2(path);
            }
        }
        Path::portable()
    }
}

impl Vw {
    /// Takes all the memory that later calls use.
    pub fn new() -> Vw {
        Vw::on(Path::best())
    }

    /// The portable implementation, whatever the CPU has.
    pub fn portable() -> Vw {
        Vw::on(Path::portable())
    }

    /// The implementation with AVX2, also where there is a faster one; `None` if the CPU has it not, or it is not built in.
    pub fn avx2() -> Option<Vw> {
        #[cfg(all(feature = "simd", target_arch = "x86_64"))]
        return avx2::Avx2::new().map(|path| Vw::on(Path::Avx2(path)));
        #[cfg(not(all(feature = "simd", target_arch = "x86_64")))]
        None
    }

    /// Every implementation that this CPU has, the portable one last.
    pub(crate) fn all() -> Vec<Vw> {
        let mut all = vec![Vw::portable()];
        #[cfg(all(feature = "simd", target_arch = "x86_64"))]
        {
            all.extend(Vw::avx2());
            let avx512 = [true, false].into_iter().filter_map(avx512::Avx512::with_gathers);
            all.extend(avx512.map(|path| Vw::on(Path::Avx512(path))));
        }
        all.reverse();
        all
    }

    fn on(path: Path) -> Vw {
        Vw { work: Box::new(Workspace::EMPTY), path }
    }

    /// Does this CPU have a fast path, and is it built in?
    pub fn is_fast() -> bool {
        Vw::vectors().is_some()
    }

    /// The vectors of the fastest path that this CPU has, if any is built in.
    pub(crate) fn vectors() -> Option<Vectors> {
        #[cfg(all(feature = "simd", target_arch = "x86_64"))]
        {
            if avx512::Avx512::is_there() {
                return Some(Vectors::Avx512);
            }
            if avx2::Avx2::is_there() {
                return Some(Vectors::Avx2);
            }
        }
        None
    }

    /// Compresses a page of 4096 bytes into the front of `dst` and returns the stream's length.
    ///
    /// `None` if `src` is of any other length, or if `dst` is shorter than
    /// [`max_compressed_len`](crate::max_compressed_len) of a page: the encoder does not begin what might not fit.
    /// Bytes of `dst` beyond the returned length may change. `src` is read once, so that a page that someone
    /// writes to meanwhile gives a valid stream of some mixture.
    pub fn compress(&mut self, level: VwLevel, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        let page: &[u8; PAGE] = src.try_into().ok()?;
        if dst.len() < crate::max_compressed_len(PAGE) {
            return None;
        }
        Some(match level {
            VwLevel::Fast => self.encode::<Fast>(page, dst),
            VwLevel::Standard => self.encode::<Standard>(page, dst),
            VwLevel::Dense => self.encode::<Dense>(page, dst),
        })
    }

    #[inline(always)]
    fn encode<S: Search>(&mut self, page: &[u8; PAGE], dst: &mut [u8]) -> usize {
        match &mut self.path {
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Path::Avx512(path) => path.encode::<S>(&mut self.work, page, dst),
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Path::Avx2(path) => path.encode::<S>(&mut self.work, page, dst),
            Path::Portable(space) => encode::encode::<S>(&mut self.work, space, page, dst),
        }
    }

    #[inline(always)]
    fn decode(&mut self, src: &[u8], page: &mut [u8; PAGE]) -> Option<()> {
        match &mut self.path {
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Path::Avx512(path) => path.decode(src, page),
            #[cfg(all(feature = "simd", target_arch = "x86_64"))]
            Path::Avx2(path) => path.decode(src, page),
            Path::Portable(_) => decode::decode(src, page),
        }
    }

    /// Decodes the stream `src` into `dst`, which must be a page of 4096 bytes.
    ///
    /// # Errors
    /// [`DecodeError`] if `src` is not one whole stream, or `dst` not of a page's length. `dst` then holds zeroes
    /// if it is of a page's length, and else what it held before.
    pub fn decompress(&mut self, src: &[u8], dst: &mut [u8]) -> Result<(), DecodeError> {
        let codec = Codec::Vw;
        let expected = reported(dst.len());
        let Ok(page) = <&mut [u8; PAGE]>::try_from(&mut *dst) else {
            return Err(if dst.len() < PAGE {
                DecodeError::TooLong { codec, expected }
            } else {
                DecodeError::TooShort { codec, expected, decoded: reported(PAGE) }
            });
        };
        if self.decode(src, page).is_some() {
            return Ok(());
        }
        page.fill(0);
        Err(if src.len() < HEADER_LEN {
            DecodeError::Truncated { codec, src_len: reported(src.len()) }
        } else {
            DecodeError::Malformed { codec, decoded: 0 }
        })
    }
}

impl Default for Vw {
    fn default() -> Vw {
        Vw::new()
    }
}

// The bound that callers are given covers this codec's.
const _: () = assert!(MAX_COMPRESSED_LEN <= crate::max_compressed_len(PAGE));

/// The length that a stream's own numbers ask for, if it is long enough to tell.
pub(crate) fn mended_len(stream: &[u8]) -> Option<usize> {
    let header = Header::read(stream)?;
    let masks = stream[HEADER_LEN..].get(..2 * header.masks())?;
    let listed: u32 = masks.iter().map(|byte| byte.count_ones()).sum();
    let repeating = listed + 16 * header.all.count_ones();
    let at = HEADER_LEN + masks.len() + format::classes_len(repeating as usize);
    let literals = if header.coded {
        planes::decode(stream.get(at..)?, header.literals, &mut [[0; 4]; format::WORDS])?
    } else {
        4 * header.literals
    };
    Some(at + literals + header.tail_len())
}
