//! Experiments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// An experiment: a group of runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Experiment {
    /// A number, as text.
    #[schema(example = "0")]
    pub experiment_id: String,
    /// Name of the experiment.
    pub name: String,
    /// URI below which its runs store artifacts.
    pub artifact_location: String,
    /// Whether it is deleted.
    pub lifecycle_stage: LifecycleStage,
    /// Tags by key.
    pub tags: BTreeMap<String, String>,
    /// Creation time.
    pub created_at_unix_ms: i64,
    /// Time of the last change.
    pub updated_at_unix_ms: i64,
}

/// Whether an experiment or a run is deleted. Deleted ones can be restored until they are purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LifecycleStage {
    /// Not deleted.
    Active,
    /// Deleted.
    Deleted,
}

/// Which lifecycle stages a search includes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Only active ones.
    #[default]
    Active,
    /// Only deleted ones.
    Deleted,
    /// Both.
    All,
}

/// A page of experiments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExperimentPage {
    /// The experiments.
    pub experiments: Vec<Experiment>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Which experiments are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExperimentsQuery {
    /// Filter, e.g. `name LIKE 'churn%' AND tags.team = 'a'`; docs/api.md has the language.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// Order, e.g. `name DESC`; several terms are separated by commas [default: last_update_time DESC].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_by: Option<String>,
    /// `active`, `deleted` or `all` [default: active].
    #[serde(default)]
    #[param(inline)]
    pub view: View,
    // No `flatten`: with it, numbers of a query string arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// An experiment to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewExperiment {
    /// Name of the experiment.
    #[schema(example = "churn")]
    pub name: String,
    /// URI below which its runs store artifacts [default: the artifact proxy of the registry].
    pub artifact_location: Option<String>,
    /// Tags by key.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// Changes of an experiment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExperimentUpdate {
    /// The new name.
    pub name: String,
}
