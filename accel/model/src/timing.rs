//! What the device takes its time for: the parameters of the clocks.
//!
//! Fitted to what has been published and measured of Sapphire Rapids (see each field); Granite Rapids scales the
//! base. An engine and the device each have a ceiling: two engines saturate the device.

use idxd_sys::{Descriptor, flags, opcode};

use crate::device::Demand;
use crate::random::mix;

/// Nanoseconds; all arithmetic of the model's time is in them.
pub(crate) type Nanos = u64;

/// How a descriptor reaches the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// ENQCMD to a mapped portal of a shared queue: the submitter learns whether it was taken.
    Enqcmd,
    /// MOVDIR64B to a mapped portal of a dedicated queue: posted, no answer.
    Movdir64b,
    /// write(2) on the queue's file, any number of descriptors a call.
    Write,
}

/// Bytes in a microsecond: of one engine, and of a device's engines together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// One engine.
    pub engine: u64,
    /// All of a device.
    pub device: u64,
}

/// The parameters; times in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// An ENQCMD, taken or refused (estimate).
    pub enqcmd: u64,
    /// A MOVDIR64B (estimate).
    pub movdir64b: u64,
    /// The first descriptor of a write(2) (estimate).
    pub write_first: u64,
    /// Each further one.
    pub write_next: u64,
    /// From submission to the first byte, and the record's way back: 3,177 ns for a page, less its transfer.
    pub base: u64,
    /// Up to this much more, by chance: what lets descriptors overtake each other on different engines.
    pub jitter: u64,
    /// Compressing, input bytes: 1.9 GB/s by one engine, 3.8 by two or more.
    pub compress: Rate,
    /// Decompressing, output bytes: from 2,235 ns a page; the device's ceiling by the same rule of two.
    pub decompress: Rate,
    /// Generating a dynamic header makes compressing take this many per cent...
    pub dynamic_percent: u64,
    /// ...and this much longer.
    pub dynamic_extra: u64,
    /// A page request, when the descriptor blocks on faults.
    pub page_request: u64,
    /// The slowest page request, one in [`PAGE_REQUEST_TAIL_ONE_IN`].
    pub page_request_tail: u64,
    /// Added to the base when the submitter's package is not the device's...
    pub remote_base: u64,
    /// ...and to all, in per cent.
    pub remote_percent: u64,
    /// A page that is not among the last ones the device has seen.
    pub iotlb_miss: u64,
    /// How many pages it remembers; 0: the term is off.
    pub iotlb_pages: usize,
}

/// How rare a page request of the slowest kind is: the published mean of 9 us leaves room for one in a thousand.
pub const PAGE_REQUEST_TAIL_ONE_IN: u64 = 1000;

impl Timing {
    /// Sapphire and Emerald Rapids.
    pub const SPR: Timing = Timing {
        enqcmd: 250,
        movdir64b: 60,
        write_first: 500,
        write_next: 250,
        base: 1000,
        jitter: 0,
        compress: Rate { engine: 1900, device: 3800 },
        decompress: Rate { engine: 3400, device: 6800 },
        dynamic_percent: 200,
        dynamic_extra: 300,
        page_request: 9_000,
        page_request_tail: 556_000,
        remote_base: 300,
        remote_percent: 15,
        iotlb_miss: 0,
        iotlb_pages: 0,
    };

    /// Granite Rapids: as [`Timing::SPR`], with a base of four fifths.
    pub const GNR: Timing = Timing { base: 800, ..Timing::SPR };

    /// The same with the IOTLB's term: `miss` nanoseconds for a page not among the last `pages`.
    #[must_use]
    pub fn with_iotlb(self, miss: u64, pages: usize) -> Timing {
        Timing { iotlb_miss: miss, iotlb_pages: pages, ..self }
    }

    /// What the `k`-th descriptor of one submission costs the submitter.
    pub fn submission(&self, method: Method, k: usize) -> u64 {
        match method {
            Method::Enqcmd => self.enqcmd,
            Method::Movdir64b => self.movdir64b,
            Method::Write if k == 0 => self.write_first,
            Method::Write => self.write_next,
        }
    }

    /// When an engine that takes an op at `now` is idle again, and when the op's record is there. `path_free` is when
    /// the data path is free.
    pub(crate) fn serve(&self, now: Nanos, path_free: &mut Nanos, demand: &Demand<'_>) -> (Nanos, Nanos) {
        let Demand { descriptor, output, slow, stall, remote, chance } = *demand;
        let (engine, path) = self.service(descriptor, output);
        *path_free = (*path_free).max(now) + path * slow;
        let done = (now + engine * slow).max(*path_free) + stall;
        let mut latency = self.base * slow + mix(chance ^ 0x6a69_7474) % (self.jitter + 1);
        if remote {
            let transfer = (done - now) * self.remote_percent / 100;
            latency += latency * self.remote_percent / 100 + self.remote_base + transfer;
        }
        (done, done + latency)
    }

    /// What a page request takes; `chance` makes some of them slow.
    pub fn page_request(&self, chance: u64) -> u64 {
        let slowest = mix(chance).is_multiple_of(PAGE_REQUEST_TAIL_ONE_IN);
        if slowest { self.page_request_tail } else { self.page_request }
    }

    /// How long `descriptor` keeps an engine busy, and how long the device's data path.
    /// `output` is the size of its output, if known.
    pub fn service(&self, descriptor: &Descriptor, output: Option<u32>) -> (u64, u64) {
        let (bytes, rate) = match descriptor.opcode() {
            opcode::COMPRESS => (descriptor.src1_size, self.compress),
            // Output bytes count; a stream of unknown expansion is taken to fill its destination, and with the
            // output suppressed, or a filter's, its input stands for it.
            opcode::DECOMPRESS => {
                let output = output.unwrap_or(descriptor.max_dst_size);
                (output.max(descriptor.src1_size), self.decompress)
            }
            opcode::NOOP | opcode::DRAIN => (0, self.decompress),
            _ => (descriptor.src1_size, self.decompress),
        };
        let at = |rate: u64| u64::from(bytes) * 1000 / rate.max(1);
        let (mut engine, mut device) = (at(rate.engine), at(rate.device));
        if descriptor.opcode() == opcode::COMPRESS && descriptor.op_flags & flags::compress::HEADER_MASK != 0
        {
            engine = engine * self.dynamic_percent / 100 + self.dynamic_extra;
            device = device * self.dynamic_percent / 100;
        }
        (engine, device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(opcode: u8) -> Descriptor {
        Descriptor { src1_size: 4096, max_dst_size: 4096, ..Descriptor::new(opcode, 0) }
    }

    #[test]
    fn one_page_takes_what_the_kernel_driver_published() {
        let timing = Timing::SPR;
        let alone = |opcode| timing.base + timing.service(&page(opcode), None).0;
        // 3,177 and 2,235 ns.
        assert!((3_100..3_200).contains(&alone(opcode::COMPRESS)), "{}", alone(opcode::COMPRESS));
        assert!((2_150..2_250).contains(&alone(opcode::DECOMPRESS)), "{}", alone(opcode::DECOMPRESS));
    }
}
