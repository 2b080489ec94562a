//! One work queue, step by step: opened, asked for nothing, given a page. For those who want to know why a queue is
//! not used; the engine itself does the same at once.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::{Direct, Verify};
use super::op::ProbeMemory;
use super::probe::{self, Probed};
use super::queue_table::QueueTable;
use super::source::{Source, queue_info};
use super::{DirectConfig, file};
use crate::discover::{IaaDevice, WorkQueue};
use crate::{Compressed, Engine, ForkGuard, Job, Outcome, PAGE_SIZE, PageBytes, Purpose, Topology};

/// What became of a queue. A step that was not reached is `None`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Examination {
    /// How it is reached: `ENQCMD`, `MOVDIR64B`, or `write(2)` with the reason; or why it cannot be opened.
    pub open: Result<String, io::Error>,
    /// How long a no-op took, or why it did not come back.
    pub noop: Option<Result<Duration, String>>,
    /// What a page was compressed to and how long both ways took, or what went wrong.
    pub page: Option<Result<PageTrip, String>>,
}

/// A page that went through a queue and came back the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageTrip {
    /// Bytes it was compressed to.
    pub compressed_len: usize,
    /// What compressing it took.
    pub compress: Duration,
    /// What decompressing it took.
    pub decompress: Duration,
}

/// Opens a queue of `device` below `dev`, which is `/dev` but in tests, and has it do a no-op and a page, with a
/// deadline each.
pub fn examine(device: &IaaDevice, queue: &WorkQueue, dev: &Path) -> Examination {
    let failed = |error| Examination { open: Err(error), noop: None, page: None };
    let guard = match ForkGuard::new() {
        Ok(guard) => Arc::new(guard),
        Err(error) => return failed(error),
    };
    let info = match queue_info(device, queue) {
        Ok(info) => info,
        Err(reason) => return failed(io::Error::new(io::ErrorKind::InvalidInput, reason)),
    };
    let attachment = match file::open(&queue.path(dev), info.mode, &guard) {
        Ok(attachment) => attachment,
        Err(error) => return failed(error),
    };
    let mut examination = Examination { open: Ok(attachment.how.clone()), noop: None, page: None };
    let config = DirectConfig {
        verify: Verify::Always,
        busy_timeout: Duration::from_millis(10),
        ..DirectConfig::default()
    };

    let memory = match ProbeMemory::new(&guard) {
        Ok(memory) => memory,
        Err(error) => {
            examination.noop = Some(Err(format!("no memory for its record: {error}")));
            return examination;
        }
    };
    let start = Instant::now();
    let probed = probe::noop(&mut *(attachment.make)(), &memory, config.probe_timeout);
    let took = start.elapsed();
    if probed != Probed::Done {
        examination.noop = Some(Err(probed.to_string()));
        return examination;
    }
    examination.noop = Some(Ok(took));
    let table = QueueTable::new(Source::Given(vec![(info, attachment)]), config, &Topology::single_node());
    examination.page = Some(table.and_then(|table| round_trip(&Arc::new(table))));
    examination
}

/// Compresses a page and decompresses it.
fn round_trip(table: &Arc<QueueTable>) -> Result<PageTrip, String> {
    let page: PageBytes = std::array::from_fn(|at| (at / 5 % 251) as u8);
    let mut engine = Direct::new(table, 0, Purpose::Store, 1);
    let mut stored = Err("nothing came back".to_owned());
    let start = Instant::now();
    engine.compress(&mut [&page].into_iter(), &mut |outcome| {
        stored = match outcome {
            Outcome::Done(Compressed::Bytes { bytes, codec, crc }) => Ok((bytes.to_vec(), codec, crc)),
            Outcome::Done(Compressed::Incompressible { .. }) => {
                Err("a page that shrinks was called incompressible".to_owned())
            }
            Outcome::Failed { error, .. } => Err(format!("compressing: {error}")),
        };
    });
    let compress = start.elapsed();
    let (bytes, codec, crc) = stored?;
    let mut back = [0; PAGE_SIZE];
    let mut jobs = [Some(Job::new(codec, &bytes, crc, &mut back))];
    let start = Instant::now();
    engine.decompress(&mut jobs);
    let decompress = start.elapsed();
    let result = jobs[0].as_ref().map_or(Ok(()), Job::result);
    result.map_err(|error| format!("decompressing: {error}"))?;
    if back != page {
        return Err("the page came back different".to_owned());
    }
    Ok(PageTrip { compressed_len: bytes.len(), compress, decompress })
}
