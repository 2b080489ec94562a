//! `zfolio simulate`: more devices and threads than any machine at hand has, in simulated time.
//!
//! [`crowd`] has the threads submit to the model's devices, [`setting`] says what to simulate, [`costs`] what the CPU does,
//! [`measure`] measures what of that can be, [`point`] is a result as it is kept, [`advice`] reads results. No page is compressed here: what is
//! simulated is who waits for whom.

pub(crate) mod advice;
mod costs;
mod crowd;
mod figures;
mod measure;
pub(crate) mod point;
mod setting;
mod submitter;
mod table;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use serde_json::Value;
use zfolio_accel::MAX_WINDOW;

use self::costs::{Chances, Costs};
use self::crowd::{Crowd, Span};
use self::point::{Common, Point};
use self::setting::Setting;
use crate::bench::{FolioChoice, Profile, Queues};
use crate::corpus::random::Random;
use crate::interrupt::{self, Interrupt};
use crate::progress::{self, Progress};
use crate::quantity::plural;
use crate::resume;

/// Simulate many threads that submit to many devices, and say which settings to start with
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lists are given with commas, and every combination is simulated; those that cannot be are left out (a process without a thread,
more than 8 processes with dedicated queues). Devices and threads are dealt to the sockets in turn, threads to the processes.
Without lists it is the grid of the report, which takes a minute or two.

Devices take the time that has been published of them (profiles spr and gnr). Of what the CPU does, collecting, loading and software
were measured with zfolio on one machine; the other defaults are estimates. --measure measures the three on yours, says how far the
simulation is from the measurement, and prints the options to simulate with. Not simulated: caches, memory bandwidth (eight devices move some 40 GB/s, a socket's memory some 300), and
what the kernel does to threads.

With --json FILE the same command goes on where it was ended; zfolio report draws the file.

Exit codes: 0 all was simulated; 1 it was not; 2 wrong arguments; 130 Ctrl-C.")]
pub(crate) struct SimulateArgs {
    /// What the devices are
    #[arg(long, value_enum, value_name = "PROFILE,...", value_delimiter = ',', default_value = "spr")]
    profile: Vec<Profile>,
    /// Devices of the machine
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8",
          value_parser = clap::value_parser!(u16).range(1..=64))]
    devices: Vec<u16>,
    /// Sockets of the machine
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=8))]
    sockets: u16,
    /// What their work queues are: 128 entries for each device
    #[arg(
        long,
        value_enum,
        value_name = "KIND,...",
        value_delimiter = ',',
        default_value = "dedicated,shared"
    )]
    queues: Vec<Queues>,
    /// Processes that share the devices
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,8",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    processes: Vec<u16>,
    /// Threads of all processes together, each on a CPU of its own
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8,16,32,56,112",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// Pages that a thread has in flight
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8,16,32,64,128",
          value_parser = clap::value_parser!(u16).range(1..=MAX_WINDOW as i64))]
    window: Vec<u16>,
    /// Pages stored in one call
    #[arg(
        long,
        value_name = "SIZE,...",
        value_enum,
        value_delimiter = ',',
        default_value = "64K",
        ignore_case = true
    )]
    folio: Vec<FolioChoice>,
    /// Pages loaded, one by one, of a hundred that are stored or loaded
    #[arg(long, value_name = "PERCENT,...", value_delimiter = ',', default_value = "0,50",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    loads: Vec<u8>,
    /// What chance follows from
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    #[command(flatten)]
    chances: Chances,
    /// Measure the CPU costs on this machine instead of simulating
    #[arg(long, conflicts_with = "json")]
    measure: bool,
    /// The file to write the results to, as JSON lines, or to go on with
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    costs: Costs,
}

impl SimulateArgs {
    /// Every combination that can be, in random order: the time left is told from those before.
    fn settings(&self) -> Result<Vec<Setting>, String> {
        let mut settings = Vec::new();
        let mut impossible = None;
        let sockets = self.sockets;
        for &profile in &self.profile {
            for &devices in &self.devices {
                for &queues in &self.queues {
                    for &processes in &self.processes {
                        for &threads in &self.threads {
                            for &window in &self.window {
                                for folio in &self.folio {
                                    let folio_pages = folio.pages();
                                    settings.extend(self.loads.iter().map(|&loads_percent| Setting {
                                        profile,
                                        devices,
                                        sockets,
                                        queues,
                                        processes,
                                        threads,
                                        window,
                                        folio_pages,
                                        loads_percent,
                                    }));
                                }
                            }
                        }
                    }
                }
            }
        }
        settings.retain(|setting| match setting.impossible() {
            None => true,
            reason => {
                impossible = reason;
                false
            }
        });
        if settings.is_empty() {
            return Err(format!(
                "nothing can be simulated: {}",
                impossible.unwrap_or("no combination is left")
            ));
        }
        Random::new(0x5eed).shuffle(&mut settings);
        Ok(settings)
    }
}

/// How long a setting is simulated: long enough for a percentile of calls, on few threads as on many.
const SPAN: Span = Span { pages: 20_000, nanos: 3_000_000 };

pub(crate) fn run(args: &SimulateArgs, interrupt: &Interrupt) -> Result<ExitCode, String> {
    if args.measure {
        return measure::run(&args.costs, interrupt);
    }
    let settings = args.settings()?;
    let common = Common { costs: &args.costs, chances: &args.chances, seed: args.seed };
    let failed = |error: &dyn std::fmt::Display| {
        format!("{}: {error}", args.json.as_deref().unwrap_or("".as_ref()).display())
    };
    let mut points = Vec::new();
    let mut complete = std::collections::HashSet::new();
    let mut out = None;
    if let Some(path) = &args.json {
        let ours = |value: &Value| value["kind"] == point::KIND;
        complete = resume::go_on(path, &point::KEY, ours, |value| Point::read(value).is_ok())
            .map_err(|error| failed(&error))?;
        points = before(path, &settings, &common).map_err(|error| failed(&error))?;
        out = Some(File::options().append(true).create(true).open(path).map_err(|error| failed(&error))?);
    }
    let rest: Vec<&Setting> = (settings.iter())
        .filter(|setting| !complete.contains(&resume::key(&point::key(setting, &common), &point::KEY)))
        .collect();
    let old = settings.len() - rest.len();
    let begin = Instant::now();
    let mut progress = Progress::new();
    let mut done = 0;
    simulate(&rest, &common, interrupt, |line| {
        if let Some(out) = &mut out {
            out.write_all(format!("{line}\n").as_bytes()).map_err(|error| failed(&error))?;
        }
        points.push(Point::read(&line)?);
        done += 1;
        progress.tick(|| progress::bar(old + done, settings.len(), done, begin.elapsed()));
        Ok(())
    })?;
    progress.clear();
    let mut text = table::text(&common, &points);
    text += &format!(
        "\n{} of {} simulated{}\n",
        old + done,
        plural(settings.len() as u64, "setting"),
        if old > 0 { format!(", {old} of them before") } else { String::new() }
    );
    let printed = crate::print(&text).is_ok();
    Ok(match (printed, interrupt.raised()) {
        (false, _) => ExitCode::FAILURE,
        (_, true) => ExitCode::from(interrupt::EXIT_CODE),
        _ => ExitCode::SUCCESS,
    })
}

/// The points of `settings` that a file has.
fn before(path: &std::path::Path, settings: &[Setting], common: &Common<'_>) -> Result<Vec<Point>, String> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| error.to_string())?,
    };
    let wanted: std::collections::HashSet<_> =
        settings.iter().map(|setting| resume::key(&point::key(setting, common), &point::KEY)).collect();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours =
        lines.filter(|line| line["kind"] == point::KIND && wanted.contains(&resume::key(line, &point::KEY)));
    ours.map(|line| Point::read(&line)).collect()
}

/// Simulates each of `settings`, as many at once as there are CPUs, and hands on what came of it.
fn simulate(
    settings: &[&Setting],
    common: &Common<'_>,
    interrupt: &Interrupt,
    mut found: impl FnMut(Value) -> Result<(), String>,
) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::sync_channel(64);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (next, send) = (&next, send.clone());
            scope.spawn(move || {
                while let Some(setting) = settings.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if interrupt.raised() {
                        return;
                    }
                    let crowd = Crowd::new(setting, common.costs, common.chances, common.seed);
                    let line = point::record(setting, common, &crowd.run(SPAN));
                    if send.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        receive.iter().try_for_each(&mut found)
    })
}
