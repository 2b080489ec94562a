//! The race against peers, as far as an ordinary user's machine can run it, and what becomes of its records.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod support;

use std::fs;

use support::{json_lines, mixed_pages, zfolio};

#[test]
fn race_compares_every_page_and_names_who_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (corpus, json, html) = (path("mixed.pages"), path("race.jsonl"), path("race.html"));
    // Not a multiple of a folio or a chunk.
    fs::write(&corpus, mixed_pages(171)).unwrap();
    let ran = zfolio(&[
        "bench",
        "peers",
        "--corpus",
        &corpus,
        "--rounds",
        "10",
        "--zram",
        "/dev/null",
        "--codec",
        "lz4",
        "--codec",
        "deflate",
        "--json",
        &json,
    ]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("left out  zram: /dev/null is no zram device"), "{}", ran.stdout);
    assert!(ran.stdout.contains("lz4 of zfolio over its peers"), "{}", ran.stdout);

    let lines = json_lines(json.as_ref());
    let rounds = |codec: &str, backend: &str| -> Vec<&serde_json::Value> {
        let of = |line: &&serde_json::Value| {
            line["kind"] == "round" && line["codec"] == codec && line["backend"] == backend
        };
        lines.iter().filter(of).collect()
    };
    for (codec, backend) in [("lz4", "software"), ("deflate", "software"), ("lz4", "codec alone")] {
        let rounds = rounds(codec, backend);
        assert_eq!(rounds.len(), 10, "{codec} of {backend}");
        for round in rounds {
            assert_eq!((&round["mismatched_pages"], &round["pages"]), (&0.into(), &171.into()));
            for pass in ["store", "load_seq", "load"] {
                assert!(round[format!("{pass}_cpu_ns_per_page")].as_f64().unwrap() > 0.0, "{round}");
            }
        }
    }
    let own = rounds("lz4", "software");
    assert!(own[0]["load_batch_cpu_ns_per_page"].as_f64().unwrap() > 0.0);
    assert!(rounds("lz4", "codec alone")[0]["load_batch_cpu_ns_per_page"].is_null());
    // A store of noise takes a page for a page, and metadata; the codec alone takes no metadata.
    let memory = |round: &serde_json::Value| round["memory_bytes_per_page"].as_f64().unwrap();
    assert!(memory(own[0]) > memory(rounds("lz4", "codec alone")[0]));
    let compared = |line: &&serde_json::Value| {
        line["kind"] == "comparison" && line["a"] == "lz4 alone" && line["b"] == "lz4 of zfolio"
    };
    let compared: Vec<_> = lines.iter().filter(compared).collect();
    assert_eq!(compared.len(), 6, "five passes and memory");
    assert!(compared.iter().filter(|line| line["ratio_low"].is_number()).count() >= 5, "{compared:?}");

    let ran = zfolio(&["report", &json, "--out", &html]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let page = fs::read_to_string(&html).unwrap();
    for wanted in ["Beside its peers", "lz4 alone", "how many times as fast deflate of zfolio is"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    let ran = zfolio(&["compare", &json, &json]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("lz4 on codec alone"), "{}", ran.stdout);
}

/// A corpus that was repeated had the memory of all pages divided by those before the first repeats, and a codec alone, asked
/// to choose for each page, took every page as it was.
#[test]
fn codecs_alone_make_as_much_of_repeated_pages_and_of_choosing_for_each() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("mixed.pages");
    let json = dir.path().join("race.jsonl");
    fs::write(&corpus, mixed_pages(170)).unwrap();
    let [corpus, out] = [&corpus, &json].map(|path| path.to_str().unwrap());
    let ratios = [170, 340].map(|pages| {
        let pages = pages.to_string();
        let args = ["bench", "peers", "--corpus", corpus, "--pages", &pages, "--rounds", "1", "--json", out];
        let ran = zfolio(&[&args[..], &["--codec", "lz4", "--codec", "auto"]].concat());
        assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
        let lines = json_lines(&json);
        ["lz4", "auto"].map(|codec| {
            let alone =
                |line: &&serde_json::Value| line["codec"] == codec && line["backend"] == "codec alone";
            lines.iter().find(alone).unwrap()["ratio"].as_f64().unwrap()
        })
    });
    assert_eq!(ratios[0], ratios[1], "twice the same pages");
    let [lz4, auto] = ratios[0];
    assert!(auto > 0.9 * lz4, "{auto} by auto, {lz4} by lz4");
}
