//! Intel IAA through QPL, the vendor's library: what the direct engine is compared with, and what is there for those who
//! trust it more.
//!
//! Only the asynchronous calls are used, submit and check: the synchronous ones ignore the node. A window of jobs is in
//! flight, each submitted as its page is pulled and looked at when it is the oldest. What QPL does not do itself is done
//! here:
//!
//! - It waits for nothing with a time-out. Here each job has a deadline; one that misses it is retired
//!   ([`job`]). And its first use of the hardware, which waits for a no-op, happens in a child process
//!   first ([`probe`]).
//! - It does not tell a full queue from one that it may not use. Both are `Busy` here, with a deadline.
//! - It answers one page fault in the life of a job. A job that met one is made anew and submitted again, three times.
//! - A child of fork must not use it: its devices are the parent's.
//! - Its capabilities are the first device's, and a queue is found by a number that all devices share, so it can report busy
//!   or "not supported by the queue" (8) where another queue would do: such pages go to software as any other failure.

#![allow(unsafe_code)]

mod engine;
mod job;
mod probe;
mod verdict;
mod window;

use std::sync::Arc;
use std::time::Duration;

use qpl_sys::Library;

use self::engine::Qpl;
use crate::direct::{Counters, DirectConfig, Huffman, Verify};
use crate::discover::{IaaDevice, QueueMode};
use crate::{Engine, ForkGuard, Topology};

/// How long the try in a child process may take: opening devices and a page.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where QPL does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// On the device.
    Hardware,
    /// In QPL's own software.
    Software,
}

impl Path {
    fn raw(self) -> u32 {
        match self {
            Path::Hardware => qpl_sys::PATH_HARDWARE,
            Path::Software => qpl_sys::PATH_SOFTWARE,
        }
    }

    fn engine_name(self) -> &'static str {
        match self {
            Path::Hardware => "qpl",
            Path::Software => "qpl-software",
        }
    }
}

/// What a channel's engine is made of.
#[derive(Clone, Debug)]
struct QplConfig {
    library: Arc<Library>,
    path: Path,
    window: usize,
    /// Huffman codes of each page's own.
    dynamic: bool,
    /// Has QPL decompress each n-th page that it compressed, and compare; 0 for none.
    verify_every: u32,
    /// Nodes whose devices are used in turn; any device where it is empty.
    nids: Arc<[i32]>,
    /// How long a job may take.
    timeout: Duration,
    /// How long a busy device is waited for.
    busy_timeout: Duration,
    guard: Arc<ForkGuard>,
}

/// QPL, loaded and tried, for the channels of a store.
pub(crate) struct QplSource {
    config: QplConfig,
    /// The nodes with devices of each package.
    nids: Box<[Arc<[i32]>]>,
    counters: Arc<Counters>,
}

impl QplSource {
    /// Loads QPL and, if it is to use devices, tries them.
    ///
    /// # Errors
    /// A sentence that says why it cannot be used.
    pub(crate) fn open(
        path: Path,
        window: usize,
        direct: &DirectConfig,
        devices: &[IaaDevice],
        topology: &Topology,
    ) -> Result<QplSource, String> {
        let library = Arc::new(Library::load().map_err(|error| error.to_string())?);
        let guard =
            Arc::new(ForkGuard::new().map_err(|error| format!("cannot guard against fork: {error}"))?);
        if path == Path::Hardware {
            probe::probe(&library, PROBE_TIMEOUT).map_err(|error| error.to_string())?;
        }
        let verify_every = match direct.verify {
            Verify::Off => 0,
            Verify::Sampled(one_in) => one_in.max(1),
            Verify::Always => 1,
        };
        let config = QplConfig {
            library,
            path,
            window,
            dynamic: direct.huffman != Huffman::Fixed,
            verify_every,
            nids: Arc::new([]),
            timeout: direct.timeout,
            busy_timeout: direct.busy_timeout,
            guard,
        };
        let nids =
            (0..topology.packages()).map(|package| nids_of(package, devices, topology).into()).collect();
        Ok(QplSource { config, nids, counters: Arc::default() })
    }

    /// What it is, for people.
    pub(crate) fn describe(&self) -> String {
        let QplConfig { library, path, .. } = &self.config;
        let path = match path {
            Path::Hardware => "on the device",
            Path::Software => "in its own software",
        };
        format!("QPL {} ({}), {path}", library.version(), library.path().display())
    }

    /// The engine of a channel of this package.
    pub(crate) fn engine(&self, package: u16) -> Box<dyn Engine> {
        let nids = self.nids.get(usize::from(package)).map_or_else(|| Arc::new([]) as Arc<[i32]>, Arc::clone);
        Box::new(Qpl::new(QplConfig { nids, ..self.config.clone() }, &self.counters))
    }

    /// Knows a child of fork.
    pub(crate) fn guard(&self) -> &Arc<ForkGuard> {
        &self.config.guard
    }

    /// What its jobs did and failed to do.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

/// The nodes of a package whose devices QPL uses: those with an enabled shared queue. None where there are none, and any
/// device serves.
fn nids_of(package: usize, devices: &[IaaDevice], topology: &Topology) -> Vec<i32> {
    let usable = |device: &&IaaDevice| {
        let shared =
            |queue: &crate::discover::WorkQueue| queue.enabled && queue.mode == Some(QueueMode::Shared);
        device.enabled && device.queues.iter().any(shared)
    };
    let mut nids: Vec<i32> = devices
        .iter()
        .filter(usable)
        .filter_map(|device| topology.nodes().iter().find(|node| Some(node.nid) == device.nid))
        .filter(|node| {
            let package_of = topology.package_of_cpu();
            node.cpus.iter().any(|&cpu| package_of.get(cpu).is_some_and(|&of| usize::from(of) == package))
        })
        .map(|node| node.nid.0.into())
        .collect();
    nids.dedup();
    nids
}
