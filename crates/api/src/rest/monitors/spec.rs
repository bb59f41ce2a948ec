//! A monitor as clients describe it.

use serde::{Deserialize, Serialize};
use slipway_domain::drift;
use utoipa::ToSchema;

use crate::rest::convert::mirror;
use crate::rest::launcher::JobSpec;

/// What to monitor, and what to do about drift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorSpec {
    /// Name of the monitor: 1 to 250 letters, digits, `-`, `_` and `.`.
    #[schema(example = "churn-inputs")]
    pub name: String,
    /// Deployment whose prediction records are monitored.
    #[schema(example = "churn")]
    pub deployment: String,
    /// Registered model of the deployment.
    #[schema(example = "churn")]
    pub model: String,
    /// Version whose training data is the baseline [default: the stable version of the deployment, also after
    /// promotions].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_version: Option<String>,
    /// When a window closes.
    #[serde(default)]
    pub window: WindowSpec,
    /// When a window counts as drifted.
    #[serde(default)]
    pub thresholds: Thresholds,
    /// Consecutive windows that must agree, 1 to 1000 [default: 2].
    #[serde(default = "default_consecutive_windows")]
    pub consecutive_windows: u32,
    /// Time after a detection without further alarms and actions, in seconds [default: 3600].
    #[serde(default = "default_cool_down_s")]
    pub cool_down_s: f64,
    /// Actions of each detection, in this order; at most 16.
    #[serde(default)]
    pub on_drift: Vec<ActionSpec>,
}

fn default_consecutive_windows() -> u32 {
    drift::policy::Policy::default().consecutive_windows
}

fn default_cool_down_s() -> f64 {
    drift::policy::Policy::default().cool_down_s
}

/// A JSON Merge Patch (RFC 7396) of a monitor: objects are merged, arrays are replaced, `null` resets a field
/// to its default. Name, deployment and model cannot change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorPatch {
    /// As in the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_version: Option<String>,
    /// As in the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowSpec>,
    /// As in the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Thresholds>,
    /// As in the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consecutive_windows: Option<u32>,
    /// As in the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cool_down_s: Option<f64>,
    /// As in the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_drift: Option<Vec<ActionSpec>>,
}

/// A window closes at the first of both limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WindowSpec {
    /// Maximum number of rows, 20 to 1000000 [default: 500].
    pub rows: u64,
    /// Maximum time after the first row, in seconds, 0.1 to 43200 [default: 3600].
    pub max_s: f64,
}

impl Default for WindowSpec {
    fn default() -> Self {
        Self { rows: 500, max_s: 3_600.0 }
    }
}

/// When a column, and when a window, counts as drifted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Population stability index from which a column drifts [default: 0.2].
    pub psi: f64,
    /// Maximum probability that chance makes a column of an undrifted window drift [default: 0.01].
    /// `ks_p_value` is accepted as an alias.
    #[serde(alias = "ks_p_value")]
    pub p_value: f64,
    /// Difference of the share of missing values from training, in either direction, beyond which a column
    /// drifts [default: 0.1].
    pub missing_rate_delta: f64,
    /// Share of values outside the range of the training data, or never seen in training, beyond which a
    /// column drifts [default: 0.2].
    pub out_of_range_rate: f64,
    /// Share of features that must drift for the window to count as drifted; at least one feature [default:
    /// 0.15].
    pub min_features_drifted: f64,
    /// Share of rows in which a single drifted feature must differ for the window to count as drifted
    /// [default: 0.5].
    pub single_feature_shift: f64,
    /// A window drifts where it has fewer distinct rows than this share of what the training data would have;
    /// 0 disables the rule [default: 0.1].
    pub distinct_rows_ratio: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        drift::Thresholds::default().into()
    }
}

mirror!(
    Thresholds = drift::Thresholds {
        psi,
        p_value,
        missing_rate_delta,
        out_of_range_rate,
        min_features_drifted,
        single_feature_shift,
        distinct_rows_ratio,
    }
);

/// An action of a detection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionSpec {
    /// What to do.
    pub action: ActionKind,
    /// For `submit-job`: the job. Values of `env` may contain `{{monitor}}`, `{{deployment}}`, `{{model}}`,
    /// `{{baseline_version}}`, `{{event_id}}` and `{{windows}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSpec>,
}

/// What an action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// Pauses the deployment's rollout in progress.
    PauseRollout,
    /// Submits a job to the launcher.
    SubmitJob,
}
