//! REST v1: keys whose signatures count, and the signature of a version.

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use http::header;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_model_signing::{MAX_BUNDLE_BYTES, Material, check_shape};
use slipway_service_kit::Problem;
use slipway_service_kit::extract::{JsonBody, Path, Query};
use slipway_service_kit::page::{PageQuery, cut};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, page, version_of};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::registered_models::model_touch;
use crate::store::signatures::{self as table, Signature, SigningKey};
use crate::trust::signing::{self, Judged, MAX_KEYS};

/// Characters of a key's name.
const MAX_NAME_CHARS: usize = 128;
/// Characters of its description.
const MAX_DESCRIPTION_CHARS: usize = 1_000;
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

fn unknown(name: &str) -> Error {
    Error::not_found(format!("No signing key '{name}' is trusted"))
}

/// Lists the keys and root certificates whose signatures count.
#[utoipa::path(get, path = "/api/v1/signing-keys", tag = "trust", params(PageQuery), responses((status = 200, body = Object)))]
async fn keys(State(registry): State<Registry>, Query(query): Query<PageQuery>) -> Answer {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let mut db = registry.pool.acquire().await?;
    let found = table::keys(&mut db, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |key| key.name.clone());
    Ok(page("signing_keys", found.iter().map(key_body).collect(), token))
}

/// Shows a key or root certificate.
#[utoipa::path(get, path = "/api/v1/signing-keys/{name}", tag = "trust", params(("name" = String, Path)), responses((status = 200, body = Object)))]
async fn key(State(registry): State<Registry>, Path(name): Path<String>) -> Answer {
    let mut db = registry.pool.acquire().await?;
    Ok(Json(key_body(&table::key_get(&mut db, &name).await?.ok_or_else(|| unknown(&name))?)))
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
    let lawful = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | '.');
    if name.len() > MAX_NAME_CHARS || !name.chars().all(lawful) {
        let expected = format!("expected up to {MAX_NAME_CHARS} letters, digits, '-', '_' and '.'");
        return Err(Problem::invalid("name", expected));
    }
    if new.description.as_ref().is_some_and(|text| text.chars().count() > MAX_DESCRIPTION_CHARS) {
        let expected = format!("expected up to {MAX_DESCRIPTION_CHARS} characters");
        return Err(Problem::invalid("description", expected));
    }
    let material = Material::from_pem(&new.pem).map_err(|why| Problem::invalid("pem", why.to_string()))?;
    let mut change = registry.change().await?;
    if table::keys_besides(change.db(), &name).await? >= MAX_KEYS {
        return Err(Problem::conflict(format!(
            "{MAX_KEYS} signing keys are trusted already; remove one first"
        )));
    }
    table::key_put(change.db(), (&name, &new.pem, new.description.as_deref()), now_ms()).await?;
    let fingerprints = material.fingerprints().map_err(|why| Problem::invalid("pem", why.to_string()))?;
    let details = json!({"kind": material.kind(), "fingerprints": fingerprints});
    change.tell("signing-key", "set", name.as_str(), details).await?;
    let stored = table::key_get(change.db(), &name).await?.ok_or_else(|| unknown(&name))?;
    change.commit().await?;
    Ok(Json(key_body(&stored)))
}

/// Trusts a key no longer.
#[utoipa::path(delete, path = "/api/v1/signing-keys/{name}", tag = "trust", params(("name" = String, Path)), responses((status = 200, body = Object)))]
async fn delete_key(State(registry): State<Registry>, Path(name): Path<String>) -> Answer {
    let mut change = registry.change().await?;
    if !table::key_delete(change.db(), &name).await? {
        return Err(unknown(&name).into());
    }
    change.tell("signing-key", "deleted", name, json!({})).await?;
    change.commit().await?;
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
    let mut db = registry.pool.acquire().await?;
    let found = version_of(&mut db, &name, &version).await?;
    Ok(Json(judged_body(&signing::judge(&mut db, found.model_key, found.version).await?)))
}

/// Fetches the signature's bundle as it came, for tools that verify it themselves.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/signature/bundle", tag = "trust", params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = Object, content_type = "application/vnd.dev.sigstore.bundle.v0.3+json")))]
async fn bundle(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let mut db = registry.pool.acquire().await?;
    let found = version_of(&mut db, &name, &version).await?;
    let mut all = table::signatures(&mut db, found.model_key, found.version).await?.into_iter();
    let first = all.find(|one| one.fault.is_none());
    let first =
        first.ok_or_else(|| Error::not_found(format!("Version {version} of '{name}' has no signature")))?;
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    Ok(([(header::CONTENT_TYPE, kind)], first.bundle).into_response())
}

/// Attaches a signature: a Sigstore bundle as OpenSSF Model Signing makes it.
#[utoipa::path(put, path = "/api/v1/models/{name}/versions/{version}/signature", tag = "trust", params(("name" = String, Path), ("version" = String, Path)), request_body = Object, responses((status = 200, body = Object)))]
async fn attach(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    bundle: String,
) -> Answer {
    check_shape(&bundle).map_err(|why| Problem::invalid("body", why.to_string()))?;
    let mut change = registry.change().await?;
    let model_key = model_touch(change.db(), &name, now_ms()).await?;
    let found = version_of(change.db(), &name, &version).await?;
    let signature = Signature { path: String::new(), line: 0, bundle, fault: None, created_ms: now_ms() };
    table::signature_put(change.db(), model_key, found.version, &signature).await?;
    let judged = signing::judge(change.db(), model_key, found.version).await?;
    let verdict = &judged.verdict;
    let details = json!({
        "model": name, "version": version, "digest": found.digest,
        "state": verdict.state, "key": verdict.key, "signer": verdict.signer,
    });
    change.tell("model-version", "signed", format!("{name}/{version}"), details).await?;
    change.commit().await?;
    Ok(Json(judged_body(&judged)))
}

/// Removes the attached signature.
#[utoipa::path(delete, path = "/api/v1/models/{name}/versions/{version}/signature", tag = "trust", params(("name" = String, Path), ("version" = String, Path)), responses((status = 200, body = Object)))]
async fn detach(State(registry): State<Registry>, Path((name, version)): Path<(String, String)>) -> Answer {
    let mut change = registry.change().await?;
    let model_key = model_touch(change.db(), &name, now_ms()).await?;
    let found = version_of(change.db(), &name, &version).await?;
    if !table::signature_detach(change.db(), model_key, found.version).await? {
        return Err(
            Error::not_found(format!("No signature is attached to version {version} of '{name}'")).into()
        );
    }
    let judged = signing::judge(change.db(), model_key, found.version).await?;
    let details = json!({"model": name, "version": version, "state": judged.verdict.state});
    change.tell("model-version", "signature-removed", format!("{name}/{version}"), details).await?;
    change.commit().await?;
    Ok(Json(judged_body(&judged)))
}
