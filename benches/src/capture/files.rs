//! Pages of regular files: the whole pages of each, in the order of their paths.
//!
//! The walk follows no symbolic link and opens nothing but regular files. A file or folder that may not be
//! read is counted and left out; so is one that disappears.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use zfolio_accel::PAGE_SIZE;

use super::spread::Spread;
use super::{Gathered, PageSink, READ_PAGES, Source};
use crate::interrupt::Interrupt;

/// Regular files and the number of whole pages in each.
#[derive(Debug, Default)]
pub(crate) struct FileSet {
    pub(crate) files: Vec<(PathBuf, u64)>,
    /// Files and folders that could not be looked at.
    pub(crate) unreadable: u64,
}

impl FileSet {
    /// All regular files of at least one page below `root`, sorted by path.
    ///
    /// # Errors
    /// Only when `root` itself cannot be listed.
    pub(crate) fn below(root: &Path, interrupt: &Interrupt) -> io::Result<Self> {
        let mut set = Self::default();
        let mut folders = vec![fs::read_dir(root)?];
        while let Some(folder) = folders.pop() {
            for entry in folder {
                if interrupt.raised() {
                    break;
                }
                // The kind comes from the directory entry or lstat: links are seen as links.
                let Ok((entry, kind)) = entry.and_then(|entry| entry.file_type().map(|kind| (entry, kind)))
                else {
                    set.unreadable += 1;
                    continue;
                };
                if kind.is_dir() {
                    match fs::read_dir(entry.path()) {
                        Ok(folder) => folders.push(folder),
                        Err(_) => set.unreadable += 1,
                    }
                } else if kind.is_file() {
                    match entry.metadata() {
                        Ok(facts) if facts.len() >= PAGE_SIZE as u64 => {
                            set.files.push((entry.path(), facts.len() / PAGE_SIZE as u64));
                        }
                        Ok(_) => {}
                        Err(_) => set.unreadable += 1,
                    }
                }
            }
        }
        set.files.sort();
        Ok(set)
    }

    /// Whole pages of all files.
    pub(crate) fn pages(&self) -> u64 {
        self.files.iter().map(|(_, pages)| pages).sum()
    }

    /// Hands at most `max_pages` pages to `sink`, spread over all files.
    ///
    /// # Errors
    /// Only what `sink` gives.
    pub(crate) fn gather(
        mut self,
        origin: String,
        max_pages: u64,
        interrupt: &Interrupt,
        sink: &mut PageSink<'_>,
    ) -> io::Result<Gathered> {
        let candidate_pages = self.pages();
        let spread = Spread::new(candidate_pages, max_pages);
        let mut gathered = Gathered::new("files", origin, "whole pages of regular files", candidate_pages);
        gathered.to_take = spread.pages();
        let mut start = 0;
        for (path, pages) in std::mem::take(&mut self.files) {
            let mut ranges = spread.within(start, pages).peekable();
            start += pages;
            if ranges.peek().is_none() {
                continue;
            }
            // Between the walk and now the file may have become something whose opening would wait for ever.
            let file = match fs::symlink_metadata(&path).map(|facts| facts.is_file()) {
                Ok(true) => File::open(&path),
                _ => Err(io::ErrorKind::NotFound.into()),
            };
            let Ok(file) = file else {
                gathered.unreadable_files += 1;
                continue;
            };
            let mut source = Source { name: path.display().to_string(), pages: 0, candidate_pages: pages };
            for range in ranges {
                if interrupt.raised() {
                    gathered.interrupted = true;
                    break;
                }
                read_range(&file, range, &mut source, &mut gathered, sink)?;
            }
            if source.pages > 0 {
                gathered.sources.push(source);
            }
            if gathered.interrupted {
                break;
            }
        }
        gathered.unreadable_files += self.unreadable;
        Ok(gathered)
    }
}

/// Reads the pages of a range; what has become unreadable or was cut off is counted.
fn read_range(
    file: &File,
    range: std::ops::Range<u64>,
    source: &mut Source,
    gathered: &mut Gathered,
    sink: &mut PageSink<'_>,
) -> io::Result<()> {
    let mut buffer = vec![[0u8; PAGE_SIZE]; READ_PAGES];
    let mut next = range.start;
    while next < range.end {
        let wanted = (range.end - next).min(READ_PAGES as u64) as usize;
        let pages = &mut buffer[..wanted];
        match file.read_exact_at(pages.as_flattened_mut(), next * PAGE_SIZE as u64) {
            Ok(()) => {
                for page in pages.iter() {
                    sink(page)?;
                }
                source.pages += wanted as u64;
            }
            Err(_) => gathered.unreadable_pages += wanted as u64,
        }
        next += wanted as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_special_files_and_part_pages_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b"), vec![1; 2 * PAGE_SIZE + 100]).unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/x"), vec![2; PAGE_SIZE]).unwrap();
        fs::write(dir.path().join("short"), b"less than a page").unwrap();
        std::os::unix::fs::symlink("b", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("a/loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();

        let set = FileSet::below(dir.path(), &Interrupt::default()).unwrap();
        let names: Vec<_> =
            set.files.iter().map(|(path, pages)| (path.strip_prefix(&dir).unwrap(), *pages)).collect();
        assert_eq!(names, [(Path::new("a/x"), 1), (Path::new("b"), 2)]);

        let mut fills = Vec::new();
        let gathered = set
            .gather("test".into(), u64::MAX, &Interrupt::default(), &mut |page| {
                fills.push(page[PAGE_SIZE - 1]);
                Ok(())
            })
            .unwrap();
        assert_eq!(fills, [2, 1, 1]);
        assert!(gathered.incomplete().is_none());
    }

    #[test]
    fn a_file_that_shrinks_meanwhile_is_counted_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), vec![1; 4 * PAGE_SIZE]).unwrap();
        fs::write(dir.path().join("b"), vec![2; PAGE_SIZE]).unwrap();
        fs::write(dir.path().join("c"), vec![3; PAGE_SIZE]).unwrap();
        let set = FileSet::below(dir.path(), &Interrupt::default()).unwrap();
        fs::write(dir.path().join("a"), b"short now").unwrap();
        fs::remove_file(dir.path().join("b")).unwrap();
        let mut pages = 0;
        let sink = &mut |_: &[u8; PAGE_SIZE]| {
            pages += 1;
            Ok(())
        };
        let gathered = set.gather("test".into(), u64::MAX, &Interrupt::default(), sink).unwrap();
        assert_eq!((pages, gathered.unreadable_pages, gathered.unreadable_files), (1, 4, 1));
        assert!(gathered.incomplete().is_some());
    }
}
