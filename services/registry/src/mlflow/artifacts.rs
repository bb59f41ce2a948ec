//! Listings by run and by logged model; bytes go through the proxy.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use http::HeaderMap;
use serde_json::json;
use slipway_domain::registry::normalise_artifact_path;

use super::message::Message;
use super::proxy::{direct, files};
use super::{Answer, Fields, answer};
use crate::error::Error;
use crate::state::Registry;
use crate::store::{artifacts as table, logged_models, runs};
use crate::versions::source::proxy_path;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    let root = format!("{prefix}/2.0/mlflow");
    Router::new()
        .route(&format!("{root}/artifacts/list"), get(of_run))
        .route(&format!("{root}/logged-models/{{model_id}}/artifacts/directories"), get(of_model))
        .route(&format!("{root}/artifacts/presigned-download-url"), post(download_url))
        .route(&format!("{root}/artifacts/presigned-upload-url"), post(upload_url))
}

async fn of_run(State(registry): State<Registry>, fields: Fields) -> Answer {
    let mut db = registry.pool.acquire().await?;
    let run = runs::run_info(&mut db, &fields.run_id()?).await?;
    list(&mut db, &run.artifact_uri, &fields.string("path")?.unwrap_or_default()).await
}

async fn of_model(State(registry): State<Registry>, Path(model_id): Path<String>, fields: Fields) -> Answer {
    let mut db = registry.pool.acquire().await?;
    let model = logged_models::logged_model_get(&mut db, &model_id).await?;
    let path = fields.string("artifact_directory_path")?.unwrap_or_default();
    list(&mut db, &model.artifact_uri, &path).await
}

/// Directory of the proxy that holds the files of the run, or of the logged model, that the request names.
async fn root(registry: &Registry, fields: &Fields) -> Result<String, Error> {
    let mut db = registry.pool.acquire().await?;
    let uri = match fields.non_empty("model_id")? {
        Some(model_id) => logged_models::logged_model_get(&mut db, &model_id).await?.artifact_uri,
        None => runs::run_info(&mut db, &fields.run_id()?).await?.artifact_uri,
    };
    proxy_path(&uri)?.ok_or_else(|| outside(&uri))
}

async fn download_url(State(registry): State<Registry>, fields: Fields) -> Answer {
    let root = root(&registry, &fields).await?;
    let file = direct::file_of(&registry, &root, &fields.required("path")?).await?;
    let url = direct::address(&registry, &file, fields.integer("expiration")?).await?;
    Ok(answer(json!({"presigned_url": url, "headers": {}, "file_size": file.size_bytes})))
}

async fn upload_url(State(registry): State<Registry>, headers: HeaderMap, fields: Fields) -> Answer {
    let root = root(&registry, &fields).await?;
    let path = format!("{root}/{}", fields.required("path")?);
    let url = direct::upload_address(&registry, &headers, &path).await?;
    Ok(answer(json!({"presigned_url": url, "headers": {}})))
}

fn outside(uri: &str) -> Error {
    Error::invalid(format!("the artifacts lie at {uri}, outside of this registry's artifact store"))
}

async fn list(db: &mut sqlx::PgConnection, uri: &str, path: &str) -> Answer {
    let path = normalise_artifact_path(path)?;
    let root = proxy_path(uri)?.ok_or_else(|| outside(uri))?;
    let directory = if path.is_empty() { root } else { format!("{root}/{path}") };
    let entries = table::artifact_list(db, &directory).await?;
    Ok(answer(Message::new().put("root_uri", uri).list("files", files(&entries, &path))))
}
