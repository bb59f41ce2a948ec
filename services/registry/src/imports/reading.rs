//! Makes a version of what is at an address.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use slipway_audit::Actor;
use slipway_domain::access::Grants;
use slipway_domain::registry::{FileDigest, manifest_digest};

use super::remote::{Content, MAX_FILES, RemoteArchive, RemoteFile, newest};
use super::stream::Bytestream;
use super::unpack::{Change, Chunks, unpack};
use crate::access::caller::Caller;
use crate::models::versions::create;
use crate::state::Registry;
use crate::store::artifacts::{self, Artifact, within};
use crate::store::imports::{self as table, Import};
use crate::store::model_versions;
use crate::tracking::artifacts as files;

/// How often it is noted how much of the content is stored.
const PROGRESS_MS: u64 = 1_000;
/// Directory of the files of all imports within the artifact proxy.
pub(super) const ROOT: &str = "imports";
/// Tag of a version with the address that it was imported from.
const URI_TAG: &str = "slipway.import_uri";
/// Characters of a fingerprint in a path.
const SHORT: usize = 16;

/// The service itself: what it may read was authorised when the import was begun.
pub(super) fn own_caller() -> Caller {
    Caller { actor: Arc::new(Actor::system()), groups: Arc::default(), grants: Arc::new(Grants::full()) }
}

/// Makes a version of what is at an address, unless the model has one with the same digest.
pub(super) async fn read(registry: &Registry, import: &Import, content: &Content) -> anyhow::Result<i32> {
    let caller = own_caller();
    let digits = content.fingerprint.strip_prefix("sha256:").unwrap_or(&content.fingerprint);
    let short: String = digits.chars().filter(char::is_ascii_alphanumeric).take(SHORT).collect();
    let root = format!("{ROOT}/{}/{short}", import.id.simple());
    let progress = Arc::new(AtomicU64::new(0));
    let target = Target { registry, import, caller: &caller, root: &root, progress: &progress };
    let mut storing = pin!(target.store_all(content));
    loop {
        tokio::select! {
            stored = &mut storing => break stored?,
            () = tokio::time::sleep(Duration::from_millis(PROGRESS_MS)) => {}
        }
        let done_bytes = progress.load(Ordering::Relaxed);
        note_progress(registry, import, done_bytes, content.size_bytes()).await?;
    }
    version_of(registry, import, &root).await
}

/// Makes a version of the files that an import has stored, unless the model has one with the same digest.
pub(super) async fn version_of(registry: &Registry, import: &Import, root: &str) -> anyhow::Result<i32> {
    let mut db = registry.pool.acquire().await?;
    let most = i64::try_from(MAX_FILES).unwrap_or(i64::MAX);
    let stored = artifacts::artifact_tree(&mut db, root, most).await?;
    ensure!(!stored.is_empty(), "there are no files at {}", import.uri);
    let newest = newest(stored.iter().map(|file| within(root, &file.path)));
    let place = newest.map_or_else(|| root.to_owned(), |newest| format!("{root}/{newest}"));
    let digest = digest_of(&stored, &place);
    let known = model_versions::version_of_digest(&mut db, &import.model, &digest).await?;
    drop(db);
    if let Some(version) = known {
        // Another version pins files of its own; these are not needed.
        let _ = files::delete(registry, &own_caller(), root).await;
        return Ok(version);
    }
    let request = create::Request {
        name: import.model.clone(),
        source: format!("mlflow-artifacts:/{place}"),
        run_id: None,
        model_id: None,
        run_link: None,
        description: None,
        tags: vec![(URI_TAG.to_owned(), import.uri.clone())],
        version: None,
    };
    Ok(create::create(registry, &own_caller(), &request).await?.version)
}

/// The digest that a version with the files of a folder has.
fn digest_of(stored: &[Artifact], folder: &str) -> String {
    let inside = format!("{folder}/");
    let inside = stored.iter().filter(|file| file.path.starts_with(&inside));
    let digests: Vec<FileDigest> = inside
        .map(|file| FileDigest {
            path: within(folder, &file.path).to_owned(),
            sha256: file.sha256.clone(),
            size_bytes: file.size_bytes.unsigned_abs(),
        })
        .collect();
    manifest_digest(&digests)
}

async fn note_progress(
    registry: &Registry,
    import: &Import,
    done_bytes: u64,
    total_bytes: u64,
) -> anyhow::Result<()> {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let (done_bytes, total_bytes) = (bytes(done_bytes), bytes(total_bytes));
    let mut change = registry.change().await?;
    table::import_progress(change.db(), import.import_key, done_bytes, total_bytes).await?;
    Ok(change.commit().await?)
}

/// Where the files of an import are stored, and on whose behalf.
struct Target<'read> {
    registry: &'read Registry,
    import: &'read Import,
    caller: &'read Caller,
    root: &'read str,
    /// Bytes that were read.
    progress: &'read Arc<AtomicU64>,
}

impl Target<'_> {
    async fn store_all(&self, content: &Content) -> anyhow::Result<()> {
        for file in &content.files {
            self.store(file).await?;
        }
        let mut unpacked = Unpacked::default();
        for archive in &content.archives {
            Box::pin(self.store_archive(archive, &mut unpacked)).await?;
        }
        let is_image = content.archives.iter().any(|archive| !archive.archive.folder.is_empty());
        let is_empty = content.files.is_empty() && unpacked.files.is_empty();
        ensure!(!(is_image && is_empty), "the image has no files in /models");
        Ok(())
    }

    async fn store(&self, file: &RemoteFile) -> anyhow::Result<()> {
        let about = || format!("{} of {}", file.path, self.import.uri);
        let bytes = self.registry.imports.remote.open(file).await.with_context(about)?;
        let bytes = self.limited(self.counted(bytes));
        self.upload(&file.path, bytes, file.size_bytes).await.with_context(about)
    }

    /// Stores the files of an archive, and removes those that it removes from the archives before it.
    async fn store_archive(&self, remote: &RemoteArchive, unpacked: &mut Unpacked) -> anyhow::Result<()> {
        unpacked.archive += 1;
        let reader = &self.registry.imports.remote;
        let bytes = self.counted(reader.open_archive(remote).await?);
        let rest_bytes = reader.max_bytes.saturating_sub(unpacked.bytes);
        let mut changes = unpack(bytes, &remote.archive, rest_bytes);
        while let Some(change) = changes.recv().await {
            match change.map_err(|problem| anyhow!(problem))? {
                Change::File { path, size_bytes, chunks } => {
                    unpacked.put(&path)?;
                    unpacked.bytes = unpacked.bytes.saturating_add(size_bytes);
                    let about = || format!("{path} of {}", self.import.uri);
                    self.upload(&path, stream_of(chunks), Some(size_bytes)).await.with_context(about)?;
                }
                Change::Removed { path } => self.remove(unpacked.take(&path)).await?,
                Change::Emptied { folder } => self.remove(unpacked.take_within(&folder)).await?,
            }
        }
        Ok(())
    }

    async fn upload(&self, path: &str, bytes: Bytestream, size_bytes: Option<u64>) -> anyhow::Result<()> {
        let path = format!("{}/{path}", self.root);
        Ok(files::upload(self.registry, self.caller.clone(), &path, bytes, size_bytes).await?)
    }

    async fn remove(&self, paths: Vec<String>) -> anyhow::Result<()> {
        for path in paths {
            files::delete(self.registry, self.caller, &format!("{}/{path}", self.root)).await?;
        }
        Ok(())
    }

    fn counted(&self, bytes: Bytestream) -> Bytestream {
        let counted = Arc::clone(self.progress);
        let count = move |chunk: &Result<Bytes, String>| {
            if let Ok(chunk) = chunk {
                counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
        };
        bytes.inspect(count).boxed()
    }

    /// Ends with an error once the import has more bytes than it may have: not every server tells before.
    fn limited(&self, bytes: Bytestream) -> Bytestream {
        let (read, most) = (Arc::clone(self.progress), self.registry.imports.remote.max_bytes);
        let check = move |chunk: Result<Bytes, String>| match read.load(Ordering::Relaxed) > most {
            true => Err(format!("it has more than {most} bytes (SLIPWAY_IMPORT_MAX_BYTES)")),
            false => chunk,
        };
        bytes.map(check).boxed()
    }
}

/// The files that archives have so far.
#[derive(Debug, Default)]
struct Unpacked {
    /// By path, the number of the archive that has it.
    files: BTreeMap<String, usize>,
    /// Number of the current archive.
    archive: usize,
    bytes: u64,
}

impl Unpacked {
    fn put(&mut self, path: &str) -> anyhow::Result<()> {
        self.files.insert(path.to_owned(), self.archive);
        ensure!(self.files.len() <= MAX_FILES, "there are more than {MAX_FILES} files in the archives");
        Ok(())
    }

    /// What archives before the current one have at a path, or below it, which is removed.
    fn take(&mut self, path: &str) -> Vec<String> {
        let below = format!("{path}/");
        self.take_if(|file| file == path || file.starts_with(&below))
    }

    /// What archives before the current one have in a folder; empty: everything.
    fn take_within(&mut self, folder: &str) -> Vec<String> {
        let below = format!("{folder}/");
        self.take_if(|file| folder.is_empty() || file.starts_with(&below))
    }

    fn take_if(&mut self, is_removed: impl Fn(&str) -> bool) -> Vec<String> {
        let current = self.archive;
        let removed = self.files.iter().filter(|(path, archive)| **archive < current && is_removed(path));
        let removed: Vec<String> = removed.map(|(path, _)| path.clone()).collect();
        for path in &removed {
            self.files.remove(path);
        }
        removed
    }
}

fn stream_of(chunks: Chunks) -> Bytestream {
    let next = async |mut chunks: Chunks| chunks.recv().await.map(|chunk| (chunk, chunks));
    let stream: Pin<Box<_>> = Box::pin(stream::unfold(chunks, next));
    stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_removes_what_those_before_it_have() {
        let mut unpacked = Unpacked { archive: 1, ..Unpacked::default() };
        for path in ["a", "b/c", "b/d/e", "b2"] {
            unpacked.put(path).unwrap();
        }
        assert!(unpacked.take("a").is_empty(), "a file of the same archive stays");
        unpacked.archive = 2;
        unpacked.put("b/new").unwrap();
        assert_eq!(unpacked.take("b"), ["b/c", "b/d/e"]);
        assert_eq!(unpacked.take_within("b"), [] as [&str; 0]);
        assert_eq!(unpacked.take_within(""), ["a", "b2"]);
        assert_eq!(unpacked.files.keys().collect::<Vec<_>>(), ["b/new"]);
    }
}
