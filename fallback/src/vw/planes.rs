//! Literal words coded by byte planes, in safe code.
//!
//! The lowest bytes of all literals are one plane, the next lowest another, and so on. A plane is raw, or a few
//! frequent symbols are coded in 4, 2 or 0 bits, and a mask tells which bytes are.

mod decode;
mod encode;

pub(super) use self::decode::decode;
pub(super) use self::encode::PlaneSpace;

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
