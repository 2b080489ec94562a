//! What a no-op costs that goes through a system call to the model: alone, and sixteen in one write(2).
//!
//! The client is the tests' C program, which checks every record; it sends both in turns and gives the
//! medians. On the FUSE front end sixteen in one write have to cost at most half each.

use std::path::Path;
use std::process::{Command, ExitCode};

/// At most this share of a no-op sent alone, for one of sixteen.
const SHARE: f64 = 0.5;

fn main() -> ExitCode {
    let client = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-client");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulate/client.c");
    let built = Command::new("cc").args(["-O2", "-pthread", "-o"]).arg(&client).arg(source).status();
    if !built.is_ok_and(|status| status.success()) {
        println!("skipped: no C compiler");
        return ExitCode::SUCCESS;
    }
    let mut good = true;
    for (name, options) in [("preload", &[][..]), ("fuse", &["--fuse"][..])] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_zfolio"));
        command.args(["emulate", "--quiet"]).args(options).arg("--").arg(&client).arg("bench");
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => {
                eprintln!("{name}: {error}");
                return ExitCode::FAILURE;
            }
        };
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            let refused = message.contains("--fuse cannot be had here");
            println!("{name}: {}{}", if refused { "skipped: " } else { "" }, message.trim());
            good &= refused;
            continue;
        }
        let Some((alone, batched)) = figures(&output.stdout) else {
            eprintln!("{name}: no figures in {}", String::from_utf8_lossy(&output.stdout));
            return ExitCode::FAILURE;
        };
        let share = batched / alone;
        println!(
            "{name}: no-op alone {alone:.0} ns, of sixteen in one write {batched:.0} ns: {share:.2} of it"
        );
        good &= name != "fuse" || share <= SHARE;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Nanoseconds of a no-op alone, and of one of sixteen.
fn figures(stdout: &[u8]) -> Option<(f64, f64)> {
    let figures: serde_json::Value = serde_json::from_slice(stdout).ok()?;
    Some((figures["noop_alone_ns"].as_f64()?, figures["noop_of_sixteen_ns"].as_f64()?))
}
