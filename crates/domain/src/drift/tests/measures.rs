//! The tests' distributions, held against their definitions and against scipy.

use super::super::measures::{
    chi_square_p_value, chi_square_statistic, fisher_p_value, ks_p_value, range_p_value,
};
use crate::test_random::Random;

#[test]
fn p_values_agree_with_scipy() {
    // scipy.stats.kstwobign.sf of the corrected statistic.
    for (statistic, left, right, expected) in
        [(0.2, 100, 100, 0.0305), (0.1, 398, 100, 0.3788), (0.3, 60, 398, 0.0001)]
    {
        let p_value = ks_p_value(statistic, left, right);
        assert!((p_value - expected).abs() < 0.006, "D {statistic} of {left} and {right}: {p_value}");
    }
    // scipy.stats.chi2.sf.
    for (statistic, degrees, expected) in [(21.666, 9.0, 0.01), (3.841, 1.0, 0.05), (60.0, 9.0, 1.3407e-9)] {
        let p_value = chi_square_p_value(statistic, degrees);
        assert!((p_value / expected - 1.0).abs() < 0.01, "X² {statistic}: {p_value}");
    }
    // scipy.stats.chi2_contingency([[10, 20, 30], [60, 50, 40]], correction=False).
    let statistic = chi_square_statistic(&[10.0, 20.0, 30.0], &[60.0, 50.0, 40.0]);
    assert!((statistic - 14.0).abs() < 1e-9, "{statistic}");
    assert_eq!(chi_square_p_value(f64::NAN, 3.0), 1.0);
}

#[test]
fn fishers_test_is_exact() {
    // Tails of scipy.stats.hypergeom, the smaller one doubled.
    for (left, right, expected) in [
        ((8, 10), (1, 6), 2.0 * 0.024_475_524_475_524_4),
        ((0, 20), (50, 100), 1.098_93e-5),
        ((3, 20), (15, 100), 1.0),
    ] {
        let p_value = fisher_p_value(left, right);
        assert!((p_value / expected - 1.0).abs() < 0.01, "{left:?} {right:?}: {p_value}");
    }
    assert_eq!(fisher_p_value((0, 10), (0, 10)), 1.0);
    assert_eq!(fisher_p_value((10, 10), (10, 10)), 1.0);
    assert!(fisher_p_value((500_000, 1_000_000), (0, 1_000_000)) < 1e-300);
}

#[test]
fn exceedances_have_their_distribution() {
    let mut random = Random(9);
    let (trained, rows, least, repetitions) = (10_u64, 20_u64, 6_u64, 20_000);
    let mut hits = 0;
    for _ in 0..repetitions {
        let values: Vec<f64> = (0..trained).map(|_| random.uniform()).collect();
        let low = values.iter().copied().fold(f64::MAX, f64::min);
        let high = values.iter().copied().fold(f64::MIN, f64::max);
        let outside =
            (0..rows).map(|_| random.uniform()).filter(|value| *value < low || *value > high).count();
        hits += u64::from(outside as u64 >= least);
    }
    let (observed, computed) = (hits as f64 / f64::from(repetitions), range_p_value(least, rows, trained));
    assert!((observed - computed).abs() < 0.015, "{observed} against {computed}");
    assert!((range_p_value(1, 1, 9) - 0.2).abs() < 1e-9, "one of ten is lowest, one of ten is highest");
    assert_eq!(range_p_value(0, 20, 100), 1.0);
    assert!(range_p_value(100, 100, 400) < 1e-50);
}
