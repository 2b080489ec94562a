//! Checks 10 to 13: queues are opened, their portals chosen, and a no-op and a page go through each.

use std::io;
use std::time::Duration;

use zfolio_accel::direct::{Examination, PageTrip, examine};

use super::platform::{Roots, plural};
use super::queues::Owned;
use super::report::{Class, Report};
use crate::quantity::nanoseconds;

/// Checks 10 to 13, for every queue that has a file.
pub(super) fn work(roots: &Roots, queues: &[Owned<'_>], report: &mut Report) {
    let examined: Vec<(&str, Examination)> = queues
        .iter()
        .map(|owned| (owned.queue.name.as_str(), examine(owned.device, owned.queue, &roots.dev)))
        .collect();
    open(roots, &examined, report);
    let opened: Vec<_> = examined.iter().filter(|(_, examination)| examination.open.is_ok()).collect();
    if opened.is_empty() {
        return report.skip_to(13, "no queue can be opened");
    }
    submission(&opened, report);
    noop(&opened, report);
    page(&opened, report);
}

/// Check 10.
fn open(roots: &Roots, examined: &[(&str, Examination)], report: &mut Report) {
    let errors: Vec<(&str, &io::Error)> = examined
        .iter()
        .filter_map(|(name, examination)| Some((*name, examination.open.as_ref().err()?)))
        .collect();
    let Some((name, error)) = errors.first() else {
        return report.good(format!("{} can be opened", plural(examined.len(), "queue")));
    };
    let path = roots.dev.join("iax").join(name);
    let (cause, command) = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => (
            "the files belong to root, and this user is not among those who may use them",
            format!("sudo chown {} {}", user(), path.display()),
        ),
        Some(libc::EBUSY) => (
            "a dedicated queue has one user, and another process has it",
            format!("sudo fuser -v {}", path.display()),
        ),
        Some(libc::ENXIO | libc::ENODEV) => {
            ("the file is older than the device's configuration", "sudo udevadm trigger".to_owned())
        }
        _ => ("", format!("ls -l {}", path.display())),
    };
    let found = format!("{name}: {error}");
    if errors.len() == examined.len() {
        report.bad(Class::Rights, found, cause, &command);
    } else {
        report.note(
            format!("{found}; {} can be opened", plural(examined.len() - errors.len(), "other")),
            cause,
            &command,
        );
    }
}

/// The name to give files to.
fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "$USER".to_owned())
}

/// Check 11: by instruction, or by system call.
fn submission(opened: &[&(&str, Examination)], report: &mut Report) {
    let mut found: Vec<String> = Vec::new();
    let mut written = false;
    for (name, examination) in opened {
        if let Ok(how) = &examination.open {
            written |= how.starts_with("write(2)");
            found.push(format!("{name} by {how}"));
        }
    }
    let found = found.join("; ");
    if written {
        report.note(
            found,
            "descriptors go by system call, several at a time; a program with CAP_SYS_RAWIO maps the queue and submits \
             by instruction",
            "sudo setcap cap_sys_rawio+ep PROGRAM",
        );
    } else {
        report.good(found);
    }
}

/// Check 12.
fn noop(opened: &[&(&str, Examination)], report: &mut Report) {
    let results = opened.iter().filter_map(|(name, examination)| Some((*name, examination.noop.as_ref()?)));
    each(results, report, |took| time(*took));
}

/// Check 13.
fn page(opened: &[&(&str, Examination)], report: &mut Report) {
    let results = opened.iter().filter_map(|(name, examination)| Some((*name, examination.page.as_ref()?)));
    each(results, report, |PageTrip { compressed_len, compress, decompress, .. }| {
        format!(
            "4096 bytes to {compressed_len} in {}, back in {}, CRC-32 right",
            time(*compress),
            time(*decompress)
        )
    });
}

fn time(took: Duration) -> String {
    nanoseconds(took.as_nanos() as f64)
}

/// One finding for what each queue did or failed to do.
fn each<'r, T: 'r>(
    results: impl Iterator<Item = (&'r str, &'r Result<T, String>)>,
    report: &mut Report,
    describe: impl Fn(&T) -> String,
) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (name, result) in results {
        match result {
            Ok(result) => good.push(format!("{name}: {}", describe(result))),
            Err(reason) => bad.push(format!("{name}: {reason}")),
        }
    }
    const CAUSE: &str = "the device is disabled, reset or hung, or the queue has no working engine";
    const COMMAND: &str = "sudo dmesg | grep -E 'idxd|iax'";
    match (good.is_empty(), bad.is_empty()) {
        (true, true) => {
            let number = report.findings.len() + 1;
            report.skip_to(number, "no queue came this far");
        }
        (false, true) => report.good(good.join("; ")),
        (true, false) => report.bad(Class::Device, bad.join("; "), CAUSE, COMMAND),
        (false, false) => report.note(format!("{}; but {}", good.join("; "), bad.join("; ")), CAUSE, COMMAND),
    }
}
