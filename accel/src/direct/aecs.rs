//! What compress descriptors read as source 2: code tables, and a block header that is final.
//!
//! That of the fixed codes is a constant of the program, so all channels and queues share it, and no device ever writes
//! it. That of a page's own codes is made from the counts of its symbols, for devices that make none.

use std::mem::offset_of;

use idxd_sys::aecs::{COMPRESS_SIZE, CompressAecs, DISTANCES, LITERALS, Symbols};
use zfolio_fallback::tree::{Code, Codes, Header, Histogram, Lengths};

/// As a device likes it: in cache lines of its own.
#[repr(align(64))]
struct Aligned(CompressAecs);

/// One final block of the fixed codes of RFC 1951.
static FIXED: Aligned = Aligned(fixed());

/// Where it lies, and how long it is.
pub(crate) fn range() -> (u64, u32) {
    (&raw const FIXED.0 as u64, COMPRESS_SIZE)
}

/// Codes for a page whose symbols a device has counted; `None` where the fixed codes make it as short.
///
/// Counts that cannot be true make codes all the same, which may lack a symbol that is needed: the device then says so.
pub(crate) fn of_counts(counts: &[u8]) -> Option<CompressAecs> {
    let count = |at: usize| counts.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
    let mut histogram = Histogram::default();
    for (k, place) in histogram.literals.iter_mut().enumerate() {
        *place = count(offset_of!(Symbols, literals) + 4 * k)?;
    }
    for (k, place) in histogram.distances.iter_mut().enumerate() {
        *place = count(offset_of!(Symbols, distances) + 4 * k)?;
    }
    let lengths = Lengths::of(&histogram);
    let header = Header::of(&lengths, true);
    if u64::from(header.bits()) + lengths.bits(&histogram) >= 3 + fixed_bits(&histogram) {
        return None;
    }
    let codes = Codes::of(&lengths);
    let entry = |code: Code| u32::from(code.len) << 15 | u32::from(code.bits);
    let mut accumulator = [0; 256];
    accumulator.get_mut(..header.bytes().len())?.copy_from_slice(header.bytes());
    Some(CompressAecs {
        accumulator_bits: header.bits(),
        accumulator,
        codes: Symbols {
            literals: codes.literals.map(entry),
            distances: codes.distances.map(entry),
            ..FIXED.0.codes
        },
        ..FIXED.0
    })
}

/// Bits of these symbols in the fixed codes.
fn fixed_bits(histogram: &Histogram) -> u64 {
    let len = |(&entry, &count): (&u32, &u32)| u64::from(entry >> 15) * u64::from(count);
    let Symbols { literals, distances, .. } = &FIXED.0.codes;
    literals.iter().zip(&histogram.literals).map(len).sum::<u64>()
        + distances.iter().zip(&histogram.distances).map(len).sum::<u64>()
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

    /// The counts as a device writes them.
    fn counts(literals: impl Fn(usize) -> u32) -> Vec<u8> {
        let words = (0..320).map(|k| if k < 286 { literals(k) } else { 0 });
        words.flat_map(u32::to_le_bytes).collect()
    }

    #[test]
    fn symbols_that_are_frequent_get_short_codes_and_none_are_made_where_they_do_not_pay() {
        let aecs = of_counts(&counts(|k| {
            [3000, 500, 60, 1][k.min(2) + usize::from(k > 3)] * u32::from(k < 4 || k == 256)
        }))
        .expect("most of the page is one byte");
        let len = |symbol: usize| aecs.codes.literals[symbol] >> 15;
        assert!(len(0) == 1 && len(0) < len(1) && len(1) < len(256), "{} {} {}", len(0), len(1), len(256));
        assert_eq!(len(100), 0, "it is not in the page");
        assert_eq!(aecs.accumulator[0] & 7, 0b101, "a last block with codes of its own");
        assert!(aecs.accumulator_bits > 3 && aecs.accumulator_bits <= 8 * 256);
        assert!(of_counts(&counts(|k| u32::from(k < 144))).is_none(), "a page of all bytes alike");
        assert!(of_counts(&[0; 1279]).is_none());
        // Whatever a device says, no counts are refused and nothing panics.
        of_counts(&[0xff; 1280]);
    }

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
