//! Checks 6 to 9: devices, owners of the queues, their settings, and their files.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use zfolio_accel::discover::{IaaDevice, QueueMode, WorkQueue};

use super::cmd_status;
use super::platform::{Roots, plural};
use super::report::{Class, Report};

/// What configures devices and queues: our own configuration, given to a shell.
const CONFIGURE: &str = "zfolio doctor --config | sudo sh";

/// Check 6: whether any device is enabled.
pub(super) fn enabled(devices: &[IaaDevice], report: &mut Report) -> bool {
    let enabled = devices.iter().filter(|device| device.enabled).count();
    // What the driver last refused is the best hint at why a device or its queues are off.
    let refused = devices.iter().find_map(|device| match device.cmd_status {
        Some(code @ 1..) => Some((device, code)),
        _ => None,
    });
    let found = match refused {
        Some((device, code)) => format!(
            "{enabled} of {}; the last command of {} ended with {code:#x}: {}",
            devices.len(),
            device.name,
            cmd_status::meaning(code)
        ),
        None => format!("{enabled} of {}", devices.len()),
    };
    match (enabled, refused) {
        (0, Some((device, code))) => report.bad(
            Class::Configuration,
            found,
            &cmd_status::meaning(code),
            &cmd_status::command(code, &device.name),
        ),
        (0, None) => report.bad(Class::Configuration, found, "they have not been configured", CONFIGURE),
        (_, Some((device, code))) if !device.enabled => {
            report.note(found, &cmd_status::meaning(code), &cmd_status::command(code, &device.name));
        }
        _ => report.good(found),
    }
    enabled > 0
}

/// Check 7: who owns the enabled queues. Gives those that a program may use.
pub(super) fn owners<'a>(roots: &Roots, devices: &'a [IaaDevice], report: &mut Report) -> Vec<Owned<'a>> {
    let enabled: Vec<Owned<'a>> = devices
        .iter()
        .filter(|device| device.enabled)
        .flat_map(|device| device.queues.iter().map(move |queue| Owned { device, queue }))
        .filter(|owned| owned.queue.enabled)
        .collect();
    let count = |kind: &str| enabled.iter().filter(|owned| owned.queue.kind.as_deref() == Some(kind)).count();
    let (user, kernel) = (count("user"), count("kernel"));
    let crypto = roots.sys.join("module/iaa_crypto").exists();
    let found = format!("{} for programs, {kernel} for the kernel", plural(user, "enabled queue"));
    let first = devices.iter().find(|device| device.enabled).map_or("iax1", |device| device.name.as_str());
    match (user, crypto && kernel > 0) {
        (0, true) => report.bad(
            Class::Configuration,
            found,
            "the module iaa_crypto has claimed the devices with queues of type kernel",
            &format!("sudo accel-config disable-device {first} && sudo modprobe -r iaa_crypto"),
        ),
        (0, false) => {
            report.bad(
                Class::Configuration,
                found,
                "no queue of type user is configured and enabled",
                CONFIGURE,
            );
        }
        (_, true) => report.note(
            found,
            "the module iaa_crypto uses the others",
            "cat /sys/bus/dsa/devices/iax*/wq*/driver_name",
        ),
        _ => report.good(found),
    }
    enabled.into_iter().filter(|owned| owned.queue.is_for_user()).collect()
}

/// An enabled queue with its device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owned<'a> {
    pub(super) device: &'a IaaDevice,
    pub(super) queue: &'a WorkQueue,
}

/// Check 8: mode, size, threshold, and engines of the group. Gives the queues that can do work.
pub(super) fn settings<'a>(queues: Vec<Owned<'a>>, report: &mut Report) -> Vec<Owned<'a>> {
    let mut wrong = Vec::new();
    let mut described = Vec::new();
    let right: Vec<Owned<'a>> = queues
        .into_iter()
        .filter(|owned| match fault(*owned) {
            Some(fault) => {
                wrong.push(format!("{} {fault}", owned.queue.name));
                false
            }
            None => {
                described.push(describe(*owned));
                true
            }
        })
        .collect();
    match (right.is_empty(), wrong.is_empty()) {
        (false, true) => report.good(described.join("; ")),
        (false, false) => report.note(
            format!("{}; but {}", described.join("; "), wrong.join("; ")),
            "a queue without entries, threshold or engines takes no descriptor",
            CONFIGURE,
        ),
        (true, _) => report.bad(
            Class::Configuration,
            wrong.join("; "),
            "a queue without entries, threshold or engines takes no descriptor",
            CONFIGURE,
        ),
    }
    right
}

/// What keeps a queue from doing work.
fn fault(Owned { device, queue }: Owned<'_>) -> Option<&'static str> {
    let engines =
        device.engines.iter().filter(|engine| engine.group.is_some() && engine.group == queue.group).count();
    if queue.mode.is_none() {
        Some("has no mode")
    } else if queue.size == Some(0) {
        Some("has no entries")
    } else if queue.mode == Some(QueueMode::Shared) && queue.threshold == Some(0) {
        Some("has threshold 0")
    } else if queue.group.is_none() {
        Some("is in no group")
    } else if engines == 0 {
        Some("is in a group without engines")
    } else {
        None
    }
}

/// `wq1.0 shared, 128 entries, 8 engines`.
fn describe(Owned { device, queue }: Owned<'_>) -> String {
    let engines = device.engines.iter().filter(|engine| engine.group == queue.group).count();
    let mode = match queue.mode {
        Some(QueueMode::Dedicated) => "dedicated",
        _ => "shared",
    };
    format!(
        "{} {mode}, {} of {} entries, {}",
        queue.name,
        queue.capacity(),
        queue.size.unwrap_or(0),
        plural(engines, "engine")
    )
}

/// Check 9: the queues' files and the caller's rights. Gives the queues that are worth opening.
pub(super) fn files<'a>(roots: &Roots, queues: Vec<Owned<'a>>, report: &mut Report) -> Vec<Owned<'a>> {
    let path = |owned: &Owned<'_>| owned.queue.path(&roots.dev);
    let missing: Vec<PathBuf> = queues.iter().map(path).filter(|path| !path.exists()).collect();
    let there: Vec<Owned<'a>> = queues.into_iter().filter(|owned| path(owned).exists()).collect();
    let Some(first) = there.first() else {
        let missing = missing.first().map_or_else(String::new, |path| path.display().to_string());
        report.bad(
            Class::Rights,
            format!("{missing} does not exist"),
            "udev did not make it, or this is a container without the device",
            "ls -l /dev/iax",
        );
        return there;
    };
    let path = path(first);
    let described = match path.metadata() {
        Ok(file) => format!(
            "{} is {}owned by {}:{}, mode {:03o}",
            path.display(),
            if file.file_type().is_char_device() { "" } else { "no character device, " },
            file.uid(),
            file.gid(),
            file.mode() & 0o777
        ),
        Err(error) => format!("{}: {error}", path.display()),
    };
    if missing.is_empty() {
        report.good(format!("{}; {described}", plural(there.len(), "file")));
    } else {
        report.note(
            format!("{described}; {} missing", plural(missing.len(), "file")),
            "udev did not make them",
            "sudo udevadm trigger",
        );
    }
    there
}
