//! How a version is rolled out.

use serde::{Deserialize, Serialize};
use slipway_domain::rollout as domain;
use utoipa::ToSchema;

use crate::rest::convert::{each, mirror};

/// How a version is rolled out. Every field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Strategy {
    /// Canary steps in order, at most 100. Without steps, the version receives all traffic as soon as it is
    /// loaded.
    pub steps: Vec<CanaryStep>,
    /// Percentage of requests that are copied to the new version during the steps [default: 0].
    pub shadow_percent: u8,
    /// Limits that are checked in each step.
    pub analysis: Analysis,
    /// A version that is not ready on every replica within this time fails, in seconds [default: 600].
    pub prepare_timeout_s: f64,
}

/// A canary step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryStep {
    /// Percentage of the traffic, 0 to 100; not less than in the previous step. 0 shadows only.
    #[schema(example = 10)]
    pub weight_percent: u8,
    /// Time for which the version must keep the limits at this weight, in seconds.
    #[schema(example = 60.0)]
    pub hold_s: f64,
}

/// Limits of an analysis. A limit of 1 disables a clause about a share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Analysis {
    /// Requests, answered or shadowed, that a step requires before it can pass [default: 20].
    pub min_requests: u64,
    /// Maximum share of failed requests, 0 to 1. Answers with NaN or infinities may exceed stable's share of
    /// such answers by as much [default: 0.05].
    pub max_error_rate: f64,
    /// Maximum difference of the share of failed requests from stable's, 0 to 1 [default: 0.02].
    pub max_error_rate_delta: f64,
    /// Maximum ratio of the p95 latency to stable's. Differences below 5 ms do not count [default: 3.0].
    pub max_p95_latency_ratio: f64,
    /// Maximum share of compared rows whose prediction differs from stable's, 0 to 1 [default: 0.25].
    pub max_divergence: f64,
    /// Maximum distance of the distribution of the predictions from stable's, 0 to 1: total variation
    /// distance for classes, Kolmogorov-Smirnov distance for numbers [default: 0.3].
    pub max_prediction_shift: f64,
    /// Maximum share of distinct inputs that both versions answered and predict as different classes, 0 to 1
    /// [default: 0.5].
    pub max_same_input_divergence: f64,
    /// Labels of the new version's predictions that a step requires before it can pass [default: 0].
    pub min_labels: u64,
    /// Maximum difference of the accuracy below stable's, 0 to 1 [default: 0.05].
    pub max_accuracy_drop: f64,
    /// Interval between checks, in milliseconds [default: 1000].
    pub interval_ms: u64,
    /// Time after its hold for which a step waits for enough data before the rollout pauses, in seconds
    /// [default: 600].
    pub max_inconclusive_s: f64,
}

impl Default for Strategy {
    fn default() -> Self {
        domain::Strategy::default().into()
    }
}

impl Default for Analysis {
    fn default() -> Self {
        domain::Analysis::default().into()
    }
}

mirror!(CanaryStep = domain::CanaryStep { weight_percent, hold_s });
mirror!(
    Analysis = domain::Analysis {
        min_requests,
        max_error_rate,
        max_error_rate_delta,
        max_p95_latency_ratio,
        max_divergence,
        max_prediction_shift,
        max_same_input_divergence,
        min_labels,
        max_accuracy_drop,
        interval_ms,
        max_inconclusive_s,
    }
);

impl From<domain::Strategy> for Strategy {
    fn from(strategy: domain::Strategy) -> Self {
        let domain::Strategy { steps, shadow_percent, analysis, prepare_timeout_s } = strategy;
        Self { steps: each(steps), shadow_percent, analysis: analysis.into(), prepare_timeout_s }
    }
}

impl From<Strategy> for domain::Strategy {
    fn from(strategy: Strategy) -> Self {
        let Strategy { steps, shadow_percent, analysis, prepare_timeout_s } = strategy;
        Self { steps: each(steps), shadow_percent, analysis: analysis.into(), prepare_timeout_s }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_means_what_the_same_json_means_to_the_domain() {
        for body in
            [json!({}), json!({"steps": [], "analysis": {"min_labels": 3}}), json!(Strategy::default())]
        {
            let typed: Strategy = serde_json::from_value(body.clone()).unwrap();
            let meant: domain::Strategy = serde_json::from_value(body).unwrap();
            assert_eq!(domain::Strategy::from(typed.clone()), meant);
            assert_eq!(json!(typed), json!(meant), "and it is written the same way");
        }
    }
}
