//! Closed windows, verdicts and actions of a monitor.

use axum::Json;
use axum::extract::State as Shared;
use slipway_api::rest::monitors::{Actions, DriftVerdicts, Window, Windows};
use slipway_http_server::Problem;
use slipway_http_server::extract::{Path, Query};
use slipway_http_server::page::PageQuery;
use slipway_openapi::{DocumentedRouter, routes};

use super::bodies;
use crate::manage;
use crate::state::State;

pub(super) fn router() -> DocumentedRouter<State> {
    DocumentedRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(list_verdicts))
        .routes(routes!(list_actions))
}

/// Lists closed windows of a monitor with the scores of every column, newest first.
#[utoipa::path(get, path = "/api/v1/monitors/{name}/windows", tag = "windows",
    params(("name" = String, Path, description = "Monitor"), PageQuery), responses((status = 200,
    body = Windows)))]
async fn list(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Windows>, Problem> {
    let found = manage::windows(&state, &name, &page).await?;
    let windows = found.items.into_iter().map(bodies::window).collect::<Result<_, _>>()?;
    Ok(Json(Windows { windows, next_page_token: found.next_page_token }))
}

/// Shows a closed window with the scores of every column.
#[utoipa::path(get, path = "/api/v1/monitors/{name}/windows/{number}", tag = "windows",
    params(("name" = String, Path, description = "Monitor"), ("number" = i64, Path,
    description = "Number of the window")),
    responses((status = 200, body = Window)))]
async fn show(
    Shared(state): Shared<State>,
    Path((name, number)): Path<(String, i64)>,
) -> Result<Json<Window>, Problem> {
    Ok(Json(bodies::window(manage::window(&state, &name, number).await?)?))
}

/// Lists detections of drift and their ends, newest first.
#[utoipa::path(get, path = "/api/v1/monitors/{name}/verdicts", tag = "verdicts",
    params(("name" = String, Path, description = "Monitor"), PageQuery), responses((status = 200,
    body = DriftVerdicts)))]
async fn list_verdicts(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<DriftVerdicts>, Problem> {
    let found = manage::verdicts(&state, &name, &page).await?;
    let verdicts = found.items.into_iter().map(bodies::verdict).collect::<Result<_, _>>()?;
    Ok(Json(DriftVerdicts { verdicts, next_page_token: found.next_page_token }))
}

/// Lists actions that detections of drift led to, newest first.
#[utoipa::path(get, path = "/api/v1/monitors/{name}/actions", tag = "verdicts",
    params(("name" = String, Path, description = "Monitor"), PageQuery), responses((status = 200,
    body = Actions)))]
async fn list_actions(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Actions>, Problem> {
    let found = manage::actions(&state, &name, &page).await?;
    let actions = found.items.into_iter().map(bodies::action).collect::<Result<_, _>>()?;
    Ok(Json(Actions { actions, next_page_token: found.next_page_token }))
}
