//! Attempts: their tokens, and how they ended.

use chrono::{DateTime, Utc};
use slipway_domain::training::{Lease, Owner};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{column, milliseconds};

/// An attempt as stored.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct StoredAttempt {
    pub(crate) number: i32,
    pub(crate) reason: String,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) ended_at: Option<DateTime<Utc>>,
    pub(crate) cores: Vec<i32>,
    pub(crate) gpus: Vec<i32>,
    pub(crate) warnings: Vec<String>,
    /// Where it runs; none for attempts of earlier releases.
    pub(crate) node: Option<String>,
    /// Step of the checkpoint that it resumed from.
    pub(crate) restored_step: Option<i64>,
    /// Work of the attempt before that it does again, milliseconds.
    pub(crate) lost_ms: Option<i64>,
}

/// The part of a machine that an attempt gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Assigned {
    /// Numbers of the CPU cores that it is bound to; none for all.
    pub(crate) cores: Vec<u32>,
    /// Numbers of its GPUs.
    pub(crate) gpus: Vec<u32>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending {
    pub(crate) reason: String,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// Adds an attempt with the digest of its token. Its log begins in the artifact store.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
    token_sha256: &str,
    assigned: &Assigned,
    owner: &Owner,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO attempts
           (job_id, number, token_sha256, cores, gpus, backend, node, launcher, log_bytes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)",
    )
    .bind(job_id)
    .bind(column(number))
    .bind(token_sha256)
    .bind(numbers(&assigned.cores))
    .bind(numbers(&assigned.gpus))
    .bind(&owner.backend)
    .bind(&owner.node)
    .bind(Uuid::parse_str(&owner.launcher).ok())
    .execute(connection)
    .await
    .map(drop)
}

/// Gives an attempt to a launcher.
pub(crate) async fn adopt(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
    owner: &Owner,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE attempts SET backend = $3, node = $4, launcher = $5
         WHERE job_id = $1 AND number = $2 AND ended_at IS NULL",
    )
    .bind(job_id)
    .bind(column(number))
    .bind(&owner.backend)
    .bind(&owner.node)
    .bind(Uuid::parse_str(&owner.launcher).ok())
    .execute(connection)
    .await
    .map(drop)
}

/// How far the lease of an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub(crate) struct Held {
    /// How often it was renewed.
    pub(crate) renewals: i64,
    /// Whether [`set_ready`] was called.
    pub(crate) is_ready: bool,
}

/// Renews the lease of an attempt; with `given`, its agent gets a lease of that length.
pub(crate) async fn renew(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
    given: Option<Lease>,
) -> Result<Held, sqlx::Error> {
    sqlx::query_as(
        "UPDATE attempts SET renewals = renewals + 1, lease_ms = coalesce($3, lease_ms),
           lease_expires_at = clock_timestamp() + make_interval(secs => coalesce($3, lease_ms) / 1000.0)
         WHERE job_id = $1 AND number = $2 RETURNING renewals, ready_at IS NOT NULL AS is_ready",
    )
    .bind(job_id)
    .bind(column(number))
    .bind(given.map(|lease| milliseconds(lease.ms())))
    .fetch_one(connection)
    .await
}

/// Gives the agents of an attempt a lease of this length.
pub(crate) async fn give_lease(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
    lease: Lease,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE attempts SET lease_ms = $3 WHERE job_id = $1 AND number = $2")
        .bind(job_id)
        .bind(column(number))
        .bind(milliseconds(lease.ms()))
        .execute(connection)
        .await
        .map(drop)
}

/// Notes that an attempt has restored the checkpoint with the prefix `restored`, none where it is empty, and
/// with it how long the attempt before had run since that was committed. The first time counts.
pub(crate) async fn set_ready(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
    restored: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE attempts SET ready_at = clock_timestamp(), restored_step = restored.step,
           lost_ms = (SELECT greatest(0, extract(epoch FROM before.ended_at
               - greatest(before.ready_at, restored.committed_at)) * 1000)::bigint
             FROM attempts AS before WHERE before.job_id = $1 AND before.number = $2 - 1
               AND before.ready_at IS NOT NULL AND before.ended_at IS NOT NULL)
         FROM (SELECT max(step) AS step, max(committed_at) AS committed_at FROM checkpoints
           WHERE job_id = $1 AND prefix = $3) AS restored
         WHERE job_id = $1 AND number = $2 AND ready_at IS NULL",
    )
    .bind(job_id)
    .bind(column(number))
    .bind(restored)
    .execute(connection)
    .await
    .map(drop)
}

/// How far the lease of an attempt is that has not ended.
pub(crate) async fn held(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
) -> Result<Option<Held>, sqlx::Error> {
    sqlx::query_as(
        "SELECT renewals, ready_at IS NOT NULL AS is_ready FROM attempts
         WHERE job_id = $1 AND number = $2 AND ended_at IS NULL",
    )
    .bind(job_id)
    .bind(column(number))
    .fetch_optional(connection)
    .await
}

/// Where the log of an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredLog {
    /// In the artifact store: its length, bytes.
    Objects(u64),
    /// On the disk of the launcher of an earlier release.
    Disk,
}

impl StoredLog {
    fn of_bytes(bytes: Option<i64>) -> Self {
        bytes.map_or(Self::Disk, |bytes| Self::Objects(u64::try_from(bytes).unwrap_or(0)))
    }
}

/// The log of an attempt; `None` where there is no such attempt.
pub(crate) async fn log(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
) -> Result<Option<StoredLog>, sqlx::Error> {
    let found: Option<Option<i64>> =
        sqlx::query_scalar("SELECT log_bytes FROM attempts WHERE job_id = $1 AND number = $2")
            .bind(job_id)
            .bind(column(number))
            .fetch_optional(connection)
            .await?;
    Ok(found.map(StoredLog::of_bytes))
}

/// Where the log of an agent's process is: that of the process in a distributed job, which is known by the
/// answer's first part, otherwise that of the attempt. `None` where there is no such attempt.
pub(crate) async fn log_of_agent(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
    process: u32,
) -> Result<Option<(bool, StoredLog)>, sqlx::Error> {
    let found: Option<(Option<i64>, Option<i64>)> = sqlx::query_as(
        "SELECT attempts.log_bytes, processes.log_bytes FROM attempts LEFT JOIN processes
           ON processes.job_id = attempts.job_id AND processes.attempt = attempts.number
             AND processes.number = $3
         WHERE attempts.job_id = $1 AND attempts.number = $2",
    )
    .bind(job_id)
    .bind(column(number))
    .bind(column(process))
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|(of_attempt, of_process)| {
        (of_process.is_some(), StoredLog::of_bytes(of_process.or(of_attempt)))
    }))
}

/// Attempts of a job with the lengths of their logs in the artifact store, bytes.
pub(crate) async fn logs(
    connection: &mut PgConnection,
    job_id: Uuid,
) -> Result<Vec<(u32, u64)>, sqlx::Error> {
    let rows: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT number, log_bytes FROM attempts WHERE job_id = $1 AND log_bytes IS NOT NULL ORDER BY number",
    )
    .bind(job_id)
    .fetch_all(connection)
    .await?;
    let unsigned =
        |(number, bytes): (i32, i64)| Some((u32::try_from(number).ok()?, u64::try_from(bytes).ok()?));
    Ok(rows.into_iter().filter_map(unsigned).collect())
}

/// Notes that the log of an attempt has grown to `bytes`, unless it is longer already. Answers with its
/// length.
pub(crate) async fn set_log_bytes(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
    bytes: u64,
) -> Result<u64, sqlx::Error> {
    let length: Option<i64> = sqlx::query_scalar(
        "UPDATE attempts SET log_bytes = greatest(log_bytes, $3) WHERE job_id = $1 AND number = $2
         RETURNING log_bytes",
    )
    .bind(job_id)
    .bind(column(number))
    .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
    .fetch_optional(connection)
    .await?;
    Ok(length.and_then(|length| u64::try_from(length).ok()).unwrap_or(0))
}

/// Sets the warnings of an attempt, where they are news.
pub(crate) async fn set_warnings(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
    warnings: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE attempts SET warnings = $3 WHERE job_id = $1 AND number = $2 AND warnings <> $3")
        .bind(job_id)
        .bind(column(number))
        .bind(warnings)
        .execute(connection)
        .await
        .map(drop)
}

/// Digest of an attempt's token, where the attempt has not ended.
pub(crate) async fn token_sha256(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT token_sha256 FROM attempts WHERE job_id = $1 AND number = $2 AND ended_at IS NULL",
    )
    .bind(job_id)
    .bind(column(number))
    .fetch_optional(connection)
    .await
}

/// Notes the end of an attempt.
pub(crate) async fn end(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
    ending: &Ending,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE attempts SET ended_at = now(), reason = $3, exit_code = $4, signal = $5
         WHERE job_id = $1 AND number = $2 AND ended_at IS NULL",
    )
    .bind(job_id)
    .bind(column(number))
    .bind(&ending.reason)
    .bind(ending.exit_code)
    .bind(ending.signal)
    .execute(connection)
    .await
    .map(drop)
}

/// A job's attempts, oldest first.
pub(crate) async fn list(
    connection: &mut PgConnection,
    job_id: Uuid,
) -> Result<Vec<StoredAttempt>, sqlx::Error> {
    sqlx::query_as(
        "SELECT number, reason, exit_code, signal, started_at, ended_at, cores, gpus, warnings, node,
           restored_step, lost_ms
         FROM attempts WHERE job_id = $1 ORDER BY number",
    )
    .bind(job_id)
    .fetch_all(connection)
    .await
}

fn numbers(values: &[u32]) -> Vec<i32> {
    values.iter().copied().map(column).collect()
}
