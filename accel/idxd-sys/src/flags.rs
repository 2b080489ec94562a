//! Flags of a descriptor: operation flags, and the flags of each operation.

#![allow(missing_docs, reason = "the names say it; what needs a word has one")]

/// Operation flags: 24 bits beside the opcode.
pub mod op {
    pub const MASK: u32 = 0x00ff_ffff;
    pub const BLOCK_ON_FAULT: u32 = 1 << 1;
    pub const COMPLETION_ADDR_VALID: u32 = 1 << 2;
    pub const REQUEST_COMPLETION: u32 = 1 << 3;
    pub const REQUEST_INTERRUPT: u32 = 1 << 4;
    pub const COMPLETION_STEERING_TAG: u32 = 1 << 5;
    pub const CACHE_CONTROL: u32 = 1 << 8;
    pub const STRICT_ORDER: u32 = 1 << 13;
    pub const DESTINATION_READBACK: u32 = 1 << 14;
    pub const DESTINATION_STEERING_TAG: u32 = 1 << 15;
    /// Read source 2 as the AECS.
    pub const READ_SRC2_AECS: u32 = 1 << 16;
    /// Read source 2 as a second input.
    pub const READ_SRC2_DATA: u32 = 2 << 16;
    pub const READ_SRC2_MASK: u32 = 3 << 16;
    /// Write the AECS whenever the operation completes.
    pub const WRITE_SRC2_ALWAYS: u32 = 1 << 18;
    /// Write the AECS only when the output overflows.
    pub const WRITE_SRC2_ON_OVERFLOW: u32 = 2 << 18;
    pub const WRITE_SRC2_MASK: u32 = 3 << 18;
    pub const SRC2_STEERING_TAG: u32 = 1 << 20;
    pub const CRC32C: u32 = 1 << 21;
    /// Read the second half of source 2 and write the first, instead of the reverse.
    pub const AECS_TOGGLE: u32 = 1 << 22;
}

/// Compression flags.
pub mod compress {
    /// The destination receives a histogram instead of a stream.
    pub const STATISTICS: u16 = 1 << 0;
    pub const FLUSH_OUTPUT: u16 = 1 << 1;
    /// Append an end-of-block symbol.
    pub const END_EOB: u16 = 1 << 2;
    /// Append an end-of-block symbol and an empty stored block that is not final.
    pub const END_EOB_STORED: u16 = 2 << 2;
    /// Append an end-of-block symbol and an empty stored block that is final.
    pub const END_EOB_STORED_FINAL: u16 = 3 << 2;
    pub const END_MASK: u16 = 3 << 2;
    pub const ALL_LITERALS: u16 = 1 << 4;
    pub const BIG_ENDIAN_16: u16 = 1 << 5;
    pub const MINI_BLOCK_SHIFT: u32 = 6;
    pub const MINI_BLOCK_MASK: u16 = 7 << 6;
    pub const DICTIONARY_MASK: u16 = 3 << 10;
    pub const HEADER_SHIFT: u32 = 12;
    pub const HEADER_MASK: u16 = 7 << 12;
    /// Header generation in one pass.
    pub const HEADER_ONE_PASS: u16 = 2 << 12;
    pub const HEADER_ONE_PASS_FINAL: u16 = 3 << 12;
    pub const HEADER_TWO_PASS_NONE: u16 = 5 << 12;
    pub const HEADER_TWO_PASS: u16 = 6 << 12;
    pub const HEADER_TWO_PASS_FINAL: u16 = 7 << 12;
}

/// The second compression flags, in [`filter_flags`](crate::Descriptor::filter_flags).
pub mod compress2 {
    /// Write the Huffman tables into the AECS.
    pub const WRITE_TABLES: u32 = 1 << 1;
}

/// Decompression flags.
pub mod decompress {
    pub const ENABLE: u16 = 1 << 0;
    pub const FLUSH_OUTPUT: u16 = 1 << 1;
    pub const STOP_ON_EOB: u16 = 1 << 2;
    pub const CHECK_EOB: u16 = 1 << 3;
    /// Only the end of a final block counts as the end.
    pub const SELECT_FINAL_EOB: u16 = 1 << 4;
    pub const BIG_ENDIAN_16: u16 = 1 << 5;
    pub const IGNORE_END_BITS_SHIFT: u32 = 6;
    pub const IGNORE_END_BITS_MASK: u16 = 7 << 6;
    pub const SUPPRESS_OUTPUT: u16 = 1 << 9;
    pub const MINI_BLOCK_SHIFT: u32 = 10;
    pub const MINI_BLOCK_MASK: u16 = 7 << 10;
    /// Fourth bit of the end bits to ignore; generation 2.
    pub const IGNORE_END_BITS_3: u16 = 1 << 14;
}

/// CRC64 flags.
pub mod crc64 {
    /// Invert seed and result.
    pub const INVERT: u16 = 1 << 14;
    pub const BIT_REVERSED: u16 = 1 << 15;
}

/// Bits of a device's general capabilities (`gen_cap`).
pub mod gen_cap {
    pub const BLOCK_ON_FAULT: u64 = 1 << 0;
    pub const CACHE_CONTROL: u64 = 1 << 2;
    pub const DESTINATION_READBACK: u64 = 1 << 8;
    pub const CONFIGURABLE: u64 = 1 << 31;
    pub const DECOMPRESSION: u64 = 1 << 40;
    pub const INDEXING: u64 = 1 << 41;
}

/// Bits of a device's IAA capabilities (`iaa_cap`), generation 2.
pub mod iaa_cap {
    pub const AECS_FORMAT_2: u64 = 1 << 0;
    pub const DROP_INITIAL_BITS: u64 = 1 << 1;
    pub const CHAINING: u64 = 1 << 2;
    pub const FORCE_ARRAY: u64 = 1 << 3;
    pub const PARTIAL_AECS_LOAD: u64 = 1 << 4;
    pub const EARLY_ABORT: u64 = 1 << 5;
    pub const NESTED_COMPRESS: u64 = 1 << 6;
    pub const DICTIONARY: u64 = 1 << 7;
    pub const HEADER_GENERATION: u64 = 1 << 8;
}
