//! Eviction from the disk cache: unreferenced versions, least recently used first.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use super::cache::{Cache, Manifest};

/// A version in the cache that no table names.
struct Unwanted {
    folder: PathBuf,
    used: SystemTime,
}

impl Cache {
    /// Removes versions that are not `wanted` until the blobs take no more than `limit_bytes`; gives what
    /// they take then. It walks the cache: call it from a blocking thread.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn evict(&self, limit_bytes: u64, wanted: &BTreeSet<String>) -> io::Result<u64> {
        let mut held = self.blob_bytes()?;
        if held <= limit_bytes {
            return Ok(held);
        }
        let keep: BTreeSet<PathBuf> = wanted.iter().map(|digest| self.version(digest)).collect();
        let mut unwanted = Vec::new();
        for folder in children(&self.versions())? {
            if !keep.contains(&folder) {
                // The manifest is written again at each load.
                let used = std::fs::metadata(folder.join("manifest.json"))
                    .and_then(|described| described.modified());
                unwanted.push(Unwanted { used: used.unwrap_or(SystemTime::UNIX_EPOCH), folder });
            }
        }
        unwanted.sort_by_key(|version| version.used);
        for version in unwanted {
            if held <= limit_bytes {
                break;
            }
            tracing::info!(version = %version.folder.display(), "eviction from the disk cache failed");
            std::fs::remove_dir_all(&version.folder)?;
            self.remove_orphans()?;
            held = self.blob_bytes()?;
        }
        Ok(held)
    }

    fn blob_bytes(&self) -> io::Result<u64> {
        let sizes =
            children(&self.blobs())?.into_iter().filter_map(|blob| Some(std::fs::metadata(blob).ok()?.len()));
        Ok(sizes.sum())
    }

    /// Removes blobs that no manifest names.
    fn remove_orphans(&self) -> io::Result<()> {
        let mut named: BTreeSet<String> = BTreeSet::new();
        for folder in children(&self.versions())? {
            // One that cannot be read may name anything.
            let Some(manifest) = super::cache::read_json::<Manifest>(&folder.join("manifest.json")) else {
                return Ok(());
            };
            named.extend(manifest.files.into_iter().map(|file| file.sha256));
        }
        for blob in children(&self.blobs())? {
            let name = blob.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| !named.contains(name)) {
                std::fs::remove_file(&blob)?;
            }
        }
        Ok(())
    }
}

fn children(folder: &std::path::Path) -> io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests start tasks, read the clock and make ids of their own")]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::super::cache::ManifestFile;
    use super::*;

    /// A version of one file of 100 bytes.
    fn add(cache: &Cache, byte: u8, age_s: u64) -> String {
        let bytes = vec![byte; 100];
        let sha256 = hex::encode(Sha256::digest(&bytes));
        std::fs::write(cache.blob(&sha256), &bytes).unwrap();
        let file =
            ManifestFile { path: "model.onnx".into(), size_bytes: 100, sha256, blob_key: String::new() };
        let manifest = Manifest { onnx_path: "model.onnx".into(), files: vec![file] };
        let digest = manifest.digest();
        cache.keep_manifest(&digest, &manifest).unwrap();
        cache.lay_out(&digest, &manifest).unwrap();
        let written = cache.version(&digest).join("manifest.json");
        let at = SystemTime::now() - std::time::Duration::from_secs(age_s);
        std::fs::File::options().write(true).open(written).unwrap().set_modified(at).unwrap();
        digest
    }

    #[test]
    fn what_nobody_wants_goes_the_oldest_first_and_no_further_than_needed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let (wanted, old, new) = (add(&cache, 1, 900), add(&cache, 2, 600), add(&cache, 3, 300));
        let keep = BTreeSet::from([wanted.clone()]);
        assert_eq!(cache.evict(250, &keep).unwrap(), 200);
        assert!(cache.manifest(&wanted).is_some() && cache.manifest(&new).is_some());
        assert!(cache.manifest(&old).is_none());
        // What is wanted stays, however small the limit.
        assert_eq!(cache.evict(10, &keep).unwrap(), 100);
        assert!(cache.manifest(&wanted).is_some());
    }
}
