//! Opcodes, as in a descriptor's top byte and in `op_cap`.

#![allow(missing_docs, reason = "the names say it")]

pub const NOOP: u8 = 0x00;
pub const DRAIN: u8 = 0x02;
pub const MEMORY_MOVE: u8 = 0x03;
pub const TRANSLATION_FETCH: u8 = 0x0a;
pub const DECRYPT: u8 = 0x40;
pub const ENCRYPT: u8 = 0x41;
pub const DECOMPRESS: u8 = 0x42;
pub const COMPRESS: u8 = 0x43;
pub const CRC64: u8 = 0x44;
pub const SCAN: u8 = 0x50;
pub const SET_MEMBERSHIP: u8 = 0x51;
pub const EXTRACT: u8 = 0x52;
pub const SELECT: u8 = 0x53;
pub const RLE_BURST: u8 = 0x54;
pub const FIND_UNIQUE: u8 = 0x55;
pub const EXPAND: u8 = 0x56;
