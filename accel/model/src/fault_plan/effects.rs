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

#[cfg(test)]
mod tests {
    use super::*;
    use idxd_sys::opcode;

    const QUEUE: QueueId = QueueId::new(0, 0);

    fn rules(text: &str) -> Rules {
        Rules::new(text.parse().unwrap())
    }

    fn page(opcode: u8, flags: u32) -> Descriptor {
        Descriptor {
            src1_addr: 0x10_0000,
            src1_size: 4096,
            dst_addr: 0x20_0800,
            max_dst_size: 4096,
            ..Descriptor::new(opcode, flags)
        }
    }

    fn compress() -> Descriptor {
        page(opcode::COMPRESS, 0)
    }

    /// Which of `count` descriptors end with a status of the plan's.
    fn struck(rules: &mut Rules, count: usize) -> Vec<usize> {
        (1..=count).filter(|_| rules.effects(QUEUE, &compress()).verdict.is_some()).collect()
    }

    #[test]
    fn each_way_to_say_when_is_kept() {
        assert_eq!(struck(&mut rules("status:0x24 nth=3"), 9), [3]);
        assert_eq!(struck(&mut rules("status:0x24 every=4"), 9), [4, 8]);
        assert_eq!(struck(&mut rules("status:0x24 burst=2+3"), 9), [2, 3, 4]);
        assert_eq!(struck(&mut rules("status:0x24"), 3), [1, 2, 3]);
        let tenth = struck(&mut rules("status:0x24 p=0.1"), 10_000).len();
        assert!((900..1100).contains(&tenth), "{tenth} of 10,000 with p=0.1");
    }

    #[test]
    fn chance_depends_on_seed_place_and_count_alone() {
        let alone = struck(&mut rules("seed=5; status:0x24 p=0.2"), 500);
        assert_eq!(alone, struck(&mut rules("seed=5; status:0x24 p=0.2; late:1ms p=0.5; full p=0.3"), 500));
        assert_ne!(alone, struck(&mut rules("seed=6; status:0x24 p=0.2"), 500));
        let mut with_refusals = rules("seed=5; status:0x24 p=0.2; full p=0.3");
        let refused = (0..500).filter(|_| with_refusals.refusal(QUEUE, &compress(), 0).is_some()).count();
        assert!(refused > 100);
        assert_eq!(alone, struck(&mut with_refusals, 500));
    }

    #[test]
    fn rule_counts_only_descriptors_that_it_is_about() {
        let mut rules = rules("status:0x24 nth=2 op=decompress queue=1.0");
        let mut verdict = |queue, opcode| rules.effects(queue, &page(opcode, 0)).verdict;
        let other = QueueId::new(1, 0);
        assert_eq!(verdict(other, opcode::DECOMPRESS), None);
        assert_eq!(verdict(other, opcode::COMPRESS), None);
        assert_eq!(verdict(QUEUE, opcode::DECOMPRESS), None);
        assert_eq!(verdict(other, opcode::DECOMPRESS), Some(Verdict::Status(0x24, 0)));
    }

    #[test]
    fn page_fault_lies_in_the_area_and_is_waited_for_when_the_descriptor_blocks() {
        let mut rules = rules("page-fault:write nth=1; page-fault:read");
        let verdict = rules.effects(QUEUE, &compress()).verdict;
        let Some(Verdict::PageFault { addr, write: true }) = verdict else { panic!("{verdict:?}") };
        assert!((0x20_0800..0x20_1800).contains(&addr));
        let blocking = page(opcode::COMPRESS, flags::op::BLOCK_ON_FAULT);
        let effects = rules.effects(QUEUE, &blocking);
        assert_eq!((effects.verdict, effects.page_requests), (None, 1));
        assert!(matches!(
            rules.effects(QUEUE, &compress()).verdict,
            Some(Verdict::PageFault { addr: 0x10_0000..0x10_1000, write: false })
        ));
        assert_eq!(
            rules.effects(QUEUE, &Descriptor::new(opcode::NOOP, 0)).verdict,
            None,
            "no area, no fault"
        );
    }

    #[test]
    fn page_that_faults_for_ever_does_so_for_every_descriptor_that_touches_it() {
        let mut rules = rules("page-fault-always:write nth=1");
        let Some(Verdict::PageFault { addr, write: true }) = rules.effects(QUEUE, &compress()).verdict else {
            panic!("the first faults")
        };
        let again = rules.effects(QUEUE, &page(opcode::DECOMPRESS, flags::op::BLOCK_ON_FAULT)).verdict;
        assert!(
            matches!(again, Some(Verdict::PageFault { addr: at, write: true }) if at >> 12 == addr >> 12)
        );
        let reads = Descriptor { src1_addr: addr & !0xfff, dst_addr: 0x90_0000, ..compress() };
        assert_eq!(rules.effects(QUEUE, &reads).verdict, None, "it can be read");
    }

    #[test]
    fn partial_lets_the_first_of_a_submission_through() {
        let mut rules = rules("partial; not-permitted nth=4");
        assert_eq!(rules.refusal(QUEUE, &compress(), 0), None);
        assert_eq!(rules.refusal(QUEUE, &compress(), 1), Some(Refusal::Partial));
        assert_eq!(rules.refusal(QUEUE, &compress(), 0), None);
        assert_eq!(rules.refusal(QUEUE, &compress(), 0), Some(Refusal::NotPermitted));
    }
}
