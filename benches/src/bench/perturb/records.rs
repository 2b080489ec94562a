//! What the processes measured, figure by figure, from the JSON lines that each wrote.

use serde_json::{Map, Value, json};

use crate::statistics::Sample;
use crate::variance::Process;

/// The figures that are looked at: times a page.
pub(super) const FIGURES: [&str; 6] = [
    "store_wall_ns_per_page",
    "store_cpu_ns_per_page",
    "load_seq_wall_ns_per_page",
    "load_seq_cpu_ns_per_page",
    "load_wall_ns_per_page",
    "load_cpu_ns_per_page",
];

/// Facts of a line that are facts of what all processes found, too.
const FACTS: [&str; 29] = [
    "corpus",
    "corpus_sha256",
    "corpus_pages",
    "corpus_origin",
    "pages",
    "codec",
    "backend",
    "backend_report",
    "model",
    "folio_bytes",
    "threads",
    "window",
    "rounds",
    "library_versions",
    "a",
    "b",
    "a_codec",
    "b_codec",
    "version",
    "commit",
    "measured_at",
    "cpu_model",
    "cpus",
    "kernel",
    "memory_bytes",
    "memory_nodes",
    "governor",
    "transparent_huge_pages",
    "addresses_random",
];

/// Which process it was.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) layout: usize,
    pub(super) process: usize,
    pub(super) seed: u64,
    /// The file name of its program, where layouts are builds.
    pub(super) build: Option<String>,
}

/// A figure of one subject, as all processes measured it.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) figure: String,
    /// Logarithms of times a page, or of B's time over A's.
    pub(super) processes: Vec<Process>,
    /// Medians of A and of B, a value a process; of times alone only A's.
    pub(super) a: Vec<f64>,
    pub(super) b: Vec<f64>,
    /// Processes that met others on their CPUs.
    pub(super) busy: usize,
}

/// What is measured on a corpus: a codec, or two sides.
#[derive(Debug)]
pub(super) struct Subject {
    /// Corpus and codec, or corpus and sides.
    pub(super) key: [String; 4],
    pub(super) facts: Map<String, Value>,
    pub(super) series: Vec<Series>,
    /// What spoke for a noisy machine, by process.
    pub(super) noise: Vec<String>,
    pub(super) processes: usize,
}

/// All that was measured so far.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) subjects: Vec<Subject>,
    /// Processes that were measured to their end.
    pub(super) processes: usize,
    /// Processes whose addresses were the kernel's choice all the same.
    pub(super) random_addresses: usize,
}

impl Records {
    /// Takes the lines of a process in, and gives those to be kept of it.
    pub(super) fn add(&mut self, origin: &Origin, lines: &str) -> Result<Vec<Value>, String> {
        let parsed: Result<Vec<Value>, _> = lines.lines().map(serde_json::from_str).collect();
        let lines = parsed.map_err(|error| format!("a process wrote what is no JSON: {error}"))?;
        let mut kept = Vec::new();
        for line in &lines {
            match line["kind"].as_str() {
                Some("summary") => kept.push(self.add_summary(origin, line, &lines)),
                Some("ab") => kept.push(self.add_ab(origin, line)),
                _ => {}
            }
        }
        if kept.is_empty() {
            return Err(format!("the process with --layout-seed {} measured nothing", origin.seed));
        }
        self.processes += 1;
        self.random_addresses += usize::from(lines[0]["addresses_random"] != false);
        Ok(kept)
    }

    fn subject(&mut self, line: &Value, names: [&str; 4]) -> &mut Subject {
        let key = names.map(|name| line[name].as_str().unwrap_or_default().to_owned());
        let place = self.subjects.iter().position(|subject| subject.key == key).unwrap_or_else(|| {
            let facts = FACTS.iter().filter_map(|name| Some(((*name).to_owned(), line.get(*name)?.clone())));
            let (facts, series, noise) = (facts.collect(), Vec::new(), Vec::new());
            self.subjects.push(Subject { key, facts, series, noise, processes: 0 });
            self.subjects.len() - 1
        });
        &mut self.subjects[place]
    }

    /// A codec's figures; their repetitions are in the lines of its rounds.
    fn add_summary(&mut self, origin: &Origin, summary: &Value, lines: &[Value]) -> Value {
        let same = |line: &&Value| {
            line["kind"] == "round" && line["complete"] == true && line["corpus"] == summary["corpus"]
        };
        let rounds: Vec<&Value> =
            lines.iter().filter(same).filter(|line| line["codec"] == summary["codec"]).collect();
        let subject = self.subject(summary, ["corpus", "corpus_sha256", "codec", "backend"]);
        subject.processes += 1;
        let noise = summary["noise"].as_array().into_iter().flatten().filter_map(Value::as_str);
        subject.noise.extend(noise.map(str::to_owned));
        let busy = summary["noise"].to_string().contains("wall time");
        let mut repetitions = Map::new();
        for figure in FIGURES {
            let of = |wanted: &dyn Fn(&Value) -> bool| -> Vec<f64> {
                rounds
                    .iter()
                    .filter(|round| wanted(round))
                    .filter_map(|round| round[figure].as_f64())
                    .collect()
            };
            let mut values = of(&|round| !figure.starts_with("store") || round["arena"] != "cold");
            if values.is_empty() {
                values = of(&|_| true);
            }
            repetitions.insert(figure.to_owned(), json!(values));
            let Some(sample) = Sample::new(values.clone()) else { continue };
            let series = subject.series(figure);
            series.a.push(sample.median());
            series.busy += usize::from(busy && figure.contains("wall"));
            series.add(origin, &values);
        }
        let mut line = perturbed(origin, summary);
        line["repetitions"] = repetitions.into();
        line
    }

    fn add_ab(&mut self, origin: &Origin, ab: &Value) -> Value {
        let subject = self.subject(ab, ["corpus", "corpus_sha256", "a", "b"]);
        let ratios: Vec<f64> =
            ab["trial_ratios"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        let figure = ab["figure"].as_str().unwrap_or_default();
        if figure == FIGURES[0] {
            subject.processes += 1;
            let noise = ab["noise"].as_array().into_iter().flatten().filter_map(Value::as_str);
            subject.noise.extend(noise.map(str::to_owned));
        }
        let series = subject.series(figure);
        if !ratios.is_empty() {
            series.a.extend(ab["a_median"].as_f64());
            series.b.extend(ab["b_median"].as_f64());
            series.busy += usize::from(ab["busy_wall_over_cpu"].is_number());
            series.add(origin, &ratios);
        }
        perturbed(origin, ab)
    }
}

impl Subject {
    fn series(&mut self, figure: &str) -> &mut Series {
        let place = self.series.iter().position(|series| series.figure == figure).unwrap_or_else(|| {
            let (processes, a, b) = (Vec::new(), Vec::new(), Vec::new());
            self.series.push(Series { figure: figure.to_owned(), processes, a, b, busy: 0 });
            self.series.len() - 1
        });
        &mut self.series[place]
    }
}

impl Series {
    fn add(&mut self, origin: &Origin, values: &[f64]) {
        let repetitions = values.iter().map(|value| value.ln()).collect();
        self.processes.push(Process { layout: origin.layout, repetitions });
    }
}

/// A process's line, under a kind that nobody takes for a run of its own.
fn perturbed(origin: &Origin, line: &Value) -> Value {
    let mut line = line.clone();
    line["of"] = line["kind"].take();
    line["kind"] = json!("perturbed");
    line["layout"] = json!(origin.layout);
    line["process"] = json!(origin.process);
    line["layout_seed"] = json!(origin.seed);
    line["build"] = json!(origin.build);
    line
}
