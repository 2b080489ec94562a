//! Plain rounds of `zfolio bench`, from the outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod support;

use std::fs;

use support::{PAGE, bench, corpus, end, json_lines, mixed_pages, signal, start, wait_until, zfolio};

const KEYS: [&str; 21] = [
    "corpus",
    "codec",
    "backend",
    "folio_bytes",
    "threads",
    "window",
    "policy",
    "pages",
    "store_pages_per_s",
    "load_pages_per_s",
    "load_seq_pages_per_s",
    "store_cpu_ns_per_page",
    "load_cpu_ns_per_page",
    "load_seq_cpu_ns_per_page",
    "ratio",
    "allocated_over_compressed",
    "metadata_bytes_per_page",
    "memory_bytes_per_page",
    "rss_anon_growth_bytes",
    "mismatched_pages",
    "kind",
];

#[test]
fn policy_is_told_and_recorded() {
    let (_dir, path) = corpus(300);
    let (ran, lines) = bench(&path, &["--rounds", "1", "--codec", "lz4", "--policy", "dense"]);
    assert!(ran.stdout.contains("policy dense"), "{}", ran.stdout);
    assert!(lines.iter().all(|line| line["policy"] == "dense"), "{lines:?}");
}

#[test]
fn every_line_has_the_promised_keys_and_no_page_is_mismatched() {
    let (_dir, path) = corpus(300);
    let (ran, lines) = bench(&path, &["--rounds", "3"]);
    let count = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((count("round"), count("summary"), lines.len()), (9, 3, 12));
    for line in &lines {
        for key in KEYS {
            assert!(!line[key].is_null(), "{key} in {line}");
        }
        assert_eq!((&line["mismatched_pages"], &line["rejected_pages"]), (&0.into(), &0.into()));
        assert_eq!((&line["pages"], &line["folio_bytes"]), (&300.into(), &65_536.into()));
        assert!(line["store_pages_per_s"].as_f64().unwrap() > 0.0);
    }
    for word in ["lz4", "deflate", "load at random", "test.pages", "software", "300 pages"] {
        assert!(ran.stdout.contains(word), "{word} in {}", ran.stdout);
    }
}

#[test]
fn rounds_of_the_codecs_take_turns_and_the_first_is_cold() {
    let (_dir, path) = corpus(64);
    let (_, lines) = bench(&path, &["--rounds", "2"]);
    let order: Vec<_> =
        lines[..6].iter().map(|line| (line["codec"].as_str(), line["arena"].as_str())).collect();
    let (lz4, deflate, vw) = (Some("lz4"), Some("deflate"), Some("vw"));
    let (cold, warm) = (Some("cold"), Some("warm"));
    let first = [(lz4, cold), (deflate, cold), (vw, cold)];
    let second = [(vw, warm), (deflate, warm), (lz4, warm)];
    assert_eq!(order, [first, second].concat());
    assert!(lines[6]["store_cold_pages_per_s"].is_number());
}

/// `deflate-dynamic` is a name of its own here, although what it stores is DEFLATE like any other.
#[test]
fn codec_that_is_asked_for_is_the_one_that_is_measured() {
    let (_dir, path) = corpus(64);
    for codec in ["lz4", "deflate", "deflate-dynamic"] {
        let (ran, lines) = bench(&path, &["--codec", codec, "--backend", "software", "--rounds", "1"]);
        assert!(ran.stdout.contains(codec), "{codec} in {}", ran.stdout);
        for line in lines {
            assert_eq!((&line["codec"], &line["mismatched_pages"]), (&codec.into(), &0.into()));
        }
    }
}

#[test]
fn pages_repeats_a_small_corpus_and_cuts_a_large_one() {
    let (_dir, path) = corpus(50);
    for (pages, folio) in [("1000", "64K"), ("17", "64K"), ("1", "4K"), ("1500", "2M"), ("49", "16K")] {
        let (_, lines) =
            bench(&path, &["--pages", pages, "--folio", folio, "--codec", "lz4", "--rounds", "1"]);
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert_eq!(line["pages"].as_u64(), pages.parse().ok());
            assert_eq!((&line["stored_pages"], &line["mismatched_pages"]), (&line["pages"], &0.into()));
        }
    }
}

#[test]
fn threads_share_the_pages_and_more_threads_than_folios_is_an_error() {
    let (_dir, path) = corpus(100);
    let (_, lines) = bench(&path, &["--threads", "3", "--codec", "default", "--rounds", "2"]);
    assert_eq!((&lines[0]["threads"], &lines[0]["stored_pages"]), (&3.into(), &100.into()));
    let ran = zfolio(&["bench", "--corpus", path.to_str().unwrap(), "--threads", "100"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("fewer --threads"), "{}", ran.stderr);
}

#[test]
fn several_corpora_get_a_block_each() {
    let (dir, path) = corpus(40);
    let other = dir.path().join("zero.pages");
    fs::write(&other, vec![0; 40 * PAGE]).unwrap();
    let (ran, lines) =
        bench(&path, &["--corpus", other.to_str().unwrap(), "--rounds", "1", "--codec", "lz4"]);
    assert!(
        ran.stdout.contains("corpus test.pages") && ran.stdout.contains("corpus zero.pages"),
        "{}",
        ran.stdout
    );
    let zero = lines.iter().find(|line| line["corpus"] == "zero.pages").unwrap();
    assert!(zero["ratio"].is_null(), "pages that need no object have no ratio");
    assert_eq!(zero["mismatched_pages"], 0);
}

#[test]
fn a_broken_corpus_is_a_clear_error_before_anything_is_measured() {
    let (dir, whole) = corpus(8);
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let cases = [
        (write("cut.pages", &mixed_pages(2)[..PAGE + 100]), "truncated"),
        (write("tiny.pages", b"x"), "truncated"),
        (write("empty.pages", b""), "is empty"),
        (dir.path().join("missing.pages"), "cannot be read"),
        (dir.path().to_owned(), "directory"),
    ];
    for (path, words) in cases {
        let ran = zfolio(&["bench", "--corpus", whole.to_str().unwrap(), "--corpus", path.to_str().unwrap()]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
        assert!(ran.stderr.contains(words) && ran.stderr.contains("capture"), "{}", ran.stderr);
    }
}

#[test]
fn a_corpus_that_lost_whole_pages_is_known_by_its_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::write(files.join("a"), mixed_pages(6)).unwrap();
    let out = dir.path().join("x.pages");
    let captured = zfolio(&["capture", "--files", files.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(captured.code, Some(0), "{}", captured.stderr);
    let (ran, _) = bench(&out, &["--rounds", "1"]);
    assert!(ran.stdout.contains("files below"), "the origin comes from the manifest: {}", ran.stdout);
    fs::write(&out, &mixed_pages(6)[..5 * PAGE]).unwrap();
    let ran = zfolio(&["bench", "--corpus", out.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("5 pages, and the manifest says 6"), "{}", ran.stderr);
}

#[test]
fn ctrl_c_prints_what_has_been_measured() {
    let (_dir, path) = corpus(200);
    let json = path.with_extension("jsonl");
    let args =
        ["bench", "--corpus", path.to_str().unwrap(), "--rounds", "10000", "--json", json.to_str().unwrap()];
    let child = start(&[&args[..], &["--pages", "20000"]].concat());
    assert!(wait_until(|| fs::read_to_string(&json).is_ok_and(|text| text.lines().count() >= 2)));
    signal("INT", child.id());
    let ran = end(child);
    assert_eq!(ran.code, Some(130), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("INTERRUPTED") && ran.stdout.contains("load at random"), "{}", ran.stdout);
    let lines = json_lines(&json);
    let summary = lines.last().unwrap();
    assert_eq!((&summary["kind"], &summary["complete"]), (&"summary".into(), &false.into()));
    assert!(lines.iter().all(|line| line["mismatched_pages"] == 0));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let (_dir, path) = corpus(20);
    let mut child = start(&["bench", "--corpus", path.to_str().unwrap(), "--rounds", "1"]);
    drop(child.stdout.take());
    let ran = end(child);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_fifo_is_no_corpus_and_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo.pages");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let ran = zfolio(&["bench", "--corpus", fifo.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("not a regular file"), "{}", ran.stderr);
}

#[test]
fn a_manifest_that_cannot_be_read_is_not_a_missing_one() {
    let (_dir, path) = corpus(4);
    let manifest = path.with_extension("pages.json");
    for broken in [&b"{"[..], b"\xff\xfe"] {
        fs::write(&manifest, broken).unwrap();
        let ran = zfolio(&["bench", "--corpus", path.to_str().unwrap()]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
        assert!(ran.stderr.contains("read"), "{}", ran.stderr);
    }
}

#[test]
fn wrong_arguments_get_advice() {
    for (args, words) in [
        (&["bench", "--thread", "2"][..], "'--threads'"),
        (&["bench", "--codec", "lz5"], "lz4"),
        (&["bench", "--folio", "8K"], "16K"),
        (&["bench", "--rounds", "0"], "--rounds"),
        (&["bench", "--pages", "0"], "--pages"),
        (&["bench", "--threads", "1024", "--pages", "4"], "fewer --threads"),
        (&["benc"], "'bench'"),
        (&["capture", "--self", "--out", "x.pages", "--max", "4095"], "4K"),
        (&["capture", "--self", "--out", "x.pages", "--max", "lots"], "64M"),
    ] {
        let ran = zfolio(args);
        assert_eq!(ran.code, Some(2), "{args:?}");
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn a_json_file_that_cannot_be_written_is_found_out_before_the_first_round() {
    let (dir, path) = corpus(4);
    let json = dir.path().join("missing/out.jsonl");
    let ran = zfolio(&["bench", "--corpus", path.to_str().unwrap(), "--json", json.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("cannot be written"), "{}", ran.stderr);
}

#[test]
fn rounds_and_summaries_say_what_the_machine_did_meanwhile() {
    let (_dir, path) = corpus(300);
    let (ran, lines) = bench(&path, &["--rounds", "6", "--codec", "lz4", "--pin"]);
    assert!(ran.stdout.contains("each thread on a CPU of its own"), "{}", ran.stdout);
    for line in &lines {
        for name in ["minor_faults", "major_faults", "voluntary_switches", "involuntary_switches"] {
            assert!(line[format!("load_seq_{name}")].is_number(), "{name} in {line}");
        }
        assert_eq!(line["pinned_cpus"].as_array().map(Vec::len), Some(1));
        assert!(line["library_versions"]["lz4_flex"].as_str().is_some_and(|v| v.starts_with("0.")), "{line}");
        assert!(line.get("governor").is_some() && line.get("transparent_huge_pages").is_some());
    }
    // The first fill touches fresh memory: pages of a store that begins empty.
    assert!(lines[0]["store_minor_faults"].as_u64().unwrap() > 20, "{}", lines[0]);
    let summary = lines.last().unwrap();
    let number = |suffix: &str| summary[format!("store_cpu_ns_per_page{suffix}")].as_f64().unwrap();
    let order = ["_min", "_low", "", "_high", "_max"].map(number);
    assert!(order.is_sorted(), "{order:?}");
    assert!(number("_mad") >= 0.0 && number("_outliers") <= 2.0 && summary["noise"].is_array());
    let ran = zfolio(&["bench", "--pin", "--threads", "1024", "--corpus", path.to_str().unwrap()]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("--pin needs a CPU a thread"), "{}", ran.stderr);
}
