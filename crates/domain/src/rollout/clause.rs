//! The clauses of an analysis: which limit, what was seen, and what follows.

use serde::{Deserialize, Serialize};

use super::{facts::WindowFacts, strategy::Strategy};

/// Labels of either version below which accuracy never fails.
pub(super) const MIN_LABELS_TO_FAIL: u64 = 10;

/// What an analysis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every limit is kept.
    Pass,
    /// A limit is broken.
    Fail,
    /// Too little is known.
    Inconclusive,
}

/// Which limit a [`Clause`] checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    /// The version itself: it does not load.
    Readiness,
}

/// One limit, what was seen, and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clause {
    /// The limit's name.
    pub clause: ClauseName,
    /// What follows.
    pub verdict: Verdict,
    /// What was seen of the new version.
    pub candidate: f64,
    /// What was seen of stable, where the clause compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<f64>,
    /// The limit.
    pub limit: f64,
    /// What the compared quantity exceeds for sure; the clause fails where this is above `limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Samples of the new version.
    pub samples: u64,
    /// All of it in one sentence.
    pub message: String,
}

/// Something that was not judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotJudged {
    /// The clause.
    pub clause: ClauseName,
    /// Why not, e.g. `no labels arrived`.
    pub why: String,
}

impl ClauseName {
    /// What it judges, in words.
    pub(super) const fn judges(self) -> &'static str {
        match self {
            Self::Requests => "number of requests",
            Self::ErrorRate => "errors",
            Self::ErrorRateDelta => "errors against stable",
            Self::NonFinite => "NaN and infinite outputs",
            Self::Latency => "latency",
            Self::Divergence => "divergence of shadow copies",
            Self::PredictionShift => "distribution of predictions",
            Self::SameInputs => "predictions for the same inputs",
            Self::Accuracy => "accuracy",
            Self::Readiness => "readiness",
        }
    }
}

/// Comparisons of predictions replace labels. A version that was retrained after a drift is meant to differ,
/// and labels show whether it is right.
pub(super) fn labels_decide(strategy: &Strategy, facts: &WindowFacts) -> bool {
    let labels = facts.candidate.labelled.min(facts.stable.labelled);
    strategy.analysis.min_labels > 0 || labels >= MIN_LABELS_TO_FAIL
}
