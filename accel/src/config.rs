//! What channels are made with: the backend, its method, its window, and where devices are looked for.

use std::path::PathBuf;
#[cfg(any(test, feature = "model"))]
use std::sync::Arc;

use zfolio_fallback::Method;

use crate::Backend;
use crate::direct::{DirectConfig, Huffman, Source};

/// How channels are made.
#[derive(Clone, Debug)]
pub struct ChannelsConfig {
    /// Where pages are compressed.
    pub backend: Backend,
    /// How pages are compressed, or the backend's best.
    pub method: Option<Method>,
    /// The most pages in flight on one channel, 1 to [`MAX_WINDOW`](crate::MAX_WINDOW).
    pub window: usize,
    /// How devices are driven.
    pub direct: DirectConfig,
    /// The root of sysfs, where devices are looked for: `/sys`.
    pub sysfs: PathBuf,
    /// Where their files are: `/dev`.
    pub dev: PathBuf,
    /// The model of [`Backend::Model`]; without one a device of generation 1 is made up, without faults.
    #[cfg(any(test, feature = "model"))]
    pub model: Option<Arc<iaa_model::Model>>,
}

impl Default for ChannelsConfig {
    fn default() -> ChannelsConfig {
        ChannelsConfig {
            backend: Backend::Auto,
            method: None,
            window: 8,
            direct: DirectConfig::default(),
            sysfs: "/sys".into(),
            dev: "/dev".into(),
            #[cfg(any(test, feature = "model"))]
            model: None,
        }
    }
}

impl ChannelsConfig {
    /// How devices are driven: a method that is asked for decides on the Huffman codes.
    pub(crate) fn direct(&self) -> DirectConfig {
        let huffman = match self.method {
            None => self.direct.huffman,
            Some(Method::DeflateDynamic) => Huffman::Dynamic,
            Some(_) => Huffman::Fixed,
        };
        DirectConfig { huffman, ..self.direct }
    }

    /// Where the backend's queues come from.
    pub(crate) fn source(&self) -> Source {
        match self.backend {
            #[cfg(any(test, feature = "model"))]
            Backend::Model => Source::Model(self.model.clone().unwrap_or_else(|| {
                let memory = Box::new(iaa_model::OtherProcess::this());
                iaa_model::Model::new(iaa_model::ModelConfig::spr(1), memory)
            })),
            _ => Source::Machine { sysfs: self.sysfs.clone(), dev: self.dev.clone() },
        }
    }
}
