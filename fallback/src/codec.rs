//! Which codec a stored page is encoded with.
//!
//! Every stored entry carries its codec as one byte, so that nothing is ever decoded by configuration:
//! a store whose default codec changes still reads all it holds.

use std::fmt;
use std::str::FromStr;

/// How a compressed page is encoded. The numbers are part of a stored entry and never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Codec {
    /// One LZ4 block, without frame or length prefix.
    Lz4 = 1,
    /// One raw DEFLATE stream whose matches reach back at most 4096 bytes, which any Intel IAA can read.
    Deflate = 2,
    /// One stream of the vector word codec, always of a page of 4096 bytes.
    Vw = 3,
    /// One Zstandard frame, always of a page of 4096 bytes.
    #[cfg(feature = "zstd")]
    Zstd = 4,
}

impl Codec {
    /// Every codec, in the order of their numbers.
    #[cfg(not(feature = "zstd"))]
    pub const ALL: [Codec; 3] = [Codec::Lz4, Codec::Deflate, Codec::Vw];
    /// Every codec, in the order of their numbers.
    #[cfg(feature = "zstd")]
    pub const ALL: [Codec; 4] = [Codec::Lz4, Codec::Deflate, Codec::Vw, Codec::Zstd];

    /// Can data of this length be compressed, if it is no longer than [`MAX_INPUT`](crate::MAX_INPUT)? All but
    /// vw and zstd take any; those take pages of 4096 bytes.
    pub const fn takes(self, len: usize) -> bool {
        match self {
            Codec::Lz4 | Codec::Deflate => true,
            Codec::Vw => len == 4096,
            #[cfg(feature = "zstd")]
            Codec::Zstd => len == 4096,
        }
    }

    /// The name used on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Lz4 => "lz4",
            Codec::Deflate => "deflate",
            Codec::Vw => "vw",
            #[cfg(feature = "zstd")]
            Codec::Zstd => "zstd",
        }
    }

    /// The codec with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<Codec> {
        match number {
            1 => Some(Codec::Lz4),
            2 => Some(Codec::Deflate),
            3 => Some(Codec::Vw),
            #[cfg(feature = "zstd")]
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec name that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCodec(String);

impl fmt::Display for UnknownCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown codec {:?}; known are:", self.0)?;
        for (index, codec) in Codec::ALL.into_iter().enumerate() {
            write!(f, "{} {codec}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownCodec {}

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Codec, UnknownCodec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name).ok_or_else(|| UnknownCodec(name.to_owned()))
    }
}
