//! Bytes that go between client and artifact store without passing through here: uploads in parts, and downloads, at signed
//! addresses. What was uploaded so is read back once and hashed before it becomes an artifact, so that it is as trustworthy as any.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use slipway_artifact_store::{Error as StoreError, MAX_PARTS, UploadedPart};
use slipway_domain::registry::{new_artifact_path, normalise_artifact_path};

use super::{find, refuse_pinned, upload};
use crate::access::caller::{Caller, carry};
use crate::api::mlflow::{Answer, Fields, answer, empty};
use crate::clock::now_ms;
use crate::error::{Error, of_file};
use crate::state::Registry;
use crate::store::artifacts::Artifact;
use crate::store::blobs;
use crate::store::direct_uploads::{self as table, DirectUpload};

/// Addresses of parts are good for so long: a slow line takes hours for a large model.
const PART_VALID_S: u64 = 6 * 3_600;
const DOWNLOAD_VALID_S: u64 = 3_600;
/// S3's own limit.
const MAX_VALID_S: i64 = 7 * 24 * 3_600;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    let root = format!("{prefix}/mlflow-artifacts");
    Router::new()
        .route(&format!("{root}/presigned/{{*path}}"), get(download))
        .route(&format!("{root}/mpu/create/{{*path}}"), post(create))
        .route(&format!("{root}/mpu/complete/{{*path}}"), post(complete))
        .route(&format!("{root}/mpu/abort/{{*path}}"), post(abort))
}

/// Where the file may be read; its length is what clients cut into ranges.
pub(crate) async fn address(
    registry: &Registry,
    artifact: &Artifact,
    expiration_s: Option<i64>,
) -> Result<String, Error> {
    let valid = match expiration_s {
        None => DOWNLOAD_VALID_S,
        Some(seconds) if (1..=MAX_VALID_S).contains(&seconds) => seconds.unsigned_abs(),
        Some(seconds) => {
            return Err(Error::invalid(format!(
                "Invalid value {seconds} for parameter 'expiration' supplied: expected 1 to {MAX_VALID_S} seconds"
            )));
        }
    };
    // The store would answer the client in a shape of its own.
    let found = registry.artifacts.size_bytes(&artifact.blob_key).await?;
    found.ok_or_else(|| of_file(&artifact.path, StoreError::NotFound { key: artifact.blob_key.clone() }))?;
    Ok(registry.artifacts.presigned_get(&artifact.blob_key, Duration::from_secs(valid)).await?)
}

async fn download(State(registry): State<Registry>, Path(path): Path<String>) -> Answer {
    let artifact = find(&registry, &path).await?;
    let url = address(&registry, &artifact, None).await?;
    Ok(answer(json!({"url": url, "headers": {}, "file_size": artifact.size_bytes})))
}

/// The client names the directory in the address, and its own local file in the body: of that the last segment counts.
fn target(directory: &str, fields: &Fields) -> Result<String, Error> {
    let local = fields.required("path")?;
    let name = local.rsplit(['/', '\\']).next().unwrap_or_default();
    if name.is_empty() {
        return Err(Error::invalid(
            "Invalid value for parameter 'path' supplied: expected the name of a file",
        ));
    }
    Ok(normalise_artifact_path(&format!("{directory}/{name}"))?)
}

async fn create(
    State(registry): State<Registry>,
    caller: Caller,
    Path(directory): Path<String>,
    fields: Fields,
) -> Answer {
    let path = target(&directory, &fields)?;
    let parts = fields.integer("num_parts")?.unwrap_or(1);
    let parts =
        i32::try_from(parts).ok().filter(|parts| (1..=MAX_PARTS).contains(parts)).ok_or_else(|| {
            Error::invalid(format!(
                "Invalid value {parts} for parameter 'num_parts' supplied: expected 1 to {MAX_PARTS}"
            ))
        })?;
    let mut change = registry.change().await?;
    refuse_pinned(change.db(), &caller, &path).await?;
    let blob_key = blobs::new_key();
    blobs::blob_begin(change.db(), &blob_key, now_ms()).await?;
    let store_id = registry.artifacts.begin_parts(&blob_key).await?;
    let upload_id = uuid::Uuid::new_v4().simple().to_string();
    let begun = DirectUpload { upload_id, path, blob_key, store_id, completed_ms: None };
    table::upload_begin(change.db(), &begun, now_ms()).await?;
    change.commit().await?;

    let valid = Duration::from_secs(PART_VALID_S);
    let mut credentials = Vec::new();
    for number in 1..=parts {
        let url = registry.artifacts.presigned_part(&begun.blob_key, &begun.store_id, number, valid).await?;
        credentials.push(json!({"url": url, "part_number": number, "headers": {}}));
    }
    Ok(answer(json!({"upload_id": begun.upload_id, "credentials": credentials})))
}

fn parts(fields: &mut Fields) -> Result<Vec<UploadedPart>, Error> {
    let mut parts = Vec::new();
    for part in fields.messages("parts")? {
        let number = i32::try_from(part.required_integer("part_number")?)
            .ok()
            .filter(|number| (1..=MAX_PARTS).contains(number))
            .ok_or_else(|| Error::invalid(format!("a part_number is not within 1 to {MAX_PARTS}")))?;
        parts.push(UploadedPart { number, etag: part.required("etag")? });
    }
    parts.sort_by_key(|part| part.number);
    if parts.is_empty() {
        return Err(Error::missing("parts"));
    }
    Ok(parts)
}

async fn complete(
    State(registry): State<Registry>,
    caller: Caller,
    Path(directory): Path<String>,
    mut fields: Fields,
) -> Result<Json<Value>, Error> {
    let path = target(&directory, &fields)?;
    let upload_id = fields.required("upload_id")?;
    let parts = parts(&mut fields)?;
    // In a task of its own, so that a client that goes away does not stop it half-way.
    let uploads = registry.uploads.clone();
    let task =
        uploads.spawn(carry(async move { finish(&registry, &caller, (&upload_id, &path), &parts).await }));
    task.await.map_err(Error::internal)??;
    Ok(empty())
}

async fn finish(
    registry: &Registry,
    caller: &Caller,
    (upload_id, path): (&str, &str),
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
        // The store made the object before, and we did not come further.
        Err(StoreError::Parts { .. }) if registry.artifacts.size_bytes(&begun.blob_key).await?.is_some() => {}
        Err(StoreError::Parts { .. }) => {
            return Err(Error::invalid(
                "Invalid value for parameter 'parts' supplied: the artifact store does not hold these parts; \
                 send every part again and give the ETag that each was answered with",
            ));
        }
        Err(other) => return Err(other.into()),
    }
    let object = registry.artifacts.get(&begun.blob_key).await?;
    let broken = |error| {
        tracing::warn!(%error, "an upload could not be read back");
        Error::unavailable("the artifact store")
    };
    let stored = upload::digest(object.into_stream(), u64::MAX, broken).await?;
    let size_bytes = i64::try_from(stored.size_bytes).map_err(Error::internal)?;
    let artifact = Artifact { path: begun.path, blob_key: begun.blob_key, size_bytes, sha256: stored.sha256 };
    let mut change = registry.change().await?;
    table::upload_complete(change.db(), upload_id, now_ms()).await?;
    upload::adopt(change, caller, artifact).await
}

async fn abort(State(registry): State<Registry>, Path(directory): Path<String>, fields: Fields) -> Answer {
    let path = target(&directory, &fields)?;
    let upload_id = fields.required("upload_id")?;
    let mut change = registry.change().await?;
    let begun = table::upload_get(change.db(), &upload_id, &path).await?;
    if !table::upload_forget(change.db(), &upload_id).await? {
        return Err(Error::conflict(format!("The upload '{upload_id}' is complete")));
    }
    registry.artifacts.abort_parts(&begun.blob_key, &begun.store_id).await?;
    // Whatever became of the parts, the object's key goes to the sweeper.
    blobs::blobs_release(change.db(), &[begun.blob_key], now_ms()).await?;
    change.commit().await?;
    Ok(empty())
}

/// Where a file may be put by one request: the proxy itself, since only what passes through it is an artifact at once.
pub(crate) async fn upload_address(
    registry: &Registry,
    caller: &Caller,
    headers: &http::HeaderMap,
    path: &str,
) -> Result<String, Error> {
    let path = new_artifact_path(path)?;
    let mut db = registry.pool.acquire().await?;
    refuse_pinned(&mut db, caller, &path).await?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("host").ok_or_else(|| Error::invalid("the request has no Host"))?;
    let scheme = text("x-forwarded-proto").filter(|scheme| *scheme == "https").unwrap_or("http");
    Ok(format!(
        "{scheme}://{host}/api/2.0/mlflow-artifacts/artifacts/{}",
        super::download::encoded_path(&path)
    ))
}

/// The file of a run, by its path within the run.
pub(crate) async fn file_of(registry: &Registry, root: &str, path: &str) -> Result<Artifact, Error> {
    let path = normalise_artifact_path(path)?;
    find(registry, &format!("{root}/{path}")).await
}
