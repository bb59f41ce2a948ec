//! Distances between two samples, and how likely chance makes them.

use statrs::function::gamma::{gamma_ur, ln_gamma};

/// Share below which a bin's share is raised to it, so that an empty bin gives no infinite index.
pub const PSI_SHARE_FLOOR: f64 = 1e-4;
/// The Kolmogorov series is summed until its terms are below this.
const SERIES_PRECISION: f64 = 1e-12;
const MAX_SERIES_TERMS: u32 = 200;

/// Population stability index of two histograms on the same bins: Σ (aᵢ − eᵢ) · ln(aᵢ / eᵢ) over the shares,
/// each share at least [`PSI_SHARE_FLOOR`].
///
/// Never negative, 0 for equal shares, the same with the histograms swapped. 0 where either is empty: nothing
/// is known then.
pub fn psi(expected_counts: &[u64], actual_counts: &[u64]) -> f64 {
    let numbers = |counts: &[u64]| -> Vec<f64> { counts.iter().map(|count| *count as f64).collect() };
    psi_with_floor(&numbers(expected_counts), &numbers(actual_counts), PSI_SHARE_FLOOR)
}

pub(super) fn psi_with_floor(expected_counts: &[f64], actual_counts: &[f64], floor: f64) -> f64 {
    let expected_total: f64 = expected_counts.iter().sum();
    let actual_total: f64 = actual_counts.iter().sum();
    if expected_total <= 0.0 || actual_total <= 0.0 {
        return 0.0;
    }
    let share = |counts: &[f64], bin: usize, total: f64| {
        let count = counts.get(bin).copied().unwrap_or(0.0);
        (count / total).max(floor)
    };
    (0..expected_counts.len().max(actual_counts.len()))
        .map(|bin| {
            let expected = share(expected_counts, bin, expected_total);
            let actual = share(actual_counts, bin, actual_total);
            (actual - expected) * (actual / expected).ln()
        })
        .sum()
}

/// Kolmogorov-Smirnov statistic of two ascending samples: the largest distance between their empirical
/// distributions, 0 to 1. 0 where either is empty.
pub fn ks_statistic(left_sorted: &[f64], right_sorted: &[f64]) -> f64 {
    let (left_len, right_len) = (left_sorted.len(), right_sorted.len());
    if left_len == 0 || right_len == 0 {
        return 0.0;
    }
    let (mut left_at, mut right_at) = (0, 0);
    let mut largest = 0.0_f64;
    while left_at < left_len && right_at < right_len {
        // Ties are stepped over on both sides before the distance is taken.
        let value = left_sorted[left_at].min(right_sorted[right_at]);
        left_at += left_sorted[left_at..].iter().take_while(|x| **x <= value).count();
        right_at += right_sorted[right_at..].iter().take_while(|x| **x <= value).count();
        let distance = left_at as f64 / left_len as f64 - right_at as f64 / right_len as f64;
        largest = largest.max(distance.abs());
    }
    largest.min(1.0)
}

/// Probability of a statistic at least this large between samples of one continuous distribution:
/// Kolmogorov's asymptotic series 2 Σ (−1)^(k−1) exp(−2k²λ²) with λ = (√n + 0.12 + 0.11/√n) · D and n the
/// harmonic size, Stephens' correction (1970) as in Numerical Recipes §14.3. Too large rather than too small
/// on data with ties.
pub fn ks_p_value(statistic: f64, left_len: usize, right_len: usize) -> f64 {
    if left_len == 0 || right_len == 0 {
        return 1.0;
    }
    let (left, right) = (left_len as f64, right_len as f64);
    let root = (left * right / (left + right)).sqrt();
    let lambda = (root + 0.12 + 0.11 / root) * statistic.clamp(0.0, 1.0);
    // Below this the series does not converge in few terms, and the probability is 1 to ten digits.
    if lambda < 0.2 {
        return 1.0;
    }
    let mut sum = 0.0;
    for k in 1..=MAX_SERIES_TERMS {
        let k = f64::from(k);
        let term = (-2.0 * k * k * lambda * lambda).exp();
        sum += if k % 2.0 == 1.0 { term } else { -term };
        if term < SERIES_PRECISION {
            break;
        }
    }
    (2.0 * sum).clamp(0.0, 1.0)
}

/// Probability of a Pearson X² at least this large by chance; `degrees` of freedom, 1 where there are none.
pub(super) fn chi_square_p_value(statistic: f64, degrees: f64) -> f64 {
    if degrees <= 0.0 || statistic.is_nan() || statistic <= 0.0 {
        return 1.0;
    }
    gamma_ur(degrees / 2.0, statistic / 2.0).clamp(0.0, 1.0)
}

/// Pearson's X² between two histograms on the same cells, for samples of different sizes:
/// Σ (√(A/E)·eᵢ − √(E/A)·aᵢ)² / (eᵢ + aᵢ), A and E the totals (Numerical Recipes §14.3.3).
pub(super) fn chi_square_statistic(expected: &[f64], actual: &[f64]) -> f64 {
    let (expected_total, actual_total): (f64, f64) = (expected.iter().sum(), actual.iter().sum());
    if expected_total <= 0.0 || actual_total <= 0.0 {
        return 0.0;
    }
    let (to_expected, to_actual) =
        ((actual_total / expected_total).sqrt(), (expected_total / actual_total).sqrt());
    let cells = expected.iter().zip(actual).filter(|(left, right)| **left + **right > 0.0);
    cells.map(|(left, right)| (to_expected * left - to_actual * right).powi(2) / (left + right)).sum()
}

/// Fisher's exact test of two shares, two-sided: twice the smaller tail of the hypergeometric distribution,
/// which is never too small a probability.
pub(super) fn fisher_p_value(left: (u64, u64), right: (u64, u64)) -> f64 {
    let ((left_hits, left_rows), (right_hits, right_rows)) = (left, right);
    let (left_hits, right_hits) = (left_hits.min(left_rows), right_hits.min(right_rows));
    let (hits, rows) = (left_hits + right_hits, left_rows + right_rows);
    if left_rows == 0 || right_rows == 0 || hits == 0 || hits == rows {
        return 1.0;
    }
    let start =
        ln_binomial(left_rows, left_hits) + ln_binomial(right_rows, right_hits) - ln_binomial(rows, hits);
    let fewest = hits.saturating_sub(right_rows);
    let most = hits.min(left_rows);
    // From one more hit on the left to the next: the ratio of neighbouring probabilities.
    let up = |at: u64| {
        ((left_rows - at) as f64 * (hits - at) as f64)
            / ((at + 1) as f64 * (right_rows + at + 1 - hits) as f64)
    };
    let upper = tail(start, (left_hits..most).map(up));
    let lower = tail(start, (fewest..left_hits).rev().map(|at| 1.0 / up(at)));
    (2.0 * upper.min(lower)).min(1.0)
}

/// Probability that `outside` or more of `rows` new values lie beyond the range of `trained` values of the
/// same distribution.
///
/// All orders of trained + rows exchangeable values are equally likely; with i values above and j below, the
/// two extremes of training are fixed, so P(i + j = t) = (t + 1) · C(trained + rows − 2 − t, trained − 2) /
/// C(trained + rows, trained). Ties make it smaller.
pub(super) fn range_p_value(outside: u64, rows: u64, trained: u64) -> f64 {
    if outside == 0 || rows == 0 || trained < 2 {
        return 1.0;
    }
    let outside = outside.min(rows);
    let all = rows + trained;
    let start =
        ((outside + 1) as f64).ln() + ln_binomial(all - 2 - outside, trained - 2) - ln_binomial(all, trained);
    let ratio = |at: u64| ((at + 2) as f64 / (at + 1) as f64) * ((rows - at) as f64 / (all - 2 - at) as f64);
    tail(start, (outside..rows).map(ratio)).min(1.0)
}

/// Sum of probabilities: the first by its logarithm, each other by its ratio to the one before. Ends where
/// terms no longer count.
fn tail(ln_first: f64, ratios: impl Iterator<Item = f64>) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for ratio in ratios {
        term *= ratio;
        sum += term;
        if term < sum * SERIES_PRECISION {
            break;
        }
    }
    (ln_first + f64::ln(sum)).exp()
}

fn ln_binomial(all: u64, chosen: u64) -> f64 {
    let ln_factorial = |number: u64| ln_gamma(number as f64 + 1.0);
    ln_factorial(all) - ln_factorial(chosen) - ln_factorial(all - chosen)
}
