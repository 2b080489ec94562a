//! The one AECS that fixed-Huffman compress descriptors read: code tables, and a block header that is final.
//!
//! It is a constant of the program, so all channels and queues share it, and no device ever writes it.

use std::mem::{offset_of, size_of};

/// The compress AECS without a dictionary, as the device reads it.
#[repr(C, align(64))]
struct CompressAecs {
    crc: u32,
    xor_checksum: u32,
    reserved0: [u32; 5],
    /// Valid bits of `accumulator`.
    accumulator_bits: u32,
    /// Output bits that stand before the first symbol.
    accumulator: [u8; 256],
    /// Code and, from bit 15 on, its length.
    literal_lengths: [u32; 286],
    reserved1: [u32; 2],
    distances: [u32; 30],
    reserved2: [u32; 2],
}

/// Bytes that the device reads of it.
const COMPRESS_AECS_SIZE: u32 = 0x620;

const _: () = {
    assert!(offset_of!(CompressAecs, accumulator_bits) == 0x1c);
    assert!(offset_of!(CompressAecs, accumulator) == 0x20);
    assert!(offset_of!(CompressAecs, literal_lengths) == 0x120);
    assert!(offset_of!(CompressAecs, distances) == 0x5a0);
    assert!(offset_of!(CompressAecs, reserved2) + 8 == COMPRESS_AECS_SIZE as usize);
    assert!(size_of::<CompressAecs>() == 0x640, "rounded up to the alignment");
};

/// One final block of the fixed codes of RFC 1951.
static FIXED: CompressAecs = fixed();

/// Where it lies, and how long it is.
pub(crate) fn range() -> (u64, u32) {
    (&raw const FIXED as u64, COMPRESS_AECS_SIZE)
}

const fn fixed() -> CompressAecs {
    let mut literal_lengths = [0; 286];
    let mut symbol = 0;
    while symbol < 286 {
        let (code, bits) = match symbol {
            0..144 => (0x30 + symbol, 8),
            144..256 => (0x190 + symbol - 144, 9),
            256..280 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        literal_lengths[symbol as usize] = code | bits << 15;
        symbol += 1;
    }
    let mut distances = [0; 30];
    let mut symbol = 0;
    while symbol < 30 {
        distances[symbol as usize] = symbol | 5 << 15;
        symbol += 1;
    }
    let mut accumulator = [0; 256];
    // BFINAL = 1, BTYPE = 01, least significant bit first.
    accumulator[0] = 0b011;
    CompressAecs {
        crc: 0,
        xor_checksum: 0,
        reserved0: [0; 5],
        accumulator_bits: 3,
        accumulator,
        literal_lengths,
        reserved1: [0; 2],
        distances,
        reserved2: [0; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_other_drivers_send() {
        let code = |symbol: usize| FIXED.literal_lengths[symbol];
        assert_eq!([code(0), code(144), code(256), code(280)], [0x40030, 0x48190, 0x38000, 0x400c0]);
        assert_eq!((FIXED.distances[0], FIXED.distances[29]), (0x28000, 0x2801d));
        assert_eq!((FIXED.accumulator[0], FIXED.accumulator_bits), (3, 3));
    }
}
