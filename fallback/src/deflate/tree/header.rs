//! The header of a dynamic block: the code lengths, themselves run-length and Huffman coded.

use super::super::bits::BitWriter;
use super::{DISTANCES, LITERALS, Lengths, canonical, shortest};

/// The order in which the lengths of the code for code lengths are sent, so that the last ones are seldom used.
const ORDER: [usize; CODE_LENGTHS] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The code lengths 0 to 15, and three repeats.
const CODE_LENGTHS: usize = 19;
const REPEAT_PREVIOUS: u8 = 16;
const REPEAT_ZERO: u8 = 17;
const REPEAT_ZERO_LONG: u8 = 18;

/// Bits that follow each symbol.
const EXTRA: [u8; CODE_LENGTHS] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 7];

/// The longest code of a code length.
const LONGEST_CODE: usize = 7;

/// Longest header in bytes. A code with five bits for each symbol would do, and the code that is used is never worse
/// than another; a repeat with what follows is at most five bits for each length it stands for. So 3 + 14 + 57 +
/// 5 * 316 bits suffice. An IAA has room for 256 bytes.
const LONGEST: usize = 207;

/// The bits of a block before its first symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    // Eight more, which a writer of whole words may use.
    bytes: [u8; LONGEST + 8],
    bits: u32,
}

impl Header {
    /// The header of a block with these code lengths: the block's three bits, `last` among them, and the lengths.
    pub fn of(lengths: &Lengths, last: bool) -> Header {
        let mut runs = Runs { counts: [0; CODE_LENGTHS], symbols: [(0, 0); LITERALS + DISTANCES], len: 0 };
        let literals = used(&lengths.literals, 257);
        let distances = used(&lengths.distances, 1);
        // One after the other, so that no run crosses from the first to the second.
        runs.add(literals);
        runs.add(distances);

        let mut code_lengths = [0; CODE_LENGTHS];
        shortest(&runs.counts, LONGEST_CODE, &mut code_lengths);
        let given =
            ORDER.iter().rposition(|&symbol| code_lengths[symbol] > 0).map_or(4, |last| (last + 1).max(4));

        let mut bytes = [0; LONGEST + 8];
        let mut out = BitWriter::new(&mut bytes);
        let mut bits = 0;
        let mut put = |value: usize, len: u32| {
            out.put((value as u64, len));
            bits += len;
            // There is room, as [`LONGEST`] shows.
            let _ = out.flush();
        };
        put(usize::from(last) | 0b10 << 1, 3);
        put(literals.len() - 257, 5);
        put(distances.len() - 1, 5);
        put(given - 4, 4);
        for &symbol in &ORDER[..given] {
            put(usize::from(code_lengths[symbol]), 3);
        }
        let codes = canonical(&code_lengths).map(|code| (code.reversed(), code.len));
        for &(symbol, extra) in &runs.symbols[..runs.len] {
            let (code, len) = codes[usize::from(symbol) % CODE_LENGTHS];
            put(
                usize::from(code) | usize::from(extra) << len,
                u32::from(len + EXTRA[usize::from(symbol) % CODE_LENGTHS]),
            );
        }
        let _ = out.finish();
        Header { bytes, bits }
    }

    /// How many bits the header has.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// The header, its first bit the lowest of the first byte; the last byte's other bits are zero.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.bits.div_ceil(8) as usize]
    }
}

/// The lengths up to the last that is not zero, and at least `least`.
fn used(lengths: &[u8], least: usize) -> &[u8] {
    let end = lengths.iter().rposition(|&len| len > 0).map_or(0, |last| last + 1);
    &lengths[..end.max(least)]
}

/// Code lengths as symbols, each with the value of the bits that follow it, and how often each symbol occurs.
struct Runs {
    counts: [u32; CODE_LENGTHS],
    symbols: [(u8, u8); LITERALS + DISTANCES],
    len: usize,
}

impl Runs {
    fn add(&mut self, lengths: &[u8]) {
        for run in lengths.chunk_by(|a, b| a == b) {
            let (len, mut left) = (run[0], run.len());
            if len == 0 {
                while left >= 11 {
                    let some = left.min(138);
                    self.push(REPEAT_ZERO_LONG, some - 11);
                    left -= some;
                }
                if left >= 3 {
                    self.push(REPEAT_ZERO, left - 3);
                    left = 0;
                }
            } else {
                self.push(len, 0);
                left -= 1;
                while left >= 3 {
                    let some = left.min(6);
                    self.push(REPEAT_PREVIOUS, some - 3);
                    left -= some;
                }
            }
            for _ in 0..left {
                self.push(len, 0);
            }
        }
    }

    #[inline(always)]
    fn push(&mut self, symbol: u8, extra: usize) {
        self.symbols[self.len] = (symbol, extra as u8);
        self.counts[usize::from(symbol)] += 1;
        self.len += 1;
    }
}
