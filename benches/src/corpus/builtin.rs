//! Corpora from the machine itself, for a run without --corpus: live memory, programs, text.
//!
//! They are gathered for the run and kept in memory only. Each is at most 32 MiB, spread over everything there
//! is, named and hashed like a captured one. What may not be read is left out and counted.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zfolio_accel::PAGE_SIZE;

use super::live::LiveWorkload;
use super::{Corpus, CorpusError};
use crate::capture::Gathered;
use crate::capture::census::census_of;
use crate::capture::files::FileSet;
use crate::capture::process::ProcessMemory;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::quantity::plural;

const MAX_PAGES: u64 = (32 << 20) / PAGE_SIZE as u64;

/// Below this a corpus says that it is small.
const SMALL_PAGES: u64 = 256;

/// Files looked into per folder: a bound on the time before the first measurement.
const LOOKED_INTO: usize = 4096;

type Pages = Vec<[u8; PAGE_SIZE]>;

type Gatherer = fn(&Interrupt, &mut Pages) -> Result<Gathered, String>;

/// Gathers all built-in corpora. One that this machine cannot give is left out with a note on standard error.
pub(crate) fn gather(interrupt: &Interrupt, progress: &mut Progress) -> Result<Vec<Corpus>, CorpusError> {
    let mut corpora = Vec::new();
    let gatherers: [(&str, Gatherer); 3] =
        [("self-memory", self_memory), ("binaries", binaries), ("text", text)];
    for (name, gatherer) in gatherers {
        progress.show(&format!("gathering corpus {name}"));
        let mut pages = Vec::new();
        let gathered = gatherer(interrupt, &mut pages);
        progress.clear();
        if interrupt.raised() {
            return Err(CorpusError::Interrupted);
        }
        match gathered {
            Ok(_) if pages.is_empty() => {
                crate::tell(format_args!("corpus {name} is left out: no page found"))
            }
            Ok(gathered) => corpora.push(corpus(name, pages, &gathered)),
            Err(reason) => crate::tell(format_args!("corpus {name} is left out: {reason}")),
        }
    }
    if corpora.is_empty() { Err(CorpusError::NoneBuiltIn) } else { Ok(corpora) }
}

fn corpus(name: &str, pages: Pages, gathered: &Gathered) -> Corpus {
    let facts = census_of(&pages);
    let mut notes = Vec::new();
    if gathered.unreadable_files > 0 {
        notes.push(format!("{} could not be read and left out", plural(gathered.unreadable_files, "file")));
    }
    if gathered.unreadable_pages > 0 {
        notes.push(format!("{} could not be read", plural(gathered.unreadable_pages, "page")));
    }
    if facts.pages < SMALL_PAGES {
        notes.push("few pages: rates of so short a run say little".to_owned());
    }
    let mut corpus = Corpus::new(name.to_owned(), gathered.origin.clone(), pages, facts);
    corpus.notes = notes;
    corpus
}

fn keep(pages: &mut Pages) -> impl FnMut(&[u8; PAGE_SIZE]) -> io::Result<()> {
    |page| {
        pages.push(*page);
        Ok(())
    }
}

/// Anonymous memory of a workload process.
fn self_memory(interrupt: &Interrupt, pages: &mut Pages) -> Result<Gathered, String> {
    let workload = LiveWorkload::start().map_err(|error| error.to_string())?;
    let memory = ProcessMemory::open(workload.pid(), interrupt).map_err(|error| error.to_string())?;
    let origin = "live memory of a process with word counts, indexes, JSON trees, records, lists".to_owned();
    memory.gather(origin, MAX_PAGES, interrupt, &mut keep(pages)).map_err(|error| error.to_string())
}

/// This executable, shared objects and programs.
fn binaries(interrupt: &Interrupt, pages: &mut Pages) -> Result<Gathered, String> {
    let mut set = FileSet::default();
    if let Ok(program) = std::env::current_exe()
        && let Ok(facts) = program.metadata()
    {
        // One program of many: a debug build of ours may be larger than the rest together.
        set.files.push((program, (facts.len() / PAGE_SIZE as u64).min(MAX_PAGES / 8)));
    }
    for folder in ["/usr/lib", "/usr/bin"] {
        let Ok(mut found) = FileSet::below(Path::new(folder), interrupt) else { continue };
        if folder == "/usr/lib" {
            found.files.retain(|(path, _)| path.to_string_lossy().contains(".so"));
        }
        thin(&mut found);
        retain_by_head(&mut found, interrupt, |head| head.starts_with(b"\x7fELF"));
        set.unreadable += found.unreadable;
        set.files.append(&mut found.files);
    }
    let origin = "own program, shared objects below /usr/lib, programs in /usr/bin".to_owned();
    set.gather(origin, MAX_PAGES, interrupt, &mut keep(pages)).map_err(|error| error.to_string())
}

/// Text files; of the first of several folders that has enough of them.
fn text(interrupt: &Interrupt, pages: &mut Pages) -> Result<Gathered, String> {
    let mut set = FileSet::default();
    let mut folders = Vec::new();
    for folder in ["/usr/share", "/usr/include", "/usr/lib", "/etc"] {
        if set.pages() >= MAX_PAGES / 4 {
            break;
        }
        let mut found = text_candidates(Path::new(folder), interrupt);
        retain_by_head(&mut found, interrupt, looks_like_text);
        if !found.files.is_empty() {
            set.unreadable += found.unreadable;
            set.files.append(&mut found.files);
            folders.push(folder);
        }
    }
    let origin = format!("text files below {}", folders.join(", "));
    set.gather(origin, MAX_PAGES, interrupt, &mut keep(pages)).map_err(|error| error.to_string())
}

/// Files below `root` whose names do not say that they are something else than text; at most some thousands.
pub(crate) fn text_candidates(root: &Path, interrupt: &Interrupt) -> FileSet {
    const NOT_TEXT: [&str; 18] = [
        "a", "bin", "bz2", "db", "dat", "gif", "gz", "jar", "jpg", "mo", "o", "otf", "png", "pyc", "so",
        "ttf", "xz", "zip",
    ];
    let mut set = FileSet::below(root, interrupt).unwrap_or_default();
    set.files.retain(|(path, _)| {
        path.extension().is_none_or(|extension| !NOT_TEXT.iter().any(|not_text| extension == *not_text))
    });
    thin(&mut set);
    set
}

/// Leaves evenly chosen files where there are too many to look into each.
fn thin(set: &mut FileSet) {
    let (mut number, files) = (0, set.files.len());
    if files > LOOKED_INTO {
        set.files.retain(|_| {
            number += 1;
            (number - 1) * LOOKED_INTO / files != number * LOOKED_INTO / files
        });
    }
}

/// Keeps files whose first page passes; those that cannot be opened are counted.
fn retain_by_head(set: &mut FileSet, interrupt: &Interrupt, wanted: impl Fn(&[u8]) -> bool) {
    let mut head = [0u8; PAGE_SIZE];
    let mut unreadable = 0;
    set.files.retain(|(path, _)| {
        if interrupt.raised() {
            return false;
        }
        match File::open(path).and_then(|mut file| file.read_exact(&mut head)) {
            Ok(()) => wanted(&head),
            Err(_) => {
                unreadable += 1;
                false
            }
        }
    });
    set.unreadable += unreadable;
}

/// No control characters but white space, and UTF-8 but for a character cut at the end.
pub(crate) fn looks_like_text(bytes: &[u8]) -> bool {
    let control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b);
    let utf8 =
        std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to() + 4 > bytes.len(), |_| true);
    utf8 && !bytes.iter().any(|byte| control(byte) || *byte == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_binary() {
        assert!(looks_like_text("plain\ttext\nwith ümlauts".as_bytes()));
        assert!(looks_like_text(&"cut in a character: ü".as_bytes()[..21]));
        assert!(!looks_like_text(b"\x7fELF\x02\x01\x01\0\0\0"));
        assert!(!looks_like_text(b"latin-1: \xfc is not UTF-8, it goes on"));
    }

    #[test]
    fn a_long_list_of_files_is_thinned_evenly() {
        let files = (0..3 * LOOKED_INTO).map(|number| (format!("{number:06}").into(), 1)).collect();
        let mut set = FileSet { files, unreadable: 0 };
        thin(&mut set);
        assert_eq!(set.files.len(), LOOKED_INTO);
        assert!(set.files.last().unwrap().0.to_string_lossy().starts_with("0122"));
    }
}
