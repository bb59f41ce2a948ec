//! What is recorded and monitored.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_api::rest::monitors::{Thresholds, WindowSpec};
use utoipa::ToSchema;

/// Which requests and answers are recorded. A version's own settings may leave out more.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Records {
    /// Share of the requests that are recorded, 0 to 100 [default: 100].
    pub sample_percent: Option<f64>,
    /// Tensors (`NAME`) and columns of them (`NAME[INDEX]`) that are recorded as null. A version that does
    /// not have them is not served.
    pub redact: Vec<String>,
}

/// A drift monitor of the deployment, which has its name. The fields are those of a monitor over REST.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Monitor {
    /// Version whose training data is the baseline [default: the stable version, also after promotions].
    pub baseline_version: Option<String>,
    /// When a window closes.
    pub window: Option<WindowSpec>,
    /// When a window counts as drifted.
    pub thresholds: Option<Thresholds>,
    /// Consecutive windows that must agree, 1 to 1000 [default: 2].
    pub consecutive_windows: Option<u32>,
    /// Time after a detection without further alarms and actions, in seconds [default: 3600].
    pub cool_down_s: Option<f64>,
    /// Whether a detection pauses the rollout in progress [default: false].
    pub pause_rollout: bool,
    /// Training job that a detection submits, as the REST API takes it [default: none].
    #[schema(value_type = Option<Object>)]
    pub submit_job: Option<Value>,
}
