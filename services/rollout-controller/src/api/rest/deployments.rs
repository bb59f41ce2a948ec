//! Deployments and what operators change about their traffic.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde_json::{Map, Value};
use slipway_access::Caller;
use slipway_api::rest::rollouts::{
    Deployment, DeploymentPatch, Deployments, KillSwitchRequest, NewDeployment, NewRollout, RollbackRequest,
    Rollout, RulesRequest,
};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};
use uuid::Uuid;

use super::bodies;
use crate::state::State;
use crate::store::{deployments, notices, rollouts};
use crate::{acknowledge, drills, manage, overrides, update};

pub(super) fn router() -> DocumentedRouter<State> {
    DocumentedRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, change, delete))
        .routes(routes!(roll_back))
        .routes(routes!(start))
        .routes(routes!(set_rules))
        .routes(routes!(kill, revive))
}

/// Creates a deployment and starts the rollout of its first version.
#[utoipa::path(post, path = "/api/v1/deployments", tag = "deployments", request_body = NewDeployment,
    responses((status = 201, description = "Created", body = Deployment),
        (status = 404, description = "The version or alias does not exist"),
        (status = 409, description = "A deployment of this name exists, or the version cannot be served")))]
async fn create(
    Shared(state): Shared<State>,
    JsonBody(new): JsonBody<NewDeployment>,
) -> Result<(StatusCode, Json<Deployment>), Problem> {
    let (deployment, started) = manage::create(&state, new, None).await?;
    let active = started.state.is_active().then_some(started.id);
    Ok((StatusCode::CREATED, Json(bodies::deployment(deployment, active, Vec::new()))))
}

async fn show(state: &State, name: &str) -> Result<Deployment, Problem> {
    let mut connection = state.pool.acquire().await?;
    let deployment = manage::find(&mut connection, name).await?;
    let newest = rollouts::newest(&mut connection, deployment.deployment_key).await?;
    let active = newest.filter(|newest| newest.state.is_active()).map(|newest| newest.id);
    let mut notices = notices::of(&mut connection, std::slice::from_ref(&deployment)).await?;
    let notices = notices.remove(&deployment.deployment_key).unwrap_or_default();
    Ok(bodies::deployment(deployment, active, notices))
}

/// Lists the deployments that the caller may read, by name.
#[utoipa::path(get, path = "/api/v1/deployments", tag = "deployments", params(PageQuery),
    responses((status = 200, body = Deployments)))]
async fn list(
    Shared(state): Shared<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Deployments>, Problem> {
    let (limit, after) = (page.limit()?, page.after::<String>()?);
    let visible = Caller::visible_models();
    let mut connection = state.pool.acquire().await?;
    let found =
        deployments::list(&mut connection, visible.only(), after.as_deref(), i64::from(limit) + 1).await?;
    let active: HashMap<i64, Uuid> = rollouts::active_ids(&mut connection).await?.into_iter().collect();
    let (found, next_page_token) = cut(found, limit, |deployment| deployment.name.clone());
    let mut notices = notices::of(&mut connection, &found).await?;
    let shown = found.into_iter().map(|deployment| {
        let key = deployment.deployment_key;
        let notices = notices.remove(&key).unwrap_or_default();
        bodies::deployment(deployment, active.get(&key).copied(), notices)
    });
    Ok(Json(Deployments { deployments: shown.collect(), next_page_token }))
}

/// Shows a deployment with its traffic table and the serving replicas.
#[utoipa::path(get, path = "/api/v1/deployments/{name}", tag = "deployments",
    params(("name" = String, Path, description = "Deployment")), responses((status = 200,
    body = Deployment)))]
async fn get(Shared(state): Shared<State>, Path(name): Path<String>) -> Result<Json<Deployment>, Problem> {
    let deployment = show(&state, &name).await?;
    let replicas = state.replicas.shown(&name, deployment.traffic.revision);
    let replicas = replicas.into_iter().map(bodies::replica).collect();
    let drill = match drills::newest(&state, &name).await {
        Err(problem) if problem.status() == StatusCode::NOT_FOUND => None,
        drill => Some(bodies::drill(drill?, name)),
    };
    Ok(Json(Deployment { replicas, drill, ..deployment }))
}

/// Deletes a deployment. A rollout in progress is aborted.
#[utoipa::path(delete, path = "/api/v1/deployments/{name}", tag = "deployments",
    params(("name" = String, Path, description = "Deployment")), responses((status = 204,
    description = "Deleted")))]
async fn delete(Shared(state): Shared<State>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    manage::delete(&state, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Rolls the newest rollout back, or returns to the given version immediately.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/rollback", tag = "deployments",
    request_body = RollbackRequest,
    params(("name" = String, Path, description = "Deployment")), responses((status = 200, body = Deployment),
        (status = 409, description = "There is nothing to roll back, or the kill switch is active")))]
async fn roll_back(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<RollbackRequest>,
) -> Result<Json<Deployment>, Problem> {
    manage::roll_back(&state, &name, body.to_version, &body.reason).await?;
    acknowledged(&state, &name).await
}

/// A deployment after a change of its traffic, with the replicas that follow it.
async fn acknowledged(state: &State, name: &str) -> Result<Json<Deployment>, Problem> {
    let acknowledgement = Some(bodies::acknowledgement(acknowledge::wait(state, name).await?));
    Ok(Json(Deployment { acknowledgement, ..show(state, name).await? }))
}

/// Changes settings of a deployment by JSON Merge Patch.
///
/// A rollout in progress keeps the strategy that it was started with. A new sticky key applies to all traffic
/// immediately. A new watched alias is followed from its next move on.
#[utoipa::path(patch, path = "/api/v1/deployments/{name}", tag = "deployments",
    request_body = DeploymentPatch,
    params(("name" = String, Path, description = "Deployment")), responses((status = 200,
    body = Deployment)))]
async fn change(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(patch): JsonBody<Map<String, Value>>,
) -> Result<Json<Deployment>, Problem> {
    update::apply(&state, &name, patch).await?;
    acknowledged(&state, &name).await
}

/// Replaces the rules of a deployment. Without rules, the weights alone decide.
#[utoipa::path(put, path = "/api/v1/deployments/{name}/rules", tag = "deployments",
    request_body = RulesRequest,
    params(("name" = String, Path, description = "Deployment")), responses((status = 200,
    body = Deployment)))]
async fn set_rules(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<RulesRequest>,
) -> Result<Json<Deployment>, Problem> {
    overrides::set_rules(&state, &name, body).await?;
    acknowledged(&state, &name).await
}

/// Activates the kill switch: the stable version answers every request, or every request is rejected. A
/// rollout in progress is paused.
#[utoipa::path(put, path = "/api/v1/deployments/{name}/kill-switch", tag = "deployments",
    request_body = KillSwitchRequest,
    params(("name" = String, Path, description = "Deployment")), responses((status = 200,
    body = Deployment)))]
async fn kill(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<KillSwitchRequest>,
) -> Result<Json<Deployment>, Problem> {
    overrides::kill(&state, &name, body).await?;
    acknowledged(&state, &name).await
}

/// Deactivates the kill switch. A rollout that it paused stays paused.
#[utoipa::path(delete, path = "/api/v1/deployments/{name}/kill-switch", tag = "deployments",
    params(("name" = String, Path, description = "Deployment")), responses((status = 200,
    body = Deployment)))]
async fn revive(Shared(state): Shared<State>, Path(name): Path<String>) -> Result<Json<Deployment>, Problem> {
    overrides::revive(&state, &name).await?;
    acknowledged(&state, &name).await
}

/// Starts a rollout. A rollout of another version that is in progress is superseded.
#[utoipa::path(post, path = "/api/v1/deployments/{name}/rollouts", tag = "rollouts",
    request_body = NewRollout,
    params(("name" = String, Path, description = "Deployment")),
    responses((status = 201, description = "Started", body = Rollout),
        (status = 200, description = "A rollout of this version, or with this key, exists", body = Rollout),
        (status = 409,
        description = "The kill switch is active, the version cannot be served, or the version's rollout in \
            progress has another strategy")))]
async fn start(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(new): JsonBody<NewRollout>,
) -> Result<(StatusCode, Json<Rollout>), Problem> {
    let (stored, is_new) = manage::start(&state, &name, new.into()).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(bodies::listed(stored))))
}
