//! What the CPU does for a page, measured on this machine, and how far the simulation then is from the measurement.
//!
//! The store runs on modelled devices on the replay clock, so that all but the devices is for real. Where devices never keep it
//! waiting, what is left is its own work: from that run the cost of a stored page follows, and from single loads that of a
//! loaded one. All other settings are then simulated and compared.

use std::fmt::Write;
use std::process::ExitCode;

use iaa_model::{Clock, Model, ModelConfig, OtherProcess, QueueConfig, Timing, thread_time};
use idxd_sys::{Descriptor, opcode};
use zfolio::{Config, Folio, Limit, NodeId, SwapEntry, Zswap};
use zfolio_accel::{
    Backend, Channels, ChannelsConfig, Codec, Method, PAGE_SIZE, PageBytes, Topology, repeated_word,
};
use zfolio_fallback::{Codecs, max_compressed_len};

use super::costs::{Chances, Costs};
use super::crowd::{Crowd, Span};
use super::setting::{ENTRIES, Setting};
use crate::bench::{Profile, Queues};
use crate::corpus::{CorpusError, builtin, random::Random};
use crate::interrupt::{self, Interrupt};
use crate::machine::Machine;
use crate::progress::Progress;

const PAGES: usize = 4096;
const FOLIO: usize = 16;
const ROUNDS: usize = 7;

/// Where the devices keep nobody waiting.
const FREE: (usize, usize) = (8, 16);

/// Devices and windows that are compared.
const COMPARED: [(usize, usize); 11] =
    [(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (4, 1), (4, 2), (4, 4), (4, 8), (4, 16), FREE];

/// A store on modelled devices, and what a page took in each round.
struct Lane {
    devices: usize,
    window: usize,
    zswap: Zswap,
    store: Vec<f64>,
    load: Vec<f64>,
}

impl Lane {
    fn open(devices: usize, window: usize, pages: usize) -> Result<Lane, String> {
        let queue = QueueConfig::dedicated(usize::from(ENTRIES));
        let model = ModelConfig::spr(devices).with_queues([queue]).with_clock(Clock::Replay);
        let model = Model::new(model, Box::new(OtherProcess::this()));
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let topology = Topology::read("/sys".as_ref()).unwrap_or_else(|_| Topology::single_node());
        let channels = ChannelsConfig {
            backend: Backend::Model,
            method: Some(Method::Deflate),
            window,
            model: Some(model),
            ..ChannelsConfig::default()
        };
        let channels = Channels::new(channels, &topology).map_err(|error| told(&error))?;
        let room = (pages * PAGE_SIZE * 2) as u64;
        let config = Config {
            backend: Backend::Model,
            method: Some(Method::Deflate),
            window,
            max_pool: Limit::Bytes(room),
            warm_bytes: room,
            ..Config::default()
        };
        let zswap = Zswap::with_channels(config, &topology, channels).map_err(|error| told(&error))?;
        zswap.swapon(0, pages as u32).map_err(|error| told(&error))?;
        Ok(Lane { devices, window, zswap, store: Vec::new(), load: Vec::new() })
    }

    /// Stores all pages and loads them one by one in random order.
    fn round(&mut self, pages: &[PageBytes], counts: bool) -> Result<(), String> {
        let entry = |slot: usize| SwapEntry::new(0, slot as u32);
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let start = thread_time();
        for (number, folio) in pages.chunks(FOLIO).enumerate() {
            let folio = Folio::new(entry(number * FOLIO), NodeId(0), folio).map_err(|error| told(&error))?;
            self.zswap.store(&folio).map_err(|error| told(&error))?;
        }
        let store = thread_time() - start;
        let mut order: Vec<usize> = (0..pages.len()).collect();
        Random::new(7).shuffle(&mut order);
        let mut got = vec![[0; PAGE_SIZE]; FOLIO];
        let mut load = std::time::Duration::ZERO;
        for slots in order.chunks(FOLIO) {
            let start = thread_time();
            for (slot, page) in slots.iter().zip(&mut got) {
                self.zswap.load(entry(*slot), page).map_err(|error| told(&error))?;
            }
            load += thread_time() - start;
            if slots.iter().zip(&got).any(|(slot, page)| pages[*slot] != *page) {
                return Err("THE STORE FAILED: a page came back different".to_owned());
            }
        }
        if counts {
            self.store.push(store.as_nanos() as f64 / pages.len() as f64);
            self.load.push(load.as_nanos() as f64 / pages.len() as f64);
        }
        Ok(())
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Nanoseconds a page that one thread takes in the simulation.
pub(super) fn simulated(devices: usize, window: usize, loads_percent: u8, costs: &Costs) -> f64 {
    let setting = Setting {
        profile: Profile::Spr,
        devices: devices as u16,
        sockets: 1,
        queues: Queues::Dedicated,
        processes: 1,
        threads: 1,
        window: window as u16,
        folio_pages: FOLIO as u32,
        loads_percent,
    };
    let figures = Crowd::new(&setting, costs, &Chances::default(), 1).run(Span { pages: 8_000, nanos: 0 });
    figures.elapsed as f64 / (figures.stored + figures.loaded).max(1) as f64
}

/// The cost of collecting with which the simulation takes `measured` where the devices keep nobody waiting.
fn collect(measured: f64, costs: &Costs) -> u64 {
    let (mut low, mut high) = (0, 10_000);
    while low < high {
        let middle = u64::midpoint(low, high);
        let taken = simulated(FREE.0, FREE.1, 0, &Costs { collect: middle, vary: 0, ..*costs });
        if taken < measured { low = middle + 1 } else { high = middle }
    }
    low
}

/// What a load costs beside what the device takes.
fn load(measured: f64, costs: &Costs) -> u64 {
    let timing = Timing::SPR;
    let page = Descriptor { max_dst_size: 4096, ..Descriptor::new(opcode::DECOMPRESS, 0) };
    let device = timing.movdir64b + timing.base + timing.service(&page, None).0;
    (measured as u64).saturating_sub(device + costs.poll + costs.list)
}

/// Nanoseconds that software takes for a page.
fn software(pages: &[PageBytes]) -> f64 {
    let mut codecs = Codecs::new();
    let mut room = vec![0; max_compressed_len(PAGE_SIZE)];
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = thread_time();
            for page in pages {
                std::hint::black_box(codecs.compress(Codec::Deflate, page, &mut room));
            }
            (thread_time() - start).as_nanos() as f64 / pages.len() as f64
        })
        .collect();
    median(&mut times)
}

pub(super) fn run(costs: &Costs, interrupt: &Interrupt) -> Result<ExitCode, String> {
    let mut progress = Progress::new();
    let corpus = match builtin::gather(interrupt, &mut progress) {
        Err(CorpusError::Interrupted) => return Ok(ExitCode::from(interrupt::EXIT_CODE)),
        gathered => gathered.map_err(|error| error.to_string())?.swap_remove(0),
    };
    let pages: Vec<PageBytes> =
        corpus.pages.iter().filter(|page| repeated_word(page).is_none()).take(PAGES).copied().collect();
    let pages = &pages[..pages.len() / FOLIO * FOLIO];
    let mut lanes = (COMPARED.iter())
        .map(|&(devices, window)| Lane::open(devices, window, pages.len()))
        .collect::<Result<Vec<_>, _>>()?;
    // The first round makes memory warm and the devices' answers known.
    for round in 0..=ROUNDS {
        for lane in &mut lanes {
            if interrupt.raised() {
                return Ok(ExitCode::from(interrupt::EXIT_CODE));
            }
            progress.tick(|| format!("round {round} of {ROUNDS}"));
            lane.round(pages, round > 0)?;
        }
    }
    progress.clear();
    let (mut free, mut loads) = (f64::NAN, Vec::new());
    let measured: Vec<f64> = (lanes.iter_mut())
        .map(|lane| {
            let store = median(&mut lane.store);
            if (lane.devices, lane.window) == FREE {
                free = store;
            }
            loads.append(&mut lane.load);
            store
        })
        .collect();
    let costs = Costs { collect: collect(free, costs), load: load(median(&mut loads), costs), ..*costs };
    let costs = Costs { software: software(pages) as u64, ..costs };
    let Costs { collect, load, software, .. } = costs;
    let mut text = format!(
        "machine   {}\npages     {} of {}, in folios of 64 KiB, every one compared with its source\n\n\
         --collect-ns {collect} --load-ns {load} --software-ns {software}\n\n\
         devices  window  measured  simulated  the simulation is off by\n",
        Machine::read(),
        pages.len(),
        corpus.name
    );
    for ((devices, window), measured) in COMPARED.iter().zip(measured) {
        let simulated = simulated(*devices, *window, 0, &Costs { vary: 0, ..costs });
        let off = (simulated / measured - 1.0) * 100.0;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{devices:>7}  {window:>6}  {measured:>5.0} ns  {simulated:>6.0} ns  {off:>+6.1} %"
        );
    }
    let (measured, simulated) = (median(&mut loads), simulated(1, 1, 100, &Costs { vary: 0, ..costs }));
    let off = (simulated / measured - 1.0) * 100.0;
    let _ = writeln!(text, "   a load        {measured:>5.0} ns  {simulated:>6.0} ns  {off:>+6.1} %");
    Ok(if crate::print(&text).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
