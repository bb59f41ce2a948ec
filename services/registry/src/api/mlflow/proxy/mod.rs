//! The artifact proxy: `/api/2.0/mlflow-artifacts`. Bytes go to S3 and come back as they were, streamed both ways.

pub(crate) mod direct;
pub(crate) mod download;
pub(crate) mod upload;
mod verified;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use http::HeaderMap;
use serde_json::{Value, json};
use slipway_domain::registry::normalise_artifact_path;

use crate::access::caller::Caller;
use crate::access::references::PinnedBy;
use crate::api::mlflow::{Answer, Fields, answer};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::artifacts::{self, Artifact, Entry};

/// The proxy's routes under `prefix`, e.g. `/api/2.0`.
pub(crate) fn router(prefix: &str) -> Router<Registry> {
    Router::new()
        .route(&format!("{prefix}/mlflow-artifacts/artifacts"), get(list))
        .route(
            &format!("{prefix}/mlflow-artifacts/artifacts/{{*path}}"),
            get(fetch).put(upload::put).delete(delete).layer(DefaultBodyLimit::disable()),
        )
        .merge(direct::router(prefix))
}

async fn list(
    State(registry): State<Registry>,
    pinned: Option<Extension<PinnedBy>>,
    fields: Fields,
) -> Answer {
    let directory = normalise_artifact_path(&fields.string("path")?.unwrap_or_default())?;
    let mut db = registry.pool.acquire().await?;
    let entries = match pinned {
        None => artifacts::artifact_list(&mut db, &directory).await?,
        Some(Extension(PinnedBy(models))) => {
            artifacts::artifact_list_pinned(&mut db, &directory, &models).await?
        }
    };
    Ok(answer(if entries.is_empty() { json!({}) } else { json!({ "files": files(&entries, "") }) }))
}

/// Lines of a listing as MLflow's `FileInfo`; `prefix` goes before each name.
pub(crate) fn files(entries: &[Entry], prefix: &str) -> Vec<Value> {
    entries
        .iter()
        .map(|entry| {
            let path =
                if prefix.is_empty() { entry.name.clone() } else { format!("{prefix}/{}", entry.name) };
            match entry.size_bytes {
                Some(size) => json!({"path": path, "is_dir": false, "file_size": size}),
                None => json!({"path": path, "is_dir": true}),
            }
        })
        .collect()
}

async fn fetch(
    State(registry): State<Registry>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let artifact = find(&registry, &path).await?;
    download::respond(&registry, &artifact, &headers).await
}

/// The file at a path of the proxy.
pub(crate) async fn find(registry: &Registry, path: &str) -> Result<Artifact, Error> {
    let path = normalise_artifact_path(path)?;
    let mut db = registry.pool.acquire().await?;
    if let Some(artifact) = artifacts::artifact_get(&mut db, &path).await? {
        return Ok(artifact);
    }
    Err(if path.is_empty() || artifacts::artifact_is_directory(&mut db, &path).await? {
        Error::invalid(format!("Artifact path refers to a directory, not a file: '{path}'"))
    } else {
        Error::not_found(format!("No such artifact: '{path}'"))
    })
}

async fn delete(State(registry): State<Registry>, caller: Caller, Path(path): Path<String>) -> Answer {
    let path = normalise_artifact_path(&path)?;
    if path.is_empty() {
        return Err(Error::invalid("The root of all artifacts cannot be deleted"));
    }
    let mut change = registry.change().await?;
    artifacts::artifact_lock(change.db(), &path, true).await?;
    refuse_pinned(change.db(), &caller, &path).await?;
    let removed = artifacts::artifact_delete(change.db(), &path, now_ms()).await?;
    if removed > 0 {
        change.tell("artifact", "deleted", path, json!({ "files": removed })).await?;
        change.commit().await?;
    }
    Ok(answer(json!({})))
}

/// A version's bytes never change. The refusal names the version to callers who may read its model.
async fn refuse_pinned(db: &mut sqlx::PgConnection, caller: &Caller, path: &str) -> Result<(), Error> {
    let Some((model, version)) = artifacts::artifact_pinned_by(db, path).await? else { return Ok(()) };
    let which = if caller.sees_model(&model) {
        format!("model version {model}/{version}")
    } else {
        "a model version that this caller may not read".to_owned()
    };
    Err(Error::conflict(format!(
        "'{path}' belongs to {which}, whose files cannot change; log a new model instead"
    )))
}
