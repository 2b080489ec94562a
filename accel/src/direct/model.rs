//! The queues of a model of the device, as portals.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use iaa_model::{Clock, Mode, Model, QueueId, Stop};
use idxd_sys::flags::{gen_cap, iaa_cap};
use idxd_sys::{Descriptor, opcode};

use super::queue::{Attachment, QueueInfo};
use super::source::Listing;
use super::{Portal, Refusal, Submitted, file};
use crate::discover::{QueueMode, allows};
use crate::{ForkGuard, NodeId};

/// A model's queue. Dropping it has the model write what it still has to.
struct Modelled {
    model: Arc<Model>,
    queue: QueueId,
    /// How many descriptors are best submitted at once.
    batch: usize,
    guard: Arc<ForkGuard>,
}

impl Drop for Modelled {
    fn drop(&mut self) {
        // Records that came in pieces are finished before their memory is freed. In a child somebody else may have
        // the model locked.
        if !self.guard.is_child() {
            self.model.settle();
        }
    }
}

// SAFETY: the model executes what descriptors say, through system calls that check every address, at whatever time
// its plan says; a descriptor that it did not take is forgotten.
unsafe impl Portal for Modelled {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        let submitted = self.model.submit(self.queue, descriptors);
        let refusal = submitted.stop.map(|stop| match stop {
            Stop::NotPermitted => Refusal::Denied,
            Stop::Disabled | Stop::NoSuchQueue => Refusal::Disabled,
            _ => Refusal::Full,
        });
        Submitted { accepted: submitted.taken, refusal }
    }

    fn pause(&mut self, _status: &AtomicU8) {
        self.model.pause();
    }

    fn now(&self) -> Duration {
        self.model.now()
    }

    fn batch(&self) -> usize {
        self.batch
    }
}

/// The name that a queue has everywhere: `wq1.0`.
fn name(queue: QueueId) -> String {
    format!("wq{queue}")
}

/// The queues of `model`.
pub(crate) fn list(model: &Model) -> Listing {
    let mut listing = Listing { devices: model.config().devices.len(), ..Listing::default() };
    for id in model.queues() {
        listing.user_queues += 1;
        let (Some(config), Some(device)) =
            (model.queue(id), model.config().devices.get(usize::from(id.device)))
        else {
            continue;
        };
        if !model.is_enabled(id) {
            listing.unused.push(format!("work queue {}: it is not enabled", name(id)));
            continue;
        }
        let mode = match config.mode {
            Mode::Shared => QueueMode::Shared,
            Mode::Dedicated => QueueMode::Dedicated,
        };
        let capacity = match mode {
            QueueMode::Shared => config.threshold.min(config.size),
            QueueMode::Dedicated => config.size,
        };
        let capabilities = &device.capabilities;
        let has = |bit| capabilities.gen_cap & bit != 0;
        let allowed = |code| allows(&config.op_config, code) && capabilities.has(code);
        listing.queues.push(QueueInfo {
            name: name(id),
            device: id.device.into(),
            nid: u16::try_from(device.nid).ok().map(NodeId),
            mode,
            capacity: u32::try_from(capacity).unwrap_or(u32::MAX),
            priority: config.priority.into(),
            block_on_fault: has(gen_cap::BLOCK_ON_FAULT) && config.block_on_fault,
            cache_control: has(gen_cap::CACHE_CONTROL),
            header_generation: capabilities.iaa_cap & iaa_cap::HEADER_GENERATION != 0,
            compress: allowed(opcode::COMPRESS),
            decompress: allowed(opcode::DECOMPRESS),
        });
    }
    listing
}

/// Portals to the queue of that name.
pub(crate) fn attach(model: &Arc<Model>, info: &QueueInfo, guard: &Arc<ForkGuard>) -> Option<Attachment> {
    let queue = model.queues().find(|&id| name(id) == info.name)?;
    // In a test shared queues are driven as those that are written to, so that it meets partial counts.
    let written = model.config().clock == Clock::Stepped && info.mode == QueueMode::Shared;
    let batch = if written { file::WRITE_BATCH } else { 1 };
    let (model, guard) = (Arc::clone(model), Arc::clone(guard));
    let make = move || -> Box<dyn Portal> {
        Box::new(Modelled { model: Arc::clone(&model), queue, batch, guard: Arc::clone(&guard) })
    };
    Some(Attachment::new("the model", make))
}
