//! Rows that occur again and again.

use super::{
    profile::{ColumnProfile, Profile},
    window::{ColumnWindow, Window},
};

/// How often the rows of a window repeat, held against training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Repetition {
    /// Different rows.
    pub(super) distinct: u64,
    /// Different rows that as many rows of the training data have at least.
    pub(super) expected_distinct: f64,
    /// Independent rows that a row is worth, above 0 and at most 1.
    pub(super) worth: f64,
}

impl Repetition {
    pub(super) fn of(profile: &Profile, window: &Window) -> Self {
        let (mut distinct, mut rows, mut squares) = (0_u64, 0_u64, 0.0);
        for count in window.repeats() {
            distinct += 1;
            rows += count;
            squares += (count as f64).powi(2);
        }
        let known = Known::of(profile, window, rows);
        let all = rows as f64;
        // Rows of the most varied column collide with this probability, so whole rows collide no more often.
        let explained = all + all * (all - 1.0) * known.collision;
        let worth = if rows == 0 { 1.0 } else { (explained / squares).min(1.0) };
        Self { distinct, expected_distinct: known.distinct, worth }
    }

    /// Whether the rows are fewer different ones than this share of what is expected.
    pub(super) fn is_below(&self, ratio: f64) -> bool {
        (self.distinct as f64) < ratio * self.expected_distinct
    }
}

/// How varied the rows of the training data are at least, known from its most varied column.
struct Known {
    /// Probability that two rows are equal, at most.
    collision: f64,
    /// Different rows among `rows`, at least.
    distinct: f64,
}

impl Known {
    fn of(profile: &Profile, window: &Window, rows: u64) -> Self {
        let all = rows as f64;
        let mut known = Self { collision: 1.0, distinct: 0.0 };
        for (column, window) in profile.features.iter().zip(&window.features) {
            let (collision, distinct) = variety(column, window, profile.rows, all);
            known.collision = known.collision.min(collision);
            known.distinct = known.distinct.max(distinct);
        }
        // Where most rows of training are different ones, their number says more than any column.
        if let Some(trained) =
            profile.distinct_rows.filter(|trained| trained.saturating_mul(2) >= profile.rows)
        {
            known.distinct = known.distinct.max(drawn(trained as f64, 1.0 / trained as f64, all));
        }
        known
    }
}

/// Probability that two values of a column are equal, and different values among `rows`.
fn variety(column: &ColumnProfile, window: &ColumnWindow, trained_rows: u64, rows: f64) -> (f64, f64) {
    if window.compared() == 0 {
        return (1.0, 0.0);
    }
    let atoms = column.atoms(trained_rows, window.precision);
    let total: f64 = atoms.iter().sum();
    if total < 2.0 {
        return (1.0, 0.0);
    }
    let pairs: f64 = atoms.iter().map(|count| count * (count - 1.0).max(0.0)).sum();
    let distinct = atoms.iter().map(|count| drawn(1.0, count / total, rows)).sum();
    (pairs / (total * (total - 1.0)), distinct)
}

/// Of `values` values with the same probability each, how many are expected to occur in `rows` draws.
fn drawn(values: f64, probability: f64, rows: f64) -> f64 {
    values * -(rows * (-probability.min(1.0 - 1e-12)).ln_1p()).exp_m1()
}
