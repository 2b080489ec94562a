//! What the report is made of, read back from JSON lines.
//!
//! Rounds are what counts: medians and intervals are made from them here, so that runs of any version are treated alike.
//! Objects of unknown kinds are passed over; a line that is no JSON, or that lacks what its kind must have, is an error.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::recorded::{self, RecordError};
use crate::simulate::point::{KIND as SIMULATED, Point as Simulated};
use crate::statistics::Sample;

/// How a corpus was measured, and in which run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Setting {
    pub(super) corpus: CorpusName,
    pub(super) codec: String,
    pub(super) backend: String,
    pub(super) folio_bytes: u64,
    pub(super) threads: u64,
    pub(super) window: u64,
    /// Its place among [`Records::runs`].
    pub(super) run: usize,
}

/// Pages of this name and content, so many of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CorpusName {
    pub(super) name: String,
    pub(super) sha256: String,
    pub(super) pages: u64,
}

/// The rounds of a setting.
#[derive(Debug, Default)]
pub(super) struct Point {
    /// By name; those of a first fill begin with `store_cold`.
    values: BTreeMap<String, Vec<f64>>,
    pub(super) rounds: usize,
    pub(super) mismatched: u64,
    pub(super) rejected: u64,
    /// What spoke for a noisy machine.
    pub(super) noise: Vec<String>,
}

impl Point {
    pub(super) fn sample(&self, name: &str) -> Option<Sample> {
        Sample::new(self.values.get(name)?.clone())
    }

    pub(super) fn median(&self, name: &str) -> Option<f64> {
        self.sample(name).map(|sample| sample.median())
    }

    pub(super) fn worst(&self, name: &str) -> Option<f64> {
        self.sample(name).map(|sample| sample.range().1)
    }
}

/// A run of a program on a machine, as far as the records tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) file: String,
    pub(super) program: String,
    pub(super) machine: String,
    pub(super) settings: String,
    pub(super) measured: (String, String),
    pub(super) backends: Vec<String>,
}

/// What a corpus is.
#[derive(Debug)]
pub(super) struct CorpusFacts {
    pub(super) origin: String,
    pub(super) pages: u64,
    pub(super) zero: u64,
    pub(super) same_filled: u64,
    pub(super) duplicates: u64,
}

/// The time of B over that of A.
#[derive(Debug)]
pub(super) struct Ratio {
    pub(super) corpus: String,
    pub(super) a: String,
    pub(super) b: String,
    pub(super) figure: String,
    pub(super) medians: (f64, f64),
    pub(super) ratio: f64,
    pub(super) interval: Option<(f64, f64)>,
    pub(super) verdict: Option<String>,
    /// Wall times of a busy machine do not count.
    pub(super) busy: bool,
}

/// An engine alone with one window.
#[derive(Debug)]
pub(super) struct Engine {
    /// Corpus, operation, engine: what has to be the same in one plot.
    pub(super) title: String,
    pub(super) window: u64,
    pub(super) ns_per_page: [f64; 3],
    pub(super) effective_window: Option<f64>,
    pub(super) software_pages: u64,
}

/// A figure in many layouts.
#[derive(Debug)]
pub(super) struct Layouts {
    /// What was measured, and in how many layouts.
    pub(super) title: String,
    pub(super) figure: String,
    pub(super) median: Option<f64>,
    /// By what part two of a kind typically differ.
    pub(super) repetitions: Option<f64>,
    pub(super) processes: Option<f64>,
    pub(super) different: Option<f64>,
    /// The layout's share with its interval, and whether it is more than chance.
    pub(super) share: Option<[f64; 3]>,
    pub(super) seen: bool,
    pub(super) believable: Option<f64>,
    /// B / A, and its interval.
    pub(super) ratio: Option<(f64, Option<(f64, f64)>)>,
}

/// Latencies under a load that arrives by the clock.
#[derive(Debug)]
pub(super) struct UnderLoad {
    pub(super) title: String,
    pub(super) rate: f64,
    pub(super) reached: f64,
    /// Stores and loads: calls, then nanoseconds by [`PERCENTILES`].
    pub(super) calls: [(String, u64, Vec<f64>); 2],
}

/// Their names in the records, and how they are written.
pub(super) const PERCENTILES: [(&str, &str); 6] = [
    ("p50_ns", "50"),
    ("p90_ns", "90"),
    ("p99_ns", "99"),
    ("p999_ns", "99.9"),
    ("p9999_ns", "99.99"),
    ("max_ns", "max"),
];

/// Everything from all files.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) runs: Vec<Run>,
    pub(super) corpora: BTreeMap<CorpusName, CorpusFacts>,
    pub(super) points: BTreeMap<Setting, Point>,
    pub(super) ratios: Vec<Ratio>,
    pub(super) engines: Vec<Engine>,
    pub(super) under_load: Vec<UnderLoad>,
    pub(super) simulated: Vec<Simulated>,
    pub(super) layouts: Vec<Layouts>,
    /// The store and its peers in one race, and its time and memory over theirs.
    pub(super) raced: BTreeMap<Setting, Point>,
    pub(super) races: Vec<Ratio>,
    /// Rounds that Ctrl-C cut short.
    pub(super) incomplete: usize,
    pub(super) passed_over: usize,
}

/// The figures that the report shows, by the pass they are of, and those of memory.
const OF_PASS: [&str; 8] = [
    "pages_per_s",
    "wall_ns_per_page",
    "cpu_ns_per_page",
    "call_p50_ns",
    "call_p99_ns",
    "call_max_ns",
    "involuntary_switches",
    "major_faults",
];
const OF_MEMORY: [&str; 4] =
    ["ratio", "allocated_over_compressed", "metadata_bytes_per_page", "memory_bytes_per_page"];

impl Records {
    /// Reads all files.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, RecordError> {
        let mut records = Self::default();
        for path in paths {
            records.read_file(path)?;
        }
        let nothing = records.points.is_empty() && records.ratios.is_empty();
        let nothing = nothing && records.layouts.is_empty() && records.raced.is_empty();
        let nothing = nothing && records.simulated.is_empty();
        if nothing && records.engines.is_empty() && records.under_load.is_empty() {
            let what = "nothing to report: no complete round, comparison, latency, engine, layout or simulation in these files; \
                        zfolio bench --json writes rounds";
            return Err(RecordError::Nothing(what.to_owned()));
        }
        Ok(records)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), RecordError> {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        recorded::each(path, |object| self.add(&name, &Object(&object)))
    }

    fn add(&mut self, file: &str, object: &Object<'_>) -> Result<(), String> {
        match object.0["kind"].as_str() {
            Some("round") if object.0["complete"] == true => self.add_round(file, object)?,
            Some("round") => self.incomplete += 1,
            Some("summary") => {
                // Its rounds stand before it; one without any has nothing that could be noisy.
                let setting = self.setting(file, object)?;
                if let (Some(point), Some(noise)) =
                    (self.points.get_mut(&setting), object.0["noise"].as_array())
                {
                    point.noise.extend(noise.iter().filter_map(Value::as_str).map(str::to_owned));
                }
            }
            Some("comparison") if object.is_race() => self.races.push(ratio(object)?),
            Some("ab" | "comparison") => self.ratios.push(ratio(object)?),
            Some("perturb") => self.layouts.push(layouts(object)?),
            // The processes of which those are made.
            Some("perturbed") => {}
            Some("engine") => self.engines.push(engine(object)?),
            Some(SIMULATED) => self.simulated.push(Simulated::read(object.0)?),
            Some("latency") => {
                self.run(file, object);
                self.under_load.push(under_load(object)?);
            }
            _ => self.passed_over += 1,
        }
        Ok(())
    }

    fn add_round(&mut self, file: &str, round: &Object<'_>) -> Result<(), String> {
        let setting = self.setting(file, round)?;
        let corpus = setting.corpus.clone();
        self.corpora.entry(corpus).or_insert_with(|| CorpusFacts {
            origin: round.words("corpus_origin"),
            pages: round.count("corpus_pages"),
            zero: round.count("corpus_zero_pages"),
            same_filled: round.count("corpus_same_filled_nonzero_pages"),
            duplicates: round.count("corpus_duplicate_pages"),
        });
        let points = if round.is_race() { &mut self.raced } else { &mut self.points };
        let point = points.entry(setting).or_default();
        point.rounds += 1;
        point.mismatched += round.count("mismatched_pages") + round.count("failed_checks");
        point.rejected += round.count("rejected_pages");
        let mut keep = |to: String, from: &str| {
            if let Some(value) = round.0[from].as_f64() {
                point.values.entry(to).or_default().push(value);
            }
        };
        for pass in ["store", "load_seq", "load", "store_64k", "load_batch"] {
            // A first fill of fresh memory is another thing than a fill of memory that is there.
            let cold = pass == "store" && round.0["arena"] == "cold";
            for name in OF_PASS {
                let to = if cold { format!("store_cold_{name}") } else { format!("{pass}_{name}") };
                keep(to, &format!("{pass}_{name}"));
            }
            // Those of a bench that timed phases.
            let names = round.0.as_object().into_iter().flat_map(|object| object.keys());
            let of_pass =
                |name: &&String| name.strip_prefix(pass).is_some_and(|rest| rest.starts_with("_phase"));
            for name in names.filter(of_pass).filter(|_| !cold) {
                keep(name.clone(), name);
            }
            keep(format!("{pass}_untimed_ns_per_page"), &format!("{pass}_untimed_ns_per_page"));
        }
        OF_MEMORY.iter().for_each(|name| keep((*name).to_owned(), name));
        Ok(())
    }

    fn setting(&mut self, file: &str, object: &Object<'_>) -> Result<Setting, String> {
        Ok(Setting {
            corpus: CorpusName {
                name: object.text("corpus")?,
                sha256: object.text("corpus_sha256")?,
                pages: object.number("pages")?,
            },
            codec: object.text("codec")?,
            // Modelled devices of other kinds are other devices; how their clock runs is told with the run.
            backend: match object.0["model"].as_str() {
                Some(model) => format!("model: {}", model.split(';').next().unwrap_or_default()),
                None => object.text("backend")?,
            },
            folio_bytes: object.number("folio_bytes")?,
            threads: object.number("threads")?,
            window: object.number("window")?,
            run: self.run(file, object),
        })
    }

    /// The place of the run that this object is of.
    fn run(&mut self, file: &str, object: &Object<'_>) -> usize {
        let commit = object.0["commit"].as_str().map(|commit| format!(" ({commit})")).unwrap_or_default();
        let mut settings = vec![object.words("kernel")];
        for (name, title) in [("governor", "governor"), ("transparent_huge_pages", "huge pages")] {
            settings.extend(object.0[name].as_str().map(|value| format!("{title} {value}")));
        }
        if object.0["pinned_cpus"].is_array() {
            settings.push("threads pinned".to_owned());
        }
        let measured = object.words("measured_at");
        let run = Run {
            file: file.to_owned(),
            program: format!("zfolio {}{commit}", object.words("version")),
            machine: match object.0["cpus"].as_u64() {
                Some(cpus) => {
                    format!("{}, {}", object.words("cpu_model"), crate::quantity::plural(cpus, "CPU"))
                }
                None => object.words("cpu_model"),
            },
            settings: settings.join(", "),
            measured: (measured.clone(), measured.clone()),
            backends: Vec::new(),
        };
        let same = |other: &Run| {
            (&other.file, &other.program, &other.machine, &other.settings)
                == (&run.file, &run.program, &run.machine, &run.settings)
        };
        let place = self.runs.iter().position(same).unwrap_or_else(|| {
            self.runs.push(run);
            self.runs.len() - 1
        });
        let run = &mut self.runs[place];
        if measured < run.measured.0 {
            run.measured.0 = measured;
        } else if measured > run.measured.1 {
            run.measured.1 = measured;
        }
        let mut backend = object.words("backend_report");
        if let Some(model) = object.0["model"].as_str() {
            backend += &format!(" ({model})");
        }
        if !backend.is_empty() && !run.backends.contains(&backend) {
            run.backends.push(backend);
        }
        place
    }
}

fn ratio(object: &Object<'_>) -> Result<Ratio, String> {
    let interval = object.0["ratio_low"].as_f64().zip(object.0["ratio_high"].as_f64());
    Ok(Ratio {
        corpus: object.text("corpus")?,
        a: object.text("a")?,
        b: object.text("b")?,
        figure: object.text("figure")?,
        medians: (object.real("a_median")?, object.real("b_median")?),
        ratio: object.real("ratio")?,
        interval: interval.filter(|(low, high)| *low > 0.0 && high >= low),
        verdict: object.0["verdict"].as_str().map(str::to_owned),
        busy: object.0["busy_wall_over_cpu"].is_number(),
    })
}

fn layouts(object: &Object<'_>) -> Result<Layouts, String> {
    let number = |name: &str| object.0[name].as_f64();
    let what = match object.0["codec"].as_str() {
        Some(codec) => format!("{codec} on {}", object.words("backend")),
        None => format!("A: {}, B: {}", object.words("a"), object.words("b")),
    };
    let share = [number("layout_share"), number("layout_share_low"), number("layout_share_high")];
    Ok(Layouts {
        title: format!(
            "{}, {what}: {} {}, {} each, seed {}",
            object.text("corpus")?,
            object.number("layouts")?,
            object.words("of"),
            crate::quantity::plural(object.count("processes_per_layout"), "process"),
            object.count("seed"),
        ),
        figure: object.text("figure")?,
        median: number("median").filter(|_| object.0["b_median"].is_null()),
        repetitions: number("difference_between_repetitions"),
        processes: number("difference_between_processes"),
        different: number("difference_between_layouts"),
        share: if let [Some(share), Some(low), Some(high)] = share { Some([share, low, high]) } else { None },
        seen: object.0["layout_seen"] == true,
        believable: number("believable_difference"),
        ratio: number("ratio").map(|ratio| (ratio, number("ratio_low").zip(number("ratio_high")))),
    })
}

fn engine(object: &Object<'_>) -> Result<Engine, String> {
    let report = object.words("backend_report");
    let engine = object.0["model"].as_str().map_or(report, |model| format!("model: {model}"));
    let median = object.real("ns_per_page")?;
    let end = |name| object.0[name].as_f64().unwrap_or(median);
    Ok(Engine {
        title: format!("{} on {}, {}", object.text("op")?, object.text("corpus")?, engine),
        window: object.number("window")?,
        ns_per_page: [end("ns_per_page_min"), median, end("ns_per_page_max")],
        effective_window: object.0["effective_window"].as_f64(),
        software_pages: object.count("software_pages"),
    })
}

fn under_load(object: &Object<'_>) -> Result<UnderLoad, String> {
    let calls = |op: &str| {
        let times = PERCENTILES.iter().filter_map(|(name, _)| object.0[format!("{op}_{name}")].as_f64());
        (op.to_owned(), object.count(&format!("{op}_calls")), times.collect())
    };
    Ok(UnderLoad {
        title: format!(
            "{}, {} on {}, {} % loads",
            object.text("corpus")?,
            object.text("codec")?,
            object.text("backend")?,
            object.count("mix_loads_percent")
        ),
        rate: object.real("rate_per_s")?,
        reached: object.real("reached_per_s")?,
        calls: [calls("store"), calls("load")],
    })
}

/// An object of a line; what it lacks is told by name.
struct Object<'v>(&'v Value);

impl Object<'_> {
    fn lacks(&self, name: &str) -> String {
        format!("an object of kind {} without {name}", self.0["kind"])
    }

    fn text(&self, name: &str) -> Result<String, String> {
        self.0[name].as_str().map(str::to_owned).ok_or_else(|| self.lacks(name))
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        self.0[name].as_u64().ok_or_else(|| self.lacks(name))
    }

    /// A number above zero: times and ratios are.
    fn real(&self, name: &str) -> Result<f64, String> {
        self.0[name].as_f64().filter(|value| *value > 0.0).ok_or_else(|| self.lacks(name))
    }

    /// Text that need not be there.
    fn words(&self, name: &str) -> String {
        self.0[name].as_str().unwrap_or_default().to_owned()
    }

    /// Of the store and its peers.
    fn is_race(&self) -> bool {
        self.0["race"] == "peers"
    }

    /// A count that is zero where it is not told.
    fn count(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or(0)
    }
}
