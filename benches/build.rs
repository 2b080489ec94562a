//! Builds the preload library of `zfolio emulate`, which the command line carries as bytes.
//!
//! It must not be linked here: its hooks would become the command line's own functions. So it is no dependency: a
//! second cargo builds it, as the same sources and lock file say, in a target directory of its own below `OUT_DIR`
//! (the outer cargo holds the lock of the other). Offline: its few dependencies are also the command line's, which
//! cargo has already.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The package, its library's file, and what it is made of, from the workspace's root.
const PACKAGE: &str = "iaa-preload";
const LIBRARY: &str = "libiaa_preload.so";
const SOURCES: [&str; 4] = ["accel/model", "accel/idxd-sys", "fallback/src", "Cargo.lock"];

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    tell_versions(&root);
    tell_commit(&root);
    let out = PathBuf::from(variable("OUT_DIR"));
    let carried = out.join("preload.so");
    let platform = (variable("CARGO_CFG_TARGET_OS"), variable("CARGO_CFG_TARGET_ARCH"));
    if platform != ("linux".to_owned(), "x86_64".to_owned()) {
        // The model is for x86-64 Linux only; `zfolio emulate` says so.
        return fs::write(carried, "").expect("OUT_DIR can be written");
    }
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    let built = build(&root, &out.join("preload"));
    fs::copy(&built, &carried).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
}

/// The versions of codecs' crates, as the lock file has them: benchmarks record them.
fn tell_versions(root: &Path) {
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    for name in ["lz4_flex", "zlib-rs"] {
        let version = lock
            .split_once(&format!("name = \"{name}\"\nversion = \""))
            .and_then(|(_, rest)| rest.split_once('"'))
            .map_or("unknown", |(version, _)| version);
        let name = name.replace('-', "_").to_uppercase();
        println!("cargo::rustc-env={name}_VERSION={version}");
    }
}

/// The commit that is built, with a plus where sources have been changed since: benchmarks record it. Whoever builds may tell
/// another name; where there is no repository there is none.
fn tell_commit(root: &Path) {
    println!("cargo::rerun-if-env-changed=ZFOLIO_COMMIT");
    if env::var_os("ZFOLIO_COMMIT").is_some() {
        return;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    // Whatever moves the head is written down here.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).map(|log| root.join(log))
        && log.exists()
    {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    for sources in ["accel/src", "benches/src", "fallback/src", "service/src"] {
        println!("cargo::rerun-if-changed={}", root.join(sources).display());
    }
    if let (Some(commit), Some(changed)) = (
        git(&["rev-parse", "--short=12", "HEAD"]),
        git(&["status", "--porcelain", "--untracked-files=no", "--", "*.rs", "Cargo.lock"]),
    ) {
        let mark = if changed.is_empty() { "" } else { "+" };
        println!("cargo::rustc-env=ZFOLIO_COMMIT={commit}{mark}");
    }
}

fn build(root: &Path, target_dir: &Path) -> PathBuf {
    let target = variable("TARGET");
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(root).args(["build", "--package", PACKAGE, "--profile", "preload", "--offline"]);
    cargo.args(["--target", &target]).arg("--target-dir").arg(target_dir);
    // What the outer build is told is not for this one: a static C library, `--cfg loom`, clippy instead of rustc.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    let output = cargo.output().unwrap_or_else(|error| panic!("cargo cannot be run: {error}"));
    assert!(
        output.status.success(),
        "the preload library cannot be built:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target_dir.join(target).join("preload").join(LIBRARY)
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}
