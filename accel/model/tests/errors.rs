//! Streams that the device refuses, each with the error code that says why.

mod space;

use iaa_model::Capabilities;
use idxd_sys::{error_code, status};
use space::Space;

/// Bits, lowest first, as a stream has them.
#[derive(Default)]
struct Bits {
    bits: Vec<bool>,
}

impl Bits {
    /// The lowest `len` bits of `value`.
    fn put(mut self, value: u32, len: u32) -> Bits {
        self.bits.extend((0..len).map(|bit| value >> bit & 1 == 1));
        self
    }

    /// A Huffman code, its first bit the highest.
    fn code(self, value: u32, len: u32) -> Bits {
        self.put(value.reverse_bits() >> (32 - len), len)
    }

    /// Header of a last dynamic block whose code lengths have the codes 0: `0`, 1: `10`, 18: `110`, 16: `1110`,
    /// and nothing else.
    fn dynamic(literals: u32, distances: u32) -> Bits {
        // Places 16, 17, 18, 0, then 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1.
        let header = Bits::default().put(0b101, 3).put(literals - 257, 5).put(distances - 1, 5).put(14, 4);
        let header = header.put(4, 3).put(0, 3).put(3, 3).put(1, 3);
        (0..13).fold(header, |header, _| header.put(0, 3)).put(2, 3)
    }

    fn zeros(self, times: u32) -> Bits {
        match times {
            0 => self,
            1..11 => self.code(0, 1).zeros(times - 1),
            11..139 => self.code(0b110, 3).put(times - 11, 7),
            _ => self.code(0b110, 3).put(127, 7).zeros(times - 138),
        }
    }

    fn one(self) -> Bits {
        self.code(0b10, 2)
    }

    fn bytes(&self) -> Vec<u8> {
        // What follows are ones, so that nothing is right by chance.
        let mut bytes = vec![0xff_u8; self.bits.len() / 8 + 9];
        for (at, bit) in self.bits.iter().enumerate() {
            if !bit {
                bytes[at / 8] &= !(1 << (at % 8));
            }
        }
        bytes
    }
}

fn error_of(stream: &[u8], strict_headers: bool) -> (u8, u8) {
    let space = Space::new(stream, 20_000);
    let capabilities = Capabilities { strict_headers, ..Capabilities::SPR };
    let (record, _) = space.run(&capabilities, &space.decompress());
    (record.status, record.error_code)
}

#[track_caller]
fn refused(stream: &Bits, code: u8) {
    assert_eq!(error_of(&stream.bytes(), true), (status::ANALYTICS_ERROR, code));
}

fn fixed() -> Bits {
    Bits::default().put(0b011, 3)
}

#[test]
fn block_of_type_three_is_refused() {
    refused(&Bits::default().put(0b111, 3), error_code::INVALID_BLOCK_TYPE);
}

#[test]
fn stored_length_that_its_complement_contradicts_is_refused() {
    let stream = Bits::default().put(0b001, 8).put(5, 16).put(5, 16);
    refused(&stream, error_code::INVALID_STORED_LENGTH);
}

#[test]
fn more_symbols_than_there_are_is_refused() {
    refused(&Bits::default().put(0b101, 3).put(30, 5), error_code::TOO_MANY_LL_CODES);
    refused(&Bits::default().put(0b101, 3).put(0, 5).put(30, 5), error_code::TOO_MANY_D_CODES);
}

#[test]
fn oversubscribed_code_of_code_lengths_is_refused() {
    let header = Bits::default().put(0b101, 3).put(0, 10).put(0, 4);
    refused(&header.put(1, 3).put(1, 3).put(1, 3).put(0, 3), error_code::BAD_CL_CODE_LENGTHS);
}

#[test]
fn code_length_without_a_code_is_refused_where_it_stands() {
    refused(&Bits::dynamic(257, 1).zeros(3).code(0b1111, 4), error_code::BAD_CL_CODE);
}

#[test]
fn list_of_code_lengths_that_begins_with_a_repeat_is_refused() {
    refused(&Bits::dynamic(257, 1).code(0b1110, 4).put(0, 2), error_code::FIRST_LL_CODE_IS_REPEAT);
    let literals = Bits::dynamic(257, 4).one().zeros(255).one();
    refused(&literals.code(0b1110, 4).put(0, 2), error_code::FIRST_D_CODE_IS_REPEAT);
}

#[test]
fn lists_of_code_lengths_that_are_too_long_are_refused() {
    refused(&Bits::dynamic(257, 1).zeros(138).zeros(138), error_code::WRONG_NUM_LL_CODES);
    refused(&Bits::dynamic(257, 1).one().zeros(255).one().zeros(11), error_code::WRONG_NUM_D_CODES);
}

#[test]
fn block_without_literal_codes_is_refused() {
    refused(&Bits::dynamic(257, 1).zeros(257).zeros(1), error_code::NO_LL_CODE);
}

#[test]
fn oversubscribed_codes_are_refused() {
    let literals = Bits::dynamic(257, 1).one().one().zeros(254).one().zeros(1);
    refused(&literals, error_code::BAD_LL_CODE_LENGTHS);
    let distances = Bits::dynamic(257, 3).one().zeros(255).one().one().one().one();
    refused(&distances, error_code::BAD_D_CODE_LENGTHS);
}

#[test]
fn symbol_without_a_code_is_refused_where_it_stands() {
    // One code of one bit, and the other bit stands there.
    refused(&Bits::dynamic(257, 1).one().zeros(255).zeros(1).zeros(1).put(1, 1), error_code::BAD_LL_CODE);
    refused(&fixed().code(0xc6, 8), error_code::BAD_LL_CODE);
    refused(&fixed().code(0x30, 8).code(1, 7).code(30, 5), error_code::BAD_D_CODE);
}

#[test]
fn distance_beyond_the_devices_history_is_refused_though_the_format_allows_it() {
    let literals = (0..5000).fold(fixed(), |stream, _| stream.code(0x30, 8));
    // Symbol 24: from 4097 on.
    refused(&literals.code(1, 7).code(24, 5).put(0, 11), error_code::BAD_DISTANCE);
}

#[test]
fn match_that_begins_before_the_output_is_refused() {
    refused(&fixed().code(0x30, 8).code(1, 7).code(1, 5), error_code::REFERENCE_BEFORE_START);
}

#[test]
fn input_that_ends_before_its_last_block_does_is_refused_if_that_is_checked() {
    let stream = [0b011, 0xff_u8, 0xff];
    assert_eq!(error_of(&stream[..1], true), (status::ANALYTICS_ERROR, error_code::BAD_END_OF_FILE));
}

#[test]
fn repeat_across_the_two_lists_is_refused_unless_the_model_is_told_to_be_lax() {
    // Literal 0 and the end of block; the run of zeros goes on into the distances.
    let stream = Bits::dynamic(258, 11).one().zeros(255).one().zeros(12);
    let stream = stream.code(0, 1).code(0, 1).code(1, 1).bytes();
    assert_eq!(error_of(&stream, true), (status::ANALYTICS_ERROR, error_code::WRONG_NUM_LL_CODES));
    assert_eq!(error_of(&stream, false), (status::SUCCESS, 0));
}
