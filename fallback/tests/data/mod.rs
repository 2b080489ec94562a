//! Made-up data of many kinds, from a seed.

// Each test program uses its own part.
#![allow(dead_code)]

/// Number of kinds that [`made`] knows.
pub(crate) const KINDS: u32 = 9;

/// A small generator (xorshift); enough to make data, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 33) as usize) % end.max(1)
    }
}

/// `len` bytes of one kind.
pub(crate) fn made(kind: u32, seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut data = Vec::with_capacity(len + 4096);
    while data.len() < len {
        match kind % KINDS {
            // Noise: nothing to find, the stored blocks' case.
            0 => data.extend(random.next().to_le_bytes()),
            // One byte for ever: the longest matches, overlapping themselves.
            1 => data.resize(data.len() + 4096, seed as u8),
            // Text of few words.
            2 => {
                let words: [&[u8]; 6] =
                    [b"page ", b"folio ", b"swap ", b"node\n", b"of ", "größe ".as_bytes()];
                data.extend_from_slice(words[random.below(words.len())]);
            }
            // Pointers into one region, between zeroes.
            3 => {
                let word =
                    if random.below(3) == 0 { 0 } else { 0x7f32_1000_0000 + random.below(9999) as u64 * 8 };
                data.extend(word.to_le_bytes());
            }
            // Counters.
            4 => data.extend((data.len() as u32 / 4).to_le_bytes()),
            // Bytes that need nine bits each, and never repeat in fours.
            5 => data.push(144 + random.below(112) as u8),
            // A repeated record, at a distance about the window's end.
            6 => {
                let period = 4080 + (seed % 33) as usize;
                let byte = if data.len() < period { random.next() as u8 } else { data[data.len() - period] };
                data.push(byte);
            }
            // Runs of any length.
            7 => {
                let (byte, times) = (random.next() as u8, 1 + random.below(700));
                data.resize(data.len() + times, byte);
            }
            // A little of everything.
            _ => {
                let part = 1 + random.below(3000);
                data.extend(made(random.below(8) as u32, random.next(), part));
            }
        }
    }
    data.truncate(len);
    data
}
