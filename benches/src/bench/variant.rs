//! A store to measure: one method of compressing, with the rest of the configuration alike.

use zfolio::{Config, Limit, Placement, Zswap};
use zfolio_accel::{Method, PAGE_SIZE, Topology};

use super::worker::SWAP_TYPE;
use super::{BenchError, Setup, device, phases};

/// What `--codec` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CodecChoice {
    /// LZ4 blocks
    Lz4,
    /// DEFLATE that an Intel IAA can read
    Deflate,
    /// The same with Huffman codes of each page's own: denser, slower
    DeflateDynamic,
    /// The vector word codec, fast where the CPU has AVX-512 or AVX2
    Vw,
    /// The same for speed
    VwFast,
    /// The same for density
    VwDense,
    /// Page by page: lz4 for text, vw or vw-dense for others
    Auto,
    /// The store's own choice for this machine, the same for all pages
    Default,
}

impl CodecChoice {
    /// The method of that name, unless the store is to choose.
    fn method(self) -> Option<Method> {
        match self {
            Self::Lz4 => Some(Method::Lz4),
            Self::Deflate => Some(Method::Deflate),
            Self::DeflateDynamic => Some(Method::DeflateDynamic),
            Self::Vw => Some(Method::Vw),
            Self::VwFast => Some(Method::VwFast),
            Self::VwDense => Some(Method::VwDense),
            Self::Auto => Some(Method::PerPage),
            Self::Default => None,
        }
    }
}

/// What `--policy` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PolicyChoice {
    /// On the page's node, elsewhere while that has no memory
    Prefer,
    /// On the page's node or nowhere
    Bind,
    /// In any hole of the size, on the page's node first
    Dense,
}

impl PolicyChoice {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prefer => "prefer",
            Self::Bind => "bind",
            Self::Dense => "dense",
        }
    }

    fn placement(self) -> Placement {
        match self {
            Self::Prefer => Placement::Prefer,
            Self::Bind => Placement::Bind,
            Self::Dense => Placement::Dense,
        }
    }
}

/// A store and how it came to be as it is. Its arena stays warm from round to round.
pub(crate) struct Variant {
    pub(crate) zswap: Zswap,
    pub(crate) method: Method,
    pub(crate) codec_reason: &'static str,
    /// The backend's name alone, and with the reason for it.
    pub(crate) backend: String,
    pub(crate) backend_report: String,
}

impl Variant {
    /// Opens the stores to compare: what `--codec` names, or three codecs when it is not given.
    pub(crate) fn open_all(setup: &Setup, pages: u32) -> Result<Vec<Self>, BenchError> {
        if setup.codec.is_some() || setup.backend.is_device() {
            return Ok(vec![Self::open_one(setup, pages)?]);
        }
        let compared = "compared with the other codecs, as none was asked for";
        let open = |method| Self::open(Some(method), compared, setup, pages);
        [Method::Lz4, Method::Deflate, Method::Vw].into_iter().map(open).collect()
    }

    /// Opens the store of the codec that `--codec` names, or of the store's own choice.
    pub(crate) fn open_one(setup: &Setup, pages: u32) -> Result<Self, BenchError> {
        match setup.codec.and_then(CodecChoice::method) {
            Some(method) => Self::open(Some(method), "asked for", setup, pages),
            None if setup.backend.is_device() => Self::open(None, "the device's", setup, pages),
            None => Self::open(None, Method::best().1, setup, pages),
        }
    }

    fn open(
        method: Option<Method>,
        codec_reason: &'static str,
        setup: &Setup,
        pages: u32,
    ) -> Result<Self, BenchError> {
        // The default, a share of memory, may be less than the corpus; a full pool is not what is measured.
        let memory_bytes = setup.machine.memory_bytes.max(u64::from(pages) * 2 * PAGE_SIZE as u64);
        let max_pool = Limit::Bytes(memory_bytes);
        // A warm round is warm all through, whatever the size of the corpus.
        let warm_bytes = memory_bytes;
        let config = Config {
            backend: setup.backend.backend(),
            method,
            window: setup.window,
            max_pool,
            placement: setup.policy.placement(),
            warm_bytes,
            ..Config::default()
        };
        let error = |error: &dyn std::fmt::Display| BenchError::Store(error.to_string());
        let topology = Topology::read(&config.sysfs).map_err(|reason| error(&reason))?;
        let model = setup.device.model(setup.backend);
        let channels = device::channels(setup.backend, method, setup.window, &topology, model.as_ref());
        let mut channels = channels.map_err(BenchError::Store)?;
        if setup.phases.is_some() {
            channels = phases::timed(channels);
        }
        let zswap = Zswap::with_channels(config, &topology, channels).map_err(|reason| error(&reason))?;
        zswap.swapon(SWAP_TYPE, pages).map_err(|error| BenchError::Store(error.to_string()))?;
        let backend_report = zswap.backend_report().to_string();
        let backend = backend_report.split([' ', ':', '(']).next().unwrap_or_default().to_owned();
        Ok(Self { method: zswap.method(), zswap, codec_reason, backend, backend_report })
    }
}
