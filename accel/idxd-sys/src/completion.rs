//! The completion record: 64 bytes, 64-byte aligned; the device writes its status byte last.

use std::mem::{offset_of, size_of};

/// What the device says of a descriptor. All zero until it is done; see [`status`](crate::status).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct CompletionRecord {
    /// [`status`](crate::status); 0 while the descriptor runs. Bit 7 set: the fault was a write.
    pub status: u8,
    /// [`error_code`](crate::error_code), when the status is [`ANALYTICS_ERROR`](crate::status::ANALYTICS_ERROR).
    pub error_code: u8,
    /// Fault information.
    pub fault_info: u8,
    /// Reserved.
    pub reserved0: u8,
    /// Input bytes consumed.
    pub bytes_completed: u32,
    /// The address that faulted.
    pub fault_addr: u64,
    /// Which flag bits were illegal.
    pub invalid_flags: u32,
    /// Reserved.
    pub reserved1: u32,
    /// Bytes written to the destination.
    pub output_size: u32,
    /// Valid bits in the last output byte.
    pub output_bits: u8,
    /// Reserved.
    pub reserved2: u8,
    /// XOR of the uncompressed data's 16-bit words.
    pub xor_checksum: u16,
    /// CRC-32 (or CRC-32C) of the uncompressed data.
    pub crc: u32,
    /// Minimum, or index of the first set element.
    pub min_or_first: u32,
    /// Maximum, or index of the last; the low half of a CRC64.
    pub max_or_last: u32,
    /// Sum or population; the high half of a CRC64.
    pub sum: u32,
    /// Reserved.
    pub reserved3: [u32; 4],
}

impl CompletionRecord {
    /// The result of a CRC64 descriptor.
    pub const fn crc64(&self) -> u64 {
        (self.sum as u64) << 32 | self.max_or_last as u64
    }
}

const _: () = {
    assert!(size_of::<CompletionRecord>() == 64);
    assert!(offset_of!(CompletionRecord, error_code) == 0x01);
    assert!(offset_of!(CompletionRecord, bytes_completed) == 0x04);
    assert!(offset_of!(CompletionRecord, fault_addr) == 0x08);
    assert!(offset_of!(CompletionRecord, invalid_flags) == 0x10);
    assert!(offset_of!(CompletionRecord, output_size) == 0x18);
    assert!(offset_of!(CompletionRecord, output_bits) == 0x1c);
    assert!(offset_of!(CompletionRecord, xor_checksum) == 0x1e);
    assert!(offset_of!(CompletionRecord, crc) == 0x20);
    assert!(offset_of!(CompletionRecord, min_or_first) == 0x24);
    assert!(offset_of!(CompletionRecord, max_or_last) == 0x28);
    assert!(offset_of!(CompletionRecord, sum) == 0x2c);
    assert!(offset_of!(CompletionRecord, reserved3) == 0x30);
};
