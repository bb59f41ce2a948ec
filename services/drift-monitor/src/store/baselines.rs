//! The training profile that each monitor compares with.

use chrono::{DateTime, Utc};
use slipway_domain::drift::Profile;
use slipway_domain::drift::policy::MonitorState;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::monitors::{WAITING, WATCHING};
use crate::layout::Input;

/// A training profile and the version that it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Baseline {
    pub(crate) version: String,
    pub(crate) profile: Profile,
    pub(crate) prediction_output: Option<String>,
    pub(crate) inputs: Option<Vec<Input>>,
    /// What of the profile does not fit the signature; empty where all of it does.
    pub(crate) misfit: String,
}

/// The monitor has nothing to compare with; `reason` says what a person can do. Where another baseline is
/// known to be due (`version`), the old one is dropped. Answers whether anything changed.
pub(crate) async fn set_waiting(
    connection: &mut PgConnection,
    monitor: Uuid,
    epoch: i64,
    version: Option<&str>,
    reason: &str,
) -> sqlx::Result<bool> {
    let changed = sqlx::query(
        "UPDATE monitors SET status = $3, reason = $4, baseline_version = $5, profile = NULL,
         epoch = epoch + 1,
           read_from = COALESCE(baseline_stale_since, read_from), misfit = '', open_window = NULL,
           updated_at = now()
         WHERE id = $1 AND epoch = $2 AND (status <> $3 OR reason <> $4 OR baseline_version IS DISTINCT
         FROM $5)",
    )
    .bind(monitor)
    .bind(epoch)
    .bind(WAITING)
    .bind(reason)
    .bind(version)
    .execute(connection)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Takes a baseline into use; windows are counted from `read_from` on. The row is locked. A doubt that arose
/// after `asked_since` stays.
pub(crate) async fn set(
    connection: &mut PgConnection,
    monitor: Uuid,
    baseline: &Baseline,
    state: &MonitorState,
    read_from: DateTime<Utc>,
    asked_since: Option<DateTime<Utc>>,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE monitors SET status = $2, reason = $9, misfit = $9, baseline_version = $3, profile = $4,
         prediction_output = $5,
           policy_state = $6, read_from = $7, epoch = epoch + 1, updated_at = now(),
           baseline_stale_since = NULLIF(baseline_stale_since, $8), inputs = $10, open_window = NULL
         WHERE id = $1",
    )
    .bind(monitor)
    .bind(WATCHING)
    .bind(&baseline.version)
    .bind(Json(&baseline.profile))
    .bind(&baseline.prediction_output)
    .bind(Json(state))
    .bind(read_from)
    .bind(asked_since)
    .bind(&baseline.misfit)
    .bind(baseline.inputs.as_ref().map(Json))
    .execute(connection)
    .await?;
    Ok(())
}

/// The identity of a monitor's deployment; a reader takes no notice of another one before it reads the
/// monitor again.
pub(crate) async fn set_deployment(
    connection: &mut PgConnection,
    monitor: Uuid,
    deployment_id: &str,
) -> sqlx::Result<bool> {
    let changed = sqlx::query(
        "UPDATE monitors SET deployment_id = $2, epoch = epoch + 1
         WHERE id = $1 AND deployment_id IS DISTINCT FROM $2",
    )
    .bind(monitor)
    .bind(deployment_id)
    .execute(connection)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// What is known of the model's inputs, for a baseline that was taken before that was asked.
pub(crate) async fn set_inputs(
    connection: &mut PgConnection,
    monitor: Uuid,
    inputs: &[Input],
    misfit: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE monitors SET inputs = $2, misfit = $3, epoch = epoch + 1,
           reason = CASE WHEN reason = '' THEN $3 ELSE reason END
         WHERE id = $1 AND inputs IS NULL",
    )
    .bind(monitor)
    .bind(Json(inputs))
    .bind(misfit)
    .execute(connection)
    .await?;
    Ok(())
}

/// The baseline is the one already in use. A doubt that arose after `asked_since` stays.
pub(crate) async fn confirm(
    connection: &mut PgConnection,
    monitor: Uuid,
    asked_since: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE monitors SET baseline_stale_since = NULL WHERE id = $1 AND baseline_stale_since = $2",
    )
    .bind(monitor)
    .bind(asked_since)
    .execute(connection)
    .await?;
    Ok(())
}

/// The stable version of `deployment` may be another since `since`. No window of the old baseline commits
/// after this.
pub(crate) async fn doubt(
    connection: &mut PgConnection,
    deployment: &str,
    since: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE monitors SET baseline_stale_since = $2, epoch = epoch + 1 WHERE deployment = $1 \
         AND follows_stable",
    )
    .bind(deployment)
    .bind(since)
    .execute(connection)
    .await?;
    Ok(())
}

/// The deployment was created or deleted: another one may have its name.
pub(crate) async fn doubt_identity(
    connection: &mut PgConnection,
    deployment: &str,
    since: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE monitors SET baseline_stale_since = $2, deployment_id = NULL, epoch = epoch + 1 \
         WHERE deployment = $1",
    )
    .bind(deployment)
    .bind(since)
    .execute(connection)
    .await?;
    Ok(())
}
