//! The statistics extension.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::config::EmptyObject;

/// Statistics of models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatisticsResponse {
    /// One entry per version.
    pub model_stats: Vec<ModelStatistics>,
}

/// Statistics of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelStatistics {
    /// Deployment.
    pub name: String,
    /// Version.
    pub version: String,
    /// Time of the last inference, Unix time in milliseconds; 0 before the first.
    pub last_inference: u64,
    /// Rows that were inferred.
    pub inference_count: u64,
    /// Runs of the model.
    pub execution_count: u64,
    /// Durations of requests.
    pub inference_stats: InferenceStatistics,
    /// Always empty: no model of this server is decoupled.
    pub response_stats: EmptyObject,
    /// Durations of runs by batch size.
    pub batch_stats: Vec<BatchStatistics>,
    /// Always empty.
    pub memory_usage: Vec<EmptyObject>,
}

/// Durations of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InferenceStatistics {
    /// Successful requests.
    pub success: DurationStatistics,
    /// Failed requests.
    pub fail: DurationStatistics,
    /// Time in the queue.
    pub queue: DurationStatistics,
    /// Preparation of inputs.
    pub compute_input: DurationStatistics,
    /// Execution of the model.
    pub compute_infer: DurationStatistics,
    /// Extraction of outputs.
    pub compute_output: DurationStatistics,
    /// Always 0: there is no response cache.
    pub cache_hit: DurationStatistics,
    /// Always 0.
    pub cache_miss: DurationStatistics,
}

/// A count with the sum of its durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DurationStatistics {
    /// Count.
    pub count: u64,
    /// Sum of the durations, in nanoseconds.
    pub ns: u64,
}

/// Durations of runs with one batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchStatistics {
    /// Rows of a run.
    pub batch_size: u64,
    /// Preparation of inputs.
    pub compute_input: DurationStatistics,
    /// Execution of the model.
    pub compute_infer: DurationStatistics,
    /// Extraction of outputs.
    pub compute_output: DurationStatistics,
}
