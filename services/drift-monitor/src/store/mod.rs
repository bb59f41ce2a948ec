//! Everything that is kept in Postgres, and the only place with SQL.

pub(crate) mod actions;
pub(crate) mod baselines;
pub(crate) mod monitors;
pub(crate) mod positions;
pub(crate) mod windows;

use sqlx::PgConnection;
use uuid::Uuid;

/// Locks a monitor's row and returns whether it is unchanged since `epoch` was read.
pub(crate) async fn lock(connection: &mut PgConnection, monitor: Uuid, epoch: i64) -> sqlx::Result<bool> {
    let row: Option<(i64,)> = sqlx::query_as("SELECT epoch FROM monitors WHERE id = $1 FOR UPDATE")
        .bind(monitor)
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some_and(|(current,)| current == epoch))
}
