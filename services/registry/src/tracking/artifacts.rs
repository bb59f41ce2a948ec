//! Use cases of artifacts: look up, upload and delete a file of the artifact proxy.
//!
//! An upload stores the bytes first, then one row that makes them an artifact. An interrupted upload leaves
//! no artifact, and its bytes are removed later.

use std::collections::BTreeMap;
use std::pin::pin;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde_json::json;
use slipway_artifact_store::Stored;
use slipway_domain::registry::{new_artifact_path, normalise_artifact_path};
use sqlx::PgConnection;

use crate::access::caller::{Caller, carry};
use crate::change::Change;
use crate::clock::now_ms;
use crate::error::{Error, of_file};
use crate::models::versions::source::proxy_path;
use crate::state::Registry;
use crate::store::artifacts::{self as table, Artifact, Entry};
use crate::store::model_versions::{VersionName, version_file, version_files, version_get};
use crate::store::{blobs, logged_models, runs};

/// The file at a path of the proxy.
///
/// # Errors
/// There is none, the path is a directory, or Postgres is unreachable.
pub(crate) async fn find(registry: &Registry, path: &str) -> Result<Artifact, Error> {
    let path = normalise_artifact_path(path)?;
    let mut db = registry.pool.acquire().await?;
    if let Some(artifact) = table::artifact_get(&mut db, &path).await? {
        return Ok(artifact);
    }
    Err(if path.is_empty() || table::artifact_is_directory(&mut db, &path).await? {
        Error::invalid("path", format!("Artifact path refers to a directory, not a file: '{path}'"))
    } else {
        Error::not_found(format!("No such artifact: '{path}'"))
    })
}

fn outside(uri: &str) -> Error {
    let why = format!("the artifacts are at {uri}, outside this registry's artifact store");
    Error::invalid("path", why)
}

/// The directory of the proxy that an artifact URI names.
///
/// # Errors
/// It names a place outside of the artifact store.
pub(crate) fn directory_of(uri: &str) -> Result<String, Error> {
    proxy_path(uri)?.ok_or_else(|| outside(uri))
}

/// Where a run keeps its artifacts.
///
/// # Errors
/// The run does not exist, or Postgres is unreachable.
pub(crate) async fn uri_of_run(registry: &Registry, run_id: &str) -> Result<String, Error> {
    Ok(runs::run_info(&mut *registry.pool.acquire().await?, run_id).await?.artifact_uri)
}

/// Where a logged model keeps its artifacts.
///
/// # Errors
/// The logged model does not exist, or Postgres is unreachable.
pub(crate) async fn uri_of_logged_model(registry: &Registry, model_id: &str) -> Result<String, Error> {
    let mut db = registry.pool.acquire().await?;
    Ok(logged_models::logged_model_get(&mut db, model_id).await?.artifact_uri)
}

/// The lines of a directory; with `models`, only what versions of these models pin.
///
/// # Errors
/// The path is invalid, or Postgres is unreachable.
pub(crate) async fn list(
    registry: &Registry,
    directory: &str,
    models: Option<&[String]>,
) -> Result<Vec<Entry>, Error> {
    let directory = normalise_artifact_path(directory)?;
    let mut db = registry.pool.acquire().await?;
    match models {
        None => table::artifact_list(&mut db, &directory).await,
        Some(models) => table::artifact_list_pinned(&mut db, &directory, models).await,
    }
}

/// A file of a model version, by its path within the version. Other files in the directory of its run are not
/// for readers of the model.
///
/// # Errors
/// The version or the file does not exist, its files are outside of the artifact store, or Postgres is
/// unreachable.
pub(crate) async fn file_of_version(
    registry: &Registry,
    name: VersionName<'_>,
    path: &str,
) -> Result<Artifact, Error> {
    let VersionName { model, version } = name;
    let mut db = registry.pool.acquire().await?;
    let found = version_get(&mut db, model, version).await?;
    directory_of(&found.download_uri)?;
    let file = version_file(&mut db, found.model_key, version, path).await?;
    let absent = || Error::not_found(format!("No such artifact: '{path}' in version {version} of '{model}'"));
    Ok(file.ok_or_else(absent)?.into_artifact())
}

/// A directory of a run or a version.
#[derive(Debug)]
pub(crate) struct Listing {
    /// URI of the root.
    pub(crate) root_uri: String,
    pub(crate) entries: Vec<Entry>,
}

/// Lists a directory of a run.
///
/// # Errors
/// The run does not exist, its files are outside of the artifact store, or Postgres is unreachable.
pub(crate) async fn list_run(registry: &Registry, run_id: &str, directory: &str) -> Result<Listing, Error> {
    let root_uri = uri_of_run(registry, run_id).await?;
    let entries = list(registry, &joined(directory_of(&root_uri)?, directory), None).await?;
    Ok(Listing { root_uri, entries })
}

/// A file of a run, by its path within the run.
///
/// # Errors
/// The run or the file does not exist, or its files are outside of the artifact store; or Postgres is
/// unreachable.
pub(crate) async fn file_of_run(registry: &Registry, run_id: &str, path: &str) -> Result<Artifact, Error> {
    let root = directory_of(&uri_of_run(registry, run_id).await?)?;
    find(registry, &joined(root, &normalise_artifact_path(path)?)).await
}

/// A file of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunFile<'name> {
    pub(crate) run_id: &'name str,
    /// Path within the run.
    pub(crate) path: &'name str,
}

/// Stores a file of a run; `length_bytes` if the length is known before.
///
/// # Errors
/// As of [`upload`], or the run does not exist, or its files are outside of the artifact store.
pub(crate) async fn upload_to_run<E: std::fmt::Display + Send + 'static>(
    registry: &Registry,
    caller: Caller,
    file: RunFile<'_>,
    bytes: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    length_bytes: Option<u64>,
) -> Result<Artifact, Error> {
    let root = directory_of(&uri_of_run(registry, file.run_id).await?)?;
    let path = joined(root, &new_artifact_path(file.path)?);
    upload(registry, caller, &path, bytes, length_bytes).await?;
    find(registry, &path).await
}

fn joined(root: String, path: &str) -> String {
    if path.is_empty() { root } else { format!("{root}/{path}") }
}

/// Lists a directory of a version: of its pinned files only.
///
/// # Errors
/// The version does not exist, or Postgres is unreachable.
pub(crate) async fn list_version(
    registry: &Registry,
    name: VersionName<'_>,
    directory: &str,
) -> Result<Listing, Error> {
    let mut db = registry.pool.acquire().await?;
    let found = version_get(&mut db, name.model, name.version).await?;
    let files = version_files(&mut db, found.model_key, name.version).await?;
    let files = files.iter().map(|file| (file.path.as_str(), file.size_bytes));
    Ok(Listing { root_uri: found.download_uri, entries: entries_of(files, directory) })
}

/// The entries of a directory, from all files below its root.
fn entries_of<'file>(files: impl Iterator<Item = (&'file str, i64)>, directory: &str) -> Vec<Entry> {
    let mut entries = BTreeMap::new();
    for (path, size_bytes) in files {
        let below = if directory.is_empty() {
            Some(path)
        } else {
            path.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'))
        };
        match below.map(|below| below.split_once('/')) {
            Some(Some((name, _))) => _ = entries.insert(name.to_owned(), None),
            Some(None) => _ = entries.insert(below.unwrap_or_default().to_owned(), Some(size_bytes)),
            None => {}
        }
    }
    entries.into_iter().map(|(name, size_bytes)| Entry { name, size_bytes }).collect()
}

/// The first bytes of a file, at most `max_bytes`.
///
/// # Errors
/// The bytes are missing or damaged, or the artifact store is unreachable.
pub(crate) async fn beginning(
    registry: &Registry,
    file: &Artifact,
    max_bytes: u64,
) -> Result<Vec<u8>, Error> {
    let length = file.size_bytes.unsigned_abs().min(max_bytes);
    if length == 0 {
        return Ok(Vec::new());
    }
    let download = registry.artifacts.get_range(&file.blob_key, 0, length - 1).await;
    let mut stream = pin!(download.map_err(|error| of_file(&file.path, error))?.into_stream());
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk.map_err(|error| {
            tracing::warn!(%error, path = file.path, "the artifact store interrupted a preview");
            Error::unavailable("the artifact store")
        })?);
    }
    bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Ok(bytes)
}

/// Deletes a file, or a directory with its files.
///
/// # Errors
/// It is the root, a model version pins a file of it, or Postgres is unreachable.
pub(crate) async fn delete(registry: &Registry, caller: &Caller, path: &str) -> Result<(), Error> {
    let path = normalise_artifact_path(path)?;
    if path.is_empty() {
        return Err(Error::invalid("path", "The root of all artifacts cannot be deleted"));
    }
    let mut change = registry.change().await?;
    table::artifact_lock(change.db(), &path, true).await?;
    refuse_pinned(change.db(), caller, &path).await?;
    let removed = table::artifact_delete(change.db(), &path, now_ms()).await?;
    if removed > 0 {
        change.tell("artifact", "deleted", path, json!({ "files": removed })).await?;
        change.commit().await?;
    }
    Ok(())
}

/// The files of a model version never change. The error names the version to callers that may read its model.
///
/// # Errors
/// A model version pins a file at the path, or Postgres is unreachable.
pub(crate) async fn refuse_pinned(db: &mut PgConnection, caller: &Caller, path: &str) -> Result<(), Error> {
    let Some((model, version)) = table::artifact_pinned_by(db, path).await? else { return Ok(()) };
    let which = if caller.sees_model(&model) {
        format!("model version {model}/{version}")
    } else {
        "a model version that this caller may not read".to_owned()
    };
    Err(Error::Conflict(format!(
        "'{path}' belongs to {which}, whose files cannot change; log a new model instead"
    )))
}

/// The path of a file that is to be uploaded.
///
/// # Errors
/// The path is invalid, a model version pins the file at it, or Postgres is unreachable.
pub(crate) async fn writable(registry: &Registry, caller: &Caller, path: &str) -> Result<String, Error> {
    let path = new_artifact_path(path)?;
    refuse_pinned(&mut *registry.pool.acquire().await?, caller, &path).await?;
    Ok(path)
}

/// Stores a file at a path of the proxy; `length_bytes` if the length is known before.
///
/// # Errors
/// The path is invalid or a model version pins the file at it, the upload is interrupted, or Postgres or the
/// artifact store is unreachable.
pub(crate) async fn upload<E: std::fmt::Display + Send + 'static>(
    registry: &Registry,
    caller: Caller,
    path: &str,
    bytes: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    length_bytes: Option<u64>,
) -> Result<(), Error> {
    let path = new_artifact_path(path)?;
    let registry = registry.clone();
    // In a task of its own, so that the upload ends in order when the client disconnects.
    let uploads = registry.uploads.clone();
    let task =
        uploads.spawn(carry(async move { store(&registry, &caller, path, bytes, length_bytes).await }));
    task.await.map_err(Error::internal)?
}

async fn store<E: std::fmt::Display + Send + 'static>(
    registry: &Registry,
    caller: &Caller,
    path: String,
    bytes: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    length_bytes: Option<u64>,
) -> Result<(), Error> {
    let blob_key = blobs::new_key();
    {
        let mut db = registry.pool.acquire().await?;
        if let Some(refused) = refuse_pinned(&mut db, caller, &path).await.err() {
            drop(db);
            return same_bytes_again(registry, &path, bytes).await.map_or(Err(refused), |()| Ok(()));
        }
        blobs::blob_begin(&mut db, &blob_key, now_ms()).await?;
    }
    let stored = registry.artifacts.put_stream(&blob_key, bytes, length_bytes).await?;
    let size_bytes = i64::try_from(stored.size_bytes).map_err(Error::internal)?;
    let artifact = Artifact { path, blob_key, size_bytes, sha256: stored.sha256 };
    adopt(registry.change().await?, caller, artifact).await
}

/// Makes an uploaded object the artifact at its path.
///
/// # Errors
/// A model version pins the file at the path, the upload took too long, or Postgres is unreachable.
pub(super) async fn adopt(mut change: Change, caller: &Caller, artifact: Artifact) -> Result<(), Error> {
    table::artifact_lock(change.db(), &artifact.path, true).await?;
    refuse_pinned(change.db(), caller, &artifact.path).await?;
    if !blobs::blob_adopt(change.db(), &artifact.blob_key).await? {
        // The cleanup removed the object before the upload ended.
        blobs::blobs_release(change.db(), &[artifact.blob_key], now_ms()).await?;
        change.commit().await?;
        return Err(Error::unavailable(
            "the upload took longer than unfinished uploads are kept; the artifact store",
        ));
    }
    table::artifact_put(change.db(), &artifact, now_ms()).await?;
    let details = json!({"size_bytes": artifact.size_bytes, "sha256": artifact.sha256});
    change.tell("artifact", "uploaded", artifact.path, details).await?;
    change.commit().await
}

/// A client that did not receive the answer uploads a pinned file again: the same bytes change nothing.
async fn same_bytes_again<E: std::fmt::Display>(
    registry: &Registry,
    path: &str,
    bytes: impl Stream<Item = Result<Bytes, E>>,
) -> Result<(), Error> {
    let mut db = registry.pool.acquire().await?;
    let there = table::artifact_get(&mut db, path).await?.ok_or_else(|| Error::not_found(path))?;
    drop(db);
    let limit_bytes = u64::try_from(there.size_bytes).unwrap_or_default();
    let broken = |error| Error::invalid("body", format!("the upload was interrupted: {error}"));
    let sent = digest(bytes, limit_bytes, broken).await?;
    if sent.sha256 == there.sha256 { Ok(()) } else { Err(Error::Conflict(path.to_owned())) }
}

/// Length and digest of a stream of at most `limit_bytes`; `broken` maps an error of the stream.
///
/// # Errors
/// The stream is longer or ends in an error.
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
            return Err(Error::Conflict("longer than what is there".to_owned()));
        }
        hasher.update(&chunk);
    }
    Ok(Stored { size_bytes, sha256: hex::encode(hasher.finalize()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_its_files_and_the_directories_below_it() {
        let files = [("MLmodel", 1), ("data/a.bin", 2), ("data/b/c.bin", 3), ("database", 4)];
        let listed = |directory: &str| -> Vec<(String, Option<i64>)> {
            let entries = entries_of(files.into_iter(), directory);
            entries.into_iter().map(|entry| (entry.name, entry.size_bytes)).collect()
        };
        let entry = |name: &str, size: Option<i64>| (name.to_owned(), size);
        assert_eq!(listed(""), [entry("MLmodel", Some(1)), entry("data", None), entry("database", Some(4))]);
        assert_eq!(listed("data"), [entry("a.bin", Some(2)), entry("b", None)]);
        assert_eq!(listed("dat"), []);
    }
}
