//! What the tests of the command line share: running it, and looking at what it leaves.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const PAGE: usize = 4096;

/// What a run of `zfolio` left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zfolio"));
    command.args(args);
    command
}

/// Runs `zfolio`, at most half a minute.
pub(crate) fn zfolio(args: &[&str]) -> Ran {
    let mut command = assert_cmd::Command::from_std(command(args));
    let output = command.timeout(Duration::from_secs(30)).output().expect("zfolio runs");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Starts `zfolio` and leaves it running.
pub(crate) fn start(args: &[&str]) -> Child {
    command(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("zfolio runs")
}

/// Waits for the end of a run that [`start`] started, which prints less than a pipe holds.
pub(crate) fn end(mut child: Child) -> Ran {
    if !wait_until(|| child.try_wait().expect("it is a child of ours").is_some()) {
        child.kill().expect("it has not been waited for");
    }
    let output = child.wait_with_output().expect("zfolio ends");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Sends a signal, with the shell's own kill.
pub(crate) fn signal(name: &str, pid: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("sh runs");
    assert!(status.success(), "kill -{name} {pid}");
}

/// Waits until something is so; `false` when it is not within 20 s.
pub(crate) fn wait_until(mut so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !so() {
        if start.elapsed() > Duration::from_secs(20) {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// A JSON file.
pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("the file is there")).expect("it is JSON")
}

/// A file of JSON lines.
pub(crate) fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("the file is there");
    text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
}

/// `count` pages, all different: text, numbers, zero, same-filled and noise.
pub(crate) fn mixed_pages(count: usize) -> Vec<u8> {
    let mut noise = 1u64;
    let mut pages = Vec::with_capacity(count * PAGE);
    for number in 0..count {
        match number % 5 {
            0 => pages.extend(format!("page {number} of ordinary text. ").bytes().cycle().take(PAGE)),
            1 => pages.extend((0..PAGE as u32 / 4).flat_map(|word| (word * number as u32).to_le_bytes())),
            2 => pages.extend([0; PAGE]),
            3 => pages.extend((number as u64).to_le_bytes().into_iter().cycle().take(PAGE)),
            _ => pages.extend((0..PAGE).map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (noise >> 33) as u8
            })),
        }
    }
    pages
}

/// A folder with a corpus of `count` pages in it.
pub(crate) fn corpus(count: usize) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("there is room for a folder");
    let path = dir.path().join("test.pages");
    fs::write(&path, mixed_pages(count)).expect("and for pages");
    (dir, path)
}

/// Runs `bench` on a corpus with more arguments, and reads its JSON lines.
pub(crate) fn bench(corpus: &Path, more: &[&str]) -> (Ran, Vec<Value>) {
    let json = corpus.with_extension("jsonl");
    let [corpus, out] = [corpus, &json].map(|path| path.to_str().expect("a name of letters"));
    let mut args = vec!["bench", "--corpus", corpus, "--json", out];
    args.extend(more);
    let ran = zfolio(&args);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.stderr, "", "no progress in a pipe");
    assert!(ran.stdout.lines().all(|line| line.chars().count() <= 120), "{}", ran.stdout);
    (ran, json_lines(&json))
}
