//! Why nothing was measured.

use std::io;
use std::path::PathBuf;

use super::MAX_PAGES;
use crate::corpus::CorpusError;

/// Why nothing was measured.
#[derive(Debug)]
pub(crate) enum BenchError {
    Sides(String),
    Corpus(CorpusError),
    Json { path: PathBuf, error: io::Error },
    Prometheus { path: PathBuf, error: io::Error },
    Resume { path: PathBuf, error: io::Error },
    Store(String),
    Peer(String),
    Threads(io::Error),
    Layout(io::Error),
    Perturb(String),
    NoMemory { pages: u32, bytes: u64 },
    TooManyPages { corpus: String, pages: u64 },
    TooManyThreads { corpus: String, pages: u64, threads: usize },
}

impl std::fmt::Display for BenchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sides(error) => f.write_str(error),
            Self::Corpus(error) => error.fmt(f),
            Self::Json { path, error } | Self::Prometheus { path, error } => {
                write!(f, "{} cannot be written: {error}", path.display())
            }
            Self::Resume { path, error } => {
                write!(f, "a sweep cannot go on with {}: {error}", path.display())
            }
            Self::Store(error) => write!(f, "the store cannot be opened: {error}"),
            Self::Layout(error) => write!(f, "the process cannot be started anew in its layout: {error}"),
            Self::Perturb(error) => f.write_str(error),
            Self::Peer(error) => write!(f, "a peer failed: {error}"),
            Self::Threads(error) => write!(f, "threads cannot be started: {error}"),
            Self::NoMemory { pages, bytes } => {
                let gib = (*bytes as f64 / f64::from(1 << 30)).max(0.1);
                write!(
                    f,
                    "the list of {pages} pages alone needs about {gib:.1} GiB; ask for fewer pages (--pages)"
                )
            }
            Self::TooManyPages { corpus, pages } => {
                write!(
                    f,
                    "corpus {corpus} has {pages} pages; at most {MAX_PAGES} can be measured: cut it with --pages"
                )
            }
            Self::TooManyThreads { corpus, pages, threads } => write!(
                f,
                "corpus {corpus}: {pages} pages make fewer folios than the {threads} threads; ask for fewer \
                 --threads, a smaller --folio or more --pages"
            ),
        }
    }
}
