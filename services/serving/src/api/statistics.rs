//! The statistics extension, from the counters of each version.

use slipway_api::inference::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};

use crate::failure::Failure;
use crate::models::routing::Routing;
use crate::stats::{Batch, VersionStats};

/// Statistics of every version of one deployment, of one of its versions, or of all deployments.
///
/// # Errors
/// Unknown.
pub(crate) fn statistics(
    routing: &Routing,
    name: Option<&str>,
    version: Option<&str>,
) -> Result<Vec<ModelStatistics>, Failure> {
    if let Some(name) = name {
        let route = routing.get(name)?;
        if let Some(version) = version.filter(|version| !route.versions.contains_key(*version)) {
            return Err(Failure::not_found(format!("unknown version '{version}' of model '{name}'")));
        }
    }
    let routes = routing.all();
    let wanted = routes.iter().filter(|(route, _)| name.is_none_or(|name| name == route.as_str()));
    let versions =
        wanted.flat_map(|(name, route)| route.versions.values().map(move |version| (name, version)));
    Ok(versions
        .filter(|(_, known)| version.is_none_or(|version| version == known.target.version))
        .map(|(name, known)| of_version(name, &known.target.version, &known.stats))
        .collect())
}

fn of_version(name: &str, version: &str, stats: &VersionStats) -> ModelStatistics {
    let total = stats.snapshot();
    ModelStatistics {
        name: name.to_owned(),
        version: version.to_owned(),
        last_inference: total.last_unix_ms,
        inference_count: total.rows,
        execution_count: total.runs,
        inference_stats: Some(InferStatistics {
            success: duration(total.success, total.success_ns),
            fail: duration(total.fail, total.fail_ns),
            queue: duration(total.success, total.queue_ns),
            compute_input: duration(total.success, total.input_ns),
            compute_infer: duration(total.success, total.compute_ns),
            compute_output: duration(total.success, total.output_ns),
            cache_hit: duration(0, 0),
            cache_miss: duration(0, 0),
        }),
        batch_stats: stats.batches().iter().map(of_batch).collect(),
        ..ModelStatistics::default()
    }
}

fn of_batch(batch: &Batch) -> InferBatchStatistics {
    InferBatchStatistics {
        batch_size: batch.size,
        compute_input: duration(batch.count, batch.input_ns),
        compute_infer: duration(batch.count, batch.compute_ns),
        compute_output: duration(batch.count, batch.output_ns),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the protocol's messages have optional durations")]
const fn duration(count: u64, ns: u64) -> Option<StatisticDuration> {
    Some(StatisticDuration { count, ns })
}
