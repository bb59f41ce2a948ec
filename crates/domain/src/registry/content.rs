//! What identifies the bytes of a model version, and where they may lie.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::{Invalid, path::check_relative};

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

/// Digest of a version: `sha256:` and the hash over the lines `<path>\0<sha256>\0<size>\n`, sorted by path. The order of `files`
/// does not matter.
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

/// An artifact path as it is stored: relative, without a trailing slash; empty for the root. Paths that would leave the root, and
/// such that name the same place in two ways, are refused.
pub fn normalise_artifact_path(path: &str) -> Result<String, Invalid> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(String::new());
    }
    check_relative(trimmed).map_err(|why| Invalid::new("path", format!("Invalid path: {why}")))?;
    Ok(trimmed.to_owned())
}
