//! The `zfolio` command line.
//!
//! `zfolio capture` writes pages of a process or of files to a corpus; `zfolio bench` runs the store over
//! corpora, checks every byte it gets back, and reports; `zfolio compare` tells two runs apart; `zfolio report` makes a page of them; `zfolio simulate` has more devices
//! and threads submit in simulated time than there are; `zfolio doctor` examines what
//! stands between the machine and its IAA; `zfolio emulate` runs a command on modelled devices. Each command is a module with a `run`; this file only
//! reads the arguments and turns errors into one line on standard error and an exit code.

#![deny(unsafe_code)]

mod bench;
mod capture;
mod compare;
mod corpus;
mod doctor;
mod emulate;
mod interrupt;
mod machine;
mod memory;
mod os;
mod progress;
mod quantity;
mod recorded;
mod report;
mod resume;
mod simulate;
mod statistics;
mod variance;
mod verdict;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

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
    Bench(Box<bench::BenchArgs>),
    Capture(capture::CaptureArgs),
    Compare(compare::CompareArgs),
    Doctor(doctor::DoctorArgs),
    Emulate(emulate::EmulateArgs),
    Report(report::ReportArgs),
    Simulate(Box<simulate::SimulateArgs>),
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
    if let Command::Emulate(args) = &cli.command {
        // Signals are the command's.
        return emulate::run(args);
    }
    if let Command::Bench(args) = &cli.command
        && let Err(message) = args.check()
    {
        Cli::command().error(ErrorKind::ValueValidation, message).exit();
    }
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(&format!("signals cannot be handled: {error}")),
    };
    let result = match &cli.command {
        Command::Bench(args) => bench::run(args, &interrupt).map_err(|error| error.to_string()),
        Command::Capture(args) => capture::run(args, &interrupt).map_err(|error| error.to_string()),
        Command::Compare(args) => compare::run(args).map_err(|error| error.to_string()),
        Command::Doctor(args) => doctor::run(args).map_err(|error| error.to_string()),
        Command::Report(args) => report::run(args).map_err(|error| error.to_string()),
        Command::Simulate(args) => simulate::run(args, &interrupt),
        Command::Emulate(_) | Command::Workload => unreachable!("served above"),
    };
    result.unwrap_or_else(|message| fail(&message))
}

fn fail(message: &str) -> ExitCode {
    tell(message);
    ExitCode::FAILURE
}

/// A line on standard error. Where that cannot be written (a full disk, a closed pipe) there is nobody left to
/// tell, and the exit code still says how it ended: never a panic.
fn tell(message: impl Display) {
    let _ = writeln!(io::stderr(), "zfolio: {message}");
}

/// Text from outside (a manifest, a file's name) with its control characters escaped: a terminal obeys them.
fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Prints to standard output. Whoever stopped reading (`| head`) has seen enough: that is no error.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            tell(format_args!("the report cannot be printed: {error}"));
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_the_rest_is_kept() {
        assert_eq!(printable("a\x1b[31m\nb\u{9b}ü"), "a\\u{1b}[31m\\nb\\u{9b}ü");
    }
}
