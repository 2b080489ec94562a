//! What to compress with: a codec and how hard it tries.
//!
//! Users name a method; a stored entry names a [`Codec`], because to read it nothing else is needed.

use std::fmt;

use crate::Codec;

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
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 3] = [Method::Lz4, Method::Deflate, Method::DeflateDynamic];

    /// The name used on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Lz4 => "lz4",
            Method::Deflate => "deflate",
            Method::DeflateDynamic => "deflate-dynamic",
        }
    }

    /// What its bytes are encoded with.
    pub const fn codec(self) -> Codec {
        match self {
            Method::Lz4 => Codec::Lz4,
            Method::Deflate | Method::DeflateDynamic => Codec::Deflate,
        }
    }
}

impl From<Codec> for Method {
    /// The codec as hard as it tries by default.
    fn from(codec: Codec) -> Method {
        match codec {
            Codec::Lz4 => Method::Lz4,
            Codec::Deflate => Method::Deflate,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
