//! A reader of DEFLATE that is as strict as the device: one bit at a time, and only what every device accepts.
//!
//! Beyond the format it refuses matches over 4096 bytes back and, in dynamic headers, a
//! repeat of what came before as the first literal or distance length and a repeat that runs from the literal lengths into the distance lengths.

/// What a stream was found to hold.
pub struct Stream {
    /// The decoded bytes.
    pub bytes: Vec<u8>,
    /// The largest match distance, 0 without matches.
    pub farthest: usize,
    /// Bytes up to the end of the last block.
    pub used: usize,
}

/// How far back a device's match may reach.
const WINDOW: usize = 4096;

/// Reads one raw stream of at most `max` decoded bytes, or says what a device would mind.
pub fn inflate(src: &[u8], max: usize) -> Result<Stream, &'static str> {
    let mut bits = Bits { src, at: 0 };
    let mut stream = Stream { bytes: Vec::new(), farthest: 0, used: 0 };
    loop {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(&mut bits, &mut stream, max)?,
            1 => {
                let lengths: Vec<u8> = (0..288)
                    .map(|symbol| match symbol {
                        0..144 => 8,
                        144..256 => 9,
                        256..280 => 7,
                        _ => 8,
                    })
                    .collect();
                symbols(&mut bits, &mut stream, max, &Code::new(&lengths)?, &Code::new(&[5; 30])?)?;
            }
            2 => {
                let (literal, distance) = header(&mut bits)?;
                symbols(&mut bits, &mut stream, max, &literal, &distance)?;
            }
            _ => return Err("block of the reserved type"),
        }
        if last {
            stream.used = bits.at.div_ceil(8);
            return Ok(stream);
        }
    }
}

struct Bits<'a> {
    src: &'a [u8],
    /// In bits.
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, len: usize) -> Result<usize, &'static str> {
        let mut value = 0;
        for place in 0..len {
            let byte = self.src.get(self.at / 8).ok_or("stream ends early")?;
            value |= usize::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Ok(value)
    }
}

fn stored(bits: &mut Bits<'_>, stream: &mut Stream, max: usize) -> Result<(), &'static str> {
    bits.at = bits.at.next_multiple_of(8);
    let len = bits.take(16)?;
    if bits.take(16)? != len ^ 0xffff {
        return Err("stored length and its complement differ");
    }
    if len > max - stream.bytes.len() {
        return Err("more bytes than asked for");
    }
    let data = bits.src.get(bits.at / 8..bits.at / 8 + len).ok_or("stream ends early")?;
    stream.bytes.extend_from_slice(data);
    bits.at += 8 * len;
    Ok(())
}

fn symbols(
    bits: &mut Bits<'_>,
    stream: &mut Stream,
    max: usize,
    literal: &Code,
    distance: &Code,
) -> Result<(), &'static str> {
    loop {
        let symbol = literal.take(bits)?;
        let len = match symbol {
            0..256 => 1,
            256 => return Ok(()),
            257..265 => symbol - 254,
            265..285 => {
                let extra = (symbol - 261) / 4;
                (((symbol - 261) % 4 + 4) << extra) + 3 + bits.take(extra)?
            }
            285 => 258,
            _ => return Err("reserved length symbol"),
        };
        let far = if symbol > 256 {
            match distance.take(bits)? {
                symbol @ 0..4 => symbol + 1,
                symbol @ 4..30 => {
                    let extra = symbol / 2 - 1;
                    ((symbol % 2 + 2) << extra) + 1 + bits.take(extra)?
                }
                _ => return Err("reserved distance symbol"),
            }
        } else {
            0
        };
        if far > stream.bytes.len() {
            return Err("match begins before the output");
        }
        if far > WINDOW {
            return Err("match reaches out of the device's window");
        }
        if len > max - stream.bytes.len() {
            return Err("more bytes than asked for");
        }
        stream.farthest = stream.farthest.max(far);
        for _ in 0..len {
            let byte = if far == 0 { symbol as u8 } else { stream.bytes[stream.bytes.len() - far] };
            stream.bytes.push(byte);
        }
    }
}

/// A canonical Huffman code: symbols in the order of their codes, and how many have each length.
struct Code {
    counts: [usize; 16],
    sorted: Vec<usize>,
}

impl Code {
    fn new(lengths: &[u8]) -> Result<Code, &'static str> {
        let mut counts = [0; 16];
        let mut sorted = Vec::new();
        for len in 1..16 {
            let of_len = (0..lengths.len()).filter(|&symbol| usize::from(lengths[symbol]) == len);
            sorted.extend(of_len);
            counts[len] = sorted.len() - counts[..len].iter().sum::<usize>();
        }
        let mut free = 1_i64;
        for count in &counts[1..] {
            free = 2 * free - *count as i64;
            if free < 0 {
                return Err("more codes than fit");
            }
        }
        Ok(Code { counts, sorted })
    }

    fn take(&self, bits: &mut Bits<'_>) -> Result<usize, &'static str> {
        let (mut code, mut first, mut before) = (0, 0, 0);
        for count in &self.counts[1..] {
            code = 2 * code + bits.take(1)?;
            first *= 2;
            if code < first + count {
                return Ok(self.sorted[before + code - first]);
            }
            first += count;
            before += count;
        }
        Err("bits that are no code")
    }

    /// Whether every sequence of bits is a code. A single code of one bit passes, as everywhere.
    fn complete(&self) -> bool {
        let filled: usize = (1..16).map(|len| self.counts[len] << (15 - len)).sum();
        filled == 1 << 15 || (self.sorted.len() <= 1 && self.counts[1] == self.sorted.len())
    }
}

fn header(bits: &mut Bits<'_>) -> Result<(Code, Code), &'static str> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let literals = 257 + bits.take(5)?;
    let distances = 1 + bits.take(5)?;
    let given = 4 + bits.take(4)?;
    if literals > 286 || distances > 30 {
        return Err("more symbols than there are");
    }
    let mut lengths = [0; 19];
    for place in &ORDER[..given] {
        lengths[*place] = bits.take(3)? as u8;
    }
    let code = Code::new(&lengths)?;
    if !code.complete() || code.sorted.len() < 2 {
        return Err("incomplete code of code lengths");
    }
    let mut lengths: Vec<u8> = Vec::new();
    while lengths.len() < literals + distances {
        let (value, times) = match code.take(bits)? {
            16 if lengths.len() == literals => return Err("first distance length is a repeat"),
            16 => {
                let previous = *lengths.last().ok_or("first code length is a repeat")?;
                (previous, 3 + bits.take(2)?)
            }
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            len => (len as u8, 1),
        };
        if lengths.len() < literals && lengths.len() + times > literals {
            return Err("repeat runs from the literal lengths into the distance lengths");
        }
        lengths.resize(lengths.len() + times, value);
    }
    if lengths.len() > literals + distances {
        return Err("more code lengths than announced");
    }
    if lengths[256] == 0 {
        return Err("no code for the end of the block");
    }
    let (literal, distance) = (Code::new(&lengths[..literals])?, Code::new(&lengths[literals..])?);
    if !literal.complete() || !distance.complete() {
        return Err("incomplete code");
    }
    Ok((literal, distance))
}
