//! What `zfolio bench` measures beside plain rounds, from the outside: two settings, engines, modelled devices, latencies, sweeps, layouts, phases.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod support;

use std::fs;

use serde_json::Value;
use support::{bench, corpus, end, json_lines, signal, start, wait_until, zfolio};

#[test]
fn two_settings_are_compared_and_a_planted_slowdown_is_found() {
    let (_dir, path) = corpus(512);
    let json = path.with_extension("jsonl");
    let (pages, out) = (path.to_str().unwrap(), json.to_str().unwrap());
    // Twice as slow: far above any noise, so that this is no timed test.
    let ab = ["--codec", "lz4", "--trials", "11", "--ab", "", "--slow-store 100"];
    let ran = zfolio(&[&["bench", "--corpus", pages, "--json", out], &ab[..]].concat());
    assert_eq!(ran.code, Some(3), "{}{}", ran.stdout, ran.stderr);
    let rows = json_lines(&json);
    let store = rows.iter().find(|row| row["figure"] == "store_cpu_ns_per_page").unwrap();
    assert_eq!((&store["verdict"], &store["trials"]), (&"slower".into(), &11.into()), "{store}");
    // Not the lower end of its interval, which other programs on both CPUs once brought down to 1.24.
    assert!(store["ratio"].as_f64().unwrap() > 1.3, "{store}");

    let ran = zfolio(&["bench", "--ab", "--pages 100", "--codec lz4"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("both sides need the same pages"), "{}", ran.stderr);
}

#[test]
fn engine_on_a_modelled_device_gives_right_answers_at_every_window() {
    let (_dir, path) = corpus(96);
    let json = path.with_extension("jsonl");
    for op in ["compress", "decompress"] {
        let args = ["bench", "engine", "--corpus", path.to_str().unwrap(), "--json", json.to_str().unwrap()];
        let more = ["--backend", "model", "--devices", "2", "--window", "1,4", "--rounds", "2", "--op", op];
        let ran = zfolio(&[&args[..], &more].concat());
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("by calibration"), "{}", ran.stdout);
        let lines = json_lines(&json);
        assert_eq!(lines.len(), 2);
        for (line, window) in lines.iter().zip([1, 4]) {
            assert_eq!(
                (&line["op"], &line["window"], &line["wrong_answers"]),
                (&op.into(), &window.into(), &0.into())
            );
            assert_eq!(line["software_pages"], 0, "{line}");
            // A page takes at least its latency over the window: 1 us and the transfer.
            assert!(line["ns_per_page"].as_f64().unwrap() > 2000.0 / f64::from(window), "{line}");
            let effective = line["effective_window"].as_f64().unwrap();
            assert!(effective >= 1.0 && effective <= f64::from(window), "{line}");
        }
    }
}

#[test]
fn engine_without_its_device_says_so_and_measures_nothing_else() {
    let (_dir, path) = corpus(4);
    let ran = zfolio(&["bench", "engine", "--backend", "direct", "--corpus", path.to_str().unwrap()]);
    if ran.code == Some(0) {
        println!("skipped: this machine has a device");
        return;
    }
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains("no enabled IAA work queue under"), "{}", ran.stderr);
}

#[test]
fn store_runs_on_a_modelled_device() {
    let (_dir, path) = corpus(64);
    let (ran, lines) = bench(&path, &["--backend", "model", "--devices", "4", "--rounds", "2"]);
    assert!(ran.stdout.contains("4 devices of profile spr, dedicated queues by MOVDIR64B"), "{}", ran.stdout);
    let summary = lines.last().unwrap();
    assert_eq!((&summary["backend"], &summary["codec"]), (&"model".into(), &"deflate".into()));
    let ran = zfolio(&["bench", "--backend", "model", "--threads", "2"]);
    assert!(ran.code == Some(2) && ran.stderr.contains("holds for one thread"), "{}", ran.stderr);
}

#[test]
fn latency_under_load_counts_every_arrival_and_checks_every_page() {
    let (_dir, path) = corpus(512);
    let json = path.with_extension("jsonl");
    let args = ["bench", "latency", "--corpus", path.to_str().unwrap(), "--codec", "lz4", "--seconds", "1"];
    let run = |more: &[&str]| {
        let ran = zfolio(&[&args[..], &["--json", json.to_str().unwrap()], more].concat());
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.lines().all(|line| line.chars().count() <= 120), "{}", ran.stdout);
        (ran.stdout, json_lines(&json).remove(0))
    };
    let (text, line) = run(&["--rate", "2000", "--mix", "70", "--folio", "16K"]);
    assert!(text.contains("p99.99"), "{text}");
    let calls = ["store", "load"].map(|op| line[format!("{op}_calls")].as_u64().unwrap());
    // Poisson: 2000 expected, 45 is a standard deviation; all are there, however slow the machine.
    assert!((1_700..2_300).contains(&(calls[0] + calls[1])), "{calls:?}");
    assert!(calls[1] > calls[0], "70 % are loads: {calls:?}");
    for op in ["store", "load"] {
        let order = ["p50", "p90", "p99", "p999", "p9999", "max"]
            .map(|name| line[format!("{op}_{name}_ns")].as_u64().unwrap());
        assert!(order.is_sorted() && order[0] > 0, "{order:?}");
    }
    assert_eq!((&line["mismatched_pages"], &line["failed_checks"]), (&0.into(), &0.into()));

    // Far more than any machine can do: what is due and never begun counts too, and waits nearly a second.
    let (text, line) = run(&["--rate", "10000000"]);
    assert!(text.contains("TOO FAST"), "{text}");
    let calls: u64 = ["store", "load"].map(|op| line[format!("{op}_calls")].as_u64().unwrap()).iter().sum();
    assert!((9_900_000..10_100_000).contains(&calls), "{calls}");
    assert!(line["store_p50_ns"].as_u64().unwrap() > 300_000_000, "{line}");
    assert_eq!(line["mismatched_pages"], 0);
}

#[test]
fn a_sweep_measures_every_combination_once_and_goes_on_where_it_was_ended() {
    let (_dir, path) = corpus(128);
    let json = path.with_extension("jsonl");
    let args = ["bench", "sweep", "--corpus", path.to_str().unwrap(), "--json", json.to_str().unwrap()];
    let lists =
        ["--codec", "lz4,vw", "--window", "1,8", "--folio", "4K,64K", "--threads", "1,2", "--rounds", "2"];
    let sweep = || {
        let ran = zfolio(&[&args[..], &lists].concat());
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        ran.stdout
    };
    let kinds = |kind: &str| json_lines(&json).iter().filter(|line| line["kind"] == kind).count();
    assert!(sweep().contains("16 of 16 points complete, 0 of them before"));
    assert_eq!((kinds("summary"), kinds("round")), (16, 32));
    assert!(sweep().contains("16 of 16 points complete, 16 of them before"));
    assert_eq!((kinds("summary"), kinds("round")), (16, 32), "nothing is measured twice");

    // Ended in the middle of a line: the last summary is gone, its rounds are measured again.
    let text = fs::read_to_string(&json).unwrap();
    fs::write(&json, &text[..text.len() - 100]).unwrap();
    assert!(sweep().contains("16 of 16 points complete, 15 of them before"));
    assert_eq!((kinds("summary"), kinds("round")), (16, 32), "no round stands there twice");

    // Devices have a codec of their own, and a clock that holds for one thread.
    let devices =
        ["--backend", "software,model", "--devices", "1,4", "--codec", "lz4,vw", "--threads", "1,2"];
    let ran = zfolio(&[&args[..], &devices, &["--rounds", "1", "--window", "8"]].concat());
    assert!(ran.stdout.contains("6 of 6 points complete, 0 of them before"), "{}{}", ran.stdout, ran.stderr);
    let modelled = |line: &Value| line["kind"] == "summary" && line["model"].is_string();
    assert_eq!(json_lines(&json).iter().filter(|line| modelled(line)).count(), 2);

    let ran = zfolio(&[&args[..], &["--rounds", "1", "--window", "1", "--codec", "lz4"]].concat());
    assert!(ran.stdout.contains("1 of 1 point complete, 0 of them before"), "other rounds: {}", ran.stdout);
    fs::write(&json, "not json\n").unwrap();
    let ran = zfolio(&[&args[..], &lists].concat());
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("line 1: no JSON"), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&json).unwrap(), "not json\n", "what is no sweep's is left alone");
}

#[test]
fn perturbed_layouts_are_measured_twice_each_under_seeds_that_can_be_had_again() {
    let (_dir, path) = corpus(200);
    let asked = ["--codec", "lz4", "--rounds", "3", "--perturb", "3", "--seed", "77"];
    let (ran, lines) = bench(&path, &asked);
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let (processes, figures) = (of("perturbed"), of("perturb"));
    assert_eq!((processes.len(), figures.len(), lines.len()), (6, 6, 12));
    for layout in 0..3 {
        let own: Vec<_> = processes.iter().filter(|line| line["layout"] == layout).collect();
        assert_eq!(own.len(), 2, "each layout twice");
        assert_eq!(own[0]["layout_seed"], own[1]["layout_seed"]);
        assert_eq!(own[0]["pinned_cpus"], own[1]["pinned_cpus"], "a layout is a layout");
        assert_eq!(own[0]["repetitions"]["load_cpu_ns_per_page"].as_array().unwrap().len(), 3);
        assert_eq!(own[0]["repetitions"]["store_cpu_ns_per_page"].as_array().unwrap().len(), 2, "warm ones");
    }
    for line in &processes {
        assert_eq!((&line["mismatched_pages"], &line["of"]), (&0.into(), &"summary".into()));
    }
    for line in &figures {
        for name in
            ["difference_between_repetitions", "difference_between_processes", "believable_difference"]
        {
            assert!(line[name].as_f64().unwrap() >= 0.0, "{name} in {line}");
        }
        let chance = line["layout_chance"].as_f64().unwrap();
        assert!(chance > 0.0 && chance <= 1.0, "{line}");
        assert!(line["median"].as_f64().unwrap() > 0.0 && line["cpu_model"].is_string(), "{line}");
    }
    assert!(ran.stdout.contains("seed 77"), "{}", ran.stdout);
    let seeds =
        |lines: &[Value]| lines.iter().filter_map(|line| line["layout_seed"].as_u64()).collect::<Vec<_>>();
    assert_eq!(seeds(&bench(&path, &asked).1), seeds(&lines));
}

#[test]
fn perturbed_comparison_has_a_ratio_in_each_layout() {
    let (_dir, path) = corpus(64);
    let json = path.with_extension("jsonl");
    let args =
        ["bench", "--corpus", path.to_str().unwrap(), "--json", json.to_str().unwrap(), "--perturb", "2"];
    let ran = zfolio(&[&args[..], &["--trials", "2", "--ab", "--codec lz4", "--codec deflate"]].concat());
    assert!(matches!(ran.code, Some(0 | 3)), "{}{}", ran.stdout, ran.stderr);
    let lines = json_lines(&json);
    let processes: Vec<_> = lines.iter().filter(|line| line["kind"] == "perturbed").collect();
    assert_eq!(processes.len(), 4 * 6, "four processes, six figures");
    for line in processes {
        assert_eq!(line["trial_ratios"].as_array().unwrap().len(), 2, "{line}");
        assert_eq!((&line["a_codec"], &line["b_codec"]), (&"lz4".into(), &"deflate".into()));
        assert!(line["kernel"].is_string() && line["corpus_pages"] == 64, "{line}");
    }
    let figures: Vec<_> = lines.iter().filter(|line| line["kind"] == "perturb").collect();
    assert_eq!(figures.len(), 6);
    assert!(figures.iter().all(|line| line["verdict"].is_null()), "two layouts cannot say");
    assert!(ran.stdout.contains("too few layouts to say"), "{}", ran.stdout);
}

/// The results of the process before it were taken for its own.
#[test]
fn process_that_writes_no_results_has_none() {
    let (_dir, path) = corpus(64);
    let json = path.with_extension("jsonl");
    let args =
        ["bench", "--corpus", path.to_str().unwrap(), "--json", json.to_str().unwrap(), "--codec", "lz4"];
    let builds = ["--build", env!("CARGO_BIN_EXE_zfolio"), "--build", "/bin/true"];
    let ran = zfolio(&[&args[..], &["--rounds", "2", "--perturb", "2", "--seed", "1"], &builds].concat());
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("wrote no results"), "{}", ran.stderr);
    assert_eq!(json_lines(&json).len(), 1, "by this seed the other one comes first");
}

#[test]
fn latency_ends_soon_after_ctrl_c_however_few_calls_there_are() {
    let (_dir, path) = corpus(64);
    let json = path.with_extension("jsonl");
    let args = ["bench", "latency", "--corpus", path.to_str().unwrap(), "--json", json.to_str().unwrap()];
    let child = start(&[&args[..], &["--rate", "1", "--threads", "8", "--seconds", "3600"]].concat());
    assert!(wait_until(|| json.exists()));
    signal("INT", child.id());
    let ran = end(child);
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert_eq!(json_lines(&json)[0]["kind"], "latency");
}

#[test]
fn process_that_fails_is_told_of_with_its_seed() {
    let (_dir, path) = corpus(64);
    let args = ["bench", "--corpus", path.to_str().unwrap(), "--perturb", "2", "--build", "/bin/false"];
    let ran = zfolio(&args);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("--layout-seed") && ran.stderr.contains("failed"), "{}", ran.stderr);
}

#[test]
fn phases_of_timed_calls_add_up_and_stand_in_the_records_only_where_they_are_asked_for() {
    let (_dir, path) = corpus(200);
    let (ran, lines) = bench(&path, &["--codec", "lz4", "--rounds", "2", "--phases=1"]);
    let phases = |line: &Value, pass: &str, names: &[&str]| -> f64 {
        names.iter().map(|name| line[format!("{pass}_phase_{name}_ns_per_page")].as_f64().unwrap()).sum()
    };
    for line in lines.iter().filter(|line| line["kind"] == "round") {
        for (pass, names) in [
            ("store", &["claim", "search", "compress", "pool", "publish"][..]),
            ("load_seq", &["look_up", "decompress", "unlock", "no_engine"]),
            ("load", &["look_up", "decompress", "free", "no_engine"]),
        ] {
            let together = line[format!("{pass}_phases_ns_per_page")].as_f64().unwrap();
            let sum = phases(line, pass, names);
            assert!((sum - together).abs() < 0.01 * together, "{pass}: {sum} and {together}");
            // Within the calls as the stopwatch has them, which counts the looks at the clock as well.
            assert!(together <= line[format!("{pass}_wall_ns_per_page")].as_f64().unwrap() * 1.01, "{line}");
            assert_eq!(line[format!("{pass}_timed_pages")], 200, "all of them");
            assert!(line[format!("{pass}_untimed_ns_per_page")].is_null(), "none is left");
        }
        // Two pages of five are same-filled, so the engine never sees them.
        assert!(phases(line, "load", &["no_engine"]) > 0.0);
    }
    assert!(ran.stdout.contains("where a page's time goes, lz4: one call in 1 timed"), "{}", ran.stdout);
    let (ran, lines) = bench(&path, &["--codec", "lz4", "--rounds", "2"]);
    let named = |line: &Value| line.as_object().unwrap().keys().any(|name| name.contains("phase"));
    assert!(!lines.iter().any(named) && !ran.stdout.contains("where a page's time goes"));
}

/// What tells a reader what was measured, with what and on what; the rest is null where the kernel does not tell it.
const FACTS: [&str; 14] = [
    "corpus_sha256",
    "corpus_pages",
    "corpus_origin",
    "version",
    "measured_at",
    "cpu_model",
    "cpus",
    "kernel",
    "memory_bytes",
    "memory_nodes",
    "commit",
    "governor",
    "transparent_huge_pages",
    "addresses_random",
];

#[test]
fn records_of_every_kind_tell_the_machine_the_program_and_the_pages() {
    let (dir, path) = corpus(64);
    let json = dir.path().join("out.jsonl");
    let corpus = path.to_str().unwrap();
    for (kinds, more) in [
        (&["round", "summary"][..], &["--codec", "lz4", "--rounds", "2"][..]),
        (&["ab"], &["--trials", "1", "--ab", "--codec lz4", "--codec vw"]),
        (&["perturbed", "perturb"], &["--codec", "lz4", "--rounds", "2", "--perturb", "2"]),
        (&["engine"], &["engine", "--backend", "software", "--rounds", "1", "--window", "1"]),
        (&["latency"], &["latency", "--rate", "1000", "--seconds", "1"]),
    ] {
        let (part, options) = match more[0] {
            part if part.starts_with("--") => (None, more),
            part => (Some(part), &more[1..]),
        };
        let mut args = vec!["bench"];
        args.extend(part);
        args.extend(["--corpus", corpus, "--json", json.to_str().unwrap()]);
        args.extend(options);
        let ran = zfolio(&args);
        assert!(matches!(ran.code, Some(0 | 3)), "{args:?}: {}", ran.stderr);
        let lines = json_lines(&json);
        for kind in kinds {
            let line = lines.iter().find(|line| line["kind"] == *kind).expect(kind);
            for name in FACTS {
                assert!(line.get(name).is_some(), "{kind} without {name}: {line}");
            }
            for name in &FACTS[..10] {
                assert!(!line[name].is_null(), "{kind}: {name}");
            }
            let counts =
                line.as_object().unwrap().keys().filter(|name| name.ends_with("involuntary_switches"));
            assert!(*kind == "perturb" || counts.count() > 0, "{kind}");
        }
    }
}
