//! Artifacts by the run, logged model or version that they belong to: listings, single files, and the upload of a browser. All else
//! goes through the proxy.

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, Uri};
use serde_json::{Value, json};
use slipway_domain::registry::{normalise_artifact_path, validate_version};

use super::error::Failure;
use super::message::Message;
use super::proxy::{direct, download, files, upload};
use super::{Answer, Fields, answer};
use crate::access::caller::Caller;
use crate::models::versions::source::proxy_path;
use crate::state::Registry;
use crate::store::{artifacts as table, logged_models, model_versions, runs};
use crate::tracking::artifacts::find;

/// Most bytes that a browser uploads at once, as in MLflow; clients go through the proxy, which has no such limit.
const MAX_UPLOAD_BYTES: usize = 10 * 1024 * 1024;

/// What MLflow serves outside of its API: single files as downloads.
pub(super) fn downloads() -> Router<Registry> {
    Router::new()
        .route("/get-artifact", get(file_of_run))
        .route("/model-versions/get-artifact", get(file_of_version))
}

/// What only browsers ask for.
pub(super) fn browser_router() -> Router<Registry> {
    let root = "/ajax-api/2.0/mlflow";
    Router::new()
        .route(
            &format!("{root}/upload-artifact"),
            // The handler has a limit of its own, with MLflow's answer.
            post(upload_file).layer(DefaultBodyLimit::disable()),
        )
        .route(&format!("{root}/logged-models/{{model_id}}/artifacts/files"), get(file_of_model))
}

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
async fn root(registry: &Registry, fields: &Fields) -> Result<String, Failure> {
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

async fn upload_url(
    State(registry): State<Registry>,
    caller: Caller,
    headers: HeaderMap,
    fields: Fields,
) -> Answer {
    let root = root(&registry, &fields).await?;
    let path = format!("{root}/{}", fields.required("path")?);
    let url = direct::upload_address(&registry, &caller, &headers, &path).await?;
    Ok(answer(json!({"presigned_url": url, "headers": {}})))
}

fn outside(uri: &str) -> Failure {
    Failure::invalid(format!("the artifacts lie at {uri}, outside of this registry's artifact store"))
}

async fn list(db: &mut sqlx::PgConnection, uri: &str, path: &str) -> Answer {
    let stored = normalise_artifact_path(path)?;
    let root = proxy_path(uri)?.ok_or_else(|| outside(uri))?;
    let directory = if stored.is_empty() { root } else { format!("{root}/{stored}") };
    let entries = table::artifact_list(db, &directory).await?;
    // A client that lists `./d` goes on with what it finds there.
    let listed = files(&entries, path.trim_end_matches('/'));
    Ok(answer(Message::new().put("root_uri", uri).list("files", listed)))
}

async fn file_of_run(
    State(registry): State<Registry>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    let path = asked_path(&fields, "path")?;
    let run = runs::run_info(&mut *registry.pool.acquire().await?, &fields.run_id()?).await?;
    send(&registry, &run.artifact_uri, &path, &headers).await
}

async fn file_of_version(
    State(registry): State<Registry>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    let path = asked_path(&fields, "path")?;
    let (name, version) = (fields.required("name")?, validate_version(&fields.required("version")?)?);
    let mut db = registry.pool.acquire().await?;
    let version = model_versions::version_get(&mut db, &name, version).await?;
    proxy_path(&version.download_uri)?.ok_or_else(|| outside(&version.download_uri))?;
    // Its own files alone: what else lies in the directory of its run is not for readers of the model.
    let found = model_versions::version_file(&mut db, version.model_key, version.version, &path).await?;
    let file = found.ok_or_else(|| {
        Failure::not_found(format!("No such artifact: '{path}' in version {} of '{name}'", version.version))
    })?;
    drop(db);
    download::respond(&registry, &file.into_artifact(), &headers).await
}

async fn file_of_model(
    State(registry): State<Registry>,
    Path(model_id): Path<String>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    let path = asked_path(&fields, "artifact_file_path")?;
    let model = logged_models::logged_model_get(&mut *registry.pool.acquire().await?, &model_id).await?;
    send(&registry, &model.artifact_uri, &path, &headers).await
}

/// The path of a file within a run, version or logged model.
fn asked_path(fields: &Fields, name: &str) -> Result<String, Failure> {
    let asked = fields
        .string(name)?
        .ok_or_else(|| Failure::invalid(format!("Request must include the \"{name}\" query parameter.")))?;
    Ok(normalise_artifact_path(&asked)?)
}

/// Always as an attachment, which no browser shows as a page of this server.
async fn send(registry: &Registry, uri: &str, path: &str, headers: &HeaderMap) -> Result<Response, Failure> {
    let root = proxy_path(uri)?.ok_or_else(|| outside(uri))?;
    let place = if path.is_empty() { root } else { format!("{root}/{path}") };
    let artifact = find(registry, &place).await?;
    download::respond(registry, &artifact, headers).await
}

/// A file for a run from a browser. Its bytes are the body, of whatever type.
async fn upload_file(
    State(registry): State<Registry>,
    caller: Caller,
    uri: Uri,
    body: Body,
) -> Result<Json<Value>, Failure> {
    let fields = Fields::of_query(&uri);
    let specified = |name: &str| {
        fields.non_empty(name)?.ok_or_else(|| Failure::invalid(format!("Request must specify {name}.")))
    };
    let (run_id, path) = (specified("run_uuid")?, specified("path")?);
    normalise_artifact_path(&path)?;
    let bytes = axum::body::to_bytes(body, MAX_UPLOAD_BYTES)
        .await
        .map_err(|_too_long| Failure::invalid("Artifact size is too large. Max size is 10MB."))?;
    if bytes.is_empty() {
        return Err(Failure::invalid("Request must specify data."));
    }
    let run = runs::run_info(&mut *registry.pool.acquire().await?, &run_id).await?;
    let root = proxy_path(&run.artifact_uri)?.ok_or_else(|| outside(&run.artifact_uri))?;
    upload::store(&registry, caller, &format!("{root}/{path}"), Body::from(bytes)).await
}
