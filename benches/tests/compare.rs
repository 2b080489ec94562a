//! Two recorded runs are compared as a user compares them.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::zfolio;

/// Rounds of a made-up run: times of a store that scatter by 2 %, all `factor` times as long.
fn record(dir: &Path, name: &str, factor: f64, rounds: usize) -> PathBuf {
    let mut text = String::from("{\"kind\":\"something newer\"}\n");
    for round in 0..rounds {
        // The same rounds in another order for each file, so that they are not paired by chance.
        let scatter = 1.0 + 0.02 * ((round * 7 + name.len()) % 11) as f64 / 10.0;
        let time = 5000.0 * factor * scatter;
        let line = json!({
            "kind": "round", "complete": true, "arena": if round == 0 { "cold" } else { "warm" },
            "corpus": "made-up", "corpus_sha256": "00", "pages": 1000, "codec": "lz4", "backend": "software",
            "folio_bytes": 65536, "threads": 1, "window": 8,
            "store_wall_ns_per_page": if round == 0 { 9.0 * time } else { time }, "store_cpu_ns_per_page": time,
        });
        text += &format!("{line}\n");
    }
    let path = dir.join(name);
    fs::write(&path, text).expect("a temporary file");
    path
}

fn compare(a: &Path, b: &Path, more: &[&str]) -> support::Ran {
    let files = [a, b].map(|path| path.to_str().expect("text"));
    zfolio(&[&["compare"], &files[..], more].concat())
}

#[test]
fn planted_slowdown_is_called_slower_and_ends_with_a_code_that_ci_can_use() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (record(dir.path(), "a.jsonl", 1.0, 20), record(dir.path(), "slow.jsonl", 1.05, 20));
    let ran = compare(&a, &b, &[]);
    assert_eq!(ran.code, Some(3), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("slower"), "{}", ran.stdout);

    let ran = compare(&b, &a, &["--json"]);
    assert_eq!(ran.code, Some(0));
    let row: Value = serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(row["verdict"], "faster");
    let ratio = row["ratio"].as_f64().unwrap();
    assert!((0.94..0.965).contains(&ratio), "1 / 1.05 was planted: {ratio}");
    assert_eq!(row["b_rounds"], 19, "a first fill of fresh memory is no warm round");
}

#[test]
fn run_against_itself_shows_no_difference_and_how_small_a_one_would_have_been_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (record(dir.path(), "a.jsonl", 1.0, 12), record(dir.path(), "bb.jsonl", 1.0, 12));
    let ran = compare(&a, &b, &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stdout);
    assert!(ran.stdout.contains("no difference seen ("), "{}", ran.stdout);
}

#[test]
fn too_few_rounds_give_no_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (record(dir.path(), "a.jsonl", 1.0, 4), record(dir.path(), "b.jsonl", 3.0, 4));
    let ran = compare(&a, &b, &[]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.contains("too few rounds"), "{}", ran.stdout);
}

#[test]
fn files_that_cannot_be_compared_are_errors_that_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let a = record(dir.path(), "a.jsonl", 1.0, 6);
    let with = |text: &str| {
        let path = dir.path().join("other.jsonl");
        fs::write(&path, text).unwrap();
        let ran = compare(&a, &path, &[]);
        assert_eq!(ran.code, Some(1), "{}", ran.stdout);
        ran.stderr
    };
    assert!(with("").contains("no complete round"));
    assert!(with("{\"kind\":\"round\",\"complete\":true}\n").contains("line 1: a round without corpus"));
    assert!(with("not json\n").contains("line 1: no JSON"));
    let other = fs::read_to_string(&a).unwrap().replace("made-up", "another");
    assert!(with(&other).contains("no corpus in common"));
    let ran = compare(&a, Path::new("/nonexistent.jsonl"), &[]);
    assert!(ran.stderr.contains("/nonexistent.jsonl cannot be read"), "{}", ran.stderr);
}

#[test]
fn runs_of_two_machines_are_told_from_runs_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (record(dir.path(), "a.jsonl", 1.0, 6), record(dir.path(), "b.jsonl", 1.0, 6));
    assert!(!compare(&a, &b, &[]).stdout.contains("NOT THE SAME MACHINE"), "neither tells");
    for (path, kernel, commit) in [(&a, "Linux 6.1", "aaa"), (&b, "Linux 6.2", "bbb")] {
        let facts = format!("\"cpus\":2,\"kernel\":\"{kernel}\",\"commit\":\"{commit}\",\"kind\":\"round\"");
        let text = fs::read_to_string(path).unwrap().replace("\"kind\":\"round\"", &facts);
        fs::write(path, text).unwrap();
    }
    let told = compare(&a, &b, &[]).stdout;
    assert!(told.contains("NOT THE SAME MACHINE: kernel \"Linux 6.1\" and \"Linux 6.2\": a"), "{told}");
    let ran = compare(&a, &b, &["--json"]);
    let row: Value = serde_json::from_str(ran.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&row["a_commit"], &row["b_commit"]), (&"aaa".into(), &"bbb".into()));
    assert_eq!((&row["a_cpus"], &row["pages"]), (&2.into(), &1000.into()));
}
