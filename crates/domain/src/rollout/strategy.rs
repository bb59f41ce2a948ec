//! What a rollout was asked to do: steps, shadowing, and the limits that the new version must keep.

use serde::{Deserialize, Serialize};

use crate::{Invalid, invalid::ensure};

/// Largest number of canary steps.
pub const MAX_STEPS: usize = 100;
/// No wait of a strategy is longer: 30 days.
const MAX_WAIT_S: f64 = 30.0 * 24.0 * 3600.0;
const MIN_INTERVAL_MS: u64 = 50;

/// How a version is rolled out. Every field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Strategy {
    /// Canary steps in order. None: straight to 100 percent once the version is loaded.
    pub steps: Vec<CanaryStep>,
    /// Share of requests that the new version sees as copies during the steps, 0 to 100.
    pub shadow_percent: u8,
    /// Limits checked at each step.
    pub analysis: Analysis,
    /// A version that is not ready on every replica by then has failed, seconds.
    pub prepare_timeout_s: f64,
}

/// One canary step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryStep {
    /// Share of the traffic, 0 to 100, never less than in the step before. 0 makes a step of shadowing alone.
    pub weight_percent: u8,
    /// How long the version has to keep the limits at this weight, seconds.
    pub hold_s: f64,
}

/// Limits of an analysis. A limit that can never be reached switches its clause off: 1.0 for a share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Analysis {
    /// Requests (answered or shadowed) that a step has to see before it can pass.
    pub min_requests: u64,
    /// Share of failed requests, 0 to 1. Answers with NaN or infinities may exceed stable's share of such
    /// answers by as much.
    pub max_error_rate: f64,
    /// How much larger than stable's the share of failed requests may be, 0 to 1. Answers with NaN or
    /// infinities count as failed on both sides.
    pub max_error_rate_delta: f64,
    /// p95 latency over stable's. Differences below 5 ms never count.
    pub max_p95_latency_ratio: f64,
    /// Share of compared rows whose prediction may differ from stable's, 0 to 1. A better model differs a
    /// little, too.
    pub max_divergence: f64,
    /// How far the new version's predictions may be distributed differently from stable's, 0 to 1 [default:
    /// 0.3]. For classes the total variation distance, for numbers the Kolmogorov-Smirnov distance. Compared
    /// without labels or shadows; the step fails only on proof. A version that always predicts the same fails
    /// where stable does not. Labels decide instead where they arrive or `min_labels` is set. 1.0: off.
    pub max_prediction_shift: f64,
    /// Share of distinct inputs that both versions answered and predict as different classes, 0 to 1
    /// [default: 0.5]. Found where the same input is sent more than once. 1.0: off.
    pub max_same_input_divergence: f64,
    /// Labels of the new version's predictions that a step has to see before it can pass. 0: labels are not
    /// waited for.
    pub min_labels: u64,
    /// How much lower than stable's the accuracy may be, 0 to 1.
    pub max_accuracy_drop: f64,
    /// How often the limits are checked, milliseconds.
    pub interval_ms: u64,
    /// How long after its hold a step may wait for enough data before the rollout pauses, seconds.
    pub max_inconclusive_s: f64,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            steps: vec![
                CanaryStep { weight_percent: 10, hold_s: 60.0 },
                CanaryStep { weight_percent: 50, hold_s: 60.0 },
            ],
            shadow_percent: 0,
            analysis: Analysis::default(),
            prepare_timeout_s: 600.0,
        }
    }
}

impl Default for Analysis {
    fn default() -> Self {
        Self {
            min_requests: 20,
            max_error_rate: 0.05,
            max_error_rate_delta: 0.02,
            max_p95_latency_ratio: 3.0,
            max_divergence: 0.25,
            max_prediction_shift: 0.3,
            max_same_input_divergence: 0.5,
            min_labels: 0,
            max_accuracy_drop: 0.05,
            interval_ms: 1_000,
            max_inconclusive_s: 600.0,
        }
    }
}

impl Strategy {
    /// No canary: the version takes all traffic as soon as it is ready.
    pub fn immediate() -> Self {
        Self { steps: Vec::new(), ..Self::default() }
    }

    /// Checks every field; the complaint names the field.
    pub fn validate(&self) -> Result<(), Invalid> {
        ensure(self.steps.len() <= MAX_STEPS, "steps", || format!("must be at most {MAX_STEPS}"))?;
        let mut reached = 0;
        for (index, step) in self.steps.iter().enumerate() {
            let field = format!("steps[{index}].weight_percent");
            ensure(step.weight_percent <= 100, &field, || {
                format!("must be 0 to 100, is {}", step.weight_percent)
            })?;
            ensure(step.weight_percent >= reached, &field, || {
                format!("must not be below the {reached} percent of the step before")
            })?;
            reached = step.weight_percent;
            ensure_wait(&format!("steps[{index}].hold_s"), step.hold_s, 0.0)?;
        }
        ensure(self.shadow_percent <= 100, "shadow_percent", || {
            format!("must be 0 to 100, is {}", self.shadow_percent)
        })?;
        ensure_wait("prepare_timeout_s", self.prepare_timeout_s, 0.001)?;
        self.analysis.validate().map_err(|invalid| invalid.under("analysis"))
    }
}

impl Analysis {
    fn validate(&self) -> Result<(), Invalid> {
        let shares = [
            ("max_error_rate", self.max_error_rate),
            ("max_error_rate_delta", self.max_error_rate_delta),
            ("max_divergence", self.max_divergence),
            ("max_prediction_shift", self.max_prediction_shift),
            ("max_same_input_divergence", self.max_same_input_divergence),
            ("max_accuracy_drop", self.max_accuracy_drop),
        ];
        for (field, share) in shares {
            ensure((0.0..=1.0).contains(&share), field, || format!("must be a share of 0 to 1, is {share}"))?;
        }
        let ratio = self.max_p95_latency_ratio;
        ensure(ratio.is_finite() && ratio >= 1.0, "max_p95_latency_ratio", || {
            format!("must be 1 or more, is {ratio}")
        })?;
        ensure(self.interval_ms >= MIN_INTERVAL_MS, "interval_ms", || {
            format!("must be {MIN_INTERVAL_MS} or more, is {}", self.interval_ms)
        })?;
        ensure_wait("max_inconclusive_s", self.max_inconclusive_s, 0.0)
    }
}

fn ensure_wait(field: &str, seconds: f64, least: f64) -> Result<(), Invalid> {
    ensure((least..=MAX_WAIT_S).contains(&seconds), field, || {
        format!("must be {least} to {MAX_WAIT_S} seconds, is {seconds}")
    })
}

/// Seconds of a strategy as milliseconds; validated values fit.
pub(crate) fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1_000.0).max(0.0) as u64
}
