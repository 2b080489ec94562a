//! The one AECS that fixed-Huffman compress descriptors read: code tables, and a block header that is final.
//!
//! It is a constant of the program, so all channels and queues share it, and no device ever writes it.

use idxd_sys::aecs::{COMPRESS_SIZE, CompressAecs, DISTANCES, LITERALS, Symbols};

/// As a device likes it: in cache lines of its own.
#[repr(align(64))]
struct Aligned(CompressAecs);

/// One final block of the fixed codes of RFC 1951.
static FIXED: Aligned = Aligned(fixed());

/// Where it lies, and how long it is.
pub(crate) fn range() -> (u64, u32) {
    (&raw const FIXED.0 as u64, COMPRESS_SIZE)
}

const fn fixed() -> CompressAecs {
    let mut literals = [0; LITERALS];
    let mut symbol = 0;
    while symbol < LITERALS as u32 {
        let (code, bits) = match symbol {
            0..144 => (0x30 + symbol, 8),
            144..256 => (0x190 + symbol - 144, 9),
            256..280 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        literals[symbol as usize] = code | bits << 15;
        symbol += 1;
    }
    let mut distances = [0; DISTANCES];
    let mut symbol = 0;
    while symbol < DISTANCES as u32 {
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
        codes: Symbols { literals, reserved0: [0; 2], distances, reserved1: [0; 2] },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_other_drivers_send() {
        let Symbols { literals, distances, .. } = FIXED.0.codes;
        assert_eq!(
            [literals[0], literals[144], literals[256], literals[280]],
            [0x40030, 0x48190, 0x38000, 0x400c0]
        );
        assert_eq!((distances[0], distances[29]), (0x28000, 0x2801d));
        assert_eq!((FIXED.0.accumulator[0], FIXED.0.accumulator_bits), (3, 3));
        assert_eq!(range().0 % 64, 0);
    }
}
