//! What to compress with: a codec and how hard it tries.
//!
//! Users name a method; a stored entry names a [`Codec`], because to read it nothing else is needed.

use std::fmt;

use crate::{Codec, Vw};

/// How new pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// LZ4 in safe code.
    Lz4,
    /// DEFLATE that Intel IAA can read, with the fixed Huffman code.
    Deflate,
    /// DEFLATE that Intel IAA can read, with Huffman codes made for each page: denser, and slower.
    DeflateDynamic,
    /// vw, faster than LZ4 and denser on the memory of processes, where the CPU has AVX-512.
    Vw,
    /// vw for speed.
    VwFast,
    /// vw for density, also on text and programs.
    VwDense,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 6] =
        [Method::Lz4, Method::Deflate, Method::DeflateDynamic, Method::Vw, Method::VwFast, Method::VwDense];

    /// The fastest in software on this machine, and why.
    pub fn best() -> (Method, &'static str) {
        if Vw::is_fast() {
            (Method::Vw, "this CPU has AVX-512, with which vw is faster than lz4 and denser")
        } else if cfg!(feature = "simd") {
            (Method::Lz4, "vw is faster only with AVX-512 up to VBMI2 and BITALG, which this CPU lacks")
        } else {
            (Method::Lz4, "built without the feature simd, and so without a fast vw")
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
        }
    }

    /// What its bytes are encoded with.
    pub const fn codec(self) -> Codec {
        match self {
            Method::Lz4 => Codec::Lz4,
            Method::Deflate | Method::DeflateDynamic => Codec::Deflate,
            Method::Vw | Method::VwFast | Method::VwDense => Codec::Vw,
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
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
