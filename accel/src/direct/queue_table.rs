//! All queues that are open, and who may use which.
//!
//! The table outlives devices: a queue that was disabled leaves it, one that appears enters it, and a channel
//! notices at its next call by the generation number. Nothing looks for queues on a thread of its own; a caller that
//! finds none that works, or had one go, looks again, at most once in a while.
//!
//! # Whose queues
//!
//! A channel uses the queues of its CPU package: those of devices on a node with CPUs of that package. A device that
//! is on no known node serves every package. A package without a device is served by the nearest one's, by the
//! distances of the nodes, and the report says so.
//!
//! Where a device has more than one queue, loads have one of them for themselves, that of the highest priority, so
//! that a load never queues behind a store.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::DirectConfig;
use super::counts::{Counters, DeviceCounts};
use super::op::ProbeMemory;
use super::probe::{self, Probed};
use super::queue::{Queue, QueueInfo, QueueState, nanos};
use super::source::{Listing, Source, mode_name};
use crate::{ForkGuard, NodeId, Purpose, Topology};

/// How often a queue may fail to answer when it is opened.
const MOST_LATE_PROBES: usize = 8;

/// All open queues, shared by the channels.
pub(crate) struct QueueTable {
    source: Source,
    pub(crate) config: DirectConfig,
    topology: Topology,
    pub(crate) guard: Arc<ForkGuard>,
    queues: RwLock<Found>,
    /// Grows by one with each change of `queues`.
    generation: AtomicU64,
    /// Held while looking for queues. The names of queues that did not answer when they were opened, once for each
    /// time: what that took was leaked, so there is an end to it.
    looking: Mutex<Vec<String>>,
    /// The source's time of the next look, in nanoseconds.
    next_look: AtomicU64,
    pub(crate) counters: Counters,
}

/// What the last look found.
#[derive(Default)]
struct Found {
    queues: Vec<Arc<Queue>>,
    unused: Vec<String>,
    devices: usize,
    user_queues: usize,
}

/// A queue of the table, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueReport {
    /// What it is.
    pub info: QueueInfo,
    /// How it is reached: `ENQCMD`, `MOVDIR64B`, `write(2)` with the reason, or `the model`.
    pub how: String,
    /// What it is good for at present.
    pub state: QueueState,
    /// The same in a sentence.
    pub text: String,
}

impl QueueTable {
    /// Looks for queues and opens them.
    ///
    /// # Errors
    /// A sentence for people, when there is no queue to be used; and when the kernel knows no MADV_WIPEONFORK.
    pub(crate) fn new(
        source: Source,
        config: DirectConfig,
        topology: &Topology,
    ) -> Result<QueueTable, String> {
        let guard = ForkGuard::new().map_err(|error| format!("cannot guard against fork: {error}"))?;
        let table = QueueTable {
            source,
            config,
            topology: topology.clone(),
            guard: Arc::new(guard),
            queues: RwLock::default(),
            generation: AtomicU64::new(0),
            looking: Mutex::default(),
            next_look: AtomicU64::new(0),
            counters: Counters::default(),
        };
        table.look(&mut table.looking());
        let found = table.found();
        if found.queues.is_empty() {
            let mut text = format!(
                "no enabled IAA work queue under {} (found {} devices, {} queues of type user)",
                table.source.place(),
                found.devices,
                found.user_queues
            );
            for reason in &found.unused {
                _ = write!(text, "; {reason}");
            }
            return Err(text);
        }
        drop(found);
        Ok(table)
    }

    fn found(&self) -> std::sync::RwLockReadGuard<'_, Found> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number that grows whenever the queues change.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Looks for queues again, at once; true if any came or went. Does nothing in a child of fork.
    pub(crate) fn rescan(&self) -> bool {
        if self.guard.is_child() {
            return false;
        }
        self.counters.add(&mut DeviceCounts { rescans: 1, ..DeviceCounts::default() });
        self.look(&mut self.looking())
    }

    /// As [`QueueTable::rescan`], but at most once in [`DirectConfig::rescan_interval`], and not while another
    /// thread looks.
    #[cold]
    pub(crate) fn rescan_if_due(&self) {
        let now = nanos(self.source.now());
        let due = self.next_look.load(Ordering::Relaxed);
        if now < due {
            return;
        }
        let Some(mut late) = self.try_looking() else { return };
        let next = now.saturating_add(nanos(self.config.rescan_interval));
        if self.next_look.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.counters.add(&mut DeviceCounts { rescans: 1, ..DeviceCounts::default() });
            self.look(&mut late);
        }
    }

    fn looking(&self) -> MutexGuard<'_, Vec<String>> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_looking(&self) -> Option<MutexGuard<'_, Vec<String>>> {
        match self.looking.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }

    /// Brings the table up to date: keeps queues that are still there and work, opens new ones.
    fn look(&self, late: &mut Vec<String>) -> bool {
        let Listing { queues: listed, mut unused, devices, user_queues } = self.source.list();
        let before: Vec<Arc<Queue>> = self.found().queues.clone();
        let mut queues = Vec::with_capacity(listed.len());
        for info in listed {
            let known = before.iter().find(|queue| queue.info == info && !queue.is_gone());
            if let Some(queue) = known {
                queues.push(Arc::clone(queue));
                continue;
            }
            match self.open(info, late) {
                Ok(queue) => queues.push(Arc::new(queue)),
                Err(reason) => unused.push(reason),
            }
        }
        let same = queues.len() == before.len()
            && queues.iter().zip(&before).all(|(new, old)| Arc::ptr_eq(new, old));
        for old in before.iter().filter(|old| !queues.iter().any(|new| Arc::ptr_eq(new, old))) {
            old.set_gone();
        }
        *self.queues.write().unwrap_or_else(PoisonError::into_inner) =
            Found { queues, unused, devices, user_queues };
        if !same {
            self.generation.fetch_add(1, Ordering::Release);
        }
        !same
    }

    /// Opens a queue and has it do nothing once, so that one that only seems to work is found out here.
    fn open(&self, info: QueueInfo, late: &mut Vec<String>) -> Result<Queue, String> {
        if !info.compress && !info.decompress {
            return Err(format!("work queue {}: it neither compresses nor decompresses", info.name));
        }
        let name = &info.name;
        if late.iter().filter(|known| *known == name).count() >= MOST_LATE_PROBES {
            return Err(format!(
                "work queue {name}: given up after {MOST_LATE_PROBES} no-ops without an answer"
            ));
        }
        let attachment = self.source.open(&info, &self.guard)?;
        let memory = ProbeMemory::new(&self.guard)
            .map_err(|error| format!("work queue {name}: no memory for a probe: {error}"))?;
        let mut portal = (attachment.make)();
        let probed = probe::noop(&mut *portal, &memory, self.config.probe_timeout);
        let mut counts = DeviceCounts { probes: 1, ..DeviceCounts::default() };
        let queue = match probed {
            Probed::Done => Ok(Queue::new(info, attachment, memory)),
            reason => {
                counts.probes_failed = 1;
                let text = format!("work queue {name} by {}: {reason}", attachment.how);
                if reason == Probed::Late {
                    late.push(name.clone());
                    // The device may still be at work on it, so its file is never closed.
                    std::mem::forget(portal);
                }
                Err(text)
            }
        };
        self.counters.add(&mut counts);
        queue
    }

    /// The queues for a package and a purpose, with the generation that they are of.
    pub(crate) fn queues_for(&self, package: u16, purpose: Purpose) -> (u64, Vec<Arc<Queue>>) {
        // Before the queues: should they change in between, the caller asks again.
        let generation = self.generation();
        let found = self.found();
        let all: Vec<&Arc<Queue>> = found.queues.iter().collect();
        let mut queues = self.of_package(&all, package).0;
        let able = |queue: &&Arc<Queue>| match purpose {
            Purpose::Store => queue.info.compress,
            Purpose::Load => queue.info.decompress,
        };
        queues.retain(able);
        let reserved: Vec<&str> = queues
            .iter()
            .filter_map(|queue| Some(for_loads(&queues, queue.info.device)?.info.name.as_str()))
            .collect();
        let chosen = queues.iter().filter(|queue| {
            let alone = for_loads(&queues, queue.info.device).is_none();
            alone || (purpose == Purpose::Load) == reserved.contains(&queue.info.name.as_str())
        });
        (generation, chosen.map(|queue| Arc::clone(queue)).collect())
    }

    /// The queues that serve a package, and the package that they belong to if it is another.
    fn of_package<'q>(&self, all: &[&'q Arc<Queue>], package: u16) -> (Vec<&'q Arc<Queue>>, Option<u16>) {
        let of = |package: u16| -> Vec<&'q Arc<Queue>> {
            let serves = |queue: &Arc<Queue>| {
                queue.info.nid.and_then(|nid| self.package_of_node(nid)).is_none_or(|own| own == package)
            };
            all.iter().copied().filter(|queue| serves(queue)).collect()
        };
        let own = of(package);
        if !own.is_empty() {
            return (own, None);
        }
        let with_queues = |other: &u16| !of(*other).is_empty();
        let packages = u16::try_from(self.topology.packages()).unwrap_or(u16::MAX);
        let nearest =
            (0..packages).filter(with_queues).min_by_key(|&other| self.package_distance(package, other));
        match nearest {
            Some(nearest) => (of(nearest), Some(nearest)),
            None => (all.to_vec(), None),
        }
    }

    /// The package of the CPUs of a node; a node without CPUs is with the nearest one that has some. `None` for a node
    /// that is not in the topology.
    fn package_of_node(&self, nid: NodeId) -> Option<u16> {
        let nodes = self.topology.nodes();
        let node = nodes.iter().find(|node| node.nid == nid)?;
        let near = nodes
            .iter()
            .enumerate()
            .filter(|(_, other)| !other.cpus.is_empty())
            .min_by_key(|&(index, other)| {
                (other.nid != nid, node.distances.get(index).copied().unwrap_or(u32::MAX))
            })
            .map(|(_, other)| other)?;
        self.topology.package_of_cpu().get(*near.cpus.first()?).copied()
    }

    /// The least distance between nodes of two packages.
    fn package_distance(&self, from: u16, to: u16) -> u32 {
        let nodes = self.topology.nodes();
        let of = |package: u16| {
            (0..nodes.len()).filter(move |&index| {
                !nodes[index].cpus.is_empty() && self.package_of_node(nodes[index].nid) == Some(package)
            })
        };
        of(from)
            .flat_map(|a| of(to).map(move |b| nodes[a].distances.get(b).copied().unwrap_or(u32::MAX)))
            .min()
            .unwrap_or(u32::MAX)
    }

    /// The state of every queue.
    pub(crate) fn report(&self) -> Vec<QueueReport> {
        let found = self.found();
        let report = |queue: &Arc<Queue>| QueueReport {
            info: queue.info.clone(),
            how: queue.attachment.how.clone(),
            state: queue.state(),
            text: queue.describe(),
        };
        found.queues.iter().map(report).collect()
    }

    /// What was found, and why anything is not used or not as one would think, for people.
    pub(crate) fn describe(&self) -> String {
        let found = self.found();
        let all: Vec<&Arc<Queue>> = found.queues.iter().collect();
        let mut text = String::new();
        for (index, queue) in found.queues.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            _ = write!(text, "{separator}{} ({})", queue.describe(), mode_name(queue.info.mode));
            if for_loads(&all, queue.info.device).is_some_and(|other| Arc::ptr_eq(other, queue)) {
                text.push_str(", for loads");
            }
        }
        for package in 0..u16::try_from(self.topology.packages()).unwrap_or(u16::MAX) {
            if let (_, Some(nearest)) = self.of_package(&all, package) {
                _ = write!(text, "; package {package} has no device and uses those of package {nearest}");
            }
        }
        for reason in &found.unused {
            _ = write!(text, "; not used: {reason}");
        }
        text
    }
}

/// The queue of a device that loads have for themselves: that of the highest priority, and of those the smallest, among
/// queues that can decompress; none where others would be left without a queue to compress.
fn for_loads<'q>(queues: &[&'q Arc<Queue>], device: u32) -> Option<&'q Arc<Queue>> {
    let of_device = || queues.iter().filter(|queue| queue.info.device == device);
    let loads = of_device()
        .filter(|queue| queue.info.decompress)
        .min_by_key(|queue| (std::cmp::Reverse(queue.info.priority), queue.info.capacity))?;
    let others = of_device().any(|queue| !Arc::ptr_eq(queue, loads) && queue.info.compress);
    others.then_some(*loads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::direct::test_device::{Fate, TestDevice};
    use std::fs;

    /// Two packages of two nodes each, of which the last node has memory only.
    fn topology() -> Topology {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join("devices/system").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("node/online", "0-3");
        for (node, cpus, distances) in [
            (0, "0", "10 12 21 31"),
            (1, "1", "12 10 21 31"),
            (2, "2-3", "21 21 10 14"),
            (3, "", "31 31 14 10"),
        ] {
            write(&format!("node/node{node}/cpulist"), cpus);
            write(&format!("node/node{node}/distance"), distances);
        }
        write("cpu/online", "0-3");
        for (cpu, package) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
            write(&format!("cpu/cpu{cpu}/topology/physical_package_id"), &package.to_string());
        }
        Topology::read(root.path()).unwrap()
    }

    fn table(queues: &[(&str, u32, Option<u16>)]) -> QueueTable {
        let device = TestDevice::new(|_, _| Fate::Done);
        let queues = queues.iter().map(|&(name, number, nid)| {
            let info = QueueInfo {
                name: name.to_owned(),
                device: number,
                nid: nid.map(NodeId),
                ..QueueInfo::default()
            };
            device.queue(info)
        });
        QueueTable::new(Source::Given(queues.collect()), DirectConfig::default(), &topology()).unwrap()
    }

    fn names(table: &QueueTable, package: u16, purpose: Purpose) -> Vec<String> {
        table.queues_for(package, purpose).1.iter().map(|queue| queue.info.name.clone()).collect()
    }

    #[test]
    fn a_package_uses_its_own_devices_whichever_of_its_nodes_they_are_on() {
        let table = table(&[("wq0.0", 0, Some(0)), ("wq1.0", 1, Some(1)), ("wq2.0", 2, Some(3))]);
        assert_eq!(names(&table, 0, Purpose::Store), ["wq0.0", "wq1.0"]);
        assert_eq!(names(&table, 1, Purpose::Load), ["wq2.0"], "a node without CPUs is its neighbour's");
        assert!(!table.describe().contains("has no device"), "{}", table.describe());
    }

    #[test]
    fn a_package_without_a_device_uses_the_nearest_and_says_so() {
        let table = table(&[("wq0.0", 0, Some(1))]);
        assert_eq!(names(&table, 1, Purpose::Store), ["wq0.0"]);
        assert!(
            table.describe().ends_with("package 1 has no device and uses those of package 0"),
            "{}",
            table.describe()
        );
    }

    #[test]
    fn a_device_on_no_known_node_serves_every_package() {
        let table = table(&[("wq0.0", 0, None), ("wq1.0", 1, Some(2)), ("wq2.0", 2, Some(77))]);
        assert_eq!(names(&table, 0, Purpose::Store), ["wq0.0", "wq2.0"]);
        assert_eq!(names(&table, 1, Purpose::Store), ["wq0.0", "wq1.0", "wq2.0"]);
    }

    #[test]
    fn each_device_gives_loads_one_of_its_queues_if_it_has_several() {
        let table = table(&[("wq0.0", 0, Some(0)), ("wq0.1", 0, Some(0)), ("wq1.0", 1, Some(0))]);
        assert_eq!(names(&table, 0, Purpose::Load), ["wq0.0", "wq1.0"]);
        assert_eq!(names(&table, 0, Purpose::Store), ["wq0.1", "wq1.0"]);
    }

    #[test]
    fn queue_that_never_answers_is_given_up_after_a_number_of_looks() {
        let device = TestDevice::new(|_, _| Fate::Done);
        let other = TestDevice::new(|_, _| Fate::Done);
        device.set_answers_noops(false);
        let named = |name: &str| QueueInfo { name: name.to_owned(), ..QueueInfo::default() };
        let queues = vec![device.queue(named("wq0.0")), other.queue(named("wq0.1"))];
        let table = QueueTable::new(Source::Given(queues), DirectConfig::default(), &topology()).unwrap();
        (0..12).for_each(|_| _ = table.rescan());
        assert_eq!(table.counters.snapshot().probes_failed, MOST_LATE_PROBES as u64);
        assert!(
            table
                .describe()
                .ends_with("not used: work queue wq0.0: given up after 8 no-ops without an answer"),
            "{}",
            table.describe()
        );
    }
}
