//! One window against the training data: distances per column, and whether they are more than chance.
//!
//! Small windows differ from training by chance alone. Without drift, PSI over B bins behaves like (1/n + 1/m) · χ² with B − 1
//! degrees of freedom for n live and m training rows (Yurdakul and Naranjo, "Statistical properties of the population
//! stability index", 2020), so its mean is (B − 1)(1/n + 1/m): 0.17 at n = 60, m = 400, B = 10, near the classic alarm at 0.2. A
//! column's PSI therefore has to exceed both the threshold and the upper quantile of that distribution; with large windows the
//! threshold alone decides. P-values are adjusted over all columns by Benjamini and Hochberg (1995), and a difference that is
//! certain but small is no drift.
//!
//! A row that is sent again tells nothing new. Where rows are too rich to repeat by chance, n is what rows drawn again and again
//! from a pool of the estimated size are worth.

use serde::{Deserialize, Serialize};

use super::{
    measures::{PSI_SHARE_FLOOR, ks_p_value, ks_statistic, psi_with_floor},
    profile::{ColumnKind, ColumnProfile, Profile},
    window::{ColumnWindow, Window, single},
};
use crate::{Invalid, invalid::ensure, statistics::chi_square_quantile};

/// Windows of fewer rows are not judged.
pub const MIN_WINDOW_ROWS: u64 = 20;
/// A Kolmogorov-Smirnov distance below this is no drift however certain it is: large windows make any difference certain.
const MIN_KS_DISTANCE: f64 = 0.15;
/// Columns that together take 2^40 values do not repeat a row by chance.
const RICH_ROW_BITS: f64 = 40.0;

/// When a column, and when a window, counts as drifted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Population stability index.
    pub psi: f64,
    /// Kolmogorov-Smirnov p-value after adjustment over the columns; also how unlikely a chance PSI has to be.
    pub ks_p_value: f64,
    /// How much larger than in training the share of missing values may be.
    pub missing_rate_delta: f64,
    /// Share of values outside the training data's range, or never seen in training.
    pub out_of_range_rate: f64,
    /// Share of features that have to drift for the window to count as drifted, 0 to 1; one feature at least.
    pub min_features_drifted: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            psi: 0.2,
            ks_p_value: 0.01,
            missing_rate_delta: 0.1,
            out_of_range_rate: 0.2,
            min_features_drifted: 0.15,
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
        ];
        for (field, share) in shares {
            ensure((0.0..=1.0).contains(&share), field, || format!("must be a share of 0 to 1, is {share}"))?;
        }
        ensure(self.ks_p_value > 0.0 && self.ks_p_value < 1.0, "ks_p_value", || {
            format!("must be between 0 and 1, is {}", self.ks_p_value)
        })
    }
}

/// How far one column has moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureScore {
    /// The column.
    pub name: String,
    /// Population stability index; bin shares are floored at half a row.
    pub psi: f64,
    /// The index that chance alone would not reach in a window of this size.
    pub psi_threshold: f64,
    /// Kolmogorov-Smirnov distance; numeric columns with a training sample only.
    pub ks: Option<f64>,
    /// Its probability by chance.
    pub ks_p_value: Option<f64>,
    /// The same after adjustment over the columns.
    pub ks_p_adjusted: Option<f64>,
    /// Share of missing values.
    pub missing_rate: f64,
    /// Share of present values outside the training data's range, or never seen in training.
    pub out_of_range_rate: f64,
    /// Whether any measure says so.
    pub drifted: bool,
    /// Which ones, with their numbers.
    pub reasons: Vec<String>,
}

/// How far one window has moved.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WindowScores {
    /// Rows in the window.
    pub rows: u64,
    /// False where the window is too small to be judged.
    pub conclusive: bool,
    /// Inputs.
    pub features: Vec<FeatureScore>,
    /// Outputs.
    pub predictions: Vec<FeatureScore>,
    /// Share of inputs that drifted, 0 to 1.
    pub share_drifted: f64,
    /// Whether any output drifted.
    pub predictions_drifted: bool,
    /// Whether the window counts as drifted: by its inputs, or by its outputs where the profile has no inputs.
    pub drifted: bool,
}

/// Compares a window with the training data that its bins came from.
pub fn score(profile: &Profile, window: &Window, thresholds: &Thresholds) -> WindowScores {
    let columns = profile.features.len() + profile.predictions.len();
    let scale = Scale {
        psi: thresholds.psi,
        chance: thresholds.ks_p_value / columns.max(1) as f64,
        worth: row_worth(profile, window),
    };
    let measure = |columns: &[ColumnProfile], windows: &[ColumnWindow]| -> Vec<FeatureScore> {
        columns.iter().zip(windows).map(|(column, window)| measure(column, window, scale)).collect()
    };
    let mut features = measure(&profile.features, &window.features);
    let mut predictions = measure(&profile.predictions, &window.predictions);
    adjust(features.iter_mut().chain(&mut predictions).collect());
    let conclusive = window.rows() >= MIN_WINDOW_ROWS;
    let all =
        features.iter_mut().zip(&profile.features).chain(predictions.iter_mut().zip(&profile.predictions));
    for (score, column) in all {
        score.reasons = if conclusive { reasons(score, column, thresholds) } else { Vec::new() };
        score.drifted = !score.reasons.is_empty();
    }
    let drifted = features.iter().filter(|score| score.drifted).count();
    let share_drifted = drifted as f64 / features.len().max(1) as f64;
    let predictions_drifted = predictions.iter().any(|score| score.drifted);
    let by_features = drifted > 0 && share_drifted >= thresholds.min_features_drifted;
    WindowScores {
        rows: window.rows(),
        conclusive,
        drifted: by_features || (features.is_empty() && predictions_drifted),
        features,
        predictions,
        share_drifted,
        predictions_drifted,
    }
}

/// What a column's distances are held against.
#[derive(Clone, Copy)]
struct Scale {
    /// The threshold asked for.
    psi: f64,
    /// Probability of a chance alarm in one column.
    chance: f64,
    /// Independent rows a row is worth, above 0 and at most 1.
    worth: f64,
}

/// Independent rows that a row of the window is worth. `rows` drawn with replacement from a pool of P rows show
/// P (1 − (1 − 1/P)^rows) different ones, which gives P; the mean of such a sample has the variance of 1 / (1/rows + 1/P)
/// independent rows.
fn row_worth(profile: &Profile, window: &Window) -> f64 {
    let (rows, distinct) = window.repetition();
    let bits: f64 =
        profile.features.iter().map(|column| (column.distinct_values().max(1) as f64).log2()).sum();
    if bits < RICH_ROW_BITS || distinct == rows {
        return 1.0;
    }
    let (rows, distinct) = (rows as f64, distinct as f64);
    let shown = |pool: f64| pool * -(rows * (-1.0 / pool).ln_1p()).exp_m1();
    let (mut low, mut high) = (distinct.max(1.5), rows * rows * 1e3);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if shown(middle) < distinct {
            low = middle;
        } else {
            high = middle;
        }
    }
    1.0 / (1.0 + rows / high)
}

fn worth_rows(rows: usize, worth: f64) -> usize {
    ((rows as f64 * worth) as usize).max(1)
}

fn measure(column: &ColumnProfile, window: &ColumnWindow, scale: Scale) -> FeatureScore {
    let share = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let trained: u64 = column.counts.iter().sum();
    let smaller = trained.min(window.present).max(1) as f64;
    let psi = psi_with_floor(&column.counts, &window.bins, PSI_SHARE_FLOOR.max(0.5 / smaller));
    let ks = compare_samples(column, window, scale.worth);
    FeatureScore {
        name: column.name.clone(),
        psi,
        psi_threshold: scale.psi.max(chance_psi(column, window, scale)),
        ks: ks.map(|(distance, _)| distance),
        ks_p_value: ks.map(|(_, p_value)| p_value),
        ks_p_adjusted: None,
        missing_rate: share(window.missing, window.missing + window.present),
        out_of_range_rate: share(window.out_of_range, window.present),
        drifted: false,
        reasons: Vec::new(),
    }
}

/// The index that chance exceeds with probability `chance` only.
fn chance_psi(column: &ColumnProfile, window: &ColumnWindow, scale: Scale) -> f64 {
    let trained: u64 = column.counts.iter().sum();
    if trained == 0 || window.present == 0 {
        return 0.0;
    }
    let used = window.bins.iter().enumerate();
    let used =
        used.filter(|(bin, count)| **count > 0 || column.counts.get(*bin).is_some_and(|count| *count > 0));
    let degrees = used.count().saturating_sub(1) as f64;
    let spread = 1.0 / (window.present as f64 * scale.worth) + 1.0 / trained as f64;
    spread * chi_square_quantile(degrees, 1.0 - scale.chance)
}

fn compare_samples(column: &ColumnProfile, window: &ColumnWindow, worth: f64) -> Option<(f64, f64)> {
    if column.kind != ColumnKind::Numeric || column.sample.is_empty() || window.sample.is_empty() {
        return None;
    }
    let trained: Vec<f64> = column.sample.iter().map(|value| f64::from(single(*value))).collect();
    let live = window.sorted_sample();
    let distance = ks_statistic(&trained, &live);
    Some((distance, ks_p_value(distance, trained.len(), worth_rows(live.len(), worth))))
}

/// Benjamini and Hochberg's adjustment: the k-th smallest of m p-values becomes the least of p·m/j over all j ≥ k.
fn adjust(scores: Vec<&mut FeatureScore>) {
    let mut tested: Vec<(f64, &mut FeatureScore)> =
        scores.into_iter().filter_map(|score| score.ks_p_value.map(|p_value| (p_value, score))).collect();
    tested.sort_by(|left, right| right.0.total_cmp(&left.0));
    let total = tested.len();
    let mut least = 1.0_f64;
    for (index, (p_value, score)) in tested.into_iter().enumerate() {
        let rank = total - index;
        least = least.min(p_value * total as f64 / rank as f64);
        score.ks_p_adjusted = Some(least);
    }
}

fn reasons(score: &FeatureScore, column: &ColumnProfile, thresholds: &Thresholds) -> Vec<String> {
    let mut reasons = Vec::new();
    if score.psi >= score.psi_threshold && score.psi > 0.0 {
        reasons.push(format!("psi {:.3} is not below {:.3}", score.psi, score.psi_threshold));
    }
    if let (Some(distance), Some(p_value)) = (score.ks, score.ks_p_adjusted)
        && p_value <= thresholds.ks_p_value
        && distance >= MIN_KS_DISTANCE
    {
        reasons.push(format!("ks {distance:.3} has p {p_value:.2e}, not above {}", thresholds.ks_p_value));
    }
    let missing_delta = score.missing_rate - column.missing_rate;
    if missing_delta > thresholds.missing_rate_delta {
        reasons.push(format!(
            "missing_rate {:.3} against {:.3} in training exceeds missing_rate_delta {}",
            score.missing_rate, column.missing_rate, thresholds.missing_rate_delta
        ));
    }
    if score.out_of_range_rate > thresholds.out_of_range_rate {
        reasons.push(format!(
            "out_of_range_rate {:.3} exceeds {}",
            score.out_of_range_rate, thresholds.out_of_range_rate
        ));
    }
    reasons
}
