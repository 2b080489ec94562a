//! Where queues come from: the machine's sysfs, a model, or whoever made portals of their own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use idxd_sys::flags::{gen_cap, iaa_cap};
use idxd_sys::opcode;

use super::file;
use super::queue::{Attachment, QueueInfo};
use crate::ForkGuard;
use crate::discover::{self, IaaDevice, QueueMode, WorkQueue, allows};

/// Where queues come from.
pub(crate) enum Source {
    /// The devices below a sysfs, with their files below a directory for devices.
    Machine { sysfs: PathBuf, dev: PathBuf },
    /// The queues of a model.
    #[cfg(any(test, feature = "model"))]
    Model(Arc<iaa_model::Model>),
    /// These queues, always.
    Given(Vec<(QueueInfo, Attachment)>),
}

/// What a look found.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Queues that may be used.
    pub(crate) queues: Vec<QueueInfo>,
    /// Why others may not, a sentence each.
    pub(crate) unused: Vec<String>,
    /// Devices there are.
    pub(crate) devices: usize,
    /// Queues of type user, enabled or not.
    pub(crate) user_queues: usize,
}

impl Source {
    /// Where it looks, for people.
    pub(crate) fn place(&self) -> String {
        match self {
            Source::Machine { sysfs, .. } => discover::devices_dir(sysfs).display().to_string(),
            #[cfg(any(test, feature = "model"))]
            Source::Model(_) => "the model".to_owned(),
            Source::Given(_) => "the caller's list".to_owned(),
        }
    }

    /// The time by which looks are spaced; it goes on though nobody waits for a device.
    pub(crate) fn now(&self) -> Duration {
        match self {
            #[cfg(any(test, feature = "model"))]
            Source::Model(model) => {
                model.pause();
                model.now()
            }
            _ => file::monotonic(),
        }
    }

    /// Looks for queues.
    pub(crate) fn list(&self) -> Listing {
        match self {
            Source::Machine { sysfs, .. } => list_machine(&discover::iaa_devices(sysfs)),
            #[cfg(any(test, feature = "model"))]
            Source::Model(model) => super::model::list(model),
            Source::Given(given) => Listing {
                queues: given.iter().map(|(info, _)| info.clone()).collect(),
                unused: Vec::new(),
                devices: given.len(),
                user_queues: given.len(),
            },
        }
    }

    /// Opens a queue that was listed.
    ///
    /// # Errors
    /// A sentence that says why it cannot be opened.
    pub(crate) fn open(&self, info: &QueueInfo, guard: &Arc<ForkGuard>) -> Result<Attachment, String> {
        match self {
            Source::Machine { dev, .. } => {
                let path = dev.join("iax").join(&info.name);
                file::open(&path, info.mode, guard).map_err(|error| {
                    let help = match error.raw_os_error() {
                        Some(libc::EACCES) => "; give yourself rights to it",
                        Some(libc::EBUSY) => "; a dedicated queue has one user, and another process has it",
                        _ => "",
                    };
                    format!("work queue {}: cannot open {}: {error}{help}", info.name, path.display())
                })
            }
            #[cfg(any(test, feature = "model"))]
            Source::Model(model) => super::model::attach(model, info, guard)
                .ok_or_else(|| format!("work queue {} is not in the model any more", info.name)),
            Source::Given(given) => given
                .iter()
                .find(|(known, _)| known.name == info.name)
                .map(|(_, attachment)| attachment.clone())
                .ok_or_else(|| format!("work queue {} was not given", info.name)),
        }
    }
}

fn list_machine(devices: &[IaaDevice]) -> Listing {
    let mut listing = Listing { devices: devices.len(), ..Listing::default() };
    for device in devices {
        for queue in &device.queues {
            if queue.kind.as_deref() != Some("user") {
                continue;
            }
            listing.user_queues += 1;
            match queue_info(device, queue) {
                Ok(info) => listing.queues.push(info),
                Err(reason) => listing.unused.push(format!("work queue {}: {reason}", queue.name)),
            }
        }
    }
    listing
}

/// A queue as the engine needs it, or why it is of no use.
pub(crate) fn queue_info(device: &IaaDevice, queue: &WorkQueue) -> Result<QueueInfo, String> {
    if !device.enabled {
        return Err(format!("device {} is not enabled", device.name));
    }
    if !queue.enabled {
        return Err("it is not enabled".to_owned());
    }
    let Some(mode) = queue.mode else { return Err("its mode is neither shared nor dedicated".to_owned()) };
    let capacity = queue.capacity();
    if capacity == 0 {
        return Err("it has no entries".to_owned());
    }
    // Kernels that do not list engines are given the benefit of the doubt: the probe will tell.
    if !device.engines.is_empty() && !device.engines.iter().any(|engine| engine.group == queue.group) {
        return Err("no engine is in its group".to_owned());
    }
    let page = crate::PAGE_SIZE as u64;
    if queue.max_transfer_size.is_some_and(|limit| limit < page) {
        return Err("it transfers less than a page".to_owned());
    }
    let allowed = |code| {
        device.op_cap.is_none_or(|opcodes| allows(&opcodes, code))
            && queue.op_config.is_none_or(|opcodes| allows(&opcodes, code))
    };
    let has = |bit| device.gen_cap.is_some_and(|bits| bits & bit != 0);
    Ok(QueueInfo {
        name: queue.name.clone(),
        device: device.id,
        nid: device.nid,
        mode,
        capacity,
        priority: queue.priority.unwrap_or(0),
        block_on_fault: has(gen_cap::BLOCK_ON_FAULT) && queue.block_on_fault == Some(true),
        cache_control: has(gen_cap::CACHE_CONTROL),
        header_generation: device.iaa_cap.is_some_and(|bits| bits & iaa_cap::HEADER_GENERATION != 0),
        compress: allowed(opcode::COMPRESS),
        decompress: allowed(opcode::DECOMPRESS),
    })
}

/// What a mode is called in sentences.
pub(crate) const fn mode_name(mode: QueueMode) -> &'static str {
    match mode {
        QueueMode::Shared => "shared",
        QueueMode::Dedicated => "dedicated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;
    use crate::discover::IaaEngine;

    fn machine() -> IaaDevice {
        let queue = |name: &str| WorkQueue {
            name: name.to_owned(),
            enabled: true,
            mode: Some(QueueMode::Shared),
            kind: Some("user".to_owned()),
            size: Some(16),
            threshold: Some(15),
            group: Some(0),
            block_on_fault: Some(true),
            ..WorkQueue::default()
        };
        IaaDevice {
            name: "iax1".to_owned(),
            id: 1,
            enabled: true,
            nid: Some(NodeId(1)),
            gen_cap: Some(0x0007_1f10_901f_0105),
            engines: vec![IaaEngine { name: "engine1.0".to_owned(), group: Some(0) }],
            queues: (0..7).map(|k| queue(&format!("wq1.{k}"))).collect(),
            ..IaaDevice::default()
        }
    }

    #[test]
    fn queues_that_cannot_be_used_are_named_with_the_reason() {
        let mut device = machine();
        device.queues[1].enabled = false;
        device.queues[2].kind = Some("kernel".to_owned());
        device.queues[3].group = Some(2);
        device.queues[4].mode = None;
        device.queues[5].size = None;
        device.queues[6].max_transfer_size = Some(2048);
        let listing = list_machine(&[device]);
        assert_eq!((listing.devices, listing.user_queues, listing.queues.len()), (1, 6, 1));
        assert_eq!(listing.queues[0].capacity, 15);
        assert_eq!(
            listing.unused,
            [
                "work queue wq1.1: it is not enabled",
                "work queue wq1.3: no engine is in its group",
                "work queue wq1.4: its mode is neither shared nor dedicated",
                "work queue wq1.5: it has no entries",
                "work queue wq1.6: it transfers less than a page",
            ]
        );
    }

    #[test]
    fn what_is_unknown_is_not_used_and_what_is_not_forbidden_is() {
        let mut device = machine();
        device.queues.truncate(2);
        device.queues[1].op_config = Some([1, 1 << (opcode::COMPRESS - 64), 0, 0]);
        let queues = list_machine(&[device.clone()]).queues;
        assert!(queues[0].compress && queues[0].decompress && queues[0].block_on_fault);
        assert!(queues[1].compress && !queues[1].decompress);
        assert!(!queues[0].header_generation, "iaa_cap is unknown");
        device.gen_cap = None;
        device.iaa_cap = Some(0x101);
        let queues = list_machine(&[device]).queues;
        assert!(!queues[0].block_on_fault && !queues[0].cache_control && queues[0].header_generation);
    }
}
