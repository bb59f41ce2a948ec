//! REST v1: policies that guard aliases.

use axum::Json;
use axum::extract::State;
use slipway_api::rest::Empty;
use slipway_api::rest::registry as body;
use slipway_domain::registry::promotion::Policy;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::bodies::version_name;
use crate::state::Registry;
use crate::store::policies::AliasPolicy;
use crate::trust::policies as use_cases;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(list)).routes(routes!(one, put, delete)).routes(routes!(check))
}

fn policy_body(policy: &AliasPolicy) -> body::AliasPolicy {
    body::AliasPolicy {
        alias: policy.alias.clone(),
        rules: policy.policy.0.rules.clone(),
        updated_at_unix_ms: policy.updated_ms,
    }
}

/// Lists the policies of a model by the aliases that they guard.
#[utoipa::path(get, path = "/api/v1/models/{name}/policies", tag = "policies",
    params(("name" = String, Path)),
    responses((status = 200, body = body::AliasPolicies)))]
async fn list(State(registry): State<Registry>, Path(name): Path<String>) -> Answer<body::AliasPolicies> {
    let policies = use_cases::list(&registry, &name).await?;
    Ok(Json(body::AliasPolicies { policies: policies.iter().map(policy_body).collect() }))
}

/// Shows the policy of an alias.
#[utoipa::path(get, path = "/api/v1/models/{name}/policies/{alias}", tag = "policies",
    params(("name" = String, Path), ("alias" = String, Path)),
    responses((status = 200, body = body::AliasPolicy)))]
async fn one(
    State(registry): State<Registry>,
    Path((name, alias)): Path<(String, String)>,
) -> Answer<body::AliasPolicy> {
    Ok(Json(policy_body(&use_cases::get(&registry, &name, &alias).await?)))
}

/// Guards an alias; the policy replaces the previous one.
#[utoipa::path(put, path = "/api/v1/models/{name}/policies/{alias}", tag = "policies",
    params(("name" = String, Path), ("alias" = String, Path)), request_body = Policy,
    responses((status = 200, body = body::AliasPolicy)))]
async fn put(
    State(registry): State<Registry>,
    Path((name, alias)): Path<(String, String)>,
    JsonBody(policy): JsonBody<Policy>,
) -> Answer<body::AliasPolicy> {
    Ok(Json(policy_body(&use_cases::put(&registry, &name, &alias, &policy).await?)))
}

/// Removes the policy of an alias.
#[utoipa::path(delete, path = "/api/v1/models/{name}/policies/{alias}", tag = "policies",
    params(("name" = String, Path), ("alias" = String, Path)), responses((status = 200, body = Empty)))]
async fn delete(
    State(registry): State<Registry>,
    Path((name, alias)): Path<(String, String)>,
) -> Answer<Empty> {
    use_cases::delete(&registry, &name, &alias).await?;
    Ok(Json(Empty {}))
}

/// Checks whether an alias can be set to a version, without setting it.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/promotion", tag = "policies",
    params(("name" = String, Path), ("version" = String, Path), body::PromotionQuery),
    responses((status = 200, body = body::Promotion)))]
async fn check(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<body::PromotionQuery>,
) -> Answer<body::Promotion> {
    let outcomes = use_cases::check(&registry, version_name(&name, &version)?, &query.alias).await?;
    let (guarded, rules) = (outcomes.is_some(), outcomes.unwrap_or_default());
    let allowed = rules.iter().all(|outcome| outcome.passed);
    Ok(Json(body::Promotion { alias: query.alias, guarded, allowed, rules }))
}
