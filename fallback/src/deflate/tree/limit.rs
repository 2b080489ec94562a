//! Optimal codes whose longest is limited, for the counts with which Huffman's own code is too long.
//!
//! Package-merge (Larmore and Hirschberg). For each code length there is a list of items in rising order of weight:
//! all symbols by themselves and, as packages, pairs of the next longer length's items. The lightest `2 * symbols - 2`
//! items of length 1 make the code: a package stands for the pair it was made of, and a symbol has as many bits as
//! there are lengths in whose lists it was taken.
//!
//! Rare: literals need counts in the thousands that rise like Fibonacci numbers. So it is kept plain.

use super::{LITERALS, LONGEST_CODE, OfLen};

const ITEMS: usize = 2 * LITERALS;

/// How many codes of each length the best code of at most `longest` bits has, for weights in rising order.
///
/// There are two weights or more, and no more than a code of that length has room for.
#[cold]
#[inline(never)]
pub(super) fn package_merge(weights: &[u32], longest: usize) -> OfLen {
    let mut is_symbol = [[false; ITEMS]; LONGEST_CODE];
    let mut items = [0_u64; ITEMS];
    let mut count = 0;
    for is_symbol in &mut is_symbol[..longest] {
        let longer = items;
        let pairs = longer[..count].as_chunks::<2>().0;
        let (mut symbol, mut pair) = (0, 0);
        count = weights.len() + pairs.len();
        for (item, is_symbol) in items[..count].iter_mut().zip(is_symbol) {
            let of_symbol = weights.get(symbol).map_or(u64::MAX, |&weight| u64::from(weight));
            let of_pair = pairs.get(pair).map_or(u64::MAX, |[a, b]| a + b);
            *is_symbol = of_symbol <= of_pair;
            *item = of_symbol.min(of_pair);
            symbol += usize::from(*is_symbol);
            pair += usize::from(!*is_symbol);
        }
    }

    // The symbols taken are the rarest ones in each list, and the rarest have the longest codes.
    let mut taken = 2 * weights.len() - 2;
    let mut at_least = [0_u16; LONGEST_CODE + 2];
    for (len, is_symbol) in is_symbol[..longest].iter().rev().enumerate() {
        let symbols = is_symbol[..taken].iter().filter(|&&is_symbol| is_symbol).count();
        at_least[len + 1] = symbols as u16;
        taken = 2 * (taken - symbols);
    }
    let mut of_len = [0; LONGEST_CODE + 1];
    for len in 1..=longest {
        of_len[len] = at_least[len] - at_least[len + 1];
    }
    of_len
}
