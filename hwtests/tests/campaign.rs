//! Campaigns: a store on modelled devices that fail in every way there is, and no page lost, stale or wrong.
//!
//! A seed makes the fault plan, the devices, the engine's settings and what the store is asked, and everything happens on
//! one thread by the model's own time; so a seed that fails fails again:
//!
//! `CAMPAIGN_FIRST=1234 CAMPAIGN_SEEDS=1 cargo test -p zfolio-hwtests --test campaign -- --nocapture`
//!
//! A thousand seeds by default; `CAMPAIGN_SEEDS=10000` for more.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use iaa_model::{FaultPlan, Model, ModelConfig, OtherProcess, QueueConfig};
use zfolio::{Backend, Config, Folio, LoadError, NodeId, PAGE_SIZE, Page, PageBytes, SwapEntry, Zswap};
use zfolio_accel::direct::{DirectConfig, Huffman, Verify};
use zfolio_accel::{BackendError, Channels, ChannelsConfig, Topology};

const SLOTS: u32 = 64;

/// What a store is asked before it is looked through.
const STEPS: usize = 40;

/// Longer than any seed takes by far: who is not done by then hangs.
const HANGS: Duration = Duration::from_secs(120);

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ value >> 31) % sides
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.roll(choices.len() as u64) as usize]
    }
}

/// A page that no other is like: text that shrinks, words that shrink less, noise, one word over and over.
fn page(dice: &mut Dice, number: u64) -> PageBytes {
    match dice.roll(10) {
        0..4 => {
            let text = format!("page {number}, which is like no other: {}. ", dice.roll(1 << 40));
            std::array::from_fn(|i| text.as_bytes()[i % text.len()])
        }
        4..7 => {
            let mut page = [0; PAGE_SIZE];
            for (k, word) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                *word = (number << 20 | dice.roll(1 << (k % 16))).to_le_bytes();
            }
            page
        }
        7..9 => {
            let mut page = [0; PAGE_SIZE];
            page.as_chunks_mut::<8>().0.iter_mut().for_each(|word| *word = dice.roll(u64::MAX).to_le_bytes());
            page
        }
        _ => {
            let word = (number * dice.roll(2)).to_le_bytes();
            std::array::from_fn(|i| word[i % 8])
        }
    }
}

/// The model and channels of a seed; `None` where its faults leave no queue that answers.
fn channels(seed: u64, plan: &FaultPlan, dice: &mut Dice) -> (Arc<Model>, Option<Channels>) {
    let devices = 1 + dice.roll(3) as usize;
    let size = dice.one_of(&[1, 2, 5, 16, 128]);
    let mut queue = match dice.roll(2) {
        0 => QueueConfig::shared(size),
        _ => QueueConfig::dedicated(size),
    };
    queue.block_on_fault = dice.roll(2) == 0;
    let mut config = match dice.roll(2) {
        0 => ModelConfig::spr(devices),
        _ => ModelConfig::gnr(devices),
    };
    config = config.with_queues(vec![queue; 1 + dice.roll(2) as usize]).with_faults(plan.clone());
    config.timing.jitter = dice.one_of(&[0, 500, 5_000]);
    config.devices.iter_mut().for_each(|device| device.groups = vec![dice.one_of(&[1, 2, 8])]);
    let model = Model::new(config, Box::new(OtherProcess::this()));
    let verify = match dice.roll(3) {
        // Wrong answers that say that they are right can be found only by looking.
        _ if plan.deceives() => Verify::Always,
        0 => Verify::Off,
        1 => Verify::Sampled(3),
        _ => Verify::Always,
    };
    // Codes of a page's own take two steps in the first generation.
    let huffman = [Huffman::Fixed, Huffman::ByDevice, Huffman::Dynamic][seed as usize % 3];
    let direct = DirectConfig { verify, huffman, ..DirectConfig::default() };
    let config = ChannelsConfig {
        backend: Backend::Model,
        window: dice.one_of(&[1, 2, 3, 8, 16, 64]),
        direct,
        model: Some(Arc::clone(&model)),
        ..ChannelsConfig::default()
    };
    match Channels::new(config, &Topology::single_node()) {
        Ok(channels) => (model, Some(channels)),
        Err(BackendError::Unavailable { .. }) => (model, None),
        Err(error) => panic!("seed {seed}: {error}"),
    }
}

/// What became of a seed.
#[derive(Default)]
struct Tally {
    without_queue: u64,
    faults: u64,
    device_pages: u64,
}

fn run(seed: u64, tally: &mut Tally) {
    let mut dice = Dice(seed);
    let plan = FaultPlan::random(seed);
    let (model, Some(channels)) = channels(seed, &plan, &mut dice) else {
        tally.without_queue += 1;
        return;
    };
    let zswap = Zswap::with_channels(Config::default(), &Topology::single_node(), channels).unwrap();
    zswap.swapon(0, SLOTS).unwrap();
    let mut expected: BTreeMap<u32, PageBytes> = BTreeMap::new();
    let at = |slot: u32| SwapEntry::new(0, slot);
    let mut out = [0xee; PAGE_SIZE];
    for step in 0..STEPS {
        let slot = dice.roll(SLOTS.into()) as u32;
        let told = || format!("seed {seed}, step {step}, slot {slot}, plan: {plan}");
        match dice.roll(8) {
            0..3 => {
                let len = dice.one_of(&[1u32, 4, 16]);
                let first = slot / len * len;
                let pages: Vec<_> =
                    (0..len).map(|k| page(&mut dice, ((step as u64) << 8) + u64::from(k))).collect();
                let folio = Folio::new(at(first), NodeId(0), &pages).unwrap();
                zswap.store(&folio).unwrap_or_else(|error| panic!("{}: store: {error}", told()));
                expected.extend((first..).zip(pages));
            }
            3 => match (zswap.load(at(slot), &mut out), expected.remove(&slot)) {
                (Ok(()), Some(page)) => assert!(out == page, "{}: a wrong page was loaded", told()),
                (Err(LoadError::NotFound), None) => {}
                (result, page) => panic!("{}: load: {result:?}, kept: {}", told(), page.is_some()),
            },
            // As writeback reads: the page stays.
            4..6 => match (zswap.read(at(slot), &mut out), expected.get(&slot)) {
                (Ok(()), Some(page)) => assert!(out == *page, "{}: a wrong page was read", told()),
                (Err(LoadError::NotFound), None) => {}
                (result, page) => panic!("{}: read: {result:?}, kept: {}", told(), page.is_some()),
            },
            6 => {
                let entries: Vec<_> = (0..16).map(|_| at(dice.roll(SLOTS.into()) as u32)).collect();
                let mut pages = Page::zeroed_vec(entries.len());
                let mut results = vec![None; entries.len()];
                zswap.load_batch(&entries, &mut pages, |index, result| results[index] = Some(result));
                // Of a slot asked for twice one answer has the page.
                for ((entry, page), result) in entries.iter().zip(&pages).zip(results) {
                    match result.expect("told of each") {
                        Ok(()) => {
                            let kept = expected.remove(&entry.offset());
                            assert!(kept == Some(**page), "{}: a wrong page in a batch", told());
                        }
                        Err(LoadError::NotFound) => {}
                        Err(error) => panic!("{}: batch: {error}", told()),
                    }
                }
                let left = entries.iter().find(|entry| expected.contains_key(&entry.offset()));
                assert!(left.is_none(), "{}: {left:?} was kept from its caller", told());
            }
            _ => {
                zswap.invalidate(at(slot)).unwrap();
                expected.remove(&slot);
            }
        }
    }
    for slot in 0..SLOTS {
        let result = zswap.load(at(slot), &mut out);
        match expected.get(&slot) {
            Some(page) => {
                assert!(result == Ok(()) && out == *page, "seed {seed}, plan {plan}: {slot}: {result:?}")
            }
            None => {
                assert_eq!(result, Err(LoadError::NotFound), "seed {seed}, plan {plan}: a page came back")
            }
        }
    }
    zswap.check().unwrap_or_else(|error| panic!("seed {seed}, plan {plan}: {error}"));
    let summary = model.summary();
    tally.faults += summary.faults_injected();
    tally.device_pages +=
        summary.ended(idxd_sys::opcode::COMPRESS, 1) + summary.ended(idxd_sys::opcode::DECOMPRESS, 1);
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn no_page_is_lost_stale_or_wrong_whatever_the_devices_do() {
    let (first, seeds) = (number("CAMPAIGN_FIRST", 0), number("CAMPAIGN_SEEDS", 1000));
    static AT: AtomicU64 = AtomicU64::new(0);
    std::thread::spawn(|| {
        let mut before = u64::MAX;
        loop {
            let at = AT.load(Ordering::Relaxed);
            if at == before {
                eprintln!("seed {at} hangs");
                std::process::abort();
            }
            before = at;
            std::thread::sleep(HANGS);
        }
    });
    let mut tally = Tally::default();
    for seed in first..first + seeds {
        AT.store(seed, Ordering::Relaxed);
        run(seed, &mut tally);
    }
    let Tally { without_queue, faults, device_pages } = tally;
    println!(
        "{seeds} seeds from {first}: {faults} faults injected, {device_pages} pages done by devices, \
         {without_queue} seeds left no queue"
    );
    assert!(seeds < 100 || faults > seeds && device_pages > seeds * 10 && without_queue < seeds / 3);
}
