//! Why compressed bytes could not be decoded.
//!
//! Both codecs answer with the same few causes, so that a caller need not know which one it used. A caller
//! that gets any of them holds damaged bytes, or asked for another length than was compressed; what it gave
//! as output is then to be thrown away.

use std::fmt;

use crate::Codec;

/// Compressed bytes do not decode to exactly the length asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// Something the format forbids, such as a match that begins before the output.
    Malformed {
        /// The format.
        codec: Codec,
        /// Bytes of output that stood before it; the codec's best knowledge, and 0 where it has none.
        decoded: u32,
    },
    /// The compressed bytes end before the stream does.
    Truncated {
        /// The format.
        codec: Codec,
        /// Compressed bytes given.
        src_len: u32,
    },
    /// The stream decodes to more bytes than were asked for.
    TooLong {
        /// The format.
        codec: Codec,
        /// Bytes asked for.
        expected: u32,
    },
    /// The stream ends after fewer bytes than were asked for.
    TooShort {
        /// The format.
        codec: Codec,
        /// Bytes asked for.
        expected: u32,
        /// Bytes decoded.
        decoded: u32,
    },
    /// The stream ends before the compressed bytes do.
    TrailingBytes {
        /// The format.
        codec: Codec,
        /// Compressed bytes that belong to the stream.
        used: u32,
        /// Compressed bytes given.
        src_len: u32,
    },
}

/// A length as errors carry it: 32 bits, so that they are small beside the pages that are right.
pub(crate) fn reported(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DecodeError::Malformed { codec, decoded } => {
                write!(
                    f,
                    "{codec} stream is malformed after {decoded} decoded bytes: damaged, or of another codec"
                )
            }
            DecodeError::Truncated { codec, src_len } => {
                write!(f, "{codec} stream does not end within its {src_len} bytes: cut off, or damaged")
            }
            DecodeError::TooLong { codec, expected } => write!(
                f,
                "{codec} stream holds more than the {expected} bytes asked for: pass the length that was compressed"
            ),
            DecodeError::TooShort { codec, expected, decoded } => write!(
                f,
                "{codec} stream ends after {decoded} of the {expected} bytes asked for: pass the length that was \
                 compressed"
            ),
            DecodeError::TrailingBytes { codec, used, src_len } => write!(
                f,
                "{codec} stream ends after {used} of its {src_len} bytes: pass the length that compress returned"
            ),
        }
    }
}

impl std::error::Error for DecodeError {}
