//! The machine's IAA devices and work queues, as the idxd driver's sysfs tells them.
//!
//! The root of sysfs is a parameter, so that machines can be made up. A file that is missing or not understood is
//! an unknown value, never an error: kernels differ in what they show. Nothing is written, and no device is opened.

use std::fs;
use std::path::{Path, PathBuf};

use crate::NodeId;

/// Which opcodes a device has or a queue allows: a bit each, lowest word first.
pub type Opcodes = [u64; 4];

/// Whether `opcode` is among `opcodes`.
pub fn allows(opcodes: &Opcodes, opcode: u8) -> bool {
    opcodes[usize::from(opcode >> 6)] >> (opcode & 63) & 1 == 1
}

/// An IAA device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IaaDevice {
    /// `iax1`.
    pub name: String,
    /// Its number, 1 of `iax1`: the first number in the names of its queues.
    pub id: u32,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The version register: 0x100, 0x200.
    pub version: Option<u32>,
    /// The node it is nearest to.
    pub nid: Option<NodeId>,
    /// General capabilities; see [`gen_cap`](idxd_sys::flags::gen_cap).
    pub gen_cap: Option<u64>,
    /// IAA capabilities; see [`iaa_cap`](idxd_sys::flags::iaa_cap). Unknown before Linux 6.0.
    pub iaa_cap: Option<u64>,
    /// Opcodes it has.
    pub op_cap: Option<Opcodes>,
    /// The largest transfer in bytes.
    pub max_transfer_size: Option<u64>,
    /// How many groups can be made.
    pub max_groups: Option<u32>,
    /// How many engines there are.
    pub max_engines: Option<u32>,
    /// How many work queues can be made.
    pub max_work_queues: Option<u32>,
    /// Entries that the queues share.
    pub max_work_queues_size: Option<u32>,
    /// Whether descriptors may carry a process's own addresses.
    pub pasid_enabled: Option<bool>,
    /// The result of the last command.
    pub cmd_status: Option<u32>,
    /// Its engines.
    pub engines: Vec<IaaEngine>,
    /// Its work queues.
    pub queues: Vec<WorkQueue>,
}

/// An engine of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IaaEngine {
    /// `engine1.0`.
    pub name: String,
    /// The group it works for.
    pub group: Option<u32>,
}

/// How descriptors enter a work queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueMode {
    /// Any number of clients, ENQCMD, refused when full.
    Shared,
    /// One client, MOVDIR64B, no answer.
    Dedicated,
}

/// A work queue of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkQueue {
    /// `wq1.0`.
    pub name: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Shared or dedicated.
    pub mode: Option<QueueMode>,
    /// `user`, `kernel` or `none`.
    pub kind: Option<String>,
    /// The driver it is bound to when it is enabled: `user`, `crypto`, `dmaengine`.
    pub driver_name: Option<String>,
    /// Entries.
    pub size: Option<u32>,
    /// Entries up to which the limited portal of a shared queue accepts.
    pub threshold: Option<u32>,
    /// 1 to 15; higher is served more often.
    pub priority: Option<u32>,
    /// The group whose engines serve it.
    pub group: Option<u32>,
    /// Whether descriptors may ask the device to wait for a page.
    pub block_on_fault: Option<bool>,
    /// The largest transfer in bytes.
    pub max_transfer_size: Option<u64>,
    /// Opcodes it allows. Unknown before Linux 6.0.
    pub op_config: Option<Opcodes>,
}

impl WorkQueue {
    /// Whether a program may submit to it: enabled, and for user space.
    pub fn is_for_user(&self) -> bool {
        self.enabled && self.kind.as_deref() == Some("user")
    }

    /// Its character device below `dev`, which is `/dev` but in tests.
    pub fn path(&self, dev: &Path) -> PathBuf {
        dev.join("iax").join(&self.name)
    }

    /// Descriptors that it holds: the threshold of a shared queue, else its size.
    pub fn capacity(&self) -> u32 {
        let size = self.size.unwrap_or(0);
        match (self.mode, self.threshold) {
            (Some(QueueMode::Shared), Some(threshold)) if threshold > 0 => threshold.min(size),
            _ => size,
        }
    }
}

/// Where the idxd driver shows its devices, below the root of sysfs.
pub fn devices_dir(sysfs: &Path) -> PathBuf {
    sysfs.join("bus/dsa/devices")
}

/// The IAA devices below `sysfs`, which is `/sys` but in tests, in the order of their numbers.
pub fn iaa_devices(sysfs: &Path) -> Vec<IaaDevice> {
    let mut devices: Vec<IaaDevice> = names(&devices_dir(sysfs))
        .filter_map(|name| {
            let id = name.strip_prefix("iax")?.parse().ok()?;
            Some(device(&devices_dir(sysfs).join(&name), name, id))
        })
        .collect();
    devices.sort_by_key(|device| device.id);
    devices
}

fn device(dir: &Path, name: String, id: u32) -> IaaDevice {
    let number = |file: &str| read(dir, file).and_then(|text| parse_number(&text));
    let small = |file: &str| number(file).and_then(|value| u32::try_from(value).ok());
    let mut engines: Vec<IaaEngine> =
        children(dir, "engine", id).map(|name| IaaEngine { group: group(&dir.join(&name)), name }).collect();
    let mut queues: Vec<WorkQueue> =
        children(dir, "wq", id).map(|name| queue(&dir.join(&name), name)).collect();
    engines.sort_by_key(|engine| last_number(&engine.name));
    queues.sort_by_key(|queue| last_number(&queue.name));
    IaaDevice {
        enabled: read(dir, "state").as_deref() == Some("enabled"),
        // Printed in hexadecimal without saying so.
        version: read(dir, "version").and_then(|text| u32::from_str_radix(hex_digits(&text), 16).ok()),
        nid: read(dir, "numa_node").and_then(|text| text.parse().ok()).map(NodeId),
        gen_cap: number("gen_cap"),
        iaa_cap: number("iaa_cap"),
        op_cap: read(dir, "op_cap").and_then(|text| parse_opcodes(&text)),
        max_transfer_size: number("max_transfer_size"),
        max_groups: small("max_groups"),
        max_engines: small("max_engines"),
        max_work_queues: small("max_work_queues"),
        max_work_queues_size: small("max_work_queues_size"),
        pasid_enabled: number("pasid_enabled").map(|value| value != 0),
        cmd_status: small("cmd_status"),
        name,
        id,
        engines,
        queues,
    }
}

fn queue(dir: &Path, name: String) -> WorkQueue {
    let number = |file: &str| read(dir, file).and_then(|text| parse_number(&text));
    let small = |file: &str| number(file).and_then(|value| u32::try_from(value).ok());
    WorkQueue {
        name,
        enabled: read(dir, "state").as_deref() == Some("enabled"),
        mode: match read(dir, "mode").as_deref() {
            Some("shared") => Some(QueueMode::Shared),
            Some("dedicated") => Some(QueueMode::Dedicated),
            _ => None,
        },
        kind: read(dir, "type"),
        driver_name: read(dir, "driver_name").filter(|name| !name.is_empty()),
        size: small("size"),
        threshold: small("threshold"),
        priority: small("priority"),
        group: group(dir),
        block_on_fault: number("block_on_fault").map(|value| value != 0),
        max_transfer_size: number("max_transfer_size"),
        op_config: read(dir, "op_config").and_then(|text| parse_opcodes(&text)),
    }
}

/// The group of an engine or a queue; -1 is none.
fn group(dir: &Path) -> Option<u32> {
    read(dir, "group_id")?.parse().ok()
}

/// Names in a directory; none if it is not there.
fn names(dir: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

/// Names such as `wq1.0` of the children of device 1.
fn children(dir: &Path, what: &str, id: u32) -> impl Iterator<Item = String> {
    let prefix = format!("{what}{id}.");
    names(dir).filter(move |name| name.starts_with(&prefix) && last_number(name).is_some())
}

/// 3 of `wq1.3`.
fn last_number(name: &str) -> Option<u32> {
    name.rsplit_once('.')?.1.parse().ok()
}

/// A trimmed file.
fn read(dir: &Path, file: &str) -> Option<String> {
    Some(fs::read_to_string(dir.join(file)).ok()?.trim().to_owned())
}

fn hex_digits(text: &str) -> &str {
    text.strip_prefix("0x").unwrap_or(text)
}

/// A number, hexadecimal if it says so.
fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A bitmap of opcodes: eight 32-bit words, highest first, between commas; older kernels print four 64-bit words,
/// lowest first, between spaces.
fn parse_opcodes(text: &str) -> Option<Opcodes> {
    let mut opcodes = [0; 4];
    if text.contains(',') {
        let words: Vec<&str> = text.split(',').collect();
        for (index, word) in words.iter().rev().enumerate() {
            let word = u64::from(u32::from_str_radix(hex_digits(word), 16).ok()?);
            *opcodes.get_mut(index / 2)? |= word << (index % 2 * 32);
        }
    } else {
        for (index, word) in text.split_ascii_whitespace().enumerate() {
            *opcodes.get_mut(index)? = u64::from_str_radix(hex_digits(word), 16).ok()?;
        }
    }
    Some(opcodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `text` to a file, with the directories it takes.
    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn devices_queues_and_engines_are_read_as_the_driver_writes_them() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| write(root.path(), &format!("bus/dsa/devices/iax3/{name}"), text);
        file("state", "enabled\n");
        file("version", "200\n");
        file("numa_node", "-1\n");
        file("gen_cap", "0x71f10901f0105\n");
        file("op_cap", "00000000,00000000,00000000,00000000,00000000,007f331c,00000000,0000000d\n");
        file("max_work_queues_size", "128\n");
        file("pasid_enabled", "1\n");
        file("cmd_status", "0x80060000\n");
        file("engine3.1/group_id", "0\n");
        file("engine3.0/group_id", "-1\n");
        file("wq3.10/state", "disabled\n");
        file("wq3.2/state", "enabled\n");
        file("wq3.2/type", "user\n");
        file("wq3.2/mode", "shared\n");
        file("wq3.2/size", "16\n");
        file("wq3.2/threshold", "12\n");
        file("wq3.2/driver_name", "\n");
        file("wq4.0/state", "of another device\n");
        write(root.path(), "bus/dsa/devices/dsa0/state", "enabled\n");

        let devices = iaa_devices(root.path());
        assert_eq!(devices.len(), 1);
        let device = &devices[0];
        assert_eq!((device.name.as_str(), device.enabled, device.version), ("iax3", true, Some(0x200)));
        assert_eq!((device.nid, device.iaa_cap), (None, None), "unknown values are unknown, not zero");
        assert_eq!(device.cmd_status, Some(0x8006_0000));
        let has = device.op_cap.unwrap();
        assert!(allows(&has, idxd_sys::opcode::COMPRESS) && !allows(&has, idxd_sys::opcode::ENCRYPT));
        let groups: Vec<_> = device.engines.iter().map(|engine| engine.group).collect();
        assert_eq!(groups, [None, Some(0)]);
        let names: Vec<_> = device.queues.iter().map(|queue| queue.name.as_str()).collect();
        assert_eq!(names, ["wq3.2", "wq3.10"], "in the order of their numbers");
        let queue = &device.queues[0];
        assert!(queue.is_for_user());
        assert_eq!((queue.mode, queue.capacity()), (Some(QueueMode::Shared), 12));
        assert_eq!(queue.driver_name, None);
        assert_eq!(queue.path(Path::new("/dev")), Path::new("/dev/iax/wq3.2"));
    }

    #[test]
    fn machine_without_the_driver_has_no_devices() {
        assert!(iaa_devices(tempfile::tempdir().unwrap().path()).is_empty());
    }

    #[test]
    fn opcodes_of_older_kernels_are_four_words_lowest_first() {
        let expected = Some([0xd, 0x007f_331c, 0, 0]);
        assert_eq!(parse_opcodes("0xd 0x7f331c 0x0 0x0"), expected);
        assert_eq!(
            parse_opcodes("00000000,00000000,00000000,00000000,00000000,007f331c,00000000,0000000d"),
            expected
        );
        assert_eq!(parse_opcodes("1,2,3,4,5,6,7,8,9"), None);
    }
}
