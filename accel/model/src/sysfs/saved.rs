//! The state as text, for processes that share it through a file: a line for each thing, words in a fixed order,
//! names last and separated by tabs.

use super::attributes::{bitmap, kind, mode};
use super::store::parse_bitmap;
use super::{Device, Group, Idxd, Kind, Queue, QueueDriver};
use crate::{Capabilities, Mode};

impl Idxd {
    /// The whole state; [`Idxd::restore`] makes the same of it again.
    pub fn save(&self) -> String {
        let mut lines = vec![format!("next_minor {}", self.next_minor)];
        for device in &self.devices {
            let Capabilities { version, gen_cap, iaa_cap, op_cap, max_transfer_size, strict_headers } =
                device.capabilities;
            lines.push(format!(
                "device {version} {gen_cap} {iaa_cap} {} {max_transfer_size} {strict_headers} {} {} {} {}",
                bitmap(&op_cap),
                device.nid,
                device.enabled,
                device.cmd_status,
                bitmap(&device.errors),
            ));
            lines.extend(device.engines.iter().map(|group| format!("engine {}", optional(*group))));
            lines.extend(
                device.groups.iter().map(|group| {
                    format!("group {} {}", group.desc_progress_limit, group.batch_progress_limit)
                }),
            );
            lines.extend(device.queues.iter().map(Queue::save));
        }
        lines.join("\n") + "\n"
    }

    /// The state that [`Idxd::save`] wrote; `None` if it is not that.
    pub fn restore(text: &str) -> Option<Idxd> {
        let mut idxd = Idxd { devices: Vec::new(), next_minor: 0 };
        for line in text.lines() {
            let (line, names) = line.split_once('\t').unwrap_or((line, ""));
            let mut words = line.split(' ');
            let what = words.next()?;
            if what == "next_minor" {
                idxd.next_minor = next(&mut words)?;
                continue;
            }
            if what == "device" {
                idxd.devices.push(Device::restore(&mut words)?);
                continue;
            }
            let device = idxd.devices.last_mut()?;
            match what {
                "engine" => device.engines.push(next_optional(&mut words)?),
                "group" => device.groups.push(Group {
                    desc_progress_limit: next(&mut words)?,
                    batch_progress_limit: next(&mut words)?,
                }),
                "queue" => device.queues.push(Queue::restore(&mut words, names)?),
                _ => return None,
            }
        }
        Some(idxd)
    }
}

impl Device {
    fn restore<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Device> {
        let capabilities = Capabilities {
            version: next(words)?,
            gen_cap: next(words)?,
            iaa_cap: next(words)?,
            op_cap: parse_bitmap(words.next()?).ok()?,
            max_transfer_size: next(words)?,
            strict_headers: next(words)?,
        };
        Some(Device {
            capabilities,
            nid: next(words)?,
            enabled: next(words)?,
            cmd_status: next(words)?,
            errors: parse_bitmap(words.next()?).ok()?,
            engines: Vec::new(),
            groups: Vec::new(),
            queues: Vec::new(),
        })
    }
}

impl Queue {
    fn save(&self) -> String {
        format!(
            "queue {} {} {} {} {} {} {} {} {} {} {} {} {} {}\t{}\t{}",
            self.driver.map_or("-", QueueDriver::name),
            kind(self.kind),
            mode(self.mode),
            self.size,
            self.threshold,
            self.priority,
            optional(self.group),
            self.block_on_fault,
            self.max_transfer_size,
            bitmap(&self.op_config),
            self.enqcmds_retries,
            self.ats_disable,
            self.prs_disable,
            optional(self.minor),
            self.name,
            self.driver_name,
        )
    }

    fn restore<'a>(words: &mut impl Iterator<Item = &'a str>, names: &str) -> Option<Queue> {
        let (name, driver_name) = names.split_once('\t')?;
        Some(Queue {
            driver: match words.next()? {
                "-" => None,
                word => {
                    Some([QueueDriver::User, QueueDriver::Dmaengine].into_iter().find(|d| d.name() == word)?)
                }
            },
            kind: {
                let word = words.next()?;
                [Kind::None, Kind::Kernel, Kind::User].into_iter().find(|&of| kind(of) == word)?
            },
            mode: {
                let word = words.next()?;
                [Mode::Shared, Mode::Dedicated].into_iter().find(|&of| mode(of) == word)?
            },
            size: next(words)?,
            threshold: next(words)?,
            priority: next(words)?,
            group: next_optional(words)?,
            block_on_fault: next(words)?,
            max_transfer_size: next(words)?,
            op_config: parse_bitmap(words.next()?).ok()?,
            enqcmds_retries: next(words)?,
            ats_disable: next(words)?,
            prs_disable: next(words)?,
            minor: next_optional(words)?,
            name: name.to_owned(),
            driver_name: driver_name.to_owned(),
        })
    }
}

fn optional<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn next<'a, T: std::str::FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Option<T> {
    words.next()?.parse().ok()
}

fn next_optional<'a, T: std::str::FromStr>(words: &mut impl Iterator<Item = &'a str>) -> Option<Option<T>> {
    match words.next()? {
        "-" => Some(None),
        word => word.parse().ok().map(Some),
    }
}
