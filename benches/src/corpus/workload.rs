//! A real workload: what ordinary programs keep in memory, built from the text files of this machine.
//!
//! Words are counted and indexed, documents parsed into JSON trees, records linked by pointers, log lines
//! written, numbers sorted, lists chained; then a third of everything is dropped, so that the heap has the holes
//! and stale bytes of a heap that has lived. The data is the same on every run over the same files (fixed hash
//! keys and seed); addresses, and with them the pointers in it, are not. About 64 to 96 MiB.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::corpus::builtin::{looks_like_text, text_candidates};
use crate::corpus::random::Random;
use crate::interrupt::Interrupt;

/// Text that is read and parsed.
const TEXT_BYTES: usize = 8 << 20;
/// No file gives more than this, so that one dictionary is not the whole text.
const FILE_BYTES: usize = 256 << 10;
const DISTINCT_WORDS: usize = 80_000;
const INDEXED_PLACES: usize = 400_000;
const JSON_TEXT_BYTES: usize = 1 << 20;
const RECORDS: usize = 60_000;
const LOG_BYTES: usize = 6 << 20;
const NUMBERS: usize = 700_000;
const LIST_NODES: usize = 150_000;

type FixedState = BuildHasherDefault<DefaultHasher>;

/// A record as a program would have it: numbers, flags, a name, pointers to others.
#[expect(dead_code, reason = "held in memory, and looked at from outside")]
struct Record {
    id: u64,
    created_at: u64,
    score: f64,
    state: u32,
    flags: u16,
    name: String,
    tags: Vec<u32>,
    payload: Option<Box<[u8; 48]>>,
}

/// A singly linked list of small nodes.
#[expect(dead_code, reason = "held in memory, and looked at from outside")]
struct Node {
    key: u64,
    value: [u32; 3],
    next: Option<Box<Node>>,
}

/// Everything the workload keeps. The fields are the point, not what is done with them.
#[expect(dead_code, reason = "held in memory, and looked at from outside")]
#[expect(clippy::vec_box, reason = "records of a real program are reached by pointers")]
pub(crate) struct Workload {
    texts: Vec<String>,
    words: HashMap<String, u32, FixedState>,
    index: BTreeMap<String, Vec<(u32, u32)>>,
    documents: Vec<Value>,
    records: Vec<Box<Record>>,
    by_score: Vec<*const Record>,
    log: Vec<String>,
    hashes: Vec<u64>,
    lengths: Vec<f64>,
    bitmap: Vec<u8>,
    list: Option<Box<Node>>,
}

impl Workload {
    /// Builds everything, then drops a third of it.
    pub(crate) fn build() -> Self {
        Self::build_from(&read_texts())
    }

    fn build_from(files: &[(PathBuf, String)]) -> Self {
        let mut random = Random::new(1);
        let words = count_words(files);
        let index = index_words(files, &words);
        let documents = documents(files);
        let records = records(&words, &mut random);
        let log = log_lines(files, &mut random);
        let (hashes, lengths) = numbers(files, &mut random);
        let list = chain(&mut random);
        let texts = files.iter().map(|(_, text)| text.clone()).collect();
        let mut workload = Self {
            texts,
            words,
            index,
            documents,
            records,
            by_score: Vec::new(),
            log,
            hashes,
            lengths,
            bitmap: bitmap(&mut random),
            list,
        };
        workload.drop_a_third(&mut random);
        workload.by_score = workload.records.iter().map(|record| std::ptr::from_ref(&**record)).collect();
        workload
    }

    /// Frees about a third of each collection, here and there.
    fn drop_a_third(&mut self, random: &mut Random) {
        let mut keep = |_: &dyn std::any::Any| random.below(3) > 0;
        self.texts.retain(|text| keep(text));
        self.words.retain(|word, _| keep(word));
        self.index.retain(|word, _| keep(word));
        self.documents.retain(|document| keep(document));
        self.records.retain(|record| keep(record));
        self.log.retain(|line| keep(line));
        self.lengths.truncate(self.lengths.len() * 2 / 3);
        self.lengths.shrink_to_fit();
        let mut place = &mut self.list;
        while let Some(node) = place {
            if keep(&node.key) {
                place = &mut place.as_mut().expect("just matched").next;
            } else {
                *place = node.next.take();
            }
        }
    }
}

impl Drop for Workload {
    /// Takes the list apart node by node: a recursive drop of a long list overflows the stack.
    fn drop(&mut self) {
        let mut next = self.list.take();
        while let Some(mut node) = next {
            next = node.next.take();
        }
    }
}

/// Text of this machine: files below /usr/share; where there are none, the printable strings of this program.
fn read_texts() -> Vec<(PathBuf, String)> {
    let mut texts = Vec::new();
    let mut length = 0;
    for (path, _) in text_candidates(Path::new("/usr/share"), &Interrupt::default()).files {
        if length >= TEXT_BYTES {
            break;
        }
        if let Some(text) = read_text(&path) {
            length += text.len();
            texts.push((path, text));
        }
    }
    if length < TEXT_BYTES / 4
        && let Ok(program) = std::env::current_exe()
        && let Ok(bytes) = fs::read(&program)
    {
        for chunk in bytes.chunks(FILE_BYTES) {
            let strings = chunk.split(|byte| !(b' '..=b'~').contains(byte)).filter(|string| string.len() > 3);
            let text = strings.map(|string| String::from_utf8_lossy(string) + "\n").collect();
            texts.push((program.clone(), text));
        }
    }
    texts
}

fn read_text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_BYTES as u64).read_to_end(&mut bytes).ok()?;
    looks_like_text(&bytes).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| (2..40).contains(&word.len()))
}

fn count_words(files: &[(PathBuf, String)]) -> HashMap<String, u32, FixedState> {
    let mut words: HashMap<String, u32, FixedState> = HashMap::default();
    for word in files.iter().flat_map(|(_, text)| words_of(text)) {
        if let Some(count) = words.get_mut(word) {
            *count += 1;
        } else if words.len() < DISTINCT_WORDS {
            words.insert(word.to_owned(), 1);
        }
    }
    words
}

/// Where each of the rarer words stands: file number and word number.
fn index_words(
    files: &[(PathBuf, String)],
    words: &HashMap<String, u32, FixedState>,
) -> BTreeMap<String, Vec<(u32, u32)>> {
    let mut index: BTreeMap<String, Vec<(u32, u32)>> = BTreeMap::new();
    let mut places = 0;
    for (file, (_, text)) in files.iter().enumerate() {
        for (place, word) in words_of(text).enumerate() {
            if places == INDEXED_PLACES {
                return index;
            }
            if words.get(word).is_some_and(|count| *count < 2_000) {
                index.entry(word.to_lowercase()).or_default().push((file as u32, place as u32));
                places += 1;
            }
        }
    }
    index
}

/// Files as trees of values, as a program that has parsed its documents holds them.
fn documents(files: &[(PathBuf, String)]) -> Vec<Value> {
    let mut documents = Vec::new();
    let mut length = 0;
    for (number, (path, text)) in files.iter().enumerate() {
        if length >= JSON_TEXT_BYTES {
            break;
        }
        length += text.len();
        let paragraphs: Vec<Value> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(line, text)| json!({ "line": line, "indent": text.len() - text.trim_start().len(), "text": text.trim() }))
            .collect();
        documents.push(json!({
            "id": number,
            "path": path.to_string_lossy(),
            "size": text.len(),
            "draft": number % 7 == 0,
            "parent": null,
            "mean_line": text.len() as f64 / (paragraphs.len() + 1) as f64,
            "paragraphs": paragraphs,
        }));
    }
    documents
}

#[expect(clippy::vec_box, reason = "as in Workload")]
fn records(words: &HashMap<String, u32, FixedState>, random: &mut Random) -> Vec<Box<Record>> {
    let names: Vec<&String> = words.keys().take(20_000).collect();
    let name = |random: &mut Random| {
        names.get(random.below(names.len().max(1) as u64) as usize).map_or("none", |name| name)
    };
    let record = |number: usize, random: &mut Random| Record {
        id: 1_000_000 + number as u64,
        created_at: 1_700_000_000_000 + number as u64 * 137 + random.below(100),
        score: random.below(10_000) as f64 / 100.0,
        state: random.below(5) as u32,
        flags: 1 << random.below(4),
        name: format!("{}-{}", name(random), name(random)),
        tags: (0..random.below(6)).map(|_| random.below(500) as u32).collect(),
        payload: (random.below(4) == 0)
            .then(|| Box::new(std::array::from_fn(|place| (place * number) as u8))),
    };
    (0..RECORDS).map(|number| Box::new(record(number, random))).collect()
}

fn log_lines(files: &[(PathBuf, String)], random: &mut Random) -> Vec<String> {
    let levels = ["DEBUG", "INFO", "INFO", "INFO", "WARN", "ERROR"];
    let mut log = Vec::new();
    let (mut length, mut milliseconds) = (0, 0);
    while length < LOG_BYTES {
        milliseconds += random.below(50);
        let path = files
            .get(random.below(files.len().max(1) as u64) as usize)
            .map_or(Path::new("/"), |file| &file.0);
        let line = format!(
            "2025-01-17T{:02}:{:02}:{:02}.{:03}Z {:5} worker-{} request={:016x} path={} status={} took={}us",
            milliseconds / 3_600_000 % 24,
            milliseconds / 60_000 % 60,
            milliseconds / 1_000 % 60,
            milliseconds % 1_000,
            levels[random.below(levels.len() as u64) as usize],
            random.below(16),
            random.next(),
            path.display(),
            [200, 200, 200, 304, 404, 500][random.below(6) as usize],
            random.below(90_000),
        );
        length += line.len();
        log.push(line);
    }
    log
}

/// Sorted keys and unsorted measurements.
fn numbers(files: &[(PathBuf, String)], random: &mut Random) -> (Vec<u64>, Vec<f64>) {
    let mut key = 0;
    let mut keys: Vec<u64> = (0..NUMBERS)
        .map(|_| {
            key += random.below(5_000);
            key
        })
        .collect();
    keys.sort_unstable();
    let lines = files.iter().flat_map(|(_, text)| text.lines());
    let mut lengths: Vec<f64> = lines.take(NUMBERS).map(|line| line.len() as f64 * 0.125).collect();
    while lengths.len() < NUMBERS {
        lengths.push((random.below(1_000_000) as f64).sqrt());
    }
    (keys, lengths)
}

fn chain(random: &mut Random) -> Option<Box<Node>> {
    let mut list = None;
    for key in 0..LIST_NODES as u64 {
        let value = [random.below(100) as u32, key as u32, 0];
        list = Some(Box::new(Node { key, value, next: list }));
    }
    list
}

/// A table of bits cleared all at once and used in its first quarter: zero pages, as tables sized for more have.
fn bitmap(random: &mut Random) -> Vec<u8> {
    let mut bitmap = vec![0u8; 4 << 20];
    // Zeroed memory from the allocator is not resident before it is written.
    bitmap.iter_mut().step_by(512).for_each(|byte| *byte = std::hint::black_box(0));
    for _ in 0..bitmap.len() / 64 {
        let place = random.below(bitmap.len() as u64 / 4) as usize;
        bitmap[place] |= 1 << random.below(8);
    }
    bitmap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_everything_is_dropped_and_no_list_overflows_the_stack() {
        let text = "the quick brown fox\njumps over the lazy dog\n".repeat(50);
        let files: Vec<_> =
            (0..300).map(|number| (PathBuf::from(format!("/file/{number}")), text.clone())).collect();
        let workload = Workload::build_from(&files);
        let (mut nodes, mut node) = (0, &workload.list);
        while let Some(next) = node {
            nodes += 1;
            node = &next.next;
        }
        for (kept, of) in
            [(workload.texts.len(), 300), (workload.records.len(), RECORDS), (nodes, LIST_NODES)]
        {
            assert!(kept * 10 > of * 5 && kept * 10 < of * 8, "{kept} of {of}");
        }
    }

    #[test]
    fn without_any_text_it_is_still_a_workload() {
        let workload = Workload::build_from(&[]);
        assert!(workload.words.is_empty());
        assert!(!workload.log.is_empty());
    }
}
