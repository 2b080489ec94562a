//! `zfolio simulate` as a person runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod support;

use std::fs;

use support::{json_lines, zfolio};

#[test]
fn simulation_goes_on_with_its_file_and_comes_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("simulated.jsonl");
    let path = file.to_str().unwrap();
    let args = [
        "simulate",
        "--devices",
        "1,8",
        "--threads",
        "1,16",
        "--window",
        "1,8",
        "--loads",
        "0",
        "--processes",
        "1",
        "--json",
        path,
    ];
    let ran = zfolio(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("16 of 16 settings simulated\n"), "{}", ran.stdout);
    let whole = fs::read_to_string(&file).unwrap();
    assert_eq!(json_lines(&file).len(), 16);

    // Ended while it wrote, and with somebody else's line in the file.
    let kept: Vec<&str> = whole.lines().take(9).collect();
    fs::write(&file, format!("{{\"kind\":\"other\"}}\n{}\n{{\"kind\":\"simul", kept.join("\n"))).unwrap();
    let ran = zfolio(&args);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("16 of 16 settings simulated, 9 of them before"), "{}", ran.stdout);
    let mut lines: Vec<String> = fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "{\"kind\":\"other\"}");
    let mut expected: Vec<String> = whole.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected, "chance follows from the seed alone");

    // Eight devices store more than one, and a window of eight more than one page at a time.
    let rate = |devices: u64, threads: u64, window: u64| {
        let found = json_lines(&file).into_iter().find(|line| {
            line["devices"] == devices
                && line["threads"] == threads
                && line["window"] == window
                && line["queues"] == "shared"
        });
        found.unwrap()["pages_per_s"].as_f64().unwrap()
    };
    assert!(rate(8, 16, 8) > 7.0 * rate(1, 16, 8));
    assert!(rate(1, 1, 8) > 2.0 * rate(1, 1, 1));
    assert!(rate(8, 1, 8) > 4.0 * rate(8, 1, 1));
}

#[test]
fn combinations_that_cannot_be_are_left_out_and_none_at_all_is_an_error() {
    let ran = zfolio(&["simulate", "--queues", "dedicated", "--processes", "9", "--threads", "16"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("a dedicated queue serves one process, and a device has 8 queues"),
        "{}",
        ran.stderr
    );
    let ran = zfolio(&[
        "simulate",
        "--devices",
        "1",
        "--queues",
        "shared",
        "--processes",
        "1,4",
        "--threads",
        "2",
        "--window",
        "4",
        "--loads",
        "0",
    ]);
    assert!(ran.stdout.contains("1 of 1 setting simulated"), "{}", ran.stdout);
}
