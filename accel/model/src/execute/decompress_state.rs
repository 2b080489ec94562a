//! The decompress AECS: where a descriptor left off, as bytes.
//!
//! Fields that software sets stand where the layout has them. What only the device reads (code lengths, a match that did
//! not fit) is kept in fields that are the device's own.

use std::mem::offset_of;

use idxd_sys::aecs::{DecompressAecs, FILTER_SIZE, decompress_state};
use idxd_sys::error_code as error;

use super::codes::{DISTANCE_PLACES, LITERAL_PLACES};
use super::inflate::{Place, State};
use super::stop::Stop;
use super::window::HISTORY;

const CRC: usize = offset_of!(DecompressAecs, crc);
const XOR: usize = offset_of!(DecompressAecs, xor_checksum);
const OUTPUT_BITS: usize = offset_of!(DecompressAecs, output_accumulator_bits);
const INDEX_OFFSET: usize = offset_of!(DecompressAecs, index_bit_offset);
const INPUT: usize = offset_of!(DecompressAecs, input_accumulator);
const INPUT_BITS: usize = offset_of!(DecompressAecs, input_accumulator_bits);
const FORMAT: usize = offset_of!(DecompressAecs, format);
/// Two symbols to a byte.
const LENGTHS: usize = offset_of!(DecompressAecs, reserved2);
/// Bytes in a mini-block that is not full.
const FILLED: usize = LENGTHS + (LITERAL_PLACES + DISTANCE_PLACES) / 2;
const STATE: usize = offset_of!(DecompressAecs, state);
const STORED_LEFT: usize = offset_of!(DecompressAecs, stored_bytes_left);
const PENDING: usize = offset_of!(DecompressAecs, reserved4);
const HISTORY_OFFSET: usize = offset_of!(DecompressAecs, history_offset);
const HISTORY_BYTES: usize = offset_of!(DecompressAecs, history);

const _: () = assert!(FILLED + 4 <= offset_of!(DecompressAecs, literal_mapping));

/// Words of input that an AECS can hold back.
const INPUT_WORDS: usize = 32;

/// History has come round.
const WRAPPED: u16 = 1 << 15;

/// What an AECS says.
pub(crate) struct Saved {
    pub(crate) crc: u32,
    pub(crate) xor: u16,
    pub(crate) index_offset: u32,
    pub(crate) filled: u32,
    pub(crate) input: Vec<(u64, u32)>,
    pub(crate) state: State,
    pub(crate) history: Vec<u8>,
}

impl Saved {
    /// What a device knows that is given no AECS.
    pub(crate) fn none() -> Saved {
        Saved {
            crc: 0,
            xor: 0,
            index_offset: 0,
            filled: 0,
            input: Vec::new(),
            state: State::START,
            history: Vec::new(),
        }
    }

    /// What `aecs` says; one that is short says nothing of what is not in it.
    pub(crate) fn parse(aecs: &[u8]) -> Result<Saved, Stop> {
        let bad = Stop::Error(error::BAD_AECS);
        let word = |at| u32::from_le_bytes(bytes(aecs, at));
        let half = |at| u16::from_le_bytes(bytes(aecs, at));
        let mut saved = Saved { crc: word(CRC), xor: word(XOR) as u16, ..Saved::none() };
        if aecs.len() <= FILTER_SIZE as usize {
            return Ok(saved);
        }
        saved.index_offset = word(INDEX_OFFSET);
        for place in 0..INPUT_WORDS {
            match bytes(aecs, INPUT_BITS + place) {
                [0] => {}
                [len @ 1..=64] => {
                    let value = u64::from_le_bytes(bytes(aecs, INPUT + 8 * place));
                    saved.input.push((value & u64::MAX >> (64 - len), u32::from(len)));
                }
                _ => return Err(bad),
            }
        }
        let state = half(STATE);
        saved.state.last = state & decompress_state::FINAL != 0;
        saved.state.place = match state & !decompress_state::FINAL {
            decompress_state::SYMBOLS => Place::Symbols,
            decompress_state::HEADER => Place::Header,
            decompress_state::STORED => Place::Stored { left: word(STORED_LEFT) & 0xffff },
            decompress_state::ENDED => Place::Ended,
            _ => return Err(bad),
        };
        if saved.state.place == Place::Symbols {
            let lengths = &mut saved.state.lengths;
            for (at, len) in lengths.literals.iter_mut().chain(&mut lengths.distances).enumerate() {
                let [two] = bytes(aecs, LENGTHS + at / 2);
                *len = two >> (4 * (at % 2)) & 15;
            }
            saved.filled = word(FILLED);
            saved.state.pending = (u32::from(half(PENDING)), u32::from(half(PENDING + 2)));
        }
        if let Some(history) = aecs.get(HISTORY_BYTES..HISTORY_BYTES + HISTORY) {
            let offset = half(HISTORY_OFFSET);
            let end = usize::from(offset & !WRAPPED);
            if offset & WRAPPED != 0 {
                let (new, old) = history.split_at(end % HISTORY);
                saved.history = [old, new].concat();
            } else {
                saved.history = history[..end.min(HISTORY)].to_vec();
            }
        }
        let (len, distance) = saved.state.pending;
        if len > 258 || (len > 0 && (distance == 0 || distance as usize > saved.history.len())) {
            return Err(bad);
        }
        Ok(saved)
    }

    /// Puts it into `aecs`, as far as that has room.
    pub(crate) fn store(&self, aecs: &mut [u8], format2: bool) -> Result<(), Stop> {
        put(aecs, CRC, &self.crc.to_le_bytes());
        put(aecs, XOR, &u32::from(self.xor).to_le_bytes());
        put(aecs, OUTPUT_BITS, &u32::from(format2).to_le_bytes());
        put(aecs, FORMAT, &[u8::from(format2)]);
        let input = packed(&self.input);
        if input.len() > INPUT_WORDS {
            return Err(Stop::Error(error::HEADER_TOO_LARGE));
        }
        for place in 0..INPUT_WORDS {
            let (value, len) = input.get(place).copied().unwrap_or_default();
            put(aecs, INPUT + 8 * place, &value.to_le_bytes());
            put(aecs, INPUT_BITS + place, &[len as u8]);
        }
        let (state, left) = match self.state.place {
            Place::Symbols => (decompress_state::SYMBOLS, 0),
            Place::Header => (decompress_state::HEADER, 0),
            Place::Stored { left } => (decompress_state::STORED, left),
            Place::Ended => (decompress_state::ENDED, 0),
        };
        let in_last = self.state.last && matches!(self.state.place, Place::Symbols | Place::Stored { .. });
        let state = if in_last { state | decompress_state::FINAL } else { state };
        put(aecs, STATE, &state.to_le_bytes());
        put(aecs, INDEX_OFFSET, &self.index_offset.to_le_bytes());
        put(aecs, FILLED, &self.filled.to_le_bytes());
        put(aecs, STORED_LEFT, &left.to_le_bytes());
        put(aecs, PENDING, &(self.state.pending.0 as u16).to_le_bytes());
        put(aecs, PENDING + 2, &(self.state.pending.1 as u16).to_le_bytes());
        let lengths = &self.state.lengths;
        for at in 0..(LITERAL_PLACES + DISTANCE_PLACES) / 2 {
            let of = |at: usize| match at.checked_sub(LITERAL_PLACES) {
                Some(distance) => lengths.distances[distance],
                None => lengths.literals[at],
            };
            put(aecs, LENGTHS + at, &[of(2 * at) | of(2 * at + 1) << 4]);
        }
        let offset = if self.history.len() == HISTORY { WRAPPED } else { self.history.len() as u16 };
        put(aecs, HISTORY_OFFSET, &offset.to_le_bytes());
        put(aecs, HISTORY_BYTES, &self.history);
        Ok(())
    }
}

/// The bytes at `at`; zero where `aecs` ends before.
fn bytes<const N: usize>(aecs: &[u8], at: usize) -> [u8; N] {
    aecs.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

fn put(aecs: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = aecs.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// The same bits in as few words as possible.
fn packed(words: &[(u64, u32)]) -> Vec<(u64, u32)> {
    let mut packed: Vec<(u64, u32)> = Vec::new();
    for &(mut value, mut len) in words {
        if let Some((last, last_len)) = packed.last_mut()
            && *last_len < 64
        {
            let moved = len.min(64 - *last_len);
            *last |= value << *last_len;
            *last_len += moved;
            value = value.checked_shr(moved).unwrap_or(0);
            len -= moved;
        }
        if len > 0 {
            packed.push((value, len));
        }
    }
    packed
}
