//! What descriptors look like: the fields that depend on the operation and on the queue, but not on the page.
//!
//! They are stamped onto a descriptor when its queue has been chosen, because queues differ: in whether a
//! descriptor may block on a fault, in cache control, in the generation of their device.

use idxd_sys::flags::{compress, decompress, op};
use idxd_sys::{Descriptor, opcode};

use super::queue::QueueInfo;
use super::{Huffman, aecs};

/// The fields of a descriptor that the operation and the queue decide.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    flags_and_opcode: u32,
    op_flags: u16,
    src2_size: u32,
    src2_addr: u64,
}

impl Shape {
    /// Writes these fields.
    #[inline]
    pub(crate) fn stamp(&self, descriptor: &mut Descriptor) {
        descriptor.flags_and_opcode = self.flags_and_opcode;
        descriptor.op_flags = self.op_flags;
        descriptor.src2_addr = self.src2_addr;
        descriptor.src2_size = self.src2_size;
    }
}

/// What an op has the device do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A page to a stream.
    Compress,
    /// A page to the counts of the symbols that it is compressed to, in a device that makes no codes by itself.
    Count,
    /// A page to a stream, with the codes that the CPU has made of the counts.
    CompressCoded,
    /// A stream to a page.
    Decompress,
    /// The stream just made, back to nothing but a CRC.
    Verify,
}

/// The shapes of one queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shapes {
    compress: Shape,
    count: Shape,
    compress_coded: Shape,
    decompress: Shape,
    verify: Shape,
}

impl Shapes {
    /// The shapes for a queue; compressing with dynamic codes where `huffman` allows it and the device makes them.
    pub(crate) fn new(queue: &QueueInfo, huffman: Huffman) -> Shapes {
        let mut flags = op::COMPLETION_ADDR_VALID | op::REQUEST_COMPLETION;
        if queue.block_on_fault {
            flags |= op::BLOCK_ON_FAULT;
        }
        if queue.cache_control {
            flags |= op::CACHE_CONTROL;
        }
        let shape = |code: u8, flags: u32, op_flags: u16| Shape {
            flags_and_opcode: Descriptor::new(code, flags).flags_and_opcode,
            op_flags,
            ..Shape::default()
        };
        let end = compress::FLUSH_OUTPUT | compress::END_EOB;
        let whole = decompress::ENABLE
            | decompress::FLUSH_OUTPUT
            | decompress::STOP_ON_EOB
            | decompress::CHECK_EOB
            | decompress::SELECT_FINAL_EOB;
        let (src2_addr, src2_size) = aecs::range();
        let with_codes =
            Shape { src2_addr, src2_size, ..shape(opcode::COMPRESS, flags | op::READ_SRC2_AECS, end) };
        Shapes {
            compress: if huffman != Huffman::Fixed && queue.header_generation {
                shape(opcode::COMPRESS, flags, end | compress::HEADER_ONE_PASS_FINAL)
            } else {
                with_codes
            },
            count: shape(opcode::COMPRESS, flags, compress::STATISTICS),
            // The codes are the op's own.
            compress_coded: Shape { src2_addr: 0, ..with_codes },
            decompress: shape(opcode::DECOMPRESS, flags, whole),
            verify: shape(opcode::DECOMPRESS, flags, whole | decompress::SUPPRESS_OUTPUT),
        }
    }

    /// The shape of a kind of op.
    #[inline]
    pub(crate) fn of(&self, kind: Kind) -> &Shape {
        match kind {
            Kind::Compress => &self.compress,
            Kind::Count => &self.count,
            Kind::CompressCoded => &self.compress_coded,
            Kind::Decompress => &self.decompress,
            Kind::Verify => &self.verify,
        }
    }
}

/// A descriptor that does nothing but complete.
pub(crate) fn noop(record_addr: u64) -> Descriptor {
    let flags = op::COMPLETION_ADDR_VALID | op::REQUEST_COMPLETION;
    Descriptor { completion_addr: record_addr, ..Descriptor::new(opcode::NOOP, flags) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(queue: &QueueInfo, kind: Kind) -> (u32, u8, u16, u32) {
        let mut descriptor = Descriptor::default();
        Shapes::new(queue, Huffman::ByDevice).of(kind).stamp(&mut descriptor);
        (descriptor.flags(), descriptor.opcode(), descriptor.op_flags, descriptor.src2_size)
    }

    #[test]
    fn descriptors_are_those_of_the_other_drivers() {
        let queue = QueueInfo { cache_control: true, ..QueueInfo::default() };
        assert_eq!(stamped(&queue, Kind::Compress), (0x01010c, 0x43, 0x0006, 1568));
        assert_eq!(stamped(&queue, Kind::Count), (0x00010c, 0x43, 0x0001, 0));
        assert_eq!(stamped(&queue, Kind::CompressCoded), (0x01010c, 0x43, 0x0006, 1568));
        assert_eq!(stamped(&queue, Kind::Decompress), (0x00010c, 0x42, 0x001f, 0));
        assert_eq!(stamped(&queue, Kind::Verify), (0x00010c, 0x42, 0x021f, 0));
        let second = QueueInfo { header_generation: true, ..queue };
        assert_eq!(stamped(&second, Kind::Compress), (0x00010c, 0x43, 0x3006, 0));
        assert_eq!((noop(64).flags(), noop(64).opcode()), (0x0c, 0));
    }

    #[test]
    fn flags_that_a_queue_refuses_are_not_set() {
        let plain = QueueInfo::default();
        assert_eq!(stamped(&plain, Kind::Compress).0, 0x01000c);
        let blocking = QueueInfo { block_on_fault: true, ..plain };
        assert_eq!(stamped(&blocking, Kind::Decompress).0, 0x00000e);
    }
}
