//! Corpora: named, hashed sets of real pages that a benchmark runs on.
//!
//! Read from FILE.pages, or gathered from the machine itself. A corpus is whole and is what its manifest says, or
//! it is an error: numbers over half a file would be compared with numbers over the other half.

pub(crate) mod builtin;
pub(crate) mod live;
pub(crate) mod random;
pub(crate) mod workload;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zfolio_accel::PAGE_SIZE;

use crate::capture::census::{PageFacts, census_of};
use crate::capture::page_file::{ManifestCheck, manifest_path};
use crate::capture::spread::Spread;

/// Why there is no corpus.
#[derive(Debug)]
pub(crate) enum CorpusError {
    Read { path: PathBuf, error: io::Error },
    Empty { path: PathBuf },
    Truncated { path: PathBuf, length: u64 },
    Manifest { path: PathBuf, what: String },
    NoneBuiltIn,
    Interrupted,
}

impl std::fmt::Display for CorpusError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read { path, error } => write!(
                f,
                "corpus {} cannot be read: {error}; make one with `zfolio capture --self --out FILE.pages`",
                path.display()
            ),
            Self::Empty { path } => write!(
                f,
                "corpus {} is empty; make one with `zfolio capture --self --out FILE.pages`, or leave --corpus \
                 away to use pages of this machine",
                path.display()
            ),
            Self::Truncated { path, length } => {
                let whole = length / PAGE_SIZE as u64;
                write!(
                    f,
                    "corpus {} is truncated: its {length} bytes are {whole} pages of {PAGE_SIZE} and {} bytes; capture it \
                     again, or cut the rest off with `truncate -s {} FILE.pages`",
                    path.display(),
                    length % PAGE_SIZE as u64,
                    whole * PAGE_SIZE as u64
                )
            }
            Self::Manifest { path, what } => write!(
                f,
                "corpus {} is not what its manifest says: {what}; capture it again, or remove the manifest {} if \
                 the pages are meant to be so",
                path.display(),
                manifest_path(path).display()
            ),
            Self::NoneBuiltIn => {
                f.write_str("this machine gives no pages to measure with; capture some with `zfolio capture` and give --corpus")
            }
            Self::Interrupted => f.write_str("interrupted while the corpora were gathered; nothing measured yet"),
        }
    }
}

/// Pages to measure with, and what they are.
pub(crate) struct Corpus {
    pub(crate) name: String,
    pub(crate) origin: String,
    pub(crate) pages: Vec<[u8; PAGE_SIZE]>,
    /// Of the corpus as it was gathered, before `--pages` cuts it.
    pub(crate) facts: PageFacts,
    /// What a reader of its numbers ought to know.
    pub(crate) notes: Vec<String>,
    /// Pages before the first repeats.
    period: usize,
}

impl Corpus {
    fn new(name: String, origin: String, pages: Vec<[u8; PAGE_SIZE]>, facts: PageFacts) -> Self {
        Self { name, origin, period: pages.len(), pages, facts, notes: Vec::new() }
    }

    /// Reads FILE.pages and compares it with its manifest, where there is one.
    pub(crate) fn read(path: &Path) -> Result<Self, CorpusError> {
        let read_error = |error| CorpusError::Read { path: path.to_owned(), error };
        // Before it is opened: that would wait for a FIFO's writer.
        require_file(path).map_err(read_error)?;
        let mut file = File::open(path).map_err(read_error)?;
        let facts = file.metadata().map_err(read_error)?;
        let mut pages = vec![[0u8; PAGE_SIZE]; (facts.len() / PAGE_SIZE as u64) as usize];
        let mut rest = Vec::new();
        // A file that has grown meanwhile: what comes beyond the length is read too.
        file.read_exact(pages.as_flattened_mut())
            .and_then(|()| file.read_to_end(&mut rest))
            .map_err(read_error)?;
        let length = (pages.as_flattened().len() + rest.len()) as u64;
        if length == 0 {
            return Err(CorpusError::Empty { path: path.to_owned() });
        }
        if !length.is_multiple_of(PAGE_SIZE as u64) {
            return Err(CorpusError::Truncated { path: path.to_owned(), length });
        }
        let (more, _) = rest.as_chunks::<PAGE_SIZE>();
        pages.extend_from_slice(more);
        let facts = census_of(&pages);
        let origin = check_manifest(path, &facts)?.unwrap_or_else(|| "no manifest beside it".to_owned());
        let name =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into());
        Ok(Self::new(name, origin, pages, facts))
    }

    /// Prepares the corpus for exactly `count` pages in folios of `folio_pages`: repeated, or cut evenly.
    pub(crate) fn arrange(&mut self, count: u64, folio_pages: u32) {
        let have = self.pages.len() as u64;
        if count < have {
            let mut spread = Spread::new(have, count);
            if spread.pages() < count {
                // Whole runs leave a rest of less than a run; single pages do not.
                spread = Spread::exactly(have, count);
            }
            let chosen = spread.within(0, have).flat_map(|range| range.start..range.end);
            self.pages = chosen.map(|page| self.pages[page as usize]).collect();
        }
        self.period = self.pages.len();
        if count > have {
            // A folio that reaches over the end of the corpus goes on at its beginning; so much of the
            // beginning stands after the end that every folio is one slice.
            for page in 0..folio_pages as usize - 1 {
                self.pages.push(self.pages[page % self.period]);
            }
        }
    }

    /// The pages that [`Corpus::arrange`] has prepared.
    pub(crate) fn arranged(&self) -> Arranged<'_> {
        Arranged { pages: &self.pages, period: self.period }
    }
}

/// The pages of a run: page `n` is page `n % period` of the corpus.
#[derive(Clone, Copy)]
pub(crate) struct Arranged<'a> {
    pages: &'a [[u8; PAGE_SIZE]],
    period: usize,
}

impl<'a> Arranged<'a> {
    pub(crate) fn page(&self, number: u32) -> &'a [u8; PAGE_SIZE] {
        &self.pages[number as usize % self.period]
    }

    /// Pages before the first repeats.
    pub(crate) fn period(&self) -> u32 {
        self.period as u32
    }

    /// `count` pages in a row, at most a folio.
    pub(crate) fn pages(&self, first: u32, count: usize) -> &'a [[u8; PAGE_SIZE]] {
        let first = first as usize % self.period;
        &self.pages[first..first + count]
    }
}

/// An error for what is not a regular file, or a link to one.
fn require_file(path: &Path) -> io::Result<()> {
    let facts = fs::metadata(path)?;
    if facts.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !facts.is_file() {
        let what = "it is not a regular file (a pipe, a device or a socket)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    Ok(())
}

/// The origin in the manifest, if there is one.
fn check_manifest(path: &Path, facts: &PageFacts) -> Result<Option<String>, CorpusError> {
    let differs = |what| CorpusError::Manifest { path: path.to_owned(), what };
    let manifest = manifest_path(path);
    let text = match require_file(&manifest).and_then(|()| fs::read_to_string(&manifest)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(differs(format!("the manifest cannot be read ({error})"))),
    };
    let manifest: ManifestCheck = serde_json::from_str(&text)
        .map_err(|error| differs(format!("the manifest is not readable ({error})")))?;
    if manifest.pages != facts.pages {
        return Err(differs(format!("{} pages, and the manifest says {}", facts.pages, manifest.pages)));
    }
    if manifest.sha256 != facts.sha256 {
        return Err(differs("the sha256 differs".to_owned()));
    }
    Ok(Some(manifest.origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(pages: u8) -> Corpus {
        let pages: Vec<_> = (0..pages).map(|fill| [fill; PAGE_SIZE]).collect();
        let facts = census_of(&pages);
        Corpus::new("test".into(), String::new(), pages, facts)
    }

    #[test]
    fn a_repeated_corpus_goes_round_and_every_folio_is_one_slice() {
        for (have, folio) in [(5u8, 16u32), (40, 16), (1, 512)] {
            let mut corpus = corpus(have);
            corpus.arrange(1_024, folio);
            let arranged = corpus.arranged();
            for first in (0..1_024u32).step_by(folio as usize) {
                for (place, page) in arranged.pages(first, folio as usize).iter().enumerate() {
                    assert_eq!(u32::from(page[0]), (first + place as u32) % u32::from(have));
                    assert_eq!(page, arranged.page(first + place as u32));
                }
            }
        }
    }

    #[test]
    fn a_cut_corpus_has_exactly_the_pages_asked_for_in_order_and_from_everywhere() {
        for count in [1u64, 15, 16, 17, 50, 99] {
            let mut corpus = corpus(100);
            corpus.arrange(count, 16);
            let arranged = corpus.arranged();
            let fills: Vec<u8> = (0..count as u32).map(|number| arranged.page(number)[0]).collect();
            assert!(fills.is_sorted_by(|a, b| a < b), "{fills:?}");
            if count > 40 {
                assert!(fills[0] < 20 && *fills.last().unwrap() > 80, "{fills:?}");
            }
            assert_eq!(corpus.pages.len() as u64, count);
        }
    }
}
