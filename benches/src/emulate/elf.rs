//! Which program a command is, and whether a library can be loaded into it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::printable;

const PT_INTERP: u32 = 3;
const SET_ID: u32 = 0o6000;
/// Interpreters of interpreters, as many as the kernel follows.
const SCRIPTS: usize = 4;

/// The program that executing `command` executes: through PATH if it names no directory.
pub(super) fn find(command: &OsStr) -> Result<PathBuf, String> {
    if command.as_bytes().contains(&b'/') {
        return Ok(command.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let executable = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&path)
        .map(|dir| dir.join(command))
        .find(executable)
        .ok_or_else(|| format!("{}: not found", printable(&command.to_string_lossy())))
}

/// Whether the program at `path`, or the interpreter that it names as a script, can be emulated under; the error says
/// why not.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let mut path = path.to_owned();
    for _ in 0..=SCRIPTS {
        match check_one(&path)? {
            Some(interpreter) => path = interpreter,
            None => return Ok(()),
        }
    }
    // Executing it will fail, and say so.
    Ok(())
}

/// The interpreter of a script, which is to be checked next.
fn check_one(path: &Path) -> Result<Option<PathBuf>, String> {
    let shown = printable(&path.display().to_string());
    let failed = |error: std::io::Error| format!("{shown}: {error}");
    let facts = fs::metadata(path).map_err(failed)?;
    if facts.permissions().mode() & SET_ID != 0 {
        return Err(format!(
            "{shown} runs with another user's or group's rights (setuid, setgid): the system loads no libraries of \
             ours into it; run a copy of it, or emulate below it (sudo zfolio emulate ...)"
        ));
    }
    // What cannot be read may still be executed; then nothing is known.
    let Ok(file) = File::open(path) else { return Ok(None) };
    let mut start = Vec::new();
    (&file).take(256).read_to_end(&mut start).map_err(failed)?;
    if let Some(line) = start.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
        return Ok(words.next().map(|word| PathBuf::from(OsStr::from_bytes(word))));
    }
    match is_dynamic(&start, |offset, into| file.read_exact_at(into, offset).is_ok()) {
        Some(false) => Err(format!(
            "{shown} is statically linked: no library can be loaded into it; link it dynamically, or use --fuse"
        )),
        _ => Ok(None),
    }
}

/// Whether a 64-bit little-endian ELF program that starts with `start` names an interpreter, which loads libraries.
/// `None` if it is something else.
fn is_dynamic(start: &[u8], read: impl Fn(u64, &mut [u8]) -> bool) -> Option<bool> {
    if !start.starts_with(b"\x7fELF\x02\x01") || start.len() < 64 {
        return None;
    }
    let half = |at: usize| u16::from_le_bytes([start[at], start[at + 1]]);
    let headers = u64::from_le_bytes(start[0x20..0x28].try_into().ok()?);
    let (size, count) = (half(0x36), half(0x38));
    for number in 0..u64::from(count) {
        let mut kind = [0; 4];
        let at = headers.checked_add(number * u64::from(size))?;
        if !read(at, &mut kind) {
            return None;
        }
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with program headers of these kinds.
    fn elf(kinds: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x20] = 64;
        file[0x36] = 56;
        file[0x38] = kinds.len() as u8;
        for kind in kinds {
            file.extend(kind.to_le_bytes());
            file.extend([0; 52]);
        }
        file
    }

    fn judge(name: &str, contents: &[u8], mode: u32) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        check(&path)
    }

    #[test]
    fn static_programs_are_told_apart() {
        assert_eq!(judge("dynamic", &elf(&[6, 3, 1]), 0o755), Ok(()));
        let message = judge("static", &elf(&[1, 1]), 0o755).unwrap_err();
        assert!(message.contains("statically linked"), "{message}");
        for hostile in [&elf(&[1])[..66], b"\x7fELF\x02\x01", b"", b"text", &[0xff; 300]] {
            assert_eq!(judge("hostile", hostile, 0o755), Ok(()), "left to the kernel to refuse");
        }
        let mut far = elf(&[1]);
        far[0x20..0x28].fill(0xff);
        assert_eq!(judge("far", &far, 0o755), Ok(()));
    }

    #[test]
    fn programs_with_other_rights_are_refused() {
        for mode in [0o4755, 0o2755] {
            let message = judge("privileged", &elf(&[3]), mode).unwrap_err();
            assert!(message.contains("setuid"), "{message}");
        }
    }

    #[test]
    fn scripts_are_judged_by_their_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let interpreter = dir.path().join("interpreter");
        fs::write(&interpreter, elf(&[1])).unwrap();
        let script = format!("#! {} -x\necho\n", interpreter.display());
        assert!(judge("script", script.as_bytes(), 0o755).unwrap_err().contains("statically linked"));
        assert_eq!(judge("shell", b"#!/bin/sh\n", 0o755), Ok(()));
        assert!(judge("missing", b"#!/no/such\n", 0o755).is_err());
        let own = dir.path().join("own");
        fs::write(&own, format!("#!{}\n", own.display())).unwrap();
        assert_eq!(check(&own), Ok(()), "a script that interprets itself ends");
    }

    #[test]
    fn commands_are_found_in_path() {
        assert!(find(OsStr::new("sh")).unwrap().ends_with("sh"));
        assert!(find(OsStr::new("no-such-command-of-any-kind")).is_err());
        assert_eq!(find(OsStr::new("./here")), Ok(PathBuf::from("./here")));
    }
}
