//! Checks 1 to 5: CPU, PCI, driver, kernel, IOMMU. What they read is text under `/proc` and `/sys`.

use std::fs;
use std::path::{Path, PathBuf};

use super::report::{Class, Report};

/// Where the machine's files are; made-up machines are examined by giving other roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`.
    pub dev: PathBuf,
    /// `/etc`, for which distribution's commands to show.
    pub etc: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into(), etc: "/etc".into() }
    }
}

/// PCI device ids of IAA, and the machines that have them.
const PCI_IDS: [(u16, &str); 4] = [
    (0x0cfe, "Sapphire, Emerald or Granite Rapids"),
    (0x1216, "Diamond Rapids"),
    (0xb02d, "Panther Lake"),
    (0xfd2d, "Wildcat Lake"),
];

/// The oldest kernels that QPL's authors name for a device of version 1 and of version 2.
const MIN_KERNEL: [(u32, u32); 2] = [(5, 18), (6, 3)];

/// What a trimmed text file says; nothing if it is not there.
pub(super) fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// The flags of the first CPU.
fn cpu_flags(roots: &Roots) -> Vec<String> {
    let info = text(&roots.proc.join("cpuinfo")).unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let (_, flags) = line.split_once(':').unwrap_or_default();
    flags.split_ascii_whitespace().map(str::to_owned).collect()
}

/// Check 1.
pub(super) fn cpu(roots: &Roots, report: &mut Report) {
    let flags = cpu_flags(roots);
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    match (has("enqcmd"), has("movdir64b")) {
        (true, true) => report.good("enqcmd and movdir64b"),
        (false, true) => report.note("movdir64b, no enqcmd",
            "the firmware's switch for ENQCMD is off, the IOMMU is off, or a hypervisor hides it; dedicated queues \
             and write() do without it",
            "grep -o -w -m1 enqcmd /proc/cpuinfo",
        ),
        _ => report.note("neither enqcmd nor movdir64b",
            "this CPU is older than IAA, or a hypervisor hides them; only write() could submit",
            "grep -m1 'model name' /proc/cpuinfo",
        ),
    }
}

/// Check 2. `configured` is how many IAA devices the driver shows.
pub(super) fn pci(roots: &Roots, configured: usize, report: &mut Report) {
    let found = pci_functions(&roots.sys.join("bus/pci/devices"));
    match (found.as_slice(), configured) {
        ([], 0) => report.bad(Class::Hardware,
            "no IAA",
            "this CPU has none (not every model of Sapphire Rapids and later does), it is switched off in the \
             firmware, or a hypervisor does not pass it on",
            "lspci -nn -d 8086:0cfe",
        ),
        ([], devices) => report.note(format!("no IAA, but the driver shows {}", plural(devices, "device")),
            "the devices are emulated",
            "",
        ),
        (found, _) => {
            let mut kinds: Vec<&str> = found.iter().map(|&(_, machine)| machine).collect();
            kinds.dedup();
            report.good(format!("{} of {}", plural(found.len(), "IAA"), kinds.join(" and ")));
        }
    }
}

/// The IAA functions among the PCI devices: id and machine.
fn pci_functions(devices: &Path) -> Vec<(u16, &'static str)> {
    let id = |path: PathBuf| {
        let text = text(&path)?;
        u16::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
    };
    let mut found: Vec<_> = fs::read_dir(devices)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| id(entry.path().join("vendor")) == Some(0x8086))
        .filter_map(|entry| id(entry.path().join("device")))
        .filter_map(|device| PCI_IDS.into_iter().find(|&(known, _)| known == device))
        .collect();
    found.sort_unstable();
    found
}

/// Check 3: whether the driver is there.
pub(super) fn driver(roots: &Roots, report: &mut Report) -> bool {
    let bus = roots.sys.join("bus/dsa/drivers/idxd");
    if bus.exists() {
        report.good("loaded");
        return true;
    }
    if roots.sys.join("module/idxd").exists() {
        report.bad(
            Class::Kernel,
            format!("module loaded, but {} is missing", bus.display()),
            "the kernel is older than 5.14, whose driver had another layout",
            "uname -r",
        );
    } else {
        report.bad(
            Class::Kernel,
            "not loaded",
            "the module was not loaded or is not built",
            "sudo modprobe idxd",
        );
    }
    false
}

/// Check 4. `version` is the highest of the devices' versions.
pub(super) fn kernel(roots: &Roots, version: Option<u32>, report: &mut Report) {
    let Some(release) = text(&roots.proc.join("sys/kernel/osrelease")) else {
        report.note("its version cannot be read", "/proc is not mounted", "uname -r");
        return;
    };
    let (generation, needed) = match version {
        Some(version) if version >= 0x200 => (2, MIN_KERNEL[1]),
        _ => (1, MIN_KERNEL[0]),
    };
    let (major, minor) = needed;
    match release_numbers(&release) {
        Some(has) if has < needed => report.bad(
            Class::Kernel,
            format!("{release}; IAA of generation {generation} needs {major}.{minor} or later"),
            "the kernel is too old",
            "uname -r",
        ),
        _ => report.good(format!("{release} (generation {generation} needs {major}.{minor})")),
    }
}

/// The first two numbers of a kernel's release.
fn release_numbers(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Check 5. `pasid` is what each device says of its `pasid_enabled`.
pub(super) fn iommu(roots: &Roots, pasid: &[(String, Option<bool>)], report: &mut Report) {
    let without: Vec<&str> =
        pasid.iter().filter(|(_, on)| *on == Some(false)).map(|(name, _)| name.as_str()).collect();
    if without.is_empty() {
        let on = pasid.iter().filter(|(_, on)| *on == Some(true)).count();
        report.good(format!("PASID is on for {on} of {}", plural(pasid.len(), "device")));
        return;
    }
    let line = text(&roots.proc.join("cmdline")).unwrap_or_default();
    let options: Vec<&str> = line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("intel_iommu="))
        .flat_map(|value| value.split(','))
        .collect();
    let la57 = cpu_flags(roots).iter().any(|flag| flag == "la57") && !line.contains("no5lvl");
    let (cause, option) = if !(options.contains(&"on") && options.contains(&"sm_on")) {
        ("the kernel's command line lacks intel_iommu=on,sm_on", "intel_iommu=on,sm_on")
    } else if la57 {
        ("some systems refuse shared virtual addressing under 5-level paging", "no5lvl")
    } else {
        ("VT-d is off in the firmware, or the kernel is built without INTEL_IDXD_SVM", "")
    };
    let command = match option {
        "" => "sudo dmesg | grep -iE 'dmar|iommu'".to_owned(),
        option => add_kernel_option(roots, option),
    };
    report.bad(Class::Kernel, format!("PASID is off for {}", without.join(", ")), cause, &command);
}

/// The distribution's way to add an option to the kernel's command line; it takes effect at the next boot.
fn add_kernel_option(roots: &Roots, option: &str) -> String {
    let release = text(&roots.etc.join("os-release")).unwrap_or_default();
    let debian = release.lines().filter_map(|line| line.split_once('=')).any(|(key, value)| {
        matches!(key, "ID" | "ID_LIKE") && (value.contains("debian") || value.contains("ubuntu"))
    });
    if debian {
        format!("sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{option} /' /etc/default/grub && sudo update-grub")
    } else {
        format!("sudo grubby --update-kernel=ALL --args={option}")
    }
}

/// `2 devices`, `1 device`.
pub(super) fn plural(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}
