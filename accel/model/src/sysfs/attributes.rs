//! What there is to read: every attribute's text, in the driver's own formats.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::{CDEV_MAJOR, Clients, Device, Idxd, Kind, MAX_QUEUE_ENTRIES, Queue};
use crate::{Mode, QueueId};

/// A file or link in sysfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An attribute.
    File {
        /// What reading it gives.
        text: String,
        /// Whether it can be written.
        writable: bool,
    },
    /// A symbolic link, with where it leads.
    Link(String),
}

impl Node {
    /// The text of a file.
    pub fn text(&self) -> Option<&str> {
        match self {
            Node::File { text, .. } => Some(text),
            Node::Link(_) => None,
        }
    }
}

/// Nodes by path.
pub type Attributes = BTreeMap<String, Node>;

/// Nodes of one directory, as they are added.
struct Dir<'a> {
    nodes: &'a mut Attributes,
    path: String,
}

impl Dir<'_> {
    fn add(&mut self, name: &str, text: impl Display, writable: bool) {
        let path = format!("{}/{name}", self.path);
        self.nodes.insert(path, Node::File { text: format!("{text}\n"), writable });
    }

    /// Can be read.
    fn r(&mut self, name: &str, text: impl Display) {
        self.add(name, text, false);
    }

    /// Can be read and written.
    fn rw(&mut self, name: &str, text: impl Display) {
        self.add(name, text, true);
    }

    fn link(&mut self, name: &str, to: String) {
        self.nodes.insert(format!("{}/{name}", self.path), Node::Link(to));
    }
}

impl Idxd {
    /// All there is below `/sys/bus/dsa`. An attribute that the driver would refuse to show is left out.
    pub fn attributes(&self, clients: Clients) -> Attributes {
        let mut nodes = Attributes::new();
        for driver in ["idxd", "user", "dmaengine"] {
            for name in ["bind", "unbind"] {
                let node = Node::File { text: String::new(), writable: true };
                nodes.insert(format!("drivers/{driver}/{name}"), node);
            }
        }
        for (number, device) in self.devices.iter().enumerate() {
            device.show(number, clients, &mut nodes);
        }
        nodes
    }
}

impl Device {
    fn show(&self, number: usize, clients: Clients, nodes: &mut Attributes) {
        let capabilities = &self.capabilities;
        let id = |queue: usize| QueueId::new(number as u16, queue as u16);
        let second = capabilities.version >= 0x200;
        let mut dir = Dir { nodes, path: format!("devices/iax{number}") };
        dir.r("version", format_args!("{:#x}", capabilities.version));
        dir.r("max_groups", self.groups.len());
        dir.r("max_work_queues", self.queues.len());
        dir.r("max_work_queues_size", MAX_QUEUE_ENTRIES);
        dir.r("max_engines", self.engines.len());
        dir.r("numa_node", self.nid);
        dir.r("max_transfer_size", capabilities.max_transfer_size);
        dir.r("op_cap", bitmap(&capabilities.op_cap));
        dir.r("gen_cap", format_args!("{:#x}", capabilities.gen_cap));
        dir.r("configurable", 1);
        dir.r("clients", (0..self.queues.len()).map(|queue| clients(id(queue))).sum::<usize>());
        dir.r("pasid_enabled", 1);
        dir.r("state", state(self.enabled));
        dir.r("errors", bitmap(&self.errors));
        dir.r("cdev_major", CDEV_MAJOR);
        dir.rw("cmd_status", format_args!("{:#x}", self.cmd_status));
        if second {
            dir.r("iaa_cap", format_args!("{:#x}", capabilities.iaa_cap));
        }
        if self.enabled {
            dir.link("driver", "../../drivers/idxd".to_owned());
        }
        for (engine, group) in self.engines.iter().enumerate() {
            let name = format!("engine{number}.{engine}");
            Dir { nodes: dir.nodes, path: format!("{}/{name}", dir.path) }.rw("group_id", group_id(*group));
            dir.nodes.insert(format!("devices/{name}"), Node::Link(format!("iax{number}/{name}")));
        }
        for (index, group) in self.groups.iter().enumerate() {
            let name = format!("group{number}.{index}");
            let mut sub = Dir { nodes: dir.nodes, path: format!("{}/{name}", dir.path) };
            let members = |of: &str, groups: &mut dyn Iterator<Item = Option<usize>>| {
                let members = groups.enumerate().filter(|(_, group)| *group == Some(index));
                members.map(|(member, _)| format!("{of}{number}.{member}")).collect::<Vec<_>>().join(" ")
            };
            sub.r("engines", members("engine", &mut self.engines.iter().copied()));
            sub.r("work_queues", members("wq", &mut self.queues.iter().map(|queue| queue.group)));
            sub.rw("traffic_class_a", 1);
            sub.rw("traffic_class_b", 1);
            if second {
                sub.rw("desc_progress_limit", group.desc_progress_limit);
                sub.rw("batch_progress_limit", group.batch_progress_limit);
            }
            dir.nodes.insert(format!("devices/{name}"), Node::Link(format!("iax{number}/{name}")));
        }
        for (index, queue) in self.queues.iter().enumerate() {
            let name = format!("wq{}", id(index));
            let path = format!("{}/{name}", dir.path);
            queue.show(clients(id(index)), second, &mut Dir { nodes: dir.nodes, path });
            dir.nodes.insert(format!("devices/{name}"), Node::Link(format!("iax{number}/{name}")));
        }
    }
}

impl Queue {
    fn show(&self, clients: usize, second: bool, dir: &mut Dir) {
        dir.r("clients", clients);
        dir.r("state", state(self.driver.is_some()));
        dir.rw("group_id", group_id(self.group));
        dir.rw("mode", mode(self.mode));
        dir.rw("size", self.size);
        dir.rw("priority", self.priority);
        dir.rw("block_on_fault", u8::from(self.block_on_fault));
        dir.rw("threshold", self.threshold);
        dir.rw("type", kind(self.kind));
        dir.rw("name", &self.name);
        dir.rw("driver_name", &self.driver_name);
        dir.rw("max_transfer_size", self.max_transfer_size);
        dir.rw("op_config", bitmap(&self.op_config));
        dir.rw("ats_disable", u8::from(self.ats_disable));
        // The model executes a descriptor within the call that submits it, or holds it in the process that did.
        dir.r("occupancy", 0);
        if second {
            dir.rw("prs_disable", u8::from(self.prs_disable));
        }
        if self.mode == Mode::Shared {
            dir.rw("enqcmds_retries", self.enqcmds_retries);
        }
        if let Some(minor) = self.minor {
            dir.r("cdev_minor", minor);
        }
        if let Some(driver) = self.driver {
            dir.link("driver", format!("../../../drivers/{}", driver.name()));
        }
    }
}

pub(super) fn state(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

pub(super) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "shared",
        Mode::Dedicated => "dedicated",
    }
}

pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::None => "none",
        Kind::Kernel => "kernel",
        Kind::User => "user",
    }
}

fn group_id(group: Option<usize>) -> i64 {
    group.map_or(-1, |group| group as i64)
}

/// 256 bits as the kernel prints them: words of 32, highest first.
pub(super) fn bitmap(words: &[u64; 4]) -> String {
    let halves = words.iter().rev().flat_map(|word| [word >> 32, word & 0xffff_ffff]);
    halves.map(|half| format!("{half:08x}")).collect::<Vec<_>>().join(",")
}
