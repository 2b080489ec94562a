//! What a descriptor must be before the device looks at any data.
//!
//! In the device's order, as far as it is known: opcode, operation flags, reserved fields, sizes, alignment, the AECS, the
//! operation's own flags, overlap.

use idxd_sys::aecs::{ALIGN, COMPRESS_HEAD_SIZE, DECOMPRESS_SIZE, FILTER_SIZE};
use idxd_sys::flags::{compress, compress2, crc64, decompress, gen_cap, iaa_cap, op};
use idxd_sys::{Descriptor, opcode, status};

use super::stop::Stop;
use crate::Capabilities;

/// The most that a compress AECS can have: codes and the largest dictionary.
const COMPRESS_MOST: u32 = 0x3620;

/// Refuses what the device refuses.
pub(crate) fn validate(capabilities: &Capabilities, descriptor: &Descriptor) -> Result<(), Stop> {
    let code = descriptor.opcode();
    let modelled =
        matches!(code, opcode::NOOP | opcode::DRAIN | opcode::DECOMPRESS | opcode::COMPRESS | opcode::CRC64);
    if !modelled || !capabilities.has(code) {
        return Err(Stop::Invalid(status::BAD_OPCODE, 0));
    }
    operation_flags(capabilities, descriptor)?;
    reserved(descriptor)?;
    if descriptor.flags() & op::COMPLETION_ADDR_VALID != 0 && !descriptor.completion_addr.is_multiple_of(64) {
        return Err(Stop::Invalid(status::COMPLETION_ALIGNMENT, 0));
    }
    match code {
        opcode::DECOMPRESS => {
            sizes(capabilities, descriptor)?;
            aecs(descriptor, FILTER_SIZE, DECOMPRESS_SIZE)?;
            decompress_flags(capabilities, descriptor)?;
            overlap(descriptor)
        }
        opcode::COMPRESS => {
            sizes(capabilities, descriptor)?;
            aecs(descriptor, COMPRESS_HEAD_SIZE, COMPRESS_MOST)?;
            compress_flags(capabilities, descriptor)?;
            overlap(descriptor)
        }
        opcode::CRC64 => {
            size(capabilities, descriptor.src1_size)?;
            let wrong = descriptor.op_flags & !(crc64::INVERT | crc64::BIT_REVERSED);
            require(wrong == 0, status::BAD_COMPRESSION_FLAG)
        }
        _ => Ok(()),
    }
}

fn require(good: bool, otherwise: u8) -> Result<(), Stop> {
    if good { Ok(()) } else { Err(Stop::Invalid(otherwise, 0)) }
}

fn operation_flags(capabilities: &Capabilities, descriptor: &Descriptor) -> Result<(), Stop> {
    let flags = descriptor.flags();
    let mut allowed = op::COMPLETION_ADDR_VALID | op::REQUEST_COMPLETION | op::REQUEST_INTERRUPT;
    let data = matches!(descriptor.opcode(), opcode::DECOMPRESS | opcode::COMPRESS);
    if data || descriptor.opcode() == opcode::CRC64 {
        if capabilities.gen_cap & gen_cap::BLOCK_ON_FAULT != 0 {
            allowed |= op::BLOCK_ON_FAULT;
        }
        allowed |= op::COMPLETION_STEERING_TAG;
    }
    if data {
        if capabilities.gen_cap & gen_cap::CACHE_CONTROL != 0 {
            allowed |= op::CACHE_CONTROL;
        }
        if capabilities.gen_cap & gen_cap::DESTINATION_READBACK != 0 {
            allowed |= op::DESTINATION_READBACK;
        }
        allowed |= op::STRICT_ORDER | op::DESTINATION_STEERING_TAG | op::SRC2_STEERING_TAG;
        allowed |= op::READ_SRC2_AECS | op::WRITE_SRC2_ALWAYS | op::CRC32C | op::AECS_TOGGLE;
        if descriptor.opcode() == opcode::DECOMPRESS {
            allowed |= op::WRITE_SRC2_ON_OVERFLOW;
        }
    }
    let mut wrong = flags & !allowed;
    if flags & op::REQUEST_COMPLETION != 0 && flags & op::COMPLETION_ADDR_VALID == 0 {
        wrong |= op::REQUEST_COMPLETION;
    }
    if flags & op::WRITE_SRC2_MASK == op::WRITE_SRC2_MASK {
        wrong |= op::WRITE_SRC2_MASK;
    }
    if flags & op::AECS_TOGGLE != 0 && flags & (op::READ_SRC2_MASK | op::WRITE_SRC2_MASK) == 0 {
        wrong |= op::AECS_TOGGLE;
    }
    if wrong == 0 { Ok(()) } else { Err(Stop::Invalid(status::BAD_OP_FLAG, wrong)) }
}

fn reserved(descriptor: &Descriptor) -> Result<(), Stop> {
    let Descriptor { src1_addr, dst_addr, src1_size, op_flags, .. } = *descriptor;
    let Descriptor { src2_addr, max_dst_size, src2_size, filter_flags, elements, .. } = *descriptor;
    let no_source2 = src2_addr == 0 && src2_size == 0;
    let zero = match descriptor.opcode() {
        opcode::DECOMPRESS => uses_aecs(descriptor) || no_source2,
        opcode::COMPRESS => {
            (uses_aecs(descriptor) || no_source2)
                && elements == 0
                && filter_flags & !compress2::WRITE_TABLES == 0
        }
        opcode::CRC64 => no_source2 && dst_addr == 0 && max_dst_size == 0,
        _ => {
            let data = src1_addr != 0 || dst_addr != 0 || src1_size != 0 || max_dst_size != 0;
            !data && no_source2 && op_flags == 0 && filter_flags == 0 && elements == 0
        }
    };
    require(zero && descriptor.pasid & 0x7ff0_0000 == 0, status::NONZERO_RESERVED)
}

fn size(capabilities: &Capabilities, size: u32) -> Result<(), Stop> {
    require(size != 0 && u64::from(size) <= capabilities.max_transfer_size, status::BAD_TRANSFER_SIZE)
}

fn sizes(capabilities: &Capabilities, descriptor: &Descriptor) -> Result<(), Stop> {
    // What an AECS holds back can be all the input there is.
    let source_in_aecs = descriptor.opcode() == opcode::DECOMPRESS
        && descriptor.flags() & op::READ_SRC2_MASK == op::READ_SRC2_AECS;
    if !(source_in_aecs && descriptor.src1_size == 0) {
        size(capabilities, descriptor.src1_size)?;
    }
    if writes_destination(descriptor) {
        size(capabilities, descriptor.max_dst_size)?;
    }
    Ok(())
}

/// A table pass has no destination, and where output is suppressed, without an index either, it counts for nothing.
fn writes_destination(descriptor: &Descriptor) -> bool {
    match descriptor.opcode() {
        opcode::DECOMPRESS => {
            descriptor.op_flags & decompress::SUPPRESS_OUTPUT == 0
                || descriptor.op_flags & decompress::MINI_BLOCK_MASK != 0
        }
        _ => (descriptor.op_flags & compress::HEADER_MASK) < compress::HEADER_TWO_PASS_NONE,
    }
}

fn uses_aecs(descriptor: &Descriptor) -> bool {
    descriptor.flags() & (op::READ_SRC2_MASK | op::WRITE_SRC2_MASK) != 0
}

fn aecs(descriptor: &Descriptor, least: u32, most: u32) -> Result<(), Stop> {
    let Descriptor { src2_addr, src2_size, .. } = *descriptor;
    let good =
        src2_addr % ALIGN == 0 && u64::from(src2_size) % ALIGN == 0 && (least..=most).contains(&src2_size);
    require(good || !uses_aecs(descriptor), status::BAD_AECS)
}

fn decompress_flags(capabilities: &Capabilities, descriptor: &Descriptor) -> Result<(), Stop> {
    let mut allowed = decompress::ENABLE
        | decompress::FLUSH_OUTPUT
        | decompress::STOP_ON_EOB
        | decompress::CHECK_EOB
        | decompress::SELECT_FINAL_EOB
        | decompress::IGNORE_END_BITS_MASK
        | decompress::SUPPRESS_OUTPUT;
    // The index goes where the output would.
    if capabilities.gen_cap & gen_cap::INDEXING != 0 && descriptor.op_flags & decompress::SUPPRESS_OUTPUT != 0
    {
        allowed |= decompress::MINI_BLOCK_MASK;
    }
    if capabilities.version >= 0x200 {
        allowed |= decompress::IGNORE_END_BITS_3;
    }
    let flags = descriptor.op_flags;
    require(flags & !allowed == 0 && flags & decompress::ENABLE != 0, status::BAD_COMPRESSION_FLAG)?;
    require(descriptor.filter_flags == 0, status::BAD_FILTER_FLAG)
}

fn compress_flags(capabilities: &Capabilities, descriptor: &Descriptor) -> Result<(), Stop> {
    let flags = descriptor.op_flags;
    let mut allowed =
        compress::STATISTICS | compress::FLUSH_OUTPUT | compress::END_MASK | compress::ALL_LITERALS;
    if capabilities.iaa_cap & iaa_cap::HEADER_GENERATION != 0 {
        allowed |= compress::HEADER_MASK;
    }
    if capabilities.gen_cap & gen_cap::INDEXING != 0 {
        allowed |= compress::MINI_BLOCK_MASK;
    }
    let header = (flags & compress::HEADER_MASK) >> compress::HEADER_SHIFT;
    let good = flags & !allowed == 0
        && !matches!(header, 1 | 4)
        && (header == 0 || flags & compress::STATISTICS == 0);
    require(good, status::BAD_COMPRESSION_FLAG)
}

/// Source, destination, AECS and completion record are apart, as far as the device writes to any of two.
fn overlap(descriptor: &Descriptor) -> Result<(), Stop> {
    let flags = descriptor.flags();
    let source = range(descriptor.src1_addr, u64::from(descriptor.src1_size));
    let dst_size = if writes_destination(descriptor) { descriptor.max_dst_size } else { 0 };
    let destination = range(descriptor.dst_addr, u64::from(dst_size));
    let toggled = flags & op::AECS_TOGGLE != 0;
    let half = u64::from(descriptor.src2_size);
    let half_at = |second, used| {
        let addr = descriptor.src2_addr.saturating_add(if second { half } else { 0 });
        range(addr, if used { half } else { 0 })
    };
    let read = half_at(toggled, flags & op::READ_SRC2_MASK != 0);
    let written = half_at(!toggled, flags & op::WRITE_SRC2_MASK != 0);
    let has_record = flags & op::COMPLETION_ADDR_VALID != 0;
    let record = range(descriptor.completion_addr, if has_record { 64 } else { 0 });

    let apart = |a: (u64, u64), b: (u64, u64)| a.0 >= b.1 || b.0 >= a.1;
    let good = apart(source, destination)
        && apart(source, written)
        && apart(destination, read)
        && apart(destination, written)
        && [source, destination, read, written].into_iter().all(|range| apart(range, record));
    require(good, status::OVERLAP)
}

/// First and last-plus-one address. An empty range is apart from all.
fn range(addr: u64, size: u64) -> (u64, u64) {
    if size == 0 { (u64::MAX, 0) } else { (addr, addr.saturating_add(size)) }
}
