//! Pages that are not there.

mod space;

use iaa_model::Capabilities;
use idxd_sys::flags::{compress, op};
use idxd_sys::{Descriptor, opcode, status};
use space::{AECS, DST, SRC, Space, inflate, pages};

const SPR: Capabilities = Capabilities::SPR;

#[test]
fn page_fault_tells_the_first_byte_that_is_missing_and_whether_it_was_a_write() {
    let long = pages()[5].clone();
    for (page, expected) in [
        (SRC, (status::PAGE_FAULT, SRC)),
        (SRC + 8192, (status::PAGE_FAULT, SRC + 8192)),
        (AECS, (status::PAGE_FAULT, AECS)),
        (DST, (status::PAGE_FAULT | status::WRITE_FAULT, DST)),
        (DST + 4096, (status::PAGE_FAULT | status::WRITE_FAULT, DST + 4096)),
    ] {
        let space = Space::new(&long, 2 * long.len());
        let descriptor = space.compress_fixed();
        space.missing.borrow_mut().push((page, 1));
        let record = space.run(&SPR, &descriptor).0;
        assert_eq!((record.status, record.fault_addr), expected);
        assert_eq!(space.requests.get(), 0);
        // Touched and submitted again, from the start.
        let (record, stream) = space.run(&SPR, &descriptor);
        assert_eq!(record.status, status::SUCCESS);
        assert!(inflate(&stream) == long);
    }
}

#[test]
fn descriptor_that_blocks_on_faults_asks_for_pages_and_goes_on() {
    let long = &pages()[5];
    let space = Space::new(long, 2 * long.len());
    let mut descriptor = space.compress_fixed();
    descriptor.flags_and_opcode |= op::BLOCK_ON_FAULT;
    space.missing.borrow_mut().extend([(SRC, 1), (SRC + 4096, 1), (DST, 1), (AECS, 1)]);
    let (record, stream) = space.run(&SPR, &descriptor);
    assert_eq!((record.status, space.requests.get()), (status::SUCCESS, 4));
    assert!(inflate(&stream) == *long);
}

#[test]
fn page_that_is_still_missing_when_it_was_asked_for_ends_the_descriptor() {
    let space = Space::new(&[0; 4096], 4096);
    let mut descriptor = space.compress_fixed();
    descriptor.flags_and_opcode |= op::BLOCK_ON_FAULT;
    space.missing.borrow_mut().push((SRC, u32::MAX));
    let record = space.run(&SPR, &descriptor).0;
    assert_eq!((record.status, record.fault_addr), (status::PAGE_REQUEST_INVALID, SRC));
}

#[test]
fn fault_in_the_middle_leaves_nothing_that_a_second_run_would_trip_over() {
    let page = &pages()[1];
    let space = Space::new(page, 8192);
    let (record, stream) = space.run(&SPR, &space.compress_fixed());
    assert_eq!(record.status, status::SUCCESS);
    let space = Space::new(&stream, 4096);
    space.missing.borrow_mut().push((DST, 1));
    let descriptor = space.decompress();
    assert_eq!(space.run(&SPR, &descriptor).0.status, status::PAGE_FAULT | status::WRITE_FAULT);
    let (record, back) = space.run(&SPR, &descriptor);
    assert_eq!(record.status, status::SUCCESS);
    assert!(back == *page);
}

#[test]
fn addresses_at_the_end_of_the_address_space_are_faults() {
    let space = Space::new(&[1; 64], 64);
    let far = Descriptor { src1_addr: u64::MAX - 10, ..space.compress_fixed() };
    assert_eq!(space.run(&SPR, &far).0.status, status::PAGE_FAULT);
    let far = Descriptor {
        src2_addr: !31,
        src2_size: 0x620,
        ..space.descriptor(opcode::COMPRESS, op::READ_SRC2_AECS | op::AECS_TOGGLE, compress::END_EOB)
    };
    assert_eq!(space.run(&SPR, &far).0.status, status::PAGE_FAULT);
}
