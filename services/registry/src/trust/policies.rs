//! Use cases of policies that guard aliases: set, delete, list, and check a version against one.

use serde_json::json;
use slipway_domain::registry::promotion::{Outcome, Policy};
use slipway_domain::registry::validate_alias;

use crate::clock::now_ms;
use crate::error::Error;
use crate::models::promotion;
use crate::state::Registry;
use crate::store::model_versions::{VersionName, version_get};
use crate::store::policies::{self as table, AliasPolicy};
use crate::store::registered_models::{model_require, model_touch};

fn unguarded(model: &str, alias: &str) -> Error {
    Error::not_found(format!("The alias '{alias}' of '{model}' has no policy"))
}

/// The policies of a model, by alias.
///
/// # Errors
/// The model does not exist, or Postgres is unreachable.
pub(crate) async fn list(registry: &Registry, model: &str) -> Result<Vec<AliasPolicy>, Error> {
    let mut db = registry.pool.acquire().await?;
    model_require(&mut db, model).await?;
    table::policies(&mut db, model).await
}

/// The policy of an alias.
///
/// # Errors
/// The model does not exist or no policy guards the alias, or Postgres is unreachable.
pub(crate) async fn get(registry: &Registry, model: &str, alias: &str) -> Result<AliasPolicy, Error> {
    let mut db = registry.pool.acquire().await?;
    model_require(&mut db, model).await?;
    table::policy_get(&mut db, model, alias).await?.ok_or_else(|| unguarded(model, alias))
}

/// Guards an alias by a policy, which replaces the one before.
///
/// # Errors
/// The alias or the policy is invalid, the model does not exist, or Postgres is unreachable.
pub(crate) async fn put(
    registry: &Registry,
    model: &str,
    alias: &str,
    policy: &Policy,
) -> Result<AliasPolicy, Error> {
    validate_alias(alias)?;
    policy.validate()?;
    let mut change = registry.change().await?;
    let model_key = model_touch(change.db(), model, now_ms()).await?;
    table::policy_put(change.db(), model_key, alias, policy, now_ms()).await?;
    change.tell("model", "updated", model, json!({"policy": alias, "rules": policy.rules})).await?;
    let stored = table::policy_get(change.db(), model, alias).await?;
    change.commit().await?;
    stored.ok_or_else(|| unguarded(model, alias))
}

/// Removes the policy of an alias.
///
/// # Errors
/// The model does not exist or no policy guards the alias, or Postgres is unreachable.
pub(crate) async fn delete(registry: &Registry, model: &str, alias: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let model_key = model_touch(change.db(), model, now_ms()).await?;
    if !table::policy_delete(change.db(), model_key, alias).await? {
        return Err(unguarded(model, alias));
    }
    change.tell("model", "updated", model, json!({"policy": alias, "rules": null})).await?;
    change.commit().await
}

/// What the policy of an alias decides about a version; `None` if no policy guards the alias.
///
/// # Errors
/// The version does not exist, or Postgres is unreachable.
pub(crate) async fn check(
    registry: &Registry,
    name: VersionName<'_>,
    alias: &str,
) -> Result<Option<Vec<Outcome>>, Error> {
    let mut db = registry.pool.acquire().await?;
    version_get(&mut db, name.model, name.version).await?;
    promotion::judge(&mut db, name.model, alias, name.version, &registry.access).await
}
