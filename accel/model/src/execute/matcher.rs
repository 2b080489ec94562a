//! The compressor's search for matches, near the device's: a hash of three bytes, 1024 buckets of 2 positions, 4 KiB
//! of history.
//!
//! The geometry is that of the device's dictionaries; how it searches is not published. A better search than the
//! device's would flatter it, so this one is held back until no kind of page comes out smaller than from Intel's
//! software with a dynamic header: a match of five bytes ends the search, none is shorter than four, and positions
//! within one are not remembered. With four positions, three bytes and the longest match, pages were up to 4 % smaller.

use super::access::Access;
use super::checksum::Checksums;
use super::stop::Stop;
use super::window::HISTORY;

const HASH_BITS: u32 = 10;
const WAYS: usize = 2;
const SHORTEST: usize = 4;
/// A match of so many bytes ends the search.
const GOOD: usize = 5;
pub(crate) const LONGEST: usize = 258;

/// Input that is searched between two reads.
const ROOM: usize = 16 * 1024;

/// A symbol of the compressed data, before it has a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Literal(u8),
    Match { len: u16, distance: u16 },
}

/// What is searched for.
#[derive(Clone, Copy)]
pub(crate) struct Search {
    /// Nothing.
    pub(crate) all_literals: bool,
    /// Only what lies within mini-blocks of so many bytes; 0 for no such limit.
    pub(crate) mini_block: u32,
}

/// Buffers that can be used again.
pub(crate) struct Matcher {
    buffer: [u8; HISTORY + ROOM + LONGEST],
    /// Positions plus one, the latest at the front.
    buckets: [[u32; WAYS]; 1 << HASH_BITS],
}

impl Matcher {
    pub(crate) const EMPTY: Matcher =
        Matcher { buffer: [0; HISTORY + ROOM + LONGEST], buckets: [[0; WAYS]; 1 << HASH_BITS] };

    /// Reads source 1 and gives its tokens, in order, each with certainty the same for the same input.
    pub(crate) fn tokens(
        &mut self,
        access: &Access<'_>,
        (mut addr, size): (u64, u32),
        search: Search,
        checksums: &mut Checksums,
        mut token: impl FnMut(Token) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        self.buckets.fill([0; WAYS]);
        let mut left = size as usize;
        // Of the whole input, `base` is where the buffer begins; of the buffer, `at` is where to go on.
        let (mut base, mut at, mut end) = (0, 0, 0);
        loop {
            let new = left.min(self.buffer.len() - end);
            access.read(addr, &mut self.buffer[end..end + new])?;
            checksums.update(&self.buffer[end..end + new]);
            addr = addr.wrapping_add(new as u64);
            left -= new;
            end += new;
            // The longest match needs so many bytes.
            let until = if left == 0 { end } else { end - LONGEST };
            while at < until {
                let found = if search.all_literals { None } else { self.find(base, at, end, search) };
                match found {
                    Some((len, distance)) => {
                        token(Token::Match { len: len as u16, distance: distance as u16 })?;
                        at += len;
                    }
                    None => {
                        token(Token::Literal(self.buffer[at]))?;
                        at += 1;
                    }
                }
            }
            if left == 0 {
                return Ok(());
            }
            let gone = at - HISTORY;
            self.buffer.copy_within(gone..end, 0);
            base += gone as u32;
            at -= gone;
            end -= gone;
        }
    }

    /// A match at `at` that the bucket knows: the nearest that is good enough, or else the longest. Remembers `at`.
    fn find(&mut self, base: u32, at: usize, end: usize, search: Search) -> Option<(usize, usize)> {
        let slot = slot(&self.buffer[..end], at)?;
        let bucket = &mut self.buckets[slot];
        let here = base + at as u32;
        let (mut most, mut reach) = (LONGEST.min(end - at), HISTORY);
        if search.mini_block != 0 {
            let filled = here % search.mini_block;
            most = most.min((search.mini_block - filled) as usize);
            reach = reach.min(filled as usize);
        }
        let (mut best, mut far) = (0, 0);
        for &entry in bucket.iter() {
            let distance = (here + 1).wrapping_sub(entry) as usize;
            if entry == 0 || distance > reach {
                break;
            }
            let len = common(&self.buffer[at - distance..], &self.buffer[at..at + most]);
            if len > best {
                (best, far) = (len, distance);
                if len >= GOOD {
                    break;
                }
            }
        }
        bucket.copy_within(0..WAYS - 1, 1);
        bucket[0] = here + 1;
        (best >= SHORTEST).then_some((best, far))
    }
}

/// The bucket of the three bytes at `at`, if there are three.
#[inline(always)]
fn slot(buffer: &[u8], at: usize) -> Option<usize> {
    let &[a, b, c] = buffer.get(at..)?.first_chunk()?;
    let three = u32::from_le_bytes([a, b, c, 0]);
    // The multiplier is 2^32 divided by the golden ratio.
    Some((three.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize)
}

/// How many bytes of `b` equal those of `a`, which is longer.
#[inline(always)]
fn common(a: &[u8], b: &[u8]) -> usize {
    let mut len = 0;
    for (x, y) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
        let unequal = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if unequal != 0 {
            return len + unequal.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + a[len..].iter().zip(&b[len..]).take_while(|(x, y)| x == y).count()
}
