//! Use cases of retention rules: set, delete, list and read. [`super::retention`] applies them.

use serde_json::json;
use slipway_domain::registry::retention::Rule;
use slipway_domain::registry::webhook::validate_slug;

use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::retention::{self as table, Stored};

/// A page of rules, by name, behind the given one.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn list(registry: &Registry, after: Option<&str>, limit: i64) -> Result<Vec<Stored>, Error> {
    table::rule_list(&mut *registry.pool.acquire().await?, after, limit).await
}

/// The rule of that name.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn get(registry: &Registry, name: &str) -> Result<Stored, Error> {
    table::rule_get(&mut *registry.pool.acquire().await?, name).await
}

/// Creates a rule, or replaces the one of that name; `true` if it is new.
///
/// # Errors
/// The name or the rule is invalid, or Postgres is unreachable.
pub(crate) async fn put(
    registry: &Registry,
    name: &str,
    rule: &Rule,
    enabled: bool,
) -> Result<(Stored, bool), Error> {
    validate_slug(name)?;
    rule.validate()?;
    let mut change = registry.change().await?;
    let is_new = table::rule_put(change.db(), name, rule, enabled, now_ms()).await?;
    let stored = table::rule_get(change.db(), name).await?;
    let details = json!({"rule": rule, "enabled": enabled});
    change.tell("retention-rule", if is_new { "created" } else { "updated" }, name, details).await?;
    change.commit().await?;
    Ok((stored, is_new))
}

/// Deletes a rule; what it archived or deleted stays as it is.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn delete(registry: &Registry, name: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    table::rule_delete(change.db(), name).await?;
    change.tell("retention-rule", "deleted", name, json!({})).await?;
    change.commit().await
}
