//! The symbols that a block uses, in the order of their counts.

use super::LITERALS;

/// Counts below this are sorted by counting; the few symbols above it by comparing.
const BINS: usize = 64;

/// Symbols with a count above zero and their counts, the rarest first.
pub(super) struct Used {
    weights: [u32; LITERALS],
    symbols: [u16; LITERALS],
    len: usize,
}

/// The used symbols among at most [`LITERALS`], those with the same count in rising order.
pub(super) fn by_count(counts: &[u32]) -> Used {
    let mut used = Used { weights: [0; LITERALS], symbols: [0; LITERALS], len: 0 };
    let bin = |count: u32| (count as usize).min(BINS - 1);
    // Each bin's first place, then its next free one. Bin 0, of symbols that are not used, comes last: there
    // its symbols do not show, and need no branch.
    let mut next = [0_u16; BINS];
    for &count in counts {
        next[bin(count)] += 1;
    }
    let mut place = 0;
    for next in &mut next[1..] {
        place += std::mem::replace(next, place);
    }
    let last = next[BINS - 1];
    used.len = usize::from(place);
    next[0] = place;
    for (symbol, &count) in counts.iter().enumerate() {
        let next = &mut next[bin(count)];
        used.weights[usize::from(*next)] = count;
        used.symbols[usize::from(*next)] = symbol as u16;
        *next += 1;
    }
    used.sort_from(usize::from(last));
    used
}

impl Used {
    /// Sorts what is in the last bin.
    fn sort_from(&mut self, start: usize) {
        let mut keys = [0_u64; LITERALS];
        let keys = &mut keys[start..self.len];
        for ((key, &weight), &symbol) in
            keys.iter_mut().zip(&self.weights[start..]).zip(&self.symbols[start..])
        {
            *key = u64::from(weight) << 16 | u64::from(symbol);
        }
        keys.sort_unstable();
        for (offset, key) in keys.iter().enumerate() {
            self.weights[start + offset] = (key >> 16) as u32;
            self.symbols[start + offset] = (key & 0xffff) as u16;
        }
    }

    /// Adds the first symbols that are not used, as if they were never counted, until there are two.
    pub(super) fn ensure_two(&mut self) {
        while self.len < 2 {
            let absent = u16::from(self.len == 1 && self.symbols[0] == 0);
            self.weights[self.len] = self.weights[0];
            self.symbols[self.len] = self.symbols[0];
            self.weights[0] = 0;
            self.symbols[0] = absent;
            self.len += 1;
        }
    }

    /// The counts, in rising order.
    pub(super) fn weights(&self) -> &[u32] {
        &self.weights[..self.len]
    }

    /// The symbols, in the order of their counts.
    pub(super) fn symbols(&self) -> &[u16] {
        &self.symbols[..self.len]
    }
}
