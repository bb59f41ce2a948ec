//! One window against the training data: distances per column, and whether they are more than chance.
//!
//! A column has drifted where a distance is both large (a threshold) and certain (a test). The tests of all
//! columns are adjusted together by Holm (1979), so that the probability that chance alone makes any column
//! of an undrifted window drift is at most [`Thresholds::p_value`]:
//!
//! - the histogram by Pearson's X² on cells of at least five expected rows; its distance is the population
//!   stability index;
//! - the distribution of numbers by Kolmogorov and Smirnov;
//! - the share of missing values, in both directions, by Fisher's exact test;
//! - values beyond the range of training by the exact distribution of exceedances; unknown categories by
//!   Fisher's test against the mass that training has not seen, which categories that occurred once stand for
//!   (Good, 1953).
//!
//! A row that is sent again tells nothing new. Where rows repeat more often than training explains, `n` rows
//! that occur `cᵢ` times each are worth `n² / Σ cᵢ²` (Kish, 1965). A feed that repeats a few rows is a fault
//! of its own, whatever the rows are.

use serde::{Deserialize, Serialize};

use super::{
    cells::{Cells, cells},
    measures::{
        PSI_SHARE_FLOOR, chi_square_p_value, chi_square_statistic, fisher_p_value, ks_p_value, ks_statistic,
        psi_with_floor, range_p_value,
    },
    profile::{ColumnKind, ColumnProfile, Profile},
    repetition::Repetition,
    thresholds::Thresholds,
    window::{ColumnWindow, Window},
};

/// Windows of fewer rows are not judged.
pub const MIN_WINDOW_ROWS: u64 = 20;
/// A Kolmogorov-Smirnov distance below this is no drift however certain it is: large windows make any
/// difference certain.
const MIN_KS_DISTANCE: f64 = 0.15;

/// How far one column has moved. P-values are adjusted over all tests of the window.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FeatureScore {
    /// The column.
    pub name: String,
    /// False where no record of the window has the column: it is not judged.
    pub compared: bool,
    /// Population stability index; bin shares are floored at half a row.
    pub psi: f64,
    /// Probability of the histogram by chance.
    pub psi_p_value: Option<f64>,
    /// Kolmogorov-Smirnov distance; numeric columns with a training sample only.
    pub ks: Option<f64>,
    /// Its probability by chance.
    pub ks_p_value: Option<f64>,
    /// Share of missing values.
    pub missing_rate: f64,
    /// The same in training.
    pub trained_missing_rate: f64,
    /// Probability of the difference by chance; absent where no value is missing.
    pub missing_p_value: Option<f64>,
    /// Share of present values outside the training data's range, or never seen in training.
    pub out_of_range_rate: f64,
    /// Share that is expected: of values that are not listed in the profile, or occurred once. 0 for numbers.
    pub trained_out_of_range_rate: f64,
    /// Probability of that many by chance.
    pub out_of_range_p_value: Option<f64>,
    /// Share of rows that differ from training by what drifted, 0 to 1: the largest of the Kolmogorov-Smirnov
    /// distance, the total variation of the histogram, and the differences of the two rates.
    pub shift: f64,
    /// Whether any measure says so.
    pub drifted: bool,
    /// Which ones, with their numbers.
    pub reasons: Vec<String>,
}

/// How far one window has moved.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WindowScores {
    /// Rows in the window.
    pub rows: u64,
    /// False where the window cannot be judged: it is too small, or has no column of the profile.
    pub conclusive: bool,
    /// Inputs.
    pub features: Vec<FeatureScore>,
    /// Outputs.
    pub predictions: Vec<FeatureScore>,
    /// Share of compared inputs that drifted, 0 to 1.
    pub share_drifted: f64,
    /// Whether any output drifted.
    pub predictions_drifted: bool,
    /// Different rows among those that were looked at for repetition, 2 048 of them at most.
    pub distinct_rows: u64,
    /// Minimum number of different rows in as many rows of the training data.
    pub expected_distinct_rows: f64,
    /// Independent rows that the window is worth.
    pub effective_rows: f64,
    /// Whether the feed repeats a few rows.
    pub rows_repeated: bool,
    /// Whether the window counts as drifted.
    pub drifted: bool,
    /// Why it does, one sentence for each rule that applies.
    pub reasons: Vec<String>,
}

/// Name of the repetition of rows among the parts of a window that drift.
const REPEATED_ROWS: &str = "repeated rows";

impl WindowScores {
    /// What of the window drifted, each under a name of its own: `feature age`, `prediction label`, `repeated
    /// rows`.
    pub fn drifted_parts(&self) -> Vec<String> {
        let named = |kind: &str, columns: &[FeatureScore]| -> Vec<String> {
            let drifted = columns.iter().filter(|column| column.drifted);
            drifted.map(|column| format!("{kind} {}", column.name)).collect()
        };
        let mut parts = named("feature", &self.features);
        parts.extend(named("prediction", &self.predictions));
        parts.extend(self.rows_repeated.then(|| REPEATED_ROWS.to_owned()));
        parts
    }
}

/// Compares a window with the training data that its bins came from.
pub fn score(profile: &Profile, window: &Window, thresholds: &Thresholds) -> WindowScores {
    let repetition = Repetition::of(profile, window);
    let measure_all = |columns: &[ColumnProfile], windows: &[ColumnWindow]| -> Vec<FeatureScore> {
        let pairs = columns.iter().zip(windows);
        pairs.map(|(column, window)| measure(profile.rows, column, window, repetition.worth)).collect()
    };
    let mut features = measure_all(&profile.features, &window.features);
    let mut predictions = measure_all(&profile.predictions, &window.predictions);
    adjust(features.iter_mut().chain(&mut predictions).flat_map(p_values).collect());
    let compared = features.iter().chain(&predictions).any(|column| column.compared);
    let conclusive = window.rows() >= MIN_WINDOW_ROWS && compared;
    for column in features.iter_mut().chain(&mut predictions) {
        judge(column, thresholds, conclusive);
    }
    let mut scores = WindowScores {
        rows: window.rows(),
        conclusive,
        share_drifted: share_drifted(&features),
        predictions_drifted: predictions.iter().any(|column| column.drifted),
        features,
        predictions,
        distinct_rows: repetition.distinct,
        expected_distinct_rows: repetition.expected_distinct,
        effective_rows: window.rows() as f64 * repetition.worth,
        rows_repeated: conclusive && repetition.is_below(thresholds.distinct_rows_ratio),
        ..WindowScores::default()
    };
    scores.reasons = window_reasons(&scores, thresholds);
    scores.drifted = !scores.reasons.is_empty();
    scores
}

fn share_drifted(features: &[FeatureScore]) -> f64 {
    let compared = features.iter().filter(|column| column.compared).count();
    let drifted = features.iter().filter(|column| column.drifted).count();
    drifted as f64 / compared.max(1) as f64
}

/// The rules by which a window drifts.
fn window_reasons(scores: &WindowScores, thresholds: &Thresholds) -> Vec<String> {
    let mut reasons = Vec::new();
    let drifted: Vec<&FeatureScore> = scores.features.iter().filter(|column| column.drifted).collect();
    if !drifted.is_empty() && scores.share_drifted >= thresholds.min_features_drifted {
        let compared = scores.features.iter().filter(|column| column.compared).count();
        reasons.push(format!("{} of {compared} features drifted", drifted.len()));
    }
    let worst = drifted.iter().max_by(|left, right| left.shift.total_cmp(&right.shift));
    if let Some(worst) = worst.filter(|worst| worst.shift >= thresholds.single_feature_shift) {
        reasons.push(format!("feature `{}` differs in {:.0} % of the rows", worst.name, worst.shift * 100.0));
    }
    let mut predictions = scores.predictions.iter().filter(|column| column.drifted);
    if let Some(first) = predictions.next() {
        let more = predictions.count();
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        reasons.push(format!("prediction `{}`{rest} drifted", first.name));
    }
    if scores.rows_repeated {
        reasons.push(format!(
            "only {} different rows, where as many rows of the training data have about {:.0}",
            scores.distinct_rows, scores.expected_distinct_rows
        ));
    }
    reasons
}

/// The distances of one column, with p-values not yet adjusted.
fn measure(trained_rows: u64, column: &ColumnProfile, window: &ColumnWindow, worth: f64) -> FeatureScore {
    let rate = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let worth_of = |rows: u64| (rows as f64 * worth).round() as u64;
    let trained_missing = (column.missing_rate * trained_rows as f64).round() as u64;
    let mut score = FeatureScore {
        name: column.name.clone(),
        compared: window.compared() > 0,
        missing_rate: rate(window.missing, window.compared()),
        trained_missing_rate: column.missing_rate,
        out_of_range_rate: rate(window.out_of_range, window.present),
        ..FeatureScore::default()
    };
    if window.missing + trained_missing > 0 && score.compared {
        let live = (worth_of(window.missing), worth_of(window.compared()).max(1));
        score.missing_p_value = Some(fisher_p_value(live, (trained_missing, trained_rows)));
    }
    let expected = column.expected(trained_rows, window.precision);
    if window.present == 0 || expected.iter().sum::<f64>() <= 0.0 {
        return score;
    }
    measure_histogram(&mut score, column, &expected, window, worth);
    if column.kind == ColumnKind::Numeric {
        measure_sample(&mut score, column, window, worth);
    }
    let trained = column.present_rows(trained_rows);
    let live = (worth_of(window.out_of_range), worth_of(window.present).max(1));
    let unseen = if column.kind == ColumnKind::Numeric { 0 } else { column.unseen_rows(trained_rows) };
    score.trained_out_of_range_rate = rate(unseen, trained);
    score.out_of_range_p_value = Some(match column.kind {
        ColumnKind::Numeric => range_p_value(live.0, live.1, trained),
        // Fewer unknown values than expected are no fault.
        ColumnKind::Categorical if score.out_of_range_rate <= score.trained_out_of_range_rate => 1.0,
        ColumnKind::Categorical => fisher_p_value(live, (unseen, trained)),
    });
    score
}

fn measure_histogram(
    score: &mut FeatureScore,
    column: &ColumnProfile,
    expected: &[f64],
    window: &ColumnWindow,
    worth: f64,
) {
    let actual: Vec<f64> = window.bins.iter().map(|count| *count as f64).collect();
    let Cells { expected: expected_cells, actual: actual_cells } =
        cells(column.kind, expected, &actual, worth);
    let effective: Vec<f64> = actual_cells.iter().map(|rows| rows * worth).collect();
    let statistic = chi_square_statistic(&expected_cells, &effective);
    score.psi_p_value = Some(chi_square_p_value(statistic, expected_cells.len() as f64 - 1.0));
    // Rare categories are no bins of their own: those of a window are others than those of training.
    let (left, right) = match column.kind {
        ColumnKind::Numeric => (expected, &actual[..]),
        ColumnKind::Categorical => (&expected_cells[..], &actual_cells[..]),
    };
    let smaller = left.iter().sum::<f64>().min(right.iter().sum()).max(1.0);
    score.psi = psi_with_floor(left, right, PSI_SHARE_FLOOR.max(0.5 / smaller));
    score.shift = total_variation(&expected_cells, &actual_cells);
}

/// Half of the sum of the differences of shares.
fn total_variation(expected: &[f64], actual: &[f64]) -> f64 {
    let (expected_total, actual_total): (f64, f64) = (expected.iter().sum(), actual.iter().sum());
    let pairs = expected.iter().zip(actual);
    0.5 * pairs.map(|(left, right)| (left / expected_total - right / actual_total).abs()).sum::<f64>()
}

fn measure_sample(score: &mut FeatureScore, column: &ColumnProfile, window: &ColumnWindow, worth: f64) {
    if column.sample.is_empty() || window.sample.is_empty() {
        return;
    }
    let (trained, live) = (column.rounded_sample(window.precision), window.sorted_sample());
    let distance = ks_statistic(&trained, &live);
    let effective = ((live.len() as f64 * worth) as usize).max(1);
    score.ks = Some(distance);
    score.ks_p_value = Some(ks_p_value(distance, trained.len(), effective));
}

fn p_values(score: &mut FeatureScore) -> impl Iterator<Item = &mut f64> {
    let tests = [
        &mut score.psi_p_value,
        &mut score.ks_p_value,
        &mut score.missing_p_value,
        &mut score.out_of_range_p_value,
    ];
    tests.into_iter().flatten()
}

/// Holm's adjustment: the k-th smallest of m p-values becomes the largest of (m + 1 − j) · p over all j ≤ k.
fn adjust(mut tested: Vec<&mut f64>) {
    tested.sort_by(|left, right| left.total_cmp(right));
    let total = tested.len();
    let mut largest = 0.0_f64;
    for (at, p_value) in tested.into_iter().enumerate() {
        largest = largest.max(*p_value * (total - at) as f64).min(1.0);
        *p_value = largest;
    }
}

/// Whether the column drifted, by which measures, and in how many rows.
fn judge(score: &mut FeatureScore, thresholds: &Thresholds, conclusive: bool) {
    let binned_shift = std::mem::take(&mut score.shift);
    if !conclusive {
        return;
    }
    let certain = |p_value: Option<f64>| p_value.filter(|p_value| *p_value <= thresholds.p_value);
    let mut found: Vec<(f64, String)> = Vec::new();
    if let Some(p_value) = certain(score.psi_p_value).filter(|_| score.psi >= thresholds.psi) {
        let text = format!("psi {:.3} is not below {} (p {p_value:.1e})", score.psi, thresholds.psi);
        found.push((binned_shift, text));
    }
    if let Some((distance, p_value)) = score.ks.zip(certain(score.ks_p_value))
        && distance >= MIN_KS_DISTANCE
    {
        found.push((distance, format!("ks {distance:.3} is not below {MIN_KS_DISTANCE} (p {p_value:.1e})")));
    }
    let difference = score.missing_rate - score.trained_missing_rate;
    if let Some(p_value) = certain(score.missing_p_value)
        && difference.abs() > thresholds.missing_rate_delta
    {
        let text = format!(
            "missing_rate {:.3} differs from {:.3} in training by more than missing_rate_delta {} (p \
             {p_value:.1e})",
            score.missing_rate, score.trained_missing_rate, thresholds.missing_rate_delta
        );
        found.push((difference.abs(), text));
    }
    if let Some(p_value) = certain(score.out_of_range_p_value)
        && score.out_of_range_rate - score.trained_out_of_range_rate > thresholds.out_of_range_rate
    {
        let text = format!(
            "out_of_range_rate {:.3} exceeds {:.3} in training by more than {} (p {p_value:.1e})",
            score.out_of_range_rate, score.trained_out_of_range_rate, thresholds.out_of_range_rate
        );
        found.push((score.out_of_range_rate - score.trained_out_of_range_rate, text));
    }
    score.drifted = !found.is_empty();
    score.shift = found.iter().map(|(shift, _)| *shift).fold(0.0, f64::max);
    score.reasons = found.into_iter().map(|(_, text)| text).collect();
}
