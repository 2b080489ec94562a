//! The workload as a process of its own, so that its memory can be captured like anybody's.
//!
//! The child is this same executable with a hidden subcommand. It builds its data, prints `ready`, and waits
//! for the end of its standard input, which comes when the parent lets go of it or is gone; the kernel kills it
//! when the parent ends before that.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};

use super::workload::Workload;
use crate::os;

/// The hidden subcommand's name.
pub(crate) const SUBCOMMAND: &str = "workload";

const READY: &str = "ready";

/// Why there is no workload to look at.
#[derive(Debug)]
pub(crate) enum LiveError {
    Start(io::Error),
    NotReady { status: String },
}

impl std::fmt::Display for LiveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(error) => write!(f, "the workload process cannot be started: {error}"),
            Self::NotReady { status } => {
                write!(f, "the workload process ended before its data was built ({status}); is memory short?")
            }
        }
    }
}

/// A workload process with its data built. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct LiveWorkload {
    child: Child,
}

impl LiveWorkload {
    /// Starts the process and waits until its data is built.
    pub(crate) fn start() -> Result<Self, LiveError> {
        let program = std::env::current_exe().map_err(LiveError::Start)?;
        let child = Command::new(program)
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C in a terminal reaches the whole group: the capture is to stop, not its source.
            .process_group(0)
            .spawn()
            .map_err(LiveError::Start)?;
        let mut live = Self { child };
        let stdout = live.child.stdout.take().expect("stdout was asked to be a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(LiveError::Start)?;
        if line.trim_end() != READY {
            let status =
                live.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            return Err(LiveError::NotReady { status });
        }
        Ok(live)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for LiveWorkload {
    fn drop(&mut self) {
        // It holds nothing but memory; a kill is quicker than letting it free every node.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The child's side: builds the data, says so, and keeps it until nobody needs it any more.
pub(crate) fn serve() -> ExitCode {
    os::die_with_parent();
    let workload = Workload::build();
    let mut stdout = io::stdout();
    if writeln!(stdout, "{READY}").and_then(|()| stdout.flush()).is_err() {
        return ExitCode::FAILURE;
    }
    let mut rest = [0u8; 64];
    let mut stdin = io::stdin().lock();
    while matches!(stdin.read(&mut rest), Ok(length) if length > 0) {}
    std::hint::black_box(&workload);
    // Not dropped: the process ends, and the kernel takes the memory back faster.
    std::mem::forget(workload);
    ExitCode::SUCCESS
}
