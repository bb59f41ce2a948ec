//! Metric points: histories, the latest of each key, and what a logged model scored.

use sqlx::PgConnection;

use super::runs::RunInfo;
use crate::error::{Error, Thing};

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

/// Logs points of runs: a point that is there already stays one point.
pub(crate) async fn metrics_log(db: &mut PgConnection, points: &[(&RunInfo, &Point)]) -> Result<(), Error> {
    if points.is_empty() {
        return Ok(());
    }
    // Rows are locked in one order, so that two transactions for a run never wait for each other.
    let mut points = points.to_vec();
    let place = |(run, point): &(&RunInfo, &Point)| (run.run_key, point.at_ms, point.step);
    points.sort_by(|left, right| {
        (left.0.run_key, &left.1.key)
            .cmp(&(right.0.run_key, &right.1.key))
            .then(place(left).cmp(&place(right)))
    });
    let given = Given::of(&points);
    sqlx::query(
        "WITH given AS (SELECT * FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::TEXT[], $4::FLOAT8[], \
         $5::BIGINT[], $6::BIGINT[]) \
           AS g (run_key, experiment_id, key, value, at_ms, step)), \
         history AS (INSERT INTO metrics (run_key, key, at_ms, step, value) \
           SELECT run_key, key, at_ms, step, value FROM given ON CONFLICT DO NOTHING) \
         INSERT INTO latest_metrics AS latest (run_key, key, experiment_id, value, at_ms, step) \
         SELECT DISTINCT ON (run_key, key) run_key, key, experiment_id, value, at_ms, step FROM given \
         ORDER BY run_key, key, step DESC, at_ms DESC, value DESC \
         ON CONFLICT (run_key, key) DO UPDATE SET value = excluded.value, at_ms = excluded.at_ms, \
         step = excluded.step \
         WHERE (excluded.step, excluded.at_ms, excluded.value) > (latest.step, latest.at_ms, latest.value)",
    )
    .bind(&given.run_keys)
    .bind(points.iter().map(|(run, _)| run.experiment_id).collect::<Vec<i64>>())
    .bind(&given.keys)
    .bind(&given.values)
    .bind(&given.times)
    .bind(&given.steps)
    .execute(&mut *db)
    .await?;
    points.retain(|(_, point)| point.model_id.is_some());
    if points.is_empty() { Ok(()) } else { model_metrics_log(db, &points).await }
}

/// Points as columns, for `UNNEST`.
struct Given<'point> {
    run_keys: Vec<i64>,
    keys: Vec<&'point str>,
    values: Vec<f64>,
    times: Vec<i64>,
    steps: Vec<i64>,
}

impl<'point> Given<'point> {
    fn of(points: &[(&RunInfo, &'point Point)]) -> Self {
        Self {
            run_keys: points.iter().map(|(run, _)| run.run_key).collect(),
            keys: points.iter().map(|(_, point)| point.key.as_str()).collect(),
            values: points.iter().map(|(_, point)| point.value).collect(),
            times: points.iter().map(|(_, point)| point.at_ms).collect(),
            steps: points.iter().map(|(_, point)| point.step).collect(),
        }
    }
}

async fn model_metrics_log(db: &mut PgConnection, points: &[(&RunInfo, &Point)]) -> Result<(), Error> {
    let models: Vec<&str> = points.iter().filter_map(|(_, point)| point.model_id.as_deref()).collect();
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
        return Err(Error::NotFound(Thing::LoggedModel(model_id)));
    }
    let given = Given::of(points);
    let names: Vec<Option<&str>> = points.iter().map(|(_, point)| point.dataset_name.as_deref()).collect();
    let digests: Vec<Option<&str>> =
        points.iter().map(|(_, point)| point.dataset_digest.as_deref()).collect();
    sqlx::query(
        "INSERT INTO logged_model_metrics (run_key, model_id, key, value, at_ms, step, dataset_name, \
         dataset_digest) \
         SELECT * FROM UNNEST($1::BIGINT[], $2::TEXT[], $3::TEXT[], $4::FLOAT8[], $5::BIGINT[], \
         $6::BIGINT[], $7::TEXT[], $8::TEXT[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(&given.run_keys)
    .bind(&models)
    .bind(&given.keys)
    .bind(&given.values)
    .bind(&given.times)
    .bind(&given.steps)
    .bind(&names)
    .bind(&digests)
    .execute(db)
    .await?;
    Ok(())
}

/// Points of one key, as columns of one length.
#[derive(Debug, Default, sqlx::FromRow)]
pub(crate) struct History {
    pub(crate) values: Vec<f64>,
    pub(crate) times: Vec<i64>,
    pub(crate) steps: Vec<i64>,
}

/// A page of one key's history, oldest first, behind the point with that time, step and value. A row for each
/// of 25 000 points would cost more than the points.
pub(crate) async fn metric_history(
    db: &mut PgConnection,
    run_key: i64,
    key: &str,
    after: Option<(i64, i64, f64)>,
    limit: i64,
) -> Result<History, Error> {
    let (at_ms, step, value) = after.unwrap_or((i64::MIN, i64::MIN, f64::MIN));
    Ok(sqlx::query_as(
        "SELECT coalesce(array_agg(value), '{}') AS values, coalesce(array_agg(at_ms), '{}') AS times, \
           coalesce(array_agg(step), '{}') AS steps \
         FROM (SELECT value, at_ms, step FROM metrics WHERE run_key = $1 AND key = $2 \
           AND (at_ms, step, value) > ($3, $4, $5) ORDER BY at_ms, step, value LIMIT $6) AS page",
    )
    .bind(run_key)
    .bind(key)
    .bind(at_ms)
    .bind(step)
    .bind(value)
    .bind(limit)
    .fetch_one(db)
    .await?)
}

/// A point and whose it is.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct RunPoint {
    pub(crate) run_id: String,
    pub(crate) key: String,
    pub(crate) value: f64,
    pub(crate) at_ms: i64,
    pub(crate) step: i64,
}

/// One key's histories of several runs, by run and oldest first, cut after `limit` points.
pub(crate) async fn metric_histories(
    db: &mut PgConnection,
    run_ids: &[String],
    key: &str,
    limit: usize,
) -> Result<Vec<RunPoint>, Error> {
    Ok(sqlx::query_as(
        "SELECT r.run_id, m.key, m.value, m.at_ms, m.step FROM runs r JOIN metrics m USING (run_key) \
         WHERE r.run_id = ANY($1) AND m.key = $2 ORDER BY r.run_id, m.at_ms, m.step, m.value LIMIT $3",
    )
    .bind(run_ids)
    .bind(key)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?)
}

/// One key's histories of several runs between two steps, both included, by run and step; of a run with more
/// than `limit` points those at even distances, from its first to its last.
pub(crate) async fn metric_samples(
    db: &mut PgConnection,
    run_ids: &[String],
    key: &str,
    (start, end): (i64, i64),
    limit: usize,
) -> Result<Vec<RunPoint>, Error> {
    Ok(sqlx::query_as(
        // Buckets of one size, of each its first point; of the last bucket the last point of all.
        "WITH points AS (SELECT r.run_id, m.key, m.value, m.at_ms, m.step, ntile($5) OVER of_run AS bucket, \
           row_number() OVER of_run AS place, count(*) OVER (PARTITION BY r.run_key) AS points \
           FROM runs r JOIN metrics m USING (run_key) \
           WHERE r.run_id = ANY($1) AND m.key = $2 AND m.step BETWEEN $3 AND $4 \
           WINDOW of_run AS (PARTITION BY r.run_key ORDER BY m.step, m.at_ms, m.value)), \
         ranked AS (SELECT *, row_number() OVER (PARTITION BY run_id, bucket ORDER BY place) AS of_bucket \
         FROM points) \
         SELECT run_id, key, value, at_ms, step FROM ranked \
         WHERE (of_bucket = 1 AND (bucket < $5 OR points <= $5)) OR place = points \
         ORDER BY array_position($1, run_id), step, at_ms, value",
    )
    .bind(run_ids)
    .bind(key)
    .bind(start)
    .bind(end)
    .bind(i32::try_from(limit).unwrap_or(i32::MAX))
    .fetch_all(db)
    .await?)
}

/// Histories that a chart shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'request> {
    pub(crate) run_ids: &'request [String],
    pub(crate) keys: &'request [String],
    /// First and last step, both included.
    pub(crate) start_step: i64,
    pub(crate) end_step: i64,
    /// Points of each history, at least 4.
    pub(crate) max_points: u32,
}

/// A point of a history, and which one it is.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ChartPoint {
    pub(crate) run_id: String,
    pub(crate) key: String,
    /// Points of the whole history between the steps.
    pub(crate) total_points: i64,
    pub(crate) step: i64,
    pub(crate) at_ms: i64,
    pub(crate) value: f64,
}

/// Histories of several metrics of several runs, by run, metric and step. A history with more than
/// `max_points` points is divided into stretches of as many points each; of each stretch the first, the
/// lowest, the highest and the last point are returned.
///
/// Source: Jugel et al., M4: A Visualization-Oriented Time Series Data Aggregation, VLDB 2014, with stretches
/// of equal numbers of points rather than of equal width, since many clients log every point with the step 0.
pub(crate) async fn metric_charts(
    db: &mut PgConnection,
    wanted: Wanted<'_>,
) -> Result<Vec<ChartPoint>, Error> {
    Ok(sqlx::query_as(
        "WITH points AS (SELECT r.run_id, m.key, m.step, m.at_ms, m.value, \
           count(*) OVER of_series AS total_points, \
           row_number() OVER in_order AS place, ntile($6) OVER in_order AS stretch \
           FROM runs r JOIN metrics m USING (run_key) \
           WHERE r.run_id = ANY($1) AND NOT r.purging AND m.key = ANY($2) AND m.step BETWEEN $3 AND $4 \
           WINDOW of_series AS (PARTITION BY r.run_id, m.key), \
             in_order AS (PARTITION BY r.run_id, m.key ORDER BY m.step, m.at_ms, m.value)), \
         ranked AS (SELECT *, row_number() OVER (of_stretch ORDER BY place) AS first, \
           row_number() OVER (of_stretch ORDER BY place DESC) AS last, \
           row_number() OVER (of_stretch ORDER BY value, place) AS lowest, \
           row_number() OVER (of_stretch ORDER BY value = 'NaN'::FLOAT8, value DESC, place) AS highest \
           FROM points WHERE total_points > $5 WINDOW of_stretch AS (PARTITION BY run_id, key, stretch)), \
         chosen AS (SELECT run_id, key, total_points, step, at_ms, value, place FROM points \
           WHERE total_points <= $5 \
           UNION ALL SELECT run_id, key, total_points, step, at_ms, value, place FROM ranked \
           WHERE 1 IN (first, last, lowest, highest)) \
         SELECT run_id, key, total_points, step, at_ms, value FROM chosen \
         ORDER BY array_position($1, run_id), array_position($2, key), place",
    )
    .bind(wanted.run_ids)
    .bind(wanted.keys)
    .bind(wanted.start_step)
    .bind(wanted.end_step)
    .bind(i64::from(wanted.max_points))
    .bind(i32::try_from(wanted.max_points / 4).unwrap_or(i32::MAX))
    .fetch_all(db)
    .await?)
}
