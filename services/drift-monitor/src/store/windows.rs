//! Closed windows and the verdicts on them.

use chrono::{DateTime, Utc};
use slipway_domain::drift::WindowScores;
use slipway_domain::drift::policy::MonitorState;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::positions::Position;
use crate::received::{Missed, Received};

/// Closed windows that are kept of each monitor.
const KEEP_WINDOWS: i64 = 10_000;

/// A closed window.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct WindowRow {
    pub(crate) sequence: i64,
    pub(crate) opened_at: DateTime<Utc>,
    pub(crate) closed_at: DateTime<Utc>,
    pub(crate) rows: i64,
    pub(crate) drifted: bool,
    pub(crate) baseline_version: String,
    pub(crate) scores: serde_json::Value,
    pub(crate) rows_lost: i64,
    pub(crate) rows_dropped: i64,
    pub(crate) rows_not_recorded: i64,
}

/// A window to add.
#[derive(Debug)]
pub(crate) struct NewWindow<'window> {
    pub(crate) sequence: i64,
    pub(crate) opened_at: DateTime<Utc>,
    pub(crate) closed_at: DateTime<Utc>,
    pub(crate) baseline_version: &'window str,
    pub(crate) scores: &'window WindowScores,
    pub(crate) missed: Missed,
}

/// Adds a closed window and forgets the oldest beyond what is kept.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    monitor: Uuid,
    window: &NewWindow<'_>,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO windows (monitor_id, sequence, opened_at, closed_at, rows, drifted, baseline_version,
         scores,
           rows_lost, rows_dropped, rows_not_recorded)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(monitor)
    .bind(window.sequence)
    .bind(window.opened_at)
    .bind(window.closed_at)
    .bind(window.scores.rows.cast_signed())
    .bind(window.scores.drifted)
    .bind(window.baseline_version)
    .bind(Json(window.scores))
    .bind(window.missed.lost.cast_signed())
    .bind(window.missed.dropped.cast_signed())
    .bind(window.missed.not_recorded.cast_signed())
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM windows WHERE monitor_id = $1 AND sequence <= $2")
        .bind(monitor)
        .bind(window.sequence - KEEP_WINDOWS)
        .execute(connection)
        .await?;
    Ok(())
}

/// What a monitor remembers after a window.
#[derive(Debug)]
pub(crate) struct Advanced<'window> {
    /// Number of the window.
    pub(crate) sequence: i64,
    /// Where reading continues.
    pub(crate) position: Position,
    pub(crate) received: &'window Received,
    pub(crate) status: &'window str,
    pub(crate) reason: &'window str,
    pub(crate) policy_state: &'window MonitorState,
}

/// Stores what a monitor remembers after a window. The row is locked.
pub(crate) async fn advance(
    connection: &mut PgConnection,
    monitor: Uuid,
    window: &Advanced<'_>,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE monitors SET window_sequence = $2, position_sequence = $3, position_rows = $4, status = $5,
         reason = $6,
           policy_state = $7, received = $8, open_window = NULL, epoch = epoch + 1, updated_at = now()
         WHERE id = $1",
    )
    .bind(monitor)
    .bind(window.sequence)
    .bind(window.position.sequence.cast_signed())
    .bind(window.position.rows.cast_signed())
    .bind(window.status)
    .bind(window.reason)
    .bind(Json(window.policy_state))
    .bind(Json(window.received))
    .execute(connection)
    .await?;
    Ok(())
}

/// Closed windows, the newest first, older than `before`.
pub(crate) async fn list(
    pool: &PgPool,
    monitor: Uuid,
    before: Option<i64>,
    limit: i64,
) -> sqlx::Result<Vec<WindowRow>> {
    sqlx::query_as(
        "SELECT sequence, opened_at, closed_at, rows, drifted, baseline_version, scores, rows_lost,
         rows_dropped,
           rows_not_recorded
         FROM windows
         WHERE monitor_id = $1 AND ($2::bigint IS NULL OR sequence < $2) ORDER BY sequence DESC LIMIT $3",
    )
    .bind(monitor)
    .bind(before)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// A drift event.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct VerdictRow {
    pub(crate) event_id: Uuid,
    pub(crate) what: String,
    pub(crate) baseline_version: String,
    pub(crate) windows: Vec<i64>,
    pub(crate) evidence: serde_json::Value,
    pub(crate) decided_at: DateTime<Utc>,
}

/// Stores a drift event with the windows that led to it.
pub(crate) async fn insert_verdict(
    connection: &mut PgConnection,
    monitor: Uuid,
    event_id: Uuid,
    event: &slipway_api::events::DriftDetected,
) -> sqlx::Result<()> {
    let windows: Vec<i64> = event.windows.iter().map(|window| window.cast_signed()).collect();
    sqlx::query(
        "INSERT INTO verdicts (event_id, monitor_id, what, baseline_version, windows, evidence)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(event_id)
    .bind(monitor)
    .bind(&event.what)
    .bind(&event.baseline_version)
    .bind(windows)
    .bind(&event.evidence)
    .execute(connection)
    .await?;
    Ok(())
}

/// Drift events, the newest first, older than `before`.
pub(crate) async fn list_verdicts(
    pool: &PgPool,
    monitor: Uuid,
    before: Option<Uuid>,
    limit: i64,
) -> sqlx::Result<Vec<VerdictRow>> {
    sqlx::query_as(
        "SELECT event_id, what, baseline_version, windows, evidence, decided_at FROM verdicts
         WHERE monitor_id = $1 AND ($2::uuid IS NULL OR event_id < $2) ORDER BY event_id DESC LIMIT $3",
    )
    .bind(monitor)
    .bind(before)
    .bind(limit)
    .fetch_all(pool)
    .await
}
