//! Numbers of set bits by table: what the portable decoder would else count, bit by bit or on a CPU that it may not have.

/// For each byte, and each of its bits: how many bits are set up to that one, and with it.
pub(super) static RANKS: [[u8; 8]; 256] = {
    let mut ranks = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut ones) = (0, 0);
        while bit < 8 {
            ones += (byte >> bit & 1) as u8;
            ranks[byte][bit] = ones;
            bit += 1;
        }
        byte += 1;
    }
    ranks
};

/// Set bits of a byte.
#[inline(always)]
pub(super) fn ones(byte: u8) -> usize {
    usize::from(RANKS[usize::from(byte)][7])
}
