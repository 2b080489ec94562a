//! `zfolio capture`, from the outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Stdio};

use sha2::{Digest, Sha256};
use support::{PAGE, Ran, command, end, json, mixed_pages, signal, start, wait_until, zfolio};

/// A process with some 80 MiB of live data, as `capture --self` uses it.
struct Workload(Child);

impl Workload {
    fn start() -> Self {
        let mut child = command(&["workload"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        // Until it sleeps in its read it may still touch a page of its own: the same pages every time after that.
        let status = format!("/proc/{}/status", child.id());
        assert!(wait_until(|| fs::read_to_string(&status).unwrap().contains("State:\tS")));
        Self(child)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Both files are there, agree with each other, and nothing temporary is left.
fn assert_complete_pair(out: &Path) -> serde_json::Value {
    let pages = fs::read(out).unwrap();
    let manifest = json(&out.with_extension("pages.json"));
    assert_eq!(pages.len() % PAGE, 0);
    assert_eq!(manifest["pages"], pages.len() / PAGE);
    let sha256: String = Sha256::digest(&pages).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(manifest["sha256"], sha256);
    let sources = manifest["sources"].as_array().unwrap();
    assert_eq!(
        sources.iter().map(|source| source["pages"].as_u64().unwrap()).sum::<u64>(),
        manifest["pages"]
    );
    assert_eq!(leftovers(out), Vec::<String>::new());
    assert_eq!(fs::metadata(out).unwrap().mode() & 0o777, 0o600, "memory holds secrets");
    manifest
}

/// Files beside `out` that are neither it nor its manifest.
fn leftovers(out: &Path) -> Vec<String> {
    let name = out.file_name().unwrap().to_str().unwrap();
    let names = fs::read_dir(out.parent().unwrap()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|other| other.starts_with('.') && other.contains(name)).collect()
}

/// Starts a capture of a workload and calls `meanwhile` when its first bytes are on disk. A capture that was
/// faster than that is tried again.
fn capture_with_incident(out: &Path, meanwhile: impl Fn(&mut Workload, &Child)) -> Ran {
    for _ in 0..5 {
        let mut workload = Workload::start();
        let pid = workload.0.id().to_string();
        let mut capture = start(&["capture", "--pid", &pid, "--out", out.to_str().unwrap()]);
        let temporary =
            out.with_file_name(format!(".{}.{}.tmp", out.file_name().unwrap().display(), capture.id()));
        let mut ended = false;
        assert!(wait_until(|| {
            ended = capture.try_wait().unwrap().is_some();
            ended || fs::metadata(&temporary).is_ok_and(|facts| facts.len() > 0)
        }));
        if !ended {
            meanwhile(&mut workload, &capture);
        }
        let ran = end(capture);
        if ran.code != Some(0) {
            return ran;
        }
    }
    panic!("five captures of 80 MiB were over before anything could happen to them");
}

#[test]
fn capture_of_own_workload_gives_tens_of_mebibytes_and_a_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("self.pages");
    let ran = zfolio(&["capture", "--self", "--out", out.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let manifest = assert_complete_pair(&out);
    let pages = manifest["pages"].as_u64().unwrap() as usize;
    assert!((32 << 20..160 << 20).contains(&(pages * PAGE)), "{pages} pages");
    assert_eq!(manifest["complete"], true);
    assert!(manifest["zero_share"].as_f64().unwrap() < 0.5);
    assert!(ran.stdout.contains("sha256"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "", "no progress in a pipe");
}

#[test]
fn capture_of_a_process_finds_its_heap_and_max_spreads_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let workload = Workload::start();
    let pid = workload.0.id().to_string();
    let capture = |name: &str| {
        let out = dir.path().join(name);
        let ran = zfolio(&["capture", "--pid", &pid, "--max", "4M", "--out", out.to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        (assert_complete_pair(&out), fs::read(&out).unwrap())
    };
    let (manifest, first) = capture("a.pages");
    assert_eq!(first.len(), 4 << 20);
    let sources = manifest["sources"].as_array().unwrap();
    assert!(sources.iter().any(|source| source["name"] == "[heap]"), "{sources:?}");
    assert!(manifest["candidate_pages"].as_u64().unwrap() > 4 * manifest["pages"].as_u64().unwrap());
    let (_, second) = capture("b.pages");
    assert!(first == second, "a process that waits gives the same pages for the same limit");
}

#[test]
fn capture_of_a_process_that_ends_meanwhile_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dead.pages");
    let ran = capture_with_incident(&out, |workload, _| workload.0.kill().unwrap());
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("ended meanwhile") && ran.stderr.contains("kept"), "{}", ran.stderr);
    let manifest = assert_complete_pair(&out);
    assert_eq!(manifest["complete"], false);
    assert!(manifest["pages"].as_u64().unwrap() > 0);
}

#[test]
fn capture_ended_by_ctrl_c_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("stopped.pages");
    let ran = capture_with_incident(&out, |_, capture| signal("INT", capture.id()));
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    let manifest = assert_complete_pair(&out);
    assert_eq!(manifest["complete"], false);
    assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
}

#[test]
fn capture_of_files_takes_whole_pages_in_the_order_of_paths() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir_all(files.join("sub")).unwrap();
    let pages = mixed_pages(10);
    fs::write(files.join("b"), &pages[..4 * PAGE]).unwrap();
    fs::write(files.join("a"), [&pages[4 * PAGE..6 * PAGE], b"not a whole page"].concat()).unwrap();
    fs::write(files.join("sub/c"), &pages[6 * PAGE..]).unwrap();
    std::os::unix::fs::symlink(files.join("b"), files.join("link")).unwrap();
    let out = dir.path().join("files.pages");
    let ran = zfolio(&["capture", "--files", files.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let manifest = assert_complete_pair(&out);
    let expected = [&pages[4 * PAGE..6 * PAGE], &pages[..4 * PAGE], &pages[6 * PAGE..]].concat();
    assert!(fs::read(&out).unwrap() == expected);
    assert_eq!((&manifest["zero_pages"], &manifest["same_filled_nonzero_pages"]), (&2.into(), &2.into()));
}

#[test]
fn capture_replaces_an_older_pair_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    let out = dir.path().join("x.pages");
    for count in [7, 3] {
        fs::write(files.join("a"), mixed_pages(count)).unwrap();
        assert_eq!(
            zfolio(&["capture", "--files", files.to_str().unwrap(), "--out", out.to_str().unwrap()]).code,
            Some(0)
        );
        assert_eq!(assert_complete_pair(&out)["pages"], count);
    }
}

#[test]
fn capture_takes_no_place_but_a_files() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("a"), mixed_pages(2)).unwrap();
    let made = |program: &str, args: &[&str]| {
        std::process::Command::new(program).args(args).stderr(Stdio::null()).status().unwrap().success()
    };
    for (name, what) in
        [("fifo", "a FIFO"), ("folder", "a directory"), ("link", "link"), ("device", "a device")]
    {
        for suffix in ["", ".json"] {
            let out = dir.path().join(format!("{name}{suffix}.pages"));
            let odd = dir.path().join(format!("{name}{suffix}.pages{suffix}"));
            match name {
                "fifo" => assert!(made("mkfifo", &[odd.to_str().unwrap()])),
                "folder" => fs::create_dir(&odd).unwrap(),
                "link" => std::os::unix::fs::symlink("/dev/null", &odd).unwrap(),
                _ if !made("mknod", &[odd.to_str().unwrap(), "c", "1", "3"]) => {
                    println!("skipped: a device cannot be made here");
                    continue;
                }
                _ => {}
            }
            let kind = fs::symlink_metadata(&odd).unwrap().file_type();
            let args = ["capture", "--files", files.to_str().unwrap(), "--out", out.to_str().unwrap()];
            let ran = zfolio(&args);
            assert_eq!(ran.code, Some(1), "{odd:?}");
            assert!(ran.stderr.contains(what) && ran.stderr.contains("not a regular file"), "{}", ran.stderr);
            assert_eq!(fs::symlink_metadata(&odd).unwrap().file_type(), kind);
            assert!(leftovers(&out).is_empty() && (suffix.is_empty() || !out.exists()));
        }
    }
}

#[test]
fn an_unwritable_stderr_or_stdout_is_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("a"), mixed_pages(2)).unwrap();
    let out = dir.path().join("x.pages");
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let args = ["capture", "--files", files.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let silent = |args: &[&str]| command(args).stderr(full()).stdout(full()).status().unwrap().code();
    assert_eq!(silent(&args), Some(1), "the report cannot be printed");
    assert_complete_pair(&out);
    assert_eq!(silent(&["capture", "--files", "/nowhere", "--out", out.to_str().unwrap()]), Some(1));
    assert_eq!(silent(&["bench", "--corpus", "/nowhere"]), Some(1));
    assert_eq!(silent(&["bench", "--rounds", "0"]), Some(2));
    // A pipe that nobody reads.
    let mut child = command(&["bench", "--corpus", "/nowhere"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn capture_without_permission_says_what_helps() {
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        println!("skipped: capture_without_permission_says_what_helps: root may read every process");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("init.pages");
    let ran = zfolio(&["capture", "--pid", "1", "--out", out.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("no permission") && ran.stderr.contains("ptrace_scope"), "{}", ran.stderr);
    assert!(!out.exists() && leftovers(&out).is_empty());
}

#[test]
fn an_unreadable_file_is_counted_and_the_rest_is_kept() {
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        println!("skipped: an_unreadable_file_is_counted_and_the_rest_is_kept: root may read every file");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("a"), mixed_pages(2)).unwrap();
    fs::write(files.join("b"), mixed_pages(2)).unwrap();
    fs::set_permissions(files.join("a"), fs::Permissions::from_mode(0o000)).unwrap();
    let out = dir.path().join("x.pages");
    let ran = zfolio(&["capture", "--files", files.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(ran.code, Some(3));
    assert!(ran.stderr.contains("1 file") && ran.stderr.contains("could not be read"), "{}", ran.stderr);
    assert_eq!(assert_complete_pair(&out)["unreadable_files"], 1);
}

#[test]
fn nothing_to_capture_is_an_error_that_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let out = dir.path().join("x.pages");
    let missing = dir.path().join("missing");
    for (args, words) in [
        (["--files", empty.to_str().unwrap()], "no page captured"),
        (["--files", missing.to_str().unwrap()], "cannot be listed"),
        (["--pid", "2147483647"], "there is no process 2147483647"),
    ] {
        let ran = zfolio(&["capture", args[0], args[1], "--out", out.to_str().unwrap()]);
        assert_eq!(ran.code, Some(1), "{args:?}");
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
        assert!(!out.exists() && leftovers(&out).is_empty());
    }
}

#[test]
fn capture_asks_for_exactly_one_origin() {
    let ran = zfolio(&["capture", "--out", "x.pages"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--pid") && ran.stderr.contains("--self"), "{}", ran.stderr);
    let ran = zfolio(&["capture", "--self", "--pid", "1", "--out", "x.pages"]);
    assert_eq!(ran.code, Some(2));
}

#[test]
fn the_workload_ends_when_nobody_holds_its_input() {
    let mut workload = Workload::start();
    drop(workload.0.stdin.take());
    assert!(wait_until(|| workload.0.try_wait().unwrap().is_some_and(|status| status.success())));
}
