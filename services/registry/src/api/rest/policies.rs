//! REST v1: policies that guard aliases.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_domain::registry::promotion::Policy;
use slipway_http_server::extract::{JsonBody, Path, Query};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, version_name};
use crate::state::Registry;
use crate::store::policies::AliasPolicy;
use crate::trust::policies as use_cases;

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
    let policies = use_cases::list(&registry, &name).await?;
    Ok(Json(json!({"policies": policies.iter().map(body).collect::<Vec<Value>>()})))
}

/// Shows the policy of an alias.
#[utoipa::path(get, path = "/api/v1/models/{name}/policies/{alias}", tag = "policies",
    params(("name" = String, Path), ("alias" = String, Path)), responses((status = 200, body = Object)))]
async fn one(State(registry): State<Registry>, Path((name, alias)): Path<(String, String)>) -> Answer {
    Ok(Json(body(&use_cases::get(&registry, &name, &alias).await?)))
}

/// Guards an alias, in place of the policy before.
#[utoipa::path(put, path = "/api/v1/models/{name}/policies/{alias}", tag = "policies",
    params(("name" = String, Path), ("alias" = String, Path)), request_body = Object, responses((status = 200, body = Object)))]
async fn put(
    State(registry): State<Registry>,
    Path((name, alias)): Path<(String, String)>,
    JsonBody(policy): JsonBody<Policy>,
) -> Answer {
    Ok(Json(body(&use_cases::put(&registry, &name, &alias, &policy).await?)))
}

/// Takes the guard of an alias away.
#[utoipa::path(delete, path = "/api/v1/models/{name}/policies/{alias}", tag = "policies",
    params(("name" = String, Path), ("alias" = String, Path)), responses((status = 200, body = Object)))]
async fn delete(State(registry): State<Registry>, Path((name, alias)): Path<(String, String)>) -> Answer {
    use_cases::delete(&registry, &name, &alias).await?;
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
    let outcomes = use_cases::check(&registry, version_name(&name, &version)?, &query.alias).await?;
    let (guarded, outcomes) = (outcomes.is_some(), outcomes.unwrap_or_default());
    let allowed = outcomes.iter().all(|outcome| outcome.passed);
    Ok(Json(json!({"alias": query.alias, "guarded": guarded, "allowed": allowed, "rules": outcomes})))
}
