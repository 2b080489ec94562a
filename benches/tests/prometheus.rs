//! `zfolio bench --prometheus`, read by the rules of Prometheus' text format.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;

use support::{mixed_pages, zfolio};

type Labels = BTreeMap<String, String>;

/// The samples of a text, by name and labels. Panics if the text breaks a rule of the format.
fn parse(text: &str) -> HashMap<(String, Labels), f64> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    let (mut samples, mut done, mut helped) = (HashMap::new(), HashSet::new(), HashSet::new());
    // The figure that lines are of now, and its type.
    let mut family: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# HELP ") {
            let (name, help) = comment.split_once(' ').expect(line);
            assert!(is_name(name, true) && !help.is_empty(), "{line}");
            assert!(helped.insert(name), "HELP again: {line}");
            assert!(!done.contains(name), "lines of one figure are apart: {line}");
            done.extend(family.take().map(|(name, _)| name));
        } else if let Some(comment) = line.strip_prefix("# TYPE ") {
            let (name, kind) = comment.split_once(' ').expect(line);
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(
                helped.contains(name) && family.is_none(),
                "TYPE after HELP and before all samples: {line}"
            );
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            family = Some((name, kind));
        } else {
            let (name, labels, value) = sample(line);
            assert_eq!(Some(&*name), family.map(|(name, _)| name), "no TYPE before {line}");
            let value: f64 = value.parse().expect(line);
            assert!(value >= 0.0 && value.fract() == 0.0, "{line}");
            assert_eq!(samples.insert((name, labels), value), None, "twice: {line}");
        }
    }
    samples
}

fn is_name(name: &str, colons: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    name.chars().all(fits) && name.chars().next().is_some_and(|c| !c.is_ascii_digit())
}

/// Name, labels with their escapes undone, and value of a line.
fn sample(line: &str) -> (String, Labels, &str) {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name, true), "{line}");
    let mut labels = Labels::new();
    while rest.starts_with(['{', ',']) {
        let (label, value) = rest[1..].split_once("=\"").expect(line);
        assert!(is_name(label, false) && !label.starts_with("__"), "{line}");
        let (mut text, mut chars) = (String::new(), value.char_indices());
        let end = loop {
            match chars.next().expect(line) {
                (at, '"') => break at + 1,
                (_, '\\') => text.push(match chars.next().expect(line).1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("\\{c} is no escape: {line}"),
                }),
                (_, c) => text.push(c),
            }
        };
        assert_eq!(labels.insert(label.to_owned(), text), None, "a label twice: {line}");
        rest = &value[end..];
    }
    let rest = if labels.is_empty() { rest } else { rest.strip_prefix('}').expect(line) };
    (name.to_owned(), labels, rest.strip_prefix(' ').expect(line))
}

#[test]
fn figures_of_every_store_by_node_and_tenant_are_written_in_the_text_format() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join(r#"odd "na\me".pages"#);
    fs::write(&corpus, mixed_pages(300)).unwrap();
    let file = dir.path().join("zfolio.prom");
    let args =
        ["--corpus", corpus.to_str().unwrap(), "--prometheus", file.to_str().unwrap(), "--rounds", "2"];
    let ran = zfolio(&[&["bench"], &args[..]].concat());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let samples = parse(&fs::read_to_string(&file).unwrap());
    for codec in ["lz4", "deflate", "vw"] {
        let store = [("corpus", r#"odd "na\me".pages"#), ("codec", codec)];
        let sum = |name: &str, more: &[&str]| -> f64 {
            let is_of = |labels: &Labels| {
                let given =
                    store.iter().all(|(name, value)| labels.get(*name).map(String::as_str) == Some(*value));
                given && labels.len() == 2 + more.len() && more.iter().all(|name| labels.contains_key(*name))
            };
            let of: Vec<f64> = samples
                .iter()
                .filter(|((other, labels), _)| other == &format!("zfolio_{name}") && is_of(labels))
                .map(|(_, value)| *value)
                .collect();
            assert!(!of.is_empty(), "no {name} of {codec}");
            of.iter().sum()
        };
        assert_eq!(
            (sum("stored_pages", &[]), sum("zswpout_total", &[])),
            (300.0, 600.0),
            "while it was full"
        );
        // Read twice, loaded once.
        assert_eq!(sum("zswpin_total", &[]), 900.0);
        for (name, kind) in
            [("zswpout", "node"), ("zswpin", "node"), ("zswpout", "tenant"), ("zswpin", "tenant")]
        {
            let parts = sum(&format!("{kind}_{name}_total"), &[kind]);
            assert_eq!(
                parts + sum(&format!("{name}_same_filled_total"), &[]),
                sum(&format!("{name}_total"), &[])
            );
        }
        assert_eq!(sum("node_object_bytes", &["node"]), sum("object_bytes", &[]));
        assert_eq!(sum("tenant_node_object_bytes", &["tenant", "node"]), sum("object_bytes", &[]));
        assert_eq!(sum("fallbacks_total", &["cause"]), 0.0);
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "what was written beside the file is gone: {left:?}");
}

/// Corpora were told apart by their files' names: of two with one name in two folders the second took the first's place.
#[test]
fn corpora_of_one_file_name_are_told_apart_by_their_paths() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zfolio.prom");
    let corpora = [("java", 64), ("redis", 96)].map(|(folder, pages)| {
        let corpus = dir.path().join(folder).join("app.pages");
        fs::create_dir(corpus.parent().unwrap()).unwrap();
        fs::write(&corpus, mixed_pages(pages)).unwrap();
        (corpus.to_str().unwrap().to_owned(), pages as f64)
    });
    let [(java, _), (redis, _)] = &corpora;
    let args =
        ["bench", "--corpus", java, "--corpus", redis, "--codec", "lz4", "--rounds", "1", "--prometheus"];
    let ran = zfolio(&[&args[..], &[file.to_str().unwrap()]].concat());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let samples = parse(&fs::read_to_string(&file).unwrap());
    for (corpus, pages) in corpora {
        let labels = Labels::from([("corpus".to_owned(), corpus), ("codec".to_owned(), "lz4".to_owned())]);
        assert_eq!(samples.get(&("zfolio_stored_pages".to_owned(), labels)), Some(&pages));
    }
}

#[test]
fn file_that_cannot_be_written_is_told_before_anything_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("test.pages");
    fs::write(&corpus, mixed_pages(64)).unwrap();
    for file in ["none/zfolio.prom", ".."] {
        let file = dir.path().join(file);
        let args = ["bench", "--corpus", corpus.to_str().unwrap(), "--prometheus", file.to_str().unwrap()];
        let ran = zfolio(&args);
        assert_eq!((ran.code, &*ran.stdout), (Some(1), ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("cannot be written"), "{}", ran.stderr);
    }
}

#[test]
#[should_panic(expected = "twice")]
fn parser_finds_a_sample_that_is_there_twice() {
    parse("# HELP a b\n# TYPE a gauge\na{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\n");
}

#[test]
#[should_panic(expected = "is no escape")]
fn parser_finds_a_label_that_is_not_escaped() {
    parse("# HELP a b\n# TYPE a gauge\na{x=\"c:\\dir\"} 1\n");
}
