//! What to compress with: a codec and how hard it tries.
//!
//! Users name a method; a stored entry names a [`Codec`], because to read it nothing else is needed.

use std::fmt;

use crate::vw::Vectors;
use crate::{Codec, Vw};

/// The lowest and the highest bit of each byte.
const LOW_BITS: u64 = 0x0101_0101_0101_0101;
const TOP_BITS: u64 = LOW_BITS << 7;

/// A page with more words of text than this among 32 is text; see `page_race`'s ratios in the recorded results.
const TEXT_WORDS: u32 = 5;
/// One that is no text, with more words without a zero byte than this, has few of the words that vw finds soonest.
const FULL_WORDS: u32 = 12;
/// Of random words, most are such.
const NEARLY_ALL_WORDS: u32 = 27;
/// Of random bytes, half have the highest bit set: of 256, nearly always so many.
const RANDOM: std::ops::RangeInclusive<u64> = 100..=156;

/// How new pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// LZ4, of pages denser than the usual and soon read.
    Lz4,
    /// DEFLATE that Intel IAA can read, with the fixed Huffman code.
    Deflate,
    /// DEFLATE that Intel IAA can read, with Huffman codes made for each page: denser, and slower.
    DeflateDynamic,
    /// vw, faster than LZ4 and denser on the memory of processes, where the CPU has AVX-512 or AVX2.
    Vw,
    /// vw for speed.
    VwFast,
    /// vw for density, also on text and programs.
    VwDense,
    /// Zstandard, denser than the others on most pages and slower: for pages that are cold.
    #[cfg(feature = "zstd")]
    Zstd,
    /// Chosen for each page by a look at it: LZ4 for text and for what looks random, which it leaves as it is and reads back
    /// soonest; else vw, dense where hardly a byte is zero; LZ4 for all where vw is not fast. [`Method::for_page`] tells.
    PerPage,
}

impl Method {
    /// Every method that has one codec: all but [`PerPage`](Method::PerPage).
    #[cfg(not(feature = "zstd"))]
    pub const ALL: [Method; 6] =
        [Method::Lz4, Method::Deflate, Method::DeflateDynamic, Method::Vw, Method::VwFast, Method::VwDense];
    /// Every method that has one codec: all but [`PerPage`](Method::PerPage).
    #[cfg(feature = "zstd")]
    pub const ALL: [Method; 7] = [
        Method::Lz4,
        Method::Deflate,
        Method::DeflateDynamic,
        Method::Vw,
        Method::VwFast,
        Method::VwDense,
        Method::Zstd,
    ];

    /// The fastest in software on this machine, and why.
    pub fn best() -> (Method, &'static str) {
        match Vw::vectors() {
            Some(Vectors::Avx512) => (
                Method::Vw,
                "this CPU has AVX-512, with which vw is faster than lz4, and denser on the memory of processes",
            ),
            Some(Vectors::Avx2) => (
                Method::Vw,
                "this CPU has AVX2, with which vw stores faster than lz4, and denser on the memory of processes",
            ),
            None if cfg!(feature = "simd") => (
                Method::Lz4,
                "vw is faster only with AVX-512, or with AVX2 and a fast PEXT, which this CPU lacks",
            ),
            None => (Method::Lz4, "built without the feature simd, and so without a fast vw"),
        }
    }

    /// What to compress this page with: the method itself, unless it is [`PerPage`](Method::PerPage).
    #[inline]
    pub fn for_page(self, page: &[u8; 4096]) -> Method {
        if self != Method::PerPage {
            return self;
        }
        if !Vw::is_fast() {
            return Method::Lz4;
        }
        // One word in sixteen, each time another of them, since records repeat: of text, all bytes are below 128 and none is zero.
        let (mut text, mut full, mut above_of_bytes) = (0, 0, 0);
        for (index, words) in page.as_chunks::<128>().0.iter().enumerate() {
            let word = words.as_chunks().0.get(5 * index % 16).map_or(0, |word| u64::from_le_bytes(*word));
            let above = word & TOP_BITS;
            let zero = word.wrapping_sub(LOW_BITS) & !word & TOP_BITS;
            text += u32::from(above | zero == 0);
            full += u32::from(zero == 0);
            above_of_bytes += above >> 7;
        }
        let random = RANDOM.contains(&(above_of_bytes.wrapping_mul(LOW_BITS) >> 56));
        if text > TEXT_WORDS || random && full > NEARLY_ALL_WORDS {
            Method::Lz4
        } else if full > FULL_WORDS {
            Method::VwDense
        } else {
            Method::Vw
        }
    }

    /// The name used on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Lz4 => "lz4",
            Method::Deflate => "deflate",
            Method::DeflateDynamic => "deflate-dynamic",
            Method::Vw => "vw",
            Method::VwFast => "vw-fast",
            Method::VwDense => "vw-dense",
            #[cfg(feature = "zstd")]
            Method::Zstd => "zstd",
            Method::PerPage => "auto",
        }
    }

    /// What its bytes are encoded with; of [`PerPage`](Method::PerPage), what most pages' are.
    pub const fn codec(self) -> Codec {
        match self {
            Method::Lz4 => Codec::Lz4,
            Method::Deflate | Method::DeflateDynamic => Codec::Deflate,
            Method::Vw | Method::VwFast | Method::VwDense | Method::PerPage => Codec::Vw,
            #[cfg(feature = "zstd")]
            Method::Zstd => Codec::Zstd,
        }
    }
}

impl From<Codec> for Method {
    /// The codec as hard as it tries by default.
    fn from(codec: Codec) -> Method {
        match codec {
            Codec::Lz4 => Method::Lz4,
            Codec::Deflate => Method::Deflate,
            Codec::Vw => Method::Vw,
            #[cfg(feature = "zstd")]
            Codec::Zstd => Method::Zstd,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_noise_go_to_lz4_and_words_to_vw() {
        let text = include_bytes!("method.rs").repeat(8);
        let text = text.first_chunk().expect("longer than a page");
        assert_eq!(Method::PerPage.for_page(text), Method::Lz4);
        let pointers = std::array::from_fn(|at| [0x10, 0x20, 0x7f, 0, 0, 0x7f, 0, 0][at % 8]);
        let if_fast = |method| if Vw::is_fast() { method } else { Method::Lz4 };
        assert_eq!(Method::PerPage.for_page(&pointers), if_fast(Method::Vw));
        assert_eq!(Method::PerPage.for_page(&[0xa5; 4096]), if_fast(Method::VwDense));
        let mut state = 1_u64;
        let noise = std::array::from_fn(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 56) as u8
        });
        assert_eq!(Method::PerPage.for_page(&noise), Method::Lz4);
        // Who named a method gets it.
        for method in Method::ALL {
            assert_eq!(method.for_page(text), method);
        }
    }
}
