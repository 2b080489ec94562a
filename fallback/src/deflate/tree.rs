//! Huffman codes of a dynamic DEFLATE block: from counts to code lengths, to codes, to the block's header.
//!
//! The software encoder makes one for each page; a driver makes one from the statistics that a first-generation
//! IAA has counted; the model of the device makes one where the device does. So all three agree, and there is one
//! place that keeps the device's rules, which are stricter than the format's:
//!
//! - both codes are complete: a code with fewer than two symbols gets symbols that are never used, as zlib does it;
//! - no repeat of a code length runs, or looks back, from the literal lengths into the distance lengths.
//!
//! Code lengths are optimal: no other code within the limits makes the block shorter. Nothing here allocates, and no
//! counts are refused.
//!
//! ```
//! use zfolio_fallback::tree::{Codes, Header, Histogram, Lengths};
//!
//! let mut counts = Histogram::default();
//! for byte in *b"a page" {
//!     counts.literals[usize::from(byte)] += 1;
//! }
//! let lengths = Lengths::of(&counts);
//! let codes = Codes::of(&lengths);
//! let header = Header::of(&lengths, true);
//! assert!(codes.literals[usize::from(b'a')].len < codes.literals[usize::from(b'p')].len);
//! assert_eq!(header.bytes().len(), (header.bits() as usize).div_ceil(8));
//! ```

mod header;
mod limit;
mod sort;

pub use self::header::Header;

/// Literals, the end of the block, and match lengths.
pub const LITERALS: usize = 286;
/// Match distances.
pub const DISTANCES: usize = 30;
/// The symbol that ends a block.
pub const END_OF_BLOCK: usize = 256;
/// The longest code of a literal, length or distance.
pub const LONGEST_CODE: usize = 15;

/// How often a block uses each symbol: what an IAA calls statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Literals, the end of the block, and match lengths.
    pub literals: [u32; LITERALS],
    /// Match distances.
    pub distances: [u32; DISTANCES],
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { literals: [0; LITERALS], distances: [0; DISTANCES] }
    }
}

/// The length of each symbol's code in bits; 0 for a symbol without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lengths {
    literals: [u8; LITERALS],
    distances: [u8; DISTANCES],
}

impl Lengths {
    /// The lengths that make a block with these counts shortest.
    ///
    /// The end of the block has a code whether it was counted or not.
    pub fn of(counts: &Histogram) -> Lengths {
        let mut literals = [0; LITERALS];
        let mut distances = [0; DISTANCES];
        if counts.literals[END_OF_BLOCK] == 0 {
            let mut ended = counts.literals;
            ended[END_OF_BLOCK] = 1;
            shortest(&ended, LONGEST_CODE, &mut literals);
        } else {
            shortest(&counts.literals, LONGEST_CODE, &mut literals);
        }
        shortest(&counts.distances, LONGEST_CODE, &mut distances);
        Lengths { literals, distances }
    }

    /// Of literals, the end of the block, and match lengths.
    pub fn literals(&self) -> &[u8; LITERALS] {
        &self.literals
    }

    /// Of match distances.
    pub fn distances(&self) -> &[u8; DISTANCES] {
        &self.distances
    }

    /// Bits that the symbols counted take with these lengths, without what lengths and distances add to their codes.
    pub fn bits(&self, counts: &Histogram) -> u64 {
        fn bits(lengths: &[u8], counts: &[u32]) -> u64 {
            lengths.iter().zip(counts).map(|(&len, &count)| u64::from(len) * u64::from(count)).sum()
        }
        bits(&self.literals, &counts.literals) + bits(&self.distances, &counts.distances)
    }
}

/// A symbol's code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// The code as a number, its first bit the highest, as an IAA takes it.
    pub bits: u16,
    /// How many bits it has; 0 if the symbol has no code.
    pub len: u8,
}

impl Code {
    /// The code with its first bit lowest, as it stands in a stream whose bits are filled from the lowest.
    #[inline(always)]
    pub const fn reversed(self) -> u16 {
        // In two steps, because a symbol without a code would shift by all sixteen bits.
        self.bits.reverse_bits() >> 1 >> (15 - self.len)
    }
}

/// The codes that belong to [`Lengths`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes {
    /// Literals, the end of the block, and match lengths.
    pub literals: [Code; LITERALS],
    /// Match distances.
    pub distances: [Code; DISTANCES],
}

impl Codes {
    /// The codes with these lengths: shorter ones first, those of a length in the order of their symbols.
    pub fn of(lengths: &Lengths) -> Codes {
        Codes { literals: canonical(&lengths.literals), distances: canonical(&lengths.distances) }
    }

    /// The codes of a fixed block, which has no header but its three bits.
    ///
    /// They are not those of any [`Lengths`]: two codes belong to symbols that no stream uses.
    pub fn fixed() -> Codes {
        let lengths: [u8; 288] = std::array::from_fn(|symbol| match symbol {
            0..144 => 8,
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        });
        let (literals, distances) = (canonical(&lengths), canonical(&[5; 32]));
        Codes {
            literals: std::array::from_fn(|symbol| literals[symbol]),
            distances: std::array::from_fn(|symbol| distances[symbol]),
        }
    }
}

/// The canonical code with these lengths, which belong to a code.
fn canonical<const N: usize>(lengths: &[u8; N]) -> [Code; N] {
    let mut of_len = [0_u16; 16];
    for &len in lengths {
        of_len[usize::from(len & 15)] += 1;
    }
    of_len[0] = 0;
    let mut next = [0_u16; 16];
    for len in 1..16 {
        next[len] = (next[len - 1] + of_len[len - 1]) << 1;
    }
    let mut codes = [Code::default(); N];
    for (code, &len) in codes.iter_mut().zip(lengths) {
        let next = &mut next[usize::from(len & 15)];
        // Symbols without a code have a number as well here, but no bits of it.
        *code = Code { bits: if len == 0 { 0 } else { *next }, len };
        *next = next.wrapping_add(1);
    }
    codes
}

/// How many codes there are of each length.
type OfLen = [u16; LONGEST_CODE + 1];

/// Sets the lengths, at most `limit` bits, that make these counts shortest; at least two symbols get a code.
fn shortest<const N: usize>(counts: &[u32; N], limit: usize, lengths: &mut [u8; N]) {
    let mut used = sort::by_count(counts);
    used.ensure_two();
    let weights = used.weights();
    let of_len = match huffman(weights) {
        Some(of_len) if of_len[limit + 1..].iter().all(|&symbols| symbols == 0) => of_len,
        _ => limit::package_merge(weights, limit),
    };
    // The rarest symbols have the longest codes.
    let mut symbols = used.symbols();
    for len in (1..=limit).rev() {
        let (of_this, others) = symbols.split_at(usize::from(of_len[len]));
        for &symbol in of_this {
            lengths[usize::from(symbol)] = len as u8;
        }
        symbols = others;
    }
}

/// How many codes of each length Huffman's code has for weights in rising order, two or more; `None` if one is longer
/// than any limit.
fn huffman(weights: &[u32]) -> Option<OfLen> {
    // Inner nodes come to be in rising order of weight too, so the two lightest of all that have no parent are
    // always at the front of the leaves or of the inner nodes.
    let inner_count = weights.len() - 1;
    let mut inner = [0_u64; LITERALS];
    let mut parent = [0_u16; LITERALS];
    let (mut leaf, mut node) = (0, 0);
    for made in 0..inner_count {
        let mut sum = 0;
        for _ in 0..2 {
            let of_leaf = weights.get(leaf).map_or(u64::MAX, |&weight| u64::from(weight));
            // Not made yet: heavier than any leaf.
            let of_node = if node < made { inner[node] } else { u64::MAX };
            // Leaves first where both weigh the same: that keeps the tree flat.
            let take_leaf = of_leaf <= of_node;
            sum += of_leaf.min(of_node);
            // A leaf takes no node: what is written here is overwritten when the node is taken.
            parent[node] = made as u16;
            leaf += usize::from(take_leaf);
            node += usize::from(!take_leaf);
        }
        inner[made] = sum;
    }

    // From the root down; a node's parent comes after it.
    let mut depth = [0_u8; LITERALS];
    let mut inner_at = [0_u16; 256];
    inner_at[0] = 1;
    for node in (0..inner_count - 1).rev() {
        // Fits: a tree as deep as that needs counts beyond 32 bits.
        depth[node] = depth[usize::from(parent[node])].saturating_add(1);
        inner_at[usize::from(depth[node])] += 1;
    }
    // Each inner node has two children, which are inner nodes of the next depth, or leaves.
    let longest = usize::from(depth[0]) + 1;
    let mut of_len = [0; LONGEST_CODE + 1];
    for len in 1..=longest {
        *of_len.get_mut(len)? = 2 * inner_at[len - 1] - inner_at[len];
    }
    Some(of_len)
}

#[cfg(test)]
mod tests;
