//! Use cases of direct uploads: a client sends a file in parts to the artifact store itself, by presigned
//! URLs. The object is read back once and hashed before it becomes an artifact, so that it is as trustworthy
//! as any other.

use std::time::Duration;

use slipway_artifact_store::{Error as StoreError, UploadedPart};
use slipway_runtime::id;

use super::artifacts::{adopt, digest, refuse_pinned};
use slipway_service_kit::db::while_open;

use crate::access::caller::{Caller, carry};
use crate::clock::now_ms;
use crate::error::{Error, of_file};
use crate::state::Registry;
use crate::store::artifacts::Artifact;
use crate::store::blobs;
use crate::store::direct_uploads::{self as table, DirectUpload};

/// Lifetime of the URL of a part: a slow connection takes hours for a large model.
const PART_VALID_S: u64 = 6 * 3_600;

/// An upload that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) upload_id: String,
    /// A presigned URL for each part, in their order.
    pub(crate) urls: Vec<String>,
}

/// Begins an upload in so many parts.
///
/// # Errors
/// A model version pins the file at the path, or Postgres or the artifact store is unreachable.
pub(crate) async fn begin(
    registry: &Registry,
    caller: &Caller,
    path: String,
    parts: i32,
) -> Result<Begun, Error> {
    let mut change = registry.change().await?;
    refuse_pinned(change.db(), caller, &path).await?;
    let blob_key = blobs::new_key();
    blobs::blob_begin(change.db(), &blob_key, now_ms()).await?;
    change.commit().await?;
    // No connection to Postgres is held while the store is waited for.
    let store_id = registry.artifacts.begin_parts(&blob_key).await?;
    let upload_id = id::random().simple().to_string();
    let begun = DirectUpload { upload_id, path, blob_key, store_id, completed_ms: None };
    let mut change = registry.change().await?;
    table::upload_begin(change.db(), &begun, now_ms()).await?;
    change.commit().await?;

    let valid = Duration::from_secs(PART_VALID_S);
    let mut urls = Vec::new();
    for number in 1..=parts {
        urls.push(registry.artifacts.presigned_part(&begun.blob_key, &begun.store_id, number, valid).await?);
    }
    Ok(Begun { upload_id: begun.upload_id, urls })
}

/// Completes an upload: its object becomes the artifact at the path.
///
/// # Errors
/// There is no such upload, the store does not have these parts, a model version pins the file at the path,
/// or Postgres or the artifact store is unreachable.
pub(crate) async fn complete(
    registry: &Registry,
    caller: Caller,
    upload_id: String,
    path: String,
    parts: Vec<UploadedPart>,
) -> Result<(), Error> {
    let registry = registry.clone();
    // In a task of its own, so that it is not interrupted when the client disconnects.
    let uploads = registry.uploads.clone();
    let task =
        uploads.spawn(carry(async move { finish(&registry, &caller, &upload_id, &path, &parts).await }));
    task.await.map_err(Error::internal)?
}

async fn finish(
    registry: &Registry,
    caller: &Caller,
    upload_id: &str,
    path: &str,
    parts: &[UploadedPart],
) -> Result<(), Error> {
    let begun = {
        let mut db = registry.pool.acquire().await?;
        table::upload_get(&mut db, upload_id, path).await?
    };
    if begun.completed_ms.is_some() {
        return Ok(());
    }
    match registry.artifacts.complete_parts(&begun.blob_key, &begun.store_id, parts).await {
        Ok(()) => {}
        // An interrupted request completed the object before.
        Err(StoreError::Parts { .. }) if registry.artifacts.size_bytes(&begun.blob_key).await?.is_some() => {}
        Err(StoreError::Parts { .. }) => {
            return Err(Error::invalid(
                "parts",
                "Invalid value for parameter 'parts' supplied: the artifact store does not hold these parts; \
                 send every part again and give the ETag that each was answered with",
            ));
        }
        Err(other) => return Err(other.into()),
    }
    let object = registry.artifacts.get(&begun.blob_key).await?;
    let broken = |error| {
        tracing::warn!(%error, "upload could not be read back");
        Error::unavailable("the artifact store")
    };
    let stored = digest(object.into_stream(), u64::MAX, broken).await?;
    let size_bytes = i64::try_from(stored.size_bytes).map_err(Error::internal)?;
    let artifact = Artifact { path: begun.path, blob_key: begun.blob_key, size_bytes, sha256: stored.sha256 };
    let mut change = registry.change().await?;
    table::upload_complete(change.db(), upload_id, now_ms()).await?;
    adopt(change, caller, artifact).await
}

/// Aborts an upload.
///
/// # Errors
/// There is no such upload, it is complete, or Postgres or the artifact store is unreachable.
pub(crate) async fn abort(registry: &Registry, upload_id: &str, path: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let begun = table::upload_get(change.db(), upload_id, path).await?;
    if !table::upload_forget(change.db(), upload_id).await? {
        return Err(Error::Conflict(format!("The upload '{upload_id}' is complete")));
    }
    let aborted = registry.artifacts.abort_parts(&begun.blob_key, &begun.store_id);
    while_open(change.db(), aborted).await??;
    // Whether or not the parts are gone, the object's key is left to the cleanup.
    blobs::blobs_release(change.db(), &[begun.blob_key], now_ms()).await?;
    change.commit().await
}

/// A presigned URL from which a file can be read.
///
/// # Errors
/// The object is missing from the artifact store, or the store is unreachable.
pub(crate) async fn download_url(
    registry: &Registry,
    artifact: &Artifact,
    valid: Duration,
) -> Result<String, Error> {
    // The store would answer the client in a shape of its own.
    let found = registry.artifacts.size_bytes(&artifact.blob_key).await?;
    found.ok_or_else(|| of_file(&artifact.path, StoreError::NotFound { key: artifact.blob_key.clone() }))?;
    Ok(registry.artifacts.presigned_get(&artifact.blob_key, valid).await?)
}
