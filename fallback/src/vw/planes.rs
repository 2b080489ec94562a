//! Literal words coded by byte planes, in safe code.
//!
//! The lowest bytes of all literals are one plane, the next lowest another, and so on. A plane is raw, or a few
//! frequent symbols are coded in 4, 2 or 0 bits, and a mask tells which bytes are.

mod decode;

pub(super) use self::decode::decode;
use super::format::WORDS;

pub(super) const PLANES: usize = 4;

/// How a plane is coded, as the two bits in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Raw = 0,
    Sixteen = 1,
    Four = 2,
    One = 3,
}

impl Mode {
    #[inline(always)]
    pub(super) fn of(modes: u8, plane: usize) -> Mode {
        match modes >> (2 * plane) & 3 {
            0 => Mode::Raw,
            1 => Mode::Sixteen,
            2 => Mode::Four,
            _ => Mode::One,
        }
    }

    /// Number of symbols that have codes, and bits of a code.
    #[inline(always)]
    pub(super) fn symbols(self) -> usize {
        [0, 16, 4, 1][self as usize]
    }

    #[inline(always)]
    pub(super) fn bits(self) -> usize {
        [8, 4, 2, 0][self as usize]
    }
}

/// Every so many literals one is counted, at most 256: a guess of the frequent symbols is good enough.
#[inline(always)]
pub(super) fn sampling_step(literals: usize) -> usize {
    match literals {
        0..=256 => 1,
        257..=512 => 2,
        _ => 4,
    }
}

/// What the symbols' counts say of a plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// For 16, 4 and 1 symbols: the largest count that so many symbols reach, and the bytes that the most frequent
    /// ones make up together.
    pub(super) at_least: [u32; 3],
    pub(super) covered: [u32; 3],
}

/// The cheapest mode of a plane, by the sample alone, and the count its symbols reach.
#[inline(always)]
pub(super) fn choose(counts: &Counts, literals: usize, samples: usize) -> (Mode, u32) {
    let (samples, scale) = (samples as u32, literals.div_ceil(samples) as u32);
    let mut best = (Mode::Raw, 0);
    let mut least = scale * 8 * samples;
    for (index, mode) in [Mode::Sixteen, Mode::Four, Mode::One].into_iter().enumerate() {
        let covered = counts.covered[index].min(samples);
        let bits = samples + mode.bits() as u32 * covered + 8 * (samples - covered);
        let cost = scale * bits + 8 * mode.symbols() as u32;
        if cost < least {
            (best, least) = ((mode, counts.at_least[index]), cost);
        }
    }
    best
}

/// Writes `words` as coded planes to the front of `dst`, which has room for them raw; the bytes written.
/// `None` if raw words are not longer.
pub(super) fn encode(words: &[u32], dst: &mut [u8; 4 * WORDS]) -> Option<usize> {
    let room = 4 * words.len();
    let mut out = Out { dst: &mut dst[..room], at: 1 };
    let mut modes = 0;
    for plane in 0..PLANES {
        let bytes = words.iter().map(|word| (word >> (8 * plane)) as u8);
        let mut counts = [0_u32; 256];
        let sample = bytes.clone().step_by(sampling_step(words.len()));
        let samples = sample.len();
        sample.for_each(|byte| counts[usize::from(byte)] += 1);
        // The fast path counts in bytes.
        counts.iter_mut().for_each(|count| *count = (*count).min(255));
        let (mode, at_least) = choose(&count(&counts), words.len(), samples);
        modes |= (mode as u8) << (2 * plane);
        if mode == Mode::Raw {
            bytes.for_each(|byte| out.push(byte));
            continue;
        }
        let symbols = most_frequent(&counts, at_least);
        let symbols = &symbols[..mode.symbols()];
        symbols.iter().for_each(|&symbol| out.push(symbol));
        let mut code_of = [None; 256];
        symbols
            .iter()
            .enumerate()
            .for_each(|(code, &symbol)| code_of[usize::from(symbol)] = Some(code as u8));
        let codes = bytes.clone().map(|byte| code_of[usize::from(byte)]);
        out.bits(codes.clone().map(|code| u8::from(code.is_some())), 1);
        out.bits(codes.clone().flatten(), mode.bits());
        bytes.zip(codes).filter(|(_, code)| code.is_none()).for_each(|(byte, _)| out.push(byte));
    }
    out.dst[0] = modes;
    (out.at < room).then_some(out.at)
}

/// What the symbols' counts, each at most 255, say.
fn count(counts: &[u32; 256]) -> Counts {
    let mut sorted = *counts;
    sorted.sort_unstable_by(|one, other| other.cmp(one));
    let (mut at_least, mut covered) = ([0; 3], [0; 3]);
    for (index, symbols) in [16, 4, 1].into_iter().enumerate() {
        at_least[index] = sorted[symbols - 1];
        covered[index] = sorted[..symbols].iter().sum();
    }
    Counts { at_least, covered }
}

/// The symbols with more than `at_least`, then those with exactly so many, each in the order of their values; the
/// first sixteen.
fn most_frequent(counts: &[u32; 256], at_least: u32) -> [u8; 16] {
    let those = |wanted: fn(&u32, &u32) -> bool| {
        (0..=255).filter(move |&symbol: &u8| wanted(&counts[usize::from(symbol)], &at_least))
    };
    let mut symbols = [0; 16];
    let ordered = those(|count, least| count > least).chain(those(|count, least| count == least));
    symbols.iter_mut().zip(ordered).for_each(|(place, symbol)| *place = symbol);
    symbols
}

/// Bytes written one after another, counted also where there is no more room.
struct Out<'a> {
    dst: &'a mut [u8],
    at: usize,
}

impl Out<'_> {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.dst.get_mut(self.at) {
            *place = byte;
        }
        self.at += 1;
    }

    /// Values of so many bits each, from the lowest bit on, with zeroes to a whole byte.
    fn bits(&mut self, values: impl Iterator<Item = u8>, bits: usize) {
        let (mut byte, mut filled) = (0, 0);
        for value in values.filter(|_| bits > 0) {
            byte |= value << filled;
            filled += bits;
            if filled == 8 {
                self.push(byte);
                (byte, filled) = (0, 0);
            }
        }
        if filled > 0 {
            self.push(byte);
        }
    }
}
