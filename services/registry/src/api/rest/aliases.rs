//! REST v1: aliases of versions.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use slipway_api::rest::registry as body;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::bodies::{version_body, version_name};
use crate::models::aliases as use_cases;
use crate::state::Registry;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(one, put, delete))
}

/// Shows the version that an alias points at; `latest` is the newest version.
#[utoipa::path(get, path = "/api/v1/models/{name}/aliases/{alias}", tag = "aliases",
    params(("name" = String, Path), ("alias" = String, Path)),
    responses((status = 200, body = body::Version)))]
async fn one(
    State(registry): State<Registry>,
    Path((name, alias)): Path<(String, String)>,
) -> Answer<body::Version> {
    Ok(Json(version_body(&use_cases::get(&registry, &name, &alias).await?)))
}

/// Points an alias at a version, if the policy of the alias allows it. Deployments that watch the alias roll
/// the version out.
#[utoipa::path(put, path = "/api/v1/models/{name}/aliases/{alias}", tag = "aliases",
    params(("name" = String, Path), ("alias" = String, Path)), request_body = body::AliasTarget,
    responses((status = 204, description = "It points at the version")))]
async fn put(
    State(registry): State<Registry>,
    Path((name, alias)): Path<(String, String)>,
    JsonBody(target): JsonBody<body::AliasTarget>,
) -> Result<StatusCode, Problem> {
    let version = version_name(&name, &target.version)?.version;
    use_cases::set(&registry, &name, &alias, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes an alias, if there is one.
#[utoipa::path(delete, path = "/api/v1/models/{name}/aliases/{alias}", tag = "aliases",
    params(("name" = String, Path), ("alias" = String, Path)),
    responses((status = 204, description = "It is deleted")))]
async fn delete(
    State(registry): State<Registry>,
    Path((name, alias)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    use_cases::delete(&registry, &name, &alias).await?;
    Ok(StatusCode::NO_CONTENT)
}
