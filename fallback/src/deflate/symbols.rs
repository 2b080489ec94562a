//! Match lengths and distances as DEFLATE names them: a symbol, and bits that are sent as they are.

/// Shortest match the format can name.
pub(super) const SHORTEST: usize = 3;
/// Longest match the format can name.
pub(super) const LONGEST: usize = 258;

/// A symbol and the bits that follow its code.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    pub(super) number: u16,
    pub(super) extra: u16,
    pub(super) extra_len: u8,
}

/// For each match length less [`SHORTEST`].
static LENGTH: [Symbol; 256] = {
    let mut table = [Symbol { number: 0, extra: 0, extra_len: 0 }; 256];
    let mut len = SHORTEST;
    while len <= LONGEST {
        table[len - SHORTEST] = length_symbol(len);
        len += 1;
    }
    table
};

/// The symbol of a match length.
pub(super) const fn length_symbol(len: usize) -> Symbol {
    let offset = (len - SHORTEST) as u16;
    // Lengths 3 to 10 have a symbol each; from there on, four symbols share a number of extra bits.
    if len == LONGEST {
        Symbol { number: 285, extra: 0, extra_len: 0 }
    } else if offset < 8 {
        Symbol { number: 257 + offset, extra: 0, extra_len: 0 }
    } else {
        let extra_len = offset.ilog2() as u16 - 2;
        Symbol {
            number: 257 + 4 * extra_len + (offset >> extra_len),
            extra: offset & ((1 << extra_len) - 1),
            extra_len: extra_len as u8,
        }
    }
}

/// The symbol of a match length, from a table.
#[inline(always)]
pub(super) fn length(len: usize) -> Symbol {
    debug_assert!((SHORTEST..=LONGEST).contains(&len));
    LENGTH[(len - SHORTEST) & 0xff]
}

/// The symbol of a match distance.
#[inline(always)]
pub(super) fn distance(distance: usize) -> Symbol {
    debug_assert!(distance > 0);
    // From distance 5 on, two symbols share a number of extra bits. The `| 2` brings the four distances
    // before that, which have a symbol each, under the same arithmetic.
    let offset = distance as u32 - 1;
    let extra_len = (offset | 2).ilog2() - 1;
    Symbol {
        number: (2 * extra_len + (offset >> extra_len)) as u16,
        extra: (offset & ((1 << extra_len) - 1)) as u16,
        extra_len: extra_len as u8,
    }
}
