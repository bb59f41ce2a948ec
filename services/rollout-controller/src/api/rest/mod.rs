//! REST: deployments and rollouts.

pub(crate) mod bodies;

use std::collections::HashMap;

use axum::extract::State as Shared;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use slipway_domain::rollout::{Command, Phase};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use uuid::Uuid;

use crate::api::rest::bodies::{DeploymentBody, RolloutBody};
use crate::manage::{self, NewDeploymentBody, NewRolloutBody};
use crate::overrides::{self, KillSwitchBody, RulesBody};
use crate::replicas::Awaited;
use crate::state::State;
use crate::store::deployments::Deployment;
use crate::store::rollouts::StoredRollout;
use crate::store::{deployments, notices, rollouts};
use crate::{acknowledge, change, update};

/// Decisions shown with a rollout.
const MAX_DECISIONS: i64 = 500;

/// All routes.
pub(crate) fn router(state: State) -> Router {
    routes().with_state(state)
}

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/v1/deployments", post(create).get(list_deployments))
        .route("/api/v1/deployments/{name}", get(deployment).patch(update).delete(delete))
        .route("/api/v1/deployments/{name}/rollback", post(roll_back))
        .route("/api/v1/deployments/{name}/rollouts", post(start))
        .route("/api/v1/deployments/{name}/rules", put(set_rules))
        .route("/api/v1/deployments/{name}/kill-switch", put(kill).delete(revive))
        .route("/api/v1/rollouts", get(list_rollouts))
        .route("/api/v1/rollouts/{id}", get(rollout))
        .route("/api/v1/rollouts/{id}/{verb}", post(command))
}

async fn create(
    Shared(state): Shared<State>,
    JsonBody(new): JsonBody<NewDeploymentBody>,
) -> Result<(StatusCode, Json<DeploymentBody>), Problem> {
    let made = manage::create(&state, new).await?;
    let name = made.name.clone();
    drop(made);
    Ok((StatusCode::CREATED, Json(show(&state, &name).await?)))
}

async fn show(state: &State, name: &str) -> Result<DeploymentBody, Problem> {
    let mut connection = state.pool.acquire().await?;
    let deployment = manage::find(&mut connection, name).await?;
    let newest = rollouts::newest(&mut connection, deployment.deployment_key).await?;
    let active = newest.filter(|newest| newest.state.is_active()).map(|newest| newest.id);
    let notices = notices::of(&mut connection, deployment.deployment_key, &deployment.traffic).await?;
    Ok(DeploymentBody::new(deployment, active, notices))
}

async fn list_deployments(
    Shared(state): Shared<State>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Value>, Problem> {
    let (limit, after) = (page.limit()?, page.after::<String>()?);
    let mut connection = state.pool.acquire().await?;
    let found = deployments::list(&mut connection, after.as_deref(), i64::from(limit) + 1).await?;
    let active: HashMap<i64, Uuid> = rollouts::active_ids(&mut connection).await?.into_iter().collect();
    let (found, token) = cut(found, limit, |deployment| deployment.name.clone());
    let mut bodies = Vec::with_capacity(found.len());
    for deployment in found {
        let rollout = active.get(&deployment.deployment_key).copied();
        let notices = notices::of(&mut connection, deployment.deployment_key, &deployment.traffic).await?;
        bodies.push(DeploymentBody::new(deployment, rollout, notices));
    }
    Ok(Json(page_of("deployments", json!(bodies), token)))
}

fn page_of(name: &str, items: Value, token: Option<String>) -> Value {
    let mut body = json!({ name: items });
    if let Some(token) = token {
        body["next_page_token"] = token.into();
    }
    body
}

async fn deployment(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
) -> Result<Json<DeploymentBody>, Problem> {
    Ok(Json(show(&state, &name).await?))
}

async fn delete(Shared(state): Shared<State>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    manage::delete(&state, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rollback {
    to_version: Option<String>,
    reason: String,
}

async fn roll_back(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<Rollback>,
) -> Result<Json<DeploymentBody>, Problem> {
    manage::roll_back(&state, &name, body.to_version, &body.reason).await?;
    acknowledged(&state, &name).await
}

/// A deployment after a change of its traffic, with the replicas that follow it.
async fn acknowledged(state: &State, name: &str) -> Result<Json<DeploymentBody>, Problem> {
    let acknowledgement = acknowledge::wait(state, name).await?;
    Ok(Json(show(state, name).await?.acknowledged(acknowledgement)))
}

async fn update(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(patch): JsonBody<Map<String, Value>>,
) -> Result<Json<DeploymentBody>, Problem> {
    update::apply(&state, &name, patch).await?;
    acknowledged(&state, &name).await
}

async fn set_rules(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<RulesBody>,
) -> Result<Json<DeploymentBody>, Problem> {
    overrides::set_rules(&state, &name, body).await?;
    acknowledged(&state, &name).await
}

async fn kill(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<KillSwitchBody>,
) -> Result<Json<DeploymentBody>, Problem> {
    overrides::kill(&state, &name, body).await?;
    acknowledged(&state, &name).await
}

async fn revive(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
) -> Result<Json<DeploymentBody>, Problem> {
    overrides::revive(&state, &name).await?;
    acknowledged(&state, &name).await
}

async fn start(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(new): JsonBody<NewRolloutBody>,
) -> Result<(StatusCode, Json<RolloutBody>), Problem> {
    let (stored, is_new) = manage::start(&state, &name, new).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(RolloutBody::line(stored))))
}

#[derive(Debug, Deserialize)]
struct RolloutsQuery {
    deployment: Option<String>,
    deployment_id: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    limit: Option<u32>,
    page_token: Option<String>,
}

async fn list_rollouts(
    Shared(state): Shared<State>,
    Query(query): Query<RolloutsQuery>,
) -> Result<Json<Value>, Problem> {
    let page = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, before) = (page.limit()?, page.after::<i64>()?);
    let parsed = query.deployment_id.as_deref().map(Uuid::parse_str).transpose();
    let deployment_id =
        parsed.map_err(|_| Problem::invalid("deployment_id", "expected the id of a deployment, a UUID"))?;
    let filter = rollouts::Filter { deployment: query.deployment.as_deref(), deployment_id };
    let mut connection = state.pool.acquire().await?;
    let found = rollouts::list(&mut connection, &filter, before, i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |stored| stored.seq);
    let bodies: Vec<RolloutBody> = found.into_iter().map(RolloutBody::line).collect();
    Ok(Json(page_of("rollouts", json!(bodies), token)))
}

async fn rollout(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Json<RolloutBody>, Problem> {
    Ok(Json(whole(&state, manage::rollout_id(&id)?).await?))
}

async fn whole(state: &State, id: Uuid) -> Result<RolloutBody, Problem> {
    let mut connection = state.pool.acquire().await?;
    let stored = rollouts::find(&mut connection, id)
        .await?
        .ok_or_else(|| Problem::not_found(format!("rollout `{id}`")))?;
    let decisions = rollouts::decisions(&mut connection, id, MAX_DECISIONS).await?;
    let deployment = deployments::find(&mut connection, &stored.deployment).await?;
    let waiting_for = deployment.map(|deployment| awaited(state, &stored, &deployment)).unwrap_or_default();
    Ok(RolloutBody::whole(stored, decisions).waiting_for(waiting_for))
}

/// The replicas that a rollout in progress waits for at this moment.
fn awaited(state: &State, stored: &StoredRollout, deployment: &Deployment) -> Vec<Awaited> {
    let rollout = &stored.state.0;
    match rollout.unpaused_phase() {
        Phase::Preparing => state.replicas.not_ready(&stored.deployment, rollout.to()),
        Phase::Promoting | Phase::RollingBack => {
            state.replicas.not_following(&stored.deployment, deployment.traffic.revision)
        }
        _ => Vec::new(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Why {
    reason: String,
}

async fn command(
    Shared(state): Shared<State>,
    Path((id, verb)): Path<(String, String)>,
    JsonBody(Why { reason }): JsonBody<Why>,
) -> Result<Json<RolloutBody>, Problem> {
    let id = manage::rollout_id(&id)?;
    let command = match verb.as_str() {
        "promote" => Command::Promote,
        "pause" => {
            Command::Pause { reason: if reason.is_empty() { "paused by hand".to_owned() } else { reason } }
        }
        "resume" => Command::Resume,
        "abort" => Command::Abort { reason },
        other => {
            return Err(Problem::not_found(format!(
                "action `{other}`; expected promote, pause, resume or abort"
            )));
        }
    };
    let stored = change::drive(&state, id, Some(command.into())).await?;
    let acknowledgement = acknowledge::wait(&state, &stored.deployment).await?;
    Ok(Json(whole(&state, id).await?.acknowledged(acknowledgement)))
}
