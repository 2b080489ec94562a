//! How far the replay clock is from what it is told: no-operations with one in flight, and with many.
//!
//! A driver that costs nothing would see each take the submission and the base latency; what comes on top is the
//! clock's error and the loop's own work. `cargo run --release -p iaa-model --example replay_error`.

use std::sync::atomic::{AtomicU8, Ordering};

use iaa_model::{Clock, Model, ModelConfig, QueueConfig, QueueId, ThisProcess, Timing, thread_time};
use idxd_sys::{CompletionRecord, Descriptor, flags, opcode};

fn main() {
    let config = ModelConfig::spr(1).with_queues([QueueConfig::dedicated(128)]).with_clock(Clock::Replay);
    // SAFETY: the records below live as long as the model's last completion, and are read by atomic reads only.
    let memory = unsafe { ThisProcess::new() };
    let model = Model::new(config, Box::new(memory));
    let queue = QueueId::new(0, 0);
    let wanted = flags::op::COMPLETION_ADDR_VALID | flags::op::REQUEST_COMPLETION;
    for window in [1, 8, 32] {
        let mut records = vec![CompletionRecord::default(); window];
        let base = records.as_mut_ptr();
        let status = |k: usize| {
            // SAFETY: a record of `records`, which nobody reaches by reference meanwhile.
            unsafe { AtomicU8::from_ptr((&raw mut (*base.add(k)).status).cast()) }
        };
        let descriptors: Vec<Descriptor> = (0..window)
            .map(|k| Descriptor {
                completion_addr: base.wrapping_add(k).expose_provenance() as u64,
                ..Descriptor::new(opcode::NOOP, wanted)
            })
            .collect();
        let mut times: Vec<u128> = (0..20_000)
            .map(|_| {
                (0..window).for_each(|k| status(k).store(0, Ordering::Relaxed));
                let before = thread_time();
                for descriptor in &descriptors {
                    model.submit(queue, std::slice::from_ref(descriptor));
                }
                for k in 0..window {
                    while status(k).load(Ordering::Acquire) == 0 {
                        model.pause();
                    }
                }
                (thread_time() - before).as_nanos()
            })
            .collect();
        times.sort_unstable();
        let told = Timing::SPR.movdir64b * window as u64 + Timing::SPR.base;
        let (low, median, high) =
            (times[times.len() / 20], times[times.len() / 2], times[times.len() * 19 / 20]);
        println!("{window:>2} in flight: told {told} ns, measured {median} ns [{low} .. {high}]");
    }
}
