//! Runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{LifecycleStage, View};
use crate::rest::Number;

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// ID of the run.
    pub run_id: String,
    /// Name of the run.
    pub run_name: String,
    /// A number, as text.
    #[schema(example = "0")]
    pub experiment_id: String,
    /// State of the run.
    pub status: RunStatus,
    /// User, as the client names it.
    pub user_id: String,
    /// Start, Unix milliseconds.
    pub start_time: i64,
    /// End, Unix milliseconds; unset while it runs.
    pub end_time: Option<i64>,
    /// URI of its artifacts.
    pub artifact_uri: String,
    /// Whether it is deleted.
    pub lifecycle_stage: LifecycleStage,
}

/// State of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunStatus {
    /// It runs.
    Running,
    /// It is queued.
    Scheduled,
    /// It ended successfully.
    Finished,
    /// It ended with an error.
    Failed,
    /// It was stopped.
    Killed,
}

impl RunStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Running, Self::Scheduled, Self::Finished, Self::Failed, Self::Killed];

    /// Name on the wire and in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Scheduled => "SCHEDULED",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Killed => "KILLED",
        }
    }
}

/// A page of runs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<Run>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Which runs are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// Only runs of this experiment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<String>,
    // No `flatten`: with it, numbers of a query string arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// A run with its params, tags, latest metrics, inputs and outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunDetails {
    /// The run.
    pub info: Run,
    /// What it logged.
    pub data: RunData,
    /// Data sets that it read.
    pub datasets: Vec<RunDataset>,
    /// Logged models that it read.
    pub model_inputs: Vec<String>,
    /// Logged models that it wrote.
    pub model_outputs: Vec<ModelOutput>,
}

/// What a run logged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunData {
    /// The latest point of each metric.
    pub metrics: Vec<Metric>,
    /// Params.
    pub params: Vec<KeyValue>,
    /// Tags.
    pub tags: Vec<KeyValue>,
}

/// The latest point of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metric {
    /// The metric.
    pub key: String,
    /// Value of the metric.
    pub value: Number,
    /// Time of the point, Unix milliseconds.
    pub timestamp: i64,
    /// Training step.
    pub step: i64,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyValue {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// A data set that a run read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunDataset {
    /// Name of the data set.
    pub name: String,
    /// Digest of its content.
    pub digest: String,
    /// Kind of source, e.g. `local`.
    pub source_type: String,
    /// Where it was read from, as the client describes it.
    pub source: String,
    /// Tags of its use, e.g. the context.
    pub tags: BTreeMap<String, String>,
}

/// A logged model that a run wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelOutput {
    /// ID of the logged model.
    pub model_id: String,
    /// Training step.
    pub step: i64,
}

/// A search for runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSearch {
    /// Experiments that are searched, at least one. Experiments that the caller may not read are left out.
    #[schema(example = json!(["0"]))]
    pub experiment_ids: Vec<String>,
    /// Filter, e.g. `metrics.accuracy > 0.9 AND params.depth = '6'`; docs/api.md has the language.
    #[schema(example = "metrics.accuracy > 0.9")]
    pub filter: Option<String>,
    /// Terms of the order, e.g. `metrics.accuracy DESC` [default: start_time DESC].
    #[serde(default)]
    pub order_by: Vec<String>,
    /// `active`, `deleted` or `all` [default: active].
    #[serde(default)]
    pub view: View,
    /// Maximum number of items, 1 to 1000 [default: 50].
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page.
    pub page_token: Option<String>,
}

/// A page of found runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunDetailsPage {
    /// The runs.
    pub runs: Vec<RunDetails>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A run to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// Name of the run [default: a generated one].
    #[schema(example = "baseline")]
    pub run_name: Option<String>,
    /// User on whose behalf it runs [default: the caller].
    pub user_id: Option<String>,
    /// Start, Unix milliseconds [default: now].
    pub start_time: Option<i64>,
    /// Tags by key.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// Changes of a run; unset fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunUpdate {
    /// The new state. A state other than `RUNNING` and `SCHEDULED` ends the run.
    #[schema(example = "FINISHED")]
    pub status: Option<RunStatus>,
    /// End, Unix milliseconds [default: now if the new state ends the run].
    pub end_time: Option<i64>,
    /// The new name.
    pub run_name: Option<String>,
}

/// What a run logs in one transaction: all of it is stored, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogBatch {
    /// Points of metrics, at most 1000.
    #[serde(default)]
    pub metrics: Vec<NewMetric>,
    /// Params by key, at most 100. The value of a param never changes.
    #[serde(default)]
    #[schema(example = json!({"depth": "6"}))]
    pub params: BTreeMap<String, String>,
    /// Tags by key, at most 100.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// A point of a metric to be logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMetric {
    /// The metric.
    #[schema(example = "loss")]
    pub key: String,
    /// Value of the metric. Infinities are stored as the greatest finite numbers.
    #[schema(example = 0.25)]
    pub value: Number,
    /// Time of the point, Unix milliseconds [default: now].
    pub timestamp: Option<i64>,
    /// Training step [default: 0].
    #[serde(default)]
    pub step: i64,
}
