//! What drift makes us do: rows that are worked off, so that a restart neither loses nor repeats one.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// An action as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct ActionRow {
    pub(crate) id: i64,
    pub(crate) event_id: Uuid,
    position: i32,
    pub(crate) action: String,
    pub(crate) status: String,
    pub(crate) attempts: i32,
    pub(crate) last_error: Option<String>,
    pub(crate) result: Option<serde_json::Value>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

impl ActionRow {
    /// Key by which the service that performs the action recognises a repetition.
    pub(crate) fn idempotency_key(&self) -> String {
        idempotency_key(self.event_id, self.position)
    }
}

/// An action to be performed now.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct DueAction {
    pub(crate) id: i64,
    event_id: Uuid,
    position: i32,
    pub(crate) monitor: String,
    pub(crate) deployment: String,
    pub(crate) action: String,
    pub(crate) request: serde_json::Value,
    pub(crate) attempts: i32,
    pub(crate) traceparent: Option<String>,
}

impl DueAction {
    /// The same at every attempt, so that the other service acts once.
    pub(crate) fn idempotency_key(&self) -> String {
        idempotency_key(self.event_id, self.position)
    }
}

fn idempotency_key(event_id: Uuid, position: i32) -> String {
    format!("{event_id}/{position}")
}

/// Adds an action of a drift event, due immediately; its trace is the current span's.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    monitor: Uuid,
    event_id: Uuid,
    position: usize,
    action: &str,
    request: &serde_json::Value,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO actions (monitor_id, event_id, position, action, request, traceparent)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(monitor)
    .bind(event_id)
    .bind(i32::try_from(position).unwrap_or(i32::MAX))
    .bind(action)
    .bind(request)
    .bind(slipway_telemetry::current_traceparent())
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes due actions for `lease_s`: no other replica performs them meanwhile, and they are due again if this
/// process dies.
pub(crate) async fn take_due(
    connection: &mut PgConnection,
    limit: i64,
    lease_s: f64,
) -> sqlx::Result<Vec<DueAction>> {
    sqlx::query_as(
        "UPDATE actions SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => $2)
         FROM monitors
         WHERE monitors.id = actions.monitor_id AND actions.id IN (
           SELECT id FROM actions WHERE status = 'pending' AND next_attempt_at <= now()
           ORDER BY next_attempt_at, id LIMIT $1 FOR UPDATE SKIP LOCKED)
         RETURNING actions.id, event_id, position, monitors.name AS monitor, monitors.deployment, action,
         request,
           attempts, traceparent",
    )
    .bind(limit)
    .bind(lease_s)
    .fetch_all(connection)
    .await
}

/// The action is done.
pub(crate) async fn finish(
    connection: &mut PgConnection,
    id: i64,
    result: &serde_json::Value,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE actions SET status = 'done', result = $2, last_error = NULL, finished_at = now() \
         WHERE id = $1",
    )
    .bind(id)
    .bind(result)
    .execute(connection)
    .await?;
    Ok(())
}

/// The action was refused for good.
pub(crate) async fn fail(connection: &mut PgConnection, id: i64, error: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE actions SET status = 'failed', last_error = $2, finished_at = now() WHERE id = $1")
        .bind(id)
        .bind(error)
        .execute(connection)
        .await?;
    Ok(())
}

/// The action did not go well and is tried again after `delay_s`.
pub(crate) async fn postpone(
    connection: &mut PgConnection,
    id: i64,
    error: &str,
    delay_s: f64,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE actions SET last_error = $2, next_attempt_at = now() + make_interval(secs => $3) \
         WHERE id = $1",
    )
    .bind(id)
    .bind(error)
    .bind(delay_s)
    .execute(connection)
    .await?;
    Ok(())
}

/// A monitor's actions, the newest first, older than `before`.
pub(crate) async fn list(
    pool: &PgPool,
    monitor: Uuid,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<ActionRow>> {
    sqlx::query_as(
        "SELECT id, event_id, position, action, status, attempts, last_error, result, created_at, finished_at
         FROM actions WHERE monitor_id = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
    )
    .bind(monitor)
    .bind(before)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Actions that wait to be performed.
pub(crate) async fn count_pending(pool: &PgPool) -> sqlx::Result<i64> {
    let (count,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM actions WHERE status = 'pending'").fetch_one(pool).await?;
    Ok(count)
}
