//! The replay clock, alone in its process: there is one in each.

#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use iaa_model::{Clock, Model, ModelConfig, OtherProcess, QueueConfig, QueueId, thread_time};
use idxd_sys::{CompletionRecord, Descriptor, flags, opcode, status};

#[test]
fn time_is_the_devices_and_the_threads_own_and_nobody_elses() {
    let before = thread_time();
    std::thread::sleep(Duration::from_millis(50));
    assert!(thread_time() - before >= Duration::from_millis(50), "without a model it is wall time");
    let config = ModelConfig::spr(1).with_queues([QueueConfig::dedicated(16)]).with_clock(Clock::Replay);
    let model = Model::new(config, Box::new(OtherProcess::this()));

    // A thread that does not run has no time.
    thread_time();
    let before = thread_time();
    std::thread::sleep(Duration::from_millis(50));
    let passed = thread_time() - before;
    assert!(passed < Duration::from_millis(30), "{passed:?} of sleep count");

    // One that does has.
    let (before, start) = (thread_time(), Instant::now());
    while start.elapsed() < Duration::from_millis(50) {
        std::hint::spin_loop();
    }
    let passed = thread_time() - before;
    assert!(passed < Duration::from_millis(60), "{passed:?} of 50 ms");

    // A no-op takes what the device takes for it.
    let mut records = [CompletionRecord::default(); 4];
    let wanted = flags::op::COMPLETION_ADDR_VALID | flags::op::REQUEST_COMPLETION;
    let noops = std::array::from_fn::<_, 4, _>(|k| Descriptor {
        completion_addr: (&raw mut records[k]).expose_provenance() as u64,
        ..Descriptor::new(opcode::NOOP, wanted)
    });
    let done = |k: usize| {
        // SAFETY: the record is ours; the model writes it by system calls of this thread.
        unsafe { std::ptr::read_volatile(&raw const records[k].status) == status::SUCCESS }
    };
    let before = thread_time();
    assert_eq!(model.submit(QueueId::new(0, 0), &noops).taken, 4);
    while !(0..4).all(done) {
        assert!(thread_time() - before < Duration::from_secs(1));
        model.pause();
    }
    let passed = thread_time() - before;
    // The fourth was submitted after 240 ns.
    assert!(passed >= Duration::from_nanos(1240), "{passed:?}");
    assert_eq!(model.summary().worked_out, 1, "the others have the first one's answer");

    // A sweep measured software after a modelled device, by two threads: the device's clock, which holds for one, went on to be
    // asked, and stood still. So software took no time at all. Without a model time is the wall's again.
    drop(model);
    let passed = std::thread::scope(|scope| {
        let sleep = || {
            let before = thread_time();
            std::thread::sleep(Duration::from_millis(50));
            thread_time() - before
        };
        let threads = [scope.spawn(sleep), scope.spawn(sleep)];
        threads.map(|thread| thread.join().unwrap())
    });
    assert!(passed.iter().all(|passed| *passed >= Duration::from_millis(50)), "{passed:?}");
}
