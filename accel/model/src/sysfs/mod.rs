//! The idxd driver, as its sysfs shows it: what there is to read, and what happens when something is written.
//!
//! [`Idxd`] is the state behind the attributes; The texts of [`Idxd::attributes`] and the rules of [`Idxd::store`] are
//! those of the Linux driver (6.7 and later), errno and `cmd_status` included. It opens nothing and keeps no time. Two
//! front ends stand on it: a directory of plain files, shared by processes ([`Tree`]), and a FUSE file system.
//!
//! Paths are relative to `/sys/bus/dsa`: `devices/iax0/wq0.0/size`, `drivers/user/bind`.

mod attributes;
mod saved;
mod store;
#[cfg(test)]
mod tests;
mod tree;

pub use attributes::{Attributes, Node};
pub use tree::{Tree, TreeError};

use idxd_sys::status;

use crate::{Capabilities, DeviceConfig, Mode, ModelConfig, QueueConfig, QueueId, SoftwareError};

/// Queues of a device, enabled or not.
const MAX_QUEUES: usize = 8;
/// Groups of a device.
const MAX_GROUPS: usize = 4;
/// Engines of a device.
const MAX_ENGINES: usize = 8;
/// Entries that the queues of a device share.
const MAX_QUEUE_ENTRIES: u32 = 128;
/// Bytes a transfer, until someone says otherwise.
const DEFAULT_TRANSFER: u64 = 2 << 20;
/// Retries of the kernel's ENQCMDS, until someone says otherwise.
const DEFAULT_RETRIES: u32 = 32;
/// The character devices' major number; minors count how often a queue was enabled.
pub const CDEV_MAJOR: u32 = 237;

/// Clients of a queue: how often it is open.
pub type Clients<'a> = &'a dyn Fn(QueueId) -> usize;

/// A code of errno.
pub type Errno = i32;

/// The driver's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idxd {
    devices: Vec<Device>,
    /// The next character device's minor number. Never used twice, so it also names *this* time a queue was
    /// enabled.
    next_minor: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    capabilities: Capabilities,
    /// -1 is unknown.
    nid: i64,
    enabled: bool,
    cmd_status: u32,
    /// The register of software errors, as the driver last read it.
    errors: [u64; 4],
    /// The group of each engine.
    engines: Vec<Option<usize>>,
    groups: Vec<Group>,
    queues: Vec<Queue>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Group {
    desc_progress_limit: u32,
    batch_progress_limit: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Kernel,
    User,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Queue {
    /// The driver it is bound to, when it is enabled.
    driver: Option<QueueDriver>,
    kind: Kind,
    name: String,
    driver_name: String,
    mode: Mode,
    size: u32,
    threshold: u32,
    priority: u32,
    group: Option<usize>,
    block_on_fault: bool,
    max_transfer_size: u64,
    op_config: [u64; 4],
    enqcmds_retries: u32,
    ats_disable: bool,
    prs_disable: bool,
    /// Of its character device, while it has one.
    minor: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueDriver {
    User,
    Dmaengine,
}

impl QueueDriver {
    fn name(self) -> &'static str {
        match self {
            QueueDriver::User => "user",
            QueueDriver::Dmaengine => "dmaengine",
        }
    }
}

impl Queue {
    fn new(op_cap: [u64; 4]) -> Queue {
        Queue {
            driver: None,
            kind: Kind::None,
            name: String::new(),
            driver_name: String::new(),
            mode: Mode::Shared,
            size: 0,
            threshold: 0,
            priority: 0,
            group: None,
            block_on_fault: false,
            max_transfer_size: DEFAULT_TRANSFER,
            op_config: op_cap,
            enqcmds_retries: DEFAULT_RETRIES,
            ats_disable: false,
            prs_disable: false,
            minor: None,
        }
    }
}

impl Device {
    fn new(capabilities: Capabilities, nid: i64) -> Device {
        Device {
            capabilities,
            nid,
            enabled: false,
            cmd_status: 0,
            errors: [0; 4],
            engines: vec![None; MAX_ENGINES],
            groups: vec![Group::default(); MAX_GROUPS],
            queues: vec![Queue::new(capabilities.op_cap); MAX_QUEUES],
        }
    }
}

impl Idxd {
    /// Devices as the driver finds them at boot: nothing configured, nothing enabled.
    pub fn unconfigured(config: &ModelConfig) -> Idxd {
        let device = |device: &DeviceConfig| {
            let mut new = Device::new(device.capabilities, i64::from(device.nid));
            // More than usual if the model has more.
            let engines = device.groups.iter().sum::<usize>().max(MAX_ENGINES);
            new.engines.resize(engines, None);
            new.groups.resize(device.groups.len().max(MAX_GROUPS), Group::default());
            let queue = Queue::new(device.capabilities.op_cap);
            new.queues.resize(device.queues.len().max(MAX_QUEUES), queue);
            new
        };
        Idxd { devices: config.devices.iter().map(device).collect(), next_minor: 0 }
    }

    /// Devices as the model has them: configured, and those that have an enabled queue are enabled.
    pub fn new(config: &ModelConfig) -> Idxd {
        let mut idxd = Idxd::unconfigured(config);
        for (device, config) in idxd.devices.iter_mut().zip(&config.devices) {
            let groups = config.groups.iter().enumerate();
            let owners = groups.flat_map(|(group, &engines)| std::iter::repeat_n(group, engines));
            device.engines.iter_mut().zip(owners).for_each(|(engine, group)| *engine = Some(group));
            device.enabled = config.queues.iter().any(|queue| queue.enabled);
            for (queue, config) in device.queues.iter_mut().zip(&config.queues) {
                queue.configure(config, config.enabled.then(|| post_increment(&mut idxd.next_minor)));
            }
        }
        idxd
    }

    /// The model of these devices in their present state. Timing, clock and faults are those of `base`, and so is
    /// what sysfs does not show of the devices.
    pub fn model(&self, base: &ModelConfig) -> ModelConfig {
        let mut config = base.clone();
        let mut devices = Vec::with_capacity(self.devices.len());
        for (number, device) in self.devices.iter().enumerate() {
            let strict = base.devices.get(number).is_none_or(|device| device.capabilities.strict_headers);
            let mut groups = vec![0; device.groups.len()];
            device.engines.iter().flatten().for_each(|&group| groups[group] += 1);
            devices.push(DeviceConfig {
                capabilities: Capabilities { strict_headers: strict, ..device.capabilities },
                nid: u32::try_from(device.nid).unwrap_or(0),
                groups,
                queues: device.queues.iter().map(|queue| queue.model(device.enabled)).collect(),
            });
        }
        config.devices = devices;
        config
    }

    /// The queues that have a character device: its name below `/dev/iax`, the queue, and its minor number.
    pub fn nodes(&self) -> impl Iterator<Item = (String, QueueId, u32)> + '_ {
        let queues = |(device, state): (usize, &'_ Device)| -> Vec<_> {
            let node = |(queue, state): (usize, &Queue)| {
                let id = QueueId::new(device as u16, queue as u16);
                Some((format!("wq{id}"), id, state.minor?))
            };
            state.queues.iter().enumerate().filter_map(node).collect()
        };
        self.devices.iter().enumerate().flat_map(queues)
    }

    /// The queue behind a character device's name: its id, minor number and mode.
    pub fn node(&self, name: &str) -> Option<(QueueId, u32, Mode)> {
        let (_, id, minor) = self.nodes().find(|(node, ..)| node == name)?;
        Some((id, minor, self.queue(id)?.mode))
    }

    /// Whether the queue is still enabled since its character device had the number `minor`.
    pub fn is_current(&self, id: QueueId, minor: u32) -> bool {
        self.queue(id).is_some_and(|queue| queue.minor == Some(minor))
    }

    /// Takes a software error down, in the place of the one before: the driver makes the device forget each that it has read,
    /// and never forgets the last.
    pub fn latch(&mut self, error: SoftwareError) {
        const VALID: u64 = 1 << 0;
        const QUEUE_VALID: u64 = 1 << 3;
        const WRITE: u64 = 1 << 5;
        let (code, addr, flags) = match error {
            SoftwareError::CompletionFault(_, addr) => (status::COMPLETION_TRANSLATION, addr, WRITE),
            SoftwareError::CompletionAlignment(_, addr) => (status::COMPLETION_ALIGNMENT, addr, 0),
            SoftwareError::NoRecord(_, status) => (status, 0, 0),
            // Their codes are not in the driver.
            SoftwareError::Overflow(_) | SoftwareError::Disabled(_) => (0, 0, 0),
        };
        let id = error.queue();
        if let Some(device) = self.devices.get_mut(usize::from(id.device)) {
            let first = VALID | QUEUE_VALID | flags | u64::from(code) << 8 | u64::from(id.queue) << 16;
            device.errors = [first, 0, addr, 0];
        }
    }

    /// Whether the queue's device has had a software error, which is what poll(2) tells.
    pub fn has_error(&self, id: QueueId) -> bool {
        self.devices.get(usize::from(id.device)).is_some_and(|device| device.errors[0] & 1 != 0)
    }

    fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.devices.get(usize::from(id.device))?.queues.get(usize::from(id.queue))
    }
}

impl Queue {
    fn configure(&mut self, config: &QueueConfig, minor: Option<u32>) {
        let all = self.op_config;
        *self = Queue {
            driver: minor.map(|_| QueueDriver::User),
            kind: Kind::User,
            name: config.name.clone(),
            driver_name: QueueDriver::User.name().to_owned(),
            mode: config.mode,
            size: u32::try_from(config.size).unwrap_or(u32::MAX),
            threshold: u32::try_from(config.threshold).unwrap_or(u32::MAX),
            priority: config.priority.into(),
            group: Some(config.group),
            block_on_fault: config.block_on_fault,
            max_transfer_size: config.max_transfer_size,
            op_config: std::array::from_fn(|word| config.op_config[word] & all[word]),
            minor,
            ..Queue::new(all)
        };
    }

    fn model(&self, device_enabled: bool) -> QueueConfig {
        QueueConfig {
            name: self.name.clone(),
            mode: self.mode,
            size: self.size as usize,
            threshold: self.threshold as usize,
            priority: u8::try_from(self.priority).unwrap_or(u8::MAX),
            group: self.group.unwrap_or(0),
            block_on_fault: self.block_on_fault,
            max_transfer_size: self.max_transfer_size,
            op_config: self.op_config,
            enabled: device_enabled && self.minor.is_some(),
        }
    }
}

fn post_increment(number: &mut u32) -> u32 {
    *number += 1;
    *number - 1
}
