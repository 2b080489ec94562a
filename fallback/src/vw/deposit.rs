//! Puts the bits of a section where a mask has ones: what the instruction `pdep` does, for all groups at once.
//!
//! A bit has to go up by the number of zeroes below its place in the mask. It goes by 32, then by 16, 8, 4, 2 and 1
//! of that, as the number's bits say, so no two bits ever meet.

use super::format::GROUPS;

/// Steps of a move: a bit goes up by 1, 2, 4, 8, 16 or 32.
const STEPS: usize = 6;

/// How bits get to the ones of each group's mask.
pub(super) struct Deposit<'a> {
    masks: &'a [u64; GROUPS],
    /// For each step, the places that the bits that take it arrive at.
    arrivals: [[u64; GROUPS]; STEPS],
}

impl Deposit<'_> {
    pub(super) fn to(masks: &[u64; GROUPS]) -> Deposit<'_> {
        // Backwards, as if all bits went down from their places, by 1 first: `places` is where they are, and `zeroes` has those
        // zeroes of the mask that are still below them, of which every other one counts in the next step.
        let (mut places, mut zeroes) = (*masks, masks.map(|mask| !mask));
        let mut arrivals = [[0; GROUPS]; STEPS];
        for (step, arrivals) in arrivals.iter_mut().enumerate() {
            for ((places, zeroes), arrivals) in places.iter_mut().zip(&mut zeroes).zip(arrivals) {
                // Is the number of zeroes below odd?
                let mut odd = *zeroes << 1;
                for shift in [1, 2, 4, 8, 16, 32] {
                    odd ^= odd << shift;
                }
                *arrivals = *places & odd;
                *places = *places & !odd | *arrivals >> (1 << step);
                *zeroes &= odd;
            }
        }
        Deposit { masks, arrivals }
    }

    /// The lowest bits of each number, in the places of the group's ones.
    pub(super) fn deposit(&self, bits: &[u64; GROUPS]) -> [u64; GROUPS] {
        let mut bits = *bits;
        for (step, arrivals) in self.arrivals.iter().enumerate().rev() {
            for (bits, arrivals) in bits.iter_mut().zip(arrivals) {
                *bits = *bits & !arrivals | *bits << (1 << step) & arrivals;
            }
        }
        std::array::from_fn(|group| bits[group] & self.masks[group])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One bit after another.
    fn deposited(bits: u64, mask: u64) -> u64 {
        let places = (0..64).filter(|place| mask >> place & 1 != 0);
        places.enumerate().fold(0, |result, (bit, place)| result | (bits >> bit & 1) << place)
    }

    #[test]
    fn bits_come_to_the_ones_of_any_mask() {
        let seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut state = seed;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..2000 {
            // Few ones, many, half of them, runs, and those at the ends.
            let masks: [u64; GROUPS] = std::array::from_fn(|group| match group % 8 {
                0 => next() & next() & next(),
                1 => next() | next() | next(),
                2 => u64::MAX << (next() % 64),
                3 => u64::MAX >> (next() % 64),
                4 => (u64::MAX << (next() % 64)) & (u64::MAX >> (next() % 64)),
                5 => [0, u64::MAX, 1, 1 << 63][round % 4],
                _ => next(),
            });
            let bits = masks.map(|_| next());
            let expected: [u64; GROUPS] = std::array::from_fn(|group| deposited(bits[group], masks[group]));
            assert_eq!(
                Deposit::to(&masks).deposit(&bits),
                expected,
                "{bits:x?} to {masks:x?}, seed {seed:x}"
            );
        }
    }
}
