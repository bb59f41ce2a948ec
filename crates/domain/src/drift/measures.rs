//! Distances between two samples.

/// Share below which a bin's share is raised to it, so that an empty bin gives no infinite index.
pub const PSI_SHARE_FLOOR: f64 = 1e-4;
/// The Kolmogorov series is summed until its terms are below this.
const SERIES_PRECISION: f64 = 1e-12;
const MAX_SERIES_TERMS: u32 = 200;

/// Population stability index of two histograms on the same bins: Σ (aᵢ − eᵢ) · ln(aᵢ / eᵢ) over the shares, each share at least
/// [`PSI_SHARE_FLOOR`].
///
/// Never negative, 0 for equal shares, the same with the histograms swapped. 0 where either is empty: nothing is known then.
pub fn psi(expected_counts: &[u64], actual_counts: &[u64]) -> f64 {
    psi_with_floor(expected_counts, actual_counts, PSI_SHARE_FLOOR)
}

pub(super) fn psi_with_floor(expected_counts: &[u64], actual_counts: &[u64], floor: f64) -> f64 {
    let expected_total: u64 = expected_counts.iter().sum();
    let actual_total: u64 = actual_counts.iter().sum();
    if expected_total == 0 || actual_total == 0 {
        return 0.0;
    }
    let share = |counts: &[u64], bin: usize, total: u64| {
        let count = counts.get(bin).copied().unwrap_or(0);
        (count as f64 / total as f64).max(floor)
    };
    (0..expected_counts.len().max(actual_counts.len()))
        .map(|bin| {
            let expected = share(expected_counts, bin, expected_total);
            let actual = share(actual_counts, bin, actual_total);
            (actual - expected) * (actual / expected).ln()
        })
        .sum()
}

/// Kolmogorov-Smirnov statistic of two ascending samples: the largest distance between their empirical distributions, 0 to 1.
/// 0 where either is empty.
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

/// Probability of a statistic at least this large between samples of one continuous distribution: Kolmogorov's asymptotic
/// series 2 Σ (−1)^(k−1) exp(−2k²λ²) with λ = (√n + 0.12 + 0.11/√n) · D and n the harmonic size, Stephens' correction (1970) as in
/// Numerical Recipes §14.3. Too large rather than too small on data with ties.
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
