//! Reads literals that are coded by planes.

use super::super::format::WORDS;
use super::super::ranks::ones;
use super::{Mode, PLANES};

/// Bytes of a plane whose bits are one byte of its mask.
const STEP: usize = 8;

/// Bytes of a plane, and what is read behind the last of them.
const ROOM: usize = WORDS + STEP;

/// Reads the first `count` of `literals`, at least one and at most all, from the front of `src`; the bytes used.
/// What `literals` holds behind them may change.
pub(in super::super) fn decode(src: &[u8], count: usize, literals: &mut [[u8; 4]; WORDS]) -> Option<usize> {
    let (&modes, mut rest) = src.split_first()?;
    let (mut raw_bytes, mut coded_bytes) = ([0; ROOM], [0; ROOM]);
    for plane in 0..PLANES {
        let mode = Mode::of(modes, plane);
        if mode == Mode::Raw {
            let raw;
            (raw, rest) = rest.split_at_checked(count)?;
            literals.iter_mut().zip(raw).for_each(|(literal, &byte)| literal[plane] = byte);
            continue;
        }
        let (symbols, mask, codes, raw);
        (symbols, rest) = rest.split_at_checked(mode.symbols())?;
        (mask, rest) = rest.split_at_checked(count.div_ceil(STEP))?;
        let coded = set_bits(mask, count);
        (codes, rest) = rest.split_at_checked((coded * mode.bits()).div_ceil(8))?;
        (raw, rest) = rest.split_at_checked(count - coded)?;
        raw_bytes[..raw.len()].copy_from_slice(raw);
        expand(mode, symbols, codes, &mut coded_bytes)?;
        merge(mask, &raw_bytes, &coded_bytes, plane, literals)?;
    }
    Some(src.len() - rest.len())
}

/// How many of the first `count` bits are set; they end in the last byte.
fn set_bits(mask: &[u8], count: usize) -> usize {
    let all: usize = mask.iter().map(|&byte| ones(byte)).sum();
    let beyond = if count.is_multiple_of(STEP) { 0 } else { mask[mask.len() - 1] >> (count % STEP) };
    all - ones(beyond)
}

/// The symbols of all codes, and of the bits that fill up their last byte.
fn expand(mode: Mode, symbols: &[u8], codes: &[u8], bytes: &mut [u8; ROOM]) -> Option<()> {
    match mode {
        Mode::Raw => {}
        Mode::One => bytes.fill(*symbols.first()?),
        Mode::Four => {
            let pairs = pairs::<4>(symbols)?;
            for (bytes, &codes) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(codes) {
                let [first, second] =
                    [codes & 15, codes >> 4].map(|pair| pairs.as_flattened()[usize::from(pair)]);
                *bytes = (u32::from(first) | u32::from(second) << 16).to_le_bytes();
            }
        }
        Mode::Sixteen => {
            let pairs = pairs::<16>(symbols)?;
            for (bytes, &codes) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
                *bytes = pairs.as_flattened()[usize::from(codes)].to_le_bytes();
            }
        }
    }
    Some(())
}

/// Any two of the symbols, where both codes joined say.
#[inline(always)]
fn pairs<const N: usize>(symbols: &[u8]) -> Option<[[u16; N]; N]> {
    let symbols = symbols.first_chunk::<N>()?.map(u16::from);
    Some(symbols.map(|second| symbols.map(|first| first | second << 8)))
}

/// Puts raw and coded bytes where the mask says.
fn merge(
    mask: &[u8],
    raw: &[u8; ROOM],
    coded: &[u8; ROOM],
    plane: usize,
    literals: &mut [[u8; 4]; WORDS],
) -> Option<()> {
    let (mut from_raw, mut from_coded) = (0, 0);
    // The next raw bytes and the next coded ones; so long that a byte is no index out of bounds.
    let mut next = [0; 256];
    for (literals, &mask) in literals.as_chunks_mut::<STEP>().0.iter_mut().zip(mask) {
        next[..STEP].copy_from_slice(raw.get(from_raw..from_raw + STEP)?);
        next[STEP..2 * STEP].copy_from_slice(coded.get(from_coded..from_coded + STEP)?);
        for (literal, &which) in literals.iter_mut().zip(&WHICH[usize::from(mask)]) {
            literal[plane] = next[usize::from(which)];
        }
        from_coded += ones(mask);
        from_raw += STEP - ones(mask);
    }
    Some(())
}

/// For each byte of a mask, and each of its bits: which byte it stands for, of the next raw ones with the next coded
/// ones behind them.
static WHICH: [[u8; STEP]; 256] = {
    let mut which = [[0; STEP]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut bit, mut raw, mut coded) = (0, 0, STEP as u8);
        while bit < STEP {
            if mask >> bit & 1 == 0 {
                which[mask][bit] = raw;
                raw += 1;
            } else {
                which[mask][bit] = coded;
                coded += 1;
            }
            bit += 1;
        }
        mask += 1;
    }
    which
};
