//! The fixed Huffman code of DEFLATE, as tables of ready-made bits.
//!
//! The encoder reads them for each literal and each match. DEFLATE sends a Huffman code from its highest bit
//! and everything else from its lowest, so the codes here are already reversed: whoever appends an entry's
//! bits to a little-endian bit buffer has written the symbol.

/// The symbol that ends a block is this many zero bits.
pub(super) const END_OF_BLOCK_LEN: u32 = 7;
/// Three bits: a block with the fixed code, and more blocks after it.
pub(super) const BLOCK: u64 = 0b010;
/// The last block, with the fixed code.
pub(super) const LAST_BLOCK: u64 = BLOCK | 1;

use super::symbols::{self, LONGEST, SHORTEST, Symbol};

/// The lowest `len` bits of `code`, in reverse order.
const fn reversed(code: u32, len: u32) -> u32 {
    code.reverse_bits() >> (32 - len)
}

/// Code and length of a literal or length symbol.
const fn symbol(number: u32) -> (u32, u32) {
    match number {
        0..=143 => (reversed(0x30 + number, 8), 8),
        144..=255 => (reversed(0x190 + number - 144, 9), 9),
        256..=279 => (reversed(number - 256, 7), 7),
        _ => (reversed(0xc0 + number - 280, 8), 8),
    }
}

/// Code of each literal byte: 8 bits for a byte below 144, 9 for the others.
static LITERAL: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = symbol(byte as u32).0 as u16;
        byte += 1;
    }
    table
};

/// For each match length less [`SHORTEST`]: symbol and extra bits in the low 24 bits, their number above.
static LENGTH: [u32; 256] = {
    let mut table = [0; 256];
    let mut len = SHORTEST;
    while len <= LONGEST {
        let Symbol { number, extra, extra_len } = symbols::length_symbol(len);
        let (code, code_len) = symbol(number as u32);
        table[len - SHORTEST] = code | (extra as u32) << code_len | (code_len + extra_len as u32) << 24;
        len += 1;
    }
    table
};

/// Code of each distance symbol: always five bits.
static DISTANCE: [u8; 32] = {
    let mut table = [0; 32];
    let mut number = 0;
    while number < 32 {
        table[number] = reversed(number as u32, 5) as u8;
        number += 1;
    }
    table
};

/// The bits of one literal, and their number.
#[inline(always)]
pub(super) fn literal(byte: u8) -> (u64, u32) {
    (u64::from(LITERAL[usize::from(byte)]), 8 + u32::from(byte >= 144))
}

/// The bits of the lowest four bytes of `word` as literals, and where they end.
///
/// Byte `k` of the second number, for `k` up to 4, is how many bits the first `k` literals take, so that a caller who wants
/// fewer than four cuts the bits there, without a branch.
#[inline(always)]
pub(super) fn four_literals(word: u64) -> (u64, u64) {
    // A byte of 144 or more has its high bit, and at least 16 in the other seven. Each such byte adds one bit
    // to every end after it: one multiplication makes all the sums, on top of 8, 16, 24 and 32.
    let nine = ((word & 0x7f7f_7f7f) + 0x7070_7070) & word & 0x8080_8080;
    let ends = (nine >> 7) * 0x01_0101_0100 + 0x20_1810_0800;
    let code = |k: u32| u64::from(LITERAL[(word >> (8 * k)) as usize & 0xff]);
    let at = |k: u32| ends >> (8 * k) & 63;
    (code(0) | code(1) << at(1) | code(2) << at(2) | code(3) << at(3), ends)
}

/// The bits of a match, and their number: at most 28 for a distance up to 4096.
#[inline(always)]
pub(super) fn matched(len: usize, distance: usize) -> (u64, u32) {
    debug_assert!((SHORTEST..=LONGEST).contains(&len) && distance > 0);
    let length = LENGTH[(len - SHORTEST) & 0xff];
    let length_len = length >> 24;
    let Symbol { number, extra, extra_len } = symbols::distance(distance);
    let distance = u64::from(DISTANCE[usize::from(number) & 31]) | u64::from(extra) << 5;
    (u64::from(length & 0xff_ffff) | distance << length_len, length_len + 5 + u32::from(extra_len))
}

#[cfg(test)]
mod tests {
    use super::super::bits::BitWriter;
    use super::*;
    use crate::check;

    /// Writes a block of 4096 literals of every kind and then the matches, and has it read.
    fn read(matches: &[(usize, usize)]) {
        let mut expected: Vec<u8> =
            (0..4096_u32).map(|at| (at.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        let mut stream = vec![0; 5000 + 4 * matches.len()];
        let mut out = BitWriter::new(&mut stream);
        out.put((LAST_BLOCK, 3));
        for four in expected.as_chunks::<4>().0 {
            let (bits, ends) = four_literals(u64::from(u32::from_le_bytes(*four)) | 0xfedc_ba98 << 32);
            out.put((bits, (ends >> 32) as u32 & 63));
            out.flush().unwrap();
        }
        for &(len, distance) in matches {
            out.put(matched(len, distance));
            out.flush().unwrap();
            for _ in 0..len {
                expected.push(expected[expected.len() - distance]);
            }
        }
        out.put((0, END_OF_BLOCK_LEN));
        out.finish().unwrap();
        assert!(check::inflate(&stream, expected.len()).unwrap().bytes == expected);
    }

    #[test]
    fn every_length_and_every_distance_is_written_as_the_format_says() {
        read(&(SHORTEST..=LONGEST).map(|len| (len, 5 * len)).collect::<Vec<_>>());
        read(&(1..=4096).map(|distance| (SHORTEST + distance % 256, distance)).collect::<Vec<_>>());
    }
}
