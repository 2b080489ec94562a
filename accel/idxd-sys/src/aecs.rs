//! The AECS (analytics engine configuration and state): the area that a descriptor names as source 2.
//!
//! Where the device both reads and writes it, two of them lie side by side, and
//! [`AECS_TOGGLE`](crate::flags::op::AECS_TOGGLE) says which is read. Address and size are multiples of 32.

#![allow(missing_docs, reason = "the names say it; what needs a word has one")]

use std::mem::{offset_of, size_of};

/// Address and size of an AECS are multiples of this.
pub const ALIGN: u64 = 32;

/// Literals, end of block, and lengths.
pub const LITERALS: usize = 286;
/// Distances.
pub const DISTANCES: usize = 30;

/// A code for each symbol, or in statistics mode a count: what a statistics descriptor writes to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Symbols {
    /// Literals, end of block, and lengths. Of a code: bits 14:0 the code, its first bit the highest; bits 18:15 its length.
    pub literals: [u32; LITERALS],
    pub reserved0: [u32; 2],
    /// Distances, likewise.
    pub distances: [u32; DISTANCES],
    pub reserved1: [u32; 2],
}

/// The AECS of compress descriptors, without a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CompressAecs {
    /// Seed, then running checksum.
    pub crc: u32,
    pub xor_checksum: u32,
    pub reserved0: [u32; 5],
    /// How many bits of the accumulator count.
    pub accumulator_bits: u32,
    /// Bits that go out before the first symbol: the block's header, and what the descriptor before left.
    pub accumulator: [u8; 256],
    pub codes: Symbols,
}

/// Bytes of a compress AECS that has codes.
pub const COMPRESS_SIZE: u32 = 0x620;
/// The least of a compress AECS that means anything: all up to the codes.
pub const COMPRESS_HEAD_SIZE: u32 = offset_of!(CompressAecs, codes) as u32;

/// The AECS of decompress and filter descriptors. Reserved fields are the device's own.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DecompressAecs {
    /// Seed, then running checksum.
    pub crc: u32,
    pub xor_checksum: u32,
    pub filter_low: u32,
    pub filter_high: u32,
    pub output_index: u32,
    pub drop_initial_bytes: u32,
    pub reserved0: [u32; 36],
    pub output_accumulator: [u32; 2],
    /// Bit 0 is set for format 2.
    pub output_accumulator_bits: u32,
    pub index_bit_offset: u32,
    /// Input bits that come before source 1: 32 words, of each as many of the lowest bits as its size says.
    pub input_accumulator: [[u32; 2]; 32],
    pub input_accumulator_bits: [u8; 32],
    pub eob_code: u32,
    pub drop_initial_bits: u8,
    /// Bit 0 is set for format 2.
    pub format: u8,
    pub reserved1: u16,
    pub first_table_index: [u32; 5],
    pub number_of_codes: [u32; 5],
    pub first_code: [u32; 5],
    pub first_length_code: [u32; 5],
    pub reserved2: [u32; 62],
    pub literal_mapping: [u8; 268],
    /// See [`decompress_state`].
    pub state: u16,
    pub reserved3: u16,
    pub stored_bytes_left: u32,
    pub reserved4: u32,
    pub reserved5: [u32; 41],
    /// Bits 14:0 where the next byte of history goes, bit 15 whether it has come round.
    pub history_offset: u16,
    pub reserved6: u16,
    pub history: [u8; 4096],
    pub reserved7: [u32; 6],
}

/// States of the decompressor, in [`DecompressAecs::state`].
pub mod decompress_state {
    /// Among the symbols of a block.
    pub const SYMBOLS: u16 = 0;
    /// At the header of a block.
    pub const HEADER: u16 = 1;
    /// In a stored block.
    pub const STORED: u16 = 2;
    /// Added: the block is the last one.
    pub const FINAL: u16 = 4;
    /// Ended by an end of block.
    pub const ENDED: u16 = 8;
}

/// Bytes of a whole decompress AECS.
pub const DECOMPRESS_SIZE: u32 = 0x1500;
/// Bytes of a decompress AECS without history.
pub const DECOMPRESS_NO_HISTORY_SIZE: u32 = 0x4e0;
/// Bytes of the part that filters use: checksums and parameters.
pub const FILTER_SIZE: u32 = 0x20;

const _: () = {
    assert!(size_of::<Symbols>() == 1280);
    assert!(offset_of!(Symbols, distances) == 0x480);
    assert!(offset_of!(CompressAecs, accumulator_bits) == 0x1c);
    assert!(offset_of!(CompressAecs, accumulator) == 0x20);
    assert!(offset_of!(CompressAecs, codes) == 0x120);
    assert!(size_of::<CompressAecs>() == COMPRESS_SIZE as usize);

    assert!(size_of::<DecompressAecs>() == DECOMPRESS_SIZE as usize);
    assert!(offset_of!(DecompressAecs, drop_initial_bytes) == 0x14);
    assert!(offset_of!(DecompressAecs, output_accumulator) == 0xa8);
    assert!(offset_of!(DecompressAecs, output_accumulator_bits) == 0xb0);
    assert!(offset_of!(DecompressAecs, index_bit_offset) == 0xb4);
    assert!(offset_of!(DecompressAecs, input_accumulator) == 0xb8);
    assert!(offset_of!(DecompressAecs, input_accumulator_bits) == 0x1b8);
    assert!(offset_of!(DecompressAecs, eob_code) == 0x1d8);
    assert!(offset_of!(DecompressAecs, format) == 0x1dd);
    assert!(offset_of!(DecompressAecs, first_table_index) == 0x1e0);
    assert!(offset_of!(DecompressAecs, reserved2) == 0x230);
    assert!(offset_of!(DecompressAecs, literal_mapping) == 0x328);
    assert!(offset_of!(DecompressAecs, state) == 0x434);
    assert!(offset_of!(DecompressAecs, history_offset) == 0x4e4);
    assert!(offset_of!(DecompressAecs, history) == 0x4e8);
};
