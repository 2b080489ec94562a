//! How hard an encoder searches: what the levels of vw differ in. The format is one.

use super::parse::{Chosen, Found, parse};

/// Entries of a table of positions.
pub(super) const TABLE: usize = 1024;
pub(super) const HASH_SHIFT: u32 = 22;
pub(super) const HASH_FACTOR: u32 = 0x9e37_79b1;

/// Blocks whose sources are looked up before any of them is remembered: where a table is written and read again at
/// once, the CPU guesses wrongly that the read need not wait.
pub(super) const TOGETHER: usize = 4;

/// The entry of a word, or of its upper three bytes.
#[inline(always)]
pub(super) fn hash(key: u32) -> usize {
    (key.wrapping_mul(HASH_FACTOR) >> HASH_SHIFT) as usize
}

/// A level.
pub(super) trait Search {
    /// Also look for the whole word, and prefer a source that equals it.
    const WHOLE_WORDS: bool;
    /// Remember words at so many byte offsets, 1 or 4; aligned ones last, so that they win.
    const OFFSETS: usize;
    /// With `OFFSETS`: by their upper bytes too.
    const UPPER_AT_ALL_OFFSETS: bool;

    /// [`parse`] with so many rounds.
    fn parse(found: &Found, chosen: &mut Chosen, compare: impl FnMut(usize, usize) -> (u32, u32));
}

macro_rules! level {
    ($(#[$doc:meta])* $name:ident: $whole:literal, $offsets:literal, $upper:literal, $rounds:literal) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Search for $name {
            const WHOLE_WORDS: bool = $whole;
            const OFFSETS: usize = $offsets;
            const UPPER_AT_ALL_OFFSETS: bool = $upper;

            #[inline(always)]
            fn parse(found: &Found, chosen: &mut Chosen, compare: impl FnMut(usize, usize) -> (u32, u32)) {
                parse::<$rounds>(found, chosen, compare);
            }
        }
    };
}

level!(
    /// One table of aligned words.
    Fast: false, 1, false, 1
);
level!(
    /// Two tables of aligned words.
    Standard: true, 1, false, 2
);
level!(
    /// Sources at any byte.
    Dense: true, 4, false, 3
);
