//! A configuration for the machine's devices: the commands that make it, and the same for `accel-config load-config`.
//!
//! One group of all engines and one shared queue of all entries for each device: any program may use it, stores and
//! loads together keep all engines busy, and nothing has to be divided beforehand. Fields that IAA does not have
//! (batches, read buffers) are left out: load-config refuses a file that sets them.

use std::fmt::Write as _;

use idxd_sys::flags::gen_cap;
use serde_json::{Value, json};
use zfolio_accel::discover::IaaDevice;

/// The driver's smallest and largest: what a device has that does not say.
const ENTRIES: u32 = 128;
const PRIORITY: u32 = 10;

struct Queue {
    size: u32,
    /// One less than the entries: the driver keeps one for itself.
    threshold: u32,
    block_on_fault: u32,
}

impl Queue {
    fn of(device: &IaaDevice) -> Queue {
        let size = device.max_work_queues_size.unwrap_or(ENTRIES);
        let waits = device.gen_cap.is_some_and(|cap| cap & gen_cap::BLOCK_ON_FAULT != 0);
        Queue { size, threshold: size.saturating_sub(1), block_on_fault: waits.into() }
    }
}

/// A shell script of accel-config commands, with the file for load-config as a comment at its end.
pub(super) fn script(devices: &[IaaDevice]) -> String {
    let mut text = String::from("set -e\n");
    for device in devices {
        let IaaDevice { name, id, .. } = device;
        let Queue { size, threshold, block_on_fault } = Queue::of(device);
        if device.enabled {
            let _ = writeln!(text, "accel-config disable-device {name}");
        }
        for engine in &device.engines {
            let _ = writeln!(text, "accel-config config-engine {name}/{} --group-id=0", engine.name);
        }
        let _ = writeln!(
            text,
            "accel-config config-wq {name}/wq{id}.0 --group-id=0 --mode=shared --type=user --driver-name=user \\\n    \
             --name=zfolio --wq-size={size} --threshold={threshold} --priority={PRIORITY} \
             --block-on-fault={block_on_fault}"
        );
        let _ = writeln!(text, "accel-config enable-device {name}");
        let _ = writeln!(text, "accel-config enable-wq {name}/wq{id}.0");
    }
    text.push_str(
        "\n# The same for `accel-config load-config -e -c FILE`, while the devices are disabled:\n",
    );
    let file = serde_json::to_string_pretty(&load_config(devices)).expect("numbers and strings");
    for line in file.lines() {
        let _ = writeln!(text, "# {line}");
    }
    text
}

/// The file for load-config.
pub(super) fn load_config(devices: &[IaaDevice]) -> Value {
    let device = |device: &IaaDevice| {
        let Queue { size, threshold, block_on_fault } = Queue::of(device);
        let engines: Vec<Value> =
            device.engines.iter().map(|engine| json!({"dev": engine.name, "group_id": 0})).collect();
        json!({
            "dev": device.name,
            "groups": [{
                "dev": format!("group{}.0", device.id),
                "grouped_workqueues": [{
                    "dev": format!("wq{}.0", device.id),
                    "mode": "shared",
                    "size": size,
                    "group_id": 0,
                    "priority": PRIORITY,
                    "block_on_fault": block_on_fault,
                    "type": "user",
                    "driver_name": "user",
                    "name": "zfolio",
                    "threshold": threshold,
                }],
                "grouped_engines": engines,
            }],
        })
    };
    devices.iter().map(device).collect()
}
