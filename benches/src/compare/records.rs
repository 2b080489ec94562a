//! Rounds read back from JSON lines, by what was measured.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::recorded::{self, RecordError};

/// What a group of rounds has in common. Groups of two files are compared when these are equal or, where each file has
/// one group of a corpus, when the corpus is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    pub(super) corpus: String,
    pub(super) corpus_sha256: String,
    pub(super) pages: u64,
    pub(super) setting: Setting,
}

/// How a corpus was measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Setting {
    pub(super) codec: String,
    pub(super) backend: String,
    pub(super) folio_bytes: u64,
    pub(super) threads: u64,
    pub(super) window: u64,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { codec, backend, folio_bytes, threads, window } = self;
        write!(
            f,
            "{codec} on {backend}, folios of {}K, window {window}, threads {threads}",
            folio_bytes / 1024
        )
    }
}

/// The complete rounds of each subject.
pub(super) type Groups = BTreeMap<Subject, Vec<Value>>;

/// The complete rounds in a file. Objects of other kinds are passed over.
pub(super) fn read(path: &Path) -> Result<Groups, RecordError> {
    let mut groups = Groups::new();
    recorded::each(path, |object| {
        if object["kind"] == "round" && object["complete"] == true {
            let subject = subject(&object).map_err(|name| format!("a round without {name}"))?;
            groups.entry(subject).or_default().push(object);
        }
        Ok(())
    })?;
    if groups.is_empty() {
        let path = path.display();
        return Err(RecordError::Nothing(format!(
            "{path} has no complete round of a bench; zfolio bench --json writes them"
        )));
    }
    Ok(groups)
}

/// What a round measured, or the name it lacks.
fn subject(round: &Value) -> Result<Subject, &'static str> {
    let text = |name: &'static str| round[name].as_str().map(str::to_owned).ok_or(name);
    let number = |name: &'static str| round[name].as_u64().ok_or(name);
    Ok(Subject {
        corpus: text("corpus")?,
        corpus_sha256: text("corpus_sha256")?,
        pages: number("pages")?,
        setting: Setting {
            codec: text("codec")?,
            backend: text("backend")?,
            folio_bytes: number("folio_bytes")?,
            threads: number("threads")?,
            window: number("window")?,
        },
    })
}

/// What has to be the same for two subjects to be compared: the pages themselves.
fn same_pages(a: &Subject, b: &Subject) -> bool {
    (&a.corpus, &a.corpus_sha256, a.pages) == (&b.corpus, &b.corpus_sha256, b.pages)
}

/// Groups of `a` and `b` that are to be compared, and the subjects of either that have nothing to be compared with.
pub(super) fn pair<'g>(a: &'g Groups, b: &'g Groups) -> (Vec<Pair<'g>>, Vec<&'g Subject>) {
    let mut pairs: Vec<Pair<'g>> = Vec::new();
    for (subject, rounds) in a {
        let alone = |groups: &Groups| groups.keys().filter(|other| same_pages(subject, other)).count() == 1;
        let other = b.get_key_value(subject).or_else(|| {
            let mut others = b.iter().filter(|(other, _)| same_pages(subject, other));
            if alone(a) && alone(b) { others.next() } else { None }
        });
        if let Some(other) = other {
            pairs.push(Pair { a: (subject, rounds), b: other });
        }
    }
    let left = |groups: &'g Groups| {
        let taken = |subject: &Subject| pairs.iter().any(|pair| pair.a.0 == subject || pair.b.0 == subject);
        groups.keys().filter(move |subject| !taken(subject)).collect::<Vec<_>>()
    };
    let mut unpaired = left(a);
    unpaired.extend(left(b));
    (pairs, unpaired)
}

/// Two groups of rounds over the same pages.
pub(super) struct Pair<'g> {
    pub(super) a: (&'g Subject, &'g Vec<Value>),
    pub(super) b: (&'g Subject, &'g Vec<Value>),
}
