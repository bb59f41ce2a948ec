//! REST v1: policies that guard aliases.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_domain::registry::promotion::Policy;
use slipway_domain::registry::{validate_alias, validate_version};
use slipway_service_kit::Problem;
use slipway_service_kit::extract::{JsonBody, Query};

use super::Answer;
use crate::error::Error;
use crate::promotion;
use crate::state::{Registry, now_ms};
use crate::store::policies::{self as table, AliasPolicy};
use crate::store::registered_models::{self, model_touch};

pub(super) fn router() -> Router<Registry> {
    Router::new()
        .route("/api/v1/models/{name}/policies", get(list))
        .route("/api/v1/models/{name}/policies/{alias}", get(one).put(put).delete(delete))
        .route("/api/v1/models/{name}/versions/{version}/promotion", get(check))
}

fn body(policy: &AliasPolicy) -> Value {
    json!({"alias": policy.alias, "rules": policy.policy.0.rules, "updated_at_unix_ms": policy.updated_ms})
}

async fn list(State(registry): State<Registry>, Path(name): Path<String>) -> Answer {
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    registered_models::model_require(&mut db, &name).await?;
    let policies = table::policies(&mut db, &name).await?;
    Ok(Json(json!({"policies": policies.iter().map(body).collect::<Vec<Value>>()})))
}

async fn one(State(registry): State<Registry>, Path((name, alias)): Path<(String, String)>) -> Answer {
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    registered_models::model_require(&mut db, &name).await?;
    let policy = table::policy_get(&mut db, &name, &alias).await?;
    Ok(Json(body(&policy.ok_or_else(|| unguarded(&name, &alias))?)))
}

fn unguarded(name: &str, alias: &str) -> Error {
    Error::not_found(format!("Nothing guards the alias '{alias}' of '{name}'"))
}

async fn put(
    State(registry): State<Registry>,
    Path((name, alias)): Path<(String, String)>,
    JsonBody(policy): JsonBody<Policy>,
) -> Answer {
    validate_alias(&alias).map_err(|invalid| Problem::invalid(invalid.field, invalid.message))?;
    policy.validate().map_err(|invalid| Problem::invalid(invalid.field, invalid.message))?;
    let mut change = registry.change().await?;
    let model_key = model_touch(change.db(), &name, now_ms()).await?;
    table::policy_put(change.db(), model_key, &alias, &policy, now_ms()).await?;
    change.tell("model", "updated", name.as_str(), json!({"policy": alias, "rules": policy.rules})).await?;
    let stored = table::policy_get(change.db(), &name, &alias).await?;
    change.commit().await?;
    Ok(Json(body(&stored.ok_or_else(|| unguarded(&name, &alias))?)))
}

async fn delete(State(registry): State<Registry>, Path((name, alias)): Path<(String, String)>) -> Answer {
    let mut change = registry.change().await?;
    let model_key = model_touch(change.db(), &name, now_ms()).await?;
    if !table::policy_delete(change.db(), model_key, &alias).await? {
        return Err(unguarded(&name, &alias).into());
    }
    change.tell("model", "updated", name, json!({"policy": alias, "rules": null})).await?;
    change.commit().await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
struct CheckQuery {
    alias: String,
}

/// What setting the alias would say, without setting it.
async fn check(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<CheckQuery>,
) -> Answer {
    let number = validate_version(&version).map_err(Error::from)?;
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    crate::store::model_versions::version_get(&mut db, &name, number).await?;
    let outcomes = promotion::judge(&mut db, &name, &query.alias, number).await?;
    let (guarded, outcomes) = (outcomes.is_some(), outcomes.unwrap_or_default());
    let allowed = outcomes.iter().all(|outcome| outcome.passed);
    Ok(Json(json!({"alias": query.alias, "guarded": guarded, "allowed": allowed, "rules": outcomes})))
}
