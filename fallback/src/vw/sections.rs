//! The sections of a stream, put one behind the other.

use super::format::{HEADER_LEN, Header};

/// What stands before and behind the literals, in the order of the stream.
pub(super) struct Sections<'a> {
    pub(super) masks: &'a [u8],
    pub(super) classes: &'a [u8],
    pub(super) lows: &'a [u8],
    pub(super) near: &'a [u8],
    pub(super) far: &'a [u8],
    pub(super) exact: &'a [u8],
}

impl Sections<'_> {
    /// Writes a stream to the front of `dst`, which has room for the longest; `literals` writes its part to the front
    /// of what it is given, and tells the length. The length of the stream.
    #[inline(always)]
    pub(super) fn assemble(
        &self,
        header: Header,
        dst: &mut [u8],
        literals: impl FnOnce(&mut [u8]) -> usize,
    ) -> usize {
        dst[..HEADER_LEN].copy_from_slice(&header.to_bytes());
        let mut at = HEADER_LEN;
        let mut append = |bytes: &[u8]| {
            dst[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        append(self.masks);
        append(self.classes);
        at += literals(&mut dst[at..]);
        let mut append = |bytes: &[u8]| {
            dst[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        append(self.lows);
        append(self.near);
        append(self.far);
        append(self.exact);
        at
    }
}
