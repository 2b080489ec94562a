//! `zfolio capture`: pages of a process or of files into FILE.pages, with a manifest beside it.
//!
//! Whatever ends the capture early (the process ends, a page may not be read, Ctrl-C), the pages read so far
//! are kept as a complete pair of files that says it is incomplete, and the exit code says so too.

pub(crate) mod census;
pub(crate) mod files;
pub(crate) mod page_file;
pub(crate) mod process;
pub(crate) mod spread;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use zfolio_accel::PAGE_SIZE;

use self::census::PageFacts;
use self::files::FileSet;
use self::page_file::{PageFile, manifest_path};
use self::process::{ProcessError, ProcessMemory};
use crate::corpus::live::{LiveError, LiveWorkload};
use crate::interrupt::{self, Interrupt};
use crate::progress::Progress;
use crate::quantity::{bytes, parse_bytes, percent, plural};

/// Exit code of a capture that is kept but lacks something.
const EXIT_INCOMPLETE: u8 = 3;

/// Pages to one read: a system call's cost is spread, a missing page costs a short read only.
const READ_PAGES: usize = 16;

/// Receives each page; its error ends the capture.
pub(crate) type PageSink<'a> = dyn FnMut(&[u8; PAGE_SIZE]) -> io::Result<()> + 'a;

/// Arguments of `zfolio capture`.
#[derive(Debug, clap::Args)]
#[command(
    about = "Write pages of a live process, or of files, to FILE.pages for `zfolio bench --corpus`",
    after_help = "\
FILE.pages holds raw pages of 4096 bytes, one after another. FILE.pages.json, written beside it, says where they
come from: sources, page counts, the share of zero, same-filled and duplicate pages, sha256, machine and time.
Memory holds secrets: both files are readable by their owner only.

--pid reads the resident anonymous private memory of the process (heap, stacks, written parts of private
mappings) while it runs; what is swapped out stays there. Files give whole pages only; links are not followed.

--max spreads what it takes: all pages stand in one line, the line is cut into runs of 16 pages, and as many
whole runs as fit are taken at equal distances. The same input gives the same pages.

Exit codes: 0 all is there; 1 nothing could be captured; 2 wrong arguments; 3 captured and kept, but not all that
was asked for (the process ended meanwhile, or something could not be read); 130 Ctrl-C, what was captured is kept."
)]
pub(crate) struct CaptureArgs {
    #[command(flatten)]
    origin: OriginArgs,
    /// Where the pages go; the manifest goes to FILE.pages.json
    #[arg(long, value_name = "FILE.pages")]
    out: PathBuf,
    /// At most this many bytes, spread over everything there is (such as 64M or 1G)
    #[arg(long, value_name = "BYTES", value_parser = parse_max)]
    max: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct OriginArgs {
    /// Anonymous memory of this running process
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Live memory of a real workload that zfolio runs itself: word counts, indexes, JSON trees, lists
    #[arg(long = "self")]
    own_workload: bool,
    /// Every regular file below this folder
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
}

/// Reads `--max`, which lets through one page at least.
fn parse_max(text: &str) -> Result<u64, String> {
    match parse_bytes(text)? {
        max if max < PAGE_SIZE as u64 => {
            Err(format!("'{text}' is less than one page of {PAGE_SIZE} bytes; give at least 4K"))
        }
        max => Ok(max),
    }
}

/// Why nothing was captured.
#[derive(Debug)]
pub(crate) enum CaptureError {
    Process(ProcessError),
    Live(LiveError),
    Folder { path: PathBuf, error: io::Error },
    Write { path: PathBuf, error: io::Error },
    NoPages { what: String },
}

impl std::fmt::Display for CaptureError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process(error) => error.fmt(f),
            Self::Live(error) => error.fmt(f),
            Self::Folder { path, error } => write!(f, "{} cannot be listed: {error}", path.display()),
            Self::Write { path, error } => write!(f, "{} cannot be written: {error}", path.display()),
            Self::NoPages { what } => write!(f, "no page captured, nothing written: {what}"),
        }
    }
}

/// One mapping or file that pages come from.
#[derive(Debug, Serialize)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) pages: u64,
    /// Pages of this source there were to choose from.
    pub(crate) candidate_pages: u64,
}

/// What a gathering of pages found, apart from the pages.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) kind: &'static str,
    pub(crate) origin: String,
    pub(crate) selection: &'static str,
    pub(crate) candidate_pages: u64,
    /// Candidates that the limit lets through.
    pub(crate) to_take: u64,
    pub(crate) sources: Vec<Source>,
    pub(crate) unreadable_pages: u64,
    pub(crate) unreadable_files: u64,
    pub(crate) interrupted: bool,
    /// What became of the process meanwhile.
    pub(crate) ended: Option<String>,
}

impl Gathered {
    fn new(kind: &'static str, origin: String, selection: &'static str, candidate_pages: u64) -> Self {
        Self {
            kind,
            origin,
            selection,
            candidate_pages,
            to_take: candidate_pages,
            sources: Vec::new(),
            unreadable_pages: 0,
            unreadable_files: 0,
            interrupted: false,
            ended: None,
        }
    }

    fn stopped(&self) -> bool {
        self.interrupted || self.ended.is_some()
    }

    /// What is missing and why; `None` when nothing is.
    pub(crate) fn incomplete(&self) -> Option<String> {
        let mut reasons = Vec::new();
        if self.interrupted {
            reasons.push("interrupted".to_owned());
        }
        reasons.extend(self.ended.clone());
        if self.unreadable_files > 0 {
            reasons.push(format!("{} or folders could not be read", plural(self.unreadable_files, "file")));
        }
        if self.unreadable_pages > 0 {
            reasons.push(format!("{} could not be read", plural(self.unreadable_pages, "page")));
        }
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// Runs the command.
pub(crate) fn run(args: &CaptureArgs, interrupt: &Interrupt) -> Result<ExitCode, CaptureError> {
    let max_pages = args.max.map_or(u64::MAX, |max| max / PAGE_SIZE as u64);
    let write_error = |error| CaptureError::Write { path: args.out.clone(), error };
    // Before the long part: a path that cannot be written should not be found out after it.
    let mut file = PageFile::create(&args.out).map_err(write_error)?;
    let mut progress = Progress::new();
    let gathered = {
        let sink = &mut |page: &[u8; PAGE_SIZE]| {
            file.push(page)?;
            progress.tick(|| format!("captured {}", plural(file.pages(), "page")));
            Ok(())
        };
        args.origin.gather(max_pages, interrupt, sink, &args.out)?
    };
    progress.clear();
    let Some(incomplete) = gathered.incomplete() else {
        if file.pages() == 0 {
            let what = format!("{} holds no whole page of {PAGE_SIZE} bytes", gathered.origin);
            return Err(CaptureError::NoPages { what });
        }
        let facts = file.commit(&gathered).map_err(write_error)?;
        return Ok(report(&args.out, &gathered, &facts).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS));
    };
    if file.pages() == 0 && gathered.interrupted {
        crate::tell("interrupted before the first page; nothing written");
        return Ok(ExitCode::from(interrupt::EXIT_CODE));
    }
    if file.pages() == 0 {
        return Err(CaptureError::NoPages { what: incomplete });
    }
    let facts = file.commit(&gathered).map_err(write_error)?;
    let reported = report(&args.out, &gathered, &facts);
    crate::tell(format_args!(
        "capture is incomplete: {incomplete}; the {} captured {} kept",
        plural(facts.pages, "page"),
        if facts.pages == 1 { "is" } else { "are" }
    ));
    Ok(match reported {
        _ if gathered.interrupted => ExitCode::from(interrupt::EXIT_CODE),
        Err(_) => ExitCode::FAILURE,
        Ok(()) => ExitCode::from(EXIT_INCOMPLETE),
    })
}

impl OriginArgs {
    fn gather(
        &self,
        max_pages: u64,
        interrupt: &Interrupt,
        sink: &mut PageSink<'_>,
        out: &Path,
    ) -> Result<Gathered, CaptureError> {
        let write_error = |error| CaptureError::Write { path: out.to_owned(), error };
        if let Some(folder) = &self.files {
            let set = FileSet::below(folder, interrupt)
                .map_err(|error| CaptureError::Folder { path: folder.clone(), error })?;
            set.gather(format!("files below {}", folder.display()), max_pages, interrupt, sink)
                .map_err(write_error)
        } else if let Some(pid) = self.pid {
            let memory = ProcessMemory::open(pid, interrupt).map_err(CaptureError::Process)?;
            let origin = format!("process {pid} ({})", command_name(pid));
            memory.gather(origin, max_pages, interrupt, sink).map_err(write_error)
        } else {
            let workload = LiveWorkload::start().map_err(CaptureError::Live)?;
            let memory = ProcessMemory::open(workload.pid(), interrupt).map_err(CaptureError::Process)?;
            let origin = "live memory of zfolio's own workload".to_owned();
            let mut gathered = memory.gather(origin, max_pages, interrupt, sink).map_err(write_error)?;
            gathered.kind = "workload";
            Ok(gathered)
        }
    }
}

/// The short name of a process, for people.
fn command_name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm"))
        .map_or_else(|_| "?".into(), |name| name.trim().into())
}

/// Says on standard output what has been captured. A reader that has gone away is not an error.
fn report(out: &Path, gathered: &Gathered, facts: &PageFacts) -> io::Result<()> {
    let PageFacts { pages, zero_pages, same_filled_nonzero_pages, duplicate_pages, .. } = *facts;
    let cut = if gathered.to_take < gathered.candidate_pages {
        format!(", spread over {} there", plural(gathered.candidate_pages, "page"))
    } else {
        String::new()
    };
    let text = format!(
        "{}: {} ({}){cut}\n  from      {}\n            {}\n  pages     zero {}, other same-filled {}, duplicates {}\n  \
         sha256    {}\n  manifest  {}\n",
        out.display(),
        plural(pages, "page"),
        bytes((pages * PAGE_SIZE as u64) as f64),
        crate::printable(&gathered.origin),
        gathered.selection,
        percent(zero_pages, pages),
        percent(same_filled_nonzero_pages, pages),
        percent(duplicate_pages, pages),
        facts.sha256,
        manifest_path(out).display(),
    );
    crate::print(&text)
}
