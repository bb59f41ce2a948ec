//! REST: monitors, their windows, verdicts and actions.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_api::events::MonitorChange;
use slipway_service_kit::Problem;
use slipway_service_kit::extract::{JsonBody, Path, Query, parse_json};
use slipway_service_kit::page::{PageQuery, cut};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::state::{App, outbox_problem};
use crate::spec::MonitorSpec;
use crate::store::monitors::{self, Monitor};
use crate::store::{actions, windows};

type Answer = Result<Json<Value>, Problem>;

pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/api/v1/monitors", get(list).post(create))
        .route("/api/v1/monitors/{name}", get(show).put(update).patch(patch).delete(delete))
        .route("/api/v1/monitors/{name}/windows", get(list_windows))
        .route("/api/v1/monitors/{name}/windows/{number}", get(show_window))
        .route("/api/v1/monitors/{name}/verdicts", get(list_verdicts))
        .route("/api/v1/monitors/{name}/actions", get(list_actions))
        .with_state(app)
}

/// The monitor of that name, which has to be there.
pub(crate) async fn find(app: &App, name: &str) -> Result<Monitor, Problem> {
    monitors::get(&app.pool, name).await?.ok_or_else(|| absent(name))
}

fn absent(name: &str) -> Problem {
    Problem::not_found(format!("monitor `{name}`"))
}

fn check(spec: &MonitorSpec) -> Result<(), Problem> {
    spec.validate().map_err(|invalid| Problem::invalid(invalid.field, invalid.message))
}

async fn tell(
    app: &App,
    connection: &mut PgConnection,
    monitor: &str,
    deployment: &str,
    what: &str,
) -> Result<(), Problem> {
    let event = MonitorChange {
        monitor: monitor.to_owned(),
        deployment: deployment.to_owned(),
        what: what.to_owned(),
        reason: String::new(),
    };
    app.outbox.enqueue(connection, &event).await.map(drop).map_err(outbox_problem)
}

async fn create(
    State(app): State<App>,
    JsonBody(spec): JsonBody<MonitorSpec>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    check(&spec)?;
    let mut transaction = app.pool.begin().await?;
    let monitor = match monitors::insert(&mut transaction, &spec).await {
        Err(error) if slipway_service_kit::db::is_duplicate(&error) => {
            return Err(Problem::conflict(format!("`name`: monitor `{}` exists already", spec.name)));
        }
        other => other?,
    };
    tell(&app, &mut transaction, &spec.name, &spec.deployment, "created").await?;
    transaction.commit().await?;
    app.monitors_changed();
    Ok((StatusCode::CREATED, Json(monitor.to_json())))
}

async fn update(
    State(app): State<App>,
    Path(name): Path<String>,
    JsonBody(spec): JsonBody<MonitorSpec>,
) -> Answer {
    replace(&app, &name, spec).await
}

/// Changes the fields that the body names, as JSON merge patch (RFC 7396): `null` puts a field back to its default.
async fn patch(
    State(app): State<App>,
    Path(name): Path<String>,
    JsonBody(change): JsonBody<Value>,
) -> Answer {
    if !change.is_object() {
        return Err(Problem::invalid("body", "expected an object with the fields of the monitor to change"));
    }
    let mut spec = serde_json::to_value(&*find(&app, &name).await?.spec).map_err(Problem::internal)?;
    merge(&mut spec, change);
    replace(&app, &name, parse_json(spec.to_string().as_bytes())?).await
}

fn merge(target: &mut Value, change: Value) {
    let Value::Object(fields) = change else {
        *target = change;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, value) in fields {
        if value.is_null() {
            if let Some(object) = target.as_object_mut() {
                object.remove(&field);
            }
        } else {
            merge(&mut target[field], value);
        }
    }
}

async fn replace(app: &App, name: &str, spec: MonitorSpec) -> Answer {
    check(&spec)?;
    if spec.name != name {
        return Err(Problem::invalid("name", format!("expected `{name}`: a monitor keeps its name")));
    }
    let current = find(app, name).await?;
    for (field, kept, wanted) in
        [("deployment", &current.deployment, &spec.deployment), ("model", &current.model, &spec.model)]
    {
        if kept != wanted {
            return Err(Problem::invalid(field, format!("expected `{kept}`: a monitor keeps its {field}")));
        }
    }
    let mut transaction = app.pool.begin().await?;
    let updated = monitors::update(&mut transaction, &spec).await?.ok_or_else(|| absent(name))?;
    tell(app, &mut transaction, name, &spec.deployment, "updated").await?;
    transaction.commit().await?;
    app.monitors_changed();
    Ok(Json(updated.to_json()))
}

async fn delete(State(app): State<App>, Path(name): Path<String>) -> Result<StatusCode, Problem> {
    let mut transaction = app.pool.begin().await?;
    let deployment = monitors::delete(&mut transaction, &name).await?.ok_or_else(|| absent(&name))?;
    tell(&app, &mut transaction, &name, &deployment, "deleted").await?;
    transaction.commit().await?;
    app.monitors_changed();
    Ok(StatusCode::NO_CONTENT)
}

async fn show(State(app): State<App>, Path(name): Path<String>) -> Answer {
    Ok(Json(find(&app, &name).await?.to_json()))
}

#[derive(Debug, Deserialize)]
struct ListQuery {
    deployment: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    limit: Option<u32>,
    page_token: Option<String>,
}

async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> Answer {
    let page = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (page.limit()?, page.after::<String>()?);
    let found =
        monitors::list(&app.pool, query.deployment.as_deref(), after.as_deref(), i64::from(limit) + 1)
            .await?;
    let (found, token) = cut(found, limit, |monitor| monitor.name.clone());
    Ok(page_of("monitors", found.iter().map(Monitor::to_json).collect(), token))
}

fn page_of(name: &str, items: Vec<Value>, token: Option<String>) -> Json<Value> {
    let mut body = json!({ name: items });
    if let Some(token) = token {
        body["next_page_token"] = token.into();
    }
    Json(body)
}

async fn list_windows(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> Answer {
    let (limit, before) = (page.limit()?, page.after::<i64>()?);
    let monitor = find(&app, &name).await?;
    let found = windows::list(&app.pool, monitor.id, before, i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |window| window.sequence);
    Ok(page_of("windows", found.iter().map(windows::WindowRow::to_json).collect(), token))
}

async fn show_window(State(app): State<App>, Path((name, number)): Path<(String, i64)>) -> Answer {
    let monitor = find(&app, &name).await?;
    let found = windows::list(&app.pool, monitor.id, number.checked_add(1), 1).await?;
    let window = found.first().filter(|window| window.sequence == number);
    let absent = || Problem::not_found(format!("window {number} of monitor `{name}`"));
    Ok(Json(window.ok_or_else(absent)?.to_json()))
}

async fn list_verdicts(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> Answer {
    let (limit, before) = (page.limit()?, page.after::<Uuid>()?);
    let monitor = find(&app, &name).await?;
    let found = windows::list_verdicts(&app.pool, monitor.id, before, i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |verdict| verdict.event_id);
    Ok(page_of("verdicts", found.iter().map(windows::VerdictRow::to_json).collect(), token))
}

async fn list_actions(
    State(app): State<App>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> Answer {
    let (limit, before) = (page.limit()?, page.after::<i64>()?);
    let monitor = find(&app, &name).await?;
    let found = actions::list(&app.pool, monitor.id, before, i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |action| action.id);
    Ok(page_of("actions", found.iter().map(actions::ActionRow::to_json).collect(), token))
}
