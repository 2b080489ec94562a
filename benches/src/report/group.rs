//! Points that belong into one plot: those of a corpus that differ in one thing.

use std::collections::BTreeMap;

use super::plot::COLOURS;
use super::records::{CorpusName, Point, Records, Setting};

/// A setting and its rounds.
pub(super) type Measured<'r> = (&'r Setting, &'r Point);

/// What lines go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Across {
    Window,
    Threads,
    Folio,
}

impl Across {
    pub(super) const ALL: [Self; 3] = [Self::Window, Self::Threads, Self::Folio];

    pub(super) fn of(self, setting: &Setting) -> u64 {
        match self {
            Self::Window => setting.window,
            Self::Threads => setting.threads,
            Self::Folio => setting.folio_bytes,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Threads => "threads",
            Self::Folio => "folio size",
        }
    }

    /// The same above a column.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Window => "Window",
            Self::Threads => "Threads",
            Self::Folio => "Folio size",
        }
    }

    pub(super) fn told(self, value: u64) -> String {
        if self == Self::Folio { folio(value) } else { value.to_string() }
    }

    /// The two other things.
    fn rest(self, setting: &Setting) -> [u64; 2] {
        let Setting { folio_bytes, threads, window, .. } = *setting;
        match self {
            Self::Window => [folio_bytes, threads],
            Self::Threads => [folio_bytes, window],
            Self::Folio => [threads, window],
        }
    }
}

/// Each value once, in the order of their first places: records of one thing need not stand together.
pub(super) fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

/// `64K`, `2M`.
pub(super) fn folio(bytes: u64) -> String {
    let kib = bytes / 1024;
    if kib < 1024 { format!("{kib}K") } else { format!("{}M", kib / 1024) }
}

/// `folios of 64K, window 8, 1 thread`.
pub(super) fn told(setting: &Setting) -> String {
    format!(
        "folios of {}, window {}, {}",
        folio(setting.folio_bytes),
        setting.window,
        crate::quantity::plural(setting.threads, "thread")
    )
}

/// All points of a corpus.
pub(super) fn of_corpus<'r>(records: &'r Records, corpus: &CorpusName) -> Vec<Measured<'r>> {
    records.points.iter().filter(|(setting, _)| setting.corpus == *corpus).collect()
}

/// The points of the setting that most were measured with: there codecs can be compared.
pub(super) fn codecs<'r>(points: &[Measured<'r>]) -> Vec<Measured<'r>> {
    let key = |setting: &Setting| (setting.threads, setting.folio_bytes, setting.window);
    most(points, |setting| Some(key(setting)))
}

/// The points that differ in `across` alone, beside codec, backend and run; none if nothing does.
pub(super) fn across<'r>(points: &[Measured<'r>], across: Across) -> Vec<Measured<'r>> {
    let values = |rest: [u64; 2]| {
        let of = points.iter().filter(|(setting, _)| across.rest(setting) == rest);
        let mut values: Vec<u64> = of.map(|(setting, _)| across.of(setting)).collect();
        values.sort_unstable();
        values.dedup();
        values.len()
    };
    most(points, |setting| {
        let rest = across.rest(setting);
        (values(rest) > 1).then_some(rest)
    })
}

/// The points of the most frequent key; of the least one where several are.
fn most<'r, K: Ord + Copy>(
    points: &[Measured<'r>],
    key: impl Fn(&Setting) -> Option<K>,
) -> Vec<Measured<'r>> {
    let mut groups: BTreeMap<K, Vec<Measured<'r>>> = BTreeMap::new();
    for &point in points {
        if let Some(key) = key(point.0) {
            groups.entry(key).or_default().push(point);
        }
    }
    groups.into_values().rev().max_by_key(Vec::len).unwrap_or_default()
}

/// The names of points within a group: the codec, and what else tells them apart.
pub(super) struct Names {
    backends: bool,
    runs: bool,
}

impl Names {
    pub(super) fn of(points: &[Measured<'_>]) -> Self {
        let differ =
            |of: &dyn Fn(&Setting) -> String| points.windows(2).any(|pair| of(pair[0].0) != of(pair[1].0));
        Self { backends: differ(&|s| s.backend.clone()), runs: differ(&|s| s.run.to_string()) }
    }

    pub(super) fn name(&self, records: &Records, setting: &Setting) -> String {
        let mut name = setting.codec.clone();
        if self.backends {
            name += &format!(" on {}", setting.backend);
        }
        if self.runs {
            name += &format!(" ({}: {})", setting.run + 1, records.runs[setting.run].file);
        }
        name
    }
}

/// The names of a group with a colour each, in the order of the codecs people know.
pub(super) fn colours(names: impl IntoIterator<Item = String>) -> Vec<(String, usize)> {
    let mut names: Vec<String> = names.into_iter().collect();
    let known = ["lz4", "deflate", "vw", "deflate-dynamic", "vw-fast", "vw-dense"];
    names.sort_by_key(|name| {
        (known.iter().position(|known| known == name).unwrap_or(known.len()), name.clone())
    });
    names.dedup();
    // A codec keeps its colour in all plots where names are codecs alone.
    let alone = names.iter().all(|name| known.contains(&name.as_str()));
    let colour = |(place, name): (usize, String)| {
        let colour = if alone { known.iter().position(|known| *known == name) } else { None };
        (name, colour.unwrap_or(place) % COLOURS)
    };
    names.into_iter().enumerate().map(colour).collect()
}
