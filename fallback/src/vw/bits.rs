//! Bits of masks: from lanes and to places, counted and appended.

/// Integers appended bit by bit, from the lowest of each byte on.
pub(super) struct Bits<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Bits<N> {
    pub(super) const EMPTY: Bits<N> = Bits { bytes: [0; N], len: 0 };

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.bytes[..8].fill(0);
    }

    /// The lowest `count` bits, the only ones that are set. There is room for 16 bytes more.
    #[inline(always)]
    pub(super) fn push(&mut self, bits: u64, count: u32) {
        let (at, filled) = (self.len / 8, self.len % 8);
        let room = self.bytes[at..at + 16].as_chunks_mut::<8>().0;
        // What stands behind the end is zero, as far as the next eight bytes.
        room[0] = (u64::from_le_bytes(room[0]) | bits << filled).to_le_bytes();
        room[1] = (bits >> 1 >> (63 - filled)).to_le_bytes();
        self.len += count as usize;
    }

    pub(super) fn whole(&self) -> &[u8] {
        &self.bytes[..self.len.div_ceil(8)]
    }
}

/// Moves the bits of a mask, and of those alone, to the lowest places, for several integers.
///
/// In six steps: bits move by 1, 2, 4 and so on places, if the number of gaps below them says so.
#[inline(always)]
pub(super) fn compress<const N: usize>(mut mask: u64, values: [u64; N]) -> [u64; N] {
    let mut values = values.map(|value| value & mask);
    // Where below each bit the gaps are, then of these every other one, and so on.
    let mut gaps = !mask << 1;
    for step in 0..6 {
        let mut odd = gaps;
        for shift in 0..6 {
            odd ^= odd << (1 << shift);
        }
        let moving = odd & mask;
        mask = mask ^ moving | moving >> (1 << step);
        for value in &mut values {
            let moved = *value & moving;
            *value = *value ^ moved | moved >> (1 << step);
        }
        gaps &= !odd;
    }
    values
}

/// The bits that are set, from the lowest on.
#[inline(always)]
pub(super) fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let next = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (next < 64).then_some(next)
    })
}

/// The bytes that are 1, as a mask; the others are 0.
#[inline(always)]
pub(super) fn lanes(bytes: [u8; 8]) -> u8 {
    // The product's uppermost byte has bit k from byte k; no two bits of it meet.
    (u64::from_le_bytes(bytes).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// splitmix64.
    fn random(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        }
    }

    #[test]
    fn compressed_bits_are_those_of_the_mask_in_their_order() {
        let mut random = random(1);
        for round in 0..2000 {
            let mask = [random(), random() & random(), random() | random(), 0, u64::MAX][round % 5];
            let values = [random(), random()];
            let expected = values.map(|value| {
                let places = (0..64).filter(|place| mask >> place & 1 != 0);
                places.enumerate().fold(0, |all, (rank, place)| all | (value >> place & 1) << rank)
            });
            assert_eq!(compress(mask, values), expected, "mask {mask:#x} of {values:x?}");
        }
    }

    #[test]
    fn appended_bits_stand_one_behind_the_other() {
        let mut random = random(2);
        let mut bits = Bits::<{ 64 * 8 + 16 }>::EMPTY;
        // Twice, since what the first time left behind must not show.
        for round in 0..2 {
            bits.clear();
            let mut expected = Vec::new();
            for _ in 0..64 {
                let count = (random() % 65) as u32;
                let value = random() & u64::MAX.checked_shr(64 - count).unwrap_or(0);
                bits.push(value, count);
                expected.extend((0..count).map(|place| value >> place & 1 != 0));
            }
            let whole = bits.whole();
            let written: Vec<bool> =
                (0..8 * whole.len()).map(|place| whole[place / 8] >> (place % 8) & 1 != 0).collect();
            assert!(written[..expected.len()] == expected, "round {round}");
            assert!(!written[expected.len()..].contains(&true), "the last byte is filled with zeroes");
            assert_eq!(whole.len(), expected.len().div_ceil(8));
        }
    }

    #[test]
    fn lanes_and_ones_undo_each_other() {
        for mask in 0..=u8::MAX {
            let mut bytes = [0; 8];
            ones(u64::from(mask)).for_each(|place| bytes[place] = 1);
            assert_eq!(lanes(bytes), mask);
        }
        assert_eq!(ones(1 << 63 | 1).collect::<Vec<_>>(), [0, 63]);
    }
}
