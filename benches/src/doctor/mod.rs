//! `zfolio doctor`: what stands between this machine and its IAA.
//!
//! Sixteen checks in a fixed order, from the CPU up to a page that goes through a queue and comes back. Each gives
//! one finding with its likeliest cause and one command. A check that an earlier one makes pointless is skipped, and
//! says why. Nothing is changed; `--config` only prints what would.

mod cmd_status;
mod config;
mod machine;
mod platform;
mod probe;
mod queues;
mod report;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use zfolio_accel::discover::{self, IaaDevice};

use crate::print;
use platform::Roots;
use report::{Class, Report};

/// Examine what stands between this machine and its IAA
///
/// Exit code: 0 IAA can be used; 3 no device; 4 kernel or IOMMU; 5 configuration of devices and queues; 6 rights;
/// 7 a queue that can be opened does not do its work.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long, conflicts_with = "config")]
    json: bool,
    /// Print a shell script that configures the machine's devices with accel-config, and change nothing
    #[arg(long)]
    config: bool,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode, Box<dyn Error>> {
    let roots = Roots::default();
    if args.config {
        let devices = discover::iaa_devices(&roots.sys);
        if devices.is_empty() {
            let dir = discover::devices_dir(&roots.sys);
            return Err(format!("no IAA device under {}; zfolio doctor says why", dir.display()).into());
        }
        print(&config::script(&devices))?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = examine(&roots);
    if args.json {
        print(&format!("{:#}\n", as_json(&report)))?;
    } else {
        print(&format!("{report}\n"))?;
    }
    Ok(report.class.exit_code().into())
}

/// Runs the checks on the machine below `roots`.
fn examine(roots: &Roots) -> Report {
    let mut report = Report::default();
    let devices = discover::iaa_devices(&roots.sys);
    platform::cpu(roots, &mut report);
    platform::pci(roots, devices.len(), &mut report);
    if report.class == Class::Hardware {
        report.skip_to(15, "there is no device");
    } else {
        with_hardware(roots, &devices, &mut report);
    }
    machine::libraries(devices.len(), &mut report);
    report
}

/// Checks 3 to 15.
fn with_hardware(roots: &Roots, devices: &[IaaDevice], report: &mut Report) {
    let driver = platform::driver(roots, report);
    platform::kernel(roots, devices.iter().filter_map(|device| device.version).max(), report);
    if !driver || devices.is_empty() {
        return report.skip_to(15, "the driver shows no IAA device");
    }
    let pasid: Vec<_> = devices.iter().map(|device| (device.name.clone(), device.pasid_enabled)).collect();
    platform::iommu(roots, &pasid, report);
    if !queues::enabled(devices, report) {
        return report.skip_to(15, "no device is enabled");
    }
    let queues = queues::owners(roots, devices, report);
    if queues.is_empty() {
        return report.skip_to(15, "no enabled queue is for programs");
    }
    let queues = queues::settings(queues, report);
    if queues.is_empty() {
        return report.skip_to(15, "no queue can do work");
    }
    let files = queues::files(roots, queues.clone(), report);
    if files.is_empty() {
        report.skip_to(13, "no queue has a file");
    } else {
        probe::work(roots, &files, report);
    }
    machine::limits(&queues, report);
    machine::packages(roots, &queues, report);
}

fn as_json(report: &Report) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "number": finding.number,
                "check": finding.check,
                "verdict": finding.verdict.name(),
                "found": finding.found,
                "cause": finding.cause,
                "command": finding.command,
            })
        })
        .collect();
    json!({
        "kind": "doctor",
        "class": report.class.name(),
        "meaning": report.class.meaning(),
        "exit_code": report.class.exit_code(),
        "findings": findings,
    })
}
