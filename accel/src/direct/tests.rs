//! The direct engine against a scripted device: each kind of failure, its answer and its count.

mod queues;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use idxd_sys::flags::compress;
use idxd_sys::{Descriptor, opcode};

use super::test_device::{Fate, TestDevice};
use super::window::MOST_RETIRED;
use super::{DeviceCounts, DirectConfig, Huffman, QueueInfo, QueueState, Refusal, Verify};
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

/// A device of the first generation compresses with codes of a page's own in two steps, each of which may fail.
#[test]
fn either_step_of_dynamic_codes_may_fail_and_no_page_is_lost() {
    let dynamic = |verify| DirectConfig { huffman: Huffman::Dynamic, verify, ..DirectConfig::default() };
    let is_count = |descriptor: &Descriptor| descriptor.op_flags & compress::STATISTICS != 0;
    for counts_fail in [true, false] {
        for fate in [
            Fate::Never,
            Fate::Ends(0x1f, 0),
            Fate::Ends(0x0a, 30),
            Fate::FaultsElsewhere,
            Fate::Faults { offset: 100, write: false },
            Fate::Faults { offset: 0, write: true },
            Fate::Size(5000),
            Fate::Refused(Refusal::Full),
        ] {
            let mut turns = 0;
            let device = TestDevice::new(move |_, descriptor| {
                if descriptor.opcode() != opcode::COMPRESS || is_count(descriptor) != counts_fail {
                    return Fate::Done;
                }
                turns += 1;
                if turns % 5 == 2 { fate } else { Fate::Done }
            });
            let channels = channels_of(&[(&device, QueueInfo::default())], 8, dynamic(Verify::Sampled(3)));
            let mut pages = pages(30);
            pages[11] = noise();
            let stored = self::compress(&channels, &pages);
            decompress(&channels, &pages, &stored);
            let (counts, fallbacks) = (channels.device_counts(), channels.fallbacks());
            assert!(counts.coded > 20 && counts.completed + counts.timed_out == counts.submitted);
            let failed = fallbacks != FallbackCounts::default();
            let is_mended = matches!(fate, Fate::Faults { .. } | Fate::Refused(_));
            assert_eq!(failed, !is_mended, "{fate:?} {counts:?} {fallbacks:?}");
        }
    }
}

/// The address of codes that the device reads is the op's own, and a fault there is answered like any other.
#[test]
fn fault_at_the_codes_of_a_page_is_touched() {
    let mut faults = 0;
    let device = TestDevice::new(move |_, descriptor| {
        if descriptor.src2_size == 0 || faults == 4 {
            return Fate::Done;
        }
        faults += 1;
        Fate::Faults { offset: descriptor.src2_addr.wrapping_sub(descriptor.src1_addr), write: false }
    });
    let direct = DirectConfig { huffman: Huffman::Dynamic, ..DirectConfig::default() };
    let channels = channels_of(&[(&device, QueueInfo::default())], 4, direct);
    compress(&channels, &pages(8));
    assert_eq!(channels.device_counts().page_faults_touched, 4);
    assert_eq!(channels.fallbacks(), FallbackCounts::default());
}

/// Two steps a page, and as many pages in flight as ever.
#[test]
fn window_stays_full_while_pages_take_two_steps() {
    let device = TestDevice::new(|_, _| Fate::Done);
    let direct = DirectConfig { huffman: Huffman::Dynamic, ..DirectConfig::default() };
    let channels = channels_of(&[(&device, QueueInfo::default())], 8, direct);
    compress(&channels, &pages(40));
    let counts = channels.device_counts();
    assert_eq!((counts.submitted, counts.coded, device.most_in_flight()), (80, 40, 8));
    let under_way = channels.under_way();
    assert_eq!(under_way.iter().sum::<u64>(), 80);
    assert!(under_way[8] > 60, "{under_way:?}");
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
