//! Rollouts, their decisions, and commands to them.

use axum::Json;
use axum::extract::State as Shared;
use slipway_access::Caller;
use slipway_api::rest::rollouts::{
    CommandRequest, Decisions, Rollout, RolloutCommand, Rollouts, RolloutsQuery,
};
use slipway_domain::rollout::{Command, Phase};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};
use uuid::Uuid;

use super::bodies;
use crate::replicas::Awaited;
use crate::state::State;
use crate::store::deployments::Deployment;
use crate::store::rollouts::StoredRollout;
use crate::store::{deployments, rollouts};
use crate::{acknowledge, change, manage};

/// Decisions shown with a rollout.
const MAX_DECISIONS: i64 = 500;

pub(super) fn router() -> DocumentedRouter<State> {
    DocumentedRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(list_decisions))
        .routes(routes!(command))
}

/// Lists the rollouts that the caller may read, newest first.
///
/// Rollouts of deleted deployments require the role viewer on everything.
#[utoipa::path(get, path = "/api/v1/rollouts", tag = "rollouts", params(RolloutsQuery),
    responses((status = 200, body = Rollouts)))]
async fn list(
    Shared(state): Shared<State>,
    Query(query): Query<RolloutsQuery>,
) -> Result<Json<Rollouts>, Problem> {
    let page = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, last) = (page.limit()?, page.after::<Uuid>()?);
    let parsed = query.deployment_id.as_deref().map(Uuid::parse_str).transpose();
    let deployment_id =
        parsed.map_err(|_| Problem::invalid("deployment_id", "expected the id of a deployment, a UUID"))?;
    let visible = Caller::visible_models();
    let deployment = query.deployment.as_deref();
    let filter = rollouts::Filter { deployment, deployment_id, models: visible.only() };
    let mut connection = state.pool.acquire().await?;
    let before = match last {
        None => None,
        // The position itself would tell how many rollouts there are.
        Some(last) => {
            let found = rollouts::position(&mut connection, &filter, last).await?;
            let gone =
                || Problem::invalid("page_token", "its rollout is not in this list; start again without one");
            Some(found.ok_or_else(gone)?)
        }
    };
    let found = rollouts::list(&mut connection, &filter, before, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |stored| stored.id);
    Ok(Json(Rollouts { rollouts: found.into_iter().map(bodies::listed).collect(), next_page_token }))
}

/// Shows a rollout with its decisions and the replicas that it waits for.
#[utoipa::path(get, path = "/api/v1/rollouts/{id}", tag = "rollouts",
    params(("id" = String, Path, description = "Rollout ID")), responses((status = 200, body = Rollout)))]
async fn get(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Json<Rollout>, Problem> {
    Ok(Json(detailed(&state, manage::rollout_id(&id)?).await?))
}

async fn detailed(state: &State, id: Uuid) -> Result<Rollout, Problem> {
    let mut connection = state.pool.acquire().await?;
    let stored = manage::rollout(&mut connection, id).await?;
    let decisions = rollouts::decisions(&mut connection, id, None, MAX_DECISIONS).await?;
    let deployment = deployments::find(&mut connection, &stored.deployment).await?;
    let waiting_for = deployment.map(|deployment| awaited(state, &stored, &deployment)).unwrap_or_default();
    let waiting_for = waiting_for.into_iter().map(bodies::awaited).collect();
    let decisions = decisions.into_iter().rev().collect();
    Ok(Rollout { waiting_for, ..bodies::detailed(stored, decisions) })
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

/// Lists the decisions about a rollout with their evidence, newest first.
#[utoipa::path(get, path = "/api/v1/rollouts/{id}/decisions", tag = "rollouts",
    params(("id" = String, Path, description = "Rollout ID"), PageQuery), responses((status = 200,
    body = Decisions)))]
async fn list_decisions(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Decisions>, Problem> {
    let (limit, before) = (page.limit()?, page.after::<i64>()?);
    let mut connection = state.pool.acquire().await?;
    let rollout = manage::rollout(&mut connection, manage::rollout_id(&id)?).await?;
    let found = rollouts::decisions(&mut connection, rollout.id, before, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |decision| decision.seq);
    Ok(Json(Decisions { decisions: found.into_iter().map(bodies::decision).collect(), next_page_token }))
}

/// Gives a command to a rollout in progress.
#[utoipa::path(post, path = "/api/v1/rollouts/{id}/{verb}", tag = "rollouts", request_body = CommandRequest,
    params(("id" = String, Path, description = "Rollout ID"), ("verb" = inline(RolloutCommand), Path,
    description = "Command")),
    responses((status = 200, body = Rollout),
        (status = 409,
        description = "The phase of the rollout, or the kill switch, does not allow the command")))]
async fn command(
    Shared(state): Shared<State>,
    Path((id, verb)): Path<(String, String)>,
    JsonBody(CommandRequest { reason }): JsonBody<CommandRequest>,
) -> Result<Json<Rollout>, Problem> {
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
                "command `{other}`; expected promote, pause, resume or abort"
            )));
        }
    };
    let stored = change::drive(&state, id, Some(command.into())).await?;
    let acknowledged = acknowledge::wait(&state, &stored.deployment).await?;
    let acknowledgement = Some(bodies::acknowledgement(acknowledged));
    Ok(Json(Rollout { acknowledgement, ..detailed(&state, id).await? }))
}
