//! REST v1: trusted keys, and the signature of a version.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use http::header;
use slipway_api::rest::Empty;
use slipway_api::rest::registry as body;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_model_signing::{MAX_BUNDLE_BYTES, Material};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::bodies::{signature_verdict, version_name};
use crate::state::Registry;
use crate::store::signatures::SigningKey;
use crate::trust::signatures as use_cases;
use crate::trust::signing::{Judged, Signed};

/// With room for what a client may wrap it in.
const MAX_BODY_BYTES: usize = MAX_BUNDLE_BYTES as usize + 1024;

pub(super) fn router() -> DocumentedRouter<Registry> {
    let limited = DocumentedRouter::new()
        .routes(routes!(show, attach, detach))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    limited.routes(routes!(bundle)).routes(routes!(keys)).routes(routes!(key, put_key, delete_key))
}

fn key_body(key: &SigningKey) -> body::SigningKey {
    let material = Material::from_pem(&key.pem).ok();
    body::SigningKey {
        name: key.name.clone(),
        kind: material.as_ref().map(Material::kind).map(str::to_owned),
        fingerprints: material.as_ref().and_then(|one| one.fingerprints().ok()),
        description: key.description.clone(),
        of: material.as_ref().map(Material::description),
        pem: key.pem.clone(),
        created_at_unix_ms: key.created_ms,
        updated_at_unix_ms: key.updated_ms,
    }
}

/// Lists trusted keys and root certificates.
#[utoipa::path(get, path = "/api/v1/signing-keys", tag = "trust", params(PageQuery),
    responses((status = 200, body = body::SigningKeyPage)))]
async fn keys(
    State(registry): State<Registry>,
    Query(query): Query<PageQuery>,
) -> Answer<body::SigningKeyPage> {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let found = use_cases::keys(&registry, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |key| key.name.clone());
    Ok(Json(body::SigningKeyPage { signing_keys: found.iter().map(key_body).collect(), next_page_token }))
}

/// Shows a key or root certificate.
#[utoipa::path(get, path = "/api/v1/signing-keys/{name}", tag = "trust", params(("name" = String, Path)),
    responses((status = 200, body = body::SigningKey)))]
async fn key(State(registry): State<Registry>, Path(name): Path<String>) -> Answer<body::SigningKey> {
    Ok(Json(key_body(&use_cases::key(&registry, &name).await?)))
}

/// Trusts a key or root certificates; they replace the previous ones of that name.
#[utoipa::path(put, path = "/api/v1/signing-keys/{name}", tag = "trust", params(("name" = String, Path)),
    request_body = body::NewSigningKey, responses((status = 200, body = body::SigningKey),
        (status = 409, description = "There are too many keys")))]
async fn put_key(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(new): JsonBody<body::NewSigningKey>,
) -> Answer<body::SigningKey> {
    let description = new.description.as_deref();
    let stored = use_cases::trust_key(&registry, &name, &new.pem, description).await?;
    Ok(Json(key_body(&stored)))
}

/// Removes a trusted key.
#[utoipa::path(delete, path = "/api/v1/signing-keys/{name}", tag = "trust", params(("name" = String, Path)),
    responses((status = 200, body = Empty)))]
async fn delete_key(State(registry): State<Registry>, Path(name): Path<String>) -> Answer<Empty> {
    use_cases::delete_key(&registry, &name).await?;
    Ok(Json(Empty {}))
}

fn judged_body(judged: &Judged) -> body::VersionSignature {
    let found = |one: &Signed| body::FoundSignature {
        verdict: signature_verdict(&one.verdict),
        // `attached` cannot be confused with a file: only two names are looked for.
        found_in: if one.path.is_empty() { "attached".to_owned() } else { one.path.clone() },
        created_at_unix_ms: one.created_ms,
    };
    body::VersionSignature {
        verdict: signature_verdict(&judged.verdict),
        signatures: judged.each.iter().map(found).collect(),
    }
}

/// Shows how a version is signed.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/signature", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = body::VersionSignature)))]
async fn show(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
) -> Answer<body::VersionSignature> {
    let judged = use_cases::judged(&registry, version_name(&name, &version)?).await?;
    Ok(Json(judged_body(&judged)))
}

/// Returns the bundle of a signature unchanged, for tools that verify it themselves.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/signature/bundle", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = body::Bundle,
        content_type = "application/vnd.dev.sigstore.bundle.v0.3+json")))]
async fn bundle(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let bundle = use_cases::bundle(&registry, version_name(&name, &version)?).await?;
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    Ok(([(header::CONTENT_TYPE, kind)], bundle).into_response())
}

/// Attaches a signature: a Sigstore bundle as OpenSSF Model Signing writes it.
#[utoipa::path(put, path = "/api/v1/models/{name}/versions/{version}/signature", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)),
    request_body = body::Bundle, responses((status = 200, body = body::VersionSignature)))]
async fn attach(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    bundle: String,
) -> Answer<body::VersionSignature> {
    let judged = use_cases::attach(&registry, version_name(&name, &version)?, bundle).await?;
    Ok(Json(judged_body(&judged)))
}

/// Removes the attached signature.
#[utoipa::path(delete, path = "/api/v1/models/{name}/versions/{version}/signature", tag = "trust",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = body::VersionSignature)))]
async fn detach(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
) -> Answer<body::VersionSignature> {
    let judged = use_cases::detach(&registry, version_name(&name, &version)?).await?;
    Ok(Json(judged_body(&judged)))
}
