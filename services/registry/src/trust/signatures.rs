//! Use cases of signatures and of the keys that are trusted: attach and detach a signature, trust a key and
//! stop to.

use serde_json::json;
use slipway_model_signing::{Material, check_shape};

use super::signing::{self, Judged, MAX_KEYS};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::model_versions::{VersionName, version_get};
use crate::store::registered_models::model_touch;
use crate::store::signatures::{self as table, Signature, SigningKey};

/// Characters of a key's name.
const MAX_NAME_CHARS: usize = 128;
/// Characters of its description.
const MAX_DESCRIPTION_CHARS: usize = 1_000;

fn unknown(name: &str) -> Error {
    Error::not_found(format!("No signing key '{name}' is trusted"))
}

/// A page of the trusted keys, by name, behind the given one.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn keys(
    registry: &Registry,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<SigningKey>, Error> {
    table::keys(&mut *registry.pool.acquire().await?, after, limit).await
}

/// A trusted key.
///
/// # Errors
/// It is not trusted, or Postgres is unreachable.
pub(crate) async fn key(registry: &Registry, name: &str) -> Result<SigningKey, Error> {
    let found = table::key_get(&mut *registry.pool.acquire().await?, name).await?;
    found.ok_or_else(|| unknown(name))
}

/// Trusts a public key or root certificates (PEM), which replace those of that name.
///
/// # Errors
/// A value is invalid, too many keys are trusted, or Postgres is unreachable.
pub(crate) async fn trust_key(
    registry: &Registry,
    name: &str,
    pem: &str,
    description: Option<&str>,
) -> Result<SigningKey, Error> {
    let is_valid = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | '.');
    if name.len() > MAX_NAME_CHARS || !name.chars().all(is_valid) {
        let expected = format!("expected up to {MAX_NAME_CHARS} letters, digits, '-', '_' and '.'");
        return Err(Error::invalid("name", expected));
    }
    if description.is_some_and(|text| text.chars().count() > MAX_DESCRIPTION_CHARS) {
        let expected = format!("expected up to {MAX_DESCRIPTION_CHARS} characters");
        return Err(Error::invalid("description", expected));
    }
    let material = Material::from_pem(pem).map_err(|why| Error::invalid("pem", why.to_string()))?;
    let mut change = registry.change().await?;
    if table::keys_besides(change.db(), name).await? >= MAX_KEYS {
        return Err(Error::Conflict(format!(
            "{MAX_KEYS} signing keys are trusted already; remove one first"
        )));
    }
    table::key_put(change.db(), (name, pem, description), now_ms()).await?;
    let fingerprints = material.fingerprints().map_err(|why| Error::invalid("pem", why.to_string()))?;
    let details = json!({"kind": material.kind(), "fingerprints": fingerprints});
    change.tell("signing-key", "set", name, details).await?;
    let stored = table::key_get(change.db(), name).await?.ok_or_else(|| unknown(name))?;
    change.commit().await?;
    Ok(stored)
}

/// Stops trusting a key.
///
/// # Errors
/// It is not trusted, or Postgres is unreachable.
pub(crate) async fn delete_key(registry: &Registry, name: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    if !table::key_delete(change.db(), name).await? {
        return Err(unknown(name));
    }
    change.tell("signing-key", "deleted", name, json!({})).await?;
    change.commit().await
}

/// How a version is signed.
///
/// # Errors
/// The version does not exist, or Postgres is unreachable.
pub(crate) async fn judged(registry: &Registry, name: VersionName<'_>) -> Result<Judged, Error> {
    let mut db = registry.pool.acquire().await?;
    let found = version_get(&mut db, name.model, name.version).await?;
    signing::judge(&mut db, found.model_key, found.version).await
}

/// The first readable signature of a version, as a Sigstore bundle.
///
/// # Errors
/// The version does not exist or has no signature, or Postgres is unreachable.
pub(crate) async fn bundle(registry: &Registry, name: VersionName<'_>) -> Result<String, Error> {
    let VersionName { model, version } = name;
    let mut db = registry.pool.acquire().await?;
    let found = version_get(&mut db, model, version).await?;
    let mut all = table::signatures(&mut db, found.model_key, found.version).await?.into_iter();
    let first = all.find(|one| one.fault.is_none());
    let first =
        first.ok_or_else(|| Error::not_found(format!("Version {version} of '{model}' has no signature")));
    Ok(first?.bundle)
}

/// Attaches a signature: a Sigstore bundle as OpenSSF Model Signing makes it.
///
/// # Errors
/// It is no bundle, the version does not exist, or Postgres is unreachable.
pub(crate) async fn attach(
    registry: &Registry,
    name: VersionName<'_>,
    bundle: String,
) -> Result<Judged, Error> {
    check_shape(&bundle).map_err(|why| Error::invalid("body", why.to_string()))?;
    let VersionName { model, version } = name;
    let mut change = registry.change().await?;
    let model_key = model_touch(change.db(), model, now_ms()).await?;
    let found = version_get(change.db(), model, version).await?;
    let signature = Signature { path: String::new(), line: 0, bundle, fault: None, created_ms: now_ms() };
    table::signature_put(change.db(), model_key, version, &signature).await?;
    let judged = signing::judge(change.db(), model_key, version).await?;
    let verdict = &judged.verdict;
    let details = json!({
        "model": model, "version": version.to_string(), "digest": found.digest,
        "state": verdict.state, "key": verdict.key, "signer": verdict.signer,
    });
    change.tell("model-version", "signed", format!("{model}/{version}"), details).await?;
    change.commit().await?;
    Ok(judged)
}

/// Removes the attached signature.
///
/// # Errors
/// The version does not exist, no signature is attached to it, or Postgres is unreachable.
pub(crate) async fn detach(registry: &Registry, name: VersionName<'_>) -> Result<Judged, Error> {
    let VersionName { model, version } = name;
    let mut change = registry.change().await?;
    let model_key = model_touch(change.db(), model, now_ms()).await?;
    version_get(change.db(), model, version).await?;
    if !table::signature_detach(change.db(), model_key, version).await? {
        return Err(Error::not_found(format!("No signature is attached to version {version} of '{model}'")));
    }
    let judged = signing::judge(change.db(), model_key, version).await?;
    let details = json!({"model": model, "version": version.to_string(), "state": judged.verdict.state});
    change.tell("model-version", "signature-removed", format!("{model}/{version}"), details).await?;
    change.commit().await?;
    Ok(judged)
}
