//! How far each monitor has read the stream of prediction records.

use chrono::{DateTime, Utc};
use slipway_domain::drift::Profile;
use slipway_domain::drift::policy::MonitorState;
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use crate::spec::MonitorSpec;

/// Rows counted up to here: all before message `sequence`, and the first `rows` of the monitor's rows in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    pub(crate) sequence: u64,
    pub(crate) rows: u64,
}

/// What a reader of prediction records needs to know of its monitor.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Watched {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) deployment: String,
    pub(crate) model: String,
    pub(crate) spec: Json<MonitorSpec>,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) policy_state: Json<MonitorState>,
    pub(crate) baseline_version: Option<String>,
    pub(crate) profile: Option<Json<Profile>>,
    pub(crate) prediction_output: Option<String>,
    pub(crate) baseline_stale_since: Option<DateTime<Utc>>,
    pub(crate) window_sequence: i64,
    position_sequence: Option<i64>,
    position_rows: i64,
    pub(crate) read_from: DateTime<Utc>,
    pub(crate) epoch: i64,
}

impl Watched {
    /// `None` where nothing has been read yet: reading begins at `read_from`.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position_sequence.map(|sequence| Position {
            sequence: sequence.unsigned_abs(),
            rows: self.position_rows.unsigned_abs(),
        })
    }
}

/// One monitor with all that its reader needs.
pub(crate) async fn watched(pool: &PgPool, monitor: Uuid) -> sqlx::Result<Option<Watched>> {
    sqlx::query_as(
        "SELECT id, name, deployment, model, spec, status, reason, policy_state, baseline_version, profile,
           prediction_output, baseline_stale_since, window_sequence, position_sequence, position_rows, read_from, epoch
         FROM monitors WHERE id = $1",
    )
    .bind(monitor)
    .fetch_optional(pool)
    .await
}

/// Whether the reader's picture of its monitor still holds: the same epoch and no doubt about the baseline. `None`: the monitor
/// is gone.
pub(crate) async fn is_current(pool: &PgPool, monitor: Uuid, epoch: i64) -> sqlx::Result<Option<bool>> {
    let row: Option<(bool,)> =
        sqlx::query_as("SELECT epoch = $2 AND baseline_stale_since IS NULL FROM monitors WHERE id = $1")
            .bind(monitor)
            .bind(epoch)
            .fetch_optional(pool)
            .await?;
    Ok(row.map(|(current,)| current))
}

/// Remembers how far was read while no window is open, so that a restart does not read the stream of a day again.
pub(crate) async fn save(pool: &PgPool, monitor: Uuid, epoch: i64, position: Position) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE monitors SET position_sequence = $3, position_rows = $4 WHERE id = $1 AND epoch = $2",
    )
    .bind(monitor)
    .bind(epoch)
    .bind(position.sequence.cast_signed())
    .bind(position.rows.cast_signed())
    .execute(pool)
    .await?;
    Ok(())
}
