//! The numbers of the vw format, and its header; `FORMAT-VW.md` is the whole description.

/// A page: 64 blocks of 16 little-endian words.
pub(super) const PAGE: usize = 4096;
pub(super) const WORDS: usize = 1024;
pub(super) const BLOCKS: usize = 64;
pub(super) const LANES: usize = 16;
pub(super) const BLOCK: usize = 64;

/// Blocks of a quarter page. The distance starts anew with each quarter, so that four of them can be parsed at once.
pub(super) const QUARTER: usize = 16;
pub(super) const QUARTERS: usize = BLOCKS / QUARTER;

/// Blocks whose classes stand together: 64 words, as many as an integer has bits.
pub(super) const GROUP: usize = 4;
pub(super) const GROUPS: usize = BLOCKS / GROUP;

/// The distance in force where a quarter begins: the block before.
pub(super) const FIRST_DISTANCE: usize = BLOCK;

/// The upper four bits of the first word of every stream.
const VERSION: u16 = 2;
const VERSION_SHIFT: u32 = 12;
/// Set where literals are coded by planes.
const CODED: u16 = 1 << 11;
const COUNT: u16 = CODED - 1;

pub(super) const HEADER_LEN: usize = 22;

/// No stream is longer. A word costs at most 2 bits of class and 32 of literal.
pub(super) const MAX_STREAM: usize = HEADER_LEN + 2 * BLOCKS + WORDS * 34 / 8;

/// Fewer literals are never coded: the tables would cost more than they save.
pub(super) const CODED_MIN: usize = 48;

/// What stands in front of the sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Literal words, and whether they are coded.
    pub(super) literals: usize,
    pub(super) coded: bool,
    /// Low bytes.
    pub(super) lows: usize,
    /// Fresh distances.
    pub(super) fresh: usize,
    /// Blocks all of whose words repeat at the distance, and blocks none of whose words do.
    pub(super) all: u64,
    pub(super) none: u64,
}

impl Header {
    /// The header of a stream, unless its own numbers contradict the format.
    #[inline(always)]
    pub(super) fn read(src: &[u8]) -> Option<Header> {
        let bytes: &[u8; HEADER_LEN] = src.first_chunk()?;
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let map = |at: usize| {
            let mut map = [0; 8];
            map.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(map)
        };
        let first = half(0);
        let header = Header {
            literals: usize::from(first & COUNT),
            coded: first & CODED != 0,
            lows: usize::from(half(2)),
            fresh: usize::from(half(4)),
            all: map(6),
            none: map(14),
        };
        let sound = first >> VERSION_SHIFT == VERSION
            && header.literals <= WORDS
            && header.lows <= WORDS
            && header.fresh <= WORDS
            && header.all & header.none == 0
            && (header.literals > 0 || !header.coded);
        sound.then_some(header)
    }

    #[inline(always)]
    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let coded = if self.coded { CODED } else { 0 };
        let first = self.literals as u16 | coded | VERSION << VERSION_SHIFT;
        bytes[..2].copy_from_slice(&first.to_le_bytes());
        bytes[2..4].copy_from_slice(&(self.lows as u16).to_le_bytes());
        bytes[4..6].copy_from_slice(&(self.fresh as u16).to_le_bytes());
        bytes[6..14].copy_from_slice(&self.all.to_le_bytes());
        bytes[14..].copy_from_slice(&self.none.to_le_bytes());
        bytes
    }

    /// Number of blocks whose mask is written out.
    #[inline(always)]
    pub(super) fn masks(&self) -> usize {
        BLOCKS - (self.all | self.none).count_ones() as usize
    }

    /// Length of what follows the literals: low bytes, then the distances' low eight bits, their upper four, and
    /// whether each is exact.
    #[inline(always)]
    pub(super) fn tail_len(&self) -> usize {
        self.lows + self.fresh + self.fresh.div_ceil(2) + self.fresh.div_ceil(8)
    }
}

/// Length of the section of classes: two bits for each word that does not repeat.
#[inline(always)]
pub(super) fn classes_len(repeating: usize) -> usize {
    (2 * (WORDS - repeating)).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_reads_as_written() {
        let header =
            Header { literals: 1024, coded: true, lows: 3, fresh: 1024, all: 0xf0, none: 0x0f << 60 };
        assert_eq!(Header::read(&header.to_bytes()), Some(header));
        assert_eq!(header.masks(), 56);
    }

    /// A later format must be refused by this reader, not misread.
    #[test]
    fn other_versions_are_refused() {
        let header = Header { literals: 1, coded: false, lows: 0, fresh: 0, all: 0, none: 0 };
        for version in (0..16).filter(|&version| version != 2) {
            let mut bytes = header.to_bytes();
            bytes[1] = bytes[1] & 0x0f | version << 4;
            assert_eq!(Header::read(&bytes), None, "version {version}");
        }
    }
}
