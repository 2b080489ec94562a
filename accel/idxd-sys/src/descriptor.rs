//! The work descriptor: 64 bytes, 64-byte aligned, little endian.

use std::mem::{offset_of, size_of};

use crate::flags;

/// What is submitted to a work queue.
///
/// Fields that mean different things for different opcodes have the name of their use in compress and decompress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Descriptor {
    /// Bits 19:0 PASID, bit 31 privileged. Zero from user space: ENQCMD and the kernel's write path fill it in.
    pub pasid: u32,
    /// Bits 23:0 operation [`flags`], bits 31:24 [`opcode`](crate::opcode).
    pub flags_and_opcode: u32,
    /// Where the completion record goes; 64-byte aligned.
    pub completion_addr: u64,
    /// Source 1: the input.
    pub src1_addr: u64,
    /// The destination.
    pub dst_addr: u64,
    /// Bytes of source 1.
    pub src1_size: u32,
    /// Interrupt handle.
    pub interrupt_handle: u16,
    /// Compression, decompression or CRC flags, by opcode.
    pub op_flags: u16,
    /// Source 2: the AECS, a mask, or dictionary state. Reserved for CRC64.
    pub src2_addr: u64,
    /// The most bytes that may be written to the destination. Reserved for CRC64.
    pub max_dst_size: u32,
    /// Bytes of source 2. Reserved for CRC64.
    pub src2_size: u32,
    /// Filter flags; for compress, [`compress2`](flags::compress2) flags; for CRC64, the low half of the polynomial.
    pub filter_flags: u32,
    /// Number of input elements; for CRC64, the high half of the polynomial.
    pub elements: u32,
}

impl Descriptor {
    /// A descriptor of `opcode` with these [operation flags](flags::op), all else zero.
    pub const fn new(opcode: u8, op_flags: u32) -> Descriptor {
        Descriptor {
            pasid: 0,
            flags_and_opcode: (opcode as u32) << 24 | (op_flags & flags::op::MASK),
            completion_addr: 0,
            src1_addr: 0,
            dst_addr: 0,
            src1_size: 0,
            interrupt_handle: 0,
            op_flags: 0,
            src2_addr: 0,
            max_dst_size: 0,
            src2_size: 0,
            filter_flags: 0,
            elements: 0,
        }
    }

    /// The descriptor that lies in memory as `bytes`.
    pub fn from_bytes(bytes: &[u8; 64]) -> Descriptor {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        Descriptor {
            pasid: u32_at(0x00),
            flags_and_opcode: u32_at(0x04),
            completion_addr: u64_at(0x08),
            src1_addr: u64_at(0x10),
            dst_addr: u64_at(0x18),
            src1_size: u32_at(0x20),
            interrupt_handle: u16_at(0x24),
            op_flags: u16_at(0x26),
            src2_addr: u64_at(0x28),
            max_dst_size: u32_at(0x30),
            src2_size: u32_at(0x34),
            filter_flags: u32_at(0x38),
            elements: u32_at(0x3c),
        }
    }

    /// The opcode.
    pub const fn opcode(&self) -> u8 {
        (self.flags_and_opcode >> 24) as u8
    }

    /// The 24 operation flags.
    pub const fn flags(&self) -> u32 {
        self.flags_and_opcode & flags::op::MASK
    }
}

const _: () = {
    assert!(size_of::<Descriptor>() == 64);
    assert!(offset_of!(Descriptor, flags_and_opcode) == 0x04);
    assert!(offset_of!(Descriptor, completion_addr) == 0x08);
    assert!(offset_of!(Descriptor, src1_addr) == 0x10);
    assert!(offset_of!(Descriptor, dst_addr) == 0x18);
    assert!(offset_of!(Descriptor, src1_size) == 0x20);
    assert!(offset_of!(Descriptor, interrupt_handle) == 0x24);
    assert!(offset_of!(Descriptor, op_flags) == 0x26);
    assert!(offset_of!(Descriptor, src2_addr) == 0x28);
    assert!(offset_of!(Descriptor, max_dst_size) == 0x30);
    assert!(offset_of!(Descriptor, src2_size) == 0x34);
    assert!(offset_of!(Descriptor, filter_flags) == 0x38);
    assert!(offset_of!(Descriptor, elements) == 0x3c);
};
