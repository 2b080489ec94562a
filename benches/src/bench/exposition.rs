//! `--prometheus FILE`: the stores' figures where node_exporter's textfile collector finds them.
//!
//! A reader sees a whole text or the one before: it is written beside the file, under a name that no collector takes, and
//! renamed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use zfolio::{Prometheus, Zswap};

/// The file, and the figures so far. Without a file it does nothing.
#[derive(Default)]
pub(super) struct Exposition {
    path: Option<PathBuf>,
    figures: Prometheus,
    /// Why the file could not be written of late.
    failed: Option<io::Error>,
}

impl Exposition {
    /// Writes a text without figures, so that a file that cannot be written is found out before anything is measured.
    pub(super) fn create(path: Option<&Path>) -> io::Result<Exposition> {
        let exposition = Exposition { path: path.map(Path::to_owned), ..Exposition::default() };
        exposition.write()?;
        Ok(exposition)
    }

    /// Takes down the figures of a store, and writes those of all stores so far. The measurement goes on if that fails.
    pub(super) fn take(&mut self, zswap: &Zswap, labels: &[(&str, &str)]) {
        if self.path.is_some() {
            self.figures.add(zswap, labels);
            self.failed = self.write().err();
        }
    }

    /// Says whether the last text was written.
    pub(super) fn finish(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }

    fn write(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let Some(name) = path.file_name() else { return Err(io::ErrorKind::IsADirectory.into()) };
        let beside = path.with_file_name(format!(".{}.{}.new", name.display(), process::id()));
        let written = fs::write(&beside, self.figures.to_string()).and_then(|()| fs::rename(&beside, path));
        if written.is_err() {
            // It may not be there; the first error is the one to tell.
            let _ = fs::remove_file(&beside);
        }
        written
    }
}
