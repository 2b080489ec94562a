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
}

impl Codec {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Codec; 3] = [Codec::Lz4, Codec::Deflate, Codec::Vw];

    /// Can data of this length be compressed, if it is no longer than [`MAX_INPUT`](crate::MAX_INPUT)? All but
    /// vw take any; vw takes pages of 4096 bytes.
    pub const fn takes(self, len: usize) -> bool {
        match self {
            Codec::Lz4 | Codec::Deflate => true,
            Codec::Vw => len == 4096,
        }
    }

    /// The name used on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Lz4 => "lz4",
            Codec::Deflate => "deflate",
            Codec::Vw => "vw",
        }
    }

    /// The codec with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<Codec> {
        match number {
            1 => Some(Codec::Lz4),
            2 => Some(Codec::Deflate),
            3 => Some(Codec::Vw),
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
        write!(f, "unknown codec {:?}; known are: lz4, deflate, vw", self.0)
    }
}

impl std::error::Error for UnknownCodec {}

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Codec, UnknownCodec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name).ok_or_else(|| UnknownCodec(name.to_owned()))
    }
}
