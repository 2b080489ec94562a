//! Where bytes were seen before: the search for matches, which both encoders share.
//!
//! One hash table remembers where four bytes were seen last; whatever it says is compared with the data, so no entry
//! can make a wrong match, only a missed one.

use super::symbols::LONGEST;

/// How far back a match may reach: as far as the device remembers.
pub(super) const WINDOW: usize = 4096;

/// Shortest match searched for. One of three bytes saves at most two bits against its literals.
pub(super) const MATCH: usize = 4;

const HASH_BITS: u32 = 12;

/// The last position of each hash of four bytes, modulo 65536.
///
/// Cleared for each input, so that equal inputs give equal streams. Zero then means position 0, which is what
/// an empty entry may well say: it is compared like any other.
pub(super) struct Seen(Box<[u16; 1 << HASH_BITS]>);

impl Seen {
    pub(super) fn new() -> Seen {
        Seen(Box::new([0; 1 << HASH_BITS]))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Remembers the four bytes `word`, which are at `pos`.
    #[inline(always)]
    pub(super) fn remember(&mut self, pos: usize, word: u32) {
        self.0[slot(word)] = pos as u16;
    }

    /// Where the four bytes `word` at `pos` were seen last, and whether they are there; remembers `pos`.
    ///
    /// Without `LONG`, every position is in reach: the source is no longer than the window.
    #[inline(always)]
    pub(super) fn candidate<const LONG: bool>(&mut self, src: &[u8], pos: usize, word: u32) -> (usize, bool) {
        let entry = &mut self.0[slot(word)];
        let earlier = if LONG {
            // The distance is right modulo 65536. A position that many bytes older or more gives a wrong
            // one, and with it other bytes to compare, which is as good.
            let distance = usize::from((pos as u16).wrapping_sub(*entry));
            if distance.wrapping_sub(1) < WINDOW && distance <= pos { pos - distance } else { usize::MAX }
        } else {
            usize::from(*entry)
        };
        *entry = pos as u16;
        (earlier, bytes(src, earlier).is_some_and(|bytes| u32::from_le_bytes(bytes) == word))
    }

    /// An earlier position with the four bytes `word`, which are at `pos`, if the table knows one; remembers `pos`.
    #[inline(always)]
    pub(super) fn find<const LONG: bool>(&mut self, src: &[u8], pos: usize, word: u32) -> Option<usize> {
        let (earlier, same) = self.candidate::<LONG>(src, pos, word);
        same.then_some(earlier)
    }
}

/// The place of four bytes in the table.
#[inline(always)]
fn slot(word: u32) -> usize {
    // The multiplier is 2^32 divided by the golden ratio.
    (word.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

/// How long the match of `pos` with `earlier` is, whose first four bytes are equal.
#[inline(always)]
pub(super) fn len(src: &[u8], pos: usize, earlier: usize) -> usize {
    if let (Some(here), Some(there)) = (bytes(src, pos), bytes(src, earlier)) {
        match u128::from_le_bytes(here) ^ u128::from_le_bytes(there) {
            0 => 16 + common_len(src, pos + 16, earlier + 16, LONGEST - 16),
            unequal => unequal.trailing_zeros() as usize / 8,
        }
    } else {
        MATCH + common_len(src, pos + MATCH, earlier + MATCH, LONGEST - MATCH)
    }
}

/// How many bytes from `a` on equal those from `b` on, up to `max` or the end; `b` is below `a`.
#[inline(always)]
pub(super) fn common_len(src: &[u8], a: usize, b: usize, max: usize) -> usize {
    let max = max.min(src.len() - a);
    let mut len = 0;
    while len + 8 <= max {
        let (Some(x), Some(y)) = (bytes(src, a + len), bytes(src, b + len)) else { break };
        let unequal = u64::from_le_bytes(x) ^ u64::from_le_bytes(y);
        if unequal != 0 {
            return len + unequal.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    while len < max && src[a + len] == src[b + len] {
        len += 1;
    }
    len
}

/// The `N` bytes at `at`.
#[inline(always)]
pub(super) fn bytes<const N: usize>(src: &[u8], at: usize) -> Option<[u8; N]> {
    src.get(at..)?.first_chunk().copied()
}
