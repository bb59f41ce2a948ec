//! REST v1: keys whose signatures count, and the signature of a version.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use http::header;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_model_signing::{MAX_BUNDLE_BYTES, Material};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, page, version_name};
use crate::state::Registry;
use crate::store::signatures::SigningKey;
use crate::trust::signatures as use_cases;
use crate::trust::signing::Judged;

/// With room for what a client may wrap it in.
const MAX_BODY_BYTES: usize = MAX_BUNDLE_BYTES as usize + 1024;

pub(super) fn router() -> OpenApiRouter<Registry> {
    let limited = OpenApiRouter::new()
        .routes(routes!(show, attach, detach))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    limited.routes(routes!(bundle)).routes(routes!(keys)).routes(routes!(key, put_key, delete_key))
}

fn key_body(key: &SigningKey) -> Value {
    let material = Material::from_pem(&key.pem).ok();
    let kind = material.as_ref().map(Material::kind);
    let fingerprints = material.as_ref().and_then(|one| one.fingerprints().ok());
    json!({
        "name": key.name, "kind": kind, "fingerprints": fingerprints, "description": key.description,
        "of": material.as_ref().map(Material::description), "pem": key.pem,
        "created_at_unix_ms": key.created_ms, "updated_at_unix_ms": key.updated_ms,
    })
}

/// Lists the keys and root certificates whose signatures count.
#[utoipa::path(get, path = "/api/v1/signing-keys", tag = "trust", params(PageQuery), responses((status = 200, body = Object)))]
async fn keys(State(registry): State<Registry>, Query(query): Query<PageQuery>) -> Answer {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let found = use_cases::keys(&registry, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |key| key.name.clone());
    Ok(page("signing_keys", found.iter().map(key_body).collect(), token))
}

/// Shows a key or root certificate.
#[utoipa::path(get, path = "/api/v1/signing-keys/{name}", tag = "trust", params(("name" = String, Path)), responses((status = 200, body = Object)))]
async fn key(State(registry): State<Registry>, Path(name): Path<String>) -> Answer {
    Ok(Json(key_body(&use_cases::key(&registry, &name).await?)))
}

/// A key that is to count.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// A public key or root certificates, PEM.
    pem: String,
    #[serde(default)]
    description: Option<String>,
}

/// Trusts a key or root certificates, in place of the one of that name before.
#[utoipa::path(put, path = "/api/v1/signing-keys/{name}", tag = "trust", params(("name" = String, Path)), request_body = NewKey, responses((status = 200, body = Object)))]
async fn put_key(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(new): JsonBody<NewKey>,
) -> Answer {
    let description = new.description.as_deref();
    let stored = use_cases::trust_key(&registry, &name, &new.pem, description).await?;
    Ok(Json(key_body(&stored)))
}

/// Trusts a key no longer.
#[utoipa::path(delete, path = "/api/v1/signing-keys/{name}", tag = "trust", params(("name" = String, Path)), responses((status = 200, body = Object)))]
async fn delete_key(State(registry): State<Registry>, Path(name): Path<String>) -> Answer {
    use_cases::delete_key(&registry, &name).await?;
    Ok(Json(json!({})))
}

fn judged_body(judged: &Judged) -> Value {
    let each: Vec<Value> = judged
        .each
        .iter()
        .map(|one| {
            let mut body = json!(one.verdict);
            // `attached` cannot be confused with a file: only two names are looked for.
            body["found_in"] = if one.path.is_empty() { "attached".into() } else { one.path.as_str().into() };
            body["created_at_unix_ms"] = one.created_ms.into();
            body
        })
        .collect();
    let mut body = json!(judged.verdict);
    body["signatures"] = each.into();
    body
}

/// Shows how a version is signed.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/signature", tag = "trust", params(("name" = String, Path), ("version" = String, Path)), responses((status = 200, body = Object)))]
async fn show(State(registry): State<Registry>, Path((name, version)): Path<(String, String)>) -> Answer {
    let judged = use_cases::judged(&registry, version_name(&name, &version)?).await?;
    Ok(Json(judged_body(&judged)))
}

/// Fetches the signature's bundle as it came, for tools that verify it themselves.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/signature/bundle", tag = "trust", params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = Object, content_type = "application/vnd.dev.sigstore.bundle.v0.3+json")))]
async fn bundle(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let bundle = use_cases::bundle(&registry, version_name(&name, &version)?).await?;
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    Ok(([(header::CONTENT_TYPE, kind)], bundle).into_response())
}

/// Attaches a signature: a Sigstore bundle as OpenSSF Model Signing makes it.
#[utoipa::path(put, path = "/api/v1/models/{name}/versions/{version}/signature", tag = "trust", params(("name" = String, Path), ("version" = String, Path)), request_body = Object, responses((status = 200, body = Object)))]
async fn attach(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    bundle: String,
) -> Answer {
    let judged = use_cases::attach(&registry, version_name(&name, &version)?, bundle).await?;
    Ok(Json(judged_body(&judged)))
}

/// Removes the attached signature.
#[utoipa::path(delete, path = "/api/v1/models/{name}/versions/{version}/signature", tag = "trust", params(("name" = String, Path), ("version" = String, Path)), responses((status = 200, body = Object)))]
async fn detach(State(registry): State<Registry>, Path((name, version)): Path<(String, String)>) -> Answer {
    let judged = use_cases::detach(&registry, version_name(&name, &version)?).await?;
    Ok(Json(judged_body(&judged)))
}
