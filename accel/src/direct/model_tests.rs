//! The direct engine on the model of the device, in the model's own time: every profile, and campaigns of faults.
//!
//! A campaign's seeds are printed when they fail. `CAMPAIGN_SEEDS=10000` runs more of them, `CAMPAIGN_FIRST=n` from
//! another one on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use iaa_model::{
    FaultPlan, Injection, Mode, Model, ModelConfig, OtherProcess, QueueConfig, QueueId, Rule, When,
};
use idxd_sys::{opcode, status};
use zfolio_fallback::Codecs;

use super::{DirectConfig, Huffman, QueueState, Verify};
use crate::{
    Backend, Channels, ChannelsConfig, Codec, Compressed, FallbackCounts, Job, PAGE_SIZE, PageBytes, Purpose,
    Topology, crc32,
};

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}

/// A page of some kind: text, counters, noise, half noise.
fn page(random: &mut Random) -> PageBytes {
    let (kind, salt) = (random.below(5), random.below(1 << 16));
    let text = b"pages in, compressed pages kept in memory on the right node, pages out; ";
    std::array::from_fn(|i| match kind {
        0 => text[(i + salt) % text.len()],
        1 => (i / 8 * (salt | 1)) as u8 & 0x1f,
        2 => random.below(256) as u8,
        3 if i < 2048 => random.below(256) as u8,
        _ => (salt >> (i % 3)) as u8,
    })
}

fn model(config: ModelConfig) -> Arc<Model> {
    Model::new(config, Box::new(OtherProcess::this()))
}

fn channels(model: &Arc<Model>, window: usize, direct: DirectConfig) -> Channels {
    let config = ChannelsConfig {
        backend: Backend::Model,
        window,
        direct,
        model: Some(Arc::clone(model)),
        ..ChannelsConfig::default()
    };
    Channels::new(config, &Topology::single_node()).unwrap()
}

/// What became of a page: bytes, codec and CRC; or nothing.
type Stored = Option<(Vec<u8>, Codec, u32)>;

fn compress(channels: &Channels, pages: &[PageBytes]) -> Vec<Stored> {
    let mut stored = Vec::new();
    channels.with(Purpose::Store, |channel| {
        channel.compress(&mut pages.iter(), &mut |index, outcome| {
            assert_eq!(index, stored.len());
            stored.push(match outcome {
                Compressed::Bytes { bytes, codec, crc } => Some((bytes.to_vec(), codec, crc)),
                Compressed::Incompressible { crc } => {
                    assert_eq!(crc, crc32(&pages[index]), "page {index} is kept raw");
                    None
                }
            });
        });
    });
    assert_eq!(stored.len(), pages.len());
    stored
}

/// Loads all pages in batches of `batch`, and checks every byte.
fn check(channels: &Channels, pages: &[PageBytes], stored: &[Stored], batch: usize) {
    for (pages, stored) in pages.chunks(batch).zip(stored.chunks(batch)) {
        let mut out = vec![[0xa5; PAGE_SIZE]; pages.len()];
        let jobs = stored.iter().zip(&mut out);
        let mut jobs: Vec<_> = jobs
            .map(|(stored, out)| {
                stored.as_ref().map(|(bytes, codec, crc)| Job::new(*codec, bytes, *crc, out))
            })
            .collect();
        channels.with(Purpose::Load, |channel| channel.decompress(&mut jobs));
        for (index, job) in jobs.iter().enumerate() {
            let Some(job) = job else { continue };
            assert_eq!(job.result(), Ok(()), "page {index}");
            assert!(*job.page == pages[index], "page {index} is another");
        }
    }
}

#[test]
fn every_profile_stores_and_loads_in_the_device_alone() {
    let dedicated = |config: ModelConfig| config.with_queues([QueueConfig::dedicated(16)]);
    for (what, config) in [
        ("generation 1", ModelConfig::spr(1)),
        ("generation 2", ModelConfig::gnr(1)),
        ("four devices", ModelConfig::spr(4)),
        ("dedicated", dedicated(ModelConfig::gnr(2))),
        ("two queues", ModelConfig::spr(1).with_queues([QueueConfig::shared(64), QueueConfig::shared(32)])),
    ] {
        let model = model(config);
        let dynamic = (Verify::Sampled(2), Huffman::Dynamic);
        for (verify, huffman) in
            [(Verify::Off, Huffman::ByDevice), (Verify::Always, Huffman::ByDevice), dynamic]
        {
            let channels = channels(&model, 8, DirectConfig { verify, huffman, ..DirectConfig::default() });
            let mut random = Random(7);
            let pages: Vec<PageBytes> = (0..60).map(|_| page(&mut random)).collect();
            let stored = compress(&channels, &pages);
            for (page, stored) in pages.iter().zip(&stored) {
                let Some((bytes, codec, crc)) = stored else { continue };
                assert_eq!((*codec, *crc), (Codec::Deflate, crc32(page)));
                let mut back = [0; PAGE_SIZE];
                Codecs::new().decompress(Codec::Deflate, bytes, &mut back).unwrap();
                assert!(back == *page, "{what}: software reads what the device made");
            }
            check(&channels, &pages, &stored, 16);
            check(&channels, &pages, &compress_in_software(&pages), 1);
            assert_eq!(channels.fallbacks(), FallbackCounts::default(), "{what}, {verify:?}, {huffman:?}");
        }
        assert_eq!(model.summary().software_errors, 0, "{what}");
    }
}

fn compress_in_software(pages: &[PageBytes]) -> Vec<Stored> {
    let config = ChannelsConfig {
        backend: Backend::Software,
        method: Some(Codec::Deflate.into()),
        ..Default::default()
    };
    compress(&Channels::new(config, &Topology::single_node()).unwrap(), pages)
}

#[test]
fn dynamic_codes_are_the_devices_where_it_makes_them_and_denser() {
    let mut random = Random(9);
    let pages: Vec<PageBytes> = (0..40).map(|_| page(&mut random)).collect();
    let size = |config, method| {
        let config = ChannelsConfig {
            backend: Backend::Model,
            method,
            model: Some(model(config)),
            ..ChannelsConfig::default()
        };
        let channels = Channels::new(config, &Topology::single_node()).unwrap();
        let stored = compress(&channels, &pages);
        assert_eq!(channels.fallbacks(), FallbackCounts::default());
        stored.iter().flatten().map(|(bytes, ..)| bytes.len()).sum::<usize>()
    };
    let fixed = size(ModelConfig::gnr(1), Some(crate::Method::Deflate));
    let dynamic = size(ModelConfig::gnr(1), None);
    assert!(dynamic < fixed, "{dynamic} bytes, fixed {fixed}");
    assert_eq!(size(ModelConfig::spr(1), None), fixed, "generation 1 makes none by itself");
    let in_two_steps = size(ModelConfig::spr(1), Some(crate::Method::DeflateDynamic));
    assert!(in_two_steps < fixed, "{in_two_steps} bytes, fixed {fixed}");
    // Pages for which the fixed codes are better do not get others in two steps; in one step the device decides.
    assert!(in_two_steps <= dynamic, "{in_two_steps} bytes, in one step {dynamic}");
}

#[test]
fn queue_that_is_disabled_and_enabled_again_is_used_again() {
    let model = model(ModelConfig::spr(1));
    let channels = channels(&model, 8, DirectConfig::default());
    let mut random = Random(3);
    let pages: Vec<PageBytes> = (0..20).map(|_| page(&mut random)).collect();
    compress(&channels, &pages);
    assert!(model.disable(QueueId::new(0, 0)));
    let stored = compress(&channels, &pages);
    assert_eq!(channels.fallbacks().no_queue, 20);
    assert!(stored.iter().any(Option::is_some));
    compress(&channels, &pages);
    assert!(channels.queues().is_empty(), "the first look has found that it is gone");
    assert!(model.enable(QueueId::new(0, 0)));
    assert!(channels.rescan() && !channels.rescan());
    let before = channels.fallbacks();
    compress(&channels, &pages);
    assert_eq!(channels.fallbacks(), before);
    assert_eq!(channels.queues()[0].state, QueueState::Working);
}

#[test]
fn second_device_is_found_by_a_rescan_and_takes_its_turn() {
    let mut config = ModelConfig::spr(2);
    config.devices[1].queues[0].enabled = false;
    let model = model(config);
    let channels = channels(&model, 8, DirectConfig::default());
    assert_eq!(channels.queues().len(), 1);
    assert!(
        channels.report().ends_with("not used: work queue wq1.0: it is not enabled"),
        "{}",
        channels.report()
    );
    model.enable(QueueId::new(1, 0));
    assert!(channels.rescan());
    let before = model.summary().taken;
    let mut random = Random(4);
    let pages: Vec<PageBytes> = (0..40).map(|_| page(&mut random)).collect();
    compress(&channels, &pages);
    assert_eq!(channels.queues().len(), 2);
    assert_eq!(model.summary().taken, before + 40);
    assert_eq!(channels.fallbacks(), FallbackCounts::default());
}

#[test]
fn queue_that_forbids_an_opcode_is_not_used_for_it() {
    let mut queue = QueueConfig::shared(16);
    queue.op_config[1] &= !(1 << (opcode::COMPRESS - 64));
    let model = model(ModelConfig::spr(1).with_queues([queue]));
    let channels = channels(&model, 4, DirectConfig::default());
    let mut random = Random(5);
    let pages: Vec<PageBytes> = (0..10).map(|_| page(&mut random)).collect();
    let stored = compress(&channels, &pages);
    assert_eq!(channels.fallbacks(), FallbackCounts { no_queue: 10, ..FallbackCounts::default() });
    check(&channels, &pages, &stored, 10);
    assert_eq!(model.summary().ended(opcode::COMPRESS, status::BAD_OPCODE), 0);
    assert!(model.summary().ended(opcode::DECOMPRESS, status::SUCCESS) > 0);
}

/// A device wrote the status of a compress record first and the rest of it a moment later, which by then was the
/// record of the verification: whose own status came first, too, with the CRC of compressing behind it. So a
/// stream with a wrong bit was found good, and the page was lost. Records are used in turn since.
#[test]
fn what_is_written_of_a_record_later_does_not_spoil_the_next_answer() {
    let rule = |fault, opcode| Rule { opcode: Some(opcode), ..Rule::new(fault, When::Always) };
    let plan = FaultPlan::new(
        1,
        [
            rule(Injection::StatusFirst, opcode::COMPRESS),
            rule(Injection::Duplicate(Duration::ZERO), opcode::COMPRESS),
            rule(Injection::FlipOutput, opcode::COMPRESS),
            Rule { when: When::Every(2), ..rule(Injection::StatusFirst, opcode::DECOMPRESS) },
        ],
    );
    let model = model(ModelConfig::spr(1).with_faults(plan));
    let channels = channels(&model, 1, DirectConfig { verify: Verify::Always, ..DirectConfig::default() });
    let mut random = Random(11);
    let pages: Vec<PageBytes> = (0..60).map(|_| page(&mut random)).collect();
    let stored = compress(&channels, &pages);
    check(&channels, &pages, &stored, 1);
    assert!(channels.device_counts().crc_mismatches > 0, "{:?}", channels.device_counts());
}

/// Everything a seed decides: devices, queues, window, faults, pages. Nothing may be lost, wrong or hang.
fn campaign(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let plan = FaultPlan::random(seed);
    let verify =
        if plan.deceives() { Verify::Always } else { [Verify::Off, Verify::Sampled(3)][random.below(2)] };
    let devices = 1 + random.below(3);
    let queues: Vec<QueueConfig> = (0..1 + random.below(2))
        .map(|_| {
            let size = [1, 2, 8, 64][random.below(4)];
            let queue =
                if random.below(3) == 0 { QueueConfig::dedicated(size) } else { QueueConfig::shared(size) };
            QueueConfig { block_on_fault: random.below(2) == 0, ..queue }
        })
        .collect();
    let generations = [ModelConfig::spr(devices), ModelConfig::gnr(devices)];
    let config = generations[random.below(2)].clone().with_queues(queues).with_faults(plan);
    let queues = config.devices.iter().map(|device| device.queues.len()).sum::<usize>();
    let dedicated = config.devices.iter().any(|d| d.queues.iter().any(|q| q.mode == Mode::Dedicated));
    let model = model(config);
    let huffman = [Huffman::Fixed, Huffman::ByDevice, Huffman::Dynamic][seed as usize % 3];
    let direct = DirectConfig { verify, huffman, quarantine_after: 4, ..DirectConfig::default() };
    let config = ChannelsConfig {
        backend: Backend::Model,
        window: [1, 2, 8, 32][random.below(4)],
        direct,
        model: Some(Arc::clone(&model)),
        ..ChannelsConfig::default()
    };
    let channels = match Channels::new(config, &Topology::single_node()) {
        Ok(channels) => channels,
        // A plan may strike the first no-op of every queue.
        Err(error) => {
            assert!(model.summary().faults_injected() >= queues as u64, "{error}");
            return;
        }
    };
    for round in 0..6 {
        let pages: Vec<PageBytes> = (0..1 + random.below(24)).map(|_| page(&mut random)).collect();
        let before = model.now();
        let stored = compress(&channels, &pages);
        // Late ops of this round come in the next ones, when its pages are gone.
        check(&channels, &pages, &stored, 1 + random.below(16));
        let per_op = direct.timeout * 8 + direct.busy_timeout + Duration::from_millis(60);
        let longest = per_op * (pages.len() as u32 * 2 + 2) + direct.probe_timeout * queues as u32 * 2;
        assert!(model.now() - before < longest, "round {round} took {:?}", model.now() - before);
        if random.below(4) == 0 {
            channels.rescan();
        }
    }
    let counts = channels.device_counts();
    assert!(counts.completed + counts.timed_out == counts.submitted, "an op is unaccounted for: {counts:?}");
    drop(channels);
    model.drain();
    // A dedicated queue loses what it has no room for, which the credits are to prevent; what the plan loses aside.
    let summary = model.summary();
    assert!(dedicated || summary.software_errors == 0 || summary.faults_injected() > 0, "{summary}");
}

#[test]
fn no_page_is_lost_or_wrong_whatever_the_device_does() {
    let number = |name: &str, default| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number of seeds"))
    };
    let first: u64 = number("CAMPAIGN_FIRST", 0);
    let mut failed = Vec::new();
    for seed in first..first + number("CAMPAIGN_SEEDS", 300) {
        if catch_unwind(AssertUnwindSafe(|| campaign(seed))).is_err() {
            println!("seed {seed} failed: {:?}", FaultPlan::random(seed));
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?}");
}
