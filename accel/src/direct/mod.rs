//! Intel IAA, driven directly: own descriptors, own completion records, no library in between.
//!
//! [`Portal`] is how descriptors reach a queue; the queue table knows all queues, the engine of a channel keeps
//! a window of ops in flight on those of its package. Nothing runs but the calling thread: it submits, polls,
//! copies and returns.
//!
//! # Why this is sound
//!
//! A device writes to addresses that it is given, whenever it likes. So:
//!
//! - The only addresses that a descriptor has it write are a completion record and an output page of an op, both
//!   in memory that this module maps, that no reference reaches while the op is in flight, and that is not unmapped
//!   before the op has completed. The rules are those of `op`. The caller's pages and compressed bytes are read, never
//!   written; what was decompressed is copied to the caller's page by the CPU.
//! - The caller's memory that is read is borrowed until the op has completed, been given up, or the call ends. A
//!   call ends, also by a panic of the caller's iterator or sink, only when no op is in flight: `Flight` waits for
//!   each until its deadline, and retires what is late.
//! - A late op still reads: the caller's page, by then perhaps changed or unmapped, and a constant. That is the device's
//!   business: it reads with this process's rights, stops at what is not mapped, and writes to retired memory, which
//!   nobody reads.
//! - A child of fork touches neither op memory nor portals, in Drop neither: the kernel has not given it either of
//!   them.
//! - What the device says is not believed. A record that cannot be true, as one whose status comes before the rest,
//!   retires its op, too. Lengths are checked before they are used, and a page that faulted is
//!   touched only if it is one that the op was given.
//!
//! # What fails, and what becomes of it
//!
//! | failure | answer | counted as |
//! |---|---|---|
//! | queue full until the deadline | that page in software | `busy` (each refusal as `queue_full`) |
//! | page fault | touched, submitted again, three times; then software | `page_faults_touched`, `page_faults` |
//! | completion too late | memory retired; that page in software | `timed_out`, `retired_ops` |
//! | many too late in a row | queue in quarantine, probed | `quarantines`, `probes`, `probes_failed` |
//! | bad status, error code | that page in software | `bad_status`, `analytics_errors` |
//! | record that cannot be true | memory retired; that page in software | `bad_records`, `retired_ops` |
//! | CRC-32 not as it should be | that page in software | `crc_mismatches` |
//! | does not shrink below a page | incompressible | `incompressible` |
//! | queue disabled, device gone | other queues; looked for again | `refused`, `rescans` |
//! | no queue works | software | `no_queue` |
//! | too many retired | this channel in software | `channels_exhausted`, `no_queue` |
//! | device halts (its driver notes the software error and disables the queues) | what is in flight is late, what follows refused: as above | `timed_out`, `refused`, `rescans` |
//! | child of fork | software | `forked` |

#![allow(unsafe_code)]

mod aecs;
mod attached;
mod copy;
mod counts;
mod engine;
mod examine;
mod file;
#[cfg(any(test, feature = "model"))]
mod model;
#[cfg(test)]
mod model_tests;
mod op;
mod portal;
mod probe;
mod queue;
mod queue_table;
mod shape;
mod source;
mod status;
#[cfg(test)]
mod test_device;
#[cfg(test)]
mod tests;
mod under_way;
mod window;

use std::time::Duration;

pub use counts::DeviceCounts;
pub use engine::Verify;
pub use examine::{Examination, PageTrip, examine};
pub use portal::{Portal, Refusal, Submitted};
pub use queue::{Attachment, QueueInfo, QueueState};
pub use queue_table::QueueReport;
pub use under_way::UnderWay;

pub(crate) use counts::Counters;
pub(crate) use engine::Direct;
pub(crate) use queue_table::QueueTable;
pub(crate) use source::Source;
pub(crate) use under_way::Column;

/// The Huffman codes that devices compress pages with. Dynamic ones are denser, and take longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Huffman {
    /// The fixed codes of RFC 1951.
    Fixed,
    /// Dynamic where the device makes them by itself, which the second generation does, else fixed. (QPL makes them for any device.)
    #[default]
    ByDevice,
    /// Dynamic. A device of the first generation is given each page twice: it counts symbols, the CPU makes codes of the
    /// counts, and it compresses with them. That takes more than twice as long.
    Dynamic,
}

/// How devices are driven. All times are the portal's: on a stepped model they are the model's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectConfig {
    /// How results are checked.
    pub verify: Verify,
    /// The Huffman codes that pages are compressed with.
    pub huffman: Huffman,
    /// How long an op may take before it is given up. A page takes some microseconds; behind other processes' work, more.
    pub timeout: Duration,
    /// How long a full queue is offered a page before it is compressed in software. Software takes some
    /// microseconds, so waiting much longer does not pay.
    pub busy_timeout: Duration,
    /// How long a no-op may take that shows whether a queue works.
    pub probe_timeout: Duration,
    /// Time-outs in a row after which a queue is given nothing more.
    pub quarantine_after: u32,
    /// For how long, at first; twice as long each time that it does not help.
    pub quarantine: Duration,
    /// The least time between two searches for queues that came or went.
    pub rescan_interval: Duration,
}

impl Default for DirectConfig {
    fn default() -> DirectConfig {
        DirectConfig {
            verify: Verify::Off,
            huffman: Huffman::ByDevice,
            timeout: Duration::from_millis(10),
            busy_timeout: Duration::from_micros(20),
            probe_timeout: Duration::from_millis(50),
            quarantine_after: 16,
            quarantine: Duration::from_millis(100),
            rescan_interval: Duration::from_secs(1),
        }
    }
}
