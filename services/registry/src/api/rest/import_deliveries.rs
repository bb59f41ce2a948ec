//! REST v1: the bytes of imports that the registry cannot read itself. A token that is good for one import
//! alone is the only credential.

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use slipway_api::rest::registry as body;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_openapi::{DocumentedRouter, routes};
use uuid::Uuid;

use super::Answer;
use crate::error::Error;
use crate::imports::delivery as use_cases;
use crate::state::Registry;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(store)).routes(routes!(complete))
}

/// An import, and the token that is good for its bytes.
struct Delivering {
    import: Uuid,
    token: String,
}

impl Delivering {
    async fn admit(parts: &mut Parts, registry: &Registry) -> Result<Self, Error> {
        let unknown = || {
            let text = "expected `Authorization: Bearer` with the delivery token of this import";
            Error::Unauthenticated(text.to_owned())
        };
        let Path(id) = Path::<String>::from_request_parts(parts, registry).await.map_err(|_| unknown())?;
        let sent = parts.headers.get(header::AUTHORIZATION).and_then(|sent| sent.to_str().ok());
        let token = sent.and_then(|sent| sent.strip_prefix("Bearer ")).ok_or_else(unknown)?.trim().to_owned();
        let import = Uuid::parse_str(&id).map_err(|_| unknown())?;
        use_cases::find(registry, import, &token).await?;
        Ok(Self { import, token })
    }
}

impl FromRequestParts<Registry> for Delivering {
    type Rejection = Response;

    /// Before the body is read.
    async fn from_request_parts(parts: &mut Parts, registry: &Registry) -> Result<Self, Response> {
        Self::admit(parts, registry).await.map_err(|error| {
            let is_unknown = matches!(error, Error::Unauthenticated(_));
            let mut response = Problem::from(error).into_response();
            if is_unknown {
                let challenge = HeaderValue::from_static("Bearer realm=\"slipway\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            }
            response
        })
    }
}

/// Delivers a file of an import, authenticated by its delivery token. The body is the file, of any length; a
/// file that is there is replaced.
#[utoipa::path(put, path = "/api/v1/imports/{id}/files", tag = "imports",
    params(("id" = String, Path), body::UploadQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The file"),
    responses((status = 200, body = body::UploadedArtifact),
    (status = 401, description = "The token is not of this import, or has expired"),
    (status = 409, description = "The delivery is complete")))]
async fn store(
    State(registry): State<Registry>,
    Delivering { import, token }: Delivering,
    Query(query): Query<body::UploadQuery>,
    bytes: Body,
) -> Answer<body::UploadedArtifact> {
    let stored = use_cases::store(&registry, import, &token, &query.path, bytes).await?;
    Ok(Json(body::UploadedArtifact {
        path: query.path,
        size_bytes: stored.size_bytes,
        sha256: stored.sha256,
    }))
}

/// Completes the delivery of an import, authenticated by its delivery token. The files become a version soon
/// after. Repeating it changes nothing.
#[utoipa::path(post, path = "/api/v1/imports/{id}/complete", tag = "imports",
    params(("id" = String, Path)), request_body = body::DeliveredFiles,
    responses((status = 204, description = "It is complete"),
    (status = 401, description = "The token is not of this import, or has expired"),
    (status = 409, description = "Other files are there than those that are listed")))]
async fn complete(
    State(registry): State<Registry>,
    Delivering { import, token }: Delivering,
    JsonBody(listed): JsonBody<body::DeliveredFiles>,
) -> Result<StatusCode, Problem> {
    use_cases::complete(&registry, import, &token, &listed.files).await?;
    Ok(StatusCode::NO_CONTENT)
}
