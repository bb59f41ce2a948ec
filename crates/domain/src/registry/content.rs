//! What identifies the bytes of a model version, and where they may lie.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::violation::{Broken, Subject, Violation};
use crate::path::check_relative;

/// One file of a model version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileDigest {
    /// Path within the version.
    pub path: String,
    /// SHA-256, lower-case hex.
    pub sha256: String,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// Digest of a version: `sha256:` and the hash over the lines `<path>\0<sha256>\0<size>\n`, sorted by path.
/// The order of `files` does not matter.
pub fn manifest_digest(files: &[FileDigest]) -> String {
    let mut sorted: Vec<&FileDigest> = files.iter().collect();
    sorted.sort();
    let mut lines = String::new();
    for file in sorted {
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{}\0{}\0{}", file.path, file.sha256, file.size_bytes);
    }
    format!("sha256:{}", hex::encode(Sha256::digest(lines)))
}

/// An artifact path as it is stored: relative, with neither `.` nor empty segments; empty for the root.
/// `./d`, `d/` and `d//.` are ways to write `d`. Paths that would leave the root are refused, also where only
/// another decoding of `%` makes them do so.
pub fn normalise_artifact_path(path: &str) -> Result<String, Violation> {
    if leaves_root(path) || fully_decoded(path).is_none_or(|decoded| leaves_root(&decoded)) {
        return Err(broken(path, Broken::LeavesRoot));
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
    if segments.is_empty() {
        return Ok(String::new());
    }
    let stored = segments.join("/");
    check_relative(&stored).map_err(|why| broken(path, Broken::NoPath { why }))?;
    Ok(stored)
}

/// The path of a file that is to be written, which has one spelling only; several slashes count as one.
pub fn new_artifact_path(path: &str) -> Result<String, Violation> {
    let stored = normalise_artifact_path(path)?;
    let given = path.split('/').enumerate().filter(|(at, part)| *at == 0 || !part.is_empty());
    let given = given.map(|(_, part)| part).collect::<Vec<_>>().join("/");
    if stored == given && !path.ends_with('/') && !stored.is_empty() {
        return Ok(stored);
    }
    Err(broken(path, Broken::ResolvesTo { resolved: stored }))
}

fn broken(path: &str, broken: Broken) -> Violation {
    Violation::new("path", Subject::ArtifactPath, path, broken)
}

fn leaves_root(path: &str) -> bool {
    let drive = path.split_once(":/").is_some_and(|(before, _)| before.len() == 1 || before == "file");
    path.starts_with('/')
        || drive
        || path.contains('\\')
        || path.chars().any(char::is_control)
        || path.split('/').any(|segment| segment == "..")
}

/// Encodings within one another that are decoded. Each takes a pass over the text, and `%252525…` would have
/// as many as it has digits.
const MAX_ENCODINGS: usize = 10;

/// The text once no `%XX` is left in it; `None` where it is encoded more often than anyone does in earnest.
fn fully_decoded(text: &str) -> Option<String> {
    let mut current = text.to_owned();
    for _ in 0..MAX_ENCODINGS {
        let next = decoded(&current);
        if next == current {
            return Some(current);
        }
        current = next;
    }
    None
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
