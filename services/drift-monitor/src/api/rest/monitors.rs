//! Monitors.

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use serde_json::Value;
use slipway_api::rest::monitors::{Monitor, MonitorPatch, MonitorSpec, Monitors, MonitorsQuery};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::PageQuery;
use slipway_openapi::{DocumentedRouter, routes};

use super::bodies;
use crate::manage;
use crate::state::State;

type Answer = Result<Json<Monitor>, Problem>;

pub(super) fn router() -> DocumentedRouter<State> {
    DocumentedRouter::new().routes(routes!(list, create)).routes(routes!(show, replace, patch, delete))
}

/// Creates a monitor.
#[utoipa::path(post, path = "/api/v1/monitors", tag = "monitors", request_body = MonitorSpec,
    responses((status = 201, description = "Created", body = Monitor),
        (status = 409, description = "A monitor of this name exists")))]
async fn create(
    Shared(state): Shared<State>,
    JsonBody(spec): JsonBody<MonitorSpec>,
) -> Result<(StatusCode, Json<Monitor>), Problem> {
    let monitor = manage::create(&state, &spec.into()).await?;
    Ok((StatusCode::CREATED, Json(bodies::monitor(monitor)?)))
}

/// Replaces the specification of a monitor. Name, deployment and model cannot change.
#[utoipa::path(put, path = "/api/v1/monitors/{name}", tag = "monitors", request_body = MonitorSpec,
    params(("name" = String, Path, description = "Monitor")), responses((status = 200, body = Monitor)))]
async fn replace(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(spec): JsonBody<MonitorSpec>,
) -> Answer {
    Ok(Json(bodies::monitor(manage::replace(&state, &name, &spec.into()).await?)?))
}

/// Changes settings of a monitor by JSON Merge Patch.
#[utoipa::path(patch, path = "/api/v1/monitors/{name}", tag = "monitors", request_body = MonitorPatch,
    params(("name" = String, Path, description = "Monitor")), responses((status = 200, body = Monitor)))]
async fn patch(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(change): JsonBody<Value>,
) -> Answer {
    Ok(Json(bodies::monitor(manage::patch(&state, &name, change).await?)?))
}

/// Deletes a monitor with its windows, verdicts and actions.
#[utoipa::path(delete, path = "/api/v1/monitors/{name}", tag = "monitors",
    params(("name" = String, Path, description = "Monitor")), responses((status = 204,
    description = "Deleted")))]
async fn delete(Shared(state): Shared<State>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    manage::delete(&state, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Shows a monitor with its state and the window that is being filled.
#[utoipa::path(get, path = "/api/v1/monitors/{name}", tag = "monitors",
    params(("name" = String, Path, description = "Monitor")), responses((status = 200, body = Monitor)))]
async fn show(Shared(state): Shared<State>, Path(name): Path<String>) -> Answer {
    Ok(Json(bodies::monitor(manage::find(&state, &name).await?)?))
}

/// Lists monitors by name.
#[utoipa::path(get, path = "/api/v1/monitors", tag = "monitors", params(MonitorsQuery),
    responses((status = 200, body = Monitors)))]
async fn list(
    Shared(state): Shared<State>,
    Query(query): Query<MonitorsQuery>,
) -> Result<Json<Monitors>, Problem> {
    let page = PageQuery { limit: query.limit, page_token: query.page_token };
    let found = manage::list(&state, query.deployment.as_deref(), &page).await?;
    let monitors = found.items.into_iter().map(bodies::monitor).collect::<Result<_, _>>()?;
    Ok(Json(Monitors { monitors, next_page_token: found.next_page_token }))
}
