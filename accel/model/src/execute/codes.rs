//! Huffman codes to read symbols with, made from code lengths.

use idxd_sys::aecs::{DISTANCES, LITERALS};

/// The symbols of literals and lengths that have a place in the fixed code, two more than are used.
pub(crate) const LITERAL_PLACES: usize = LITERALS + 2;
/// Likewise of distances.
pub(crate) const DISTANCE_PLACES: usize = DISTANCES + 2;

/// Codes up to this long are found by one look.
const SHORT: u32 = 10;

/// The lengths of a code do not make one: more codes than there are.
#[derive(Debug)]
pub(crate) struct Oversubscribed;

/// A canonical code over symbols below 288.
#[derive(Clone)]
pub(crate) struct Code {
    /// By the next bits: symbol << 4 | length; 0 where the code is longer, or there is none.
    short: [u16; 1 << SHORT],
    /// Symbols in the order of their codes.
    sorted: [u16; LITERAL_PLACES],
    /// How many codes have each length.
    count: [u16; 16],
}

impl Code {
    pub(crate) const EMPTY: Code =
        Code { short: [0; 1 << SHORT], sorted: [0; LITERAL_PLACES], count: [0; 16] };

    /// Makes this the code whose symbols have these lengths, each below 16. There may be fewer codes than there is room
    /// for.
    pub(crate) fn set(&mut self, lengths: &[u8]) -> Result<(), Oversubscribed> {
        self.count = [0; 16];
        for &len in lengths {
            self.count[usize::from(len)] += 1;
        }
        self.count[0] = 0;
        let mut first = [0_u32; 17];
        let mut place = [0_usize; 17];
        for len in 1..16 {
            let end = first[len] + u32::from(self.count[len]);
            if end > 1 << len {
                return Err(Oversubscribed);
            }
            first[len + 1] = end << 1;
            place[len + 1] = place[len] + usize::from(self.count[len]);
        }
        self.short.fill(0);
        for (symbol, &len) in lengths.iter().enumerate() {
            if len == 0 {
                continue;
            }
            let (symbol, bits, len) = (symbol as u16, u32::from(len), usize::from(len));
            self.sorted[place[len]] = symbol;
            place[len] += 1;
            let code = first[len].reverse_bits() >> (32 - bits);
            first[len] += 1;
            if bits <= SHORT {
                for entry in self.short[code as usize..].iter_mut().step_by(1 << bits) {
                    *entry = symbol << 4 | bits as u16;
                }
            }
        }
        Ok(())
    }

    /// The symbol that `bits` begin with, and its length; `None` if no code is like that.
    #[inline(always)]
    pub(crate) fn find(&self, bits: u64) -> Option<(usize, u32)> {
        let entry = self.short[(bits & ((1 << SHORT) - 1)) as usize];
        if entry != 0 {
            Some((usize::from(entry >> 4), u32::from(entry & 15)))
        } else {
            self.find_slowly(bits)
        }
    }

    #[cold]
    fn find_slowly(&self, bits: u64) -> Option<(usize, u32)> {
        let (mut code, mut first, mut place) = (0, 0, 0);
        for len in 1..16 {
            code = code << 1 | (bits >> (len - 1) & 1) as usize;
            first <<= 1;
            let count = usize::from(self.count[len as usize]);
            if code < first + count {
                return Some((usize::from(self.sorted[place + code - first]), len));
            }
            first += count;
            place += count;
        }
        None
    }
}

/// The lengths of both codes of a block, in which they go into the AECS.
#[derive(Clone)]
pub(crate) struct Lengths {
    pub(crate) literals: [u8; LITERAL_PLACES],
    pub(crate) distances: [u8; DISTANCE_PLACES],
}

impl Lengths {
    pub(crate) const NONE: Lengths =
        Lengths { literals: [0; LITERAL_PLACES], distances: [0; DISTANCE_PLACES] };

    /// Of a fixed block.
    pub(crate) fn fixed() -> Lengths {
        let literals = std::array::from_fn(|symbol| match symbol {
            0..144 => 8,
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        });
        Lengths { literals, distances: [5; DISTANCE_PLACES] }
    }
}
