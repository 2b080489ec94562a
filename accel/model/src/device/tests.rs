//! Queues, engines, faults and the stepped clock, on no-operations.

use std::time::Duration;

use idxd_sys::{CompletionRecord, Descriptor, flags, opcode, status};

use super::*;
use crate::{FaultPlan, Injection, OtherProcess, Rule, When};

const QUEUE: QueueId = QueueId::new(0, 0);

fn model(config: ModelConfig) -> Arc<Model> {
    Model::new(config, Box::new(OtherProcess::this()))
}

/// Records for descriptors to be completed in; read by volatile reads, as a driver does.
struct Records(Vec<CompletionRecord>);

impl Records {
    fn new(count: usize) -> Records {
        Records(vec![CompletionRecord::default(); count])
    }

    fn noop(&mut self, k: usize) -> Descriptor {
        let wanted = flags::op::COMPLETION_ADDR_VALID | flags::op::REQUEST_COMPLETION;
        let completion_addr = (&raw mut self.0[k]).expose_provenance() as u64;
        Descriptor { completion_addr, ..Descriptor::new(opcode::NOOP, wanted) }
    }

    fn noops(&mut self) -> Vec<Descriptor> {
        (0..self.0.len()).map(|k| self.noop(k)).collect()
    }

    fn get(&self, k: usize) -> CompletionRecord {
        // SAFETY: the record is ours; the model writes it by system calls of this thread.
        #[allow(unsafe_code)]
        unsafe {
            std::ptr::read_volatile(&raw const self.0[k])
        }
    }

    fn statuses(&self) -> Vec<u8> {
        (0..self.0.len()).map(|k| self.get(k).status).collect()
    }
}

#[test]
fn noop_completes_after_the_base_latency() {
    let model = model(ModelConfig::spr(1));
    let mut records = Records::new(1);
    let submitted = model.submit(QUEUE, &records.noops());
    assert_eq!(submitted, Submitted { taken: 1, stop: None });
    assert_eq!(records.get(0).status, status::RUNNING, "not before the clock goes on");
    model.pause();
    assert_eq!(records.get(0).status, status::SUCCESS);
    assert_eq!(model.now(), Duration::from_nanos(250 + 1000));
    assert_eq!(model.summary().ended(opcode::NOOP, status::SUCCESS), 1);
    assert_eq!(model.summary().in_flight[..3], [0, 1, 0]);
}

#[test]
fn shared_queue_takes_descriptors_up_to_its_threshold_and_refuses_the_rest_untouched() {
    // No engine serves the group: what is taken stays.
    let queue = QueueConfig { threshold: 5, ..QueueConfig::shared(16) };
    let mut config = ModelConfig::spr(1).with_queues([queue]);
    config.devices[0].groups = vec![0];
    let model = model(config);
    let mut records = Records::new(8);
    let submitted = model.submit(QUEUE, &records.noops());
    assert_eq!(submitted, Submitted { taken: 5, stop: Some(Stop::Full) });
    assert_eq!((model.occupancy(QUEUE), model.summary().queue_full), (5, 1));
    assert!(!model.drain(), "nothing executes them");
    assert_eq!(records.statuses(), [0; 8]);
}

#[test]
fn dedicated_queue_loses_what_overflows_and_latches_an_error() {
    let mut config = ModelConfig::spr(1).with_queues([QueueConfig::dedicated(4)]);
    config.devices[0].groups = vec![0];
    let model = model(config);
    let mut records = Records::new(6);
    let submitted = model.submit(QUEUE, &records.noops());
    assert_eq!(submitted, Submitted { taken: 6, stop: None }, "a posted write has no answer");
    assert_eq!(model.occupancy(QUEUE), 4);
    let summary = model.summary();
    assert_eq!((summary.taken, summary.software_errors), (4, 2));
    assert_eq!(summary.software_error, Some(SoftwareError::Overflow(QUEUE)));
}

#[test]
fn queue_of_higher_priority_is_served_more_often() {
    let queue = |priority| QueueConfig { priority, ..QueueConfig::dedicated(64) };
    let mut config = ModelConfig::spr(1).with_queues([queue(1), queue(3)]);
    config.devices[0].groups = vec![1];
    // One engine and a slow first descriptor: both queues fill meanwhile.
    config.faults =
        FaultPlan::new(0, [Rule::new(Injection::IotlbMiss(Duration::from_millis(1)), When::Always)]);
    let model = model(config);
    let mut records = Records::new(80);
    let noops = records.noops();
    model.submit(QueueId::new(0, 0), &noops[..40]);
    model.submit(QueueId::new(0, 1), &noops[40..]);
    while records.statuses().iter().filter(|&&status| status != 0).count() < 21 {
        model.pause();
    }
    let done = |range: std::ops::Range<usize>| range.filter(|&k| records.get(k).status != 0).count();
    // The very first was alone in the device.
    assert_eq!((done(0..40), done(40..80)), (6, 15));
}

#[test]
fn descriptors_on_different_engines_overtake_each_other() {
    let mut config = ModelConfig::spr(1).with_queues([QueueConfig::dedicated(16)]);
    config.timing.jitter = 500;
    let order = || {
        let model = model(config.clone());
        let mut records = Records::new(16);
        model.submit(QUEUE, &records.noops());
        let mut order = Vec::new();
        while order.len() < 16 {
            model.pause();
            order.extend(
                (0..16).filter(|k| records.get(*k).status != 0 && !order.contains(k)).collect::<Vec<_>>(),
            );
        }
        order
    };
    let first = order();
    assert!(!first.is_sorted(), "{first:?}");
    assert_eq!(first, order(), "the same each time");
}

#[test]
fn queue_refuses_what_it_does_not_allow_with_the_status_for_it() {
    let queue = QueueConfig {
        block_on_fault: false,
        max_transfer_size: 4096,
        op_config: [1, 1 << (opcode::COMPRESS - 64), 0, 0],
        ..QueueConfig::shared(16)
    };
    let model = model(ModelConfig::spr(1).with_queues([queue]));
    let mut records = Records::new(3);
    let mut descriptors = records.noops();
    descriptors[0].flags_and_opcode |= u32::from(opcode::DECOMPRESS) << 24;
    descriptors[1].flags_and_opcode |= flags::op::BLOCK_ON_FAULT;
    descriptors[2].flags_and_opcode |= u32::from(opcode::COMPRESS) << 24;
    descriptors[2].src1_size = 4097;
    model.submit(QUEUE, &descriptors);
    assert!(model.drain());
    assert_eq!(records.statuses(), [status::BAD_OPCODE, status::BAD_OP_FLAG, status::BAD_TRANSFER_SIZE]);
    assert_eq!(records.get(1).invalid_flags, flags::op::BLOCK_ON_FAULT);
}

#[test]
fn disabled_queue_takes_nothing_and_abort_loses_what_waits() {
    let mut config = ModelConfig::spr(1);
    config.devices[0].groups = vec![1];
    config.faults =
        FaultPlan::new(0, [Rule::new(Injection::IotlbMiss(Duration::from_millis(1)), When::Always)]);
    let model = model(config);
    let mut records = Records::new(4);
    let noops = records.noops();
    model.submit(QUEUE, &noops[..3]);
    assert!(model.abort(QUEUE));
    assert_eq!(model.submit(QUEUE, &noops[3..]), Submitted { taken: 0, stop: Some(Stop::Disabled) });
    assert!(model.drain());
    assert_eq!(records.statuses(), [1, 0, 0, 0], "the one that an engine had is finished");
    assert!(model.enable(QUEUE) && model.is_enabled(QUEUE));
    assert_eq!(model.submit(QUEUE, &noops[3..]).taken, 1);
    assert!(model.drain());
    assert_eq!(records.get(3).status, 1);
    assert_eq!(model.summary().abandoned, 2);
    assert_eq!(model.submit(QueueId::new(1, 0), &noops).stop, Some(Stop::NoSuchQueue));
}

#[test]
fn late_record_comes_after_ten_microsecond_steps_and_never_is_never() {
    let late = Injection::Late(Duration::from_millis(1));
    let rules = [Rule::new(late, When::Nth(1)), Rule::new(Injection::Never, When::Nth(2))];
    let model = model(ModelConfig::spr(1).with_faults(FaultPlan::new(0, rules)));
    let mut records = Records::new(2);
    model.submit(QUEUE, &records.noops());
    let mut pauses = 0;
    while records.get(0).status == 0 {
        assert!(model.now() < Duration::from_millis(2));
        model.pause();
        pauses += 1;
    }
    assert!(pauses > 50, "only {pauses} looks at the clock: a deadline would have been missed");
    assert!(model.now() > Duration::from_millis(1));
    assert!(model.drain());
    assert_eq!(records.statuses(), [1, 0]);
}

#[test]
fn status_first_shows_a_record_that_is_not_whole() {
    let rule = |fault| Rule::new(fault, When::Always);
    let rules = [rule(Injection::StatusFirst), rule(Injection::WrongCrc)];
    let model = model(ModelConfig::spr(1).with_faults(FaultPlan::new(7, rules)));
    let mut records = Records::new(1);
    model.submit(QUEUE, &records.noops());
    model.pause();
    assert_eq!((records.get(0).status, records.get(0).crc), (1, 0));
    model.pause();
    assert_eq!(records.get(0).crc.count_ones(), 1);
}

#[test]
fn settling_writes_what_a_freed_record_would_suffer() {
    let rule = |fault| Rule::new(fault, When::Always);
    let duplicate = Injection::Duplicate(Duration::from_secs(1));
    let rules = [rule(Injection::StatusFirst), rule(Injection::WrongCrc), rule(duplicate)];
    let model = model(ModelConfig::spr(1).with_faults(FaultPlan::new(7, rules)));
    let mut records = Records::new(1);
    model.submit(QUEUE, &records.noops());
    model.pause();
    let before = model.now();
    model.settle();
    assert_eq!((records.get(0).crc.count_ones(), model.now()), (1, before));
    let mut records = Records(std::mem::take(&mut records.0));
    records.0[0] = CompletionRecord::default();
    assert!(model.drain());
    assert_eq!(records.statuses(), [0], "nothing is left to be written");
}

#[test]
fn record_at_a_bad_address_is_a_software_error() {
    let model = model(ModelConfig::spr(1));
    let mut descriptor = Records::new(1).noop(0);
    descriptor.completion_addr = 64;
    model.submit(QUEUE, &[descriptor]);
    descriptor.completion_addr = 65;
    model.submit(QUEUE, &[descriptor]);
    assert!(model.drain());
    let summary = model.summary();
    assert_eq!(summary.software_errors, 2);
    // The record's own address; once it was that of the byte behind the status, which is written last.
    assert_eq!(summary.software_error, Some(SoftwareError::CompletionFault(QUEUE, 64)));
    assert_eq!(model.take_errors(), [SoftwareError::CompletionAlignment(QUEUE, 65)], "the last");
    assert_eq!(model.take_errors(), []);
}
