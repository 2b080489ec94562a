//! Decompress descriptors.

use idxd_sys::aecs::DECOMPRESS_SIZE;
use idxd_sys::flags::{decompress as flag, iaa_cap, op};
use idxd_sys::{CompletionRecord, Descriptor, status};

use super::access::Access;
use super::bits::Bits;
use super::checksum::Checksums;
use super::decompress_state::Saved;
use super::index::{Index, mini_block_size};
use super::inflate::{Ends, Rest, inflate};
use super::stop::Stop;
use super::window::Window;
use super::workspace::Workspace;
use crate::Capabilities;

/// Executes a valid decompress descriptor.
pub(crate) fn decompress(
    capabilities: &Capabilities,
    descriptor: &Descriptor,
    access: &Access<'_>,
    workspace: &mut Workspace,
) -> Result<CompletionRecord, Stop> {
    let flags = descriptor.flags();
    let toggled = flags & op::AECS_TOGGLE != 0;
    let area =
        |second| descriptor.src2_addr.wrapping_add(if second { u64::from(descriptor.src2_size) } else { 0 });
    let mut aecs = vec![0; descriptor.src2_size.min(DECOMPRESS_SIZE) as usize];
    let mut saved = Saved::none();
    if flags & op::READ_SRC2_MASK == op::READ_SRC2_AECS {
        access.read(area(toggled), &mut aecs)?;
        saved = Saved::parse(&aecs)?;
    }

    let suppressed = descriptor.op_flags & flag::SUPPRESS_OUTPUT != 0;
    let checksums = Checksums::resume(flags & op::CRC32C != 0, saved.crc, saved.xor);
    let dst = (descriptor.dst_addr, descriptor.max_dst_size);
    let mut window = Window::new(access, &mut workspace.window, dst, suppressed, checksums);
    window.set_history(&saved.history);
    let ignored =
        u32::from((descriptor.op_flags & flag::IGNORE_END_BITS_MASK) >> flag::IGNORE_END_BITS_SHIFT)
            + if descriptor.op_flags & flag::IGNORE_END_BITS_3 != 0 { 8 } else { 0 };
    let src = (descriptor.src1_addr, descriptor.src1_size);
    let input = saved.input.drain(..).rev().collect();
    let mut bits = Bits::new(access, input, src, ignored, saved.index_offset, &mut workspace.chunk);
    let mini_block = mini_block_size((descriptor.op_flags & flag::MINI_BLOCK_MASK) >> flag::MINI_BLOCK_SHIFT);
    let mut index = (mini_block != 0).then(|| Index::new(access, dst, mini_block, saved.filled));

    let ends = Ends {
        stop: descriptor.op_flags & flag::STOP_ON_EOB != 0,
        check: descriptor.op_flags & flag::CHECK_EOB != 0,
        only_last: descriptor.op_flags & flag::SELECT_FINAL_EOB != 0,
    };
    let mut taken = Vec::new();
    let how = (ends, capabilities.strict_headers);
    let rest =
        inflate(&mut saved.state, &mut bits, &mut window, &mut index, &mut workspace.codes, how, &mut taken)?;
    window.flush()?;

    let (written, checksums) = window.written();
    let full = rest == Rest::Full;
    if full && suppressed {
        // Four billion bytes to nowhere.
        return Err(Stop::Invalid(status::WATCHDOG, 0));
    }
    let (index_size, filled) = index.map_or((0, 0), |index| index.finish());
    let not_taken: u64 = taken.iter().map(|&(_, len)| u64::from(len)).sum();
    let offset = bits.offset() - not_taken;
    let (left, unread) = bits.finish(full);
    let write = flags & op::WRITE_SRC2_MASK;
    if write == op::WRITE_SRC2_ALWAYS || (full && write == op::WRITE_SRC2_ON_OVERFLOW) {
        saved.crc = checksums.crc();
        saved.xor = checksums.xor();
        saved.index_offset = offset as u32;
        saved.filled = filled;
        saved.input = taken;
        saved.input.extend(left);
        saved.history.clear();
        saved.history.extend(window.history());
        saved.store(&mut aecs, capabilities.iaa_cap & iaa_cap::AECS_FORMAT_2 != 0)?;
        access.write(area(!toggled), &aecs)?;
    }
    Ok(CompletionRecord {
        status: if full { status::OUTPUT_OVERFLOW } else { status::SUCCESS },
        // Short of an overflow all input counts as consumed: what is behind the end is not told.
        bytes_completed: descriptor.src1_size - if full { unread as u32 } else { 0 },
        output_size: if suppressed { index_size } else { written as u32 },
        xor_checksum: checksums.xor(),
        crc: checksums.crc(),
        ..CompletionRecord::default()
    })
}
