//! Committed checkpoints.

use chrono::{DateTime, Utc};
use slipway_domain::training::Manifest;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::{column, milliseconds};

/// A checkpoint as stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredCheckpoint {
    pub(crate) manifest: Manifest,
    pub(crate) committed_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct Row {
    manifest: sqlx::types::Json<Manifest>,
    committed_at: DateTime<Utc>,
}

/// Adds a checkpoint; `false` where this very upload has been committed already.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    job_id: Uuid,
    manifest: &Manifest,
) -> Result<bool, sqlx::Error> {
    let size_bytes: u64 = manifest.files.iter().map(|file| file.size_bytes).sum();
    let inserted = sqlx::query(
        "INSERT INTO checkpoints (job_id, prefix, step, attempt, manifest, size_bytes)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (job_id, prefix) DO NOTHING",
    )
    .bind(job_id)
    .bind(&manifest.prefix)
    .bind(i64::try_from(manifest.step).unwrap_or(i64::MAX))
    .bind(i32::try_from(manifest.attempt).unwrap_or(i32::MAX))
    .bind(sqlx::types::Json(manifest))
    .bind(i64::try_from(size_bytes).unwrap_or(i64::MAX))
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// A job's checkpoints that retention has not released, newest first.
pub(crate) async fn list(
    connection: &mut PgConnection,
    job_id: Uuid,
    limit: i64,
) -> Result<Vec<StoredCheckpoint>, sqlx::Error> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT manifest, committed_at FROM checkpoints WHERE job_id = $1 AND released_at IS NULL
         ORDER BY step DESC, committed_at DESC LIMIT $2",
    )
    .bind(job_id)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| StoredCheckpoint { manifest: row.manifest.0, committed_at: row.committed_at })
        .collect())
}

/// Longest time since the last checkpoint of a running job, or since the start of its attempt if that was
/// later, in seconds. Jobs that have made no checkpoint do not count.
pub(crate) async fn oldest_age_s(connection: &mut PgConnection) -> Result<Option<f64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT max(extract(EPOCH FROM now() - greatest(last.committed_at, attempts.started_at)))::FLOAT8
         FROM jobs
         JOIN attempts ON attempts.job_id = jobs.id AND attempts.number = (jobs.state->>'attempt')::integer
         JOIN LATERAL (SELECT max(committed_at) AS committed_at FROM checkpoints WHERE job_id = jobs.id)
           AS last ON last.committed_at IS NOT NULL
         WHERE jobs.status = 'running'",
    )
    .fetch_one(connection)
    .await
}

/// Stores the part of a checkpoint that a process has saved, in place of an earlier one. Answers with the
/// parts of that step by the number of their process, where there are `processes` of them.
pub(crate) async fn add_part(
    connection: &mut PgConnection,
    job_id: Uuid,
    process: u32,
    processes: u32,
    part: &Manifest,
) -> Result<Option<Vec<Manifest>>, sqlx::Error> {
    let (attempt, step) = (column(part.attempt), milliseconds(part.step));
    sqlx::query(
        "INSERT INTO checkpoint_parts (job_id, attempt, step, process, manifest) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (job_id, attempt, step, process) DO UPDATE SET manifest = excluded.manifest",
    )
    .bind(job_id)
    .bind(attempt)
    .bind(step)
    .bind(column(process))
    .bind(sqlx::types::Json(part))
    .execute(&mut *connection)
    .await?;
    let parts: Vec<sqlx::types::Json<Manifest>> = sqlx::query_scalar(
        "SELECT manifest FROM checkpoint_parts WHERE job_id = $1 AND attempt = $2 AND step = $3
         ORDER BY process",
    )
    .bind(job_id)
    .bind(attempt)
    .bind(step)
    .fetch_all(connection)
    .await?;
    if u32::try_from(parts.len()).is_ok_and(|found| found < processes) {
        return Ok(None);
    }
    Ok(Some(parts.into_iter().map(|part| part.0).collect()))
}

/// Forgets the parts of a checkpoint that is committed, and those that it has overtaken.
pub(crate) async fn forget_parts(
    connection: &mut PgConnection,
    job_id: Uuid,
    attempt: u32,
    step: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM checkpoint_parts WHERE job_id = $1 AND (attempt < $2 OR step <= $3)")
        .bind(job_id)
        .bind(column(attempt))
        .bind(milliseconds(step))
        .execute(connection)
        .await
        .map(drop)
}

/// Whether an upload belongs to a checkpoint that was committed, released or not.
pub(crate) async fn is_committed(
    connection: &mut PgConnection,
    job_id: Uuid,
    prefix: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM checkpoints WHERE job_id = $1
           AND (prefix = $2 OR manifest->'parts' ? $2))",
    )
    .bind(job_id)
    .bind(prefix)
    .fetch_one(connection)
    .await
}

/// Lets checkpoints go.
pub(crate) async fn release(
    connection: &mut PgConnection,
    job_id: Uuid,
    prefixes: &[String],
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE checkpoints SET released_at = now() WHERE job_id = $1 AND prefix = ANY($2)")
        .bind(job_id)
        .bind(prefixes)
        .execute(connection)
        .await
        .map(drop)
}

/// Checkpoints that are released: job, prefix, and the prefixes of their parts.
pub(crate) async fn released(
    connection: &mut PgConnection,
    limit: i64,
) -> Result<Vec<(Uuid, String, Vec<String>)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT job_id, prefix, ARRAY(SELECT jsonb_array_elements_text(coalesce(manifest->'parts', '[]')))
         FROM checkpoints WHERE released_at IS NOT NULL ORDER BY released_at LIMIT $1",
    )
    .bind(limit)
    .fetch_all(connection)
    .await
}

/// Forgets a released checkpoint whose objects are gone.
pub(crate) async fn forget(
    connection: &mut PgConnection,
    job_id: Uuid,
    prefix: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM checkpoints WHERE job_id = $1 AND prefix = $2 AND released_at IS NOT NULL")
        .bind(job_id)
        .bind(prefix)
        .execute(connection)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use sqlx::PgPool;

    use super::*;
    use crate::store::testing;

    async fn checkpoint(pool: &PgPool, job_id: Uuid, prefix: &str, seconds_ago: f64) {
        sqlx::query(
            "INSERT INTO checkpoints (job_id, prefix, step, attempt, manifest, size_bytes, committed_at)
             VALUES ($1, $2, 1, 1, '{}', 0, now() - make_interval(secs => $3))",
        )
        .bind(job_id)
        .bind(prefix)
        .bind(seconds_ago)
        .execute(pool)
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn the_oldest_checkpoint_is_that_of_a_running_job_that_makes_some() {
        let pool = testing::pool().await;
        let mut connection = pool.acquire().await.unwrap();
        assert_eq!(oldest_age_s(&mut connection).await.unwrap(), None, "there is no job");
        let [without, fresh, late, resumed] = [1_u128, 2, 3, 4].map(Uuid::from_u128);
        for job_id in [without, fresh, late, resumed] {
            testing::attempt(&pool, job_id).await;
        }
        let begun = "UPDATE attempts SET started_at = now() - make_interval(secs => 9000) WHERE job_id <> $1";
        sqlx::query(begun).bind(resumed).execute(&pool).await.unwrap();
        for (job_id, prefix, seconds_ago) in [
            (fresh, "a", 900.0),
            (fresh, "b", 5.0),
            (late, "a", 4000.0),
            (late, "b", 600.0),
            (resumed, "a", 8000.0),
        ] {
            checkpoint(&pool, job_id, prefix, seconds_ago).await;
        }
        let age_s = oldest_age_s(&mut connection).await.unwrap().unwrap();
        assert!((599.0..700.0).contains(&age_s), "{age_s}");
        sqlx::query("UPDATE jobs SET status = 'succeeded' WHERE id = $1")
            .bind(late)
            .execute(&pool)
            .await
            .unwrap();
        let age_s = oldest_age_s(&mut connection).await.unwrap().unwrap();
        assert!(age_s < 100.0, "{age_s}");
    }
}
