//! Going on with a file of JSON lines where a run was ended.
//!
//! What is complete in the file stays and is not done again; what was begun and not completed, and a last line that was cut
//! short, are taken out of it.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

/// What makes two measurements the same: if one is there, the other need not be made.
pub(crate) type Key = Vec<String>;

/// The key of an object, of these names.
pub(crate) fn key(line: &Value, names: &[&str]) -> Key {
    names.iter().map(|name| line[*name].to_string()).collect()
}

/// What a file holds complete: the keys, by `names`, of objects that are `whole`. Objects that are `ours` without such a
/// key are removed from it. No file holds nothing.
pub(crate) fn go_on(
    path: &Path,
    names: &[&str],
    ours: impl Fn(&Value) -> bool,
    whole: impl Fn(&Value) -> bool,
) -> io::Result<HashSet<Key>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(error),
    };
    let mut lines = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str::<Value>(line) {
            Ok(value) => lines.push((line, value)),
            // A run that was killed while it wrote.
            Err(_) if !line.ends_with('\n') => {}
            Err(_) if line.trim().is_empty() => {}
            Err(error) => {
                let reason = format!(
                    "line {}: no JSON ({error}); only a file of its own can be gone on with",
                    number + 1
                );
                return Err(io::Error::other(reason));
            }
        }
    }
    let complete = lines.iter().map(|(_, value)| value).filter(|value| whole(value));
    let complete: HashSet<Key> = complete.map(|value| key(value, names)).collect();
    let mut kept = String::with_capacity(text.len());
    for (line, value) in &lines {
        if !ours(value) || complete.contains(&key(value, names)) {
            kept.push_str(line.trim_end_matches('\n'));
            kept.push('\n');
        }
    }
    if kept != text {
        replace(path, &kept)?;
    }
    Ok(complete)
}

/// Replaces a file by another one beside it, so that there is always a whole one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file().set_permissions(fs::metadata(path)?.permissions())?;
    new.persist(path).map_err(|error| error.error)?;
    Ok(())
}
