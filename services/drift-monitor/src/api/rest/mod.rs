//! REST: monitors, their windows, verdicts and actions.

mod bodies;

use axum::extract::State as Shared;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{NamedPage, PageQuery};

use self::bodies::{ActionBody, MonitorBody, VerdictBody, WindowBody};
use crate::manage;
use crate::spec::MonitorSpec;
use crate::state::State;

type Answer = Result<Json<MonitorBody>, Problem>;
type List<T> = Result<Json<NamedPage<T>>, Problem>;

/// All routes.
pub(crate) fn router(state: State) -> Router {
    routes().with_state(state)
}

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/api/v1/monitors", get(list).post(create))
        .route("/api/v1/monitors/{name}", get(show).put(update).patch(patch).delete(delete))
        .route("/api/v1/monitors/{name}/windows", get(list_windows))
        .route("/api/v1/monitors/{name}/windows/{number}", get(show_window))
        .route("/api/v1/monitors/{name}/verdicts", get(list_verdicts))
        .route("/api/v1/monitors/{name}/actions", get(list_actions))
}

async fn create(
    Shared(state): Shared<State>,
    JsonBody(spec): JsonBody<MonitorSpec>,
) -> Result<(StatusCode, Json<MonitorBody>), Problem> {
    let monitor = manage::create(&state, &spec).await?;
    Ok((StatusCode::CREATED, Json(monitor.into())))
}

async fn update(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(spec): JsonBody<MonitorSpec>,
) -> Answer {
    Ok(Json(manage::replace(&state, &name, &spec).await?.into()))
}

async fn patch(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(change): JsonBody<Value>,
) -> Answer {
    Ok(Json(manage::patch(&state, &name, change).await?.into()))
}

async fn delete(Shared(state): Shared<State>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    manage::delete(&state, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(Shared(state): Shared<State>, Path(name): Path<String>) -> Answer {
    Ok(Json(manage::find(&state, &name).await?.into()))
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    deployment: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    limit: Option<u32>,
    page_token: Option<String>,
}

async fn list(Shared(state): Shared<State>, Query(query): Query<ListQuery>) -> List<MonitorBody> {
    let page = PageQuery { limit: query.limit, page_token: query.page_token };
    let found = manage::list(&state, query.deployment.as_deref(), &page).await?;
    Ok(Json(found.map(MonitorBody::from).named("monitors")))
}

async fn list_windows(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> List<WindowBody> {
    let found = manage::windows(&state, &name, &page).await?;
    Ok(Json(found.map(WindowBody::from).named("windows")))
}

async fn show_window(
    Shared(state): Shared<State>,
    Path((name, number)): Path<(String, i64)>,
) -> Result<Json<WindowBody>, Problem> {
    Ok(Json(manage::window(&state, &name, number).await?.into()))
}

async fn list_verdicts(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> List<VerdictBody> {
    let found = manage::verdicts(&state, &name, &page).await?;
    Ok(Json(found.map(VerdictBody::from).named("verdicts")))
}

async fn list_actions(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> List<ActionBody> {
    let found = manage::actions(&state, &name, &page).await?;
    Ok(Json(found.map(ActionBody::from).named("actions")))
}
