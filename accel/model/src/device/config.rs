//! What a model consists of: devices, their groups and queues, and the profiles that are the usual ones.

use crate::clock::Clock;
use crate::fault_plan::FaultPlan;
use crate::{Capabilities, Timing};

/// Names a queue: device, and queue of that device, as in `wq1.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId {
    /// The device's number, from 0.
    pub device: u16,
    /// The queue's number in the device, from 0.
    pub queue: u16,
}

impl QueueId {
    /// Queue `queue` of device `device`.
    pub const fn new(device: u16, queue: u16) -> QueueId {
        QueueId { device, queue }
    }
}

impl std::fmt::Display for QueueId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.device, self.queue)
    }
}

/// Who may submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Many clients, by ENQCMD; refuses when it is full.
    Shared,
    /// One client, by MOVDIR64B; what overflows is lost, and an error latched.
    Dedicated,
}

/// A work queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueConfig {
    /// Its name in sysfs, the `name` attribute.
    pub name: String,
    /// Who may submit.
    pub mode: Mode,
    /// Entries.
    pub size: usize,
    /// Shared queues take a descriptor only while fewer entries than this are taken.
    pub threshold: usize,
    /// 1 to 15: how often it is served, against the other queues of its group.
    pub priority: u8,
    /// Its group in the device.
    pub group: usize,
    /// Whether descriptors may block on page faults.
    pub block_on_fault: bool,
    /// Largest transfer of a descriptor.
    pub max_transfer_size: u64,
    /// Opcodes it allows, a bit each, lowest word first.
    pub op_config: [u64; 4],
    /// Whether it takes descriptors when the model starts.
    pub enabled: bool,
}

impl QueueConfig {
    /// A shared queue of `size` entries in group 0, with the driver's defaults: threshold of all entries but one,
    /// 2 MiB a transfer, all opcodes, blocking on faults.
    pub fn shared(size: usize) -> QueueConfig {
        QueueConfig {
            name: "zfolio".to_owned(),
            mode: Mode::Shared,
            size,
            threshold: size.saturating_sub(1).max(1),
            priority: 10,
            group: 0,
            block_on_fault: true,
            max_transfer_size: 2 << 20,
            op_config: [u64::MAX; 4],
            enabled: true,
        }
    }

    /// How many descriptors may wait in it before it refuses or loses the next.
    pub fn capacity(&self) -> usize {
        match self.mode {
            Mode::Shared => self.threshold.min(self.size),
            Mode::Dedicated => self.size,
        }
    }

    /// A dedicated queue of `size` entries in group 0, otherwise as [`QueueConfig::shared`].
    pub fn dedicated(size: usize) -> QueueConfig {
        QueueConfig { mode: Mode::Dedicated, threshold: 0, ..QueueConfig::shared(size) }
    }
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// What its registers say.
    pub capabilities: Capabilities,
    /// The memory node it is attached to.
    pub nid: u32,
    /// Engines of each group; a group of none executes nothing.
    pub groups: Vec<usize>,
    /// Its queues.
    pub queues: Vec<QueueConfig>,
}

impl DeviceConfig {
    /// A device on node `nid`: eight engines in one group, one shared queue of 128 entries.
    pub fn new(capabilities: Capabilities, nid: u32) -> DeviceConfig {
        DeviceConfig { capabilities, nid, groups: vec![8], queues: vec![QueueConfig::shared(128)] }
    }

    /// The same with these queues.
    #[must_use]
    pub fn with_queues(self, queues: impl IntoIterator<Item = QueueConfig>) -> DeviceConfig {
        DeviceConfig { queues: queues.into_iter().collect(), ..self }
    }
}

/// A model: devices, and how time and faults go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// The devices.
    pub devices: Vec<DeviceConfig>,
    /// What things take.
    pub timing: Timing,
    /// Whose time it is.
    pub clock: Clock,
    /// What goes wrong.
    pub faults: FaultPlan,
    /// The node whose CPUs submit: devices of other nodes answer more slowly. `None`: each device is near.
    pub cpu_nid: Option<u32>,
}

impl ModelConfig {
    /// `devices` of generation 1 on node 0, as [`DeviceConfig::new`] makes them, stepped, without faults.
    pub fn spr(devices: usize) -> ModelConfig {
        ModelConfig::of(Capabilities::SPR, Timing::SPR, devices)
    }

    /// The same of generation 2.
    pub fn gnr(devices: usize) -> ModelConfig {
        ModelConfig::of(Capabilities::GNR, Timing::GNR, devices)
    }

    fn of(capabilities: Capabilities, timing: Timing, devices: usize) -> ModelConfig {
        ModelConfig {
            devices: vec![DeviceConfig::new(capabilities, 0); devices],
            timing,
            clock: Clock::Stepped,
            faults: FaultPlan::none(),
            cpu_nid: None,
        }
    }

    /// The same with these queues in every device.
    #[must_use]
    pub fn with_queues(mut self, queues: impl IntoIterator<Item = QueueConfig>) -> ModelConfig {
        let queues: Vec<_> = queues.into_iter().collect();
        for device in &mut self.devices {
            device.queues.clone_from(&queues);
        }
        self
    }

    /// The same with these faults.
    #[must_use]
    pub fn with_faults(self, faults: FaultPlan) -> ModelConfig {
        ModelConfig { faults, ..self }
    }

    /// The same with this clock.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> ModelConfig {
        ModelConfig { clock, ..self }
    }
}
