//! The artifact proxy: `/api/2.0/mlflow-artifacts`. Bytes go to S3 and come back as they were, streamed both
//! ways.

pub(crate) mod direct;
pub(crate) mod upload;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use http::HeaderMap;
use serde_json::{Value, json};

use crate::access::caller::Caller;
use crate::access::references::PinnedBy;
use crate::api::download;
use crate::api::mlflow::error::Failure;
use crate::api::mlflow::{Answer, Fields, answer};
use crate::state::Registry;
use crate::store::artifacts::Entry;
use crate::tracking::artifacts as use_cases;

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
    let directory = fields.string("path")?.unwrap_or_default();
    let models = pinned.as_ref().map(|Extension(PinnedBy(models))| models.as_slice());
    let entries = use_cases::list(&registry, &directory, models).await?;
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
) -> Result<Response, Failure> {
    let artifact = use_cases::find(&registry, &path).await?;
    Ok(download::respond(&registry, &artifact, &headers).await?)
}

async fn delete(State(registry): State<Registry>, caller: Caller, Path(path): Path<String>) -> Answer {
    use_cases::delete(&registry, &caller, &path).await?;
    Ok(answer(json!({})))
}
