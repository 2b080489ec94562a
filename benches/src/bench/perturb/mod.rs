//! `zfolio bench --perturb`: the same measurement in many layouts, and how much of what was seen is the layout's.
//!
//! Each process is this program with the same options and `--layout-seed`, run one after another; processes of one layout are
//! far apart in time, in random order, so that a machine that changes its mood looks like noise and not like a layout. With
//! `--build` the layouts are builds, each measured under the same seeds.

mod records;
mod report;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, thread};

use serde_json::json;

use self::records::{Origin, Records};
use super::{BenchArgs, BenchError, ab, layout};
use crate::capture::page_file::manifest_path;
use crate::corpus::Corpus;
use crate::corpus::random::Random;
use crate::interrupt::{self, Interrupt};
use crate::progress::Progress;

/// Processes of each layout: two tell what the layout does not decide.
const PROCESSES: usize = 2;

/// How soon an end or Ctrl-C is noticed.
const POLL: Duration = Duration::from_millis(20);

/// What was asked for.
struct Plan {
    seed: u64,
    layouts: usize,
    processes: usize,
    /// Each layout's program, and its name where the layouts are builds.
    programs: Vec<PathBuf>,
    builds: bool,
    ab: Vec<String>,
}

impl Plan {
    fn new(args: &BenchArgs, layouts: u32) -> Result<Self, BenchError> {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
        // Short enough to be typed.
        let seed = args.seed.unwrap_or_else(|| Random::new(now()).next() >> 32);
        let builds = !args.build.is_empty();
        let own = || env::current_exe().map_err(BenchError::Layout);
        let (layouts, processes, programs) = match builds {
            true => (args.build.len(), layouts as usize, args.build.clone()),
            false => (layouts as usize, PROCESSES, vec![own()?; layouts as usize]),
        };
        Ok(Self { seed, layouts, processes, programs, builds, ab: args.ab.clone() })
    }

    /// All processes, in the order they are run.
    fn origins(&self) -> Vec<Origin> {
        let mut random = Random::new(self.seed);
        let seeds: Vec<u64> = (0..self.layouts.max(self.processes)).map(|_| random.next()).collect();
        let mut origins = Vec::new();
        for process in 0..self.processes {
            let mut turn: Vec<Origin> = (0..self.layouts)
                .map(|layout| Origin {
                    layout,
                    process,
                    seed: seeds[if self.builds { process } else { layout }],
                    build: self.builds.then(|| file_name(&self.programs[layout])),
                })
                .collect();
            random.shuffle(&mut turn);
            origins.extend(turn);
        }
        origins
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Runs all processes and tells what they found.
pub(super) fn run(
    args: &BenchArgs,
    layouts: u32,
    corpora: Vec<Corpus>,
    interrupt: &Interrupt,
) -> Result<ExitCode, BenchError> {
    let json_error = |error| BenchError::Json { path: args.json.clone().unwrap_or_default(), error };
    let plan = Plan::new(args, layouts)?;
    let mut json = args.json.as_deref().map(File::create).transpose().map_err(json_error)?;
    let own =
        |error: io::Error| BenchError::Perturb(format!("files of the processes cannot be kept: {error}"));
    let folder = tempfile::tempdir().map_err(own)?;
    let paths = match args.corpus.as_slice() {
        [] => keep(&corpora, folder.path()).map_err(own)?,
        given => given.to_vec(),
    };
    drop(corpora);
    let options = [("--perturb", 1), ("--seed", 1), ("--build", 1), ("--json", 1), ("--corpus", 1)];
    let mut common: Vec<OsString> = ab::without(env::args_os().skip(2), &options).collect();
    common.extend(paths.iter().flat_map(|path| ["--corpus".into(), path.clone().into_os_string()]));

    let (mut records, mut progress) = (Records::default(), Progress::new());
    let origins = plan.origins();
    for (number, origin) in origins.iter().enumerate() {
        progress.show(&format!(
            "process {} of {}: layout {}, seed {}",
            number + 1,
            origins.len(),
            origin.layout + 1,
            origin.seed
        ));
        let Some(lines) = one(&plan.programs[origin.layout], &common, origin, folder.path(), interrupt)?
        else {
            break;
        };
        for line in records.add(origin, &lines).map_err(BenchError::Perturb)? {
            let Some(json) = &mut json else { continue };
            json.write_all(format!("{line}\n").as_bytes()).map_err(json_error)?;
        }
    }
    progress.clear();
    let findings = report::Findings::of(&plan, &records);
    if let Some(json) = &mut json {
        for line in findings.as_json() {
            json.write_all(format!("{line}\n").as_bytes()).map_err(json_error)?;
        }
    }
    let printed = crate::print(&findings.as_text()).is_ok();
    Ok(match (interrupt.raised(), printed) {
        (true, _) => ExitCode::from(interrupt::EXIT_CODE),
        (_, false) => ExitCode::FAILURE,
        _ if findings.slower() => ExitCode::from(ab::EXIT_SLOWER),
        _ => ExitCode::SUCCESS,
    })
}

/// Writes the machine's own pages where each process finds them again, under the names they have.
fn keep(corpora: &[Corpus], folder: &Path) -> io::Result<Vec<PathBuf>> {
    let keep = |corpus: &Corpus| {
        let path = folder.join(&corpus.name);
        fs::write(&path, corpus.pages.as_flattened())?;
        let facts = &corpus.facts;
        let manifest = json!({"pages": facts.pages, "sha256": facts.sha256, "origin": corpus.origin});
        fs::write(manifest_path(&path), manifest.to_string())?;
        Ok(path)
    };
    corpora.iter().map(keep).collect()
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already needs nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures in one process, and gives its JSON lines; none after Ctrl-C.
fn one(
    program: &Path,
    common: &[OsString],
    origin: &Origin,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Option<String>, BenchError> {
    let seed = origin.seed;
    let failed = |what: String| {
        BenchError::Perturb(format!(
            "the process with --layout-seed {seed} {what}\n(the others' results are in the JSON file, if one was asked for)"
        ))
    };
    let io_failed = |error: io::Error| failed(format!("cannot be run: {error}"));
    let (out, errors) = (folder.join("lines"), folder.join("errors"));
    // Those of the process before are not this one's.
    match fs::remove_file(&out) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_failed(error)),
        _ => {}
    }
    let child = Command::new(program)
        .arg("bench")
        .args(common)
        .arg("--json")
        .arg(&out)
        .args(["--layout-seed", &seed.to_string()])
        .env_remove(layout::VARIABLE)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&errors).map_err(io_failed)?)
        .spawn()
        .map_err(io_failed)?;
    let mut child = Running(child);
    let status = loop {
        if interrupt.raised() {
            return Ok(None);
        }
        if let Some(status) = child.0.try_wait().map_err(io_failed)? {
            break status;
        }
        thread::sleep(POLL);
    };
    let slower = status.code() == Some(ab::EXIT_SLOWER.into());
    if interrupt.raised() {
        return Ok(None);
    }
    if !(status.success() || slower) {
        let told = fs::read_to_string(&errors).unwrap_or_default();
        return Err(failed(format!("failed ({status}): {}", crate::printable(told.trim()))));
    }
    fs::read_to_string(&out).map(Some).map_err(|error| failed(format!("wrote no results: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(builds: bool) -> Plan {
        let programs = vec![PathBuf::from("one"), PathBuf::from("two"), PathBuf::from("three")];
        Plan { seed: 5, layouts: 3, processes: 2, programs, builds, ab: Vec::new() }
    }

    #[test]
    fn every_layout_is_measured_as_often_and_both_times_under_its_seed() {
        let origins = plan(false).origins();
        for layout in 0..3 {
            let own: Vec<&Origin> = origins.iter().filter(|origin| origin.layout == layout).collect();
            assert_eq!(own.iter().map(|origin| origin.process).collect::<Vec<_>>(), [0, 1]);
            assert_eq!(own[0].seed, own[1].seed);
        }
        let seeds: Vec<u64> = origins.iter().map(|origin| origin.seed).collect();
        assert_eq!(seeds, plan(false).origins().iter().map(|origin| origin.seed).collect::<Vec<_>>());
    }

    #[test]
    fn builds_are_all_measured_under_the_same_seeds() {
        let origins = plan(true).origins();
        for process in 0..2 {
            let mut seeds =
                origins.iter().filter(|origin| origin.process == process).map(|origin| origin.seed);
            let first = seeds.next();
            assert!(seeds.all(|seed| Some(seed) == first));
        }
        assert!(origins.iter().all(|origin| origin.build.is_some()));
    }
}
