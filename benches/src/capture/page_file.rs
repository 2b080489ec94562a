//! A capture on disk: FILE.pages, raw pages one after another, and FILE.pages.json, its manifest.
//!
//! Both are written under temporary names beside their final ones and renamed when they are complete, so a
//! name that does not begin with a dot is never half a capture.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zfolio_accel::PAGE_SIZE;

use super::census::{Census, PageFacts};
use super::{Gathered, Source};
use crate::machine::{self, Machine};

/// FILE.pages.json: what the pages are and where they come from.
#[derive(Debug, Serialize)]
pub(crate) struct Manifest<'a> {
    pub(crate) format: &'static str,
    pub(crate) tool: String,
    pub(crate) captured_at: String,
    pub(crate) machine: Machine,
    /// `process`, `workload` or `files`.
    pub(crate) kind: &'a str,
    /// What was asked for, and by which rule its pages were chosen.
    pub(crate) origin: &'a str,
    pub(crate) selection: &'a str,
    /// Everything that was asked for is there; else `incomplete_because` says what happened.
    pub(crate) complete: bool,
    pub(crate) incomplete_because: Option<String>,
    pub(crate) page_bytes: usize,
    #[serde(flatten)]
    pub(crate) facts: PageFacts,
    /// Pages there were to choose from; more than `pages` when --max cut.
    pub(crate) candidate_pages: u64,
    pub(crate) unreadable_pages: u64,
    pub(crate) unreadable_files: u64,
    pub(crate) sources: &'a [Source],
}

impl<'a> Manifest<'a> {
    pub(crate) fn new(gathered: &'a Gathered, facts: PageFacts) -> Self {
        Self {
            format: "zfolio-pages-1",
            tool: format!("zfolio {}", env!("CARGO_PKG_VERSION")),
            captured_at: machine::now_utc(),
            machine: Machine::read(),
            kind: gathered.kind,
            origin: &gathered.origin,
            selection: gathered.selection,
            complete: gathered.incomplete().is_none(),
            incomplete_because: gathered.incomplete(),
            page_bytes: PAGE_SIZE,
            facts,
            candidate_pages: gathered.candidate_pages,
            unreadable_pages: gathered.unreadable_pages,
            unreadable_files: gathered.unreadable_files,
            sources: &gathered.sources,
        }
    }
}

/// The part of a manifest that a reader of the pages checks.
#[derive(Debug, Deserialize)]
pub(crate) struct ManifestCheck {
    pub(crate) pages: u64,
    pub(crate) sha256: String,
    pub(crate) origin: String,
}

/// FILE.pages.json of FILE.pages.
pub(crate) fn manifest_path(pages: &Path) -> PathBuf {
    let mut name = pages.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

/// A capture being written. Dropping it removes what has been written; [`PageFile::commit`] keeps it.
pub(crate) struct PageFile {
    target: PathBuf,
    temporary: Temporary,
    out: BufWriter<File>,
    census: Census,
}

impl PageFile {
    /// Starts a capture that will be `target`.
    pub(crate) fn create(target: &Path) -> io::Result<Self> {
        refuse_all_but_a_file(target)?;
        refuse_all_but_a_file(&manifest_path(target))?;
        let temporary = Temporary::beside(target)?;
        let out = BufWriter::with_capacity(1 << 20, temporary.create()?);
        Ok(Self { target: target.to_owned(), temporary, out, census: Census::default() })
    }

    /// Adds a page.
    pub(crate) fn push(&mut self, page: &[u8; PAGE_SIZE]) -> io::Result<()> {
        self.out.write_all(page)?;
        self.census.add(page);
        Ok(())
    }

    /// Pages so far.
    pub(crate) fn pages(&self) -> u64 {
        self.census.pages()
    }

    /// Gives both files their names. An older manifest goes first, so that no moment pairs it with new pages.
    pub(crate) fn commit(self, gathered: &Gathered) -> io::Result<PageFacts> {
        let Self { target, temporary, out, census } = self;
        let facts = census.finish();
        out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let manifest = manifest_path(&target);
        let temporary_manifest = Temporary::beside(&manifest)?;
        let mut text = serde_json::to_string_pretty(&Manifest::new(gathered, facts.clone()))?;
        text.push('\n');
        temporary_manifest.create()?.write_all(text.as_bytes())?;
        match fs::remove_file(&manifest) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        temporary.rename(&target)?;
        temporary_manifest.rename(&manifest)?;
        Ok(facts)
    }
}

/// A capture takes the place of what has its name: of a file only, never of a device, a FIFO, a directory or a
/// link, which nobody meant to lose.
fn refuse_all_but_a_file(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(facts) => facts.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if kind.is_file() {
        return Ok(());
    }
    let what = if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "something else"
    };
    let text = format!(
        "{} is {what}, not a regular file, and would be replaced; give a name that is free or a file's",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// A file under a temporary name. Dropping it removes the file.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// `.NAME.PID.tmp` in the same directory: a rename never leaves the file system.
    fn beside(target: &Path) -> io::Result<Self> {
        let Some(name) = target.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "has no file name"));
        };
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}.tmp", std::process::id()));
        Ok(Self { path: target.with_file_name(temporary) })
    }

    /// Creates the file, for its owner only: memory holds secrets. Never through a link that somebody put there.
    fn create(&self) -> io::Result<File> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)
    }

    fn rename(self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing under this name; otherwise nothing more can be done about it.
        let _ = fs::remove_file(&self.path);
    }
}
