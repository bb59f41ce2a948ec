//! Artifacts by the run, logged model or version that they belong to: listings, single files, and the upload
//! of a browser. All else goes through the proxy.

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
use super::proxy::{direct, files, upload};
use super::{Answer, Fields, answer};
use crate::access::caller::Caller;
use crate::api::download;
use crate::state::Registry;
use crate::store::model_versions::VersionName;
use crate::tracking::artifacts as use_cases;

/// Most bytes that a browser uploads at once, as in MLflow; clients go through the proxy, which has no such
/// limit.
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
    let uri = use_cases::uri_of_run(&registry, &fields.run_id()?).await?;
    list(&registry, &uri, &fields.string("path")?.unwrap_or_default()).await
}

async fn of_model(State(registry): State<Registry>, Path(model_id): Path<String>, fields: Fields) -> Answer {
    let uri = use_cases::uri_of_logged_model(&registry, &model_id).await?;
    list(&registry, &uri, &fields.string("artifact_directory_path")?.unwrap_or_default()).await
}

/// Directory of the proxy that holds the files of the run, or of the logged model, that the request names.
async fn root(registry: &Registry, fields: &Fields) -> Result<String, Failure> {
    let uri = match fields.non_empty("model_id")? {
        Some(model_id) => use_cases::uri_of_logged_model(registry, &model_id).await?,
        None => use_cases::uri_of_run(registry, &fields.run_id()?).await?,
    };
    Ok(use_cases::directory_of(&uri)?)
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

async fn list(registry: &Registry, uri: &str, path: &str) -> Answer {
    let stored = normalise_artifact_path(path)?;
    let root = use_cases::directory_of(uri)?;
    let directory = if stored.is_empty() { root } else { format!("{root}/{stored}") };
    let entries = use_cases::list(registry, &directory, None).await?;
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
    let uri = use_cases::uri_of_run(&registry, &fields.run_id()?).await?;
    send(&registry, &uri, &path, &headers).await
}

async fn file_of_version(
    State(registry): State<Registry>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    let path = asked_path(&fields, "path")?;
    let (name, version) = (fields.required("name")?, validate_version(&fields.required("version")?)?);
    let name = VersionName { model: &name, version };
    let file = use_cases::file_of_version(&registry, name, &path).await?;
    Ok(download::respond(&registry, &file, &headers).await?)
}

async fn file_of_model(
    State(registry): State<Registry>,
    Path(model_id): Path<String>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    let path = asked_path(&fields, "artifact_file_path")?;
    let uri = use_cases::uri_of_logged_model(&registry, &model_id).await?;
    send(&registry, &uri, &path, &headers).await
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
    let root = use_cases::directory_of(uri)?;
    let place = if path.is_empty() { root } else { format!("{root}/{path}") };
    let artifact = use_cases::find(registry, &place).await?;
    Ok(download::respond(registry, &artifact, headers).await?)
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
    let root = use_cases::directory_of(&use_cases::uri_of_run(&registry, &run_id).await?)?;
    upload::store(&registry, caller, &format!("{root}/{path}"), Body::from(bytes)).await
}
