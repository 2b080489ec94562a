//! Files of JSON lines that were recorded, read line by line: for `compare` and `report`.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Why files cannot be read, or are of no use.
#[derive(Debug)]
#[non_exhaustive]
pub(crate) enum RecordError {
    Open(PathBuf, io::Error),
    Line(PathBuf, usize, String),
    /// They have nothing of what is asked for, in a sentence.
    Nothing(String),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Line(path, line, reason) => write!(f, "{}, line {line}: {reason}", path.display()),
            Self::Nothing(what) => f.write_str(what),
        }
    }
}

/// Hands each object of a file on; what is wrong with one is told with its line.
pub(crate) fn each(
    path: &Path,
    mut object: impl FnMut(Value) -> Result<(), String>,
) -> Result<(), RecordError> {
    let file = File::open(path).map_err(|error| RecordError::Open(path.into(), error))?;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let wrong = |reason: String| RecordError::Line(path.into(), number + 1, reason);
        let line = line.map_err(|error| wrong(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let value = serde_json::from_str(&line).map_err(|error| wrong(format!("no JSON: {error}")))?;
        object(value).map_err(wrong)?;
    }
    Ok(())
}
