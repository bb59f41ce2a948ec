//! REST v1: files of runs and of versions: list, preview, download.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, HttpBody as _};
use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use slipway_api::rest::registry as body;
use slipway_domain::registry::normalise_artifact_path;
use slipway_http_server::Problem;
use slipway_http_server::extract::{Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::bodies::version_name;
use crate::access::caller::Caller;
use crate::api::download;
use crate::error::Error;
use crate::state::Registry;
use crate::store::artifacts::{Artifact, Entry};
use crate::tracking::artifacts::{self as use_cases, Listing, RunFile};
use crate::tracking::direct_uploads;

const DEFAULT_PREVIEW_BYTES: u64 = 64 * 1024;
const MAX_PREVIEW_BYTES: u64 = 1024 * 1024;
/// Lifetime of a presigned URL: a slow connection takes hours for a large model.
const URL_VALID: Duration = Duration::from_secs(3_600);

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new()
        .routes(routes!(list_of_run))
        .routes(routes!(preview_of_run))
        .routes(routes!(content_of_run, upload_to_run))
        .routes(routes!(list_of_version))
        .routes(routes!(preview_of_version))
        .routes(routes!(content_of_version))
}

/// A page of a directory.
fn page(
    listing: Listing,
    directory: &str,
    query: &body::ArtifactsQuery,
) -> Result<body::ArtifactPage, Problem> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token.clone() };
    let (limit, after) = (paging.limit()?, paging.after::<String>()?);
    let Listing { root_uri, mut entries } = listing;
    // The order of bytes, in which a token has its place whatever the collation of the database.
    entries.sort_by(|left, right| left.name.cmp(&right.name));
    if let Some(after) = after {
        entries.retain(|entry| entry.name > after);
    }
    let (entries, next_page_token) = cut(entries, limit, |entry| entry.name.clone());
    let artifact = |entry: Entry| body::Artifact {
        path: if directory.is_empty() { entry.name } else { format!("{directory}/{}", entry.name) },
        is_directory: entry.size_bytes.is_none(),
        size_bytes: entry.size_bytes,
    };
    Ok(body::ArtifactPage {
        root_uri,
        artifacts: entries.into_iter().map(artifact).collect(),
        next_page_token,
    })
}

/// The directory that a query names; the root if it names none.
fn directory(query: &body::ArtifactsQuery) -> Result<String, Error> {
    Ok(normalise_artifact_path(query.path.as_deref().unwrap_or_default())?)
}

/// The beginning of a text: an incomplete character at a cut is left out; `None` for bytes that are not text.
fn text_of(bytes: &[u8], truncated: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        // Without a length of the invalid bytes, the text ends within a character.
        Err(error) if truncated && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
    .filter(|text| !text.contains('\0'))
}

async fn preview(registry: &Registry, file: &Artifact, query: body::PreviewQuery) -> Answer<body::Preview> {
    let max_bytes = query.max_bytes.unwrap_or(DEFAULT_PREVIEW_BYTES);
    if !(1..=MAX_PREVIEW_BYTES).contains(&max_bytes) {
        let message = format!("expected 1 to {MAX_PREVIEW_BYTES}, got {max_bytes}");
        return Err(Problem::invalid("max_bytes", message));
    }
    let bytes = use_cases::beginning(registry, file, max_bytes).await?;
    let truncated = (bytes.len() as u64) < file.size_bytes.unsigned_abs();
    let (encoding, content) = match text_of(&bytes, truncated) {
        Some(text) => (body::Encoding::Utf8, text.to_owned()),
        None => (body::Encoding::Base64, STANDARD.encode(&bytes)),
    };
    let name = file.path.rsplit('/').next().unwrap_or_default();
    Ok(Json(body::Preview {
        media_type: download::content_type(name).to_owned(),
        path: query.path,
        size_bytes: file.size_bytes,
        sha256: file.sha256.clone(),
        truncated,
        encoding,
        content,
    }))
}

async fn content(
    registry: &Registry,
    file: &Artifact,
    redirect: Option<bool>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    if redirect == Some(true) && registry.direct_artifacts {
        let url = direct_uploads::download_url(registry, file, URL_VALID).await?;
        return Ok(Redirect::temporary(&url).into_response());
    }
    Ok(download::respond(registry, file, headers).await?)
}

/// Lists a directory of a run's artifacts, by name.
#[utoipa::path(get, path = "/api/v1/runs/{run_id}/artifacts", tag = "artifacts",
    params(("run_id" = String, Path), body::ArtifactsQuery),
    responses((status = 200, body = body::ArtifactPage)))]
async fn list_of_run(
    State(registry): State<Registry>,
    Path(run_id): Path<String>,
    Query(query): Query<body::ArtifactsQuery>,
) -> Answer<body::ArtifactPage> {
    let directory = directory(&query)?;
    let listing = use_cases::list_run(&registry, &run_id, &directory).await?;
    Ok(Json(page(listing, &directory, &query)?))
}

/// Reads the beginning of a file of a run.
#[utoipa::path(get, path = "/api/v1/runs/{run_id}/artifacts/preview", tag = "artifacts",
    params(("run_id" = String, Path), body::PreviewQuery), responses((status = 200, body = body::Preview)))]
async fn preview_of_run(
    State(registry): State<Registry>,
    Path(run_id): Path<String>,
    Query(query): Query<body::PreviewQuery>,
) -> Answer<body::Preview> {
    let file = use_cases::file_of_run(&registry, &run_id, &query.path).await?;
    preview(&registry, &file, query).await
}

/// Downloads a file of a run, also by ranges.
///
/// With `redirect=true`, and where clients reach the artifact store, the response is a redirect to a
/// presigned URL.
#[utoipa::path(get, path = "/api/v1/runs/{run_id}/artifacts/content", tag = "artifacts",
    params(("run_id" = String, Path), body::ContentQuery),
    responses((status = 200, body = Vec<u8>, content_type = "*/*",
        description = "The file, as an attachment of its own media type"),
    (status = 206, body = Vec<u8>, content_type = "*/*",
        description = "The requested range"),
    (status = 307, description = "The presigned URL is in `Location`"),
    (status = 416, description = "The range is outside of the file")))]
async fn content_of_run(
    State(registry): State<Registry>,
    Path(run_id): Path<String>,
    Query(query): Query<body::ContentQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file = use_cases::file_of_run(&registry, &run_id, &query.path).await?;
    content(&registry, &file, query.redirect, &headers).await
}

/// Uploads a file of a run. The body is the file, of any length; a file that is there is replaced.
#[utoipa::path(put, path = "/api/v1/runs/{run_id}/artifacts/content", tag = "artifacts",
    params(("run_id" = String, Path), body::UploadQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The file"),
    responses((status = 200, body = body::UploadedArtifact),
    (status = 409, description = "A model version pins the file")))]
async fn upload_to_run(
    State(registry): State<Registry>,
    caller: Caller,
    Path(run_id): Path<String>,
    Query(query): Query<body::UploadQuery>,
    bytes: Body,
) -> Answer<body::UploadedArtifact> {
    let length_bytes = bytes.size_hint().exact();
    let file = RunFile { run_id: &run_id, path: &query.path };
    let stored =
        use_cases::upload_to_run(&registry, caller, file, bytes.into_data_stream(), length_bytes).await?;
    Ok(Json(body::UploadedArtifact {
        path: query.path,
        size_bytes: stored.size_bytes,
        sha256: stored.sha256,
    }))
}

/// Lists a directory of a version's files, by name.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/artifacts", tag = "artifacts",
    params(("name" = String, Path), ("version" = String, Path), body::ArtifactsQuery),
    responses((status = 200, body = body::ArtifactPage)))]
async fn list_of_version(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<body::ArtifactsQuery>,
) -> Answer<body::ArtifactPage> {
    let directory = directory(&query)?;
    let listing = use_cases::list_version(&registry, version_name(&name, &version)?, &directory).await?;
    Ok(Json(page(listing, &directory, &query)?))
}

/// Reads the beginning of a file of a version.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/artifacts/preview", tag = "artifacts",
    params(("name" = String, Path), ("version" = String, Path), body::PreviewQuery),
    responses((status = 200, body = body::Preview)))]
async fn preview_of_version(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<body::PreviewQuery>,
) -> Answer<body::Preview> {
    let path = normalise_artifact_path(&query.path).map_err(Error::from)?;
    let file = use_cases::file_of_version(&registry, version_name(&name, &version)?, &path).await?;
    preview(&registry, &file, query).await
}

/// Downloads a file of a version, also by ranges.
///
/// With `redirect=true`, and where clients reach the artifact store, the response is a redirect to a
/// presigned URL.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/artifacts/content", tag = "artifacts",
    params(("name" = String, Path), ("version" = String, Path), body::ContentQuery),
    responses((status = 200, body = Vec<u8>, content_type = "*/*",
        description = "The file, as an attachment of its own media type"),
    (status = 206, body = Vec<u8>, content_type = "*/*",
        description = "The requested range"),
    (status = 307, description = "The presigned URL is in `Location`"),
    (status = 416, description = "The range is outside of the file")))]
async fn content_of_version(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<body::ContentQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let path = normalise_artifact_path(&query.path).map_err(Error::from)?;
    let file = use_cases::file_of_version(&registry, version_name(&name, &version)?, &path).await?;
    content(&registry, &file, query.redirect, &headers).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_other_bytes_are_not_text() {
        let text = "aä".as_bytes();
        assert_eq!(text_of(text, false), Some("aä"));
        assert_eq!(text_of(&text[..2], true), Some("a"));
        assert_eq!(text_of(&text[..2], false), None, "the file itself ends within a character");
        assert_eq!(text_of(b"a\xff", true), None);
        assert_eq!(text_of(b"a\0", true), None, "no text holds NUL");
    }
}
