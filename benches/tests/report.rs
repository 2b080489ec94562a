//! Reports are made of recorded runs and opened in a browser, as a reader does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use support::zfolio;

const BROWSER: &str = "chromium";

/// A round of a made-up sweep.
fn round(corpus: &str, codec: &str, number: u64, setting: (u64, u64, u64)) -> Value {
    let (folio_bytes, threads, window) = setting;
    let speed = 1.0 + codec.len() as f64 / 10.0 + (window as f64).ln() + (number % 4) as f64 / 50.0;
    let mut line = json!({
        "kind": "round", "complete": true, "round": number, "arena": if number == 1 { "cold" } else { "warm" },
        "corpus": corpus, "corpus_sha256": "0123456789abcdef", "corpus_origin": "made up", "corpus_pages": 1000,
        "pages": 1000, "codec": codec, "backend": "software", "backend_report": "software (asked for)",
        "folio_bytes": folio_bytes, "threads": threads, "window": window, "version": "0.1.0", "commit": null,
        "measured_at": "2026-01-02T03:04:05Z", "cpu_model": "Some CPU", "cpus": 2, "kernel": "Linux 6.1",
        "ratio": 2.0 + codec.len() as f64 / 10.0, "memory_bytes_per_page": 1500.0,
        "allocated_over_compressed": 1.02, "metadata_bytes_per_page": 45.0,
        "mismatched_pages": 0, "rejected_pages": 0, "failed_checks": 0,
    });
    for pass in ["store", "load_seq", "load"] {
        line[format!("{pass}_pages_per_s")] = json!(200_000.0 * speed);
        line[format!("{pass}_wall_ns_per_page")] = json!(5_000.0 / speed);
        line[format!("{pass}_cpu_ns_per_page")] = json!(4_900.0 / speed);
        line[format!("{pass}_call_p50_ns")] = json!(6_000.0 / speed);
        line[format!("{pass}_call_p99_ns")] = json!(16_000.0 / speed);
        line[format!("{pass}_call_max_ns")] = json!(900_000);
    }
    line
}

/// Every kind of record, with names that would be markup if they were not escaped.
fn records() -> String {
    let evil = "<img src=http://127.0.0.1:1/x>&\"'";
    let mut lines = Vec::new();
    for corpus in ["memory", evil] {
        for codec in ["lz4", "deflate", "vw"] {
            for window in [1, 4, 16, 64] {
                lines.extend((1..=5).map(|number| round(corpus, codec, number, (65_536, 1, window))));
            }
        }
    }
    let noisy = round("memory", "lz4", 5, (65_536, 1, 1));
    let mut summary = noisy.clone();
    summary["kind"] = json!("summary");
    summary["noise"] = json!(["wall time 1.30 times CPU time (store)"]);
    lines.push(summary);
    for (figure, ratio, verdict) in
        [("store_cpu_ns_per_page", 1.08, "slower"), ("load_cpu_ns_per_page", 1.0, "no difference seen")]
    {
        lines.push(json!({
            "kind": "ab", "corpus": "memory", "a": "", "b": "--window 4 </script><script>alert(1)</script>",
            "figure": figure, "a_median": 5000.0, "b_median": 5000.0 * ratio, "ratio": ratio,
            "ratio_low": ratio - 0.01, "ratio_high": ratio + 0.01, "verdict": verdict,
        }));
    }
    for (window, op) in [(1, "compress"), (1, "decompress"), (8, "compress"), (8, "decompress")] {
        lines.push(json!({
            "kind": "engine", "op": op, "window": window, "ns_per_page": 9000.0 / f64::from(window),
            "corpus": "memory", "backend_report": "model", "effective_window": 1.0, "software_pages": 0,
        }));
    }
    let mut latency = json!({
        "kind": "latency", "corpus": "memory", "codec": "lz4", "backend": "software", "mix_loads_percent": 50,
        "rate_per_s": 50_000, "reached_per_s": 49_990.0, "version": "0.1.0", "measured_at": "2026-01-02T03:04:05Z",
    });
    for (op, base) in [("store", 5_000), ("load", 2_000)] {
        latency[format!("{op}_calls")] = json!(1000);
        for (place, name) in ["p50", "p90", "p99", "p999", "p9999", "max"].iter().enumerate() {
            latency[format!("{op}_{name}_ns")] = json!(base << place);
        }
    }
    lines.push(latency);
    for number in 2..=4 {
        let mut timed = round("memory", "lz4", number, (65_536, 1, 2));
        timed["store_phases_ns_per_page"] = json!(3_000.0);
        timed["store_untimed_ns_per_page"] = json!(3_010.0);
        for (phase, time) in
            [("claim", 30), ("search", 70), ("compress", 2_600), ("pool", 250), ("publish", 50)]
        {
            timed[format!("store_phase_{phase}_ns_per_page")] = json!(time);
        }
        lines.push(timed);
    }
    for (codec, believable) in [("lz4", 0.031), (evil, 0.017)] {
        lines.push(json!({
            "kind": "perturb", "corpus": "memory", "codec": codec, "backend": "software", "of": "layouts", "seed": 7,
            "layouts": 10, "processes_per_layout": 2, "figure": "store_cpu_ns_per_page", "median": 2900.0,
            "difference_between_repetitions": 0.004, "difference_between_processes": 0.003,
            "difference_between_layouts": 0.011, "layout_share": 0.92, "layout_share_low": 0.6,
            "layout_share_high": 0.97, "layout_seen": true, "believable_difference": believable,
        }));
    }
    for (devices, threads, window, loads) in [1, 8].into_iter().flat_map(|devices| {
        let of =
            move |threads| [(devices, threads, 1, 0), (devices, threads, 8, 0), (devices, threads, 8, 50)];
        [1, 16, 112].into_iter().flat_map(of)
    }) {
        for queues in ["dedicated", "shared"] {
            let rate = f64::from((threads * window * 100_000).min(devices * 900_000));
            lines.push(json!({
                "kind": "simulated", "profile": "spr", "queues": queues, "devices": devices, "sockets": 2, "processes": 1,
                "threads": threads, "window": window, "folio_bytes": 65_536, "loads_percent": loads, "pages_per_s": rate,
                "store_call_ns_p50_p99_max": [10_000 * threads, 20_000 * threads, 30_000 * threads],
                "load_ns_p50_p99_max": if loads > 0 { json!([2_000 * threads, 3_000 * threads, 4_000 * threads]) } else { json!(null) },
                "device_busy": 0.5, "threads_waiting": 0.5, "in_flight": 8.0, "refusals_per_page": 0.0, "software_share": 0.0,
                "near_pages_per_s_a_thread": 1000.0, "remote_pages_per_s_a_thread": 800.0,
            }));
        }
    }
    lines.push(json!({ "kind": "something newer", "corpus": 7 }));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn report(dir: &Path, records: &str) -> (PathBuf, String) {
    let (file, out) = (dir.join("run.jsonl"), dir.join("report.html"));
    fs::write(&file, records).unwrap();
    let ran = zfolio(&["report", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let html = fs::read_to_string(&out).unwrap();
    (out, html)
}

#[test]
fn report_holds_what_was_measured_and_asks_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_, html) = report(dir.path(), &records());
    for id in [
        "codecs",
        "settings",
        "engines",
        "density",
        "latency",
        "load",
        "phases",
        "ratios",
        "simulated",
        "layouts",
        "all",
        "runs",
    ] {
        assert!(html.contains(&format!("<section id={id}>")), "{id}");
    }
    for words in [
        "every byte was right",
        "The machine was noisy",
        "Densest on memory: deflate",
        "B (--window 4",
        "slower in store, CPU 1.080",
        "At 50.0 k arrivals a second",
        "Start with window 8 and dedicated queues, on 8 devices of profile spr in 2 sockets",
        "stores 20 % less against one that sits beside it",
        "Some CPU, 2 CPUs",
        "search for same-filled",
        "87 %",
        "92 % [60..97], seen",
        "store, CPU of two single processes may differ by 3.1 %",
    ] {
        assert!(html.contains(words), "{words}");
    }
    // Titles were made one where they followed each other only: of engines that took turns in a file each sentence was told
    // once for every turn.
    assert_eq!(html.matches("<li class=same>compress on memory, model: window 1 takes").count(), 1);
    // Only text may come from a file.
    assert!(!html.contains("<img") && !html.contains("alert(1)</script>"));
    for asked in [" src=", "url(", "@import", "<link rel=stylesheet", "<iframe", "<object", "fetch("] {
        let without = html.replace("&lt;img src=", "");
        assert!(!without.contains(asked), "{asked}");
    }
    assert_eq!(html.matches("href=\"").count(), html.matches("href=\"#").count() + 1, "and the empty icon");
}

/// Such rounds once had a plot of latencies without a line, whose axis went from infinity to infinity.
#[test]
fn rounds_that_tell_no_latencies_have_no_plot_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let lines = [1, 8].into_iter().flat_map(|window| (1..=5).map(move |number| (number, window)));
    let lines = lines.map(|(number, window)| {
        let mut line = round("memory", "lz4", number, (65_536, 1, window));
        line.as_object_mut().unwrap().retain(|name, _| !name.contains("_call_"));
        format!("{line}\n")
    });
    let (_, html) = report(dir.path(), &lines.collect::<String>());
    assert!(html.contains("Store, pages a second") && !html.contains("Store, latency of a call"));
    assert!(!html.contains("NaN"));
}

#[test]
fn broken_lines_are_told_by_file_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broken.jsonl");
    let out = dir.path().join("report.html");
    for (text, words) in [
        ("{\"kind\":\"other\"}\nno json\n", "line 2: no JSON"),
        ("{\"kind\":\"round\",\"complete\":true}\n", "line 1: an object of kind \"round\" without corpus"),
        ("{\"kind\":\"ab\",\"corpus\":\"x\"}\n", "line 1: an object of kind \"ab\" without a"),
        ("{\"kind\":\"simulated\"}\n", "line 1: an object of kind \"simulated\" without profile"),
        ("{\"kind\":\"latency\"}\n", "line 1: an object of kind \"latency\" without corpus"),
        ("{\"kind\":\"other\"}\n", "nothing to report"),
        ("", "nothing to report"),
    ] {
        fs::write(&file, text).unwrap();
        let ran = zfolio(&["report", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        assert_eq!(ran.code, Some(1), "{text}");
        assert!(ran.stderr.contains(words), "{text}: {}", ran.stderr);
        assert!(!out.exists(), "no report of a broken file");
    }
}

#[test]
fn report_of_a_full_sweep_is_below_two_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for corpus in ["memory", "programs", "text"] {
        for codec in ["lz4", "deflate", "vw", "deflate-dynamic"] {
            for folio in [4_096, 16_384, 65_536, 2_097_152] {
                for threads in [1, 2, 4] {
                    for window in [1, 2, 4, 8, 16, 32, 64, 128] {
                        for number in 1..=5 {
                            text += &format!("{}\n", round(corpus, codec, number, (folio, threads, window)));
                        }
                    }
                }
            }
        }
    }
    let (_, html) = report(dir.path(), &text);
    assert!(html.len() < 2_000_000, "{} bytes", html.len());
    assert!(html.contains("Medians of 1152 settings"));
    if Command::new(BROWSER).arg("--version").output().is_err() {
        return println!("not opened: {BROWSER} is not installed");
    }
    // How long it takes is told and not judged: other programs run beside this.
    let probe = "<script>addEventListener('load', () => setTimeout(() => {
        const [page] = performance.getEntriesByType('navigation');
        const shown = performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime);
        document.body.dataset.probe = JSON.stringify({ loaded: page.loadEventEnd, shown: shown[0] ?? null,
            marks: document.querySelectorAll('g.m').length });
    }, 0));</script></body>";
    let (address, _) = serve(html.replace("</body>", probe));
    let probe = probe_of(&browse(&address, "1280,900", &dir.path().join("profile")));
    println!(
        "{} bytes, loaded after {} ms, first seen after {} ms",
        html.len(),
        probe["loaded"],
        probe["shown"]
    );
    assert!(probe["loaded"].as_f64().unwrap() > 0.0 && probe["marks"].as_u64().unwrap() > 300, "{probe}");
}

/// Serves the file, and notes what is asked for.
fn serve(html: String) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/report.html", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = asked.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (notes, html) = (notes.clone(), html.clone());
            // A browser opens connections that it may never use.
            thread::spawn(move || {
                let mut request = String::new();
                let _ = BufReader::new(&stream).read_line(&mut request);
                if let Some(path) = request.split(' ').nth(1) {
                    notes.lock().unwrap().push(path.to_owned());
                    let length = html.len();
                    let _ = write!(
                        stream,
                        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{html}"
                    );
                }
            });
        }
    });
    (address, asked)
}

/// The page as the browser has it when it is loaded, in a window of that size.
fn browse(address: &str, size: &str, profile: &Path) -> String {
    let mut browser = Command::new("timeout");
    browser.args(["60", BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    browser.args([
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
    ]);
    browser.arg(format!("--user-data-dir={}", profile.display())).arg(format!("--window-size={size}"));
    let output = browser.args(["--dump-dom", address]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a script of the test's own left in the page.
fn probe_of(page: &str) -> Value {
    let probe = page.split("data-probe=\"").nth(1).and_then(|rest| rest.split('"').next());
    let probe = probe.expect("the probe ran").replace("&quot;", "\"").replace("&amp;", "&");
    serde_json::from_str(&probe.replace("&lt;", "<").replace("&gt;", ">")).unwrap()
}

#[test]
fn browser_shows_the_plots_and_fetches_nothing_else() {
    if Command::new(BROWSER).arg("--version").output().is_err() {
        println!("skipped: browser_shows_the_plots_and_fetches_nothing_else ({BROWSER} is not installed)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_, html) = report(dir.path(), &records());
    // What the page has come to, told by a script of the test's own.
    let probe = "<script>addEventListener('load', () => {
        const plots = [...document.querySelectorAll('svg.plot')];
        const seen = plots.filter((plot) => plot.getBoundingClientRect().width > 200 && plot.querySelector('g.m'));
        document.body.dataset.probe = JSON.stringify({
            plots: plots.length, seen: seen.length, tables: document.querySelectorAll('table').length,
            fetched: performance.getEntriesByType('resource').map((entry) => entry.name),
            overflow: document.documentElement.scrollWidth - innerWidth,
            tip: (() => {
                const mark = document.querySelector('g.m');
                mark.dispatchEvent(new Event('pointerover', { bubbles: true }));
                return document.getElementById('tip').textContent;
            })(),
        });
    });</script></body>";
    let html = html.replace("</body>", probe);
    let plots = html.matches("<svg class=plot").count();
    assert!(plots > 20, "{plots}");
    let (address, asked) = serve(html);
    for size in ["1280,900", "390,844"] {
        asked.lock().unwrap().clear();
        let page = browse(&address, size, &dir.path().join("profile"));
        let probe = probe_of(&page);
        assert_eq!((&probe["plots"], &probe["seen"]), (&plots.into(), &plots.into()), "{probe}");
        assert_eq!(probe["fetched"], json!([]), "{probe}");
        assert!(probe["overflow"].as_i64().unwrap() <= 0, "nothing is wider than the window: {probe}");
        let tip = probe["tip"].as_str().unwrap();
        assert!(tip.contains(" rounds") && tip.contains('\n'), "{probe}");
        assert_eq!(*asked.lock().unwrap(), ["/report.html"], "nothing else is fetched");
    }
}
