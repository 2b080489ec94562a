//! The `zfolio` command line.
//!
//! `zfolio capture` writes pages of a process or of files to a corpus; `zfolio bench` runs the store over
//! corpora, checks every byte it gets back, and reports. Each command is a module with a `run`; this file only
//! reads the arguments and turns errors into one line on standard error and an exit code.

#![deny(unsafe_code)]

mod bench;
mod capture;
mod corpus;
mod interrupt;
mod machine;
mod memory;
mod os;
mod progress;
mod quantity;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::interrupt::Interrupt;

/// A userspace zswap: keep cold pages compressed in memory
#[derive(Debug, Parser)]
#[command(name = "zfolio", version, arg_required_else_help = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Bench(bench::BenchArgs),
    Capture(capture::CaptureArgs),
    /// Build the data of the live-memory corpus and wait (what `capture --self` captures)
    #[command(name = corpus::live::SUBCOMMAND, hide = true)]
    Workload,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if matches!(cli.command, Command::Workload) {
        // Without the handlers: a signal simply ends it.
        return corpus::live::serve();
    }
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(&format!("signals cannot be handled: {error}")),
    };
    let result = match &cli.command {
        Command::Bench(args) => bench::run(args, &interrupt).map_err(|error| error.to_string()),
        Command::Capture(args) => capture::run(args, &interrupt).map_err(|error| error.to_string()),
        Command::Workload => unreachable!("served above"),
    };
    result.unwrap_or_else(|message| fail(&message))
}

fn fail(message: &str) -> ExitCode {
    eprintln!("zfolio: {message}");
    ExitCode::FAILURE
}

/// Prints to standard output. Whoever stopped reading (`| head`) has seen enough: that is no error.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            eprintln!("zfolio: the report cannot be printed: {error}");
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}
