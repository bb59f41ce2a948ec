//! Puts the newest whole checkpoint where the command looks for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use slipway_artifact_store::{ArtifactStore, Error};
use slipway_domain::training::Manifest;
use tokio::fs;
use tokio::time::Instant;

use crate::spool::Spool;

/// The store may be away for this long before the attempt is given up.
const STORE_TIMEOUT_MS: u64 = 120_000;
const RETRY_DELAY_MS: u64 = 1_000;

/// Restores into `<folder>/<step>` from the first of `manifests` (newest first) whose every file is there and right. The folder
/// of a step appears whole or not at all. Answers with the step; `None` where there is no checkpoint.
///
/// # Errors
/// The store stays away, or the disk refuses.
pub(crate) async fn newest(
    store: &ArtifactStore,
    manifests: &[String],
    folder: &Path,
    spool: &Spool,
) -> anyhow::Result<Option<u64>> {
    for json in manifests {
        let Some(manifest) = parse(json) else {
            spool.note("a checkpoint's manifest cannot be read; trying the one before").await;
            continue;
        };
        match one(store, &manifest, folder).await {
            Ok(()) => {
                spool.note(&format!("restored the checkpoint of step {}", manifest.step)).await;
                return Ok(Some(manifest.step));
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

fn parse(json: &str) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_str(json).ok()?;
    manifest.validate().ok()?;
    Some(manifest)
}

async fn one(store: &ArtifactStore, manifest: &Manifest, folder: &Path) -> Result<(), Error> {
    let part = folder.join(format!("{}.tmp", manifest.step));
    let deadline = Instant::now() + Duration::from_millis(STORE_TIMEOUT_MS);
    let _ = fs::remove_dir_all(&part).await;
    for file in &manifest.files {
        let target: PathBuf = part.join(&file.path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).await?;
        }
        while let Err(error) = store.download_verified(&manifest.file_key(file), &file.sha256, &target).await
        {
            if !error.is_transient() || Instant::now() >= deadline {
                // Best effort: the name says that it is not whole.
                let _ = fs::remove_dir_all(&part).await;
                return Err(error);
            }
            tracing::warn!(%error, "a checkpoint's file is tried again");
            tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)).await;
        }
    }
    let whole = folder.join(manifest.step.to_string());
    // One of the job's own files may lie there; the checkpoint goes before it.
    let _ = fs::remove_dir_all(&whole).await;
    Ok(fs::rename(&part, whole).await?)
}
