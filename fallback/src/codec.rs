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
}

impl Codec {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Codec; 2] = [Codec::Lz4, Codec::Deflate];

    /// The name used on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::Lz4 => "lz4",
            Codec::Deflate => "deflate",
        }
    }

    /// The codec with this number, if there is one.
    pub const fn from_number(number: u8) -> Option<Codec> {
        match number {
            1 => Some(Codec::Lz4),
            2 => Some(Codec::Deflate),
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
        write!(f, "unknown codec {:?}; known are: lz4, deflate", self.0)
    }
}

impl std::error::Error for UnknownCodec {}

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Codec, UnknownCodec> {
        Codec::ALL.into_iter().find(|codec| codec.name() == name).ok_or_else(|| UnknownCodec(name.to_owned()))
    }
}
