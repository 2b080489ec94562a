//! Analytics error codes: the second byte of a completion record whose status is
//! [`ANALYTICS_ERROR`](crate::status::ANALYTICS_ERROR).

#![allow(missing_docs, reason = "the names say it")]

pub const HEADER_TOO_LARGE: u8 = 1;
pub const BAD_CL_CODE: u8 = 2;
pub const FIRST_LL_CODE_IS_REPEAT: u8 = 3;
pub const FIRST_D_CODE_IS_REPEAT: u8 = 4;
pub const NO_LL_CODE: u8 = 5;
pub const WRONG_NUM_LL_CODES: u8 = 6;
pub const WRONG_NUM_D_CODES: u8 = 7;
pub const BAD_CL_CODE_LENGTHS: u8 = 8;
pub const BAD_LL_CODE_LENGTHS: u8 = 9;
pub const BAD_D_CODE_LENGTHS: u8 = 10;
pub const BAD_LL_CODE: u8 = 11;
pub const BAD_D_CODE: u8 = 12;
pub const INVALID_BLOCK_TYPE: u8 = 13;
pub const INVALID_STORED_LENGTH: u8 = 14;
pub const BAD_END_OF_FILE: u8 = 15;
pub const BAD_LENGTH_SYMBOL: u8 = 16;
/// A distance over 4096, or a bad one.
pub const BAD_DISTANCE: u8 = 17;
pub const REFERENCE_BEFORE_START: u8 = 18;
pub const TIMEOUT: u8 = 19;
pub const BAD_PRLE: u8 = 20;
pub const OUTPUT_WIDTH_OVERFLOW: u8 = 21;
pub const BAD_AECS: u8 = 22;
pub const SRC1_TOO_SMALL: u8 = 23;
pub const SRC2_TOO_SMALL: u8 = 24;
/// Compressed data did not fit into the destination: nothing can be resumed.
pub const UNRECOVERABLE_OVERFLOW: u8 = 25;
pub const DISTANCE_SPANS_MINI_BLOCKS: u8 = 26;
pub const LENGTH_SPANS_MINI_BLOCKS: u8 = 27;
pub const BAD_MINI_BLOCK_SIZE: u8 = 28;
pub const VERIFY_FAILURE: u8 = 29;
pub const BAD_HUFFMAN_CODE: u8 = 30;
pub const BAD_RLE_WIDTH: u8 = 31;
pub const TOO_FEW_ELEMENTS: u8 = 32;
pub const BAD_ZERO_COMPRESS_HEADER: u8 = 34;
/// More than 286 literal/length codes.
pub const TOO_MANY_LL_CODES: u8 = 35;
/// More than 30 distance codes.
pub const TOO_MANY_D_CODES: u8 = 36;
