//! The last known tokens and roles on disk, for a service that starts while NATS is unreachable.
//!
//! The file has what the registry published, and so no secrets. It ages like what is in memory.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use slipway_api::access::HEAD_KEY;

use crate::directory::Directory;

/// A copy that is younger is not written again unless the entries have changed, in seconds.
const MAX_COPY_AGE_S: u64 = 60;

/// Where the copy is, and what it holds.
#[derive(Debug)]
pub(crate) struct Copy {
    path: PathBuf,
    digest: String,
    published_ms: u64,
}

impl Copy {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, digest: String::new(), published_ms: 0 }
    }

    /// What the file holds; nothing where there is none, or a damaged one.
    pub(crate) fn read(&self) -> Directory {
        match std::fs::read(&self.path) {
            Ok(bytes) => read(&bytes).unwrap_or_else(|error| {
                tracing::warn!(error, path = %self.path.display(), "copy of tokens and roles ignored");
                Directory::default()
            }),
            Err(_absent) => Directory::default(),
        }
    }

    /// The file's next contents, if it is to be written.
    pub(crate) fn next(&mut self, directory: &Directory) -> Option<(PathBuf, Vec<u8>)> {
        let published_ms = directory.published_at_ms()?;
        let digest = directory.digest();
        let is_young = published_ms.saturating_sub(self.published_ms) < MAX_COPY_AGE_S * 1_000;
        if is_young && self.digest == digest {
            return None;
        }
        (self.digest, self.published_ms) = (digest, published_ms);
        let entries: BTreeMap<&str, std::borrow::Cow<'_, str>> =
            directory.raw().map(|(key, value)| (key, String::from_utf8_lossy(value))).collect();
        serde_json::to_vec(&entries).ok().map(|contents| (self.path.clone(), contents))
    }
}

/// Writes the file as a whole.
pub(crate) fn write(path: &Path, contents: &[u8]) {
    let written = || -> std::io::Result<()> {
        let next = path.with_extension("next");
        let mut file = std::fs::File::create(&next)?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&next, path)
    };
    if let Err(error) = written() {
        tracing::warn!(%error, path = %path.display(), "copy of tokens and roles not written");
    }
}

fn read(bytes: &[u8]) -> Result<Directory, String> {
    let mut entries: BTreeMap<String, String> =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    // Behind the entries that it describes.
    let head = entries.remove(HEAD_KEY).map(|head| (HEAD_KEY.to_owned(), head));
    let mut directory = Directory::default();
    for (key, value) in entries.into_iter().chain(head) {
        directory.apply(&key, Some(value.as_bytes())).map_err(|error| error.to_string())?;
    }
    if directory.is_consistent() { Ok(directory) } else { Err("it was written in part".to_owned()) }
}
