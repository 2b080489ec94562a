//! Compress descriptors: streams, statistics, and generated headers.

use std::mem::offset_of;

use idxd_sys::aecs::{COMPRESS_HEAD_SIZE, COMPRESS_SIZE, CompressAecs, DISTANCES, LITERALS, Symbols};
use idxd_sys::error_code as error;
use idxd_sys::flags::{compress as flag, compress2, op};
use idxd_sys::{CompletionRecord, Descriptor, status};
use zfolio_fallback::tree::{Code, Codes, Header, Histogram, Lengths};

use super::access::{Access, CHUNK};
use super::checksum::Checksums;
use super::index::mini_block_size;
use super::matcher::{Search, Token};
use super::sink::Sink;
use super::stop::Stop;
use super::workspace::Workspace;

const END_OF_BLOCK: usize = 256;

const CRC: usize = offset_of!(CompressAecs, crc);
const XOR: usize = offset_of!(CompressAecs, xor_checksum);
const ACCUMULATOR_BITS: usize = offset_of!(CompressAecs, accumulator_bits);
const ACCUMULATOR: usize = offset_of!(CompressAecs, accumulator);
const ACCUMULATOR_SIZE: usize = 256;
const CODES: usize = offset_of!(CompressAecs, codes);
const DISTANCE_CODES: usize = CODES + offset_of!(Symbols, distances);

/// The most that is compressed in one pass with a header of its own.
const ONE_PASS: u32 = 4096;

/// The compress AECS, as far as it is not codes.
struct State {
    crc: u32,
    xor: u16,
    accumulator: [u8; ACCUMULATOR_SIZE],
    bits: u32,
}

/// Executes a valid compress descriptor.
pub(crate) fn compress(
    descriptor: &Descriptor,
    access: &Access<'_>,
    workspace: &mut Workspace,
) -> Result<CompletionRecord, Stop> {
    let flags = descriptor.flags();
    let toggled = flags & op::AECS_TOGGLE != 0;
    let area =
        |second| descriptor.src2_addr.wrapping_add(if second { u64::from(descriptor.src2_size) } else { 0 });
    let mut aecs = [0; COMPRESS_SIZE as usize];
    let aecs_size = descriptor.src2_size.min(COMPRESS_SIZE) as usize;
    if flags & op::READ_SRC2_MASK == op::READ_SRC2_AECS {
        access.read(area(toggled), &mut aecs[..aecs_size])?;
    }
    let mut state = State::parse(&aecs)?;

    let mut job = Job {
        descriptor,
        access,
        checksums: Checksums::resume(flags & op::CRC32C != 0, state.crc, state.xor),
        workspace,
        new_codes: None,
    };
    let header = (descriptor.op_flags & flag::HEADER_MASK) >> flag::HEADER_SHIFT;
    let (output_size, output_bits) = if descriptor.op_flags & flag::STATISTICS != 0 {
        (job.statistics()?, 0)
    } else {
        match header {
            5..=7 => {
                job.table_pass(&mut state, (header != 5).then_some(header == 7))?;
                (0, 0)
            }
            2 | 3 => job.one_pass(&mut state, header == 3)?,
            _ => job.with_codes(&mut state, &codes(&aecs))?,
        }
    };

    let (new_codes, checksums) = (job.new_codes, job.checksums);
    // A table pass sees the data before the pass that compresses it, whose checksums go on from the same seed.
    if !matches!(header, 5..=7) {
        (state.crc, state.xor) = (checksums.crc(), checksums.xor());
    }
    if flags & op::WRITE_SRC2_MASK == op::WRITE_SRC2_ALWAYS {
        let mut len = COMPRESS_HEAD_SIZE as usize;
        if descriptor.filter_flags & compress2::WRITE_TABLES != 0
            && let Some(codes) = new_codes
        {
            put_codes(&mut aecs, &codes);
            len = aecs.len();
        }
        state.store(&mut aecs);
        access.write(area(!toggled), &aecs[..len.min(aecs_size)])?;
    }
    Ok(CompletionRecord {
        status: status::SUCCESS,
        bytes_completed: descriptor.src1_size,
        output_size,
        output_bits,
        xor_checksum: checksums.xor(),
        crc: checksums.crc(),
        ..CompletionRecord::default()
    })
}

/// What the passes of a descriptor share.
struct Job<'a, 'w> {
    descriptor: &'a Descriptor,
    access: &'a Access<'a>,
    checksums: Checksums,
    workspace: &'w mut Workspace,
    new_codes: Option<Box<Codes>>,
}

impl Job<'_, '_> {
    /// Counts the symbols that the next pass over the same data uses, and writes the counts.
    fn statistics(&mut self) -> Result<u32, Stop> {
        let counts = self.count()?;
        let mut bytes = [0; size_of::<Symbols>()];
        if (self.descriptor.max_dst_size as usize) < bytes.len() {
            return Err(Stop::Error(error::UNRECOVERABLE_OVERFLOW));
        }
        put_words(&mut bytes, &counts.literals);
        put_words(&mut bytes[offset_of!(Symbols, distances)..], &counts.distances);
        self.access.write(self.descriptor.dst_addr, &bytes)?;
        Ok(bytes.len() as u32)
    }

    fn count(&mut self) -> Result<Histogram, Stop> {
        let mut counts = Histogram::default();
        let Job { descriptor, access, checksums, workspace, .. } = self;
        workspace.matcher.tokens(access, src(descriptor), search(descriptor), checksums, |token| {
            count(&mut counts, token);
            Ok(())
        })?;
        counts.literals[END_OF_BLOCK] = 1;
        Ok(counts)
    }

    /// Makes codes, and unless `header` is `None` their header, of a last block or another, into the accumulator.
    fn table_pass(&mut self, state: &mut State, header: Option<bool>) -> Result<(), Stop> {
        let lengths = Lengths::of(&self.count()?);
        if let Some(last) = header {
            let header = Header::of(&lengths, last);
            state.append(header.bytes(), header.bits())?;
        }
        self.new_codes = Some(Box::new(Codes::of(&lengths)));
        Ok(())
    }

    /// Makes codes and compresses with them at once.
    fn one_pass(&mut self, state: &mut State, last: bool) -> Result<(u32, u8), Stop> {
        if self.descriptor.src1_size > ONE_PASS {
            return Err(Stop::Invalid(status::BAD_INPUT_SIZE, 0));
        }
        let mut counts = Histogram::default();
        let Job { descriptor, access, checksums, workspace, .. } = self;
        let Workspace { matcher, tokens, .. } = &mut **workspace;
        tokens.clear();
        matcher.tokens(access, src(descriptor), search(descriptor), checksums, |token| {
            count(&mut counts, token);
            tokens.push(token);
            Ok(())
        })?;
        counts.literals[END_OF_BLOCK] = 1;
        let lengths = Lengths::of(&counts);
        let header = Header::of(&lengths, last);
        let codes = Box::new(Codes::of(&lengths));

        let dst = (descriptor.dst_addr, descriptor.max_dst_size);
        let mut sink = Sink::new(access, &mut workspace.chunk, dst);
        sink.put_all(&state.accumulator, state.bits)?;
        sink.put_all(header.bytes(), header.bits())?;
        let coder = Coder::new(&codes);
        for &token in &workspace.tokens {
            coder.put(&mut sink, token)?;
        }
        self.new_codes = Some(codes);
        finish(descriptor, sink, &coder, state)
    }

    /// Compresses with codes that were given.
    fn with_codes(&mut self, state: &mut State, codes: &Codes) -> Result<(u32, u8), Stop> {
        let Job { descriptor, access, checksums, workspace, .. } = self;
        let Workspace { matcher, chunk, .. } = &mut **workspace;
        let mut sink = Sink::new(access, chunk, (descriptor.dst_addr, descriptor.max_dst_size));
        sink.put_all(&state.accumulator, state.bits)?;
        let coder = Coder::new(codes);
        matcher.tokens(access, src(descriptor), search(descriptor), checksums, |token| {
            coder.put(&mut sink, token)
        })?;
        finish(descriptor, sink, &coder, state)
    }
}

/// Appends what ends the stream, and writes or holds back what is left.
fn finish(
    descriptor: &Descriptor,
    mut sink: Sink<'_>,
    coder: &Coder,
    state: &mut State,
) -> Result<(u32, u8), Stop> {
    let end = descriptor.op_flags & flag::END_MASK;
    if end != 0 {
        let (bits, len) = coder.literals[END_OF_BLOCK];
        sink.put(bits, some(len)?)?;
    }
    if end == flag::END_EOB_STORED || end == flag::END_EOB_STORED_FINAL {
        sink.put(u32::from(end == flag::END_EOB_STORED_FINAL), 3)?;
        sink.pad()?;
        sink.put(0, 16)?;
        sink.put(0xffff, 16)?;
    }
    if descriptor.op_flags & flag::FLUSH_OUTPUT != 0 {
        state.accumulator.fill(0);
        state.bits = 0;
        sink.flush()
    } else {
        let (written, bits) = sink.hold_back(&mut state.accumulator)?;
        state.bits = bits;
        Ok((written, 0))
    }
}

/// Codes as they are put into a stream: reversed bits and their number.
struct Coder {
    literals: [(u32, u32); LITERALS],
    distances: [(u32, u32); DISTANCES],
}

impl Coder {
    fn new(codes: &Codes) -> Coder {
        let reversed = |code: Code| (u32::from(code.reversed()), u32::from(code.len));
        Coder { literals: codes.literals.map(reversed), distances: codes.distances.map(reversed) }
    }

    #[inline(always)]
    fn put(&self, sink: &mut Sink<'_>, token: Token) -> Result<(), Stop> {
        match token {
            Token::Literal(byte) => {
                let (bits, len) = self.literals[usize::from(byte)];
                sink.put(bits, some(len)?)
            }
            Token::Match { len, distance } => {
                let (symbol, extra, extra_len) = length_symbol(u32::from(len));
                let (bits, len) = self.literals[symbol];
                sink.put(bits | extra << len, some(len)? + extra_len)?;
                let (symbol, extra, extra_len) = distance_symbol(u32::from(distance));
                let (bits, len) = self.distances[symbol];
                sink.put(bits | extra << len, some(len)? + extra_len)
            }
        }
    }
}

/// The length of a code that is needed.
#[inline(always)]
fn some(len: u32) -> Result<u32, Stop> {
    if len == 0 { Err(Stop::Error(error::BAD_HUFFMAN_CODE)) } else { Ok(len) }
}

/// Symbol, bits added and their number, of a match length.
#[inline(always)]
fn length_symbol(len: u32) -> (usize, u32, u32) {
    let offset = len - 3;
    if len == 258 {
        (285, 0, 0)
    } else if offset < 8 {
        (257 + offset as usize, 0, 0)
    } else {
        let extra_len = offset.ilog2() - 2;
        let symbol = 257 + 4 * extra_len + (offset >> extra_len);
        (symbol as usize, offset & ((1 << extra_len) - 1), extra_len)
    }
}

/// Symbol, bits added and their number, of a match distance.
#[inline(always)]
fn distance_symbol(distance: u32) -> (usize, u32, u32) {
    let offset = distance - 1;
    if offset < 4 {
        (offset as usize, 0, 0)
    } else {
        let extra_len = offset.ilog2() - 1;
        let symbol = 2 * extra_len + (offset >> extra_len);
        (symbol as usize, offset & ((1 << extra_len) - 1), extra_len)
    }
}

fn count(counts: &mut Histogram, token: Token) {
    match token {
        Token::Literal(byte) => counts.literals[usize::from(byte)] += 1,
        Token::Match { len, distance } => {
            counts.literals[length_symbol(u32::from(len)).0] += 1;
            counts.distances[distance_symbol(u32::from(distance)).0] += 1;
        }
    }
}

fn src(descriptor: &Descriptor) -> (u64, u32) {
    (descriptor.src1_addr, descriptor.src1_size)
}

fn search(descriptor: &Descriptor) -> Search {
    let number = (descriptor.op_flags & flag::MINI_BLOCK_MASK) >> flag::MINI_BLOCK_SHIFT;
    Search {
        all_literals: descriptor.op_flags & flag::ALL_LITERALS != 0,
        mini_block: mini_block_size(number),
    }
}

impl State {
    fn parse(aecs: &[u8; COMPRESS_SIZE as usize]) -> Result<State, Stop> {
        let bits = word(aecs, ACCUMULATOR_BITS);
        let mut accumulator = [0; ACCUMULATOR_SIZE];
        if bits as usize > 8 * accumulator.len() {
            return Err(Stop::Error(error::BAD_AECS));
        }
        accumulator.copy_from_slice(&aecs[ACCUMULATOR..ACCUMULATOR + ACCUMULATOR_SIZE]);
        Ok(State { crc: word(aecs, CRC), xor: word(aecs, XOR) as u16, accumulator, bits })
    }

    fn store(&self, aecs: &mut [u8; COMPRESS_SIZE as usize]) {
        put_words(&mut aecs[CRC..], &[self.crc]);
        put_words(&mut aecs[XOR..], &[u32::from(self.xor)]);
        put_words(&mut aecs[ACCUMULATOR_BITS..], &[self.bits]);
        aecs[ACCUMULATOR..ACCUMULATOR + ACCUMULATOR_SIZE].copy_from_slice(&self.accumulator);
    }

    /// Puts more bits into the accumulator.
    fn append(&mut self, bytes: &[u8], bits: u32) -> Result<(), Stop> {
        if self.bits + bits > 8 * ACCUMULATOR_SIZE as u32 {
            return Err(Stop::Error(error::HEADER_TOO_LARGE));
        }
        for bit in 0..bits {
            let (from, to) = (bit, self.bits + bit);
            let (place, mask) = ((to / 8) as usize, 1 << (to % 8));
            let set = bytes[(from / 8) as usize] >> (from % 8) & 1 == 1;
            self.accumulator[place] =
                if set { self.accumulator[place] | mask } else { self.accumulator[place] & !mask };
        }
        self.bits += bits;
        Ok(())
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_le_bytes)
}

fn put_words(bytes: &mut [u8], words: &[u32]) {
    for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
}

/// The codes of an AECS.
fn codes(aecs: &[u8; COMPRESS_SIZE as usize]) -> Codes {
    let code = |at| {
        let word = word(aecs, at);
        let len = (word >> 15 & 15) as u8;
        Code { bits: (word & ((1 << len) - 1)) as u16, len }
    };
    Codes {
        literals: std::array::from_fn(|symbol| code(CODES + 4 * symbol)),
        distances: std::array::from_fn(|symbol| code(DISTANCE_CODES + 4 * symbol)),
    }
}

fn put_codes(aecs: &mut [u8; COMPRESS_SIZE as usize], codes: &Codes) {
    let word = |code: &Code| u32::from(code.len) << 15 | u32::from(code.bits);
    aecs[CODES..].fill(0);
    put_words(&mut aecs[CODES..], &codes.literals.each_ref().map(word));
    put_words(&mut aecs[DISTANCE_CODES..], &codes.distances.each_ref().map(word));
}

const _: () = assert!(CHUNK.is_multiple_of(32));
