//! Devices with queues and engines, in time.
//!
//! [`Model`] is what a portal submits to. Everything is behind one lock, and everything that happens is an event in
//! one list, ordered by time: so what is deterministic on one thread is so by construction.
//!
//! A descriptor takes an entry of its queue until an engine of the queue's group takes it; the engine is busy for the
//! transfer, and the record follows a base latency later, when the next descriptor already runs. It is executed when
//! its record is due: what it reads is what is there then.

mod config;
mod engines;
mod queue;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use config::{DeviceConfig, Mode, ModelConfig, QueueConfig, QueueId};
pub use engines::{Begun, Demand, Engines};
use idxd_sys::Descriptor;
pub use queue::SoftwareError;
use state::State;

use crate::clock::{self, Clock, Section};
use crate::timing::{Method, Nanos};
use crate::{Memory, Summary};

/// Memory that any thread may have the model reach.
pub type SharedMemory = Box<dyn Memory + Send + Sync>;

/// What became of a submission: how many descriptors were taken, from the first, and what stopped the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Descriptors taken. A dedicated queue's lost ones count: its submitter cannot tell.
    pub taken: usize,
    /// What stopped the next one, if not all were taken.
    pub stop: Option<Stop>,
}

/// Why a descriptor was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// The queue is full: ENQCMD sets ZF, write(2) ends with EAGAIN.
    Full,
    /// The submission ended early, as write(2) may with a partial count; the queue is not full.
    Partial,
    /// Not permitted: write(2) ends with EPERM.
    NotPermitted,
    /// The queue is disabled: ENQCMD sets ZF, write(2) ends with ENODEV.
    Disabled,
    /// There is no such queue.
    NoSuchQueue,
}

/// What one look at a record that is not there yet costs who waits for it: the instruction PAUSE.
const PAUSE: Nanos = 25;

/// Devices in software.
pub struct Model {
    state: Mutex<State>,
    /// On the replay clock: nothing is to be seen before.
    next_due: AtomicU64,
    memory: SharedMemory,
    config: ModelConfig,
    _replay: Option<clock::InUse>,
}

impl Model {
    /// The devices of `config`, which reach memory through `memory`.
    pub fn new(config: ModelConfig, memory: SharedMemory) -> Arc<Model> {
        let next_due = AtomicU64::new(Nanos::MAX);
        let replay = (config.clock == Clock::Replay).then(clock::InUse::new);
        Arc::new(Model { state: Mutex::new(State::new(&config)), next_due, memory, config, _replay: replay })
    }

    /// What it was made of.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// All queues, enabled or not.
    pub fn queues(&self) -> impl Iterator<Item = QueueId> + '_ {
        let numbers = |device: usize, config: &DeviceConfig| {
            (0..config.queues.len()).map(move |queue| QueueId::new(device as u16, queue as u16))
        };
        self.config.devices.iter().enumerate().flat_map(move |(device, config)| numbers(device, config))
    }

    /// The configuration of a queue.
    pub fn queue(&self, id: QueueId) -> Option<&QueueConfig> {
        self.config.devices.get(usize::from(id.device))?.queues.get(usize::from(id.queue))
    }

    /// Submits to a mapped portal: by ENQCMD to a shared queue, by MOVDIR64B to a dedicated one.
    pub fn submit(&self, queue: QueueId, descriptors: &[Descriptor]) -> Submitted {
        let method = match self.queue(queue) {
            Some(QueueConfig { mode: Mode::Dedicated, .. }) => Method::Movdir64b,
            _ => Method::Enqcmd,
        };
        self.submit_by(method, queue, descriptors)
    }

    /// Submits by `method`.
    pub fn submit_by(&self, method: Method, queue: QueueId, descriptors: &[Descriptor]) -> Submitted {
        self.at_work(|state| state.submit(&*self.memory, method, queue, descriptors))
    }

    /// Lets the device go on, as the instruction PAUSE lets it. Stepped: to the next record it writes, but by no
    /// more than ten microseconds. Replay: what has become due is to be seen.
    pub fn pause(&self) {
        match self.config.clock {
            Clock::Stepped => self.lock().step(&*self.memory),
            Clock::Replay if clock::now() < self.next_due.load(Ordering::Relaxed) => {}
            Clock::Replay => self.at_work(|state| state.advance(&*self.memory, state.now() + PAUSE)),
        }
    }

    /// The model's time.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(match self.config.clock {
            Clock::Stepped => self.lock().now(),
            Clock::Replay => clock::now(),
        })
    }

    /// Lets the device finish all that it has, whatever time that takes; false if something is left that no time
    /// finishes (in the queues of a group without engines).
    pub fn drain(&self) -> bool {
        self.at_work(|state| state.drain(&*self.memory))
    }

    /// Writes what is still to be written to records whose status has been seen (the rest of one that came status
    /// first, a second writing). Call it before such records are freed.
    pub fn settle(&self) {
        self.at_work(|state| state.settle(&*self.memory));
    }

    /// Descriptors that the queue holds or its engines work on.
    pub fn outstanding(&self, queue: QueueId) -> usize {
        self.lock().queue(queue).map_or(0, |queue| queue.waiting.len() + queue.in_flight)
    }

    /// Entries of the queue that are taken.
    pub fn occupancy(&self, queue: QueueId) -> usize {
        self.lock().queue(queue).map_or(0, |queue| queue.waiting.len())
    }

    /// Whether the queue takes descriptors.
    pub fn is_enabled(&self, queue: QueueId) -> bool {
        self.lock().queue(queue).is_some_and(|queue| queue.enabled)
    }

    /// Enables a queue; false if there is no such queue.
    pub fn enable(&self, queue: QueueId) -> bool {
        self.lock().queue_mut(queue).map(|queue| queue.enabled = true).is_some()
    }

    /// Disables a queue as an orderly driver does: what it holds is still executed. False if there is no such
    /// queue.
    pub fn disable(&self, queue: QueueId) -> bool {
        self.lock().queue_mut(queue).map(|queue| queue.enabled = false).is_some()
    }

    /// Disables a queue as a reset does: what waits in it is lost without a record. False if there is no such
    /// queue.
    pub fn abort(&self, queue: QueueId) -> bool {
        self.lock().abort(queue)
    }

    /// The last software error of each device that had one since the last call: as a driver fetches them.
    pub fn take_errors(&self) -> Vec<SoftwareError> {
        self.lock().take_errors()
    }

    /// What it has done so far.
    pub fn summary(&self) -> Summary {
        self.lock().summary()
    }

    /// Does `work` with the state. On the replay clock time stands still meanwhile, and goes on where `work`
    /// leaves the state's.
    fn at_work<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        if self.config.clock == Clock::Stepped {
            return work(&mut self.lock());
        }
        let section = Section::enter();
        let mut state = self.lock();
        state.advance(&*self.memory, section.now());
        let result = work(&mut state);
        let charge = state.now().saturating_sub(section.now());
        self.next_due.store(state.next_due(), Ordering::Relaxed);
        drop(state);
        section.leave(charge);
        result
    }

    /// A panic under the lock can only come from `Memory`, and leaves nothing half done but one descriptor.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("config", &self.config).finish_non_exhaustive()
    }
}
