//! Attempts: their tokens, and how they ended.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

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

/// Adds an attempt with the digest of its token.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    job_id: Uuid,
    number: u32,
    token_sha256: &str,
    assigned: &Assigned,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO attempts (job_id, number, token_sha256, cores, gpus) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(job_id)
    .bind(column(number))
    .bind(token_sha256)
    .bind(numbers(&assigned.cores))
    .bind(numbers(&assigned.gpus))
    .execute(connection)
    .await
    .map(drop)
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
        "SELECT number, reason, exit_code, signal, started_at, ended_at, cores, gpus, warnings
         FROM attempts WHERE job_id = $1 ORDER BY number",
    )
    .bind(job_id)
    .fetch_all(connection)
    .await
}

fn numbers(values: &[u32]) -> Vec<i32> {
    values.iter().copied().map(column).collect()
}

fn column(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
