//! How far a window has moved from the baseline.

use serde::{Deserialize, Serialize};
use slipway_domain::drift as domain;
use utoipa::ToSchema;

use crate::rest::convert::{each, shown};

/// Scores of a column. P-values are adjusted over all tests of the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ColumnScore {
    /// The column.
    pub name: String,
    /// False where no record of the window has the column.
    pub compared: bool,
    /// Population stability index.
    pub psi: f64,
    /// P-value of the histogram.
    pub psi_p_value: Option<f64>,
    /// Kolmogorov-Smirnov distance; numeric columns only.
    pub ks: Option<f64>,
    /// Its p-value.
    pub ks_p_value: Option<f64>,
    /// Share of missing values.
    pub missing_rate: f64,
    /// Share of missing values in training.
    pub trained_missing_rate: f64,
    /// P-value of the difference; absent where no value is missing.
    pub missing_p_value: Option<f64>,
    /// Share of present values outside the range of the training data, or never seen in training.
    pub out_of_range_rate: f64,
    /// Share that is expected.
    pub trained_out_of_range_rate: f64,
    /// Its p-value.
    pub out_of_range_p_value: Option<f64>,
    /// Share of rows that differ from training, 0 to 1.
    pub shift: f64,
    /// Whether the column drifted.
    pub drifted: bool,
    /// The measures by which it drifted, with their numbers.
    pub reasons: Vec<String>,
}

/// Scores of a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WindowScores {
    /// Rows in the window.
    pub rows: u64,
    /// False where the window is too small, or has no column of the baseline.
    pub conclusive: bool,
    /// Inputs.
    pub features: Vec<ColumnScore>,
    /// Outputs.
    pub predictions: Vec<ColumnScore>,
    /// Share of compared inputs that drifted, 0 to 1.
    pub share_drifted: f64,
    /// Whether an output drifted.
    pub predictions_drifted: bool,
    /// Distinct rows among those that were checked for repetition, at most 2048.
    pub distinct_rows: u64,
    /// Minimum number of distinct rows that as many rows of the training data would have.
    pub expected_distinct_rows: f64,
    /// Number of independent rows that the window is worth.
    pub effective_rows: f64,
    /// Whether a few rows repeat.
    pub rows_repeated: bool,
    /// Whether the window drifted.
    pub drifted: bool,
    /// Why it drifted, one sentence for each rule that applies.
    pub reasons: Vec<String>,
}

shown!(
    ColumnScore = domain::FeatureScore {
        name,
        compared,
        psi,
        psi_p_value,
        ks,
        ks_p_value,
        missing_rate,
        trained_missing_rate,
        missing_p_value,
        out_of_range_rate,
        trained_out_of_range_rate,
        out_of_range_p_value,
        shift,
        drifted,
        reasons,
    }
);

impl From<domain::WindowScores> for WindowScores {
    fn from(scores: domain::WindowScores) -> Self {
        Self {
            rows: scores.rows,
            conclusive: scores.conclusive,
            features: each(scores.features),
            predictions: each(scores.predictions),
            share_drifted: scores.share_drifted,
            predictions_drifted: scores.predictions_drifted,
            distinct_rows: scores.distinct_rows,
            expected_distinct_rows: scores.expected_distinct_rows,
            effective_rows: scores.effective_rows,
            rows_repeated: scores.rows_repeated,
            drifted: scores.drifted,
            reasons: scores.reasons,
        }
    }
}
