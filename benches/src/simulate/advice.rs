//! With which settings to start, and what each knob costs: read out of simulated points, for the command and the report.

use super::point::Point;
use crate::quantity::{count, nanoseconds, plural};

/// What counts as all of the throughput that is to be had.
const ALMOST: f64 = 0.95;

/// Settings for a machine with one profile's devices.
#[derive(Debug)]
pub(crate) struct Advice {
    pub(crate) profile: String,
    pub(crate) devices: u64,
    pub(crate) sockets: u64,
    pub(crate) window: u64,
    /// Submitting threads that fill the devices.
    pub(crate) threads: u64,
    pub(crate) queues: String,
    /// Each knob, and what it costs in a sentence.
    pub(crate) knobs: Vec<(&'static str, String)>,
}

/// Points of one profile, asked by what differs.
struct Asked<'p> {
    points: Vec<&'p Point>,
    base: Base,
}

/// What is asked for unless something else is said.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Base {
    devices: u64,
    processes: u64,
    loads: u64,
    folio: u64,
    dedicated: bool,
}

impl Asked<'_> {
    fn at(&self, base: Base, threads: u64, window: u64) -> Option<&Point> {
        self.points.iter().copied().find(|point| {
            let Base { devices, processes, loads, folio, dedicated } = base;
            (
                point.devices,
                point.processes,
                point.loads_percent,
                point.folio_bytes,
                point.queues == "dedicated",
            ) == (devices, processes, loads, folio, dedicated)
                && (point.threads, point.window) == (threads, window)
        })
    }

    fn rate(&self, base: Base, threads: u64, window: u64) -> Option<f64> {
        self.at(base, threads, window).map(|point| point.pages_per_s)
    }

    /// The values of one thing, least first.
    fn values(&self, of: fn(&Point) -> u64) -> Vec<u64> {
        let mut values: Vec<u64> = self.points.iter().map(|point| of(point)).collect();
        values.sort_unstable();
        values.dedup();
        values
    }

    /// The best rate of this many threads with any window.
    fn best(&self, base: Base, threads: u64) -> f64 {
        let rates = self.values(|point| point.window).into_iter();
        rates.filter_map(|window| self.rate(base, threads, window)).fold(0.0, f64::max)
    }
}

/// The advice for each profile among the points.
pub(crate) fn of(points: &[Point]) -> Vec<Advice> {
    let mut profiles: Vec<&str> = points.iter().map(|point| point.profile.as_str()).collect();
    profiles.sort_unstable();
    profiles.dedup();
    // Newer devices last.
    profiles.sort_by_key(|profile| *profile != "spr");
    profiles.into_iter().filter_map(|profile| of_profile(profile, points)).collect()
}

fn of_profile(profile: &str, points: &[Point]) -> Option<Advice> {
    let points: Vec<&Point> = points.iter().filter(|point| point.profile == profile).collect();
    let mut asked =
        Asked { base: Base { devices: 0, processes: 0, loads: 0, folio: 0, dedicated: true }, points };
    let folios = asked.values(|point| point.folio_bytes);
    let base = Base {
        devices: *asked.values(|point| point.devices).last()?,
        processes: *asked.values(|point| point.processes).first()?,
        loads: *asked.values(|point| point.loads_percent).first()?,
        folio: if folios.contains(&65_536) { 65_536 } else { *folios.first()? },
        dedicated: asked.points.iter().any(|point| point.queues == "dedicated"),
    };
    asked.base = base;
    let all_threads = asked.values(|point| point.threads);
    let windows = asked.values(|point| point.window);
    let most = all_threads.iter().map(|&threads| asked.best(base, threads)).fold(0.0, f64::max);
    let threads = *all_threads.iter().find(|&&threads| asked.best(base, threads) >= ALMOST * most)?;
    // As few in flight as give each number of threads up to that one nearly all it can have.
    let enough = |window: &u64| {
        let mut few = all_threads.iter().filter(|&&few| few <= threads);
        few.all(|&few| {
            asked.rate(base, few, *window).is_some_and(|rate| rate >= ALMOST * asked.best(base, few))
        })
    };
    let window = windows.iter().copied().find(enough).or(windows.last().copied())?;
    let sockets = asked.points.iter().map(|point| point.sockets).max()?;
    let queues = if base.dedicated { "dedicated" } else { "shared" }.to_owned();
    let mut advice = Advice {
        profile: profile.to_owned(),
        devices: base.devices,
        sockets,
        window,
        threads,
        queues,
        knobs: Vec::new(),
    };
    let told = [
        ("Window", window_told(&asked, &advice, &all_threads)),
        ("Threads", threads_told(&asked, &advice, &all_threads)),
        ("Devices", devices_told(&asked, &advice)),
        ("Queues", queues_told(&asked, &advice)),
        ("Processes", processes_told(&asked)),
        ("Packages", packages_told(&asked, &advice)),
        ("Folios", folios_told(&asked, &advice)),
        ("Loads", loads_told(&asked, &advice)),
    ];
    advice.knobs = told.into_iter().filter_map(|(knob, told)| Some((knob, told?))).collect();
    Some(advice)
}

impl Advice {
    /// The settings in a sentence.
    pub(crate) fn told(&self) -> String {
        let Advice { profile, devices, sockets, window, threads, queues, .. } = self;
        format!(
            "Start with window {window} and {queues} queues, on {} of profile {profile} in {}; {} fill{} them.",
            plural(*devices, "device"),
            plural(*sockets, "socket"),
            plural(*threads, "storing thread"),
            verb(*threads),
        )
    }
}

/// How a verb ends: one thread stores, two store.
fn verb(number: u64) -> &'static str {
    if number == 1 { "s" } else { "" }
}

/// `12 % more`, `3 % less`, `as much`.
fn change(from: f64, to: f64) -> String {
    let percent = (to / from - 1.0) * 100.0;
    match percent.round() as i64 {
        0 => "as much".to_owned(),
        100.. => format!("{:.1} times as much", to / from),
        more @ 1.. => format!("{more} % more"),
        less => format!("{} % less", -less),
    }
}

fn window_told(asked: &Asked<'_>, advice: &Advice, threads: &[u64]) -> Option<String> {
    let (base, window) = (asked.base, advice.window);
    let windows = asked.values(|point| point.window);
    let (few, many) = (*threads.first()?, *threads.last()?);
    let (first, last) = (*windows.first()?, *windows.last()?);
    let own = asked.at(base, few, window)?;
    let mut told = format!(
        "{} with window {window} store{} {} pages a second",
        plural(few, "thread"),
        verb(few),
        count(own.pages_per_s)
    );
    if let Some(one) = asked.rate(base, few, first).filter(|_| first != window) {
        told += &format!(", {:.1} times what window {first} does", own.pages_per_s / one);
    }
    if let (Some(wide), true) = (asked.at(base, few, last), last != window) {
        told += &format!("; window {last} stores {}", change(own.pages_per_s, wide.pages_per_s));
        if last > base.folio / 4096 {
            told += &format!(", as a window is filled within a call, here of {} pages", base.folio / 4096);
        }
        if let (Some(own), Some(wide)) = (asked.at(base, many, window), asked.at(base, many, last)) {
            let (from, to) = (nanoseconds(own.store?[1]), nanoseconds(wide.store?[1]));
            told += &format!(
                ". With {} it stores {} and {}",
                plural(many, "thread"),
                change(own.pages_per_s, wide.pages_per_s),
                if from == to {
                    format!("leaves a store call's p99 at {from}")
                } else {
                    format!("takes a store call's p99 from {from} to {to}")
                }
            );
        }
    }
    Some(told + ".")
}

fn threads_told(asked: &Asked<'_>, advice: &Advice, threads: &[u64]) -> Option<String> {
    let many = *threads.last()?;
    let own = asked.at(asked.base, advice.threads, advice.window)?;
    let mut told = format!(
        "{} store{s} {} pages a second and keep{s} the devices {:.0} % busy",
        plural(advice.threads, "thread"),
        count(own.pages_per_s),
        own.device_busy * 100.0,
        s = verb(advice.threads)
    );
    if many != advice.threads {
        let more = asked.at(asked.base, many, advice.window)?;
        told += &format!(
            "; {many} store {}, a call's median goes from {} to {}, and they wait {:.0} % of their time, which is CPU time spent \
             polling",
            change(own.pages_per_s, more.pages_per_s),
            nanoseconds(own.store?[0]),
            nanoseconds(more.store?[0]),
            more.waiting * 100.0
        );
    }
    Some(told + ".")
}

fn devices_told(asked: &Asked<'_>, advice: &Advice) -> Option<String> {
    let all = asked.values(|point| point.devices);
    let few = *asked.values(|point| point.threads).first()?;
    if all.len() < 2 {
        return None;
    }
    let rates = |threads: u64| -> Vec<String> {
        let of = |&devices: &u64| {
            let rate = asked.rate(Base { devices, ..asked.base }, threads, advice.window)?;
            Some(format!("{devices}: {}", count(rate)))
        };
        all.iter().filter_map(of).collect()
    };
    Some(format!(
        "Pages a second of {} by devices: {}; of {}: {}.",
        plural(advice.threads, "thread"),
        rates(advice.threads).join(", "),
        plural(few, "thread"),
        rates(few).join(", ")
    ))
}

fn queues_told(asked: &Asked<'_>, advice: &Advice) -> Option<String> {
    let few = *asked.values(|point| point.threads).first()?;
    let of = |threads: u64| {
        let shared = Base { dedicated: false, ..asked.base };
        let shared = asked.rate(shared, threads, advice.window)?;
        let dedicated = asked.rate(Base { dedicated: true, ..asked.base }, threads, advice.window)?;
        Some(change(dedicated, shared))
    };
    Some(format!(
        "With shared queues instead of dedicated ones {} store{} {}, and {} {}: each descriptor costs its thread an ENQCMD, whose \
         answer it waits for. A dedicated queue serves one process only.",
        plural(few, "thread"),
        verb(few),
        of(few)?,
        plural(advice.threads, "thread"),
        of(advice.threads)?,
    ))
}

fn processes_told(asked: &Asked<'_>) -> Option<String> {
    let processes = *asked.values(|point| point.processes).last()?;
    let threads = *asked.values(|point| point.threads).last()?;
    if processes == asked.base.processes {
        return None;
    }
    // Where the queues are too small for all that threads would have in flight: few devices, wide windows.
    let devices = *asked.values(|point| point.devices).first()?;
    let window = *asked.values(|point| point.window).last()?;
    let own = |dedicated: bool, processes: u64| {
        asked.at(Base { dedicated, processes, devices, ..asked.base }, threads, window)
    };
    let (alone, many) = (own(false, asked.base.processes)?, own(false, processes)?);
    let mut told = format!(
        "Credits keep the threads of a process from offering more than a queue holds, but not those of others: {} of {} with window \
         {window} on {} store {} pages a second (of one process: {}), with {:.1} refused submissions a page; {:.0} % of the pages go \
         to software, as no queue takes them in time (of one process: {:.0} %)",
        plural(threads, "thread"),
        plural(processes, "process"),
        plural(devices, "shared device"),
        count(many.pages_per_s),
        count(alone.pages_per_s),
        many.refusals_per_page,
        many.software * 100.0,
        alone.software * 100.0
    );
    if let Some(parts) = own(true, processes) {
        told += &format!(
            ". With a dedicated queue each, a part of the entries, they store {}",
            change(many.pages_per_s, parts.pages_per_s)
        );
    }
    Some(told + ".")
}

fn packages_told(asked: &Asked<'_>, advice: &Advice) -> Option<String> {
    let devices = *asked.values(|point| point.devices).first()?;
    let base = Base { devices, ..asked.base };
    let of = |window: u64| {
        let points = asked.points.iter().filter(|point| {
            (point.devices, point.window, point.processes, point.loads_percent)
                == (devices, window, base.processes, base.loads)
                && (point.queues == "dedicated") == base.dedicated
        });
        let both = points.filter_map(|point| Some((point.threads, point.near?, point.remote?)));
        both.min_by_key(|(threads, ..)| *threads)
    };
    let (threads, near, remote) = of(1).or_else(|| of(advice.window))?;
    Some(format!(
        "A thread whose package has no device stores {} against one that sits beside it ({}, {}, one page at a time where that was \
         simulated): what that costs is a guess, as nobody has published it.",
        change(near, remote),
        plural(devices, "device"),
        plural(threads, "thread"),
    ))
}

fn folios_told(asked: &Asked<'_>, advice: &Advice) -> Option<String> {
    let all = asked.values(|point| point.folio_bytes);
    let few = *asked.values(|point| point.threads).first()?;
    let (from, to) = (*all.first()?, *all.last()?);
    let of = |folio: u64| asked.rate(Base { folio, ..asked.base }, few, advice.window);
    let told = format!(
        "Folios of {} instead of {}: {} stored with {}, as a window is filled within a call.",
        crate::quantity::bytes(to as f64),
        crate::quantity::bytes(from as f64),
        change(of(from)?, of(to)?),
        plural(few, "thread")
    );
    (from != to).then_some(told)
}

fn loads_told(asked: &Asked<'_>, advice: &Advice) -> Option<String> {
    let loads = asked.values(|point| point.loads_percent).into_iter().rfind(|&loads| loads > 0)?;
    let base = Base { loads, ..asked.base };
    let few = *asked.values(|point| point.threads).first()?;
    let many = *asked.values(|point| point.threads).last()?;
    let (alone, crowd) = (asked.at(base, few, advice.window)?, asked.at(base, many, advice.window)?);
    let (alone, crowd) = (alone.load?, crowd.load?);
    Some(format!(
        "With {loads} % loads, a load takes {} (p99 {}) with {}, and {} (p99 {}) with {}: it queues behind what is stored.",
        nanoseconds(alone[0]),
        nanoseconds(alone[1]),
        plural(few, "thread"),
        nanoseconds(crowd[0]),
        nanoseconds(crowd[1]),
        many
    ))
}
