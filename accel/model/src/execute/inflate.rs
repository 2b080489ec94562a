//! The decompressor: from bits to bytes, able to stop at any symbol and to go on from there.

use idxd_sys::error_code as error;

use super::bits::Bits;
use super::codes::{Code, Lengths};
use super::header::{Block, Header, NoHeader};
use super::index::Index;
use super::stop::Stop;
use super::window::{HISTORY, Window};

/// Where the decompressor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the header of a block.
    Header,
    /// Among the symbols of a block.
    Symbols,
    /// In a stored block of which so many bytes are left.
    Stored { left: u32 },
    /// Behind the end of a block that was to end it.
    Ended,
}

/// All that the decompressor knows between two descriptors, but for input, history and checksums.
pub(crate) struct State {
    pub(crate) place: Place,
    /// Whether the block is the last one.
    pub(crate) last: bool,
    /// Bytes of a match that did not fit, and its distance.
    pub(crate) pending: (u32, u32),
    /// The block's codes.
    pub(crate) lengths: Lengths,
}

impl State {
    /// Of a device that was given none.
    pub(crate) const START: State =
        State { place: Place::Header, last: false, pending: (0, 0), lengths: Lengths::NONE };
}

/// Which ends of blocks mean something, and what.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    /// Decompression stops there.
    pub(crate) stop: bool,
    /// Input that does not end there is an error.
    pub(crate) check: bool,
    /// Only the end of a last block counts.
    pub(crate) only_last: bool,
}

/// Why the decompressor came to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Input used up, or an end of block that was to end it.
    Done,
    /// No room for the next byte.
    Full,
}

/// Tables that can be used again.
pub(crate) struct Codes {
    literals: Code,
    distances: Code,
}

impl Codes {
    pub(crate) const EMPTY: Codes = Codes { literals: Code::EMPTY, distances: Code::EMPTY };

    fn set(&mut self, lengths: &Lengths) -> Result<(), Stop> {
        self.literals.set(&lengths.literals).map_err(|_| Stop::Error(error::BAD_LL_CODE_LENGTHS))?;
        self.distances.set(&lengths.distances).map_err(|_| Stop::Error(error::BAD_D_CODE_LENGTHS))
    }
}

/// Decompresses until the input, the room or the block ends. What is left of a header goes to `taken`.
pub(crate) fn inflate(
    state: &mut State,
    bits: &mut Bits<'_>,
    window: &mut Window<'_>,
    index: &mut Option<Index<'_>>,
    codes: &mut Codes,
    (ends, strict): (Ends, bool),
    taken: &mut Vec<(u64, u32)>,
) -> Result<Rest, Stop> {
    if state.place == Place::Symbols {
        if state.lengths.literals.iter().all(|&len| len == 0) {
            return Err(Stop::Error(error::BAD_AECS));
        }
        codes.set(&state.lengths).map_err(|_| Stop::Error(error::BAD_AECS))?;
    }
    // Whether the last thing read was an end of block that counts.
    let mut ended = false;
    let rest = loop {
        let block = match state.place {
            Place::Ended => break Rest::Done,
            Place::Header => {
                let mut header = Header::new(bits);
                match header.read(strict) {
                    Ok((last, block)) => {
                        state.last = last;
                        ended = false;
                        begin(state, block, codes)?;
                        continue;
                    }
                    Err(NoHeader::Stop(stop)) => return Err(stop),
                    Err(NoHeader::Ends) => {
                        *taken = header.taken();
                        break Rest::Done;
                    }
                }
            }
            Place::Stored { left } => stored(left, bits, window, index)?,
            Place::Symbols => symbols(&mut state.pending, bits, window, index, codes)?,
        };
        match block {
            InBlock::Ended => {
                ended = state.last || !ends.only_last;
                state.place = if ended && ends.stop { Place::Ended } else { Place::Header };
            }
            InBlock::InputEnds(left) | InBlock::Full(left) => {
                if let Place::Stored { left: old } = &mut state.place {
                    *old = left;
                }
                break if matches!(block, InBlock::Full(_)) { Rest::Full } else { Rest::Done };
            }
        }
    };
    if rest == Rest::Done && ends.check && !ended && state.place != Place::Ended {
        return Err(Stop::Error(error::BAD_END_OF_FILE));
    }
    Ok(rest)
}

fn begin(state: &mut State, block: Block, codes: &mut Codes) -> Result<(), Stop> {
    state.place = match block {
        Block::Stored { len } => Place::Stored { left: len },
        Block::Fixed => {
            state.lengths = Lengths::fixed();
            Place::Symbols
        }
        Block::Dynamic(lengths) => {
            state.lengths = *lengths;
            Place::Symbols
        }
    };
    if state.place == Place::Symbols {
        codes.set(&state.lengths)?;
    }
    Ok(())
}

/// How reading a block came to an end; with the bytes that are left, if the block is stored.
enum InBlock {
    Ended,
    InputEnds(u32),
    Full(u32),
}

fn stored(
    mut left: u32,
    bits: &mut Bits<'_>,
    window: &mut Window<'_>,
    index: &mut Option<Index<'_>>,
) -> Result<InBlock, Stop> {
    while left > 0 {
        if window.left() == 0 {
            return Ok(InBlock::Full(left));
        }
        bits.refill()?;
        if bits.waiting_len() < 8 {
            return Ok(InBlock::InputEnds(left));
        }
        if let Some(index) = index {
            index.data(bits.offset(), window, (1, 0))?;
        }
        window.push(bits.take(8) as u8)?;
        left -= 1;
    }
    if let Some(index) = index {
        index.end_of_block(bits.offset(), bits.offset(), window)?;
    }
    Ok(InBlock::Ended)
}

fn symbols(
    pending: &mut (u32, u32),
    bits: &mut Bits<'_>,
    window: &mut Window<'_>,
    index: &mut Option<Index<'_>>,
    codes: &Codes,
) -> Result<InBlock, Stop> {
    if pending.0 > 0 && !matched(pending, window)? {
        return Ok(InBlock::Full(0));
    }
    loop {
        // A length, a distance and what they add are 48 bits at most: they are here, or they are not all in the input.
        bits.refill()?;
        let (all, here) = (bits.waiting(), bits.waiting_len());
        let Some((symbol, mut len)) = codes.literals.find(all) else {
            return no_code(here, error::BAD_LL_CODE);
        };
        if len > here {
            return Ok(InBlock::InputEnds(0));
        }
        match symbol {
            0..256 => {
                if window.left() == 0 {
                    return Ok(InBlock::Full(0));
                }
                if let Some(index) = index {
                    index.data(bits.offset(), window, (1, 0))?;
                }
                bits.take(len);
                window.push(symbol as u8)?;
            }
            256 => {
                if let Some(index) = index {
                    let begin = bits.offset();
                    index.end_of_block(begin, begin + u64::from(len), window)?;
                }
                bits.take(len);
                return Ok(InBlock::Ended);
            }
            _ => {
                let Some(&(base, extra)) = LENGTHS.get(symbol - 257) else {
                    return Err(Stop::Error(error::BAD_LL_CODE));
                };
                let longer = (all >> len) as u32 & ((1 << extra) - 1);
                len += extra;
                let Some((symbol, distance_len)) = codes.distances.find(all >> len) else {
                    return no_code(here.saturating_sub(len), error::BAD_D_CODE);
                };
                len += distance_len;
                if len > here {
                    return Ok(InBlock::InputEnds(0));
                }
                let Some(&(far, extra)) = DISTANCES.get(symbol) else {
                    return Err(Stop::Error(error::BAD_D_CODE));
                };
                let farther = (all >> len) as u32 & ((1 << extra) - 1);
                len += extra;
                if len > here {
                    return Ok(InBlock::InputEnds(0));
                }
                let distance = far + farther;
                if distance as usize > HISTORY {
                    return Err(Stop::Error(error::BAD_DISTANCE));
                }
                if distance as usize > window.reach() {
                    return Err(Stop::Error(error::REFERENCE_BEFORE_START));
                }
                if window.left() == 0 {
                    return Ok(InBlock::Full(0));
                }
                if let Some(index) = index {
                    index.data(bits.offset(), window, (base + longer, distance))?;
                }
                bits.take(len);
                *pending = (base + longer, distance);
                if !matched(pending, window)? {
                    return Ok(InBlock::Full(0));
                }
            }
        }
    }
}

/// Writes as much of a match as fits; whether that was all of it.
#[inline(always)]
fn matched(pending: &mut (u32, u32), window: &mut Window<'_>) -> Result<bool, Stop> {
    let (len, distance) = *pending;
    let now = u64::from(len).min(window.left()) as u32;
    window.copy(now as usize, distance as usize)?;
    pending.0 -= now;
    Ok(pending.0 == 0)
}

/// No code is like the bits that wait: an error, if the input does not just end among them.
fn no_code(here: u32, code: u8) -> Result<InBlock, Stop> {
    if here >= 15 { Err(Stop::Error(code)) } else { Ok(InBlock::InputEnds(0)) }
}

/// For each length symbol from 257 on: the shortest length, and how many bits are added.
const LENGTHS: [(u32, u32); 29] = {
    let mut table = [(258, 0); 29];
    let mut symbol = 0;
    while symbol < 28 {
        let extra = if symbol < 8 { 0 } else { symbol as u32 / 4 - 1 };
        table[symbol] =
            (3 + if symbol < 8 { symbol as u32 } else { (4 + symbol as u32 % 4) << extra }, extra);
        symbol += 1;
    }
    table
};

/// For each distance symbol: the shortest distance, and how many bits are added.
const DISTANCES: [(u32, u32); 30] = {
    let mut table = [(1, 0); 30];
    let mut symbol = 0;
    while symbol < 30 {
        let extra = if symbol < 4 { 0 } else { symbol as u32 / 2 - 1 };
        table[symbol] =
            (1 + if symbol < 4 { symbol as u32 } else { (2 + symbol as u32 % 2) << extra }, extra);
        symbol += 1;
    }
    table
};
