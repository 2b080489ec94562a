//! Pages of a live process: its anonymous private memory, through /proc/PID/maps, pagemap and mem.
//!
//! The process is not stopped. A page may change while it is read, and the whole is no instant of the process;
//! each page is what a swap-out at that moment could have seen, which is what a corpus is for.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use zfolio_accel::PAGE_SIZE;

use super::spread::Spread;
use super::{Gathered, PageSink, READ_PAGES, Source};
use crate::interrupt::Interrupt;

/// Bits of a /proc/PID/pagemap word (the kernel's Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const FILE_OR_SHARED: u64 = 1 << 61;

/// Why a process could not be captured at all.
#[derive(Debug)]
pub(crate) enum ProcessError {
    NoSuchProcess { pid: u32 },
    OwnProcess,
    NoPermission { pid: u32 },
    NoMemory { pid: u32 },
    Read { pid: u32, error: io::Error },
}

impl std::fmt::Display for ProcessError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoSuchProcess { pid } => write!(f, "there is no process {pid}, or it has just ended"),
            Self::OwnProcess => write!(
                f,
                "process {} is this capture itself, whose memory is mostly its own buffers; for live memory of \
                 zfolio use --self",
                std::process::id()
            ),
            Self::NoPermission { pid } => write!(
                f,
                "no permission to read the memory of process {pid}: run as its user or as root; where \
                 /proc/sys/kernel/yama/ptrace_scope is 1 or more, only root or a parent may"
            ),
            Self::NoMemory { pid } => {
                write!(
                    f,
                    "process {pid} has no memory of its own: a kernel thread, or a process that has ended"
                )
            }
            Self::Read { pid, error } => write!(f, "memory of process {pid} cannot be read: {error}"),
        }
    }
}

/// A private mapping and its pages worth reading.
#[derive(Debug, PartialEq)]
struct Mapping {
    name: String,
    /// First address and number of pages.
    runs: Vec<(u64, u64)>,
}

impl Mapping {
    fn pages(&self) -> u64 {
        self.runs.iter().map(|(_, pages)| pages).sum()
    }
}

/// A process whose memory is open for reading.
#[derive(Debug)]
pub(crate) struct ProcessMemory {
    pid: u32,
    mem: File,
    mappings: Vec<Mapping>,
    /// Resident pages are known; otherwise every readable page is tried.
    resident_known: bool,
}

impl ProcessMemory {
    /// Opens the memory of `pid` and finds its anonymous private pages.
    pub(crate) fn open(pid: u32, interrupt: &Interrupt) -> Result<Self, ProcessError> {
        Self::open_with(pid, interrupt, |path| File::open(path).ok())
    }

    fn open_with(
        pid: u32,
        interrupt: &Interrupt,
        open_pagemap: impl FnOnce(String) -> Option<File>,
    ) -> Result<Self, ProcessError> {
        if pid == std::process::id() {
            return Err(ProcessError::OwnProcess);
        }
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => ProcessError::NoSuchProcess { pid },
            io::ErrorKind::PermissionDenied => ProcessError::NoPermission { pid },
            // A zombie still has its directory.
            _ if error.raw_os_error() == Some(libc::ESRCH) => ProcessError::NoSuchProcess { pid },
            _ => ProcessError::Read { pid, error },
        };
        let mem = File::open(format!("/proc/{pid}/mem")).map_err(refused)?;
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).map_err(refused)?;
        let pagemap = open_pagemap(format!("/proc/{pid}/pagemap"));
        let mut mappings = Vec::new();
        for line in maps.lines().filter_map(MapsLine::parse).filter(MapsLine::is_private_data) {
            let runs = match &pagemap {
                Some(pagemap) => resident_runs(pagemap, line.start, line.end, interrupt),
                // Without the flags of each page a file's pages cannot be told from ours.
                None if line.inode == 0 && line.readable => {
                    vec![(line.start, (line.end - line.start) / PAGE_SIZE as u64)]
                }
                None => Vec::new(),
            };
            if !runs.is_empty() {
                mappings.push(Mapping { name: line.name.to_owned(), runs });
            }
        }
        if mappings.is_empty() && !interrupt.raised() {
            return Err(ProcessError::NoMemory { pid });
        }
        Ok(Self { pid, mem, mappings, resident_known: pagemap.is_some() })
    }

    /// Hands at most `max_pages` pages to `sink`, spread over all mappings.
    ///
    /// # Errors
    /// Only what `sink` gives; a process that ends meanwhile is told in the answer.
    pub(crate) fn gather(
        self,
        origin: String,
        max_pages: u64,
        interrupt: &Interrupt,
        sink: &mut PageSink<'_>,
    ) -> io::Result<Gathered> {
        let candidate_pages = self.mappings.iter().map(Mapping::pages).sum();
        let spread = Spread::new(candidate_pages, max_pages);
        let selection = if self.resident_known {
            "resident anonymous private pages, by /proc/PID/pagemap"
        } else {
            // Reading memory that was never touched gives zeros: such pages do not exist.
            "readable anonymous private pages that are not zero (/proc/PID/pagemap is not readable here)"
        };
        let mut gathered = Gathered::new("process", origin, selection, candidate_pages);
        gathered.to_take = spread.pages();
        let mut start = 0;
        for mapping in &self.mappings {
            let mut source =
                Source { name: mapping.name.clone(), pages: 0, candidate_pages: mapping.pages() };
            for (address, pages) in &mapping.runs {
                for range in spread.within(start, *pages) {
                    let address = address + range.start * PAGE_SIZE as u64;
                    self.read(address, range.end - range.start, interrupt, &mut source, &mut gathered, sink)?;
                    if gathered.stopped() {
                        break;
                    }
                }
                start += pages;
            }
            if source.pages > 0 {
                gathered.sources.push(source);
            }
            if gathered.stopped() {
                break;
            }
        }
        Ok(gathered)
    }

    fn read(
        &self,
        mut address: u64,
        mut pages: u64,
        interrupt: &Interrupt,
        source: &mut Source,
        gathered: &mut Gathered,
        sink: &mut PageSink<'_>,
    ) -> io::Result<()> {
        let mut buffer = [[0u8; PAGE_SIZE]; READ_PAGES];
        while pages > 0 {
            if interrupt.raised() {
                gathered.interrupted = true;
                return Ok(());
            }
            let wanted = pages.min(READ_PAGES as u64) as usize;
            // A short read ends before the first page that is gone; the next read starts there and fails.
            let whole = match self.mem.read_at(buffer[..wanted].as_flattened_mut(), address) {
                Ok(0) => {
                    gathered.ended = Some(format!("process {} ended meanwhile", self.pid));
                    return Ok(());
                }
                Ok(length) if length >= PAGE_SIZE => {
                    for page in &buffer[..length / PAGE_SIZE] {
                        if self.resident_known || *page != [0; PAGE_SIZE] {
                            sink(page)?;
                            source.pages += 1;
                        }
                    }
                    length / PAGE_SIZE
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    gathered.ended = Some(format!("process {} may no longer be read", self.pid));
                    return Ok(());
                }
                Ok(_) | Err(_) => {
                    gathered.unreadable_pages += 1;
                    1
                }
            };
            address += (whole * PAGE_SIZE) as u64;
            pages -= whole as u64;
        }
        Ok(())
    }
}

/// A line of /proc/PID/maps.
struct MapsLine<'a> {
    start: u64,
    end: u64,
    readable: bool,
    accessible: bool,
    private: bool,
    inode: u64,
    name: &'a str,
}

impl<'a> MapsLine<'a> {
    /// `7f00-7f10 rw-p 00000000 00:00 0   [heap]`
    fn parse(line: &'a str) -> Option<Self> {
        let mut rest = line;
        let mut field = || {
            let (head, tail) = rest.split_once(' ').unwrap_or((rest, ""));
            rest = tail;
            head
        };
        let (start, end) = field().split_once('-')?;
        let permissions = field();
        let (_offset, _device, inode) = (field(), field(), field());
        let name = rest.trim();
        Some(Self {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            readable: permissions.starts_with('r'),
            accessible: !permissions.starts_with("---"),
            private: permissions.ends_with('p'),
            inode: inode.parse().ok()?,
            name: if name.is_empty() { "anonymous" } else { name },
        })
    }

    /// May hold anonymous pages of the process. Memory without any access is a reservation, often of
    /// terabytes; the kernel's own pages (`[vdso]` and the like) are nobody's data.
    fn is_private_data(&self) -> bool {
        self.private && self.accessible && !self.name.starts_with("[v")
    }
}

/// The resident anonymous pages of an address range, as runs.
fn resident_runs(pagemap: &File, start: u64, end: u64, interrupt: &Interrupt) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut words = vec![[0u8; 8]; 8192];
    let mut page = start / PAGE_SIZE as u64;
    let end = end / PAGE_SIZE as u64;
    while page < end && !interrupt.raised() {
        let wanted = (end - page).min(words.len() as u64) as usize;
        let length = pagemap.read_at(words[..wanted].as_flattened_mut(), page * 8).unwrap_or(0) / 8;
        if length == 0 {
            break;
        }
        for (index, word) in words[..length].iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            if word & PRESENT == 0 || word & FILE_OR_SHARED != 0 {
                continue;
            }
            let address = (page + index as u64) * PAGE_SIZE as u64;
            match runs.last_mut() {
                Some((first, pages)) if *first + *pages * PAGE_SIZE as u64 == address => *pages += 1,
                _ => runs.push((address, 1)),
            }
        }
        page += length as u64;
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn maps_lines_are_told_apart() {
        let private = |line| MapsLine::parse(line).is_some_and(|line| line.is_private_data());
        assert!(private("55d0c8a00000-55d0c8a21000 rw-p 00000000 00:00 0                          [heap]"));
        assert!(private("7f0000000000-7f0000021000 rw-p 00000000 00:00 0 "));
        assert!(private(
            "7f0000000000-7f0000021000 rw-p 00003000 fe:00 1234   /usr/lib/a name with spaces.so"
        ));
        assert!(!private("7f0000000000-7f0000021000 rw-s 00000000 00:05 99   /dev/shm/x"));
        assert!(!private("7f0000000000-7f0000021000 ---p 00000000 00:00 0 "));
        assert!(!private("7ffd1a5f0000-7ffd1a5f4000 r--p 00000000 00:00 0                          [vvar]"));
        assert!(!private("no maps line"));
        let line = MapsLine::parse("1000-3000 rw-p 00003000 fe:00 1234   /usr/lib/a b.so").expect("a line");
        assert_eq!((line.start, line.end, line.inode, line.name), (0x1000, 0x3000, 1234, "/usr/lib/a b.so"));
    }

    #[test]
    fn without_pagemap_the_pages_that_are_not_zero_are_read() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // The echo proves that the program runs, not the copy of this test that exec replaces.
        let mut echo = [0u8; 4];
        child.stdin.as_mut().unwrap().write_all(b"warm").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut echo).unwrap();
        let readable = ProcessMemory::open_with(child.id(), &Interrupt::default(), |_| None).unwrap();
        let mut nonzero = 0u64;
        let sink = &mut |page: &[u8; PAGE_SIZE]| {
            nonzero += u64::from(*page != [0; PAGE_SIZE]);
            Ok(())
        };
        let gathered = readable.gather("cat".into(), u64::MAX, &Interrupt::default(), sink).unwrap();
        assert!(gathered.selection.contains("not readable here"));
        assert_eq!(gathered.sources.iter().map(|source| source.pages).sum::<u64>(), nonzero);
        assert!(nonzero > 3, "{nonzero} pages of a running program");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_capturing_process_itself_is_refused_with_advice() {
        let error = ProcessMemory::open(std::process::id(), &Interrupt::default()).expect_err("own pid");
        assert!(error.to_string().contains("--self"));
    }
}
