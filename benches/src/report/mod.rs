//! `zfolio report`: what was measured as one HTML file, to be opened anywhere, read and passed on.
//!
//! [`records`] reads the files, [`findings`] says in sentences what they show, [`sections`] puts plots beside tables,
//! [`plot`] draws, [`html`] frames. The file asks for nothing from outside, and can be read without its script.

mod engines;
mod findings;
mod group;
mod html;
mod layouts;
mod peers;
mod phases;
mod plot;
pub(crate) mod ratios;
mod records;
mod sections;
mod simulated;
mod under_load;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use self::records::Records;
use crate::quantity::plural;

/// Make a report of recorded runs: one HTML file that opens offline
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the JSON lines of `zfolio bench` (`--ab`, `--perturb` and `--phases` too), `bench sweep`, `bench engine`, `bench latency`,
`bench peers`, `compare` and `simulate`. Medians and their intervals are made from all complete rounds; objects of other kinds are passed over; a broken line is an error.

The file has its style, plots and values in itself: nothing is fetched when it is opened.")]
pub(crate) struct ReportArgs {
    /// Recorded runs
    #[arg(required = true, value_name = "FILE.jsonl")]
    files: Vec<PathBuf>,
    /// The file to write
    #[arg(long, value_name = "REPORT.html")]
    out: PathBuf,
    /// What stands above it
    #[arg(long, default_value = "zfolio: what was measured")]
    title: String,
}

pub(crate) fn run(args: &ReportArgs) -> Result<ExitCode, Box<dyn Error>> {
    let records = Records::read(&args.files).map_err(|error| error.to_string())?;
    let page = sections::page(&args.title, &records);
    fs::write(&args.out, &page)
        .map_err(|error| format!("{} cannot be written: {error}", args.out.display()))?;
    crate::print(&format!(
        "{}: {}, {}\n",
        crate::printable(&args.out.display().to_string()),
        crate::quantity::bytes(page.len() as f64),
        plural(records.points.len() as u64, "setting"),
    ))?;
    Ok(ExitCode::SUCCESS)
}
