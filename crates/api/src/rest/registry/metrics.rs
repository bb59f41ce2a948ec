//! Histories of metrics.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rest::Number;

/// A point of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Point {
    /// Training step.
    pub step: i64,
    /// Time of the point, Unix milliseconds.
    pub timestamp: i64,
    /// Value of the metric.
    pub value: Number,
}

/// A page of the history of a metric, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricHistory {
    /// The points.
    pub points: Vec<Point>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Histories to be sampled for charts: each of the metrics in each of the runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleRequest {
    /// Runs, 1 to 100.
    pub run_ids: Vec<String>,
    /// Metrics, 1 to 50.
    #[schema(example = json!(["loss"]))]
    pub keys: Vec<String>,
    /// Maximum number of points of each series, 4 to 5000 [default: 500]. One response has 200000 points at
    /// most.
    #[schema(example = 500)]
    pub max_points: Option<u32>,
    /// First step that is included [default: unlimited].
    pub start_step: Option<i64>,
    /// Last step that is included [default: unlimited].
    pub end_step: Option<i64>,
}

/// Sampled histories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Samples {
    /// A series for each run and metric with points, in the order of the request.
    pub series: Vec<Series>,
}

/// A sampled history. Where the history has more points than were requested, it is divided into stretches of
/// equal length, and each stretch is represented by its first, its lowest, its highest and its last point. So
/// peaks survive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Series {
    /// ID of the run.
    pub run_id: String,
    /// The metric.
    pub key: String,
    /// Number of points of the whole history between the steps.
    pub total_points: i64,
    /// Points in the order of their steps.
    pub points: Vec<Point>,
}
