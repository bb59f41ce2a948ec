//! The disk cache: blobs by SHA-256, manifests by version digest, and the last known traffic tables.
//!
//! ```text
//! blobs/<sha256>              bytes, written under another name and renamed
//! versions/<digest>/manifest.json
//! versions/<digest>/files/…   hard links to blobs, so that external data lies next to its model
//! probes/, loading/           what is known of loading versions, see `probe::store`
//! tables/<deployment>.json    what was routed last: a restart needs neither NATS nor the registry
//! ```
//! Replicas of one node may share it: every file is put in place by a rename, and its name says what is in
//! it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use slipway_api::traffic::TrafficTable;
use slipway_domain::registry::{FileDigest, manifest_digest};
use slipway_runtime::id;

/// A partial file that is older than this is orphaned: its writer has died.
const STALE_PART_S: u64 = 3600;
/// File of all tables, as earlier releases have it.
const ONE_FILE: &str = "tables.json";
/// Bytes read at once while hashing.
const HASH_CHUNK_BYTES: usize = 256 * 1024;

/// The cache directory. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
    /// Notes of loads that this process has in progress.
    pub(super) markers: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// The name of a file, or of a folder, that is still being written. Dropping it removes it, if it is there:
/// nothing half-written stays.
#[derive(Debug)]
pub(crate) struct Part {
    /// Where it is written.
    pub path: PathBuf,
}

impl Drop for Part {
    fn drop(&mut self) {
        // Most have been moved to their place.
        remove(&self.path);
    }
}

/// What a version consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Path of the model, or of the ensemble's definition, within the version.
    pub onnx_path: String,
    /// Every file of the version.
    pub files: Vec<ManifestFile>,
}

/// One file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    /// Path within the version.
    pub path: String,
    /// Length.
    pub size_bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
    /// Object key in the artifact bucket.
    pub blob_key: String,
}

/// What one deployment's routing followed, and what it was about to follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownTables {
    /// The newest table.
    pub wanted: TrafficTable,
    /// The table that requests were routed by.
    pub active: TrafficTable,
}

impl Manifest {
    /// The digest that these files make.
    pub(crate) fn digest(&self) -> String {
        let files: Vec<FileDigest> = self
            .files
            .iter()
            .map(|file| FileDigest {
                path: file.path.clone(),
                sha256: file.sha256.clone(),
                size_bytes: file.size_bytes,
            })
            .collect();
        manifest_digest(&files)
    }

    /// The model and what lies in its folder: external data cannot be anywhere else.
    pub(crate) fn needed(&self) -> impl Iterator<Item = &ManifestFile> {
        let folder = self.onnx_path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.files.iter().filter(move |file| {
            folder.is_empty() || file.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        })
    }
}

impl Cache {
    /// Opens the directory, making it where it does not exist, and removes what a replica left half-written
    /// that was killed.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        for folder in ["blobs", "versions", "part", "probes", "loading", "tables"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let cache = Self { root: root.to_owned(), markers: Arc::default() };
        cache.remove_stale_parts()?;
        cache.trim_probe_records()?;
        cache.divide_tables()?;
        // A folder that is there may still be on a file system that is read only.
        let part = cache.part();
        std::fs::write(&part.path, b"")?;
        Ok(cache)
    }

    fn remove_stale_parts(&self) -> io::Result<()> {
        let limit = Duration::from_secs(STALE_PART_S);
        for entry in std::fs::read_dir(self.root.join("part"))? {
            let entry = entry?;
            // Another replica may have ended it meanwhile.
            let Ok(described) = entry.metadata() else { continue };
            let age = described.modified().ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
            if age > limit {
                tracing::info!(part = %entry.path().display(), "removing partially written files");
                remove(&entry.path());
            }
        }
        Ok(())
    }

    /// Where the blob lies, if it is there.
    pub(crate) fn blob(&self, sha256: &str) -> PathBuf {
        self.root.join("blobs").join(sha256)
    }

    /// A name for a file that is still being written.
    pub(crate) fn part(&self) -> Part {
        Part { path: self.root.join("part").join(id::random().to_string()) }
    }

    /// Whether the blob is there and whole; a damaged one is removed. It reads the file: call it from a
    /// blocking thread.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn verified(&self, sha256: &str) -> io::Result<bool> {
        let path = self.blob(sha256);
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; HASH_CHUNK_BYTES];
        loop {
            match io::Read::read(&mut file, &mut chunk)? {
                0 => break,
                read => hasher.update(&chunk[..read]),
            }
        }
        if hex::encode(hasher.finalize()) == sha256 {
            return Ok(true);
        }
        tracing::warn!(sha256, "cached file damaged; downloading it again");
        std::fs::remove_file(&path)?;
        Ok(false)
    }

    /// The manifest of a digest, if it is known and makes that digest.
    pub(crate) fn manifest(&self, digest: &str) -> Option<Manifest> {
        let manifest: Manifest = read_json(&self.version(digest).join("manifest.json"))?;
        (manifest.digest() == digest).then_some(manifest)
    }

    /// Keeps a manifest.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn keep_manifest(&self, digest: &str, manifest: &Manifest) -> io::Result<()> {
        let folder = self.version(digest);
        std::fs::create_dir_all(&folder)?;
        self.write_json(&folder.join("manifest.json"), manifest)
    }

    /// Lays the version's files out as they were logged and gives the model's path. Every needed blob is
    /// there.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn lay_out(&self, digest: &str, manifest: &Manifest) -> io::Result<PathBuf> {
        let folder = self.version(digest).join("files");
        for file in manifest.needed() {
            let target = folder.join(&file.path);
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent)?;
            }
            // Under another name first: a link over a file that is there fails, and the old one may point at
            // a damaged blob.
            let part = self.part();
            std::fs::hard_link(self.blob(&file.sha256), &part.path)?;
            // Where both are links to one file, rename leaves both names; dropping the part removes the
            // first.
            std::fs::rename(&part.path, &target)?;
        }
        Ok(folder.join(&manifest.onnx_path))
    }

    /// The tables that were kept last, by deployment; none where there are none or they do not parse.
    pub(crate) fn tables(&self) -> BTreeMap<String, KnownTables> {
        let files = std::fs::read_dir(self.root.join("tables")).into_iter().flatten().flatten();
        let known = files.filter_map(|file| read_json::<KnownTables>(&file.path()));
        known.map(|known| (known.wanted.deployment.clone(), known)).collect()
    }

    /// Keeps the tables of a deployment for the next start.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn keep_tables(&self, deployment: &str, tables: &KnownTables) -> io::Result<()> {
        self.write_json(&self.table(deployment), tables)
    }

    /// Forgets the tables of a deployment.
    pub(crate) fn forget_tables(&self, deployment: &str) {
        remove(&self.table(deployment));
    }

    /// Divides the one file of all tables that earlier releases write.
    fn divide_tables(&self) -> io::Result<()> {
        let one_file = self.root.join(ONE_FILE);
        if !one_file.exists() {
            return Ok(());
        }
        let tables: BTreeMap<String, KnownTables> = read_json(&one_file).unwrap_or_default();
        for (deployment, tables) in tables {
            if !self.table(&deployment).exists() {
                self.keep_tables(&deployment, &tables)?;
            }
        }
        remove(&one_file);
        Ok(())
    }

    fn table(&self, deployment: &str) -> PathBuf {
        // It comes from a key of the bucket; what is no name must not become a path.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let name = if !deployment.is_empty() && deployment.bytes().all(plain) {
            deployment.to_owned()
        } else {
            format!("={}", hex::encode(deployment))
        };
        self.root.join("tables").join(format!("{name}.json"))
    }

    /// Folder of the blobs.
    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Folder of what children found out about versions.
    pub(super) fn probes(&self) -> PathBuf {
        self.root.join("probes")
    }

    /// Folder of the notes about loads in progress.
    pub(super) fn loading(&self) -> PathBuf {
        self.root.join("loading")
    }

    /// Folder of the versions.
    pub(super) fn versions(&self) -> PathBuf {
        self.root.join("versions")
    }

    /// Folder of one version.
    pub(super) fn version(&self, digest: &str) -> PathBuf {
        // A digest comes from a table; what is no digest must not become a path.
        let name: String =
            digest.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
        self.root.join("versions").join(name)
    }

    pub(super) fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> io::Result<()> {
        let part = self.part();
        std::fs::write(&part.path, serde_json::to_vec_pretty(value)?)?;
        std::fs::rename(&part.path, path)
    }
}

/// Removes a file, or a folder with all in it, if it is there.
fn remove(path: &Path) {
    if std::fs::remove_file(path).is_err() {
        let _ = std::fs::remove_dir_all(path);
    }
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = std::fs::read(path).ok()?;
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "cached file does not parse"))
        .ok()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
mod tests {
    use super::*;

    fn file(path: &str) -> ManifestFile {
        ManifestFile { path: path.into(), size_bytes: 1, sha256: "00".into(), blob_key: String::new() }
    }

    #[test]
    fn only_the_models_folder_is_needed() {
        let files =
            vec![file("MLmodel"), file("data/model.onnx"), file("data/weights.bin"), file("database.txt")];
        let manifest = Manifest { onnx_path: "data/model.onnx".into(), files };
        let needed: Vec<&str> = manifest.needed().map(|file| file.path.as_str()).collect();
        assert_eq!(needed, ["data/model.onnx", "data/weights.bin"]);
    }

    #[test]
    fn tables_of_an_earlier_release_are_taken_over_and_no_name_leaves_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let known = |deployment: &str, revision| {
            let table = TrafficTable { revision, ..TrafficTable::empty(deployment, "m") };
            KnownTables { wanted: table.clone(), active: table }
        };
        let all: BTreeMap<String, KnownTables> =
            ["a", "b"].into_iter().map(|name| (name.to_owned(), known(name, 1))).collect();
        let cache = Cache::open(folder.path()).unwrap();
        cache.keep_tables("b", &known("b", 2)).unwrap();
        std::fs::write(folder.path().join(ONE_FILE), serde_json::to_vec(&all).unwrap()).unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let revisions: Vec<u64> = cache.tables().values().map(|known| known.wanted.revision).collect();
        assert_eq!(revisions, [1, 2], "what was kept since is newer");
        assert!(!folder.path().join(ONE_FILE).exists());
        for name in ["../../out", "", "a/b", "=61"] {
            cache.keep_tables(name, &known(name, 3)).unwrap();
            assert_eq!(cache.tables().get(name), Some(&known(name, 3)));
            cache.forget_tables(name);
        }
        assert_eq!(cache.tables().len(), 2);
        assert_eq!(std::fs::read_dir(folder.path().join("tables")).unwrap().count(), 2);
    }

    #[test]
    fn a_damaged_blob_is_noticed_and_removed() {
        let folder = std::env::temp_dir().join(id::random().to_string());
        let cache = Cache::open(&folder).unwrap();
        let sha256 = hex::encode(Sha256::digest(b"whole"));
        assert!(!cache.verified(&sha256).unwrap());
        std::fs::write(cache.blob(&sha256), b"whole").unwrap();
        assert!(cache.verified(&sha256).unwrap());
        std::fs::write(cache.blob(&sha256), b"torn").unwrap();
        assert!(!cache.verified(&sha256).unwrap());
        assert!(!cache.blob(&sha256).exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn nothing_half_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let parts = || std::fs::read_dir(folder.path().join("part")).unwrap().count();
        // The place of a manifest is taken, so that it is written, and cannot be moved there.
        let manifest = Manifest { onnx_path: "model.onnx".into(), files: vec![file("model.onnx")] };
        std::fs::create_dir_all(cache.version("digest").join("manifest.json/taken")).unwrap();
        assert!(cache.keep_manifest("digest", &manifest).is_err());
        assert_eq!(parts(), 0);
        // A replica that was killed leaves its part behind; one that writes at this moment must not lose it.
        let (old, new) = (folder.path().join("part/old"), folder.path().join("part/new"));
        for part in [&old, &new] {
            std::fs::write(part, b"half").unwrap();
        }
        let at = std::time::SystemTime::now() - Duration::from_secs(2 * STALE_PART_S);
        std::fs::File::options().write(true).open(&old).unwrap().set_modified(at).unwrap();
        Cache::open(folder.path()).unwrap();
        assert!(!old.exists() && new.exists());
    }
}
