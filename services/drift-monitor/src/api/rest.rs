//! REST: monitors, their windows, verdicts and actions.

use axum::extract::State as Shared;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use slipway_service_kit::Problem;
use slipway_service_kit::extract::{JsonBody, Path, Query};
use slipway_service_kit::page::{NamedPage, Page, PageQuery};

use crate::manage;
use crate::spec::MonitorSpec;
use crate::state::State;
use crate::store::actions::ActionRow;
use crate::store::monitors::Monitor;
use crate::store::windows::{VerdictRow, WindowRow};

type Answer = Result<Json<Value>, Problem>;
type List = Result<Json<NamedPage<Value>>, Problem>;

pub(crate) fn router(state: State) -> Router {
    Router::new()
        .route("/api/v1/monitors", get(list).post(create))
        .route("/api/v1/monitors/{name}", get(show).put(update).patch(patch).delete(delete))
        .route("/api/v1/monitors/{name}/windows", get(list_windows))
        .route("/api/v1/monitors/{name}/windows/{number}", get(show_window))
        .route("/api/v1/monitors/{name}/verdicts", get(list_verdicts))
        .route("/api/v1/monitors/{name}/actions", get(list_actions))
        .with_state(state)
}

async fn create(
    Shared(state): Shared<State>,
    JsonBody(spec): JsonBody<MonitorSpec>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let monitor = manage::create(&state, &spec).await?;
    Ok((StatusCode::CREATED, Json(monitor.to_json())))
}

async fn update(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(spec): JsonBody<MonitorSpec>,
) -> Answer {
    Ok(Json(manage::replace(&state, &name, &spec).await?.to_json()))
}

async fn patch(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    JsonBody(change): JsonBody<Value>,
) -> Answer {
    Ok(Json(manage::patch(&state, &name, change).await?.to_json()))
}

async fn delete(Shared(state): Shared<State>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    manage::delete(&state, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(Shared(state): Shared<State>, Path(name): Path<String>) -> Answer {
    Ok(Json(manage::find(&state, &name).await?.to_json()))
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    deployment: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    limit: Option<u32>,
    page_token: Option<String>,
}

fn page_of<T>(page: Page<T>, name: &'static str, to_json: fn(&T) -> Value) -> List {
    Ok(Json(page.map(|row| to_json(&row)).named(name)))
}

async fn list(Shared(state): Shared<State>, Query(query): Query<ListQuery>) -> List {
    let page = PageQuery { limit: query.limit, page_token: query.page_token };
    let found = manage::list(&state, query.deployment.as_deref(), &page).await?;
    page_of(found, "monitors", Monitor::to_json)
}

async fn list_windows(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> List {
    page_of(manage::windows(&state, &name, &page).await?, "windows", WindowRow::to_json)
}

async fn show_window(Shared(state): Shared<State>, Path((name, number)): Path<(String, i64)>) -> Answer {
    Ok(Json(manage::window(&state, &name, number).await?.to_json()))
}

async fn list_verdicts(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> List {
    page_of(manage::verdicts(&state, &name, &page).await?, "verdicts", VerdictRow::to_json)
}

async fn list_actions(
    Shared(state): Shared<State>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> List {
    page_of(manage::actions(&state, &name, &page).await?, "actions", ActionRow::to_json)
}
