//! A thread that makes room when a limit was hit, for those who ask for one.
//!
//! Stores never wait for it: they are refused, and it is woken. It takes what the accept thresholds say, of the pool,
//! of nodes and of tenants, in slices, and looks again. From pool and nodes it takes in proportion, by
//! [`Zswap::reclaim`], and by [`Zswap::shrink_within`] once that gives nothing; of a tenant, what it has too much. If it is asked
//! to, it also compacts now and then, and deals with cold pages before a limit is hit ([`Proactive`]).

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zfolio_accel::{NodeId, PAGE_SIZE};

use crate::error::ShrinkError;
use crate::proactive::{Proactive, ProactiveConfig};
use crate::shrink::{ShrinkBudget, Shrunk};
use crate::zswap::Zswap;

/// The most bytes of one slice, so that no limit waits long for another.
const SLICE_BYTES: u64 = 1 << 20;
/// The most time of one slice.
const SLICE_TIME: Duration = Duration::from_millis(50);
/// How long it rests when nothing could be freed.
const REST: Duration = Duration::from_millis(100);

/// Says that a limit is in the way.
#[derive(Default)]
pub(crate) struct Pressure {
    raised: AtomicBool,
    mutex: Mutex<()>,
    changed: Condvar,
}

impl Pressure {
    pub(crate) fn raise(&self) {
        // Most of the time it is raised already, or there is nobody to hear of it.
        if !self.raised.swap(true, Ordering::SeqCst) {
            drop(self.mutex.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    /// Waits until it is raised, or until the deadline, and lowers it.
    fn wait(&self, deadline: Option<Instant>) {
        let mut guard = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.raised.swap(false, Ordering::SeqCst) {
            // Bounded also without a deadline: a thread that cannot be woken could not be stopped.
            let left = deadline.map_or(Duration::from_secs(1), |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner);
            guard = waited.0;
        }
    }
}

/// How the thread works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReclaimerConfig {
    /// The thread's name; Linux shows the first 15 bytes.
    pub name: String,
    /// How often every node is compacted, for at most a millisecond, when there is nothing else to do. `None` for never.
    pub compact_every: Option<Duration>,
    /// What becomes of cold pages while no limit is hit. `None` for nothing.
    pub proactive: Option<ProactiveConfig>,
}

impl Default for ReclaimerConfig {
    fn default() -> ReclaimerConfig {
        ReclaimerConfig { name: "zfolio-reclaim".to_owned(), compact_every: None, proactive: None }
    }
}

/// A running thread. Dropping it stops the thread, when the write that it is at has ended.
pub struct Reclaimer {
    zswap: Arc<Zswap>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reclaimer {
    /// Starts the thread. One for a store is enough; more share the work.
    ///
    /// # Errors
    /// The kernel's, when it gives no thread.
    pub fn spawn(zswap: Arc<Zswap>, config: ReclaimerConfig) -> io::Result<Reclaimer> {
        let stop = Arc::new(AtomicBool::new(false));
        let work = {
            let (zswap, stop, config) = (Arc::clone(&zswap), Arc::clone(&stop), config.clone());
            move || run(&zswap, &stop, &config)
        };
        let thread = std::thread::Builder::new().name(config.name).spawn(work)?;
        Ok(Reclaimer { zswap, stop, thread: Some(thread) })
    }
}

impl Drop for Reclaimer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.zswap.pressure.raise();
        if let Some(thread) = self.thread.take() {
            // A device that panicked has ended the thread; the store is as it was.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Reclaimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.thread.as_ref().and_then(|thread| thread.thread().name());
        f.debug_struct("Reclaimer").field("name", &name).finish_non_exhaustive()
    }
}

fn run(zswap: &Zswap, stop: &AtomicBool, config: &ReclaimerConfig) {
    let started = Instant::now();
    let mut proactive = config.proactive.clone().map(|proactive| Proactive::new(proactive, Duration::ZERO));
    let mut compact_at = config.compact_every.and_then(|every| started.checked_add(every));
    while !stop.load(Ordering::SeqCst) {
        let relief = relieve(zswap);
        if let Some(proactive) = &mut proactive {
            // A child of fork has no store, and no such thread.
            let _ = proactive.run(zswap, started.elapsed());
        }
        if compact_at.is_some_and(|at| Instant::now() >= at) {
            for &nid in zswap.nodes.nids() {
                let _ = zswap.compact(nid, Duration::from_millis(1));
            }
            compact_at = config.compact_every.and_then(|every| Instant::now().checked_add(every));
        }
        match relief {
            // More may be needed, or others were woken for nothing.
            Relief::Freed => {}
            Relief::Nothing => std::thread::park_timeout(REST),
            Relief::NotNeeded => {
                let next = proactive.as_ref().and_then(|proactive| started.checked_add(proactive.next()));
                zswap.pressure.wait(compact_at.into_iter().chain(next).min());
            }
        }
    }
}

enum Relief {
    NotNeeded,
    Freed,
    Nothing,
}

/// One slice for each limit that is in the way.
fn relieve(zswap: &Zswap) -> Relief {
    let arena = zswap.pool.arena();
    let budget = ShrinkBudget { time: SLICE_TIME, ..ShrinkBudget::default() };
    let bytes_over = |limit: &crate::limit::Limit| {
        let pages = limit.used_pages().saturating_sub(limit.accept_pages());
        if limit.is_full() { pages.saturating_mul(PAGE_SIZE as u64) } else { 0 }
    };
    let (mut needed, mut freed) = (false, false);
    let mut shrink = |nid: NodeId, bytes: u64| {
        needed = true;
        let gave = |shrunk: Result<Shrunk, ShrinkError>| {
            shrunk.is_ok_and(|shrunk| shrunk.released_bytes > 0 || shrunk.written_back_pages > 0)
        };
        let bytes = bytes.min(SLICE_BYTES);
        freed |= gave(zswap.reclaim(nid, bytes, budget)) || gave(zswap.shrink_within(nid, bytes, budget));
    };
    for (index, &nid) in zswap.nodes.nids().iter().enumerate() {
        let bytes = bytes_over(arena.node_limit(index));
        if bytes > 0 {
            shrink(nid, bytes);
        }
    }
    let bytes = bytes_over(arena.pool_limit());
    if bytes > 0 {
        // Of each node in proportion to what it has.
        let used = arena.pool_limit().used_pages().max(1);
        for (index, &nid) in zswap.nodes.nids().iter().enumerate() {
            let share =
                u128::from(bytes) * u128::from(arena.node_limit(index).used_pages()) / u128::from(used);
            shrink(nid, u64::try_from(share).unwrap_or(bytes).max(PAGE_SIZE as u64));
        }
    }
    for (tenant, bytes) in zswap.tenants.over_threshold() {
        needed = true;
        let shrunk = zswap.shrink_tenant(tenant, bytes.min(SLICE_BYTES));
        freed |= shrunk.is_ok_and(|shrunk| shrunk.object_bytes > 0);
    }
    match (needed, freed) {
        (false, _) => Relief::NotNeeded,
        (true, true) => Relief::Freed,
        (true, false) => Relief::Nothing,
    }
}
