//! What happens when something is written: the checks of the driver in their order, its errno, its `cmd_status`.

use std::num::ParseIntError;

use libc::{EBUSY, EINVAL, EIO, ENODEV, ENXIO, EOPNOTSUPP, EPERM};

use super::attributes::{kind, mode};
use super::{
    DEFAULT_TRANSFER, Device, Errno, Idxd, Kind, MAX_QUEUE_ENTRIES, Queue, QueueDriver, post_increment,
};
use crate::Mode;

/// Longest name of a queue, and of its driver.
const NAME_LEN: usize = 31;
/// Entries that a queue gets which has none when its device is enabled.
const DEFAULT_SIZE: u32 = 4;
const MAX_PRIORITY: u32 = 15;
const MAX_RETRIES: u32 = 64;

/// `cmd_status` codes of the driver, and two of the device (below 0x100).
mod scmd {
    pub(super) const GROUP_INCOMPLETE: u32 = 0x15;
    pub(super) const WQ_PRIORITY_ZERO: u32 = 0x23;
    pub(super) const DEV_ENABLED: u32 = 0x8000_0010;
    pub(super) const WQ_ENABLED: u32 = 0x8000_0021;
    pub(super) const WQ_NO_GROUP: u32 = 0x8003_0000;
    pub(super) const WQ_NO_NAME: u32 = 0x8004_0000;
    pub(super) const WQ_NO_THRESHOLD: u32 = 0x8006_0000;
    pub(super) const WQ_NONE_CONFIGURED: u32 = 0x800d_0000;
    pub(super) const WQ_NO_DRIVER_NAME: u32 = 0x8020_0000;
}

impl Idxd {
    /// Writes `value` to the attribute at `path`, links followed.
    ///
    /// # Errors
    /// The code of errno with which write(2) fails; `cmd_status` may have changed also then.
    pub fn store(&mut self, path: &str, value: &[u8]) -> Result<(), Errno> {
        let value = std::str::from_utf8(value).map_err(|_| EINVAL)?;
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["drivers", driver, "bind"] => self.bind(driver, value.trim_end_matches('\n')),
            ["drivers", driver, "unbind"] => self.unbind(driver, value.trim_end_matches('\n')),
            ["devices", device, "cmd_status"] => {
                self.device(device).ok_or(ENODEV)?.cmd_status = 0;
                Ok(())
            }
            ["devices", device, child, attribute] => {
                let device = self.device(device).ok_or(ENODEV)?;
                if let Some(queue) = child_number(child, "wq") {
                    return device.store_queue(queue, attribute, value);
                }
                if let Some(engine) = child_number(child, "engine") {
                    return device.store_engine(engine, attribute, value);
                }
                let group = child_number(child, "group").ok_or(ENODEV)?;
                device.store_group(group, attribute, value)
            }
            // Whoever may open what cannot be written is told so here.
            _ => Err(EIO),
        }
    }

    fn device(&mut self, name: &str) -> Option<&mut Device> {
        self.devices.get_mut(name.strip_prefix("iax")?.parse::<usize>().ok()?)
    }

    fn bind(&mut self, driver: &str, name: &str) -> Result<(), Errno> {
        if driver == "idxd" {
            return self.device(name).ok_or(ENODEV)?.enable();
        }
        let driver = match driver {
            "user" => QueueDriver::User,
            "dmaengine" => QueueDriver::Dmaengine,
            _ => return Err(ENODEV),
        };
        let (device, queue) = queue_name(name).ok_or(ENODEV)?;
        let next_minor = &mut self.next_minor;
        self.devices.get_mut(device).ok_or(ENODEV)?.enable_queue(queue, driver, next_minor)
    }

    fn unbind(&mut self, driver: &str, name: &str) -> Result<(), Errno> {
        if driver == "idxd" {
            let device = self.device(name).filter(|device| device.enabled).ok_or(ENODEV)?;
            device.disable();
            return Ok(());
        }
        let (device, queue) = queue_name(name).ok_or(ENODEV)?;
        let device = self.devices.get_mut(device).ok_or(ENODEV)?;
        let bound = device.queues.get(queue).and_then(|queue| queue.driver).map(QueueDriver::name);
        if bound != Some(driver) {
            return Err(ENODEV);
        }
        device.disable_queue(queue);
        Ok(())
    }
}

impl Device {
    fn enable(&mut self) -> Result<(), Errno> {
        if self.enabled {
            self.cmd_status = scmd::DEV_ENABLED;
            return Err(EBUSY);
        }
        self.write_config().map_err(|_| ENXIO)?;
        let incomplete = |group: usize| {
            let engines = self.engines.contains(&Some(group));
            engines != self.queues.iter().any(|queue| queue.group == Some(group))
        };
        if (0..self.groups.len()).any(incomplete) {
            self.cmd_status = scmd::GROUP_INCOMPLETE;
            return Err(ENXIO);
        }
        self.enabled = true;
        self.cmd_status = 0;
        Ok(())
    }

    /// Checks and completes the configuration as the driver does before it hands it to the device.
    fn write_config(&mut self) -> Result<(), Errno> {
        if self.queues.iter().all(|queue| queue.group.is_none()) {
            self.cmd_status = scmd::WQ_NONE_CONFIGURED;
            return Err(EINVAL);
        }
        if self.engines.iter().all(Option::is_none) {
            return Err(EINVAL);
        }
        let sizeless =
            |queue: &&mut Queue| queue.group.is_some() && queue.size == 0 && queue.kind != Kind::None;
        self.queues.iter_mut().filter(sizeless).for_each(|queue| queue.size = DEFAULT_SIZE);
        Ok(())
    }

    /// Disables it and forgets its configuration, clients or not: refusing while there are some is up to who asks.
    fn disable(&mut self) {
        (0..self.queues.len()).for_each(|queue| self.disable_queue(queue));
        *self = Device {
            engines: vec![None; self.engines.len()],
            groups: vec![Default::default(); self.groups.len()],
            enabled: false,
            cmd_status: 0,
            queues: std::mem::take(&mut self.queues),
            ..*self
        };
        for queue in &mut self.queues {
            queue.forget(self.capabilities.op_cap);
            (queue.size, queue.group) = (0, None);
        }
    }

    fn disable_queue(&mut self, queue: usize) {
        let queue = &mut self.queues[queue];
        if queue.driver.take().is_some() {
            queue.minor = None;
            queue.forget(self.capabilities.op_cap);
            self.cmd_status = 0;
        }
    }

    fn enable_queue(
        &mut self,
        number: usize,
        driver: QueueDriver,
        next_minor: &mut u32,
    ) -> Result<(), Errno> {
        let queue = self.queues.get(number).ok_or(ENODEV)?;
        let refusal = if queue.driver.is_some() {
            Some((scmd::WQ_ENABLED, EBUSY))
        } else if !self.enabled {
            return Err(ENXIO);
        } else if queue.driver_name != driver.name() {
            Some((scmd::WQ_NO_DRIVER_NAME, ENODEV))
        } else if queue.group.is_none() {
            Some((scmd::WQ_NO_GROUP, ENXIO))
        } else if queue.name.is_empty() {
            Some((scmd::WQ_NO_NAME, ENXIO))
        } else if queue.mode == Mode::Shared && queue.threshold == 0 {
            Some((scmd::WQ_NO_THRESHOLD, ENXIO))
        } else {
            None
        };
        if let Some((cmd_status, errno)) = refusal {
            self.cmd_status = cmd_status;
            return Err(errno);
        }
        let kind = match driver {
            QueueDriver::User => Kind::User,
            QueueDriver::Dmaengine => Kind::Kernel,
        };
        let before = std::mem::replace(&mut self.queues[number].kind, kind);
        let refusal = match self.write_config() {
            Err(errno) => Some(errno),
            Ok(()) if self.queues[number].priority == 0 => {
                self.cmd_status = scmd::WQ_PRIORITY_ZERO;
                Some(ENXIO)
            }
            Ok(()) => None,
        };
        let queue = &mut self.queues[number];
        if let Some(errno) = refusal {
            queue.kind = before;
            return Err(errno);
        }
        queue.driver = Some(driver);
        queue.minor = (driver == QueueDriver::User).then(|| post_increment(next_minor));
        self.cmd_status = 0;
        Ok(())
    }

    fn store_engine(&mut self, engine: usize, attribute: &str, value: &str) -> Result<(), Errno> {
        if attribute != "group_id" {
            return Err(EIO);
        }
        let group = parse_group(value, self.groups.len())?;
        *self.engines.get_mut(engine).ok_or(ENODEV)? = group;
        Ok(())
    }

    fn store_group(&mut self, group: usize, attribute: &str, value: &str) -> Result<(), Errno> {
        let group = self.groups.get_mut(group).ok_or(ENODEV)?;
        let limit = match attribute {
            "desc_progress_limit" => &mut group.desc_progress_limit,
            "batch_progress_limit" => &mut group.batch_progress_limit,
            // Fixed in both generations unless the driver is told to let them be changed.
            "traffic_class_a" | "traffic_class_b" => {
                parse::<i64>(value)?;
                return Err(EPERM);
            }
            _ => return Err(EIO),
        };
        *limit = Some(parse::<u32>(value)?).filter(|&value| value <= 3).ok_or(EINVAL)?;
        Ok(())
    }

    fn store_queue(&mut self, number: usize, attribute: &str, value: &str) -> Result<(), Errno> {
        let claimed: u32 = self.queues.iter().map(|queue| queue.size).sum();
        let (groups, enabled, capabilities) = (self.groups.len(), self.enabled, self.capabilities);
        let queue = self.queues.get_mut(number).ok_or(ENODEV)?;
        let disabled = |errno| if queue.driver.is_none() { Ok(()) } else { Err(errno) };
        match attribute {
            "group_id" => {
                parse::<i64>(value)?;
                disabled(EPERM)?;
                queue.group = parse_group(value, groups)?;
            }
            "mode" => {
                disabled(EPERM)?;
                match word(value) {
                    word if word == mode(Mode::Dedicated) => {
                        (queue.mode, queue.threshold) = (Mode::Dedicated, 0)
                    }
                    word if word == mode(Mode::Shared) => queue.mode = Mode::Shared,
                    _ => return Err(EINVAL),
                }
            }
            "size" => {
                let size = parse::<u64>(value)?;
                if enabled {
                    return Err(EPERM);
                }
                let others = u64::from(claimed - queue.size);
                if size > u64::from(MAX_QUEUE_ENTRIES) || size + others > u64::from(MAX_QUEUE_ENTRIES) {
                    return Err(EINVAL);
                }
                queue.size = size as u32;
            }
            "priority" => {
                let priority = parse::<u32>(value)?;
                disabled(EPERM)?;
                queue.priority = Some(priority).filter(|&value| value <= MAX_PRIORITY).ok_or(EINVAL)?;
            }
            "block_on_fault" => {
                if capabilities.gen_cap & 1 == 0 {
                    return Err(EOPNOTSUPP);
                }
                disabled(ENXIO)?;
                let block = parse_bool(value)?;
                if block && queue.prs_disable {
                    return Err(EOPNOTSUPP);
                }
                queue.block_on_fault = block;
            }
            "threshold" => {
                let threshold = u32::try_from(parse_any_base(value)?).map_err(|_| EINVAL)?;
                if threshold == 0 || threshold > queue.size {
                    return Err(EINVAL);
                }
                disabled(ENXIO)?;
                if queue.mode == Mode::Dedicated {
                    return Err(EINVAL);
                }
                queue.threshold = threshold;
            }
            "type" => {
                disabled(EPERM)?;
                let kinds = [Kind::None, Kind::Kernel, Kind::User];
                let new = kinds.into_iter().find(|&of| kind(of) == word(value)).ok_or(EINVAL)?;
                if std::mem::replace(&mut queue.kind, new) != new {
                    queue.name.clear();
                }
            }
            "name" | "driver_name" => {
                disabled(EPERM)?;
                if value.is_empty() || value.len() > NAME_LEN || value.trim().contains(char::is_control) {
                    return Err(EINVAL);
                }
                if attribute == "driver_name" {
                    queue.driver_name = value.trim().to_owned();
                } else if queue.kind == Kind::Kernel {
                    return Err(EOPNOTSUPP);
                } else {
                    queue.name = value.trim().to_owned();
                }
            }
            "max_transfer_size" => {
                disabled(EPERM)?;
                let size = parse_any_base(value)?;
                let size = Some(size).filter(|&size| size != 0).and_then(u64::checked_next_power_of_two);
                let size = size.filter(|&size| size <= capabilities.max_transfer_size);
                queue.max_transfer_size = size.ok_or(EINVAL)?;
            }
            "op_config" => {
                disabled(EPERM)?;
                let opcodes = parse_bitmap(value)?;
                if (0..4).any(|word| opcodes[word] & !capabilities.op_cap[word] != 0) {
                    return Err(EINVAL);
                }
                queue.op_config = opcodes;
            }
            "ats_disable" => {
                disabled(EPERM)?;
                queue.ats_disable = parse_bool(value)?;
            }
            "prs_disable" => {
                disabled(EPERM)?;
                queue.prs_disable = parse_bool(value)?;
                queue.block_on_fault &= !queue.prs_disable;
            }
            "enqcmds_retries" => {
                if queue.mode == Mode::Dedicated {
                    return Err(EOPNOTSUPP);
                }
                queue.enqcmds_retries = parse::<u32>(value)?.min(MAX_RETRIES);
            }
            _ => return Err(EIO),
        }
        Ok(())
    }
}

impl Queue {
    /// What the driver forgets of a queue that is disabled.
    fn forget(&mut self, op_cap: [u64; 4]) {
        *self = Queue {
            size: self.size,
            group: self.group,
            driver_name: std::mem::take(&mut self.driver_name),
            max_transfer_size: DEFAULT_TRANSFER,
            ..Queue::new(op_cap)
        };
    }
}

/// 3 of `wq1.3`.
fn child_number(name: &str, what: &str) -> Option<usize> {
    name.strip_prefix(what)?.split_once('.')?.1.parse().ok()
}

/// 1 and 3 of `wq1.3`.
fn queue_name(name: &str) -> Option<(usize, usize)> {
    let (device, queue) = name.strip_prefix("wq")?.split_once('.')?;
    Some((device.parse().ok()?, queue.parse().ok()?))
}

/// One trailing line end does not count.
fn word(value: &str) -> &str {
    value.strip_suffix('\n').unwrap_or(value)
}

fn parse<T: std::str::FromStr<Err = ParseIntError>>(value: &str) -> Result<T, Errno> {
    word(value).parse().map_err(|_| EINVAL)
}

fn parse_group(value: &str, groups: usize) -> Result<Option<usize>, Errno> {
    match parse::<i64>(value)? {
        -1 => Ok(None),
        group => usize::try_from(group).ok().filter(|&group| group < groups).map(Some).ok_or(EINVAL),
    }
}

fn parse_any_base(value: &str) -> Result<u64, Errno> {
    let value = word(value);
    let parsed = match value.strip_prefix("0x").or(value.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None if value.len() > 1 && value.starts_with('0') => u64::from_str_radix(&value[1..], 8),
        None => value.parse(),
    };
    parsed.map_err(|_| EINVAL)
}

fn parse_bool(value: &str) -> Result<bool, Errno> {
    match word(value) {
        "1" | "y" | "Y" | "t" | "T" | "on" | "On" | "ON" => Ok(true),
        "0" | "n" | "N" | "f" | "F" | "of" | "off" | "Off" | "OFF" => Ok(false),
        _ => Err(EINVAL),
    }
}

/// Up to eight words of 32 bits, highest first.
pub(super) fn parse_bitmap(value: &str) -> Result<[u64; 4], Errno> {
    let mut words = [0; 4];
    let parts: Vec<&str> = word(value).trim().split(',').collect();
    for (index, part) in parts.iter().rev().enumerate() {
        let half = u32::from_str_radix(part, 16).map_err(|_| EINVAL)?;
        *words.get_mut(index / 2).ok_or(EINVAL)? |= u64::from(half) << (index % 2 * 32);
    }
    Ok(words)
}
