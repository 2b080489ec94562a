//! Literal words to byte planes, in safe code.
//!
//! Loops go over arrays of fixed size, or over chunks, wherever they can, so that a compiler makes vectors of them;
//! bytes are told apart without branches, since no one can foretell them.

use super::super::bits::{lanes, ones};
use super::super::format::WORDS;
use super::{Counts, Mode, PLANES, choose, sampling_step};

/// Tables of counts for each plane.
const TURNS: usize = 2;
/// How often each byte occurs; no more than 255 times is counted.
type Histogram = [u8; 256];

/// Planes of which no byte is coded: one byte of modes, then symbols, mask and bytes of each.
const CODED: usize = 1 + PLANES * (16 + WORDS / 8 + WORDS);

/// A code that is none.
const RAW: u8 = 0x80;

/// The memory of the encoder.
pub(in super::super) struct PlaneSpace {
    planes: [[u8; WORDS]; PLANES],
    /// In turns, because adding one to what has just been written takes long.
    counts: [[Histogram; PLANES]; TURNS],
    code_of: [u8; 256],
    /// The codes of all bytes of a plane, of those that have one, and the bytes that have none.
    all_codes: [u8; WORDS],
    codes: [u8; WORDS + 4],
    raw: [u8; WORDS],
    coded: [u8; CODED],
}

impl PlaneSpace {
    pub(in super::super) const EMPTY: PlaneSpace = PlaneSpace {
        planes: [[0; WORDS]; PLANES],
        counts: [[[0; 256]; PLANES]; TURNS],
        code_of: [0; 256],
        all_codes: [0; WORDS],
        codes: [0; WORDS + 4],
        raw: [0; WORDS],
        coded: [0; CODED],
    };

    /// Codes `words`, of which there is at least one; `None` if raw words are not longer.
    #[inline(always)]
    pub(in super::super) fn encode(&mut self, words: &[u32]) -> Option<&[u8]> {
        let samples = self.count(words);
        self.split(words);
        let mut at = 1;
        let mut modes = 0;
        for plane in 0..PLANES {
            let counts = &self.saturated(plane);
            let (mode, at_least) = choose(&tell(counts), words.len(), samples);
            modes |= (mode as u8) << (2 * plane);
            if mode == Mode::Raw {
                at = append(&mut self.coded, at, &self.planes[plane][..words.len()]);
            } else {
                let symbols = most_frequent(counts, at_least);
                at = self.code_plane(plane, words.len(), mode, &symbols[..mode.symbols()], at);
            }
        }
        self.coded[0] = modes;
        (at < 4 * words.len()).then_some(&self.coded[..at])
    }

    /// Counts the bytes of a sample; its size.
    #[inline(always)]
    fn count(&mut self, words: &[u32]) -> usize {
        self.counts = [[[0; 256]; PLANES]; TURNS];
        let sample = words.iter().step_by(sampling_step(words.len()));
        let samples = sample.len();
        for (turn, word) in sample.enumerate() {
            for (plane, byte) in word.to_le_bytes().into_iter().enumerate() {
                // At most 256 samples, in turns.
                self.counts[turn % TURNS][plane][usize::from(byte)] += 1;
            }
        }
        samples
    }

    /// Both turns' counts of a plane.
    #[inline(always)]
    fn saturated(&self, plane: usize) -> Histogram {
        let [one, other] = &self.counts;
        let mut sums = [0; 256];
        for (sum, (one, other)) in sums.iter_mut().zip(one[plane].iter().zip(&other[plane])) {
            *sum = one.saturating_add(*other);
        }
        sums
    }

    #[inline(always)]
    fn split(&mut self, words: &[u32]) {
        for (plane, bytes) in self.planes.iter_mut().enumerate() {
            bytes.iter_mut().zip(words).for_each(|(byte, word)| *byte = (word >> (8 * plane)) as u8);
        }
    }

    /// Writes one coded plane from `coded[at]` on; where it ends.
    #[inline(always)]
    fn code_plane(&mut self, plane: usize, count: usize, mode: Mode, symbols: &[u8], at: usize) -> usize {
        let PlaneSpace { planes, code_of, all_codes, codes, raw, coded, .. } = self;
        *code_of = [RAW; 256];
        for (code, &symbol) in symbols.iter().enumerate() {
            code_of[usize::from(symbol)] = code as u8;
        }
        let bytes = &planes[plane][..count];
        let mut raw_len = 0;
        for (at, (&byte, kept)) in bytes.iter().zip(&mut *all_codes).enumerate() {
            let code = code_of[usize::from(byte)];
            *kept = code;
            // Both are written, and one is kept. The lengths are below those of the spaces, which a remainder tells the compiler.
            codes[at.wrapping_sub(raw_len) % WORDS] = code;
            raw[raw_len % WORDS] = byte;
            raw_len += usize::from(code / RAW);
        }
        let coded_len = count - raw_len;
        // Codes that fill up a byte are zero, and bits of the mask.
        codes[coded_len..coded_len + 4].fill(0);
        all_codes[count..count.next_multiple_of(8)].fill(RAW);
        let at = append(coded, at, symbols);
        let end = at + count.div_ceil(8);
        for (byte, codes) in coded[at..end].iter_mut().zip(all_codes.as_chunks::<8>().0) {
            *byte = lanes(codes.map(|code| !code >> 7));
        }
        let at = end;
        let end = at + (coded_len * mode.bits()).div_ceil(8);
        let packed = &mut coded[at..end];
        match mode {
            Mode::Raw | Mode::One => {}
            Mode::Four => packed.iter_mut().zip(codes.as_chunks::<4>().0).for_each(|(byte, codes)| {
                *byte = codes[0] | codes[1] << 2 | codes[2] << 4 | codes[3] << 6;
            }),
            Mode::Sixteen => packed.iter_mut().zip(codes.as_chunks::<2>().0).for_each(|(byte, codes)| {
                *byte = codes[0] | codes[1] << 4;
            }),
        }
        append(coded, end, &raw[..raw_len])
    }
}

/// Writes bytes to a place; where they end.
#[inline(always)]
fn append(to: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    let end = at + bytes.len();
    to[at..end].copy_from_slice(bytes);
    end
}

/// How many symbols' counts are such.
#[inline(always)]
fn number(counts: &Histogram, such: impl Fn(u8) -> bool) -> u32 {
    // Halves, so that the sums are bytes too.
    let halves = counts.as_chunks::<128>().0;
    halves.iter().map(|half| u32::from(half.iter().map(|&count| u8::from(such(count))).sum::<u8>())).sum()
}

/// What the counts say, for 16, 4 and 1 symbols.
#[inline(always)]
fn tell(counts: &Histogram) -> Counts {
    let reach = |least: u8| number(counts, |count| count >= least);
    // Bit by bit the largest count that so many symbols reach; no more than an even share of the sample.
    let mut at_least = [0_u8; 3];
    for (least, (symbols, bits)) in at_least.iter_mut().zip([(16, 5), (4, 7)]) {
        for bit in (0..bits).rev() {
            let more = *least | 1 << bit;
            *least = std::hint::select_unpredictable(reach(more) >= symbols, more, *least);
        }
    }
    at_least[2] = counts.iter().fold(0, |most, &count| most.max(count));
    let mut covered = [0; 3];
    for ((covered, least), symbols) in covered.iter_mut().zip(at_least).zip([16, 4, 1]) {
        // What the most frequent have beyond the least of them, and that of each.
        let beyond = counts.iter().map(|&count| u16::from(count.saturating_sub(least)));
        *covered = u32::from(beyond.sum::<u16>()) + symbols * u32::from(least);
    }
    Counts { at_least: at_least.map(u32::from), covered }
}

/// The symbols counted more than `at_least` times, then those exactly so often, each in the order of their values; the
/// first sixteen.
#[inline(always)]
fn most_frequent(counts: &Histogram, at_least: u32) -> [u8; 16] {
    let mut symbols = [0; 16];
    let mut found = 0;
    for more in [true, false] {
        let mut wanted = [0; 256];
        for (wanted, &count) in wanted.iter_mut().zip(counts) {
            let count = u32::from(count);
            *wanted = u8::from(if more { count > at_least } else { count == at_least });
        }
        for (first, wanted) in (0..=255).step_by(8).zip(wanted.as_chunks::<8>().0) {
            for at in ones(u64::from(lanes(*wanted))) {
                if found == symbols.len() {
                    return symbols;
                }
                symbols[found] = first + at as u8;
                found += 1;
            }
        }
    }
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of up to 256 samples in all, some of few symbols, some of many, and the extremes.
    fn histograms() -> impl Iterator<Item = Histogram> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as usize % limit
        };
        let mut one_symbol = [0; 256];
        one_symbol[200] = 255;
        let mut two_symbols = [0; 256];
        (two_symbols[0], two_symbols[255]) = (255, 1);
        (0..600)
            .map(move |_| {
                let mut counts = [0_u8; 256];
                let symbols = [1, 2, 4, 5, 16, 17, 40, 256][random(8)];
                for _ in 0..=random(256) {
                    let symbol = random(symbols).min(random(symbols)) * 37 % 256;
                    counts[symbol] = counts[symbol].saturating_add(1);
                }
                counts
            })
            .chain([[0; 256], [1; 256], one_symbol, two_symbols])
    }

    #[test]
    fn counts_are_told_as_by_sorting() {
        for counts in histograms() {
            let mut sorted = counts.map(u32::from);
            sorted.sort_unstable_by(|one, other| other.cmp(one));
            let told = tell(&counts);
            for (index, symbols) in [16, 4, 1].into_iter().enumerate() {
                assert_eq!(told.at_least[index], sorted[symbols - 1], "{symbols} of {counts:?}");
                assert_eq!(told.covered[index], sorted[..symbols].iter().sum(), "{symbols} of {counts:?}");
            }
        }
    }

    #[test]
    fn the_most_frequent_symbols_come_first_and_equal_ones_in_order() {
        for counts in histograms() {
            for at_least in tell(&counts).at_least {
                let those = |wanted: fn(&u32, &u32) -> bool| {
                    (0..=255).filter(move |&symbol: &u8| {
                        wanted(&u32::from(counts[usize::from(symbol)]), &at_least)
                    })
                };
                let expected: Vec<u8> = those(u32::gt).chain(those(u32::eq)).collect();
                let symbols = most_frequent(&counts, at_least);
                let known = expected.len().min(symbols.len());
                assert_eq!(symbols[..known], expected[..known], "{at_least} of {counts:?}");
            }
        }
    }
}
