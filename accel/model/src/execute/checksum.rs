//! CRC-32, CRC-32C and the XOR of 16-bit words, over data that comes in pieces; and the CRC64 of any polynomial.

/// Eight tables of a reflected 32-bit polynomial, for eight bytes at a time.
const fn tables(polynomial: u32) -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (polynomial * (crc & 1));
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc = tables[table - 1][byte];
            tables[table][byte] = crc >> 8 ^ tables[0][(crc & 255) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

static CRC32: [[u32; 256]; 8] = tables(0xedb8_8320);
static CRC32C: [[u32; 256]; 8] = tables(0x82f6_3b78);

/// The checksums of a completion record, of the data seen so far.
#[derive(Clone, Copy)]
pub(crate) struct Checksums {
    tables: &'static [[u32; 256]; 8],
    /// As it is kept while it runs: inverted.
    crc: u32,
    xor: u16,
    /// Whether the next byte is the high one of a word.
    odd: bool,
}

impl Checksums {
    /// Checksums that go on from these, of CRC-32C or else CRC-32.
    pub(crate) fn resume(crc32c: bool, crc: u32, xor: u16) -> Checksums {
        Checksums { tables: if crc32c { &CRC32C } else { &CRC32 }, crc: !crc, xor, odd: false }
    }

    pub(crate) fn crc(&self) -> u32 {
        !self.crc
    }

    pub(crate) fn xor(&self) -> u16 {
        self.xor
    }

    /// Takes more data in.
    pub(crate) fn update(&mut self, data: &[u8]) {
        let (eights, rest) = data.as_chunks::<8>();
        for eight in eights {
            let word = u64::from_le_bytes(*eight) ^ u64::from(self.crc);
            self.crc = word
                .to_le_bytes()
                .iter()
                .zip(self.tables.iter().rev())
                .fold(0, |crc, (&byte, table)| crc ^ table[usize::from(byte)]);
        }
        for &byte in rest {
            self.crc = self.crc >> 8 ^ self.tables[0][usize::from(self.crc as u8 ^ byte)];
        }
        self.update_xor(data);
    }

    fn update_xor(&mut self, mut data: &[u8]) {
        if self.odd
            && let Some((&high, rest)) = data.split_first()
        {
            self.xor ^= u16::from(high) << 8;
            self.odd = false;
            data = rest;
        }
        let (eights, rest) = data.as_chunks::<8>();
        let wide = eights.iter().fold(0, |xor, eight| xor ^ u64::from_le_bytes(*eight));
        self.xor ^= (wide ^ wide >> 16 ^ wide >> 32 ^ wide >> 48) as u16;
        let (words, last) = rest.as_chunks::<2>();
        for word in words {
            self.xor ^= u16::from_le_bytes(*word);
        }
        if let [low] = last {
            self.xor ^= u16::from(*low);
            self.odd = true;
        }
    }
}

/// A CRC64 over data that comes in pieces.
///
/// The polynomial is as the descriptor gives it: without its highest term, the next lower one in the highest bit. So a
/// polynomial of fewer than 64 bits stands in the highest ones, and so does its result. The lowest bit that is set is
/// the polynomial's 1, which tells how many there are.
pub(crate) struct Crc64 {
    table: Box<[u64; 256]>,
    reflected: bool,
    invert: u64,
    crc: u64,
}

impl Crc64 {
    pub(crate) fn new(polynomial: u64, reflected: bool, invert: bool) -> Crc64 {
        let mut table = Box::new([0; 256]);
        for (byte, entry) in table.iter_mut().enumerate() {
            let byte = byte as u64;
            *entry = if reflected {
                let polynomial = polynomial.reverse_bits();
                (0..8).fold(byte, |crc, _| (crc >> 1) ^ (polynomial * (crc & 1)))
            } else {
                (0..8).fold(byte << 56, |crc, _| (crc << 1) ^ (polynomial * (crc >> 63)))
            };
        }
        let ones = u64::MAX.checked_shl(polynomial.trailing_zeros()).unwrap_or(0);
        let invert = match (invert, reflected) {
            (false, _) => 0,
            (true, false) => ones,
            (true, true) => ones.reverse_bits(),
        };
        Crc64 { table, reflected, invert, crc: invert }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        for &byte in data {
            self.crc = if self.reflected {
                self.crc >> 8 ^ self.table[usize::from(self.crc as u8 ^ byte)]
            } else {
                self.crc << 8 ^ self.table[usize::from((self.crc >> 56) as u8 ^ byte)]
            };
        }
    }

    pub(crate) fn finish(&self) -> u64 {
        self.crc ^ self.invert
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NINE: &[u8] = b"123456789";

    #[test]
    fn crcs_are_those_of_the_catalogues() {
        for (crc32c, expected) in [(false, 0xcbf4_3926), (true, 0xe306_9283)] {
            let mut checksums = Checksums::resume(crc32c, 0, 0);
            checksums.update(NINE);
            assert_eq!(checksums.crc(), expected);
        }
    }

    #[test]
    fn checksums_of_pieces_are_those_of_the_whole() {
        let data: Vec<u8> = (0..200_u32).map(|at| (at * 37) as u8).collect();
        let mut whole = Checksums::resume(false, 0, 0);
        whole.update(&data);
        let words = data.as_chunks::<2>().0.iter().fold(0, |xor, word| xor ^ u16::from_le_bytes(*word));
        assert_eq!(whole.xor(), words);
        for piece in 1..50 {
            let mut pieces = Checksums::resume(false, 0, 0);
            data.chunks(piece).for_each(|piece| pieces.update(piece));
            assert_eq!((pieces.crc(), pieces.xor()), (whole.crc(), whole.xor()));
        }
        // A descriptor that goes on from what another left.
        let mut first = Checksums::resume(true, 0, 0);
        first.update(&data[..60]);
        let mut second = Checksums::resume(true, first.crc(), first.xor());
        second.update(&data[60..]);
        let mut whole = Checksums::resume(true, 0, 0);
        whole.update(&data);
        assert_eq!((second.crc(), second.xor()), (whole.crc(), whole.xor()));
    }

    #[test]
    fn crc64_of_any_polynomial_order_and_inversion_is_that_of_the_catalogues() {
        let crc = |polynomial, reflected, invert| {
            let mut crc = Crc64::new(polynomial, reflected, invert);
            NINE.chunks(2).for_each(|piece| crc.update(piece));
            crc.finish()
        };
        let ecma = 0x42f0_e1eb_a9ea_3693;
        assert_eq!(crc(ecma, false, false), 0x6c40_df5f_0b49_7347, "CRC-64/ECMA-182");
        assert_eq!(crc(ecma, false, true), 0x62ec_59e3_f1a4_f00a, "CRC-64/WE");
        assert_eq!(crc(ecma, true, true), 0x995d_c9bb_df19_39fa, "CRC-64/XZ");
        assert_eq!(crc(0x1b, true, true), 0xb909_56c7_75a4_1001, "CRC-64/GO-ISO");
        // Of fewer bits: in the highest, or reflected in the lowest.
        assert_eq!(crc(0x1021 << 48, false, false), 0x31c3 << 48, "CRC-16/XMODEM");
        assert_eq!(crc(0x1021 << 48, false, true), 0xd64e << 48, "CRC-16/GENIBUS");
        assert_eq!(crc(0x1021 << 48, true, true), 0x906e, "CRC-16/IBM-SDLC");
        assert_eq!(crc(0, true, true), 0, "no polynomial, no bits");
    }
}
