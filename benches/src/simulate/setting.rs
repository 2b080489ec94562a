//! What is simulated: devices, queues, and the threads that submit to them.

use iaa_model::{DeviceConfig, ModelConfig, QueueConfig};

use crate::bench::{Profile, Queues};

/// Work queues that a device has at most.
pub(crate) const MOST_QUEUES: u16 = 8;

/// Entries that a device has for all of its queues.
pub(crate) const ENTRIES: u16 = 128;

/// A machine and a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) profile: Profile,
    /// Devices of the machine, dealt to its sockets.
    pub(crate) devices: u16,
    /// Sockets, to which threads are dealt as well.
    pub(crate) sockets: u16,
    pub(crate) queues: Queues,
    /// Processes, to which threads are dealt.
    pub(crate) processes: u16,
    pub(crate) threads: u16,
    /// Pages that a thread has in flight.
    pub(crate) window: u16,
    /// Pages of a store call.
    pub(crate) folio_pages: u32,
    /// Pages loaded, of all pages stored and loaded.
    pub(crate) loads_percent: u8,
}

impl Setting {
    /// Why it cannot be; `None` if it can.
    pub(crate) fn impossible(&self) -> Option<&'static str> {
        match self {
            Setting { processes, threads, .. } if processes > threads => {
                Some("each process has a thread at least")
            }
            Setting { queues: Queues::Dedicated, processes, .. } if *processes > MOST_QUEUES => {
                Some("a dedicated queue serves one process, and a device has 8 queues")
            }
            _ => None,
        }
    }

    /// The devices. A dedicated queue is one process's, so each gets one with its part of the entries; a shared queue is
    /// everybody's.
    pub(crate) fn model(&self) -> ModelConfig {
        let config = match self.profile {
            Profile::Spr => ModelConfig::spr(usize::from(self.devices)),
            Profile::Gnr => ModelConfig::gnr(usize::from(self.devices)),
        };
        let config = match self.queues {
            Queues::Shared => config.with_queues([QueueConfig::shared(usize::from(ENTRIES))]),
            Queues::Dedicated => {
                let part = QueueConfig::dedicated(usize::from(ENTRIES / self.processes));
                config.with_queues(vec![part; usize::from(self.processes)])
            }
        };
        let devices = config.devices.into_iter().enumerate();
        let sockets = u32::from(self.sockets);
        let devices = devices.map(|(number, device)| DeviceConfig { nid: number as u32 % sockets, ..device });
        ModelConfig { devices: devices.collect(), ..config }
    }
}
