//! The end of a page's block, in safe code, and any block where nothing faster is there.
//!
//! [`end`] goes on where the vectors had to stop, shortly before the ends of block and page. It works in windows of fixed
//! size that have room to spare, so that nothing depends on how long a piece is; whatever does not fit there goes to
//! [`plain`], which takes any block from the beginning of any sequence, and tells what is wrong with it.

use super::{At, MIN_MATCH, PAGE};
use crate::decode_error::reported;
use crate::{Codec, DecodeError};

/// Bytes at the end of the block that the window holds.
const INPUT: usize = 64;
/// Bytes at the end of the page that the window holds, of which at least the first [`SPARE`] are made.
const OUTPUT: usize = 256;
const WINDOW: usize = PAGE - OUTPUT;
/// What may be touched beyond either.
const SPARE: usize = 32;

/// Decodes what is left of `src` from the beginning of a sequence on.
#[inline]
pub(super) fn end(src: &[u8], page: &mut [u8; PAGE], at: At) -> Result<(), DecodeError> {
    if at.page >= WINDOW + SPARE
        && src.len() - at.src <= INPUT
        && let Some(input) = src.last_chunk::<INPUT>()
        && let Some(made) = in_windows(input, page, At { src: at.src + INPUT - src.len(), page: at.page })
    {
        page[WINDOW..].copy_from_slice(&made);
        return Ok(());
    }
    plain(src, page, at)
}

/// The end of the page, if all goes well.
#[inline]
fn in_windows(end: &[u8; INPUT], page: &[u8; PAGE], at: At) -> Option<[u8; OUTPUT]> {
    let mut input = [0; INPUT + SPARE];
    input[..INPUT].copy_from_slice(end);
    let mut window = [0; OUTPUT + SPARE];
    window[..OUTPUT].copy_from_slice(&page[WINDOW..]);
    let (mut ip, mut op) = (at.src, at.page - WINDOW);
    loop {
        let token = usize::from(*input.get(ip)?);
        ip += 1;
        let mut literals = token >> 4;
        if literals == 15 {
            literals += usize::from(*input.get(ip)?);
            ip += 1;
        }
        if literals > INPUT.checked_sub(ip)? || literals > OUTPUT - op {
            return None;
        }
        for done in (0..literals).step_by(16) {
            let bytes: [u8; 16] = *input.get(ip + done..)?.first_chunk()?;
            *window.get_mut(op + done..)?.first_chunk_mut()? = bytes;
        }
        (ip, op) = (ip + literals, op + literals);
        if ip == INPUT {
            return if op == OUTPUT { window.first_chunk().copied() } else { None };
        }
        let &[low, high, more] = input.get(ip..)?.first_chunk()?;
        let offset = usize::from(u16::from_le_bytes([low, high]));
        let mut matched = MIN_MATCH + token % 16;
        ip += 2;
        if matched == MIN_MATCH + 15 {
            matched += usize::from(more);
            ip += 1;
        }
        let source = (WINDOW + op).checked_sub(offset)?;
        if matched > OUTPUT - op || offset == 0 {
            return None;
        }
        if offset < 32 {
            for to in op..op + matched {
                window[to] = window[to - offset];
            }
        } else {
            for done in (0..matched).step_by(32) {
                // What lies before the window ends before what was not made when it began.
                let from = source + done;
                let bytes: [u8; 32] = *match from.checked_sub(WINDOW) {
                    Some(from) => window.get(from..)?.first_chunk()?,
                    None => page.get(from..)?.first_chunk()?,
                };
                *window.get_mut(op + done..)?.first_chunk_mut()? = bytes;
            }
        }
        op += matched;
    }
}

/// Decodes what is left of `src` from the beginning of a sequence on, or tells what is wrong with it.
#[cold]
pub(super) fn plain(src: &[u8], page: &mut [u8; PAGE], at: At) -> Result<(), DecodeError> {
    let codec = Codec::Lz4;
    let truncated = DecodeError::Truncated { codec, src_len: reported(src.len()) };
    let too_long = DecodeError::TooLong { codec, expected: reported(PAGE) };
    let mut src = src.get(at.src..).ok_or(truncated)?;
    let mut op = at.page;
    loop {
        let (&token, after) = src.split_first().ok_or(truncated)?;
        src = after;
        let literals = count(token >> 4, &mut src).ok_or(truncated)?;
        let (bytes, after) = src.split_at_checked(literals).ok_or(truncated)?;
        src = after;
        page[op..].get_mut(..literals).ok_or(too_long)?.copy_from_slice(bytes);
        op += literals;
        // A block ends after literals and nowhere else.
        if src.is_empty() {
            let short = DecodeError::TooShort { codec, expected: reported(PAGE), decoded: reported(op) };
            return if op == PAGE { Ok(()) } else { Err(short) };
        }
        let (&offset, after) = src.split_first_chunk().ok_or(truncated)?;
        src = after;
        let offset = usize::from(u16::from_le_bytes(offset));
        let matched = MIN_MATCH + count(token % 16, &mut src).ok_or(truncated)?;
        if offset == 0 || offset > op {
            return Err(DecodeError::Malformed { codec, decoded: reported(op) });
        }
        if matched > PAGE - op {
            return Err(too_long);
        }
        // What is copied becomes part of what can be copied.
        let (source, end) = (op - offset, op + matched);
        while op < end {
            let len = (op - source).min(end - op);
            page.copy_within(source..source + len, op);
            op += len;
        }
    }
}

/// A number that begins in four bits and goes on in bytes while they are full.
fn count(nibble: u8, src: &mut &[u8]) -> Option<usize> {
    let mut sum = usize::from(nibble);
    if nibble == 15 {
        loop {
            let (&more, after) = src.split_first()?;
            *src = after;
            sum += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Some(sum)
}
