//! How far each monitor has read the stream of prediction records.

use chrono::{DateTime, Utc};
use slipway_domain::drift::Profile;
use slipway_domain::drift::policy::MonitorState;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

use crate::layout::Input;
use crate::received::Received;
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
    /// Identity of the deployment; empty where the controller gives none, `None` while it is not known.
    pub(crate) deployment_id: Option<String>,
    pub(crate) inputs: Option<Json<Vec<Input>>>,
    pub(crate) misfit: String,
    pub(crate) received: Json<Received>,
    pub(crate) baseline_stale_since: Option<DateTime<Utc>>,
    pub(crate) window_sequence: i64,
    position_sequence: Option<i64>,
    position_rows: i64,
    pub(crate) read_from: DateTime<Utc>,
    pub(crate) epoch: i64,
}

impl Position {
    /// All of a message was read.
    pub(crate) const fn behind(sequence: u64) -> Self {
        Self { sequence: sequence + 1, rows: 0 }
    }
}

impl Watched {
    /// Whether there is something to compare with, and it is known whose records count.
    pub(crate) fn is_fed(&self) -> bool {
        self.profile.is_some() && self.baseline_stale_since.is_none() && self.deployment_id.is_some()
    }

    /// Identity that records have to carry; `None` where the deployment has none.
    pub(crate) fn known_deployment_id(&self) -> Option<&str> {
        self.deployment_id.as_deref().filter(|id| !id.is_empty())
    }

    /// `None` where nothing has been read yet: reading begins at `read_from`.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position_sequence.map(|sequence| Position {
            sequence: sequence.unsigned_abs(),
            rows: self.position_rows.unsigned_abs(),
        })
    }
}

const COLUMNS: &str = "id, name, deployment, model, spec, status, reason, policy_state, baseline_version, \
    profile, prediction_output, deployment_id, inputs, misfit, received, baseline_stale_since, \
    window_sequence, position_sequence, position_rows, read_from, epoch";

/// Condition of monitors that a reader feeds: see [`Watched::is_fed`].
const FED: &str = "profile IS NOT NULL AND baseline_stale_since IS NULL AND deployment_id IS NOT NULL";

/// The monitors of a deployment that a reader feeds, with all that it needs.
pub(crate) async fn of_deployment(pool: &PgPool, deployment: &str) -> sqlx::Result<Vec<Watched>> {
    let sql = format!("SELECT {COLUMNS} FROM monitors WHERE deployment = $1 AND {FED}");
    sqlx::query_as(AssertSqlSafe(sql)).bind(deployment).fetch_all(pool).await
}

/// Monitors whose baseline, or the identity of whose deployment, has to be asked for.
pub(crate) async fn in_doubt(pool: &PgPool) -> sqlx::Result<Vec<Watched>> {
    let sql = format!("SELECT {COLUMNS} FROM monitors WHERE NOT ({FED}) ORDER BY name");
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await
}

/// What a reader compares with its picture of a monitor.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Outline {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    pub(crate) epoch: i64,
    pub(crate) is_fed: bool,
}

/// All monitors of a deployment, in outline.
pub(crate) async fn outlines(pool: &PgPool, deployment: &str) -> sqlx::Result<Vec<Outline>> {
    let sql = format!("SELECT name, id, epoch, ({FED}) AS is_fed FROM monitors WHERE deployment = $1");
    sqlx::query_as(AssertSqlSafe(sql)).bind(deployment).fetch_all(pool).await
}

/// Shows users the open window.
pub(crate) async fn show(
    connection: &mut PgConnection,
    monitor: Uuid,
    epoch: i64,
    open_window: &serde_json::Value,
) -> sqlx::Result<()> {
    sqlx::query("UPDATE monitors SET open_window = $3 WHERE id = $1 AND epoch = $2")
        .bind(monitor)
        .bind(epoch)
        .bind(open_window)
        .execute(connection)
        .await?;
    Ok(())
}

/// Remembers how far was read while no window is open, so that a restart does not read the stream of a day
/// again.
pub(crate) async fn save(
    connection: &mut PgConnection,
    monitor: Uuid,
    epoch: i64,
    position: Position,
    received: &Received,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE monitors SET position_sequence = $3, position_rows = $4, received = $5 WHERE id = $1 \
         AND epoch = $2",
    )
    .bind(monitor)
    .bind(epoch)
    .bind(position.sequence.cast_signed())
    .bind(position.rows.cast_signed())
    .bind(Json(received))
    .execute(connection)
    .await?;
    Ok(())
}
