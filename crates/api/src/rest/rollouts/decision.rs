//! Decisions about a rollout, with the numbers that led to them.

use serde::{Deserialize, Serialize};
use slipway_domain::rollout as domain;
use utoipa::ToSchema;

use crate::rest::convert::{each, mirror_enum, shown};

/// A decision about a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// Unix time in milliseconds.
    pub at_unix_ms: i64,
    /// Index of the step, from 0.
    pub step: i32,
    /// The verdict.
    pub verdict: Verdict,
    /// The clauses that decided.
    pub reason: String,
    /// The numbers.
    pub evidence: Evidence,
}

/// A page of decisions, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decisions {
    /// The decisions.
    pub decisions: Vec<Decision>,
    /// `page_token` of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Result of an analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every limit is kept.
    Pass,
    /// A limit is violated.
    Fail,
    /// There is too little data.
    Inconclusive,
}

impl Verdict {
    /// As JSON and columns have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// What a clause checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClauseName {
    /// `min_requests`.
    Requests,
    /// `max_error_rate`.
    ErrorRate,
    /// `max_error_rate_delta`.
    ErrorRateDelta,
    /// Answers with NaN or infinities, by `max_error_rate`.
    NonFinite,
    /// `max_p95_latency_ratio`.
    Latency,
    /// `max_divergence`.
    Divergence,
    /// `max_prediction_shift`.
    PredictionShift,
    /// `max_same_input_divergence`.
    SameInputs,
    /// `min_labels` and `max_accuracy_drop`.
    Accuracy,
    /// Whether the version can be loaded.
    Readiness,
}

/// The numbers behind a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// The clauses that were checked.
    pub clauses: Vec<Clause>,
    /// The clauses that could not be checked.
    pub not_judged: Vec<NotJudged>,
    /// The facts that were checked.
    pub facts: WindowFacts,
}

/// A checked limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Clause {
    /// The limit.
    pub clause: ClauseName,
    /// The result.
    pub verdict: Verdict,
    /// Measured of the new version.
    pub candidate: f64,
    /// Measured of stable, where the clause compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<f64>,
    /// The limit's value.
    pub limit: f64,
    /// Lower confidence bound of the compared quantity; the clause fails where it exceeds `limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Samples of the new version.
    pub samples: u64,
    /// Summary.
    pub message: String,
}

/// A clause that could not be checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotJudged {
    /// The clause.
    pub clause: ClauseName,
    /// Cause, e.g. `no labels arrived`.
    pub why: String,
}

/// Counts of one version since the step began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VariantFacts {
    /// Requests that it ran, including copies.
    pub requests: u64,
    /// Failed requests.
    pub errors: u64,
    /// Requests answered with NaN or an infinity.
    pub non_finite: u64,
    /// Median latency of successful requests, in microseconds.
    pub p50_latency_us: u64,
    /// 95th percentile of the latency, in microseconds.
    pub p95_latency_us: u64,
    /// Number of latencies that the percentiles are computed from.
    pub timed: u64,
    /// Rows with a label.
    pub labelled: u64,
    /// Rows whose prediction equals the label.
    pub correct: u64,
}

/// What happened since the step began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WindowFacts {
    /// The stable version.
    pub stable: VariantFacts,
    /// The new version.
    pub candidate: VariantFacts,
    /// Timed requests of the new version above the limit that follows from stable's p95.
    pub slow: u64,
    /// Rows that both versions ran.
    pub compared_rows: u64,
    /// Rows that both versions ran and predict differently.
    pub differing_rows: u64,
    /// Distinct inputs that both versions answered.
    pub same_inputs: u64,
    /// Distinct inputs that both versions answered and predict differently.
    pub same_inputs_differing: u64,
    /// Comparison of the distributions of the predictions.
    pub shift: ShiftFacts,
    /// What the records leave out.
    pub records: RecordFacts,
    /// Whether rules route requests by their headers, so that both versions see different requests.
    pub ruled: bool,
}

/// What the records that the facts are computed from leave out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecordFacts {
    /// Smallest percentage of requests that is recorded; absent where all are.
    pub sample_percent: Option<f64>,
    /// Requests whose predictions are redacted or too large to be recorded.
    pub without_predictions: u64,
    /// Rows whose records were dropped because the queue to NATS was full.
    pub dropped_rows: u64,
}

/// Comparison of the distributions of the predictions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ShiftFacts {
    /// Requests of stable.
    pub stable_requests: u64,
    /// Requests of the new version.
    pub candidate_requests: u64,
    /// Whether the predictions are numbers rather than classes.
    pub numeric: bool,
    /// Whether `distance` compares the shares beyond stable's outer deciles.
    pub beyond_deciles: bool,
    /// Distance of the distributions, 0 to 1.
    pub distance: f64,
    /// Expected distance of equal distributions with this number of requests.
    pub noise: f64,
    /// Any-time lower confidence bound of the distance.
    pub bound: f64,
    /// Whether the new version always predicts the same where stable does not.
    pub collapsed: bool,
    /// The class or range that differs most.
    pub example: String,
}

mirror_enum!(Verdict = domain::Verdict { Pass, Fail, Inconclusive });
mirror_enum!(
    ClauseName = domain::ClauseName {
        Requests,
        ErrorRate,
        ErrorRateDelta,
        NonFinite,
        Latency,
        Divergence,
        PredictionShift,
        SameInputs,
        Accuracy,
        Readiness,
    }
);
shown!(Clause = domain::Clause { clause, verdict, candidate, stable, limit, bound, samples, message });
shown!(NotJudged = domain::NotJudged { clause, why });
shown!(
    VariantFacts = domain::VariantFacts {
        requests,
        errors,
        non_finite,
        p50_latency_us,
        p95_latency_us,
        timed,
        labelled,
        correct,
    }
);
shown!(
    WindowFacts = domain::WindowFacts {
        stable,
        candidate,
        slow,
        compared_rows,
        differing_rows,
        same_inputs,
        same_inputs_differing,
        shift,
        records,
        ruled,
    }
);
shown!(RecordFacts = domain::RecordFacts { sample_percent, without_predictions, dropped_rows });
shown!(
    ShiftFacts = domain::ShiftFacts {
        stable_requests,
        candidate_requests,
        numeric,
        beyond_deciles,
        distance,
        noise,
        bound,
        collapsed,
        example,
    }
);

impl From<domain::Evidence> for Evidence {
    fn from(domain::Evidence { clauses, not_judged, facts }: domain::Evidence) -> Self {
        Self { clauses: each(clauses), not_judged: each(not_judged), facts: facts.into() }
    }
}
