//! What takes a modelled device to ask for: every fault by its name, devices of several packages, a store that goes away
//! under pages in flight.
//!
//! Campaigns mix faults by seed (`tests/campaign.rs`); here each strikes alone, so that the one that loses a page is named.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;

use iaa_model::{FaultPlan, Model, ModelConfig, OtherProcess, QueueId};
use idxd_sys::{opcode, status};
use zfolio::{Backend, Config, Folio, LoadError, NodeId, PAGE_SIZE, PageBytes, SwapEntry, Zswap};
use zfolio_accel::direct::{DirectConfig, Verify};
use zfolio_accel::{Channels, ChannelsConfig, Compressed, FallbackCounts, Job, Purpose, Topology, crc32};

fn at(offset: usize) -> SwapEntry {
    SwapEntry::new(0, u32::try_from(offset).unwrap())
}

/// Pages that shrink, none like another.
fn pages(count: usize) -> Vec<PageBytes> {
    let text = |number: usize| format!("page {number}, which is like no other: {}. ", number * number);
    (0..count)
        .map(|number| {
            let text = text(number);
            std::array::from_fn(|i| text.as_bytes()[i % text.len()])
        })
        .collect()
}

fn model(config: ModelConfig) -> Arc<Model> {
    Model::new(config, Box::new(OtherProcess::this()))
}

fn channels(model: &Arc<Model>, direct: DirectConfig, topology: &Topology) -> Channels {
    let config = ChannelsConfig {
        backend: Backend::Model,
        direct,
        model: Some(Arc::clone(model)),
        ..ChannelsConfig::default()
    };
    Channels::new(config, topology).unwrap()
}

/// Stores, reads and loads all pages again and again, and compares every byte.
fn everything_comes_back(zswap: &Zswap, what: &str) {
    let pages = pages(64);
    let mut out = [0xee; PAGE_SIZE];
    for round in 0..3 {
        for (k, chunk) in pages.chunks(16).enumerate() {
            zswap
                .store(&Folio::new(at(k * 16), NodeId(0), chunk).unwrap())
                .unwrap_or_else(|error| panic!("{what}, round {round}: {error}"));
        }
        zswap.check().unwrap();
        for (offset, page) in pages.iter().enumerate() {
            for load in [false, true] {
                out.fill(0xee);
                let result =
                    if load { zswap.load(at(offset), &mut out) } else { zswap.read(at(offset), &mut out) };
                assert_eq!(result, Ok(()), "{what}, round {round}, page {offset}");
                assert!(out == *page, "{what}, round {round}, page {offset} is another");
            }
            assert_eq!(zswap.load(at(offset), &mut out), Err(LoadError::NotFound));
        }
    }
}

#[test]
fn no_fault_loses_a_page() {
    for fault in [
        "full p=0.3",
        "full burst=20+200",
        "partial p=0.5",
        "not-permitted p=0.2",
        "page-fault:read p=0.2",
        "page-fault:write p=0.2",
        "page-fault-always:read p=0.1",
        "page-fault-always:write p=0.1",
        "status:0x24 p=0.1",
        "status:0x7f p=0.1",
        "error:11 p=0.1",
        "never p=0.05",
        "late:10s p=0.05",
        "flip-output p=0.2",
        "wrong-crc p=0.2",
        "output-too-large p=0.2",
        "duplicate:1ms p=0.2",
        "status-first p=0.3",
        "slow:10 p=0.3",
        "iotlb-miss:100us p=0.3",
        "disable-queue nth=30",
        "disable-device nth=30",
    ] {
        for config in [ModelConfig::spr(2), ModelConfig::gnr(2)] {
            let plan: FaultPlan = format!("seed=1; {fault}").parse().unwrap();
            // Wrong answers that say that they are right can be found only by looking.
            let verify = if plan.deceives() { Verify::Always } else { Verify::Off };
            let model = model(config.with_faults(plan));
            let direct = DirectConfig { verify, ..DirectConfig::default() };
            let channels = channels(&model, direct, &Topology::single_node());
            let zswap = Zswap::with_channels(Config::default(), &Topology::single_node(), channels).unwrap();
            zswap.swapon(0, 64).unwrap();
            everything_comes_back(&zswap, fault);
            assert!(model.summary().faults_injected() > 0, "{fault} never struck");
        }
    }
}

/// The files of a machine of two packages, a CPU and a node each.
fn two_packages(sysfs: &Path) -> Topology {
    let write = |path: &str, text: &str| {
        let path = sysfs.join("devices/system").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("node/online", "0-1\n");
    write("cpu/online", "0-1\n");
    for number in 0..2 {
        write(&format!("node/node{number}/cpulist"), &format!("{number}\n"));
        write(&format!("node/node{number}/distance"), ["10 21\n", "21 10\n"][number]);
        write(&format!("cpu/cpu{number}/topology/physical_package_id"), &format!("{number}\n"));
    }
    Topology::read(sysfs).unwrap()
}

/// A page that went to the other socket's device would cross the link twice.
#[test]
fn pages_go_to_the_devices_of_the_package_that_the_thread_runs_on() {
    let dir = tempfile::tempdir().unwrap();
    let topology = two_packages(dir.path());
    assert_eq!(topology.package_of_cpu(), [0, 1]);
    // A factor of one changes nothing, and counts.
    let plan: FaultPlan = "slow:1 queue=0.0 op=compress; slow:1 queue=1.0 op=compress".parse().unwrap();
    let mut config = ModelConfig::spr(2).with_faults(plan);
    config.devices[1].nid = 1;
    let model = model(config);
    let channels = channels(&model, DirectConfig::default(), &topology);
    let pages = pages(40);
    let mut expected = [0, 0];
    for cpu in [0, 1, 1, 0, 1] {
        if let Err(error) = run_on(cpu) {
            println!("skipped: CPU {cpu}: {error}");
            return;
        }
        channels.with(Purpose::Store, |channel| channel.compress(&mut pages.iter(), &mut |_, _| {}));
        expected[cpu] += pages.len() as u64;
        assert_eq!(model.summary().struck, expected);
    }
    assert_eq!(channels.fallbacks(), FallbackCounts::default());
}

/// Puts this thread on a CPU, for good.
fn run_on(cpu: usize) -> std::io::Result<()> {
    // SAFETY: a set of CPUs is bits, for which zero is a value; the functions read and write `set` alone.
    let done = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Descriptors cannot be called back: memory that a device may still write to must never be anybody else's.
#[test]
fn what_comes_after_the_store_is_gone_writes_to_nobodys_memory() {
    for seed in 0..20 {
        let plan: FaultPlan = format!("seed={seed}; late:10s p=0.2; slow:50 p=0.5").parse().unwrap();
        let model = model(ModelConfig::spr(2).with_faults(plan));
        let channels = channels(&model, DirectConfig::default(), &Topology::single_node());
        let pages = pages(40);
        let end = 1 + seed as usize * 2 % 39;
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let mut sink = |index, _: Compressed<'_>| {
                if index == end {
                    resume_unwind(Box::new("the caller gives up"));
                }
            };
            channels.with(Purpose::Store, |channel| channel.compress(&mut pages.iter(), &mut sink));
        }));
        assert!(caught.is_err());
        drop(channels);
        drop(pages);
        let others = others();
        model.drain();
        assert!(model.summary().faults_injected() > 0, "seed {seed}");
        assert!(others.iter().flatten().all(|&byte| byte == 0xa5), "seed {seed}: a late answer went astray");
    }
}

/// Memory of others: small pieces and whole mappings, wherever the allocator finds room.
fn others() -> Vec<Vec<u8>> {
    (6..22).map(|bits| vec![0xa5; 1 << bits]).collect()
}

/// Stores `pages`, calls `meanwhile` when the `at`th is asked for, and reads all of them back.
fn store_and_read(channels: &Channels, pages: &[PageBytes], at: usize, meanwhile: impl Fn()) {
    let mut stored = Vec::new();
    let mut sink = |_, outcome: Compressed<'_>| match outcome {
        Compressed::Bytes { bytes, codec, crc } => stored.push((bytes.to_vec(), codec, crc)),
        Compressed::Incompressible { .. } => panic!("all of them shrink"),
    };
    let mut asked = pages.iter().enumerate().map(|(index, page)| {
        if index == at {
            meanwhile();
        }
        page
    });
    channels.with(Purpose::Store, |channel| channel.compress(&mut asked, &mut sink));
    assert_eq!(stored.len(), pages.len());
    for (page, (bytes, codec, crc)) in pages.iter().zip(&stored) {
        assert_eq!(*crc, crc32(page));
        let mut out = [0xee; PAGE_SIZE];
        let mut jobs = [Some(Job::new(*codec, bytes, *crc, &mut out))];
        channels.with(Purpose::Load, |channel| channel.decompress(&mut jobs));
        assert!(jobs[0].take().unwrap().result().is_ok() && out == *page);
    }
}

/// Its driver disables the queues: what waits there has no answer, and what engines have begun has one, in time or not.
#[test]
fn device_that_halts_with_pages_under_way_loses_none_and_gets_no_memory_back() {
    for begun in ["slow:1", "late:10s burst=3+10 op=compress"] {
        let model = model(ModelConfig::spr(1).with_faults(begun.parse().unwrap()));
        let queues: Vec<QueueId> = model.queues().collect();
        let config = ChannelsConfig {
            backend: Backend::Model,
            model: Some(Arc::clone(&model)),
            window: 32,
            ..ChannelsConfig::default()
        };
        let channels = Channels::new(config, &Topology::single_node()).unwrap();
        let pages = pages(64);
        store_and_read(&channels, &pages, 33, || {
            queues.iter().for_each(|&queue| assert!(model.abort(queue)));
        });
        let (counts, summary) = (channels.device_counts(), model.summary());
        assert!(summary.abandoned > 0, "{begun}: {summary}");
        assert_eq!(counts.timed_out > summary.abandoned, begun.starts_with("late"), "{begun}: {counts:?}");
        assert_eq!(counts.completed, summary.ended(opcode::COMPRESS, status::SUCCESS), "{begun}");
        assert_eq!(counts.completed + counts.timed_out, counts.submitted, "{begun}: each has one end");
        assert_eq!(counts.retired_ops, counts.timed_out, "{begun}");
        assert!(counts.refused > 0, "{begun}");
        let fallbacks = channels.fallbacks();
        assert_eq!(fallbacks.timed_out, counts.timed_out, "{begun}");
        assert!(fallbacks.no_queue > 0, "{begun}");

        // It is reset and enabled again: another queue of the same name.
        queues.iter().for_each(|&queue| assert!(model.enable(queue)));
        channels.rescan();
        store_and_read(&channels, &pages, usize::MAX, || {});
        assert!(channels.device_counts().submitted > counts.submitted, "{begun}: it is used again");

        drop(channels);
        let others = others();
        assert!(model.drain());
        assert_eq!(model.summary().software_errors, 0, "{begun}: late records have a place");
        assert!(others.iter().flatten().all(|&byte| byte == 0xa5), "{begun}: a late answer went astray");
    }
}
