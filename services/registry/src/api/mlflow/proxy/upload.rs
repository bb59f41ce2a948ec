//! Uploads: bytes first, then one row that makes them an artifact. A broken upload leaves no artifact, and its bytes are swept.

use std::pin::pin;

use axum::Json;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, State};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};
use slipway_artifact_store::Stored;
use slipway_domain::registry::new_artifact_path;

use super::refuse_pinned;
use crate::access::caller::{Caller, carry};
use crate::change::Change;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::artifacts::{self, Artifact};
use crate::store::blobs;

pub(super) async fn put(
    State(registry): State<Registry>,
    caller: Caller,
    Path(path): Path<String>,
    body: Body,
) -> Result<Json<Value>, Error> {
    store(&registry, caller, path, body).await
}

/// Stores a file at a path of the proxy.
///
/// # Errors
/// The path has another spelling or belongs to a version, the upload breaks off, or the store is away.
pub(crate) async fn store(
    registry: &Registry,
    caller: Caller,
    path: String,
    body: Body,
) -> Result<Json<Value>, Error> {
    let path = new_artifact_path(&path)?;
    let registry = registry.clone();
    // In a task of its own, so that a client that goes away lets the upload end in order.
    let uploads = registry.uploads.clone();
    let task = uploads.spawn(carry(async move { upload(&registry, &caller, path, body).await }));
    task.await.map_err(Error::internal)??;
    Ok(Json(json!({})))
}

async fn upload(registry: &Registry, caller: &Caller, path: String, body: Body) -> Result<(), Error> {
    let blob_key = blobs::new_key();
    {
        let mut db = registry.pool.acquire().await?;
        if let Some(refused) = refuse_pinned(&mut db, caller, &path).await.err() {
            drop(db);
            return same_bytes_again(registry, &path, body).await.map_or(Err(refused), |()| Ok(()));
        }
        blobs::blob_begin(&mut db, &blob_key, now_ms()).await?;
    }
    let length_bytes = body.size_hint().exact();
    let stored = registry.artifacts.put_stream(&blob_key, body.into_data_stream(), length_bytes).await?;
    let size_bytes = i64::try_from(stored.size_bytes).map_err(Error::internal)?;
    let artifact = Artifact { path, blob_key, size_bytes, sha256: stored.sha256 };
    adopt(registry.change().await?, caller, artifact).await
}

/// Makes an uploaded object the artifact at its path.
pub(super) async fn adopt(mut change: Change, caller: &Caller, artifact: Artifact) -> Result<(), Error> {
    artifacts::artifact_lock(change.db(), &artifact.path, true).await?;
    refuse_pinned(change.db(), caller, &artifact.path).await?;
    if !blobs::blob_adopt(change.db(), &artifact.blob_key).await? {
        // The sweeper was here before the bytes were.
        blobs::blobs_release(change.db(), &[artifact.blob_key], now_ms()).await?;
        change.commit().await?;
        return Err(Error::unavailable(
            "the upload took longer than unfinished uploads are kept; the artifact store",
        ));
    }
    artifacts::artifact_put(change.db(), &artifact, now_ms()).await?;
    let details = json!({"size_bytes": artifact.size_bytes, "sha256": artifact.sha256});
    change.tell("artifact", "uploaded", artifact.path, details).await?;
    change.commit().await
}

/// A client that did not get the answer sends a pinned file again: the same bytes change nothing.
async fn same_bytes_again(registry: &Registry, path: &str, body: Body) -> Result<(), Error> {
    let mut db = registry.pool.acquire().await?;
    let there = artifacts::artifact_get(&mut db, path).await?.ok_or_else(|| Error::not_found(path))?;
    drop(db);
    let limit_bytes = u64::try_from(there.size_bytes).unwrap_or_default();
    let broken = |error| Error::invalid(format!("the upload broke off: {error}"));
    let sent = digest(body.into_data_stream(), limit_bytes, broken).await?;
    if sent.sha256 == there.sha256 { Ok(()) } else { Err(Error::conflict(path)) }
}

/// Length and digest of a stream of at most `limit_bytes`; `broken` says what a stream that ends in an error means.
pub(super) async fn digest<E>(
    stream: impl Stream<Item = Result<Bytes, E>>,
    limit_bytes: u64,
    broken: impl Fn(E) -> Error,
) -> Result<Stored, Error> {
    use sha2::Digest as _;
    let mut stream = pin!(stream);
    let mut hasher = sha2::Sha256::new();
    let mut size_bytes = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(&broken)?;
        size_bytes += chunk.len() as u64;
        if size_bytes > limit_bytes {
            return Err(Error::conflict("longer than what is there"));
        }
        hasher.update(&chunk);
    }
    Ok(Stored { size_bytes, sha256: hex::encode(hasher.finalize()) })
}
