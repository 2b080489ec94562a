//! Checks 14 to 16: what the queues allow, packages without a device, and the vendor's libraries.

use std::fs;
use std::path::Path;

use idxd_sys::accfg::Library;
use idxd_sys::{flags::gen_cap, opcode};
use zfolio_accel::Topology;
use zfolio_accel::discover::{IaaDevice, allows};

use super::platform::{Roots, plural};
use super::queues::Owned;
use super::report::{Class, Report};

/// What the driver gives a work queue unless told otherwise.
const DEFAULT_TRANSFER: u64 = 2 << 20;

/// Check 14: block on fault, transfer size, opcodes.
pub(super) fn limits(queues: &[Owned<'_>], report: &mut Report) {
    let mut found = Vec::new();
    let mut without_waiting = Vec::new();
    let mut without_opcodes = Vec::new();
    for Owned { device, queue } in queues {
        let size = queue.max_transfer_size.unwrap_or(DEFAULT_TRANSFER);
        found.push(format!("{} {} a transfer", queue.name, bytes(size)));
        let can_wait = device.gen_cap.is_some_and(|cap| cap & gen_cap::BLOCK_ON_FAULT != 0);
        if can_wait && queue.block_on_fault == Some(false) {
            without_waiting.push(queue.name.as_str());
        }
        let has = |code| {
            [device.op_cap, queue.op_config].into_iter().flatten().all(|opcodes| allows(&opcodes, code))
        };
        if !(has(opcode::COMPRESS) && has(opcode::DECOMPRESS)) {
            without_opcodes.push(queue.name.as_str());
        }
    }
    let found = found.join("; ");
    if !without_opcodes.is_empty() {
        report.bad(
            Class::Configuration,
            format!("{} cannot compress and decompress", without_opcodes.join(", ")),
            "op_config leaves out opcode 0x42 or 0x43",
            "cat /sys/bus/dsa/devices/iax*/wq*/op_config",
        );
    } else if !without_waiting.is_empty() {
        report.note(
            format!("{found}; {} cannot wait for a page", without_waiting.join(", ")),
            "block_on_fault is off: a page that is not there costs a second submission",
            "zfolio doctor --config | sudo sh",
        );
    } else {
        report.good(found);
    }
}

/// `2 MiB`.
fn bytes(size: u64) -> String {
    match size {
        size if size >= 1 << 30 => format!("{} GiB", size >> 30),
        size if size >= 1 << 20 => format!("{} MiB", size >> 20),
        size => format!("{} KiB", size >> 10),
    }
}

/// Check 15: devices by package, and packages that have none.
pub(super) fn packages(roots: &Roots, queues: &[Owned<'_>], report: &mut Report) {
    let topology = match Topology::read(&roots.sys) {
        Ok(topology) => topology,
        Err(error) => {
            report.note(error.to_string(), "sysfs is not as expected", "ls /sys/devices/system/node");
            return;
        }
    };
    let mut devices: Vec<&IaaDevice> = queues.iter().map(|owned| owned.device).collect();
    devices.dedup_by_key(|device| device.id);
    // A device belongs to the package of its node's CPUs.
    let package = |device: &IaaDevice| {
        let node = topology.nodes().iter().find(|node| Some(node.nid) == device.nid)?;
        node.cpus.first().and_then(|&cpu| topology.package_of_cpu().get(cpu)).copied().map(usize::from)
    };
    let mut of_package = vec![0usize; topology.packages()];
    let mut anywhere = 0;
    for device in &devices {
        match package(device) {
            Some(package) => of_package[package] += 1,
            None => anywhere += 1,
        }
    }
    let mut found: Vec<String> = of_package
        .iter()
        .enumerate()
        .map(|(package, &count)| format!("package {package} has {}", plural(count, "device")))
        .collect();
    if anywhere > 0 {
        found.push(format!("{} on no known node", plural(anywhere, "device")));
    }
    let found = found.join(", ");
    if anywhere == 0 && of_package.contains(&0) {
        report.note(
            found,
            "a package without a device uses the nearest one, more slowly",
            "cat /sys/bus/dsa/devices/iax*/numa_node",
        );
    } else {
        report.good(found);
    }
}

/// Check 16: the vendor's libraries, which zfolio can do without. `shown` is how many devices sysfs has.
pub(super) fn libraries(shown: usize, report: &mut Report) {
    let qpl = match qpl_sys::Library::load() {
        Ok(library) => format!("QPL {} ({})", library.version(), file(library.path())),
        Err(error) => return report.note(error.to_string(), "only the backend qpl needs it", ""),
    };
    let library = match Library::load() {
        Ok(library) => library,
        Err(error) => {
            return report.note(format!("{qpl}; {error}"), "only QPL and accel-config need it", "");
        }
    };
    let path = file(library.path());
    match library.devices() {
        Ok(devices) if devices.len() == shown => {
            let since = if library.knows_iaa_cap() { "4.0 or later" } else { "before 4.0" };
            report.good(format!("{qpl}; libaccel-config {since} ({path}) sees {}", plural(shown, "device")));
        }
        Ok(devices) => report.note(
            format!(
                "{qpl}; libaccel-config ({path}) sees {}, sysfs has {shown}",
                plural(devices.len(), "device")
            ),
            "QPL uses what the library sees",
            "accel-config list -i",
        ),
        Err(number) => report.note(
            format!("{qpl}; libaccel-config ({path}) gives error {number}"),
            "the library needs the idxd driver",
            "sudo modprobe idxd",
        ),
    }
}

/// The file behind a library's links.
fn file(path: &Path) -> String {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
