//! When a column, and when a window, counts as drifted.

use serde::{Deserialize, Serialize};

use crate::{Invalid, invalid::ensure};

/// When a column, and when a window, counts as drifted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Population stability index from which a column drifts.
    pub psi: f64,
    /// Largest probability that chance makes any column of an undrifted window drift; every test is adjusted
    /// to it.
    #[serde(alias = "ks_p_value")]
    pub p_value: f64,
    /// Difference of the share of missing values from training, in either direction, beyond which a column
    /// drifts.
    pub missing_rate_delta: f64,
    /// Share of values outside the training data's range, or never seen in training, beyond which a column
    /// drifts.
    pub out_of_range_rate: f64,
    /// Share of features that have to drift for the window to count as drifted, 0 to 1; one feature at least.
    pub min_features_drifted: f64,
    /// Share of rows in which one drifted feature has to differ for the window to count as drifted by it
    /// alone.
    pub single_feature_shift: f64,
    /// A window drifts where its different rows are fewer than this share of what the training data would
    /// have. 0: never.
    pub distinct_rows_ratio: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            psi: 0.2,
            p_value: 0.01,
            missing_rate_delta: 0.1,
            out_of_range_rate: 0.2,
            min_features_drifted: 0.15,
            single_feature_shift: 0.5,
            distinct_rows_ratio: 0.1,
        }
    }
}

impl Thresholds {
    /// Checks every field; the complaint names the field.
    pub fn validate(&self) -> Result<(), Invalid> {
        ensure(self.psi.is_finite() && self.psi > 0.0, "psi", || {
            format!("must be above 0, is {}", self.psi)
        })?;
        let shares = [
            ("missing_rate_delta", self.missing_rate_delta),
            ("out_of_range_rate", self.out_of_range_rate),
            ("min_features_drifted", self.min_features_drifted),
            ("single_feature_shift", self.single_feature_shift),
            ("distinct_rows_ratio", self.distinct_rows_ratio),
        ];
        for (field, share) in shares {
            ensure((0.0..=1.0).contains(&share), field, || format!("must be a share of 0 to 1, is {share}"))?;
        }
        ensure(self.p_value > 0.0 && self.p_value < 1.0, "p_value", || {
            format!("must be between 0 and 1, is {}", self.p_value)
        })
    }
}
