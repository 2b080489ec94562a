//! Descriptors that are none, each with the status and the flags that say why.

mod space;

use iaa_model::Capabilities;
use idxd_sys::aecs::{COMPRESS_SIZE, DECOMPRESS_SIZE};
use idxd_sys::flags::{compress, compress2, decompress, op};
use idxd_sys::{Descriptor, opcode, status};
use space::{AECS, DST, RECORD, SRC, Space, TO_LAST_END};

const SPR: Capabilities = Capabilities::SPR;
const GNR: Capabilities = Capabilities::GNR;

/// The status of a change to a good compress descriptor, and the flags that are wrong.
fn answer(capabilities: &Capabilities, change: impl FnOnce(&mut Descriptor)) -> (u8, u32) {
    let space = Space::new(&[7; 4096], 4096);
    let mut descriptor = space.compress_fixed();
    change(&mut descriptor);
    let record = space.run(capabilities, &descriptor).0;
    (record.status, record.invalid_flags)
}

/// Likewise to a good decompress descriptor.
fn inflate_answer(change: impl FnOnce(&mut Descriptor)) -> (u8, u32) {
    let space = Space::new(&[0b011, 0], 4096);
    let mut descriptor = space.decompress();
    change(&mut descriptor);
    let record = space.run(&SPR, &descriptor).0;
    (record.status, record.invalid_flags)
}

#[test]
fn good_descriptors_are_good() {
    assert_eq!(answer(&SPR, |_| {}), (status::SUCCESS, 0));
    assert_eq!(inflate_answer(|_| {}), (status::SUCCESS, 0));
    let space = Space::new(&[], 0);
    let noop = Descriptor { completion_addr: RECORD, ..Descriptor::new(opcode::NOOP, 0xc) };
    assert_eq!(space.run(&SPR, &noop).0.status, status::SUCCESS);
}

#[test]
fn opcode_that_is_not_modelled_or_not_there_is_bad() {
    for code in [opcode::SCAN, opcode::EXTRACT, opcode::MEMORY_MOVE, 0xff] {
        let all = Capabilities { op_cap: [u64::MAX; 4], ..GNR };
        let change = |descriptor: &mut Descriptor| {
            descriptor.flags_and_opcode = u32::from(code) << 24 | descriptor.flags();
        };
        assert_eq!(answer(&all, change), (status::BAD_OPCODE, 0));
    }
    let without = Capabilities { op_cap: [1, 0, 0, 0], ..SPR };
    assert_eq!(answer(&without, |_| {}), (status::BAD_OPCODE, 0));
}

#[test]
fn operation_flags_that_the_device_lacks_are_named() {
    for wrong in [1, 1 << 7, 1 << 9, 1 << 23, op::READ_SRC2_DATA, op::WRITE_SRC2_ON_OVERFLOW] {
        let change = |descriptor: &mut Descriptor| descriptor.flags_and_opcode |= wrong;
        assert_eq!(answer(&SPR, change), (status::BAD_OP_FLAG, wrong));
    }
    let bare = Capabilities { gen_cap: 0, ..SPR };
    for wrong in [op::BLOCK_ON_FAULT, op::CACHE_CONTROL, op::DESTINATION_READBACK] {
        let change = |descriptor: &mut Descriptor| descriptor.flags_and_opcode |= wrong;
        assert_eq!(answer(&SPR, change), (status::SUCCESS, 0));
        assert_eq!(answer(&bare, change), (status::BAD_OP_FLAG, wrong));
    }
    let no_address = |descriptor: &mut Descriptor| {
        descriptor.flags_and_opcode &= !op::COMPLETION_ADDR_VALID;
    };
    assert_eq!(answer(&SPR, no_address), (status::BAD_OP_FLAG, op::REQUEST_COMPLETION));
    let toggle_nothing = |descriptor: &mut Descriptor| descriptor.flags_and_opcode |= op::AECS_TOGGLE;
    assert_eq!(inflate_answer(toggle_nothing), (status::BAD_OP_FLAG, op::AECS_TOGGLE));
}

#[test]
fn reserved_fields_are_zero() {
    let changes: [fn(&mut Descriptor); 3] = [
        |descriptor| descriptor.pasid = 1 << 25,
        |descriptor| descriptor.elements = 1,
        |descriptor| descriptor.filter_flags = 4,
    ];
    for change in changes {
        assert_eq!(answer(&SPR, change), (status::NONZERO_RESERVED, 0));
    }
    let unread = |descriptor: &mut Descriptor| descriptor.src2_addr = AECS;
    assert_eq!(inflate_answer(unread), (status::NONZERO_RESERVED, 0));
    let space = Space::new(&[1, 2, 3], 0);
    let crc = space.descriptor(opcode::CRC64, 0, 0);
    assert_eq!(space.run(&SPR, &crc).0.status, status::NONZERO_RESERVED, "CRC64 has no destination");
    let crc = Descriptor { dst_addr: 0, max_dst_size: 0, ..crc };
    assert_eq!(space.run(&SPR, &crc).0.status, status::SUCCESS);
}

#[test]
fn sizes_are_within_limits() {
    let small = Capabilities { max_transfer_size: 2048, ..SPR };
    assert_eq!(answer(&small, |_| {}), (status::BAD_TRANSFER_SIZE, 0));
    assert_eq!(answer(&SPR, |descriptor| descriptor.src1_size = 0), (status::BAD_TRANSFER_SIZE, 0));
    assert_eq!(answer(&SPR, |descriptor| descriptor.max_dst_size = 0), (status::BAD_TRANSFER_SIZE, 0));
}

#[test]
fn record_and_aecs_are_aligned() {
    let misplaced = |descriptor: &mut Descriptor| descriptor.completion_addr = RECORD + 32;
    assert_eq!(answer(&SPR, misplaced), (status::COMPLETION_ALIGNMENT, 0));
    for (addr, size) in
        [(AECS + 16, COMPRESS_SIZE), (AECS, COMPRESS_SIZE + 16), (AECS, 0x100), (AECS, 0x4000)]
    {
        let change =
            |descriptor: &mut Descriptor| (descriptor.src2_addr, descriptor.src2_size) = (addr, size);
        assert_eq!(answer(&SPR, change), (status::BAD_AECS, 0));
    }
    let large = |descriptor: &mut Descriptor| {
        descriptor.flags_and_opcode |= op::READ_SRC2_AECS;
        (descriptor.src2_addr, descriptor.src2_size) = (AECS, DECOMPRESS_SIZE + 32);
    };
    assert_eq!(inflate_answer(large), (status::BAD_AECS, 0));
}

#[test]
fn flags_of_the_operation_are_those_it_has() {
    let header = |descriptor: &mut Descriptor| {
        descriptor.op_flags |= compress::HEADER_ONE_PASS_FINAL;
        descriptor.filter_flags = compress2::WRITE_TABLES;
    };
    assert_eq!(answer(&SPR, header), (status::BAD_COMPRESSION_FLAG, 0), "generation 1 makes no headers");
    assert_eq!(answer(&GNR, header), (status::SUCCESS, 0));
    for wrong in [1 << 9, 1 << 15, compress::DICTIONARY_MASK, compress::BIG_ENDIAN_16, 1 << 12, 4 << 12] {
        assert_eq!(
            answer(&GNR, |descriptor| descriptor.op_flags |= wrong),
            (status::BAD_COMPRESSION_FLAG, 0)
        );
    }
    for flags in [0, TO_LAST_END | decompress::MINI_BLOCK_MASK, TO_LAST_END | decompress::IGNORE_END_BITS_3] {
        assert_eq!(
            inflate_answer(|descriptor| descriptor.op_flags = flags),
            (status::BAD_COMPRESSION_FLAG, 0)
        );
    }
    assert_eq!(inflate_answer(|descriptor| descriptor.filter_flags = 1), (status::BAD_FILTER_FLAG, 0));
}

#[test]
fn areas_do_not_overlap() {
    let changes: [fn(&mut Descriptor); 4] = [
        |descriptor| descriptor.dst_addr = SRC + 4095,
        |descriptor| descriptor.src1_addr = DST + 4095,
        |descriptor| descriptor.dst_addr = AECS,
        |descriptor| descriptor.completion_addr = DST + 64,
    ];
    for change in changes {
        assert_eq!(answer(&SPR, change), (status::OVERLAP, 0));
    }
    // The half that is written, which is not the one that is read.
    let written = |descriptor: &mut Descriptor| {
        descriptor.flags_and_opcode |= op::WRITE_SRC2_ALWAYS;
        descriptor.src1_addr = AECS + u64::from(COMPRESS_SIZE);
    };
    assert_eq!(answer(&SPR, written), (status::OVERLAP, 0));
    // Nothing is written at the destination.
    let suppressed = |descriptor: &mut Descriptor| {
        descriptor.dst_addr = SRC;
        descriptor.op_flags |= decompress::SUPPRESS_OUTPUT;
    };
    assert_eq!(inflate_answer(suppressed), (status::SUCCESS, 0));
}

#[test]
fn codes_that_are_needed_and_not_there_are_an_error() {
    let answer = |length: u32| {
        let space = Space::new(&[7; 4], 64);
        let descriptor = space.compress_fixed();
        space.aecs.borrow_mut()[0x120 + 4 * 7..][..4].copy_from_slice(&(length << 15).to_le_bytes());
        let record = space.run(&SPR, &descriptor).0;
        (record.status, record.error_code)
    };
    assert_eq!(answer(0), (status::ANALYTICS_ERROR, idxd_sys::error_code::BAD_HUFFMAN_CODE));
    assert_eq!(answer(9), (status::SUCCESS, 0), "any code is taken as it is given");
}
