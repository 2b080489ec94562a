//! `zfolio emulate`: runs a command on modelled IAA devices.
//!
//! The devices are a directory of files (`iaa_model::sysfs::Tree`), and a library that is loaded into the command and
//! its children (LD_PRELOAD) leads them there and executes their descriptors. The command's exit code is passed on.

mod elf;
mod fuse;
mod kernel;
mod supervise;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::{fs, io, thread};

use clap::{Args, ValueEnum};
use iaa_model::sysfs::{Idxd, Tree};
use iaa_model::{FaultPlan, ModelConfig, Tally};

use crate::{printable, tell};

/// The library, as the build script made it.
const PRELOAD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preload.so"));
/// Names the directory of the emulated machine to the library.
const VARIABLE: &str = "ZFOLIO_EMULATE";

/// Run a command on emulated IAA devices
///
/// The devices appear in /sys/bus/dsa and /dev/iax of the command and of whatever it starts: to accel-config,
/// libaccel-config, QPL or anything else that is dynamically linked and uses the C library. Nothing else on the
/// machine sees them, and no privilege is needed. When the command has ended, what the devices did is summed up on
/// standard error.
#[derive(Args, Debug)]
pub(crate) struct EmulateArgs {
    /// Generation of the devices: spr (Sapphire and Emerald Rapids) or gnr (Granite Rapids)
    #[arg(long, value_name = "NAME", default_value = "spr")]
    profile: Profile,
    /// How many devices: iax0, iax1, ...
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=64))]
    devices: u16,
    /// The memory nodes that devices are attached to, in turn, such as 0,1
    #[arg(long, value_name = "NID,...", value_delimiter = ',', default_value = "0")]
    nodes: Vec<u32>,
    /// As the driver finds them at boot: no queue configured, nothing enabled
    #[arg(long)]
    unconfigured: bool,
    /// What goes wrong, for example "seed=7; full p=0.01; late:5ms every=100 op=compress"
    #[arg(long, value_name = "PLAN", default_value = "")]
    faults: FaultPlan,
    /// Serve the devices as a file system instead of loading a library into the command: for statically linked
    /// programs. Needs /dev/fuse and user namespaces
    #[arg(long)]
    fuse: bool,
    /// No summary
    #[arg(long, short)]
    quiet: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    Spr,
    Gnr,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Profile::Spr => "spr",
            Profile::Gnr => "gnr",
        }
    }
}

impl EmulateArgs {
    fn model(&self) -> ModelConfig {
        let devices = usize::from(self.devices);
        let mut model = match self.profile {
            Profile::Spr => ModelConfig::spr(devices),
            Profile::Gnr => ModelConfig::gnr(devices),
        };
        for (device, &nid) in model.devices.iter_mut().zip(self.nodes.iter().cycle()) {
            device.nid = nid;
        }
        model.with_faults(self.faults.clone())
    }

    fn idxd(&self) -> Idxd {
        let model = self.model();
        if self.unconfigured { Idxd::unconfigured(&model) } else { Idxd::new(&model) }
    }
}

/// Runs the command; its exit code, or 127 if it cannot be started under emulation.
pub(crate) fn run(args: &EmulateArgs) -> ExitCode {
    match emulate(args) {
        Ok(code) => ExitCode::from(code),
        Err(message) => {
            tell(message);
            // As shells and env(1) have it: nothing was executed.
            ExitCode::from(127)
        }
    }
}

fn emulate(args: &EmulateArgs) -> Result<u8, String> {
    let program = args.command.first().ok_or("no command")?;
    let path = elf::find(program)?;
    let dir = tempfile::Builder::new().prefix("zfolio-emulate-").tempdir();
    let dir = dir.map_err(|error| format!("no temporary directory: {error}; TMPDIR names another place"))?;
    let mut command = Command::new(program);
    command.args(&args.command[1..]);
    let start_failed = |error| format!("{}: {error}", printable(&path.display().to_string()));
    if args.fuse {
        return with_file_system(args, dir.path(), command, start_failed);
    }
    elf::check(&path)?;
    let (library, tally) = furnish(dir.path(), args)?;
    let mut preload = library.into_os_string();
    if let Some(before) = std::env::var_os("LD_PRELOAD").filter(|value| !value.is_empty()) {
        preload.push(":");
        preload.push(before);
    }
    command.env("LD_PRELOAD", preload).env(VARIABLE, dir.path());
    let code = supervise::run(command).map_err(start_failed)?;
    let words = fs::read(&tally).map_err(|error| format!("{}: {error}", tally.display()))?;
    let words: Vec<AtomicU64> = words
        .chunks_exact(size_of::<u64>())
        .map(|word| AtomicU64::new(u64::from_ne_bytes(word.try_into().expect("of that length"))))
        .collect();
    let tally = Tally::new(&words).ok_or("the tally was cut short")?;
    if tally.attached() == 0 {
        return Err(
            "the emulation was not loaded into the command (is its temporary directory mounted noexec? \
                    TMPDIR names another place)"
                .to_owned(),
        );
    }
    summarize(args, tally);
    Ok(code)
}

/// Runs `command` in a mount namespace of its own, with the devices as a FUSE file system.
fn with_file_system(
    args: &EmulateArgs,
    dir: &Path,
    mut command: Command,
    start_failed: impl Fn(io::Error) -> String,
) -> Result<u8, String> {
    let words: Arc<Vec<AtomicU64>> = Arc::new((0..Tally::WORDS).map(|_| AtomicU64::new(0)).collect());
    let namespace = kernel::Namespace::prepare(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let (ours, childs) = UnixStream::pair().map_err(|error| format!("no socket: {error}"))?;
    let server = fuse::Server::new(args.model(), args.idxd(), Arc::clone(&words), kernel::owner());
    let told = ours.try_clone().map_err(|error| format!("no socket: {error}"))?;
    let serving = thread::Builder::new().name("fuse".to_owned()).spawn(move || match kernel::told(&told) {
        Some(Ok(device)) => {
            device.and_then(|device| server.serve(device)).err().map(|error| error.to_string())
        }
        Some(Err(step)) => Some(step.to_owned()),
        None => None,
    });
    let serving = serving.map_err(|error| format!("no thread: {error}"))?;
    kernel::before_exec(&mut command, move || namespace.enter(&childs));
    match supervise::run(command) {
        Ok(code) => {
            summarize(args, Tally::new(&words).expect("made of the right length"));
            Ok(code)
        }
        Err(error) => {
            // The child is gone, and with it its end of the socket and the file system.
            let first = serving.join().unwrap_or_default();
            let step = first.or_else(|| kernel::told(&ours)?.err().map(str::to_owned));
            Err(match step {
                Some(step) => format!(
                    "--fuse cannot be had here: {step}: {error} (needs /dev/fuse, and user namespaces for who is not \
                     root)"
                ),
                None => start_failed(error),
            })
        }
    }
}

/// Fills the directory of the machine: the library's file, and the tally's.
fn furnish(dir: &Path, args: &EmulateArgs) -> Result<(std::path::PathBuf, std::path::PathBuf), String> {
    if PRELOAD.is_empty() {
        return Err("emulate is for x86-64 Linux".to_owned());
    }
    if dir.as_os_str().as_encoded_bytes().iter().any(|byte| matches!(byte, b':' | b' ')) {
        return Err(format!("LD_PRELOAD cannot name {}; TMPDIR names another place", dir.display()));
    }
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", dir.display());
    let (library, tally) = (dir.join("preload.so"), dir.join("tally"));
    fs::write(&library, PRELOAD).map_err(|error| failed(&error))?;
    fs::set_permissions(&library, fs::Permissions::from_mode(0o700)).map_err(|error| failed(&error))?;
    fs::write(&tally, vec![0; Tally::WORDS * size_of::<u64>()]).map_err(|error| failed(&error))?;
    let tree = Tree::create(dir, &args.idxd()).map_err(|error| failed(&error))?;
    tree.write_setup(args.profile.name(), &args.faults.to_string()).map_err(|error| failed(&error))?;
    Ok((library, tally))
}

/// Says what the devices did.
fn summarize(args: &EmulateArgs, tally: Tally) {
    if !args.quiet {
        for line in tally.summary(args.faults.clone()).to_string().lines() {
            tell(format_args!("emulate: {line}"));
        }
    }
}
