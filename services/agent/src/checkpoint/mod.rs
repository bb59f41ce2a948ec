//! Checkpoints on their way to the store: the newest complete folder is uploaded while the command goes on, its manifest last,
//! then the launcher commits it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use slipway_artifact_store::ArtifactStore;
use slipway_domain::training::{MANIFEST_SCHEMA, Manifest, ManifestFile};
use slipway_service_kit::clock::now_unix_ms;
use tokio::time::Instant;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::launcher::{CallError, Launcher};
use crate::spool::Spool;

/// The checkpoint folder is looked at this often.
const POLL_INTERVAL_MS: u64 = 200;
const RETRY_DELAY_MS: u64 = 1_000;
/// The last checkpoint must be stored within this time after the command's end.
const FINAL_UPLOAD_TIMEOUT_MS: u64 = 120_000;
const MAX_FILES: usize = 10_000;
const PARALLEL_FILES: usize = 4;
const READ_BYTES: usize = 256 * 1024;
/// Objects of a released checkpoint that one listing deletes.
const MAX_RELEASED_OBJECTS: usize = MAX_FILES + 1;

/// Uploads what appears in one attempt's checkpoint folder.
#[derive(Debug)]
pub(crate) struct Uploader {
    pub(crate) store: ArtifactStore,
    pub(crate) launcher: Launcher,
    pub(crate) spool: Spool,
    pub(crate) folder: PathBuf,
    pub(crate) job_id: String,
    pub(crate) attempt: u32,
    /// Object key prefix of the job's checkpoints.
    pub(crate) prefix: String,
    /// Steps that need no upload: restored, stored, or overtaken.
    pub(crate) done: BTreeSet<u64>,
}

/// Why a checkpoint is not stored.
#[derive(Debug)]
enum Failure {
    /// It may go well later.
    Later(String),
    /// The checkpoint itself is at fault, or gone.
    Never(String),
    /// The attempt has been replaced.
    Fenced,
}

impl Uploader {
    /// Watches until `ended`, then stores what is left.
    ///
    /// # Errors
    /// The newest checkpoint could not be stored: why.
    pub(crate) async fn run(mut self, ended: CancellationToken) -> Result<(), String> {
        let mut failed: Option<String> = None;
        let mut deadline = None;
        loop {
            let ending = ended.is_cancelled();
            if ending && deadline.is_none() {
                deadline = Some(Instant::now() + Duration::from_millis(FINAL_UPLOAD_TIMEOUT_MS));
            }
            let Some((step, folder)) = self.newest().await else {
                if ending {
                    return failed.map_or(Ok(()), Err);
                }
                pause(POLL_INTERVAL_MS, &ended).await;
                continue;
            };
            match self.store_one(step, &folder).await {
                Ok(()) => {
                    self.done.insert(step);
                    failed = None;
                    continue;
                }
                Err(Failure::Fenced) => return Ok(()),
                Err(_) if !is_folder(&folder).await => {
                    // The command has cleaned up behind itself: what it does not keep need not be stored.
                    self.done.insert(step);
                    continue;
                }
                Err(Failure::Never(reason)) => {
                    self.done.insert(step);
                    self.complain(&mut failed, step, reason).await;
                }
                Err(Failure::Later(reason)) => self.complain(&mut failed, step, reason).await,
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return failed.map_or(Ok(()), Err);
            }
            tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)).await;
        }
    }

    async fn complain(&self, failed: &mut Option<String>, step: u64, reason: String) {
        let text = format!("the checkpoint of step {step} could not be stored: {reason}");
        if failed.as_ref() != Some(&text) {
            self.spool.note(&text).await;
        }
        *failed = Some(text);
    }

    /// The complete folder with the highest step, unless that one is done. A complete one has a bare number as its name.
    async fn newest(&self) -> Option<(u64, PathBuf)> {
        let mut entries = tokio::fs::read_dir(&self.folder).await.ok()?;
        let mut newest: Option<(u64, PathBuf)> = None;
        while let Ok(Some(entry)) = entries.next_entry().await {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
            else {
                continue;
            };
            let Ok(step) = name.parse() else { continue };
            let is_folder = entry.file_type().await.is_ok_and(|kind| kind.is_dir());
            if is_folder && newest.as_ref().is_none_or(|(highest, _)| step > *highest) {
                newest = Some((step, entry.path()));
            }
        }
        newest.filter(|(step, _)| !self.done.contains(step))
    }

    async fn store_one(&self, step: u64, folder: &Path) -> Result<(), Failure> {
        let paths = files_of(folder).await?;
        let prefix = format!("{}/{step:012}/{}-{}", self.prefix, self.attempt, Uuid::new_v4());
        let uploads: Vec<_> =
            paths.into_iter().map(|path| self.put_file(&prefix, folder, path).boxed()).collect();
        let files: Vec<ManifestFile> =
            futures::stream::iter(uploads).buffered(PARALLEL_FILES).try_collect().await?;
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA.to_owned(),
            job_id: self.job_id.clone(),
            attempt: self.attempt,
            step,
            prefix,
            files,
            created_at_unix_ms: now_unix_ms(),
        };
        manifest.validate().map_err(|invalid| Failure::Never(invalid.to_string()))?;
        let json = serde_json::to_string(&manifest).map_err(|error| Failure::Never(error.to_string()))?;
        // Last, and only where there is none: from here on the checkpoint is whole.
        self.store
            .put_if_absent(&manifest.key(), json.clone().into_bytes().into())
            .await
            .map_err(|error| Failure::Later(error.to_string()))?;
        let released = match self.launcher.commit_checkpoint(&manifest, json).await {
            Ok(released) => released,
            Err(CallError::Fenced(_)) => return Err(Failure::Fenced),
            Err(error @ CallError::Away(_)) => return Err(Failure::Later(error.to_string())),
            Err(error) => return Err(Failure::Never(error.to_string())),
        };
        tracing::info!(step, files = manifest.files.len(), "a checkpoint is committed");
        for prefix in released {
            self.delete(&prefix).await;
        }
        Ok(())
    }

    async fn put_file(&self, prefix: &str, folder: &Path, path: String) -> Result<ManifestFile, Failure> {
        let gone = |error: std::io::Error| Failure::Never(format!("`{path}`: {error}"));
        let file = tokio::fs::File::open(folder.join(&path)).await.map_err(gone)?;
        let length_bytes = file.metadata().await.map_err(gone)?.len();
        let source = ReaderStream::with_capacity(file, READ_BYTES);
        let stored = self.store.put_stream(&format!("{prefix}/{path}"), source, Some(length_bytes)).await;
        let stored = stored.map_err(|error| Failure::Later(format!("`{path}`: {error}")))?;
        Ok(ManifestFile { path, size_bytes: stored.size_bytes, sha256: stored.sha256 })
    }

    /// Deletes a released checkpoint, manifest first. What stays behind is only bytes: the launcher has forgotten it, and
    /// collects them later.
    async fn delete(&self, prefix: &str) {
        let outcome = async {
            self.store.delete(&format!("{prefix}/MANIFEST.json")).await?;
            for object in self.store.list(&format!("{prefix}/"), MAX_RELEASED_OBJECTS).await? {
                self.store.delete(&object.key).await?;
            }
            Ok::<_, slipway_artifact_store::Error>(())
        };
        if let Err(error) = outcome.await {
            tracing::warn!(%error, %prefix, "a released checkpoint is not deleted yet");
        }
    }
}

/// Relative paths of a folder's files, sorted.
async fn files_of(folder: &Path) -> Result<Vec<String>, Failure> {
    let mut paths = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        let unreadable = |error: std::io::Error| Failure::Never(format!("{}: {error}", current.display()));
        let mut entries = tokio::fs::read_dir(&current).await.map_err(unreadable)?;
        while let Some(entry) = entries.next_entry().await.map_err(unreadable)? {
            let kind = entry.file_type().await.map_err(unreadable)?;
            if kind.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let relative = path.strip_prefix(folder).ok().and_then(Path::to_str).map(str::to_owned);
            let relative =
                relative.ok_or_else(|| Failure::Never(format!("{} is no UTF-8 path", path.display())))?;
            if !kind.is_file() {
                return Err(Failure::Never(format!("`{relative}` is neither a file nor a folder")));
            }
            paths.push(relative);
        }
        if paths.len() > MAX_FILES {
            return Err(Failure::Never(format!("it has more than {MAX_FILES} files")));
        }
    }
    if paths.is_empty() {
        return Err(Failure::Never("it has no files".to_owned()));
    }
    paths.sort();
    Ok(paths)
}

async fn is_folder(path: &Path) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.is_dir())
}

async fn pause(duration_ms: u64, ended: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(duration_ms)) => {}
        () = ended.cancelled() => {}
    }
}
