//! The denser encoder: each block has Huffman codes of its own.
//!
//! Two passes over at most [`SEQUENCES`] matches at a time, which is at least a page: the first finds the matches and
//! counts symbols, the second writes them, with the codes that the counts ask for or with the fixed code where that is
//! shorter. The header costs fifty bytes or so, so it pays where there is much to write: for text, code, and what
//! holds few matches.

use super::bits::{BitWriter, Overflow};
use super::fixed;
use super::matches::{self, MATCH, Seen, WINDOW};
use super::symbols;
use super::tree::{Code, Codes, DISTANCES, END_OF_BLOCK, Header, Histogram, LITERALS, Lengths};

/// Matches of a block. A page has no more, as the shortest has four bytes.
const SEQUENCES: usize = 1024;

/// Some literals and the match after them.
#[derive(Clone, Copy, Default)]
struct Sequence {
    literals: u32,
    len: u16,
    distance: u16,
}

/// What the encoder reuses.
pub(super) struct Dynamic {
    sequences: Box<[Sequence; SEQUENCES]>,
    counts: Histogram,
    fixed: Table,
    own: Table,
}

/// What the first pass found: a block's part of the source.
struct Block {
    sequences: usize,
    end: usize,
    /// Bits that follow the symbols of lengths and distances.
    extra_bits: u64,
}

impl Dynamic {
    pub(super) fn new() -> Dynamic {
        Dynamic {
            sequences: Box::new([Sequence::default(); SEQUENCES]),
            counts: Histogram::default(),
            fixed: Table::of(&Codes::fixed()),
            own: Table::of(&Codes::fixed()),
        }
    }

    /// Writes `src` as blocks with the fixed code or codes of their own, and returns their length.
    pub(super) fn blocks(&mut self, seen: &mut Seen, src: &[u8], dst: &mut [u8]) -> Result<usize, Overflow> {
        seen.clear();
        let mut out = BitWriter::new(dst);
        let mut start = 0;
        loop {
            // As in the other encoder, pages have code of their own.
            let block = match src.as_array::<WINDOW>() {
                Some(page) => self.find::<false>(seen, page, start),
                None => self.find::<true>(seen, src, start),
            };
            let last = block.end == src.len();
            self.write(&mut out, src, start, &block, last)?;
            start = block.end;
            if last {
                return out.finish();
            }
        }
    }

    /// The first pass: matches from `start` on, until the source ends or as many are found as a block takes.
    #[inline(always)]
    fn find<const LONG: bool>(&mut self, seen: &mut Seen, src: &[u8], start: usize) -> Block {
        self.counts = Histogram::default();
        let counts = &mut self.counts;
        counts.literals[END_OF_BLOCK] = 1;
        let mut literals = Literals([0; 512]);
        let mut extra_bits = 0;
        let mut sequences = 0;
        // Up to where everything is in a sequence.
        let mut done = start;
        // Nothing comes before the first byte, and empty entries already name it.
        let mut pos = start.max(1);
        while pos + MATCH <= src.len() && sequences < SEQUENCES {
            let Some(word) = matches::bytes(src, pos).map(u32::from_le_bytes) else { break };
            let Some(earlier) = seen.find::<LONG>(src, pos, word) else {
                pos += 1;
                continue;
            };
            let len = matches::len(src, pos, earlier);
            for inner in [pos + 1, pos + len - 1] {
                if let Some(word) = matches::bytes(src, inner) {
                    seen.remember(inner, u32::from_le_bytes(word));
                }
            }
            let distance = pos - earlier;
            literals.count(src, done, pos);
            let (length_symbol, distance_symbol) = (symbols::length(len), symbols::distance(distance));
            counts.literals[usize::from(length_symbol.number)] += 1;
            counts.distances[usize::from(distance_symbol.number)] += 1;
            extra_bits += u64::from(length_symbol.extra_len + distance_symbol.extra_len);
            self.sequences[sequences] =
                Sequence { literals: (pos - done) as u32, len: len as u16, distance: distance as u16 };
            sequences += 1;
            pos += len;
            done = pos;
        }
        let end = if sequences < SEQUENCES { src.len() } else { done };
        literals.count(src, done, end);
        counts.literals[..256].copy_from_slice(&literals.0[..256]);
        Block { sequences, end, extra_bits }
    }

    /// The second pass: writes a block in the shorter of two ways.
    fn write(
        &mut self,
        out: &mut BitWriter<'_>,
        src: &[u8],
        start: usize,
        block: &Block,
        last: bool,
    ) -> Result<(), Overflow> {
        let lengths = Lengths::of(&self.counts);
        let header = Header::of(&lengths, last);
        let own_bits = u64::from(header.bits()) + lengths.bits(&self.counts);
        let fixed_bits = 3 + self.fixed.bits(&self.counts);
        // Known before a bit is written: what does not compress costs no second pass.
        if out.room() < own_bits.min(fixed_bits) + block.extra_bits {
            return Err(Overflow);
        }
        let table = if own_bits < fixed_bits {
            self.own = Table::of(&Codes::of(&lengths));
            let mut left = header.bits();
            for &byte in header.bytes() {
                out.put((byte.into(), left.min(8)));
                out.flush()?;
                left = left.saturating_sub(8);
            }
            &self.own
        } else {
            out.put((u64::from(last) | fixed::BLOCK, 3));
            out.flush()?;
            &self.fixed
        };

        let mut pos = start;
        for sequence in &self.sequences[..block.sequences] {
            table.put_literals(out, src, pos, sequence.literals as usize)?;
            let (length, distance) =
                (symbols::length(sequence.len.into()), symbols::distance(sequence.distance.into()));
            out.put(table.literal(length.number.into()));
            out.put((length.extra.into(), length.extra_len.into()));
            out.put(table.distance(distance.number.into()));
            out.put((distance.extra.into(), distance.extra_len.into()));
            out.flush()?;
            pos += sequence.literals as usize + usize::from(sequence.len);
        }
        table.put_literals(out, src, pos, block.end - pos)?;
        out.put(table.literal(END_OF_BLOCK));
        out.flush()
    }
}

/// How often each byte is a literal; the upper half counts what is none.
struct Literals([u32; 512]);

impl Literals {
    #[inline(always)]
    fn count(&mut self, src: &[u8], mut start: usize, end: usize) {
        while start < end {
            let Some(three) = matches::bytes::<3>(src, start) else { break };
            // Most runs are that short: how many there are is no branch.
            for (place, byte) in three.into_iter().enumerate() {
                self.0[usize::from(byte) | usize::from(start + place >= end) << 8] += 1;
            }
            start += 3;
        }
        for &byte in src.get(start..end).unwrap_or_default() {
            self.0[usize::from(byte)] += 1;
        }
    }
}

/// Codes as they are put: bits in the low half, their number in the high one.
struct Table {
    literals: [u32; LITERALS],
    distances: [u32; DISTANCES],
}

impl Table {
    fn of(codes: &Codes) -> Table {
        let entry = |code: Code| u32::from(code.reversed()) | u32::from(code.len) << 16;
        Table { literals: codes.literals.map(entry), distances: codes.distances.map(entry) }
    }

    /// Bits of the symbols counted.
    fn bits(&self, counts: &Histogram) -> u64 {
        let bits = |(entry, count): (&u32, &u32)| u64::from(entry >> 16) * u64::from(*count);
        let literals = self.literals.iter().zip(&counts.literals).map(bits).sum::<u64>();
        literals + self.distances.iter().zip(&counts.distances).map(bits).sum::<u64>()
    }

    #[inline(always)]
    fn literal(&self, symbol: usize) -> (u64, u32) {
        let entry = self.literals[symbol];
        (u64::from(entry & 0xffff), entry >> 16)
    }

    #[inline(always)]
    fn distance(&self, symbol: usize) -> (u64, u32) {
        let entry = self.distances[symbol];
        (u64::from(entry & 0xffff), entry >> 16)
    }

    /// Puts `count` bytes from `pos` on as literals.
    #[inline(always)]
    fn put_literals(
        &self,
        out: &mut BitWriter<'_>,
        src: &[u8],
        mut pos: usize,
        mut count: usize,
    ) -> Result<(), Overflow> {
        while let Some([a, b, c]) = matches::bytes(src, pos) {
            let [a, b, c] = [a, b, c].map(|byte| self.literal(byte.into()));
            // Three codes have at most 45 bits. Most runs are that short: how many there are is no branch.
            let bits = a.0 | b.0 << a.1 | c.0 << (a.1 + b.1);
            let ends = [0, a.1, a.1 + b.1, a.1 + b.1 + c.1];
            let len = ends[count.min(3)];
            out.put((bits & ((1 << len) - 1), len));
            out.flush()?;
            if count <= 3 {
                return Ok(());
            }
            (pos, count) = (pos + 3, count - 3);
        }
        // The last bytes of the source.
        for &byte in &src[pos..pos + count] {
            out.put(self.literal(byte.into()));
        }
        out.flush()
    }
}
