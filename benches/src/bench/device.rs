//! Which devices are measured: those of the machine, or modelled ones.
//!
//! A modelled device on the replay clock answers when the real one would have, by what has been published and
//! measured of it; the time inside the model is not counted, nor is the time that other programs take. Every figure made so is the device's by calibration and
//! ours for real, and reports say so.

use std::sync::Arc;

use iaa_model::{Clock, Model, ModelConfig, OtherProcess, QueueConfig};
use zfolio_accel::{Backend, Channels, ChannelsConfig, Method, Topology};

/// What `--backend` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BackendChoice {
    /// The best this machine has; the table says which and why
    Auto,
    /// The CPU
    Software,
    /// Intel IAA, driven directly
    Direct,
    /// The same driver on IAA in software
    Model,
    /// Intel IAA through Intel's QPL
    Qpl,
    /// QPL's own software
    QplSoftware,
}

impl BackendChoice {
    pub(crate) fn backend(self) -> Backend {
        match self {
            Self::Auto => Backend::Auto,
            Self::Software => Backend::Software,
            Self::Direct => Backend::Direct,
            Self::Model => Backend::Model,
            Self::Qpl => Backend::Qpl,
            Self::QplSoftware => Backend::QplSoftware,
        }
    }

    /// Whether it is for certain that pages are compressed by a device or its library, which know one codec.
    pub(crate) fn is_device(self) -> bool {
        !matches!(self, Self::Auto | Self::Software)
    }
}

/// Generations of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Sapphire and Emerald Rapids
    Spr,
    /// Granite Rapids
    Gnr,
}

/// Kinds of queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Queues {
    /// One client, by MOVDIR64B
    Dedicated,
    /// Many clients, by ENQCMD
    Shared,
}

/// Clocks of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ClockChoice {
    /// Answers come when a real device would have given them
    Replay,
    /// Wall time, the model's own work included: how fast the model is, not the device
    Real,
}

/// What is modelled.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Modelled devices, with one work queue of 128 entries each
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=8))]
    pub(super) devices: u16,
    #[command(flatten)]
    pub(super) kind: DeviceKind,
}

/// What modelled devices are like, however many there are.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct DeviceKind {
    /// What the modelled devices are
    #[arg(long, value_enum, default_value = "spr")]
    profile: Profile,
    /// What their work queues are
    #[arg(long, value_enum, default_value = "dedicated")]
    queues: Queues,
    /// Whose time it is with a modelled device
    #[arg(long, value_enum, default_value = "replay")]
    clock: ClockChoice,
}

impl DeviceArgs {
    /// Why `threads` threads cannot be measured with it.
    pub(crate) fn check(&self, backend: BackendChoice, threads: u64) -> Result<(), String> {
        if backend == BackendChoice::Model && self.kind.clock == ClockChoice::Replay && threads > 1 {
            return Err("--clock replay holds for one thread; --threads is more".to_owned());
        }
        Ok(())
    }

    /// The model to measure, where one is asked for; a new one each time.
    pub(crate) fn model(&self, backend: BackendChoice) -> Option<Arc<Model>> {
        if backend != BackendChoice::Model {
            return None;
        }
        let devices = usize::from(self.devices);
        let config = match self.kind.profile {
            Profile::Spr => ModelConfig::spr(devices),
            Profile::Gnr => ModelConfig::gnr(devices),
        };
        let queue = match self.kind.queues {
            Queues::Dedicated => QueueConfig::dedicated(128),
            Queues::Shared => QueueConfig::shared(128),
        };
        let clock = match self.kind.clock {
            ClockChoice::Replay => Clock::Replay,
            ClockChoice::Real => Clock::Stepped,
        };
        let config = config.with_queues([queue]).with_clock(clock);
        Some(Model::new(config, Box::new(OtherProcess::this())))
    }

    /// What is modelled, in words; `None` where nothing is.
    pub(crate) fn describe(&self, backend: BackendChoice) -> Option<String> {
        let Self { devices, kind: DeviceKind { profile, queues, clock } } = self;
        let queues = match queues {
            Queues::Dedicated => "dedicated queues by MOVDIR64B",
            Queues::Shared => "shared queues by ENQCMD",
        };
        let clock = match clock {
            ClockChoice::Replay => {
                "replay clock: the device's latency by calibration, everything else for real"
            }
            ClockChoice::Real => "wall time of the model itself, which says nothing of a device",
        };
        let name = match profile {
            Profile::Spr => "spr",
            Profile::Gnr => "gnr",
        };
        let devices = crate::quantity::plural(u64::from(*devices), "device");
        (backend == BackendChoice::Model).then(|| format!("{devices} of profile {name}, {queues}; {clock}"))
    }
}

/// Channels of `backend`; on `model` where there is one.
pub(crate) fn channels(
    backend: BackendChoice,
    method: Option<Method>,
    window: usize,
    topology: &Topology,
    model: Option<&Arc<Model>>,
) -> Result<Channels, String> {
    let config = ChannelsConfig {
        backend: backend.backend(),
        method,
        window,
        model: model.cloned(),
        ..ChannelsConfig::default()
    };
    Channels::new(config, topology).map_err(|error| error.to_string())
}
