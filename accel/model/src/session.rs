//! One process's use of the devices that the driver shows: what stands behind write(2) on a queue's file.
//!
//! Each process has its own model, for a model reaches one memory. Descriptors are executed within the call that
//! submits them; only what the fault plan makes late is left over, for whoever keeps the time to fetch
//! ([`Session::tick`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use idxd_sys::Descriptor;

use crate::sysfs::{Errno, Idxd};
use crate::{
    Injection, Method, Model, ModelConfig, OtherProcess, QueueId, SoftwareError, Stop, Summary, Tally,
};

/// Model time that a submission waits for what is late.
const PATIENCE: Duration = Duration::from_millis(1);

/// A process and its model.
#[derive(Debug)]
pub struct Session {
    memory: OtherProcess,
    /// Timing, clock and faults.
    setup: ModelConfig,
    model: Arc<Model>,
    idxd: Idxd,
    /// What the tally has of the model.
    told: Summary,
    /// When something was left over: the wall's time and the model's.
    late: Option<(Instant, Duration)>,
}

impl Session {
    /// The process `memory` at devices in the state `idxd`; everything else as in `setup`.
    pub fn new(setup: ModelConfig, idxd: Idxd, memory: OtherProcess) -> Session {
        let model = Model::new(idxd.model(&setup), Box::new(memory));
        Session { memory, setup, model, idxd, told: Summary::default(), late: None }
    }

    /// The devices are in the state `idxd` now. If that changes the model, it starts anew, and so does its fault plan.
    pub fn renew(&mut self, idxd: Idxd, tally: Tally) {
        let config = idxd.model(&self.setup);
        if *self.model.config() != config {
            self.tell(tally);
            *self = Session::new(self.setup.clone(), idxd, self.memory);
        } else {
            self.idxd = idxd;
        }
    }

    /// Submits to the queue that had the minor number `minor` when it was opened, as write(2) does: how many
    /// descriptors were taken, and why not more.
    pub fn submit(
        &mut self,
        id: QueueId,
        minor: u32,
        descriptors: &mut [Descriptor],
    ) -> (usize, Option<Errno>) {
        if !self.idxd.is_current(id, minor) {
            return (0, Some(libc::ENODEV));
        }
        // The driver looks at each before it submits it, and puts a PASID of its own in.
        let misaligned = |descriptor: &Descriptor| !descriptor.completion_addr.is_multiple_of(64);
        let whole = descriptors.iter().position(misaligned);
        let count = whole.unwrap_or(descriptors.len());
        let good = &mut descriptors[..count];
        good.iter_mut().for_each(|descriptor| descriptor.pasid = 0);
        let submitted = self.model.submit_by(Method::Write, id, good);
        let errno = match submitted.stop {
            None => whole.map(|_| libc::EINVAL),
            Some(Stop::NotPermitted) => Some(libc::EPERM),
            Some(Stop::Full | Stop::Partial) => Some(libc::EAGAIN),
            Some(_) => Some(libc::ENODEV),
        };
        (submitted.taken, errno)
    }

    /// Lets the device work until it is done, or until only what is late by plan is left: then someone has to
    /// [`tick`](Session::tick).
    pub fn settle(&mut self, tally: Tally) {
        let is_about_time = |fault| {
            use Injection::{Duplicate, IotlbMiss, Late, Slow};
            matches!(fault, Late(_) | Duplicate(_) | Slow(_) | IotlbMiss(_))
        };
        if !self.model.config().faults.rules.iter().any(|rule| is_about_time(rule.fault)) {
            self.model.drain();
        } else {
            let until = self.model.now() + PATIENCE;
            while self.is_busy() && self.model.now() < until {
                self.model.pause();
            }
            if self.is_busy() && self.late.is_none() {
                self.late = Some((Instant::now(), self.model.now()));
            }
        }
        self.tell(tally);
    }

    /// The last software error of each device that had one since the last call: for [`Idxd::latch`].
    pub fn take_errors(&mut self) -> Vec<SoftwareError> {
        self.model.take_errors()
    }

    /// Whether something late is left over.
    pub fn is_late(&self) -> bool {
        self.late.is_some()
    }

    /// Lets the device work until now on the wall; whether anything is still left.
    pub fn tick(&mut self, tally: Tally) -> bool {
        if let Some((wall, model)) = self.late {
            let now = model + wall.elapsed();
            while self.model.now() < now && self.is_busy() {
                self.model.pause();
            }
            if !self.is_busy() {
                self.late = None;
            }
            self.tell(tally);
        }
        self.is_late()
    }

    fn is_busy(&self) -> bool {
        self.model.queues().any(|queue| self.model.outstanding(queue) != 0)
    }

    /// Adds to the tally what the model did since it was last told.
    fn tell(&mut self, tally: Tally) {
        let now = self.model.summary();
        tally.add_growth(&self.told, &now);
        self.told = now;
    }
}
