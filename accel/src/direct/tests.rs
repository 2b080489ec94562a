//! The direct engine against a scripted device: each kind of failure, its answer and its count.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use idxd_sys::{Descriptor, opcode};

use super::test_device::{Fate, TestDevice};
use super::window::MOST_RETIRED;
use super::{DeviceCounts, DirectConfig, QueueInfo, QueueState, Refusal, Verify};
use crate::discover::QueueMode;
use crate::{
    Backend, Channels, ChannelsConfig, Codec, Compressed, FallbackCounts, Job, Method, PAGE_SIZE, PageBytes,
    Purpose, Topology, crc32,
};

/// A page that shrinks, and another for each number.
fn page(number: usize) -> PageBytes {
    std::array::from_fn(|i| (i / 16 * 7 + number * 31) as u8 ^ (i as u8 & 3))
}

fn noise() -> PageBytes {
    let mut state = 1u64;
    std::array::from_fn(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

fn pages(count: usize) -> Vec<PageBytes> {
    (0..count).map(page).collect()
}

fn channels_of(devices: &[(&TestDevice, QueueInfo)], window: usize, direct: DirectConfig) -> Channels {
    let queues = devices.iter().map(|(device, info)| device.queue(info.clone())).collect();
    let config = ChannelsConfig { window, direct, ..ChannelsConfig::default() };
    Channels::with_queues(queues, &config, &Topology::single_node()).unwrap()
}

fn channels(device: &TestDevice, window: usize) -> Channels {
    channels_of(&[(device, QueueInfo::default())], window, DirectConfig::default())
}

fn named(name: &str) -> QueueInfo {
    QueueInfo { name: name.to_owned(), ..QueueInfo::default() }
}

/// Bytes of a page, or none if it does not shrink.
type Stored = Option<Vec<u8>>;

/// Compresses all of `pages`, and checks order, codec and CRC of what comes.
fn compress(channels: &Channels, pages: &[PageBytes]) -> Vec<Stored> {
    let mut stored = Vec::new();
    channels.with(Purpose::Store, |channel| {
        channel.compress(&mut pages.iter(), &mut |index, outcome| {
            assert_eq!(index, stored.len(), "results come in the order of the pages");
            stored.push(match outcome {
                Compressed::Bytes { bytes, codec, crc } => {
                    assert_eq!((codec, crc), (Codec::Deflate, crc32(&pages[index])));
                    Some(bytes.to_vec())
                }
                Compressed::Incompressible { crc } => {
                    assert_eq!(crc, crc32(&pages[index]));
                    None
                }
            });
        });
    });
    assert_eq!(stored.len(), pages.len());
    stored
}

/// Decompresses what was stored and checks it against the pages.
fn decompress(channels: &Channels, pages: &[PageBytes], stored: &[Stored]) {
    let mut out = vec![[0xa5; PAGE_SIZE]; pages.len()];
    let jobs = stored.iter().zip(pages).zip(&mut out);
    let mut jobs: Vec<_> = jobs
        .map(|((bytes, page), out)| Some(Job::new(Codec::Deflate, bytes.as_ref()?, crc32(page), out)))
        .collect();
    channels.with(Purpose::Load, |channel| channel.decompress(&mut jobs));
    for (index, job) in jobs.iter().enumerate() {
        assert!(job.as_ref().is_none_or(|job| job.result() == Ok(())), "page {index}");
    }
    for (index, (out, stored)) in out.iter().zip(stored).enumerate() {
        assert!(stored.is_none() || *out == pages[index], "page {index} is another");
    }
}

/// Stores and loads pages while every `every`-th descriptor has `fate`; the counts after it.
fn trip(fate: Fate, every: u64, direct: DirectConfig) -> (DeviceCounts, FallbackCounts) {
    let device = TestDevice::new(move |n, _| if n % every == 2 { fate } else { Fate::Done });
    let channels = channels_of(&[(&device, QueueInfo::default())], 8, direct);
    let pages = pages(40);
    let stored = compress(&channels, &pages);
    decompress(&channels, &pages, &stored);
    (channels.device_counts(), channels.fallbacks())
}

#[test]
fn pages_come_back_with_every_window() {
    for window in [1, 2, 3, 8, 64, 128] {
        let device = TestDevice::new(|_, _| Fate::Done);
        let queue = QueueInfo { capacity: 128, ..QueueInfo::default() };
        let channels = channels_of(&[(&device, queue)], window, DirectConfig::default());
        let mut pages = pages(150);
        pages[7] = noise();
        let stored = compress(&channels, &pages);
        assert!(stored.iter().enumerate().all(|(index, bytes)| bytes.is_none() == (index == 7)));
        assert_eq!(device.most_in_flight(), window, "as many as may be, and no more");
        decompress(&channels, &pages, &stored);
        let counts = channels.device_counts();
        assert_eq!((counts.submitted, counts.completed, counts.incompressible), (299, 299, 1));
        assert_eq!(channels.fallbacks(), FallbackCounts::default());
    }
}

#[test]
fn others_stay_in_flight_while_the_sink_runs() {
    let device = TestDevice::new(|_, _| Fate::Done);
    let channels = channels(&device, 8);
    let pages = pages(16);
    let mut least = usize::MAX;
    channels.with(Purpose::Store, |channel| {
        channel.compress(&mut pages.iter(), &mut |index, _| {
            if index == 0 {
                least = device.in_flight();
            }
        });
    });
    // All were submitted in the same instant, so they are due in the same step as the first.
    assert!(least <= 7);
    assert_eq!(device.in_flight(), 0, "nothing is in flight after the call");
}

#[test]
fn queue_full_until_the_deadline_leaves_the_page_to_software() {
    let (counts, fallbacks) = trip(Fate::Refused(Refusal::Full), 10, DirectConfig::default());
    assert!(
        counts.queue_full > 0 && counts.busy == 0 && fallbacks.busy == 0,
        "later there is room: {counts:?}"
    );

    let device = TestDevice::new(|_, _| Fate::Refused(Refusal::Full));
    let channels = channels(&device, 8);
    let pages = pages(4);
    assert!(compress(&channels, &pages).iter().all(Option::is_some));
    assert_eq!((channels.device_counts().busy, channels.fallbacks().busy), (4, 4));
}

#[test]
fn page_fault_is_answered_by_touching_the_page_three_times_and_then_by_software() {
    for (offset, write) in [(0, false), (20, false), (0, true)] {
        let mut seen = HashSet::new();
        let device = TestDevice::new(move |_, descriptor| match seen.insert(descriptor.src1_addr) {
            true => Fate::Faults { offset, write },
            false => Fate::Done,
        });
        let channels = channels(&device, 8);
        let pages = pages(20);
        let stored = compress(&channels, &pages);
        decompress(&channels, &pages, &stored);
        let counts = channels.device_counts();
        assert_eq!((counts.page_faults_touched, counts.page_faults), (40, 0));
        assert_eq!(channels.fallbacks(), FallbackCounts::default());
    }
    let device = TestDevice::new(|_, _| Fate::Faults { offset: 8, write: false });
    let channels = channels(&device, 2);
    let pages = pages(3);
    compress(&channels, &pages);
    let counts = channels.device_counts();
    assert_eq!((counts.page_faults_touched, counts.page_faults, counts.submitted), (9, 3, 12));
    assert_eq!(channels.fallbacks().page_fault, 3);
}

#[test]
fn page_that_the_op_was_not_given_is_never_touched() {
    let (counts, fallbacks) = trip(Fate::FaultsElsewhere, 10, DirectConfig::default());
    assert_eq!((counts.page_faults_touched, counts.page_faults), (0, 8));
    assert_eq!(fallbacks.page_fault, 8);
}

#[test]
fn late_completion_after_a_time_out_is_harmless() {
    let late = Fate::Late(Duration::from_millis(11));
    let device = TestDevice::new(move |n, _| if n == 3 { late } else { Fate::Done });
    let channels = channels(&device, 4);
    let before = pages(8);
    let stored = compress(&channels, &before);
    assert_eq!((channels.device_counts().timed_out, channels.device_counts().retired_ops), (1, 1));
    assert_eq!(channels.fallbacks().timed_out, 1);
    assert_eq!(device.in_flight(), 1, "the late one is still to come");
    drop(before);
    // It comes in the middle of these, whose input and output are elsewhere.
    let pages: Vec<PageBytes> = (100..140).map(page).collect();
    device.pass(Duration::from_micros(985));
    let again = compress(&channels, &pages);
    assert_eq!(device.in_flight(), 0, "the late one has come");
    decompress(&channels, &pages, &again);
    decompress(&channels, &self::pages(8), &stored);
    assert_eq!(channels.device_counts().retired_ops, 1);
}

#[test]
fn ops_that_never_complete_are_retired_up_to_a_limit_and_then_software_does_all() {
    let device = TestDevice::new(|_, descriptor: &Descriptor| match descriptor.opcode() {
        opcode::COMPRESS => Fate::Never,
        _ => Fate::Done,
    });
    let patient = DirectConfig { quarantine_after: u32::MAX, ..DirectConfig::default() };
    let channels = channels_of(&[(&device, QueueInfo::default())], 8, patient);
    let pages = pages(100);
    for _ in 0..2 {
        let stored = compress(&channels, &pages);
        decompress(&channels, &pages, &stored);
    }
    let counts = channels.device_counts();
    assert_eq!((counts.timed_out, counts.channels_exhausted), (counts.retired_ops, 1));
    assert!((MOST_RETIRED as u64..MOST_RETIRED as u64 + 8).contains(&counts.retired_ops), "{counts:?}");
    let fallbacks = channels.fallbacks();
    assert_eq!(fallbacks.timed_out + fallbacks.no_queue, 200, "every page all the same");
    let queues = channels.queues();
    drop(channels);
    assert_eq!(queues[0].state, QueueState::Working);
}

#[test]
fn dropping_a_channel_with_retired_ops_is_counted() {
    let device = TestDevice::new(|_, _| Fate::Never);
    let queues = vec![device.queue(QueueInfo::default())];
    let table = super::QueueTable::new(
        super::Source::Given(queues),
        DirectConfig::default(),
        &Topology::single_node(),
    );
    let table = std::sync::Arc::new(table.unwrap());
    let mut engine = super::Direct::new(&table, 0, Purpose::Store, 2);
    crate::Engine::compress(&mut engine, &mut pages(1).iter(), &mut |_| {});
    assert_eq!(table.counters.snapshot().channels_leaked, 0);
    drop(engine);
    assert_eq!(table.counters.snapshot().channels_leaked, 1);
}

#[test]
fn bad_status_error_code_and_length_leave_the_page_to_software() {
    for status in [0x10, 0x11, 0x13, 0x1a, 0x1f, 0x24, 0x0b] {
        let (counts, fallbacks) = trip(Fate::Ends(status, 0), 10, DirectConfig::default());
        assert_eq!((counts.bad_status, fallbacks.bad_status), (8, 8), "status {status:#x}");
    }
    let (counts, fallbacks) = trip(Fate::Ends(0x0a, 17), 10, DirectConfig::default());
    assert_eq!((counts.analytics_errors, fallbacks.decode), (8, 8));
    for size in [0, 4097, u32::MAX] {
        let (counts, fallbacks) = trip(Fate::Size(size), 10, DirectConfig::default());
        assert_eq!((counts.bad_records, fallbacks.bad_status), (8, 8), "size {size}");
    }
}

#[test]
fn wrong_crc_or_output_is_found_when_every_page_is_verified() {
    for fate in [Fate::WrongCrc, Fate::WrongOutput] {
        let direct = DirectConfig { verify: Verify::Always, ..DirectConfig::default() };
        // Seven has no divisor in common with the turns of compress and verify.
        let (counts, fallbacks) = trip(fate, 7, direct);
        assert!(counts.crc_mismatches > 0 && counts.verified > 0, "{fate:?} {counts:?}");
        assert!(fallbacks.crc_mismatch > 0, "{fate:?} {fallbacks:?}");
    }
}

#[test]
fn wrong_crc_of_a_load_is_found_always() {
    let device = TestDevice::new(|n, _| if n == 5 { Fate::WrongCrc } else { Fate::Done });
    let channels = channels(&device, 8);
    let pages = pages(4);
    let stored = compress(&channels, &pages);
    decompress(&channels, &pages, &stored);
    assert_eq!(channels.fallbacks(), FallbackCounts { crc_mismatch: 1, ..FallbackCounts::default() });
}

#[test]
fn one_page_in_so_many_is_verified() {
    for (verify, expected) in
        [(Verify::Off, 0), (Verify::Sampled(4), 10), (Verify::Sampled(1), 40), (Verify::Always, 40)]
    {
        let device = TestDevice::new(|_, _| Fate::Done);
        let direct = DirectConfig { verify, ..DirectConfig::default() };
        let channels = channels_of(&[(&device, QueueInfo::default())], 8, direct);
        compress(&channels, &pages(40));
        assert_eq!(channels.device_counts().verified, expected, "{verify:?}");
        assert_eq!(device.offered(), 40 + expected, "{verify:?}");
    }
}

#[test]
fn queue_that_stays_silent_is_stopped_and_comes_back_when_a_probe_is_answered() {
    let device = TestDevice::new(|_, _| Fate::Never);
    let other = TestDevice::new(|_, _| Fate::Done);
    let direct = DirectConfig { quarantine_after: 4, ..DirectConfig::default() };
    let one = QueueInfo { name: "wq0.0".to_owned(), ..QueueInfo::default() };
    let two = QueueInfo { name: "wq1.0".to_owned(), device: 1, ..QueueInfo::default() };
    let channels = channels_of(&[(&device, one), (&other, two)], 4, direct);
    device.set_answers_noops(false);
    let pages = pages(20);
    compress(&channels, &pages);
    let counts = channels.device_counts();
    // The others were in flight by then.
    assert!((4..8).contains(&counts.timed_out) && counts.quarantines == 1, "then the other queue does all");
    let timed_out = counts.timed_out;
    let queue = &channels.queues()[0];
    assert_eq!(queue.state, QueueState::Quarantined);
    assert_eq!(queue.text, "work queue wq0.0 stopped: 4 time-outs in a row; probed now and then");

    // The quarantine is over, the probe is not answered: twice as long now.
    device.pass(Duration::from_millis(150));
    compress(&channels, &pages);
    device.pass(Duration::from_millis(60));
    compress(&channels, &pages);
    let counts = channels.device_counts();
    assert_eq!((counts.probes, counts.probes_failed), (3, 1), "two of the probes were at the start");

    device.set_answers_noops(true);
    device.set_script(|_, _| Fate::Done);
    for _ in 0..4 {
        device.pass(Duration::from_millis(100));
        compress(&channels, &pages);
    }
    assert_eq!(channels.queues()[0].state, QueueState::Working);
    let before = device.offered();
    compress(&channels, &pages);
    assert!(device.offered() > before, "it is used again");
    assert_eq!(channels.device_counts().timed_out, timed_out);
}

#[test]
fn disabled_queue_is_left_and_opened_anew() {
    let device = TestDevice::new(|n, _| match n {
        5 => Fate::Refused(Refusal::Disabled),
        _ => Fate::Done,
    });
    let channels = channels(&device, 4);
    let pages = pages(20);
    let stored = compress(&channels, &pages);
    assert!(channels.fallbacks().no_queue > 0, "no other queue is there");
    assert_eq!(channels.device_counts().refused, 1);
    decompress(&channels, &pages, &stored);
    let before = channels.fallbacks();
    compress(&channels, &pages);
    assert_eq!(channels.device_counts().rescans, 1);
    assert_eq!(channels.fallbacks(), before, "it was found again");
}

#[test]
fn submission_that_is_not_permitted_stops_the_queue_until_a_probe_passes() {
    let device = TestDevice::new(|n, _| match n {
        0 => Fate::Refused(Refusal::Denied),
        _ => Fate::Done,
    });
    let channels = channels(&device, 4);
    compress(&channels, &pages(6));
    assert_eq!((channels.device_counts().quarantines, channels.device_counts().refused), (1, 1));
    assert_eq!(channels.queues()[0].text, "work queue wq0.0 stopped: submissions fail; probed now and then");
    device.pass(Duration::from_millis(101));
    compress(&channels, &pages(1));
    device.pass(Duration::from_micros(10));
    let before = device.offered();
    compress(&channels, &pages(6));
    assert_eq!(device.offered(), before + 6);
}

#[test]
fn panic_of_the_caller_leaves_nothing_in_flight() {
    let device = TestDevice::new(|n, _| match n {
        4 => Fate::Never,
        6 => Fate::Late(Duration::from_millis(5)),
        _ => Fate::Done,
    });
    let channels = channels(&device, 8);
    let pages = pages(20);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        channels.with(Purpose::Store, |channel| {
            channel.compress(&mut pages.iter(), &mut |index, _| assert!(index < 2, "stop here"));
        });
    }));
    assert!(caught.is_err());
    assert_eq!(device.in_flight(), 0);
    let counts = channels.device_counts();
    assert_eq!((counts.retired_ops, counts.completed), (1, counts.submitted - 1));

    let mut yielded = 0;
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let mut iterator = pages.iter().inspect(|_| {
            yielded += 1;
            assert!(yielded < 4, "stop here");
        });
        channels.with(Purpose::Store, |channel| channel.compress(&mut iterator, &mut |_, _| {}));
    }));
    assert!(caught.is_err());
    assert_eq!(device.in_flight(), 0);
    let stored = compress(&channels, &pages);
    decompress(&channels, &pages, &stored);
}

#[test]
fn queues_of_a_package_take_turns() {
    let devices: Vec<TestDevice> = (0..4).map(|_| TestDevice::new(|_, _| Fate::Done)).collect();
    let queues: Vec<_> = devices
        .iter()
        .enumerate()
        .map(|(k, device)| (device, QueueInfo { device: k as u32, ..named(&format!("wq{k}.0")) }))
        .collect();
    let channels = channels_of(&queues, 8, DirectConfig::default());
    let pages = pages(80);
    let stored = compress(&channels, &pages);
    decompress(&channels, &pages, &stored);
    assert_eq!(devices.iter().map(TestDevice::offered).collect::<Vec<_>>(), [40; 4]);
}

#[test]
fn loads_have_a_queue_of_their_own_where_a_device_has_several() {
    let stores = TestDevice::new(|_, _| Fate::Done);
    let loads = TestDevice::new(|_, _| Fate::Done);
    let queues =
        [(&stores, named("wq0.0")), (&loads, QueueInfo { priority: 15, capacity: 8, ..named("wq0.1") })];
    let channels = channels_of(&queues, 4, DirectConfig::default());
    let pages = pages(10);
    let stored = compress(&channels, &pages);
    assert_eq!((stores.offered(), loads.offered()), (10, 0));
    decompress(&channels, &pages, &stored);
    assert_eq!((stores.offered(), loads.offered()), (10, 10));
    assert!(
        channels.report().contains("wq0.1, 8 entries, by a script (shared), for loads"),
        "{}",
        channels.report()
    );
}

#[test]
fn credits_of_a_dedicated_queue_are_never_exceeded() {
    let device = TestDevice::new(|_, _| Fate::Done);
    let queue = QueueInfo { mode: QueueMode::Dedicated, capacity: 5, ..QueueInfo::default() };
    let channels = channels_of(&[(&device, queue)], 32, DirectConfig::default());
    let pages = pages(64);
    let stored = compress(&channels, &pages);
    decompress(&channels, &pages, &stored);
    assert_eq!(device.most_in_flight(), 5);
    assert!(channels.device_counts().no_credit > 0);
    assert_eq!(channels.fallbacks(), FallbackCounts::default());
}

#[test]
fn descriptors_go_together_where_a_call_costs_more_than_a_descriptor() {
    let device = TestDevice::new(|_, _| Fate::Done).with_batch(16);
    let channels = channels(&device, 8);
    compress(&channels, &pages(64));
    let batches = device.take_batches();
    assert_eq!(batches[0], 8);
    assert!(batches.len() <= 64 / 4, "four at a time at least: {batches:?}");
}

#[test]
fn backend_without_a_device_is_an_error_that_says_why() {
    let root = tempfile::tempdir().unwrap();
    let config = ChannelsConfig { backend: Backend::Direct, sysfs: root.path().into(), ..Default::default() };
    let error = Channels::new(config.clone(), &Topology::single_node()).unwrap_err().to_string();
    let expected = format!(
        "backend direct: no enabled IAA work queue under {}/bus/dsa/devices (found 0 devices, 0 queues of type user)",
        root.path().display()
    );
    assert_eq!(error, expected);
    let auto = ChannelsConfig { backend: Backend::Auto, ..config.clone() };
    let channels = Channels::new(auto, &Topology::single_node()).unwrap();
    assert!(channels.report().starts_with("software (chosen by auto: no enabled IAA work queue under "));
    let lz4 = ChannelsConfig { method: Some(Method::Lz4), ..config };
    let error = Channels::new(lz4, &Topology::single_node()).unwrap_err().to_string();
    assert_eq!(error, "backend direct compresses with deflate, not with lz4");
}

#[test]
fn queue_that_does_not_answer_when_it_is_opened_is_not_used() {
    let device = TestDevice::new(|_, _| Fate::Done);
    device.set_answers_noops(false);
    let queues = vec![device.queue(QueueInfo::default())];
    let error =
        Channels::with_queues(queues, &ChannelsConfig::default(), &Topology::single_node()).unwrap_err();
    let error = error.to_string();
    assert!(error.ends_with("work queue wq0.0 by a script: a no-op did not complete in time"), "{error}");
}

#[test]
fn child_of_fork_gets_software_and_touches_no_device() {
    let device = TestDevice::new(|_, _| Fate::Done);
    let channels = channels(&device, 4);
    let pages = pages(4);
    compress(&channels, &pages);
    let offered = device.offered();
    // SAFETY: the child runs code of this test that takes no lock another thread could hold but the allocator's,
    // which the C library makes usable after fork; and leaves without running destructors.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let fine = catch_unwind(AssertUnwindSafe(|| {
            compress(&channels, &pages);
            assert_eq!(channels.fallbacks().forked, 4);
            assert_eq!(device.offered(), offered);
            drop(channels);
        }));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(fine.is_err())) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:#x}");
    compress(&channels, &pages);
    assert_eq!(channels.device_counts().forked, 0, "the parent stays the parent");
}
