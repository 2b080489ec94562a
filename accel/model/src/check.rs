//! What must hold for any descriptor, AECS and data at all: one function, for property tests and the fuzzer alike.
//!
//! Not part of the interface. It panics where a property is broken.

use std::cell::RefCell;

use idxd_sys::flags::op;
use idxd_sys::{CompletionRecord, Descriptor, opcode, status};

use crate::{Capabilities, Fault, Memory, execute};

/// An area at each multiple of this, as far as there are areas.
const APART: u64 = 1 << 32;
/// Space for one descriptor's output.
const OUTPUT: usize = 64 * 1024;
const AECS: usize = 2 * idxd_sys::aecs::DECOMPRESS_SIZE as usize;

/// Source, destination and two AECS halves.
#[derive(Clone)]
struct Areas {
    areas: [Vec<u8>; 3],
}

struct Checked(RefCell<Areas>);

impl Checked {
    fn reach<T>(
        &self,
        (addr, len, write): (u64, usize, bool),
        f: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, Fault> {
        let fault = Fault { addr, write };
        let mut areas = self.0.borrow_mut();
        let number = (addr / APART).checked_sub(1).ok_or(fault)? as usize;
        let area = areas.areas.get_mut(number).ok_or(fault)?;
        let at = (addr % APART) as usize;
        let place = area.get_mut(at..).and_then(|rest| rest.get_mut(..len)).ok_or(fault)?;
        assert!(!write || number > 0, "the source was written");
        Ok(f(place))
    }
}

impl Memory for Checked {
    fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), Fault> {
        let place = (addr, into.len(), false);
        self.reach(place, |bytes| into.copy_from_slice(bytes))
    }

    fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.reach((addr, bytes.len(), true), |place| place.copy_from_slice(bytes))
    }

    fn write_record(&self, addr: u64, _: &[u8; 64]) -> Result<(), Fault> {
        panic!("execute wrote a record at {addr:#x}");
    }
}

/// Makes a descriptor of some of `data` and an AECS of some more, and executes it on the rest, on devices of both
/// generations. A few bytes of the descriptor are taken as they are, so that it is often a good one and sometimes none.
pub fn hostile(data: &[u8]) {
    let Some((head, data)) = data.split_first_chunk::<16>() else { return };
    let &[kind, wild, f0, f1, f2, o0, o1, aecs_kind, d0, d1, s0, g0, skip, e0, e1, patches] = head;
    let code = [opcode::DECOMPRESS, opcode::COMPRESS, opcode::CRC64, kind][usize::from(kind % 4)];
    let mut flags = u32::from_le_bytes([f0, f1, f2, 0]);
    if wild % 8 != 0 {
        flags = flags & (op::READ_SRC2_AECS | op::WRITE_SRC2_MASK | op::AECS_TOGGLE | op::CRC32C) | 0xc;
    }
    let mut op_flags = u16::from_le_bytes([o0, o1]);
    if wild % 4 != 0 && code == opcode::DECOMPRESS {
        op_flags |= 1;
    }
    let mut areas = Areas { areas: [Vec::new(), vec![0x5a; OUTPUT], vec![0; AECS]] };
    // The fixed code, in both halves; then what the input says.
    let codes = zfolio_fallback::tree::Codes::fixed();
    let words = codes.literals.iter().map(|code| u32::from(code.len) << 15 | u32::from(code.bits));
    if aecs_kind & 1 == 1 {
        for (symbol, word) in words.enumerate() {
            for half in [0, 0x620] {
                areas.areas[2][half + 0x120 + 4 * symbol..][..4].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    let (patched, data) = data.split_at(data.len().min(4 * usize::from(patches)));
    for &[at0, at1, value, len] in patched.as_chunks::<4>().0 {
        let at = usize::from(u16::from_le_bytes([at0, at1])) % AECS;
        let end = (at + usize::from(len % 16) + 1).min(AECS);
        areas.areas[2][at..end].fill(value);
    }
    areas.areas[0].extend_from_slice(data);

    let aecs_size = [0x620, 0x1500, 0x4e0, 0x20, 32 * u32::from(s0)][usize::from(aecs_kind >> 1) % 5];
    let uses_aecs = flags & (op::READ_SRC2_MASK | op::WRITE_SRC2_MASK) != 0 || wild % 16 == 1;
    let mut descriptor = Descriptor {
        completion_addr: 8 * APART,
        src1_addr: APART,
        src1_size: data.len() as u32,
        dst_addr: 2 * APART,
        max_dst_size: u32::from(u16::from_le_bytes([d0, d1])),
        op_flags,
        src2_addr: if uses_aecs { 3 * APART } else { 0 },
        src2_size: if uses_aecs { aecs_size } else { 0 },
        ..Descriptor::new(code, flags)
    };
    if code == opcode::CRC64 || wild % 16 == 2 {
        (descriptor.filter_flags, descriptor.elements) = (u32::from(e0) << 24, u32::from(e1) << 24);
    }
    if code == opcode::CRC64 && wild % 16 != 3 {
        (descriptor.dst_addr, descriptor.max_dst_size) = (0, 0);
        (descriptor.src2_addr, descriptor.src2_size) = (0, 0);
    }
    if wild % 32 == 4 {
        descriptor.src1_addr = descriptor.src1_addr.wrapping_add(u64::from(skip) << (g0 % 64));
    }
    let strict_headers = g0 % 4 != 0;
    for capabilities in [Capabilities::SPR, Capabilities::GNR] {
        check(&Capabilities { strict_headers, ..capabilities }, &descriptor, &areas);
    }
}

fn check(capabilities: &Capabilities, descriptor: &Descriptor, areas: &Areas) {
    let run = |areas: &Areas| {
        let memory = Checked(RefCell::new(areas.clone()));
        let record = execute(capabilities, descriptor, &memory);
        (record, memory.0.into_inner())
    };
    let (record, after) = run(areas);
    assert_ne!(record.status, status::RUNNING, "a record says nothing");
    assert!(record.output_size <= descriptor.max_dst_size, "{} bytes were written", record.output_size);
    assert!(record.bytes_completed <= descriptor.src1_size);
    let beyond = descriptor.max_dst_size as usize;
    assert!(after.areas[1][beyond..].iter().all(|&byte| byte == 0x5a), "output beyond its limit");
    let written = descriptor.flags() & op::WRITE_SRC2_MASK != 0;
    assert!(written || after.areas[2] == areas.areas[2], "an AECS was written that was only to be read");

    // What was there before, and what the thread did before, must not show.
    let mut other = areas.clone();
    other.areas[1][..beyond].fill(0xa5);
    let (again, after_again) = run(&other);
    assert_eq!(record, again, "not repeatable");
    let len = record.output_size as usize;
    assert!(after.areas[1][..len] == after_again.areas[1][..len], "old bytes came through");
    if record.status == status::SUCCESS {
        success_is_what_it_says(capabilities, descriptor, areas, &record);
    }
}

/// A stream that was made from no AECS and ended is one that decompresses to the data.
fn success_is_what_it_says(
    capabilities: &Capabilities,
    descriptor: &Descriptor,
    areas: &Areas,
    record: &CompletionRecord,
) {
    use idxd_sys::flags::{compress, decompress};
    let whole = compress::HEADER_ONE_PASS_FINAL | compress::FLUSH_OUTPUT | compress::END_EOB;
    let asked = compress::HEADER_MASK | compress::FLUSH_OUTPUT | compress::END_MASK;
    let made_whole = descriptor.opcode() == opcode::COMPRESS
        && descriptor.op_flags & asked == whole
        && descriptor.flags() & op::READ_SRC2_MASK == 0;
    if !made_whole || descriptor.src1_addr != APART {
        return;
    }
    let memory = Checked(RefCell::new(areas.clone()));
    execute(capabilities, descriptor, &memory);
    let after = memory.0.into_inner();
    let stream = after.areas[1][..record.output_size as usize].to_vec();
    let back = Descriptor {
        completion_addr: 8 * APART,
        src1_addr: APART,
        src1_size: stream.len() as u32,
        dst_addr: 2 * APART,
        max_dst_size: descriptor.src1_size,
        op_flags: decompress::ENABLE
            | decompress::FLUSH_OUTPUT
            | decompress::STOP_ON_EOB
            | decompress::CHECK_EOB
            | decompress::SELECT_FINAL_EOB,
        ..Descriptor::new(opcode::DECOMPRESS, 0xc | descriptor.flags() & op::CRC32C)
    };
    let areas_back = Areas { areas: [stream, vec![0; OUTPUT], Vec::new()] };
    let memory = Checked(RefCell::new(areas_back));
    let read = execute(capabilities, &back, &memory);
    assert_eq!((read.status, read.crc), (status::SUCCESS, record.crc), "the device reads what it wrote");
    let data = &areas.areas[0][..descriptor.src1_size as usize];
    assert!(memory.0.borrow().areas[1].starts_with(data), "other bytes came back");
}
