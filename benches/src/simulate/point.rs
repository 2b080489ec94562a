//! What a simulation found, as it is written, read back and asked.

use serde_json::{Value, json};

use super::costs::{Chances, Costs};
use super::figures::Figures;
use super::setting::Setting;
use crate::bench::{Profile, Queues};

/// The kind of the objects in files.
pub(crate) const KIND: &str = "simulated";

/// Names in the objects that say what was simulated.
pub(crate) const KEY: [&str; 14] = [
    "profile",
    "devices",
    "sockets",
    "queues",
    "processes",
    "threads",
    "window",
    "folio_bytes",
    "loads_percent",
    "costs",
    "chances",
    "seed",
    "version",
    "commit",
];

/// A setting and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) profile: String,
    pub(crate) queues: String,
    pub(crate) devices: u64,
    pub(crate) sockets: u64,
    pub(crate) processes: u64,
    pub(crate) threads: u64,
    pub(crate) window: u64,
    pub(crate) folio_bytes: u64,
    pub(crate) loads_percent: u64,
    /// Pages stored and loaded in a second.
    pub(crate) pages_per_s: f64,
    /// Nanoseconds of a store call and of a load: median, 99th percentile, most.
    pub(crate) store: Option<[f64; 3]>,
    pub(crate) load: Option<[f64; 3]>,
    /// Of all that devices could do, and of all that threads could.
    pub(crate) device_busy: f64,
    pub(crate) waiting: f64,
    pub(crate) in_flight: f64,
    pub(crate) refusals_per_page: f64,
    pub(crate) software: f64,
    /// Pages a second of a thread whose devices are of its package, and of one whose are not.
    pub(crate) near: Option<f64>,
    pub(crate) remote: Option<f64>,
}

/// What all simulations of a run have in common.
pub(super) struct Common<'a> {
    pub(super) costs: &'a Costs,
    pub(super) chances: &'a Chances,
    pub(super) seed: u64,
}

/// The object of a setting without what came of it.
pub(super) fn key(setting: &Setting, common: &Common<'_>) -> Value {
    let Costs { call, prepare, poll, collect, load, list, software, vary } = common.costs;
    let Chances { iotlb_miss, iotlb_pages, faults } = common.chances;
    json!({
        "kind": KIND,
        "profile": match setting.profile { Profile::Spr => "spr", Profile::Gnr => "gnr" },
        "devices": setting.devices,
        "sockets": setting.sockets,
        "queues": match setting.queues { Queues::Dedicated => "dedicated", Queues::Shared => "shared" },
        "processes": setting.processes,
        "threads": setting.threads,
        "window": setting.window,
        "folio_bytes": setting.folio_pages * 4096,
        "loads_percent": setting.loads_percent,
        "costs": { "call": call, "prepare": prepare, "poll": poll, "collect": collect, "load": load, "list": list,
                   "software": software, "vary_percent": vary },
        "chances": { "iotlb_miss": iotlb_miss, "iotlb_pages": iotlb_pages, "faults_per_million": faults },
        "seed": common.seed,
        "version": env!("CARGO_PKG_VERSION"),
        "commit": crate::bench::COMMIT,
    })
}

/// The object of a setting with what came of it.
pub(super) fn record(setting: &Setting, common: &Common<'_>, figures: &Figures) -> Value {
    let mut line = key(setting, common);
    let elapsed = figures.elapsed.max(1) as f64;
    let pages = (figures.stored + figures.loaded).max(1) as f64;
    let rounded = |value: f64| (value * 1e4).round() / 1e4;
    let rate = |pages: u64| (pages as f64 * 1e9 / elapsed).round();
    let each =
        |(pages, threads): (u64, u64)| (threads > 0).then(|| rate(pages) / threads as f64).map(f64::round);
    let times = |times: &hdrhistogram::Histogram<u64>| {
        let of = |part: f64| times.value_at_quantile(part);
        (!times.is_empty()).then(|| json!([of(0.5), of(0.99), times.max()]))
    };
    let whole = json!({
        "simulated_ns": figures.elapsed,
        "pages_per_s": rate(figures.stored + figures.loaded),
        "stored_pages_per_s": rate(figures.stored),
        "loaded_pages_per_s": rate(figures.loaded),
        "store_call_ns_p50_p99_max": times(&figures.store_calls),
        "load_ns_p50_p99_max": times(&figures.loads),
        "device_busy": rounded(figures.path as f64 / elapsed / f64::from(setting.devices)),
        "threads_waiting": rounded(figures.waited as f64 / elapsed / f64::from(setting.threads)),
        "in_flight": rounded(figures.in_flight_time as f64 / elapsed),
        "refusals_per_page": rounded(figures.queue_full as f64 / pages),
        "software_share": rounded(figures.software as f64 / pages),
        "near_pages_per_s_a_thread": each(figures.near),
        "remote_pages_per_s_a_thread": each(figures.remote),
    });
    if let (Some(line), Value::Object(whole)) = (line.as_object_mut(), whole) {
        line.extend(whole);
    }
    line
}

impl Point {
    /// Reads an object back.
    ///
    /// # Errors
    /// The name of what it lacks.
    pub(crate) fn read(line: &Value) -> Result<Point, String> {
        let lacks = |name: &str| format!("an object of kind \"{KIND}\" without {name}");
        let text = |name: &str| line[name].as_str().map(str::to_owned).ok_or_else(|| lacks(name));
        let count = |name: &str| line[name].as_u64().ok_or_else(|| lacks(name));
        let number = |name: &str| line[name].as_f64().ok_or_else(|| lacks(name));
        let times = |name: &str| {
            let values: Vec<f64> = line[name].as_array()?.iter().filter_map(Value::as_f64).collect();
            values.try_into().ok()
        };
        Ok(Point {
            profile: text("profile")?,
            queues: text("queues")?,
            devices: count("devices")?,
            sockets: count("sockets")?,
            processes: count("processes")?,
            threads: count("threads")?,
            window: count("window")?,
            folio_bytes: count("folio_bytes")?,
            loads_percent: count("loads_percent")?,
            pages_per_s: number("pages_per_s")?,
            store: times("store_call_ns_p50_p99_max"),
            load: times("load_ns_p50_p99_max"),
            device_busy: number("device_busy")?,
            waiting: number("threads_waiting")?,
            in_flight: number("in_flight")?,
            refusals_per_page: number("refusals_per_page")?,
            software: number("software_share")?,
            near: line["near_pages_per_s_a_thread"].as_f64(),
            remote: line["remote_pages_per_s_a_thread"].as_f64(),
        })
    }
}
