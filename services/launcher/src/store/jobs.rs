//! Jobs and their state.

use chrono::{DateTime, Utc};
use slipway_domain::training::{BackendKind, Job, JobSpec, Lease, Owner, Resources, Status};
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::attempts::Assigned;
use super::{milliseconds, unreadable};

/// A job as stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredJob {
    pub(crate) id: Uuid,
    pub(crate) spec: JobSpec,
    pub(crate) state: Job,
    pub(crate) traceparent: Option<String>,
    /// Step of the newest committed checkpoint.
    pub(crate) checkpoint_step: Option<u64>,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    spec: String,
    state: sqlx::types::Json<Job>,
    traceparent: Option<String>,
    checkpoint_step: Option<i64>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for StoredJob {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.id,
            spec: serde_json::from_str(&row.spec).map_err(|error| unreadable("a job's spec", error))?,
            state: row.state.0,
            traceparent: row.traceparent,
            checkpoint_step: row.checkpoint_step.and_then(|step| u64::try_from(step).ok()),
            created_at: row.created_at,
            updated_at: row.updated_at,
            finished_at: row.finished_at,
        })
    }
}

/// A new job.
#[derive(Debug, Clone)]
pub(crate) struct NewJob<'spec> {
    pub(crate) id: Uuid,
    pub(crate) spec: &'spec JobSpec,
    pub(crate) state: &'spec Job,
    pub(crate) traceparent: Option<String>,
}

/// Inserts a job; `false` where its idempotency key is taken.
pub(crate) async fn insert(connection: &mut PgConnection, job: &NewJob<'_>) -> Result<bool, sqlx::Error> {
    let spec = serde_json::to_string(job.spec).map_err(|error| unreadable("a job's spec", error))?;
    let inserted = sqlx::query(
        "INSERT INTO jobs
           (id, name, spec, idempotency_key, state, status, cpus, traceparent, memory_bytes, gpus,
           finished_at, experiment_id, backend, is_gang)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, CASE WHEN $11 THEN now() END, $12, $13, $14)
         ON CONFLICT (idempotency_key) DO NOTHING",
    )
    .bind(job.id)
    .bind(&job.spec.name)
    .bind(spec)
    .bind(&job.spec.idempotency_key)
    .bind(sqlx::types::Json(job.state))
    .bind(job.state.status().as_str())
    .bind(job.spec.resources.cpus)
    .bind(&job.traceparent)
    .bind(i64::try_from(job.spec.resources.memory_bytes).unwrap_or(i64::MAX))
    .bind(i32::try_from(job.spec.resources.gpus).unwrap_or(i32::MAX))
    .bind(job.state.status().is_final())
    .bind(job.spec.experiment_id.as_ref().and_then(|id| id.parse::<i64>().ok()))
    .bind(job.spec.backend().as_str())
    .bind(job.spec.is_gang())
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Replaces the spec of a job with one for the same resources.
pub(crate) async fn set_spec(
    connection: &mut PgConnection,
    id: Uuid,
    spec: &JobSpec,
) -> Result<(), sqlx::Error> {
    let text = serde_json::to_string(spec).map_err(|error| unreadable("a job's spec", error))?;
    sqlx::query("UPDATE jobs SET spec = $2, is_gang = $3 WHERE id = $1")
        .bind(id)
        .bind(text)
        .bind(spec.is_gang())
        .execute(connection)
        .await?;
    Ok(())
}

/// A statement that reads rows of [`Row`], with this behind `FROM jobs`.
macro_rules! stored_jobs {
    ($which:literal) => {
        concat!(
            "SELECT id, spec, state, traceparent, created_at, updated_at, finished_at,
               (SELECT max(step) FROM checkpoints WHERE job_id = jobs.id
               AND released_at IS NULL) AS checkpoint_step
             FROM jobs ",
            $which
        )
    };
}

/// One job.
pub(crate) async fn find(connection: &mut PgConnection, id: Uuid) -> Result<Option<StoredJob>, sqlx::Error> {
    let row: Option<Row> =
        sqlx::query_as(stored_jobs!("WHERE id = $1")).bind(id).fetch_optional(connection).await?;
    row.map(TryInto::try_into).transpose()
}

/// One job by its idempotency key.
pub(crate) async fn find_by_key(
    connection: &mut PgConnection,
    idempotency_key: &str,
) -> Result<Option<StoredJob>, sqlx::Error> {
    Ok(find_by_keys(connection, &[idempotency_key]).await?.pop())
}

/// Jobs by their idempotency keys.
pub(crate) async fn find_by_keys(
    connection: &mut PgConnection,
    idempotency_keys: &[impl AsRef<str> + Sync],
) -> Result<Vec<StoredJob>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(stored_jobs!("WHERE idempotency_key = ANY($1)"))
        .bind(idempotency_keys.iter().map(AsRef::as_ref).collect::<Vec<&str>>())
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// One job, locked until the transaction ends.
pub(crate) async fn lock(connection: &mut PgConnection, id: Uuid) -> Result<Option<StoredJob>, sqlx::Error> {
    sqlx::query("SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE").bind(id).execute(&mut *connection).await?;
    find(connection, id).await
}

/// The experiment that a job logs to; `None` where there is no such job, or it names none.
pub(crate) async fn experiment_of(
    database: impl sqlx::PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<i64>, sqlx::Error> {
    let found = sqlx::query_scalar::<_, Option<i64>>("SELECT experiment_id FROM jobs WHERE id = $1")
        .bind(id)
        .fetch_optional(database)
        .await?;
    Ok(found.flatten())
}

/// Which jobs to list.
#[derive(Debug)]
pub(crate) struct Filter<'filter> {
    pub(crate) status: Option<Status>,
    /// Experiments of which jobs are shown; `None`: all jobs are.
    pub(crate) experiments: Option<&'filter [i64]>,
}

/// Where a job of the list is in it; `None` where the list does not have it.
pub(crate) async fn position(
    connection: &mut PgConnection,
    filter: &Filter<'_>,
    id: Uuid,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT seq FROM jobs WHERE id = $1 AND ($2::bigint[] IS NULL OR experiment_id = ANY($2))",
    )
    .bind(id)
    .bind(filter.experiments)
    .fetch_optional(connection)
    .await
}

/// The state of one job, held as it is until the transaction ends.
pub(crate) async fn hold_state(connection: &mut PgConnection, id: Uuid) -> Result<Option<Job>, sqlx::Error> {
    let state: Option<sqlx::types::Json<Job>> =
        sqlx::query_scalar("SELECT state FROM jobs WHERE id = $1 FOR SHARE")
            .bind(id)
            .fetch_optional(connection)
            .await?;
    Ok(state.map(|state| state.0))
}

/// Newest first, from before `before` where given.
pub(crate) async fn list(
    connection: &mut PgConnection,
    filter: &Filter<'_>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<StoredJob>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(stored_jobs!(
        "WHERE ($1::text IS NULL OR status = $1) AND ($2::bigint IS NULL OR seq < $2)
           AND ($4::bigint[] IS NULL OR experiment_id = ANY($4))
         ORDER BY seq DESC LIMIT $3"
    ))
    .bind(filter.status.map(Status::as_str))
    .bind(before)
    .bind(limit)
    .bind(filter.experiments)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Writes a job's state back.
pub(crate) async fn save(connection: &mut PgConnection, id: Uuid, state: &Job) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE jobs SET state = $2, status = $3, retry_at_unix_ms = $4, updated_at = now(),
           memory_bytes = coalesce($6, memory_bytes),
           finished_at = CASE WHEN $5 THEN coalesce(finished_at, now()) END
         WHERE id = $1",
    )
    .bind(id)
    .bind(sqlx::types::Json(state))
    .bind(state.status().as_str())
    .bind(state.retry_at_unix_ms().map(milliseconds))
    .bind(state.status().is_final())
    .bind(state.memory_bytes().map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)))
    .execute(connection)
    .await
    .map(drop)
}

/// A job that has an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    pub(crate) id: Uuid,
    pub(crate) state: Job,
    pub(crate) asked: Resources,
    pub(crate) assigned: Assigned,
    /// Who started the attempt, and where; none for attempts of earlier releases.
    pub(crate) owner: Option<Owner>,
    /// How often its lease was renewed.
    pub(crate) renewals: i64,
    /// The lease that its agent was given; none before, and for attempts of earlier releases.
    pub(crate) lease: Option<Lease>,
    /// Whether it has processes that are scheduled one by one.
    pub(crate) is_gang: bool,
}

impl Active {
    /// Whether it waits for some of its processes.
    pub(crate) fn gathers(&self) -> bool {
        self.is_gang && self.renewals == 0
    }
}

/// A job that could start.
#[derive(Debug, Clone)]
pub(crate) struct Startable {
    pub(crate) id: Uuid,
    pub(crate) asked: Resources,
    /// See [`Active::is_gang`].
    pub(crate) is_gang: bool,
}

#[derive(FromRow)]
struct AskedRow {
    id: Uuid,
    cpus: f64,
    memory_bytes: i64,
    gpus: i32,
    is_gang: bool,
}

#[derive(FromRow)]
struct ActiveRow {
    #[sqlx(flatten)]
    asked: AskedRow,
    state: sqlx::types::Json<Job>,
    assigned_cores: Vec<i32>,
    assigned_gpus: Vec<i32>,
    backend: Option<String>,
    node: Option<String>,
    launcher: Option<Uuid>,
    renewals: i64,
    lease_ms: Option<i64>,
}

impl AskedRow {
    fn resources(&self) -> Resources {
        Resources {
            cpus: self.cpus,
            memory_bytes: u64::try_from(self.memory_bytes).unwrap_or(0),
            gpus: u32::try_from(self.gpus).unwrap_or(0),
        }
    }
}

impl From<ActiveRow> for Active {
    fn from(row: ActiveRow) -> Self {
        let numbers =
            |values: Vec<i32>| values.into_iter().filter_map(|value| u32::try_from(value).ok()).collect();
        let owner = match (row.backend, row.node, row.launcher) {
            (Some(backend), Some(node), Some(launcher)) => {
                Some(Owner { backend, node, launcher: launcher.to_string() })
            }
            _ => None,
        };
        Self {
            id: row.asked.id,
            state: row.state.0,
            asked: row.asked.resources(),
            is_gang: row.asked.is_gang,
            owner,
            renewals: row.renewals,
            lease: row.lease_ms.and_then(|ms| u64::try_from(ms).ok()).map(Lease::of_ms),
            assigned: Assigned { cores: numbers(row.assigned_cores), gpus: numbers(row.assigned_gpus) },
        }
    }
}

/// Of the statements below, none passes jobs that have ended: the indexes `jobs_of_attempts`,
/// `jobs_waiting` and `jobs_suspended` hold the others.
const ACTIVE: &str = "SELECT jobs.id, jobs.state, jobs.cpus, jobs.memory_bytes, jobs.gpus, jobs.is_gang,
   coalesce(attempts.cores, '{}') AS assigned_cores, coalesce(attempts.gpus, '{}') AS assigned_gpus,
   attempts.backend, attempts.node, attempts.launcher, coalesce(attempts.renewals, 0) AS renewals,
   attempts.lease_ms
 FROM jobs LEFT JOIN attempts
   ON attempts.job_id = jobs.id AND attempts.number = (jobs.state->>'attempt')::integer
 WHERE jobs.status IN ('pending', 'running', 'cancelling', 'suspending') ORDER BY jobs.seq";
const STARTABLE: &str = "SELECT id, cpus, memory_bytes, gpus, is_gang FROM jobs
 WHERE status IN ('queued', 'retrying') AND (status = 'queued' OR coalesce(retry_at_unix_ms, 0) <= $1)
   AND backend = $3
 ORDER BY seq LIMIT $2";
const COUNT_BY_STATUS: &str = "SELECT status, count(*)::bigint FROM jobs
   WHERE status IN ('queued', 'retrying') GROUP BY status
 UNION ALL SELECT status, count(*)::bigint FROM jobs
   WHERE status IN ('pending', 'running', 'cancelling', 'suspending') GROUP BY status
 UNION ALL SELECT status, count(*)::bigint FROM jobs WHERE status = 'suspended' GROUP BY status
 UNION ALL SELECT status, sum(jobs)::bigint FROM ended_jobs GROUP BY status";

/// Jobs that have an attempt.
pub(crate) async fn active(connection: &mut PgConnection) -> Result<Vec<Active>, sqlx::Error> {
    let rows: Vec<ActiveRow> = sqlx::query_as(ACTIVE).fetch_all(connection).await?;
    Ok(rows.into_iter().map(Active::from).collect())
}

/// Jobs that could start on a backend, oldest first.
pub(crate) async fn startable(
    connection: &mut PgConnection,
    backend: BackendKind,
    now_unix_ms: u64,
    limit: i64,
) -> Result<Vec<Startable>, sqlx::Error> {
    let rows: Vec<AskedRow> = sqlx::query_as(STARTABLE)
        .bind(milliseconds(now_unix_ms))
        .bind(limit)
        .bind(backend.as_str())
        .fetch_all(connection)
        .await?;
    let startable = |row: &AskedRow| Startable { id: row.id, asked: row.resources(), is_gang: row.is_gang };
    Ok(rows.iter().map(startable).collect())
}

/// How many jobs there are, by status.
pub(crate) async fn count_by_status(
    connection: &mut PgConnection,
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as(COUNT_BY_STATUS).fetch_all(connection).await
}

/// Where a job and one of its attempts are.
#[derive(Debug, Clone, Copy, FromRow)]
pub(crate) struct Progress {
    /// Number of the current or last attempt.
    current: i32,
    pub(crate) has_attempt: bool,
    pub(crate) is_final: bool,
}

impl Progress {
    /// Number of the current or last attempt, from 1; 0 before the first.
    pub(crate) fn attempt(self) -> u32 {
        u32::try_from(self.current).unwrap_or(0)
    }
}

/// How far a job is, without what it runs.
pub(crate) async fn progress(
    connection: &mut PgConnection,
    id: Uuid,
) -> Result<Option<Progress>, sqlx::Error> {
    sqlx::query_as(
        "SELECT (state->>'attempt')::integer AS current,
           status IN ('pending', 'running', 'cancelling', 'suspending') AS has_attempt,
           status IN ('succeeded', 'failed', 'cancelled') AS is_final
         FROM jobs WHERE id = $1",
    )
    .bind(id)
    .fetch_optional(connection)
    .await
}

/// Those of `ids` that have ended at least `age_s` ago, `failed_age_s` where they failed.
pub(crate) async fn ended_among(
    connection: &mut PgConnection,
    ids: &[Uuid],
    age_s: f64,
    failed_age_s: f64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT id FROM jobs WHERE id = ANY($1)
           AND finished_at < now() - make_interval(secs => CASE WHEN status = 'failed' THEN $3 ELSE $2 END)",
    )
    .bind(ids)
    .bind(age_s)
    .bind(failed_age_s)
    .fetch_all(connection)
    .await
}

/// Jobs that ended at least `age_s` ago, `failed_age_s` where they failed, and may still have objects that
/// nothing refers to.
pub(crate) async fn uncollected(
    connection: &mut PgConnection,
    age_s: f64,
    failed_age_s: f64,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT id FROM jobs WHERE collected_at IS NULL
           AND finished_at < now() - make_interval(secs => CASE WHEN status = 'failed' THEN $2 ELSE $1 END)
         ORDER BY finished_at LIMIT $3",
    )
    .bind(age_s)
    .bind(failed_age_s)
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Notes that a job's objects are collected.
pub(crate) async fn set_collected(connection: &mut PgConnection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE jobs SET collected_at = now() WHERE id = $1")
        .bind(id)
        .execute(connection)
        .await
        .map(drop)
}

/// Notes whether the registry may hold a token for a job.
pub(crate) async fn set_has_token(
    database: impl sqlx::PgExecutor<'_>,
    id: Uuid,
    has_token: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE jobs SET has_token = $2 WHERE id = $1")
        .bind(id)
        .bind(has_token)
        .execute(database)
        .await
        .map(drop)
}

/// Jobs that have no attempt, and for which the registry may still hold a token.
pub(crate) async fn with_stale_token(
    database: impl sqlx::PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT id FROM jobs
         WHERE has_token AND status NOT IN ('pending', 'running', 'cancelling', 'suspending')
         ORDER BY seq LIMIT $1",
    )
    .bind(limit)
    .fetch_all(database)
    .await
}

#[cfg(test)]
mod tests;
