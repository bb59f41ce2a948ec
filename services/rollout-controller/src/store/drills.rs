//! Fault drills and their reports.

use slipway_domain::rollout::drill::Drill;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// Start of a statement that reads [`StoredDrill`].
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, deployment_key, state, idempotency_key FROM drills ", $rest)
    };
}

/// A drill as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct StoredDrill {
    pub(crate) id: Uuid,
    pub(crate) deployment_key: i64,
    pub(crate) state: Json<Drill>,
    pub(crate) idempotency_key: Option<String>,
}

/// Stores a new drill; `false` where another one of the deployment runs.
pub(crate) async fn insert(connection: &mut PgConnection, new: &StoredDrill) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(
        "INSERT INTO drills (id, deployment_key, state, began_at_unix_ms, idempotency_key) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(new.id)
    .bind(new.deployment_key)
    .bind(&new.state)
    .bind(column(new.state.began_at_unix_ms))
    .bind(new.idempotency_key.as_deref())
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Stores what became of a drill.
pub(crate) async fn save(connection: &mut PgConnection, drill: &StoredDrill) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE drills SET state = $2, ended_at_unix_ms = $3 WHERE id = $1")
        .bind(drill.id)
        .bind(&drill.state)
        .bind(drill.state.ended.as_ref().map(|ended| column(ended.at_unix_ms)))
        .execute(connection)
        .await?;
    Ok(())
}

/// The drill of that key.
pub(crate) async fn find_by_key(
    connection: &mut PgConnection,
    key: &str,
) -> Result<Option<StoredDrill>, sqlx::Error> {
    sqlx::query_as(select!("WHERE idempotency_key = $1")).bind(key).fetch_optional(connection).await
}

/// The newest drill of a deployment: the one that runs, where one does.
pub(crate) async fn newest(
    connection: &mut PgConnection,
    deployment_key: i64,
) -> Result<Option<StoredDrill>, sqlx::Error> {
    sqlx::query_as(select!("WHERE deployment_key = $1 ORDER BY began_at_unix_ms DESC, id DESC LIMIT 1"))
        .bind(deployment_key)
        .fetch_optional(connection)
        .await
}

/// The newest drill of each of these deployments.
pub(crate) async fn newest_of(
    connection: &mut PgConnection,
    deployment_keys: &[i64],
) -> Result<Vec<StoredDrill>, sqlx::Error> {
    sqlx::query_as(
        "SELECT DISTINCT ON (deployment_key) id, deployment_key, state, idempotency_key FROM drills \
         WHERE deployment_key = ANY($1) ORDER BY deployment_key, began_at_unix_ms DESC, id DESC",
    )
    .bind(deployment_keys)
    .fetch_all(connection)
    .await
}

/// Those that run, also of deployments that were deleted.
pub(crate) async fn running(connection: &mut PgConnection) -> Result<Vec<StoredDrill>, sqlx::Error> {
    sqlx::query_as(select!("WHERE ended_at_unix_ms IS NULL ORDER BY id")).fetch_all(connection).await
}

/// Removes the keys of a deployment's drills that begin with a prefix.
pub(crate) async fn forget_keys(
    connection: &mut PgConnection,
    deployment_key: i64,
    prefix: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE drills SET idempotency_key = NULL WHERE deployment_key = $1 \
         AND starts_with(idempotency_key, $2)",
    )
    .bind(deployment_key)
    .bind(prefix)
    .execute(connection)
    .await?;
    Ok(())
}

fn column(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms).unwrap_or(i64::MAX)
}
