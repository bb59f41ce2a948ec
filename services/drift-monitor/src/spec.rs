//! A monitor as its user describes it, and the checks it passes before it is stored.

use serde::{Deserialize, Serialize};
use slipway_api::rest::monitors as body;
use slipway_domain::Invalid;
use slipway_domain::drift::policy::Policy;
use slipway_domain::drift::{MIN_WINDOW_ROWS, Thresholds};
use slipway_domain::training::JobSpec;

use crate::template;

/// Longest name of a monitor, deployment or model.
const MAX_NAME_BYTES: usize = 250;
const MAX_WINDOW_ROWS: u64 = 1_000_000;
/// Prediction records are kept for a day, and an open window is read again after a restart.
const MAX_WINDOW_S: f64 = 12.0 * 3_600.0;
const MIN_WINDOW_S: f64 = 0.1;
const MAX_ACTIONS: usize = 16;

/// What to watch, and what to do about drift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorSpec {
    /// The monitor's name.
    pub name: String,
    /// Deployment whose prediction records are watched.
    pub deployment: String,
    /// Registered model behind it.
    pub model: String,
    /// Version whose training data is the baseline [default: the deployment's stable version, also after
    /// promotions].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline_version: Option<String>,
    /// When a window closes.
    #[serde(default)]
    pub window: WindowSpec,
    /// When a window counts as drifted.
    #[serde(default)]
    pub thresholds: Thresholds,
    /// Windows in a row that have to agree.
    #[serde(default = "default_consecutive_windows")]
    pub consecutive_windows: u32,
    /// After a detection, the time for which no alarm is raised again and no action is repeated, in seconds.
    #[serde(default = "default_cool_down_s")]
    pub cool_down_s: f64,
    /// Done once at each detection, in this order.
    #[serde(default)]
    pub on_drift: Vec<ActionSpec>,
}

/// When a window closes: at the first of the two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowSpec {
    /// Rows that it holds at most.
    pub rows: u64,
    /// Time after its first row, seconds.
    pub max_s: f64,
}

impl Default for WindowSpec {
    fn default() -> Self {
        Self { rows: 500, max_s: 3_600.0 }
    }
}

/// One thing to do when drift is detected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionSpec {
    /// What to do.
    pub action: ActionKind,
    /// For `submit-job`: the job as the launcher takes it. Values of `env` may hold variables, see
    /// [`crate::template`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSpec>,
}

/// See [`ActionSpec::action`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// Pause the deployment's rollout in progress.
    PauseRollout,
    /// Submit a job to the launcher, e.g. a retraining.
    SubmitJob,
}

impl ActionKind {
    /// As written in specs and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PauseRollout => "pause-rollout",
            Self::SubmitJob => "submit-job",
        }
    }
}

impl From<body::MonitorSpec> for MonitorSpec {
    fn from(spec: body::MonitorSpec) -> Self {
        Self {
            name: spec.name,
            deployment: spec.deployment,
            model: spec.model,
            baseline_version: spec.baseline_version,
            window: WindowSpec { rows: spec.window.rows, max_s: spec.window.max_s },
            thresholds: spec.thresholds.into(),
            consecutive_windows: spec.consecutive_windows,
            cool_down_s: spec.cool_down_s,
            on_drift: spec.on_drift.into_iter().map(ActionSpec::from).collect(),
        }
    }
}

impl From<MonitorSpec> for body::MonitorSpec {
    fn from(spec: MonitorSpec) -> Self {
        Self {
            name: spec.name,
            deployment: spec.deployment,
            model: spec.model,
            baseline_version: spec.baseline_version,
            window: body::WindowSpec { rows: spec.window.rows, max_s: spec.window.max_s },
            thresholds: spec.thresholds.into(),
            consecutive_windows: spec.consecutive_windows,
            cool_down_s: spec.cool_down_s,
            on_drift: spec.on_drift.into_iter().map(body::ActionSpec::from).collect(),
        }
    }
}

impl From<body::ActionSpec> for ActionSpec {
    fn from(spec: body::ActionSpec) -> Self {
        let action = match spec.action {
            body::ActionKind::PauseRollout => ActionKind::PauseRollout,
            body::ActionKind::SubmitJob => ActionKind::SubmitJob,
        };
        Self { action, job: spec.job.map(JobSpec::from) }
    }
}

impl From<ActionSpec> for body::ActionSpec {
    fn from(spec: ActionSpec) -> Self {
        let action = match spec.action {
            ActionKind::PauseRollout => body::ActionKind::PauseRollout,
            ActionKind::SubmitJob => body::ActionKind::SubmitJob,
        };
        Self { action, job: spec.job.map(Into::into) }
    }
}

fn default_consecutive_windows() -> u32 {
    Policy::default().consecutive_windows
}

fn default_cool_down_s() -> f64 {
    Policy::default().cool_down_s
}

impl MonitorSpec {
    /// How patient the monitor is.
    pub const fn policy(&self) -> Policy {
        Policy { consecutive_windows: self.consecutive_windows, cool_down_s: self.cool_down_s }
    }

    /// Checks every field; the complaint names the field.
    ///
    /// # Errors
    /// A field breaks its rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        check_name("name", &self.name)?;
        check_name("deployment", &self.deployment)?;
        check_text("model", &self.model)?;
        if let Some(version) = &self.baseline_version {
            let decimal = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
            ensure(decimal, "baseline_version", || {
                format!("must be a version number, e.g. \"3\", is \"{version}\"")
            })?;
        }
        ensure((MIN_WINDOW_ROWS..=MAX_WINDOW_ROWS).contains(&self.window.rows), "window.rows", || {
            format!(
                "must be {MIN_WINDOW_ROWS} to {MAX_WINDOW_ROWS} (smaller windows cannot be judged), is {}",
                self.window.rows
            )
        })?;
        ensure((MIN_WINDOW_S..=MAX_WINDOW_S).contains(&self.window.max_s), "window.max_s", || {
            format!("must be {MIN_WINDOW_S} to {MAX_WINDOW_S}, is {}", self.window.max_s)
        })?;
        self.thresholds.validate().map_err(|invalid| invalid.under("thresholds"))?;
        self.policy().validate()?;
        ensure(self.on_drift.len() <= MAX_ACTIONS, "on_drift", || {
            format!("must be at most {MAX_ACTIONS} actions")
        })?;
        for (index, action) in self.on_drift.iter().enumerate() {
            action.validate().map_err(|invalid| invalid.under(&format!("on_drift[{index}]")))?;
        }
        Ok(())
    }
}

impl ActionSpec {
    fn validate(&self) -> Result<(), Invalid> {
        match (self.action, &self.job) {
            (ActionKind::PauseRollout, None) => Ok(()),
            (ActionKind::PauseRollout, Some(_)) => {
                Err(Invalid::new("job", "belongs to the action `submit-job` only"))
            }
            (ActionKind::SubmitJob, None) => Err(Invalid::new("job", "is missing: the job to submit")),
            (ActionKind::SubmitJob, Some(job)) => {
                job.validate().map_err(|invalid| invalid.under("job"))?;
                ensure(job.idempotency_key.is_none(), "job.idempotency_key", || {
                    "is made from the drift event; leave it out".into()
                })?;
                for (name, value) in &job.env {
                    template::check(value)
                        .map_err(|reason| Invalid::new(format!("job.env.{name}"), reason))?;
                }
                Ok(())
            }
        }
    }
}

fn check_name(field: &str, name: &str) -> Result<(), Invalid> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let starts_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    ensure(starts_well && name.len() <= MAX_NAME_BYTES && name.bytes().all(allowed), field, || {
        format!(
            "must be 1 to {MAX_NAME_BYTES} letters, digits, '-', '_' or '.', and begin with a letter or digit"
        )
    })
}

fn check_text(field: &str, text: &str) -> Result<(), Invalid> {
    ensure(!text.trim().is_empty() && text.len() <= MAX_NAME_BYTES, field, || {
        format!("must be 1 to {MAX_NAME_BYTES} bytes long")
    })
}

fn ensure(valid: bool, field: &str, message: impl FnOnce() -> String) -> Result<(), Invalid> {
    if valid { Ok(()) } else { Err(Invalid::new(field, message())) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complaint(change: impl FnOnce(&mut serde_json::Value)) -> Invalid {
        let mut body = json!({"name": "m", "deployment": "d", "model": "cancer",
            "on_drift": [{"action": "submit-job", "job": {"name": "retrain", "command": ["python", "train.py"]}}]});
        change(&mut body);
        serde_json::from_value::<MonitorSpec>(body).unwrap().validate().unwrap_err()
    }

    #[test]
    fn a_body_means_what_the_same_json_means_here() {
        for spec in [
            json!({"name": "m", "deployment": "d", "model": "cancer"}),
            json!({"name": "m", "deployment": "d", "model": "cancer", "thresholds": {"ks_p_value": 0.1},
                "window": {"rows": 99},
                "on_drift": [{"action": "pause-rollout"},
                    {"action": "submit-job", "job": {"name": "retrain", "command": ["true"]}}]}),
        ] {
            let sent: body::MonitorSpec = serde_json::from_value(spec.clone()).unwrap();
            let meant: MonitorSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(MonitorSpec::from(sent.clone()), meant);
            assert_eq!(json!(sent), json!(meant), "and it is written the same way");
            assert_eq!(body::MonitorSpec::from(meant), sent);
        }
    }

    #[test]
    fn complaints_name_the_field() {
        type Change = fn(&mut serde_json::Value);
        let cases: [(&str, Change); 10] = [
            ("name", |body| body["name"] = json!("a b")),
            ("deployment", |body| body["deployment"] = json!("")),
            ("model", |body| body["model"] = json!(" ")),
            ("baseline_version", |body| body["baseline_version"] = json!("newest")),
            ("window.rows", |body| body["window"] = json!({"rows": 3})),
            ("window.max_s", |body| body["window"] = json!({"max_s": 0})),
            ("thresholds.psi", |body| body["thresholds"] = json!({"psi": -1})),
            ("consecutive_windows", |body| body["consecutive_windows"] = json!(0)),
            ("on_drift[0].job.command", |body| body["on_drift"][0]["job"]["command"] = json!([])),
            ("on_drift[0].job.env.WHY", |body| {
                body["on_drift"][0]["job"]["env"] = json!({"WHY": "{{nope}}"});
            }),
        ];
        for (field, change) in cases {
            assert_eq!(complaint(change).field, field);
        }
    }

    #[test]
    fn a_job_comes_with_its_action_and_with_no_other() {
        assert_eq!(
            complaint(|body| body["on_drift"] = json!([{"action": "submit-job"}])).field,
            "on_drift[0].job"
        );
        assert_eq!(
            complaint(|body| body["on_drift"][0]["action"] = json!("pause-rollout")).field,
            "on_drift[0].job"
        );
    }
}
