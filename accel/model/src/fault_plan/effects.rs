//! Rules at work: what they do to one descriptor.

use std::collections::BTreeSet;

use idxd_sys::{Descriptor, flags, status};

use super::{FaultPlan, Injection, Rule, When};
use crate::device::QueueId;
use crate::random::mix;
use crate::timing::Nanos;

/// Why a descriptor is not even taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Partial,
    NotPermitted,
}

/// How a descriptor ends instead of being executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Status and error code.
    Status(u8, u8),
    /// A page fault at this address.
    PageFault { addr: u64, write: bool },
}

/// What the plan does to a descriptor that was taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Effects {
    pub(crate) verdict: Option<Verdict>,
    pub(crate) never: bool,
    pub(crate) late: Nanos,
    /// Chance for which bit of the output.
    pub(crate) flip: Option<u64>,
    pub(crate) wrong_crc: Option<u64>,
    pub(crate) output_too_large: bool,
    pub(crate) duplicate: Option<Nanos>,
    pub(crate) status_first: bool,
    /// 0 stands for 1.
    pub(crate) slow: u32,
    /// Time for translations.
    pub(crate) extra: Nanos,
    /// Page requests to be waited for.
    pub(crate) page_requests: u32,
    pub(crate) disable_queue: bool,
    pub(crate) disable_device: bool,
}

/// A plan with the counts of its rules.
#[derive(Debug)]
pub(crate) struct Rules {
    plan: FaultPlan,
    /// How many descriptors each rule has been asked about.
    asked: Vec<u64>,
    /// How often each rule did its work.
    pub(crate) done: Vec<u64>,
    /// Pages that fault for ever: number and whether by write.
    faulty: BTreeSet<(u64, bool)>,
}

impl Rules {
    pub(crate) fn new(plan: FaultPlan) -> Rules {
        let rules = plan.rules.len();
        Rules { plan, asked: vec![0; rules], done: vec![0; rules], faulty: BTreeSet::new() }
    }

    pub(crate) fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    /// Whether `descriptor`, the `k`-th of its submission, is refused.
    pub(crate) fn refusal(&mut self, queue: QueueId, descriptor: &Descriptor, k: usize) -> Option<Refusal> {
        let mut refusal = None;
        for index in 0..self.plan.rules.len() {
            let rule = self.plan.rules[index];
            let answer = match rule.fault {
                Injection::Full => Refusal::Full,
                Injection::Partial if k > 0 => Refusal::Partial,
                Injection::NotPermitted => Refusal::NotPermitted,
                _ => continue,
            };
            if self.strikes(index, rule, queue, descriptor).is_some() {
                refusal.get_or_insert(answer);
            }
        }
        refusal
    }

    /// What happens to `descriptor`, which its queue has taken.
    pub(crate) fn effects(&mut self, queue: QueueId, descriptor: &Descriptor) -> Effects {
        let mut effects = Effects::default();
        for index in 0..self.plan.rules.len() {
            let rule = self.plan.rules[index];
            if matches!(rule.fault, Injection::Full | Injection::Partial | Injection::NotPermitted) {
                continue;
            }
            let Some(chance) = self.strikes(index, rule, queue, descriptor) else { continue };
            self.apply(rule.fault, chance, descriptor, &mut effects);
        }
        if effects.verdict.is_none() && !self.faulty.is_empty() {
            effects.verdict = self.faulty_page(descriptor);
        }
        effects
    }

    fn apply(&mut self, fault: Injection, chance: u64, descriptor: &Descriptor, effects: &mut Effects) {
        let nanos = |time: std::time::Duration| Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX / 4);
        match fault {
            Injection::Full | Injection::Partial | Injection::NotPermitted => {}
            Injection::PageFault { write } => {
                if descriptor.flags() & flags::op::BLOCK_ON_FAULT != 0 {
                    effects.page_requests += 1;
                } else if let Some(addr) = page_of(descriptor, write, chance) {
                    effects.verdict.get_or_insert(Verdict::PageFault { addr, write });
                }
            }
            Injection::PageFaultAlways { write } => {
                if let Some(addr) = page_of(descriptor, write, chance) {
                    self.faulty.insert((addr >> 12, write));
                    effects.verdict.get_or_insert(Verdict::PageFault { addr, write });
                }
            }
            Injection::Status(code) => {
                effects.verdict.get_or_insert(Verdict::Status(code, 0));
            }
            Injection::Error(code) => {
                effects.verdict.get_or_insert(Verdict::Status(status::ANALYTICS_ERROR, code));
            }
            Injection::Never => effects.never = true,
            Injection::Late(by) => effects.late += nanos(by),
            Injection::FlipOutput => effects.flip = Some(chance),
            Injection::WrongCrc => effects.wrong_crc = Some(chance),
            Injection::OutputTooLarge => effects.output_too_large = true,
            Injection::Duplicate(after) => effects.duplicate = Some(nanos(after)),
            Injection::StatusFirst => effects.status_first = true,
            Injection::Slow(times) => effects.slow = effects.slow.max(1).saturating_mul(times.max(1)),
            Injection::IotlbMiss(time) => effects.extra += nanos(time),
            Injection::DisableQueue => effects.disable_queue = true,
            Injection::DisableDevice => effects.disable_device = true,
        }
    }

    /// Whether rule `index` strikes, with a random number for its details; counts that it was asked.
    fn strikes(&mut self, index: usize, rule: Rule, queue: QueueId, descriptor: &Descriptor) -> Option<u64> {
        let meant = rule.queue.is_none_or(|of| of == queue)
            && rule.opcode.is_none_or(|opcode| opcode == descriptor.opcode());
        if !meant {
            return None;
        }
        self.asked[index] += 1;
        let count = self.asked[index];
        let chance = mix(mix(self.plan.seed ^ (index as u64) << 48) ^ count);
        let strikes = match rule.when {
            When::Always => true,
            When::Nth(n) => count == n,
            When::Every(n) => n != 0 && count.is_multiple_of(n),
            When::Burst { first, count: len } => (first..first.saturating_add(len)).contains(&count),
            When::Chance(millionths) => chance % 1_000_000 < u64::from(millionths),
        };
        self.done[index] += u64::from(strikes);
        strikes.then(|| mix(chance))
    }

    /// The fault of a page that faults for ever, should `descriptor` touch one.
    fn faulty_page(&self, descriptor: &Descriptor) -> Option<Verdict> {
        let areas = [
            (descriptor.src1_addr, descriptor.src1_size, false),
            (descriptor.dst_addr, descriptor.max_dst_size, true),
        ];
        areas.into_iter().filter(|&(addr, len, _)| addr != 0 && len != 0).find_map(|(addr, len, write)| {
            let last = addr.saturating_add(u64::from(len) - 1) >> 12;
            let page = self.faulty.range((addr >> 12, false)..=(last, true)).find(|page| page.1 == write)?.0;
            Some(Verdict::PageFault { addr: addr.max(page << 12), write })
        })
    }
}

/// An address in the source or destination of `descriptor`, if it has one.
fn page_of(descriptor: &Descriptor, write: bool, chance: u64) -> Option<u64> {
    let (addr, len) = match write {
        false => (descriptor.src1_addr, descriptor.src1_size),
        true => (descriptor.dst_addr, descriptor.max_dst_size),
    };
    (len != 0).then(|| addr.saturating_add(chance % u64::from(len)))
}
