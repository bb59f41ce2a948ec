//! Processes of the attempts of distributed jobs.

use chrono::{DateTime, Utc};
use slipway_domain::training::{Gathered, Outcome};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::column;

/// A process of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessKey {
    pub(crate) job_id: Uuid,
    pub(crate) attempt: u32,
    /// From 0.
    pub(crate) number: u32,
}

/// A process as stored.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct StoredProcess {
    pub(crate) attempt: i32,
    pub(crate) number: i32,
    pub(crate) ready: bool,
    pub(crate) ended_at: Option<DateTime<Utc>>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// The largest number of processes that an attempt of a job has had; 0 before the first attempt.
pub(crate) async fn most(connection: &mut PgConnection, job_id: Uuid) -> Result<u32, sqlx::Error> {
    let most: i32 =
        sqlx::query_scalar("SELECT coalesce(max(number) + 1, 0) FROM processes WHERE job_id = $1")
            .bind(job_id)
            .fetch_one(connection)
            .await?;
    Ok(u32::try_from(most).unwrap_or_default())
}

/// What an agent tells with a heartbeat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'told> {
    pub(crate) ready: bool,
    /// Prefix of the restored checkpoint.
    pub(crate) restored: &'told str,
    pub(crate) stopping: bool,
    pub(crate) warnings: &'told [String],
}

/// How a process ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended<'ended> {
    pub(crate) outcome: &'ended Outcome,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// Whether its agent was told to end.
    pub(crate) stopped: bool,
    pub(crate) warnings: &'ended [String],
}

/// Adds the processes of an attempt.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    job_id: Uuid,
    attempt: u32,
    processes: u32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO processes (job_id, attempt, number)
         SELECT $1, $2, number FROM generate_series(0, $3 - 1) AS number",
    )
    .bind(job_id)
    .bind(column(attempt))
    .bind(column(processes))
    .execute(connection)
    .await
    .map(drop)
}

/// Notes a heartbeat. `true` where every process that has not ended has sent one since the last time.
pub(crate) async fn renew(
    connection: &mut PgConnection,
    key: ProcessKey,
    told: Told<'_>,
) -> Result<bool, sqlx::Error> {
    sqlx::query(
        "UPDATE processes SET renewed = true, ready = $4, restored = $5, stopping = stopping OR $6,
           warnings = $7
         WHERE job_id = $1 AND attempt = $2 AND number = $3",
    )
    .bind(key.job_id)
    .bind(column(key.attempt))
    .bind(column(key.number))
    .bind(told.ready)
    .bind(told.restored)
    .bind(told.stopping)
    .bind(told.warnings)
    .execute(&mut *connection)
    .await?;
    next_round(connection, key).await
}

/// Notes that the agent of a process holds the lease. The answer is that of [`renew`].
pub(crate) async fn hold(connection: &mut PgConnection, key: ProcessKey) -> Result<bool, sqlx::Error> {
    sqlx::query("UPDATE processes SET renewed = true WHERE job_id = $1 AND attempt = $2 AND number = $3")
        .bind(key.job_id)
        .bind(column(key.attempt))
        .bind(column(key.number))
        .execute(&mut *connection)
        .await?;
    next_round(connection, key).await
}

/// Begins the next round of heartbeats where this one is complete.
async fn next_round(connection: &mut PgConnection, key: ProcessKey) -> Result<bool, sqlx::Error> {
    let reset = sqlx::query(
        "UPDATE processes SET renewed = false WHERE job_id = $1 AND attempt = $2 AND ended_at IS NULL
           AND NOT EXISTS (SELECT FROM processes AS other WHERE other.job_id = $1 AND other.attempt = $2
             AND other.ended_at IS NULL AND NOT other.renewed)",
    )
    .bind(key.job_id)
    .bind(column(key.attempt))
    .execute(connection)
    .await?;
    Ok(reset.rows_affected() > 0)
}

/// Notes how a process ended; the first report counts. It is the attempt's failure where no other process
/// failed or was told to end before. The answer is that of [`renew`].
pub(crate) async fn end(
    connection: &mut PgConnection,
    key: ProcessKey,
    ended: Ended<'_>,
) -> Result<bool, sqlx::Error> {
    sqlx::query(
        "UPDATE processes SET ended_at = clock_timestamp(), outcome = $4, exit_code = $5, signal = $6,
           stopping = stopping OR $7, warnings = $9,
           failed = $8 AND NOT $7 AND NOT EXISTS (SELECT FROM processes AS other
             WHERE other.job_id = $1 AND other.attempt = $2 AND (other.failed OR other.stopping))
         WHERE job_id = $1 AND attempt = $2 AND number = $3 AND ended_at IS NULL",
    )
    .bind(key.job_id)
    .bind(column(key.attempt))
    .bind(column(key.number))
    .bind(sqlx::types::Json(ended.outcome))
    .bind(ended.exit_code)
    .bind(ended.signal)
    .bind(ended.stopped)
    .bind(*ended.outcome != Outcome::Exited { code: 0 })
    .bind(ended.warnings)
    .execute(&mut *connection)
    .await?;
    next_round(connection, key).await
}

#[derive(FromRow)]
struct GatheredRow {
    all_ready: bool,
    oldest: String,
    newest: String,
    left_all: i64,
    trained: bool,
    stopping: bool,
    failed: bool,
}

/// What the processes of an attempt have told. The first `trainers` of them train.
pub(crate) async fn gathered(
    connection: &mut PgConnection,
    job_id: Uuid,
    attempt: u32,
    trainers: u32,
) -> Result<Gathered, sqlx::Error> {
    let row: GatheredRow = sqlx::query_as(
        "SELECT coalesce(bool_and(ready OR ended_at IS NOT NULL), false) AS all_ready,
           coalesce(min(restored COLLATE \"C\") FILTER (WHERE number < $3), '') AS oldest,
           coalesce(max(restored COLLATE \"C\") FILTER (WHERE number < $3), '') AS newest,
           count(*) FILTER (WHERE ended_at IS NULL) AS left_all,
           count(*) FILTER (WHERE number < $3 AND exit_code IS DISTINCT FROM 0) = 0 AS trained,
           coalesce(bool_or(stopping), false) AND NOT coalesce(bool_or(failed), false) AS stopping,
           coalesce(bool_or(failed), false) AS failed
         FROM processes WHERE job_id = $1 AND attempt = $2",
    )
    .bind(job_id)
    .bind(column(attempt))
    .bind(column(trainers))
    .fetch_one(connection)
    .await?;
    Ok(Gathered {
        all_ready: row.all_ready,
        oldest: row.oldest,
        newest: row.newest,
        left: u32::try_from(row.left_all).unwrap_or(u32::MAX),
        trained: row.trained,
        stopping: row.stopping,
        failed: row.failed,
    })
}

/// The process whose failure is that of its attempt.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Failed {
    pub(crate) number: i32,
    pub(crate) outcome: sqlx::types::Json<Outcome>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// The process whose failure is that of the attempt; `None` while there is none.
pub(crate) async fn failed(
    connection: &mut PgConnection,
    job_id: Uuid,
    attempt: u32,
) -> Result<Option<Failed>, sqlx::Error> {
    sqlx::query_as(
        "SELECT number, outcome, exit_code, signal FROM processes
         WHERE job_id = $1 AND attempt = $2 AND failed AND outcome IS NOT NULL",
    )
    .bind(job_id)
    .bind(column(attempt))
    .fetch_optional(connection)
    .await
}

/// Warnings of all processes of an attempt, each with the number of its process.
pub(crate) async fn warnings(
    connection: &mut PgConnection,
    job_id: Uuid,
    attempt: u32,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT 'process ' || number || ': ' || warning FROM processes, unnest(warnings) AS warning
         WHERE job_id = $1 AND attempt = $2 ORDER BY number LIMIT $3",
    )
    .bind(job_id)
    .bind(column(attempt))
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Processes of all attempts of a job, in their order.
pub(crate) async fn list(
    connection: &mut PgConnection,
    job_id: Uuid,
) -> Result<Vec<StoredProcess>, sqlx::Error> {
    sqlx::query_as(
        "SELECT attempt, number, ready, ended_at, exit_code, signal FROM processes
         WHERE job_id = $1 ORDER BY attempt, number",
    )
    .bind(job_id)
    .fetch_all(connection)
    .await
}

/// Length of the log of a process, bytes; `None` where there is no such process.
pub(crate) async fn log_bytes(
    connection: &mut PgConnection,
    key: ProcessKey,
) -> Result<Option<u64>, sqlx::Error> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT log_bytes FROM processes WHERE job_id = $1 AND attempt = $2 AND number = $3",
    )
    .bind(key.job_id)
    .bind(column(key.attempt))
    .bind(column(key.number))
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|bytes| u64::try_from(bytes).unwrap_or(0)))
}

/// Notes that the log of a process has grown to `bytes`, unless it is longer already. Answers with its
/// length.
pub(crate) async fn set_log_bytes(
    connection: &mut PgConnection,
    key: ProcessKey,
    bytes: u64,
) -> Result<u64, sqlx::Error> {
    let length: Option<i64> = sqlx::query_scalar(
        "UPDATE processes SET log_bytes = greatest(log_bytes, $4)
         WHERE job_id = $1 AND attempt = $2 AND number = $3 RETURNING log_bytes",
    )
    .bind(key.job_id)
    .bind(column(key.attempt))
    .bind(column(key.number))
    .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
    .fetch_optional(connection)
    .await?;
    Ok(length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0))
}

/// Logs of a job's processes: attempt, process and length in bytes.
pub(crate) async fn logs(
    connection: &mut PgConnection,
    job_id: Uuid,
) -> Result<Vec<(u32, u32, u64)>, sqlx::Error> {
    let rows: Vec<(i32, i32, i64)> =
        sqlx::query_as("SELECT attempt, number, log_bytes FROM processes WHERE job_id = $1")
            .bind(job_id)
            .fetch_all(connection)
            .await?;
    let unsigned = |(attempt, number, bytes): (i32, i32, i64)| {
        Some((u32::try_from(attempt).ok()?, u32::try_from(number).ok()?, u64::try_from(bytes).ok()?))
    };
    Ok(rows.into_iter().filter_map(unsigned).collect())
}
