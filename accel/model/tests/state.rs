//! What one descriptor leaves in the AECS for the next.

mod space;

use iaa_model::Capabilities;
use idxd_sys::aecs::{COMPRESS_SIZE, DECOMPRESS_NO_HISTORY_SIZE, DECOMPRESS_SIZE};
use idxd_sys::flags::{compress, compress2, decompress, op};
use idxd_sys::{Descriptor, opcode, status};
use space::{AECS, DST, SRC, Space, TO_LAST_END, crc32, inflate, pages};

const GNR: Capabilities = Capabilities::GNR;

/// A dynamic stream of `data`, by two descriptors.
fn dynamic(data: &[u8]) -> Vec<u8> {
    let space = Space::new(data, 2 * data.len() + 700);
    let tables = Descriptor {
        dst_addr: 0,
        max_dst_size: 0,
        src2_addr: AECS,
        src2_size: COMPRESS_SIZE,
        filter_flags: compress2::WRITE_TABLES,
        ..space.descriptor(
            opcode::COMPRESS,
            op::WRITE_SRC2_ALWAYS,
            compress::HEADER_TWO_PASS_FINAL | compress::END_EOB,
        )
    };
    assert_eq!(space.run(&GNR, &tables).0.status, status::SUCCESS);
    let data_pass = Descriptor {
        src2_addr: AECS,
        src2_size: COMPRESS_SIZE,
        ..space.descriptor(
            opcode::COMPRESS,
            op::READ_SRC2_AECS | op::AECS_TOGGLE,
            compress::FLUSH_OUTPUT | compress::END_EOB,
        )
    };
    let (record, stream) = space.run(&GNR, &data_pass);
    assert_eq!((record.status, record.crc), (status::SUCCESS, crc32(data)));
    stream
}

#[test]
fn header_made_in_two_passes_makes_a_stream_that_any_inflater_reads() {
    for page in pages() {
        assert!(inflate(&dynamic(&page)) == page);
    }
}

#[test]
fn header_made_in_one_pass_makes_the_same_stream_as_in_two() {
    for page in pages().into_iter().filter(|page| page.len() <= 4096) {
        let space = Space::new(&page, 8192);
        let flags = compress::HEADER_ONE_PASS_FINAL | compress::FLUSH_OUTPUT | compress::END_EOB;
        let (record, stream) = space.run(&GNR, &space.descriptor(opcode::COMPRESS, 0, flags));
        assert_eq!((record.status, record.crc), (status::SUCCESS, crc32(&page)));
        assert!(stream == dynamic(&page));
    }
}

#[test]
fn more_than_a_page_is_too_much_for_one_pass() {
    let space = Space::new(&[0; 4097], 8192);
    let flags = compress::HEADER_ONE_PASS_FINAL | compress::FLUSH_OUTPUT | compress::END_EOB;
    let record = space.run(&GNR, &space.descriptor(opcode::COMPRESS, 0, flags)).0;
    assert_eq!(record.status, status::BAD_INPUT_SIZE);
}

#[test]
fn statistics_count_the_symbols_that_the_stream_then_has() {
    for page in pages() {
        let space = Space::new(&page, 1280);
        let (record, counts) =
            space.run(&Capabilities::SPR, &space.descriptor(opcode::COMPRESS, 0, compress::STATISTICS));
        assert_eq!((record.status, record.output_size), (status::SUCCESS, 1280));
        let count =
            |at: usize| u32::from_le_bytes(counts[4 * at..4 * at + 4].try_into().expect("four bytes"));
        assert_eq!(count(256), 1, "the end of the block is counted once");
        // With the fixed code, the counts tell how long the stream is.
        let literals: u32 =
            (0..144).map(|at| 8 * count(at)).sum::<u32>() + (144..256).map(|at| 9 * count(at)).sum::<u32>();
        let lengths: u32 = (257..286)
            .map(|symbol| {
                let extra = if symbol < 265 || symbol == 285 { 0 } else { (symbol - 261) / 4 };
                count(symbol as usize) * (if symbol < 280 { 7 } else { 8 } + extra)
            })
            .sum();
        let distances: u32 = (0..30)
            .map(|symbol| count(288 + symbol as usize) * (5 + if symbol < 4 { 0 } else { symbol / 2 - 1 }))
            .sum();
        let space = Space::new(&page, 2 * page.len() + 64);
        let (record, _) = space.run(&Capabilities::SPR, &space.compress_fixed());
        assert_eq!(record.output_size, (3 + literals + lengths + distances + 7).div_ceil(8));
        assert_eq!(u32::from(record.output_bits), (3 + literals + lengths + distances + 7) % 8);
    }
}

#[test]
fn stream_made_by_many_descriptors_is_one_stream() {
    for page in pages() {
        for piece in [1, 100, 1000, 4096] {
            let space = Space::new(&page, 3 * page.len() + 64);
            let (mut at, mut out, mut toggle) = (0, 0, 0);
            let mut crc = 0;
            // No final bit in the header: the empty stored block at the end has it.
            space.set_fixed_aecs();
            space.aecs.borrow_mut()[0x20] = 2;
            // The codes are read in both halves, and written in none.
            let codes = space.aecs.borrow()[0x120..0x620].to_vec();
            space.aecs.borrow_mut()[0x620 + 0x120..0x620 + 0x620].copy_from_slice(&codes);
            while at < page.len() {
                let len = piece.min(page.len() - at);
                let last = at + len == page.len();
                let write = if last { 0 } else { op::WRITE_SRC2_ALWAYS };
                let end = compress::FLUSH_OUTPUT | compress::END_EOB_STORED_FINAL;
                let descriptor = Descriptor {
                    src1_addr: SRC + at as u64,
                    src1_size: len as u32,
                    dst_addr: DST + out,
                    max_dst_size: (space.dst.borrow().len() as u64 - out) as u32,
                    src2_addr: AECS,
                    src2_size: COMPRESS_SIZE,
                    ..space.descriptor(
                        opcode::COMPRESS,
                        op::READ_SRC2_AECS | write | toggle,
                        if last { end } else { 0 },
                    )
                };
                let (record, _) = space.run(&Capabilities::SPR, &descriptor);
                assert_eq!(record.status, status::SUCCESS);
                assert!(last || record.output_size % 32 == 0, "the device writes whole units");
                at += len;
                out += u64::from(record.output_size);
                crc = record.crc;
                toggle ^= op::AECS_TOGGLE;
            }
            assert_eq!(crc, crc32(&page));
            assert!(inflate(&space.dst.borrow()[..out as usize]) == page);
        }
    }
}

/// Decompresses with at most `room` bytes of output and `piece` bytes of input a descriptor.
fn in_pieces(stream: &[u8], len: usize, room: usize, piece: usize) -> (Vec<u8>, u32) {
    let space = Space::new(stream, len + 1);
    let (mut at, mut out, mut flags) = (0, 0, 0);
    loop {
        let size = piece.min(stream.len() - at);
        let last = at + size == stream.len();
        let end = if last { TO_LAST_END } else { TO_LAST_END & !decompress::CHECK_EOB };
        let descriptor = Descriptor {
            src1_addr: SRC + at as u64,
            src1_size: size as u32,
            dst_addr: DST + out as u64,
            max_dst_size: room.min(len + 1 - out) as u32,
            src2_addr: AECS,
            src2_size: DECOMPRESS_SIZE,
            ..space.descriptor(opcode::DECOMPRESS, op::WRITE_SRC2_ALWAYS | flags, end)
        };
        let record = space.run(&GNR, &descriptor).0;
        at += record.bytes_completed as usize;
        out += record.output_size as usize;
        match record.status {
            status::SUCCESS if last => return (space.dst.borrow()[..out].to_vec(), record.crc),
            status::SUCCESS | status::OUTPUT_OVERFLOW => {}
            status => panic!("status {status:#x}, error {}", record.error_code),
        }
        flags = (flags ^ op::AECS_TOGGLE) | op::READ_SRC2_AECS;
    }
}

#[test]
fn decompression_stops_at_any_byte_of_input_or_output_and_goes_on() {
    for page in pages().into_iter().filter(|page| page.len() <= 4096) {
        for stream in [dynamic(&page), miniz_oxide::deflate::compress_to_vec(&page, 0)] {
            for (room, piece) in [(1, 5000), (7, 3), (100, 1), (259, 64), (5000, 1), (64, 5000)] {
                let (back, crc) = in_pieces(&stream, page.len(), room, piece);
                assert!(back == page, "room {room}, piece {piece}");
                assert_eq!(crc, crc32(&page));
            }
        }
    }
}

#[test]
fn history_reaches_over_descriptors() {
    let long = &pages()[5];
    let stream = dynamic(long);
    assert!(in_pieces(&stream, long.len(), 5000, 3000).0 == *long);
}

#[test]
fn codes_of_a_header_can_be_kept_for_bodies_without_one() {
    // A last block of three parts that share the header's codes.
    let page = &pages()[1];
    let whole = dynamic(page);
    let space = Space::new(&whole, 4096);
    // The header's length: that of the shortest prefix after which the device is among symbols.
    let header_bits = (1..2048_u32)
        .find(|&bits| {
            space.aecs.borrow_mut().fill(0);
            let header = Descriptor {
                src1_size: bits.div_ceil(8),
                dst_addr: 0,
                max_dst_size: 0,
                src2_addr: AECS,
                src2_size: DECOMPRESS_NO_HISTORY_SIZE,
                ..space.descriptor(
                    opcode::DECOMPRESS,
                    op::WRITE_SRC2_ALWAYS | op::AECS_TOGGLE,
                    decompress::ENABLE
                        | decompress::SUPPRESS_OUTPUT
                        | ((bits.wrapping_neg() % 8) as u16) << decompress::IGNORE_END_BITS_SHIFT,
                )
            };
            let record = space.run(&GNR, &header).0;
            assert_eq!(record.status, status::SUCCESS);
            // State at 0x434: 4 is among the symbols of a last block.
            space.aecs.borrow()[0x434] == 4
        })
        .expect("the header ends somewhere");
    let at = header_bits / 8;
    let mut aecs = space.aecs.borrow()[..DECOMPRESS_NO_HISTORY_SIZE as usize].to_vec();
    // What of the header's last byte belongs to the body comes from the input accumulator.
    aecs[0xb8..0xc0].copy_from_slice(&u64::from(whole[at as usize] >> (header_bits % 8)).to_le_bytes());
    aecs[0x1b8] = (8 - header_bits % 8) as u8;
    space.aecs.borrow_mut()[..aecs.len()].copy_from_slice(&aecs);
    for _ in 0..2 {
        let body = Descriptor {
            src1_addr: SRC + u64::from(at) + 1,
            src1_size: whole.len() as u32 - at - 1,
            src2_addr: AECS,
            src2_size: DECOMPRESS_NO_HISTORY_SIZE,
            ..space.descriptor(
                opcode::DECOMPRESS,
                op::READ_SRC2_AECS,
                decompress::ENABLE | decompress::FLUSH_OUTPUT | decompress::STOP_ON_EOB,
            )
        };
        let (record, back) = space.run(&GNR, &body);
        assert_eq!(record.status, status::SUCCESS);
        assert!(back == *page);
    }
}

#[test]
fn ends_of_blocks_stop_and_are_checked_as_asked() {
    // Two blocks: 'a' in one that is not the last, 'b' in one that is.
    let stream = miniz_oxide::deflate::compress_to_vec(b"b", 0);
    let both = [&[0, 1, 0, 0xfe, 0xff, b'a'][..], &stream].concat();
    let run = |src: &[u8], flags: u16| {
        let space = Space::new(src, 16);
        let flags = flags | decompress::ENABLE | decompress::FLUSH_OUTPUT;
        let (record, out) = space.run(&GNR, &space.descriptor(opcode::DECOMPRESS, 0, flags));
        (record.status, out)
    };
    let (stop, check, last) = (decompress::STOP_ON_EOB, decompress::CHECK_EOB, decompress::SELECT_FINAL_EOB);
    assert_eq!(run(&both, stop | check | last), (status::SUCCESS, b"ab".to_vec()));
    assert_eq!(run(&both, stop), (status::SUCCESS, b"a".to_vec()));
    assert_eq!(run(&both, 0), (status::SUCCESS, b"ab".to_vec()));
    assert_eq!(run(&both[..6], check), (status::SUCCESS, b"a".to_vec()));
    assert_eq!(run(&both[..6], check | last).0, status::ANALYTICS_ERROR);
    assert_eq!(run(&both[..6], stop | last), (status::SUCCESS, b"a".to_vec()));
}

#[test]
fn suppressed_output_is_checked_and_not_written() {
    let page = &pages()[1];
    let space = Space::new(&dynamic(page), 1);
    let descriptor = space.descriptor(opcode::DECOMPRESS, 0, TO_LAST_END | decompress::SUPPRESS_OUTPUT);
    let (record, _) = space.run(&GNR, &descriptor);
    assert_eq!((record.status, record.crc, record.output_size), (status::SUCCESS, crc32(page), 0));
    assert_eq!(*space.dst.borrow(), [0xa5]);
}
