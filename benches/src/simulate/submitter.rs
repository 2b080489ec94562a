//! A simulated thread: what it has in flight, and what it does next.

use std::collections::VecDeque;

use super::setting::Setting;

/// All times are in nanoseconds from the start.
pub(super) type Nanos = u64;

/// What a thread does when its CPU is free again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Begin,
    Fill,
    Submit,
    /// A descriptor reaches the queue of this device.
    Arrive(u16),
    Wait,
    /// The oldest page is handed on.
    Collected,
    /// The page at the tail is done by software.
    Software,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Ready,
    InFlight,
    /// Its record is there, and not seen yet.
    Recorded,
    Seen,
}

pub(super) struct Slot {
    pub(super) phase: Phase,
    pub(super) device: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Store,
    Load,
}

pub(super) struct Thread {
    pub(super) package: u16,
    pub(super) process: u16,
    /// Devices that it submits to, and whose turn it is.
    pub(super) devices: Vec<u16>,
    pub(super) turn: usize,
    /// What is left of a run of descriptors for one device, and how long the next runs are (0: to be seen).
    pub(super) run: (u16, u32),
    pub(super) share: u32,
    /// Pages in flight, the oldest first; the first one's number.
    pub(super) slots: VecDeque<Slot>,
    pub(super) tail: u64,
    /// Pages of the call that have not been begun.
    pub(super) left: u32,
    pub(super) kind: Kind,
    pub(super) began: Nanos,
    pub(super) step: Step,
    pub(super) count: u64,
    /// Waits for a record or a queue; since when.
    pub(super) waiting: Option<Nanos>,
    /// When the page at the tail is given to software.
    pub(super) deadline: Option<Nanos>,
    /// Whether it is on a list of those who wait for a queue.
    pub(super) listed: bool,
    /// Queues that refused since the last one took something.
    pub(super) refused: usize,
    pub(super) pages: u64,
}

impl Thread {
    /// Thread `number` of the setting, before its first call.
    pub(super) fn new(number: u16, setting: &Setting, device_packages: &[u16]) -> Thread {
        let package = number % setting.sockets;
        let own = |&device: &u16| device_packages[usize::from(device)] == package;
        let all = 0..setting.devices;
        let near: Vec<u16> = all.clone().filter(own).collect();
        // A package without a device uses the nearest one's; all others are as near.
        let devices = if near.is_empty() { all.collect() } else { near };
        Thread {
            package,
            process: (number / setting.sockets) % setting.processes,
            turn: usize::from(number / setting.sockets) % devices.len(),
            devices,
            run: (0, 0),
            share: 0,
            slots: VecDeque::new(),
            tail: 0,
            left: 0,
            kind: Kind::Store,
            began: 0,
            step: Step::Begin,
            count: 0,
            waiting: None,
            deadline: None,
            listed: false,
            refused: 0,
            pages: 0,
        }
    }
}
