//! Pages to compressed bytes and back, for zfolio.
//!
//! This crate knows pages, codecs, engines and the machine's nodes and packages; it knows nothing of swap.
//!
//! A thread borrows a [`Channel`] from [`Channels`] for the time of one call. The channel feeds pages to an
//! [`Engine`], which keeps up to [`Engine::window`] of them in flight and hands each result to the caller's sink
//! as it completes, in order. Pages that an engine fails are done again in software, and counted by cause.
//!
//! ```
//! use zfolio_accel::{Channels, ChannelsConfig, Compressed, Purpose, Topology};
//!
//! let channels = Channels::new(ChannelsConfig::default(), &Topology::single_node())?;
//! let page = [7u8; zfolio_accel::PAGE_SIZE];
//! let mut stored = Vec::new();
//! let mut sink = |_index, outcome: Compressed<'_>| {
//!     if let Compressed::Bytes { bytes, .. } = outcome {
//!         stored.extend_from_slice(bytes);
//!     }
//! };
//! channels.with(Purpose::Store, |channel| channel.compress(&mut [&page].into_iter(), &mut sink));
//! assert!(stored.len() < zfolio_accel::PAGE_SIZE / 8);
//! # Ok::<(), zfolio_accel::BackendError>(())
//! ```

#![deny(unsafe_code)]

mod backend;
mod channel;
mod channels;
mod config;
pub mod direct;
pub mod discover;
mod engine;
mod fallbacks;
mod fork;
pub mod numa;
mod page;
mod prefetch;
mod qpl;
mod software;
mod thread;
mod topology;
mod try_lock;

pub use backend::{Backend, BackendError, UnknownBackend};
pub use channel::Channel;
pub use channels::{Channels, Purpose};
pub use config::ChannelsConfig;
pub use engine::{Compressed, Engine, EngineError, Job, MAX_WINDOW, Outcome};
pub use fallbacks::FallbackCounts;
pub use fork::ForkGuard;
pub use page::{PAGE_SIZE, Page, PageBytes, crc32, repeated_word};
pub use software::Software;
pub use thread::thread_index;
pub use topology::{Node, NodeId, Topology, TopologyError};
pub use zfolio_fallback::{Codec, DecodeError, Method};
