//! Memory of a made-up process, with areas at addresses of its own and nothing between them; and descriptors for it.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::cell::{Cell, RefCell};

use iaa_model::{Capabilities, Fault, Memory, execute};
use idxd_sys::aecs::{COMPRESS_SIZE, CompressAecs, DECOMPRESS_SIZE};
use idxd_sys::flags::{compress, decompress, op};
use idxd_sys::{CompletionRecord, Descriptor, opcode};

/// Where the areas of [`Space`] begin.
pub(crate) const SRC: u64 = 0x1_0000_0000;
pub(crate) const DST: u64 = 0x2_0000_0000;
pub(crate) const AECS: u64 = 0x3_0000_0000;
pub(crate) const RECORD: u64 = 0x4_0000_0000;

/// Completion record wanted.
pub(crate) const RECORDED: u32 = op::COMPLETION_ADDR_VALID | op::REQUEST_COMPLETION;
/// What the direct engine sets to decompress a page.
pub(crate) const TO_LAST_END: u16 = decompress::ENABLE
    | decompress::FLUSH_OUTPUT
    | decompress::STOP_ON_EOB
    | decompress::CHECK_EOB
    | decompress::SELECT_FINAL_EOB;

/// A process with a source, a destination and two AECS halves.
pub(crate) struct Space {
    pub(crate) src: RefCell<Vec<u8>>,
    pub(crate) dst: RefCell<Vec<u8>>,
    pub(crate) aecs: RefCell<Vec<u8>>,
    /// Pages that are not there, by address, each with how many more accesses find it missing.
    pub(crate) missing: RefCell<Vec<(u64, u32)>>,
    /// Page requests made so far.
    pub(crate) requests: Cell<u32>,
}

impl Space {
    pub(crate) fn new(src: &[u8], dst: usize) -> Space {
        Space {
            src: RefCell::new(src.to_vec()),
            dst: RefCell::new(vec![0xa5; dst]),
            aecs: RefCell::new(vec![0; 2 * DECOMPRESS_SIZE as usize]),
            missing: RefCell::new(Vec::new()),
            requests: Cell::new(0),
        }
    }

    fn area(&self, addr: u64, len: usize) -> Option<(&RefCell<Vec<u8>>, usize)> {
        let (area, base) = match addr {
            AECS.. => (&self.aecs, AECS),
            DST.. => (&self.dst, DST),
            SRC.. => (&self.src, SRC),
            _ => return None,
        };
        let at = (addr - base) as usize;
        (at.saturating_add(len) <= area.borrow().len()).then_some((area, at))
    }

    fn check(&self, addr: u64, len: usize, write: bool) -> Result<(), Fault> {
        let end = addr.saturating_add(len as u64);
        for (page, left) in self.missing.borrow_mut().iter_mut() {
            if *left > 0 && *page < end && addr < *page + 4096 {
                *left -= 1;
                return Err(Fault { addr: addr.max(*page), write });
            }
        }
        Ok(())
    }

    /// The fixed code and a final header: what makes fixed blocks.
    pub(crate) fn set_fixed_aecs(&self) {
        let mut aecs = self.aecs.borrow_mut();
        let mut put = |at: usize, word: u32| aecs[at..at + 4].copy_from_slice(&word.to_le_bytes());
        put(0x1c, 3);
        put(0x20, 3);
        for symbol in 0..286_u32 {
            let (code, len) = match symbol {
                0..144 => (0x30 + symbol, 8),
                144..256 => (0x190 + symbol - 144, 9),
                256..280 => (symbol - 256, 7),
                _ => (0xc0 + symbol - 280, 8),
            };
            put(0x120 + 4 * symbol as usize, len << 15 | code);
        }
        for symbol in 0..30 {
            put(0x5a0 + 4 * symbol as usize, 5 << 15 | symbol);
        }
        assert_eq!(size_of::<CompressAecs>(), 0x620);
    }

    pub(crate) fn descriptor(&self, opcode: u8, flags: u32, op_flags: u16) -> Descriptor {
        Descriptor {
            completion_addr: RECORD,
            src1_addr: SRC,
            src1_size: self.src.borrow().len() as u32,
            dst_addr: DST,
            max_dst_size: self.dst.borrow().len() as u32,
            op_flags,
            ..Descriptor::new(opcode, RECORDED | flags)
        }
    }

    /// Compress as the direct engine does in generation 1: one fixed block.
    pub(crate) fn compress_fixed(&self) -> Descriptor {
        self.set_fixed_aecs();
        Descriptor {
            src2_addr: AECS,
            src2_size: COMPRESS_SIZE,
            ..self.descriptor(
                opcode::COMPRESS,
                op::READ_SRC2_AECS,
                compress::FLUSH_OUTPUT | compress::END_EOB,
            )
        }
    }

    /// Decompress as the direct engine does.
    pub(crate) fn decompress(&self) -> Descriptor {
        self.descriptor(opcode::DECOMPRESS, 0, TO_LAST_END)
    }

    /// Executes `descriptor`; record, and the output that it announces.
    pub(crate) fn run(
        &self,
        capabilities: &Capabilities,
        descriptor: &Descriptor,
    ) -> (CompletionRecord, Vec<u8>) {
        let record = execute(capabilities, descriptor, self);
        let len = record.output_size as usize;
        (record, self.dst.borrow().get(..len).map(<[u8]>::to_vec).unwrap_or_default())
    }
}

impl Memory for Space {
    fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), Fault> {
        self.check(addr, into.len(), false)?;
        let (area, at) = self.area(addr, into.len()).ok_or(Fault { addr, write: false })?;
        into.copy_from_slice(&area.borrow()[at..at + into.len()]);
        Ok(())
    }

    fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.check(addr, bytes.len(), true)?;
        let (area, at) = self.area(addr, bytes.len()).ok_or(Fault { addr, write: true })?;
        area.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn write_record(&self, addr: u64, _: &[u8; 64]) -> Result<(), Fault> {
        Err(Fault { addr, write: true })
    }

    fn request_page(&self, _: Fault) -> bool {
        self.requests.set(self.requests.get() + 1);
        true
    }
}

/// What miniz_oxide, which shares nothing with the model, makes of a raw stream.
pub(crate) fn inflate(stream: &[u8]) -> Vec<u8> {
    miniz_oxide::inflate::decompress_to_vec(stream).expect("any inflater reads the stream")
}

/// CRC-32, bit by bit.
pub(crate) fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

/// Pages of several kinds: zero, text, counters, a cycle, and noise.
pub(crate) fn pages() -> Vec<Vec<u8>> {
    let text = include_str!("../../src/lib.rs").as_bytes();
    let mut seed = 1_u64;
    let mut noise = || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (seed >> 33) as u8
    };
    vec![
        vec![0; 4096],
        text.iter().copied().cycle().take(4096).collect(),
        (0..1024_u32).flat_map(|word| (word * 77).to_le_bytes()).collect(),
        (0..4096).map(|at| (at % 251) as u8).collect(),
        (0..4096).map(|_| noise()).collect(),
        (0..70_000).map(|at| if at % 3 == 0 { noise() } else { (at / 1000) as u8 }).collect(),
        vec![7],
    ]
}
