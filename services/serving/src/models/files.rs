//! The files of a version that is read where it lies.

use std::io;
use std::path::{Path, PathBuf};

/// Begins the digest of such a version.
pub(crate) const LOCAL_PREFIX: &str = "local:";
/// Name of the model in a version's folder.
pub(crate) const MODEL_FILE: &str = "model.onnx";
/// Deepest folder of a version whose files are looked at; a link may lead back to where it lies.
const MAX_DEPTH: usize = 8;

/// The files of a version, those of its folders, too.
///
/// # Errors
/// The version's own folder cannot be read.
pub(super) fn files_below(version: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(std::fs::read_dir(version)?, 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in folder {
            let path = entry?.path();
            if !path.is_dir() {
                files.push(path);
            } else if let (true, Ok(below)) = (depth < MAX_DEPTH, std::fs::read_dir(path)) {
                folders.push((below, depth + 1));
            }
        }
    }
    Ok(files)
}
