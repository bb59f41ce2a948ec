//! REST v1: policies that guard aliases.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_domain::registry::promotion::Policy;
use slipway_domain::registry::{validate_alias, validate_version};
use slipway_service_kit::Problem;
use slipway_service_kit::extract::{JsonBody, Path, Query};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Answer;
use crate::clock::now_ms;
use crate::error::Error;
use crate::models::promotion;
use crate::state::Registry;
use crate::store::policies::{self as table, AliasPolicy};
use crate::store::registered_models::{self, model_touch};

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(one, put, delete)).routes(routes!(check))
}

fn body(policy: &AliasPolicy) -> Value {
    json!({"alias": policy.alias, "rules": policy.policy.0.rules, "updated_at_unix_ms": policy.updated_ms})
}

/// Lists the policies of a model by the aliases that they guard.
#[utoipa::path(get, path = "/api/v1/models/{name}/policies", tag = "policies", params(("name" = String, Path)),
    responses((status = 200, body = Object)))]
async fn list(State(registry): State<Registry>, Path(name): Path<String>) -> Answer {
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    registered_models::model_require(&mut db, &name).await?;
    let policies = table::policies(&mut db, &name).await?;
    Ok(Json(json!({"policies": policies.iter().map(body).collect::<Vec<Value>>()})))
}

/// Shows the policy of an alias.
#[utoipa::path(get, path = "/api/v1/models/{name}/policies/{alias}", tag = "policies",
    params(("name" = String, Path), ("alias" = String, Path)), responses((status = 200, body = Object)))]
async fn one(State(registry): State<Registry>, Path((name, alias)): Path<(String, String)>) -> Answer {
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    registered_models::model_require(&mut db, &name).await?;
    let policy = table::policy_get(&mut db, &name, &alias).await?;
    Ok(Json(body(&policy.ok_or_else(|| unguarded(&name, &alias))?)))
}

fn unguarded(name: &str, alias: &str) -> Error {
    Error::not_found(format!("Nothing guards the alias '{alias}' of '{name}'"))
}

/// Guards an alias, in place of the policy before.
#[utoipa::path(put, path = "/api/v1/models/{name}/policies/{alias}", tag = "policies",
    params(("name" = String, Path), ("alias" = String, Path)), request_body = Object, responses((status = 200, body = Object)))]
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

/// Takes the guard of an alias away.
#[utoipa::path(delete, path = "/api/v1/models/{name}/policies/{alias}", tag = "policies",
    params(("name" = String, Path), ("alias" = String, Path)), responses((status = 200, body = Object)))]
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

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct CheckQuery {
    /// The alias, guarded or not.
    alias: String,
}

/// Says what setting an alias would say, without setting it.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/promotion", tag = "policies",
    params(("name" = String, Path), ("version" = String, Path), CheckQuery), responses((status = 200, body = Object)))]
async fn check(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<CheckQuery>,
) -> Answer {
    let number = validate_version(&version).map_err(Error::from)?;
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    crate::store::model_versions::version_get(&mut db, &name, number).await?;
    let outcomes = promotion::judge(&mut db, &name, &query.alias, number, &registry.access).await?;
    let (guarded, outcomes) = (outcomes.is_some(), outcomes.unwrap_or_default());
    let allowed = outcomes.iter().all(|outcome| outcome.passed);
    Ok(Json(json!({"alias": query.alias, "guarded": guarded, "allowed": allowed, "rules": outcomes})))
}
