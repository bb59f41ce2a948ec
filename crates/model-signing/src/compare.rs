//! The files that were signed against the files that are there.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::bundle::shortened;
use crate::statement::{Predicate, Resource};

/// Maximum number of listed differences.
const MAX_TOLD: usize = 100;

/// A file as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File<'file> {
    /// Relative to the model's folder, with `/`.
    pub path: &'file str,
    /// Lower-case hex.
    pub sha256: &'file str,
    /// Length in bytes.
    pub size_bytes: u64,
}

/// A file that is not what the signer saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its path.
    pub path: String,
    /// In which way.
    pub kind: DifferenceKind,
}

/// In which way a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// It holds other bytes.
    Changed,
    /// It was signed and is not there.
    Missing,
    /// It is there and was not signed.
    Unsigned,
}

/// Number of all differences, of which the first are listed.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    pub(crate) told: Vec<Difference>,
    pub(crate) count: usize,
}

impl Differences {
    fn add(&mut self, path: &str, kind: DifferenceKind) {
        self.count += 1;
        if self.told.len() < MAX_TOLD {
            self.told.push(Difference { path: shortened(path), kind });
        }
    }
}

/// Compares; the reason where the digests that were signed cannot be held against those that are known.
pub(crate) fn compare(
    predicate: &Predicate,
    files: &[File<'_>],
    own_path: Option<&str>,
) -> Result<Differences, String> {
    let form = &predicate.serialization;
    if form.hash_type != "sha256" {
        let found = shortened(&form.hash_type);
        return Err(format!("its digests are {found}; the files are known by SHA-256"));
    }
    let shard_size = match (form.method.as_str(), form.shard_size) {
        ("files", _) => None,
        ("shards", Some(size)) if size >= 1.0 => Some(size as u64),
        ("shards", _) => return Err("it was made over shards of a size that it does not tell".to_owned()),
        (other, _) => {
            return Err(format!("it was made by the method '{}', which is not known here", shortened(other)));
        }
    };
    let algorithm = shard_size.map_or_else(|| "sha256".to_owned(), |size| format!("sha256-sharded-{size}"));
    let mut signed: HashMap<&str, &Resource> = HashMap::with_capacity(predicate.resources.len());
    for resource in &predicate.resources {
        if resource.algorithm != algorithm {
            let (name, found) = (shortened(&resource.name), shortened(&resource.algorithm));
            return Err(format!("the digest of '{name}' is {found}, expected {algorithm}"));
        }
        signed.insert(&resource.name, resource);
    }
    let mut differences = Differences::default();
    for file in files {
        let name = match shard_size {
            None => file.path.to_owned(),
            // An empty file has no shards, so nothing of it is signed.
            Some(_) if file.size_bytes == 0 => continue,
            Some(size) if file.size_bytes > size => {
                return Err(format!(
                    "it was made over shards of {size} bytes, and '{}' has more than one",
                    shortened(file.path)
                ));
            }
            Some(_) => format!("{}:0:{}", file.path, file.size_bytes),
        };
        match signed.remove(name.as_str()) {
            Some(resource) if resource.digest.eq_ignore_ascii_case(file.sha256) => {}
            Some(_) => differences.add(file.path, DifferenceKind::Changed),
            None if own_path == Some(file.path) || is_ignored(&form.ignore_paths, file.path) => {}
            None => differences.add(file.path, DifferenceKind::Unsigned),
        }
    }
    let mut missing: Vec<&str> = signed.into_keys().collect();
    missing.sort_unstable();
    missing.into_iter().for_each(|name| differences.add(name, DifferenceKind::Missing));
    Ok(differences)
}

/// Whether `path` is one of the ignored, or lies in one.
pub(crate) fn is_ignored(ignored: &[impl AsRef<str>], path: &str) -> bool {
    ignored.iter().any(|one| {
        let one = one.as_ref().trim_start_matches("./").trim_end_matches('/');
        match path.strip_prefix(one) {
            Some(rest) => !one.is_empty() && (rest.is_empty() || rest.starts_with('/')),
            None => false,
        }
    })
}
