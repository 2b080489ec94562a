//! A descriptor and memory in, a completion record out.

mod access;
mod bits;
mod checksum;
mod codes;
mod compress;
mod decompress;
mod decompress_state;
mod header;
mod index;
mod inflate;
mod matcher;
mod sink;
mod stop;
mod validate;
mod window;
mod workspace;

use idxd_sys::flags::{crc64, op};
use idxd_sys::{CompletionRecord, Descriptor, opcode, status};

use self::access::{Access, CHUNK};
use self::checksum::Crc64;
use self::compress::compress;
use self::decompress::decompress;
use self::stop::Stop;
use self::validate::validate;
use self::workspace::Workspace;
use crate::{Capabilities, Memory};

/// Executes `descriptor` as a device of these capabilities does, and gives the record that it would write. The
/// record is not written here: when it becomes visible is the business of who keeps the time.
///
/// Nothing a descriptor, its AECS or its data can say makes this panic, and work is bounded by the sizes in the
/// descriptor. A descriptor that blocks on faults asks for pages with [`Memory::request_page`].
pub fn execute(
    capabilities: &Capabilities,
    descriptor: &Descriptor,
    memory: &dyn Memory,
) -> CompletionRecord {
    if let Err(stop) = validate(capabilities, descriptor) {
        return stop.record();
    }
    let access = Access::new(memory, descriptor.flags() & op::BLOCK_ON_FAULT != 0);
    let done = match descriptor.opcode() {
        opcode::DECOMPRESS => {
            Workspace::with(|workspace| decompress(capabilities, descriptor, &access, workspace))
        }
        opcode::COMPRESS => Workspace::with(|workspace| compress(descriptor, &access, workspace)),
        opcode::CRC64 => crc64(descriptor, &access),
        _ => Ok(CompletionRecord { status: status::SUCCESS, ..CompletionRecord::default() }),
    };
    done.unwrap_or_else(Stop::record)
}

fn crc64(descriptor: &Descriptor, access: &Access<'_>) -> Result<CompletionRecord, Stop> {
    let polynomial = u64::from(descriptor.elements) << 32 | u64::from(descriptor.filter_flags);
    let flag = |bit| descriptor.op_flags & bit != 0;
    let mut crc = Crc64::new(polynomial, flag(crc64::BIT_REVERSED), flag(crc64::INVERT));
    let mut chunk = [0; CHUNK];
    let (mut addr, mut left) = (descriptor.src1_addr, descriptor.src1_size as usize);
    while left > 0 {
        let chunk = &mut chunk[..left.min(CHUNK)];
        access.read(addr, chunk)?;
        crc.update(chunk);
        addr = addr.wrapping_add(chunk.len() as u64);
        left -= chunk.len();
    }
    let crc = crc.finish();
    Ok(CompletionRecord {
        status: status::SUCCESS,
        bytes_completed: descriptor.src1_size,
        max_or_last: crc as u32,
        sum: (crc >> 32) as u32,
        ..CompletionRecord::default()
    })
}
