//! Puts the newest whole checkpoint where the command looks for it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use slipway_domain::training::{Manifest, ManifestFile};
use tokio::fs;
use tokio::time::Instant;

use crate::launcher::CallError;
use crate::objects::{Error, FILES_OF_A_CALL, Objects, PARALLEL_FILES};
use crate::spool::Spool;
use crate::workspace::remove_tree;

/// The store may be unreachable for this long before the attempt is given up.
const STORE_TIMEOUT_MS: u64 = 120_000;
const RETRY_DELAY_MS: u64 = 1_000;
/// Name of the folder in the checkpoint folder that takes what is not restored as a whole yet.
const UNFINISHED: &str = ".slipway-restore.tmp";

/// A checkpoint that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restored {
    pub(crate) step: u64,
    /// Object key prefix of the checkpoint.
    pub(crate) prefix: String,
    /// Its entries in the checkpoint folder.
    entries: Vec<String>,
    /// What a command resumes from, where that is one file or folder.
    pub(crate) path: Option<PathBuf>,
}

/// Restores into `folder` from the first of `manifests` (newest first) whose every file is there and right,
/// with `limit` of those whose prefix is no later than it.
/// Its entries appear under their names once all of it is there. Answers with what was restored; `None` where
/// there is no checkpoint.
///
/// # Errors
/// The store stays away, or the disk refuses.
pub(crate) async fn newest(
    objects: &Objects,
    manifests: &[String],
    limit: Option<&str>,
    folder: &Path,
    spool: &Spool,
) -> anyhow::Result<Option<Restored>> {
    for json in manifests {
        let Some(manifest) = parse(json) else {
            spool.note("a checkpoint's manifest cannot be read; trying the one before").await;
            continue;
        };
        if limit.is_some_and(|limit| manifest.prefix.as_str() > limit) {
            continue;
        }
        match one(objects, &manifest, folder).await {
            Ok(()) => {
                spool.note(&format!("restored the checkpoint of step {}", manifest.step)).await;
                let name = manifest.step_folder().or_else(|| manifest.resume_from.clone());
                return Ok(Some(Restored {
                    step: manifest.step,
                    entries: manifest.entries(),
                    path: name.map(|name| folder.join(name)),
                    prefix: manifest.prefix,
                }));
            }
            Err(error @ (Error::Digest { .. } | Error::NotFound { .. })) => {
                let step = manifest.step;
                spool
                    .note(&format!(
                        "the checkpoint of step {step} is damaged: {error}; trying the one before"
                    ))
                    .await;
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("the checkpoint of step {} cannot be restored", manifest.step));
            }
        }
    }
    Ok(None)
}

/// Removes what was restored.
///
/// # Errors
/// The disk refuses.
pub(crate) async fn remove(restored: &Restored, folder: &Path) -> std::io::Result<()> {
    for entry in &restored.entries {
        remove_tree(&folder.join(entry)).await?;
    }
    Ok(())
}

fn parse(json: &str) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_str(json).ok()?;
    manifest.validate().ok()?;
    Some(manifest)
}

async fn one(objects: &Objects, manifest: &Manifest, folder: &Path) -> Result<(), Error> {
    let part = folder.join(UNFINISHED);
    let deadline = Instant::now() + Duration::from_millis(STORE_TIMEOUT_MS);
    remove_tree(&part).await?;
    let top = match manifest.step_folder() {
        Some(name) => part.join(name),
        None => part.clone(),
    };
    if let Err(error) = fill(objects, manifest, &top, deadline).await {
        // Best effort: the name says that it is not whole.
        let _ = remove_tree(&part).await;
        return Err(error);
    }
    for entry in manifest.entries() {
        let target = folder.join(&entry);
        // One of the job's own files may lie there; the checkpoint goes before it.
        remove_tree(&target).await?;
        fs::rename(part.join(&entry), target).await?;
    }
    // After the renaming: a folder that may not be written to cannot be moved. Inner ones first.
    for entry in manifest.folders.iter().rev() {
        fs::set_permissions(folder.join(&entry.path), Permissions::from_mode(entry.mode)).await?;
    }
    Ok(remove_tree(&part).await?)
}

/// Downloads the files, then makes the links: nothing is ever written through one.
async fn fill(objects: &Objects, manifest: &Manifest, top: &Path, deadline: Instant) -> Result<(), Error> {
    for entry in &manifest.folders {
        fs::create_dir_all(top.join(&entry.path)).await?;
    }
    // Files of one upload stand together.
    let mut stored: Vec<&ManifestFile> = manifest.files.iter().collect();
    stored.sort_by_key(|file| file.part);
    let uploads = stored.chunk_by(|left, right| left.part == right.part);
    for files in uploads.flat_map(|files| files.chunks(FILES_OF_A_CALL)) {
        let prefix = files.first().map_or("", |file| manifest.prefix_of(file));
        let mut urls = until(deadline, || objects.sign_downloads(prefix, files)).await?;
        urls.resize(files.len(), String::new());
        let fetched: Vec<_> = files
            .iter()
            .zip(urls)
            .map(|(file, url)| fetch(objects, prefix, file, url, top, deadline).boxed())
            .collect();
        let () = futures::stream::iter(fetched).buffer_unordered(PARALLEL_FILES).try_collect().await?;
    }
    for link in &manifest.links {
        let path = top.join(&link.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await?;
        }
        fs::symlink(&link.target, path).await?;
    }
    Ok(())
}

/// Downloads a file into a folder, and tries again until it succeeds, fails for good, or the time is over.
async fn fetch(
    objects: &Objects,
    prefix: &str,
    file: &ManifestFile,
    url: String,
    folder: &Path,
    deadline: Instant,
) -> Result<(), Error> {
    let target = folder.join(&file.path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).await?;
    }
    if let Err(error) = objects.get_file(prefix, &url, file, &target).await {
        if !is_transient(&error) {
            return Err(error);
        }
        tracing::warn!(%error, "download of a checkpoint file failed; retrying");
        tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)).await;
        until(deadline, || again(objects, prefix, file, &target)).await?;
    }
    if let Some(mode) = file.mode {
        fs::set_permissions(&target, Permissions::from_mode(mode)).await?;
    }
    Ok(())
}

/// Downloads a file under a URL of its own: the one before may have expired.
async fn again(objects: &Objects, prefix: &str, file: &ManifestFile, target: &Path) -> Result<(), Error> {
    let urls = objects.sign_downloads(prefix, &[file]).await?;
    objects.get_file(prefix, urls.first().map_or("", String::as_str), file, target).await
}

/// Tries until it succeeds, fails for good, or the time is over.
async fn until<T, F>(deadline: Instant, work: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match work().await {
            Err(error) if is_transient(&error) && Instant::now() < deadline => {
                tracing::warn!(%error, "restoring a checkpoint failed; retrying");
                tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Whether the store or the launcher may answer a little later.
const fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Store { .. } | Error::Launcher(CallError::Away(_)))
}
