//! What REST and gRPC share: creating, changing, deleting and listing monitors.

use serde_json::Value;
use slipway_access::Caller;
use slipway_api::events::MonitorChange;
use slipway_http_server::extract::parse_json;
use slipway_http_server::page::{Page, PageQuery};
use slipway_http_server::{Problem, merge_patch};
use slipway_service_kit::db;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::spec::MonitorSpec;
use crate::state::State;
use crate::store::actions::{self, ActionRow};
use crate::store::monitors::{self, Monitor};
use crate::store::windows::{self, VerdictRow, WindowRow};

/// The monitor of that name.
///
/// # Errors
/// There is none, or Postgres is unavailable.
pub(crate) async fn find(state: &State, name: &str) -> Result<Monitor, Problem> {
    monitors::get(&state.pool, name).await?.ok_or_else(|| absent(name))
}

fn absent(name: &str) -> Problem {
    Problem::not_found(format!("monitor `{name}`"))
}

fn check(spec: &MonitorSpec) -> Result<(), Problem> {
    spec.validate().map_err(|invalid| Problem::invalid(invalid.field, invalid.message))
}

/// Creates a monitor.
///
/// # Errors
/// A field is not valid, the name is taken, or Postgres is unavailable.
pub(crate) async fn create(state: &State, spec: &MonitorSpec) -> Result<Monitor, Problem> {
    check(spec)?;
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let monitor = match monitors::insert(&mut transaction, spec).await {
        Err(error) if db::is_duplicate(&error) => {
            return Err(Problem::conflict(format!("`name`: monitor `{}` exists already", spec.name)));
        }
        other => other?,
    };
    let created = Announced { monitor: &spec.name, deployment: &spec.deployment, what: "created" };
    announce(state, &mut transaction, created).await?;
    transaction.commit().await?;
    state.monitors_changed();
    Ok(monitor)
}

/// Creates a monitor, or makes the one of that name what the specification says.
///
/// # Errors
/// A field is not valid or cannot be changed, or Postgres is unavailable.
pub(crate) async fn apply(state: &State, spec: &MonitorSpec) -> Result<Monitor, Problem> {
    match monitors::get(&state.pool, &spec.name).await? {
        Some(found) if *found.spec == *spec => Ok(found),
        Some(_) => replace(state, &spec.name, spec).await,
        None => create(state, spec).await,
    }
}

/// Changes the fields that a JSON Merge Patch names; `null` resets a field to its default.
///
/// # Errors
/// There is no such monitor, a field is not valid or cannot be changed, or Postgres is unavailable.
pub(crate) async fn patch(state: &State, name: &str, change: Value) -> Result<Monitor, Problem> {
    if !change.is_object() {
        return Err(Problem::invalid("body", "expected an object with the fields of the monitor to change"));
    }
    let mut spec = serde_json::to_value(&*find(state, name).await?.spec).map_err(Problem::internal)?;
    merge_patch(&mut spec, change);
    replace(state, name, &parse_json(spec.to_string().as_bytes())?).await
}

/// Replaces the spec of a monitor; name, deployment and model stay.
///
/// # Errors
/// There is no such monitor, a field is not valid or cannot be changed, or Postgres is unavailable.
pub(crate) async fn replace(state: &State, name: &str, spec: &MonitorSpec) -> Result<Monitor, Problem> {
    check(spec)?;
    if spec.name != name {
        return Err(Problem::invalid("name", format!("expected `{name}`: a monitor keeps its name")));
    }
    let current = find(state, name).await?;
    for (field, kept, wanted) in
        [("deployment", &current.deployment, &spec.deployment), ("model", &current.model, &spec.model)]
    {
        if kept != wanted {
            return Err(Problem::invalid(field, format!("expected `{kept}`: a monitor keeps its {field}")));
        }
    }
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let updated = monitors::update(&mut transaction, spec).await?.ok_or_else(|| absent(name))?;
    let changed = Announced { monitor: name, deployment: &spec.deployment, what: "updated" };
    announce(state, &mut transaction, changed).await?;
    transaction.commit().await?;
    state.monitors_changed();
    Ok(updated)
}

/// Deletes a monitor with its windows, verdicts and actions.
///
/// # Errors
/// There is no such monitor, or Postgres is unavailable.
pub(crate) async fn delete(state: &State, name: &str) -> Result<(), Problem> {
    let mut transaction = slipway_service_kit::db::begin(&state.pool).await?;
    let deployment = monitors::delete(&mut transaction, name).await?.ok_or_else(|| absent(name))?;
    let deleted = Announced { monitor: name, deployment: &deployment, what: "deleted" };
    announce(state, &mut transaction, deleted).await?;
    transaction.commit().await?;
    state.monitors_changed();
    Ok(())
}

/// A change of a monitor, as its event names it.
struct Announced<'change> {
    monitor: &'change str,
    deployment: &'change str,
    what: &'static str,
}

async fn announce(
    state: &State,
    connection: &mut PgConnection,
    change: Announced<'_>,
) -> Result<(), Problem> {
    let event = MonitorChange {
        monitor: change.monitor.to_owned(),
        deployment: change.deployment.to_owned(),
        what: change.what.to_owned(),
        reason: String::new(),
    };
    state.outbox.enqueue(connection, &event).await?;
    Ok(())
}

/// The monitors that the caller may read, by name, of one deployment or of all.
///
/// # Errors
/// The page is not valid, or Postgres is unavailable.
pub(crate) async fn list(
    state: &State,
    deployment: Option<&str>,
    page: &PageQuery,
) -> Result<Page<Monitor>, Problem> {
    let (limit, after) = (page.limit()?, page.after::<String>()?);
    let (visible, limit_and_one) = (Caller::visible_models(), i64::from(limit) + 1);
    let rows =
        monitors::list(&state.pool, deployment, visible.only(), after.as_deref(), limit_and_one).await?;
    Ok(Page::of(rows, limit, |monitor| monitor.name.clone()))
}

/// Closed windows of a monitor, newest first.
///
/// # Errors
/// There is no such monitor, the page is not valid, or Postgres is unavailable.
pub(crate) async fn windows(
    state: &State,
    monitor: &str,
    page: &PageQuery,
) -> Result<Page<WindowRow>, Problem> {
    let (limit, before) = (page.limit()?, page.after::<i64>()?);
    let monitor = find(state, monitor).await?;
    let rows = windows::list(&state.pool, monitor.id, before, i64::from(limit) + 1).await?;
    Ok(Page::of(rows, limit, |window| window.sequence))
}

/// One closed window of a monitor.
///
/// # Errors
/// There is no such monitor or window, or Postgres is unavailable.
pub(crate) async fn window(state: &State, monitor: &str, number: i64) -> Result<WindowRow, Problem> {
    let found = find(state, monitor).await?;
    let rows = windows::list(&state.pool, found.id, number.checked_add(1), 1).await?;
    let window = rows.into_iter().find(|window| window.sequence == number);
    window.ok_or_else(|| Problem::not_found(format!("window {number} of monitor `{monitor}`")))
}

/// Drift events of a monitor, newest first.
///
/// # Errors
/// There is no such monitor, the page is not valid, or Postgres is unavailable.
pub(crate) async fn verdicts(
    state: &State,
    monitor: &str,
    page: &PageQuery,
) -> Result<Page<VerdictRow>, Problem> {
    let (limit, before) = (page.limit()?, page.after::<Uuid>()?);
    let monitor = find(state, monitor).await?;
    let rows = windows::list_verdicts(&state.pool, monitor.id, before, i64::from(limit) + 1).await?;
    Ok(Page::of(rows, limit, |verdict| verdict.event_id))
}

/// Actions of a monitor, newest first.
///
/// # Errors
/// There is no such monitor, the page is not valid, or Postgres is unavailable.
pub(crate) async fn actions(
    state: &State,
    monitor: &str,
    page: &PageQuery,
) -> Result<Page<ActionRow>, Problem> {
    let (limit, before) = (page.limit()?, page.after::<i64>()?);
    let monitor = find(state, monitor).await?;
    let rows = actions::list(&state.pool, monitor.id, before, i64::from(limit) + 1).await?;
    Ok(Page::of(rows, limit, |action| action.id))
}
