//! Use cases that read the metrics of runs.

use crate::error::Error;
use crate::state::Registry;
use crate::store::metrics::{self as table, History, RunPoint};
use crate::store::runs;

/// Time (Unix milliseconds), step and value of the point behind which a page begins.
pub(crate) type After = (i64, i64, f64);

/// A page of the history of a metric.
///
/// # Errors
/// The run does not exist, or Postgres is unreachable.
pub(crate) async fn page(
    registry: &Registry,
    run_id: &str,
    key: &str,
    after: Option<After>,
    limit: i64,
) -> Result<History, Error> {
    let mut db = registry.pool.acquire().await?;
    let run = runs::run_info(&mut db, run_id).await?;
    table::metric_history(&mut db, run.run_key, key, after, limit).await
}

/// The histories of a metric in several runs, one after another.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn of_runs(
    registry: &Registry,
    run_ids: &[String],
    key: &str,
    limit: usize,
) -> Result<Vec<RunPoint>, Error> {
    table::metric_histories(&mut *registry.pool.acquire().await?, run_ids, key, limit).await
}

/// At most so many points of a metric in each run between two steps, the first and the last among them.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn samples(
    registry: &Registry,
    run_ids: &[String],
    key: &str,
    steps: (i64, i64),
    limit: usize,
) -> Result<Vec<RunPoint>, Error> {
    table::metric_samples(&mut *registry.pool.acquire().await?, run_ids, key, steps, limit).await
}
