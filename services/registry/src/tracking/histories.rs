//! Use cases that read the metrics of runs.

use slipway_domain::access::{Role, Scope};

use crate::access::caller::Caller;
use crate::error::Error;
use crate::state::Registry;
use crate::store::access::run_experiments;
use crate::store::metrics::{self as table, ChartPoint, History, RunPoint, Wanted};
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

/// At most this many points of a metric in each run between two steps, the first and the last among them.
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

/// Histories for charts: of each run and metric a bounded number of points, by run, metric and step.
///
/// # Errors
/// The caller may not read one of the runs, a run does not exist, or Postgres is unreachable.
pub(crate) async fn chart(
    registry: &Registry,
    caller: &Caller,
    wanted: Wanted<'_>,
) -> Result<Vec<ChartPoint>, Error> {
    let mut db = registry.pool.acquire().await?;
    let experiments = run_experiments(&mut db, wanted.run_ids).await?;
    for run_id in wanted.run_ids {
        let experiment = experiments.get(run_id);
        // Only callers that may read everything learn which runs do not exist.
        caller.require(Role::Viewer, &experiment.map_or(Scope::Everything, |id| Scope::Experiment(*id)))?;
        experiment.ok_or_else(|| runs::absent(run_id))?;
    }
    table::metric_charts(&mut db, wanted).await
}
