//! Monitors as their users see them.

use chrono::{DateTime, Utc};
use slipway_domain::drift::policy::MonitorState;
use slipway_runtime::id;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::spec::MonitorSpec;

/// `monitors.status` before there is a training profile to compare with.
pub(crate) const WAITING: &str = "waiting_for_baseline";
/// `monitors.status` while nothing is wrong.
pub(crate) const WATCHING: &str = "watching";
/// `monitors.status` from a detection until it is cleared.
pub(crate) const DRIFTED: &str = "drifted";
const REASON_NEW: &str = "the training profile of the baseline version has not been asked for yet";

/// A monitor and how it stands.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Monitor {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) deployment: String,
    pub(crate) model: String,
    pub(crate) follows_stable: bool,
    pub(crate) spec: Json<MonitorSpec>,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) policy_state: Json<MonitorState>,
    pub(crate) baseline_version: Option<String>,
    pub(crate) deployment_id: Option<String>,
    pub(crate) open_window: Option<serde_json::Value>,
    pub(crate) window_sequence: i64,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// Adds a monitor; a name that is taken is a unique violation.
pub(crate) async fn insert(connection: &mut PgConnection, spec: &MonitorSpec) -> sqlx::Result<Monitor> {
    sqlx::query_as(
        "INSERT INTO monitors (id, name, deployment, model, follows_stable, spec, status, reason, read_from)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now())
         RETURNING id, name, deployment, model, follows_stable, spec, status, reason, policy_state,
         baseline_version,
           deployment_id, open_window, window_sequence, created_at, updated_at",
    )
    .bind(id::time_ordered())
    .bind(&spec.name)
    .bind(&spec.deployment)
    .bind(&spec.model)
    .bind(spec.baseline_version.is_none())
    .bind(Json(spec))
    .bind(WAITING)
    .bind(REASON_NEW)
    .fetch_one(connection)
    .await
}

/// One monitor by its name.
pub(crate) async fn get(pool: &PgPool, name: &str) -> sqlx::Result<Option<Monitor>> {
    sqlx::query_as(
        "SELECT id, name, deployment, model, follows_stable, spec, status, reason, policy_state,
         baseline_version,
           deployment_id, open_window, window_sequence, created_at, updated_at
         FROM monitors WHERE name = $1",
    )
    .bind(name)
    .fetch_optional(pool)
    .await
}

/// Monitors behind `after` in the order of their names.
pub(crate) async fn list(
    pool: &PgPool,
    deployment: Option<&str>,
    models: Option<&[String]>,
    after: Option<&str>,
    limit: i64,
) -> sqlx::Result<Vec<Monitor>> {
    sqlx::query_as(
        "SELECT id, name, deployment, model, follows_stable, spec, status, reason, policy_state,
         baseline_version,
           deployment_id, open_window, window_sequence, created_at, updated_at
         FROM monitors
         WHERE ($1::text IS NULL OR deployment = $1) AND ($2::text IS NULL OR name COLLATE \"C\" > $2)
           AND ($4::text[] IS NULL OR model = ANY($4))
         ORDER BY name COLLATE \"C\" LIMIT $3",
    )
    .bind(deployment)
    .bind(after)
    .bind(limit)
    .bind(models)
    .fetch_all(pool)
    .await
}

/// Replaces the spec of a monitor of the same name, deployment and model; its open window starts again. The
/// baseline is asked for again.
pub(crate) async fn update(
    connection: &mut PgConnection,
    spec: &MonitorSpec,
) -> sqlx::Result<Option<Monitor>> {
    sqlx::query_as(
        "UPDATE monitors SET spec = $2, follows_stable = $3, baseline_stale_since = now(), epoch = epoch + 1,
           updated_at = now()
         WHERE name = $1 AND deployment = $4 AND model = $5
         RETURNING id, name, deployment, model, follows_stable, spec, status, reason, policy_state,
         baseline_version,
           deployment_id, open_window, window_sequence, created_at, updated_at",
    )
    .bind(&spec.name)
    .bind(Json(spec))
    .bind(spec.baseline_version.is_none())
    .bind(&spec.deployment)
    .bind(&spec.model)
    .fetch_optional(connection)
    .await
}

/// Gives all monitors of a model its present name. Their epoch stays, so that no open window is restarted.
pub(crate) async fn rename_model(connection: &mut PgConnection, from: &str, to: &str) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE monitors SET model = $2, spec = jsonb_set(spec, '{model}', to_jsonb($2::TEXT)),
         updated_at = now()
         WHERE model = $1",
    )
    .bind(from)
    .bind(to)
    .execute(connection)
    .await
    .map(drop)
}

/// Removes a monitor with its windows, verdicts and actions; answers with its deployment.
pub(crate) async fn delete(connection: &mut PgConnection, name: &str) -> sqlx::Result<Option<String>> {
    let row: Option<(String,)> = sqlx::query_as("DELETE FROM monitors WHERE name = $1 RETURNING deployment")
        .bind(name)
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|(deployment,)| deployment))
}

/// Deployments that have monitors.
pub(crate) async fn deployments(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("SELECT DISTINCT deployment FROM monitors").fetch_all(pool).await
}

/// Monitors by status.
pub(crate) async fn count_by_status(pool: &PgPool) -> sqlx::Result<Vec<(String, i64)>> {
    sqlx::query_as("SELECT status, count(*) FROM monitors GROUP BY status").fetch_all(pool).await
}
