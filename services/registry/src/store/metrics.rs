//! Metric points: histories, the latest of each key, and what a logged model scored.

use sqlx::PgConnection;

use super::runs::RunInfo;
use crate::error::Error;

/// One point. Infinities were made finite before.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct Point {
    pub(crate) key: String,
    pub(crate) value: f64,
    pub(crate) at_ms: i64,
    pub(crate) step: i64,
    #[sqlx(skip)]
    pub(crate) model_id: Option<String>,
    #[sqlx(skip)]
    pub(crate) dataset_name: Option<String>,
    #[sqlx(skip)]
    pub(crate) dataset_digest: Option<String>,
}

/// Logs points: a point that is there already stays one point.
pub(crate) async fn metrics_log(db: &mut PgConnection, run: &RunInfo, points: &[Point]) -> Result<(), Error> {
    // Rows are locked in one order, so that two batches for a run never wait for each other.
    let mut points: Vec<&Point> = points.iter().collect();
    points.sort_by(|left, right| {
        (&left.key, left.at_ms, left.step).cmp(&(&right.key, right.at_ms, right.step))
    });
    let keys: Vec<&str> = points.iter().map(|point| point.key.as_str()).collect();
    let values: Vec<f64> = points.iter().map(|point| point.value).collect();
    let times: Vec<i64> = points.iter().map(|point| point.at_ms).collect();
    let steps: Vec<i64> = points.iter().map(|point| point.step).collect();
    sqlx::query(
        "WITH given AS (SELECT * FROM UNNEST($3::TEXT[], $4::FLOAT8[], $5::BIGINT[], $6::BIGINT[]) AS g (key, value, at_ms, step)), \
         history AS (INSERT INTO metrics (run_key, key, at_ms, step, value) \
           SELECT $1, key, at_ms, step, value FROM given ON CONFLICT DO NOTHING) \
         INSERT INTO latest_metrics AS latest (run_key, key, experiment_id, value, at_ms, step) \
         SELECT DISTINCT ON (key) $1, key, $2, value, at_ms, step FROM given \
         ORDER BY key, step DESC, at_ms DESC, value DESC \
         ON CONFLICT (run_key, key) DO UPDATE SET value = excluded.value, at_ms = excluded.at_ms, step = excluded.step \
         WHERE (excluded.step, excluded.at_ms, excluded.value) > (latest.step, latest.at_ms, latest.value)",
    )
    .bind(run.run_key)
    .bind(run.experiment_id)
    .bind(&keys)
    .bind(&values)
    .bind(&times)
    .bind(&steps)
    .execute(&mut *db)
    .await?;
    let of_models: Vec<&Point> = points.into_iter().filter(|point| point.model_id.is_some()).collect();
    if of_models.is_empty() { Ok(()) } else { model_metrics_log(db, run, &of_models).await }
}

async fn model_metrics_log(db: &mut PgConnection, run: &RunInfo, points: &[&Point]) -> Result<(), Error> {
    let models: Vec<&str> = points.iter().filter_map(|point| point.model_id.as_deref()).collect();
    let mut unique = models.clone();
    unique.sort_unstable();
    unique.dedup();
    let missing: Option<String> = sqlx::query_scalar(
        "SELECT g.model_id FROM UNNEST($1::TEXT[]) AS g (model_id) \
         WHERE NOT EXISTS (SELECT 1 FROM logged_models l WHERE l.model_id = g.model_id) LIMIT 1",
    )
    .bind(&unique)
    .fetch_optional(&mut *db)
    .await?;
    if let Some(model_id) = missing {
        return Err(Error::not_found(format!("Logged model with ID '{model_id}' not found.")));
    }
    let keys: Vec<&str> = points.iter().map(|point| point.key.as_str()).collect();
    let values: Vec<f64> = points.iter().map(|point| point.value).collect();
    let times: Vec<i64> = points.iter().map(|point| point.at_ms).collect();
    let steps: Vec<i64> = points.iter().map(|point| point.step).collect();
    let names: Vec<Option<&str>> = points.iter().map(|point| point.dataset_name.as_deref()).collect();
    let digests: Vec<Option<&str>> = points.iter().map(|point| point.dataset_digest.as_deref()).collect();
    sqlx::query(
        "INSERT INTO logged_model_metrics (run_key, model_id, key, value, at_ms, step, dataset_name, dataset_digest) \
         SELECT $1, * FROM UNNEST($2::TEXT[], $3::TEXT[], $4::FLOAT8[], $5::BIGINT[], $6::BIGINT[], $7::TEXT[], $8::TEXT[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(run.run_key)
    .bind(&models)
    .bind(&keys)
    .bind(&values)
    .bind(&times)
    .bind(&steps)
    .bind(&names)
    .bind(&digests)
    .execute(db)
    .await?;
    Ok(())
}

/// A page of one key's history, oldest first, behind the point with that time, step and value.
pub(crate) async fn metric_history(
    db: &mut PgConnection,
    run_key: i64,
    key: &str,
    after: Option<(i64, i64, f64)>,
    limit: i64,
) -> Result<Vec<Point>, Error> {
    let (at_ms, step, value) = after.unwrap_or((i64::MIN, i64::MIN, f64::MIN));
    Ok(sqlx::query_as(
        "SELECT key, value, at_ms, step FROM metrics WHERE run_key = $1 AND key = $2 \
         AND (at_ms, step, value) > ($3, $4, $5) ORDER BY at_ms, step, value LIMIT $6",
    )
    .bind(run_key)
    .bind(key)
    .bind(at_ms)
    .bind(step)
    .bind(value)
    .bind(limit)
    .fetch_all(db)
    .await?)
}
