//! Statistics shared by the gate of a rollout and by drift.
//!
//! A gate is looked at every interval, so its bounds have to hold however often they are looked at. A fixed-size test does not
//! do that: at 20 looks it raises a false alarm in about a quarter of all harmless rollouts.

/// A bound is wrong at any time with at most this probability.
const ALPHA: f64 = 0.01;
/// Mixing parameter ρ² of the sequence: 1 makes it tightest at a few dozen samples of a share, where a gate has to decide.
const RHO_SQUARED: f64 = 1.0;

/// Hits among trials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share {
    hits: f64,
    trials: f64,
}

impl Share {
    pub(crate) fn new(hits: u64, trials: u64) -> Self {
        Self { hits: hits.min(trials) as f64, trials: trials as f64 }
    }

    /// The share itself, 0 without trials.
    pub(crate) fn rate(self) -> f64 {
        if self.trials > 0.0 { self.hits / self.trials } else { 0.0 }
    }

    /// Variance of one trial, drawn towards one half by one success and one failure so that a run of equal outcomes is not
    /// taken for certainty.
    fn variance(self) -> f64 {
        let rate = (self.hits + 1.0) / (self.trials + 2.0);
        rate * (1.0 - rate)
    }

    /// What the true share exceeds, valid at any stopping time.
    pub(crate) fn lower_bound(self) -> f64 {
        if self.trials < 1.0 {
            return 0.0;
        }
        (self.rate() - sequence_margin(self.trials, self.variance())).max(0.0)
    }

    /// What the true difference `self - other` exceeds, valid at any stopping time.
    pub(crate) fn difference_lower_bound(self, other: Self) -> f64 {
        if self.trials < 1.0 || other.trials < 1.0 {
            return -1.0;
        }
        // Two independent means behave as one mean of `pooled` trials whose variance gives the same standard error.
        let pooled = 1.0 / (1.0 / self.trials + 1.0 / other.trials);
        let variance = pooled * (self.variance() / self.trials + other.variance() / other.trials);
        (self.rate() - other.rate() - sequence_margin(pooled, variance)).max(-1.0)
    }
}

/// Half-width of the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021), "Time-uniform
/// central limit theory and asymptotic confidence sequences", equation 5: sqrt((nvρ²+1)/(n²ρ²) · ln((nvρ²+1)/α²)).
fn sequence_margin(trials: f64, variance: f64) -> f64 {
    let mixed = trials * variance * RHO_SQUARED + 1.0;
    ((mixed / (trials * trials * RHO_SQUARED)) * (mixed / (ALPHA * ALPHA)).ln()).sqrt()
}

/// Quantile of the standard normal distribution: Acklam's rational approximation, relative error below 1.2e-9.
pub(crate) fn normal_quantile(probability: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    const TAIL: f64 = 0.024_25;
    let polynomial = |coefficients: &[f64], at: f64| coefficients.iter().fold(0.0, |sum, c| sum * at + c);
    let probability = probability.clamp(1e-300, 1.0 - 1e-16);
    if probability < TAIL {
        let q = (-2.0 * probability.ln()).sqrt();
        polynomial(&C, q) / (polynomial(&D, q) * q + 1.0)
    } else if probability > 1.0 - TAIL {
        -normal_quantile(1.0 - probability)
    } else {
        let q = probability - 0.5;
        let r = q * q;
        polynomial(&A, r) * q / (polynomial(&B, r) * r + 1.0)
    }
}

/// Quantile of χ² with `degrees` of freedom by Wilson and Hilferty (1931): within one percent from two degrees up.
pub(crate) fn chi_square_quantile(degrees: f64, probability: f64) -> f64 {
    if degrees <= 0.0 {
        return 0.0;
    }
    let spread = 2.0 / (9.0 * degrees);
    degrees * (1.0 - spread + normal_quantile(probability) * spread.sqrt()).max(0.0).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_agree_with_published_tables() {
        for (probability, expected) in
            [(0.5, 0.0), (0.975, 1.959_964), (0.01, -2.326_348), (0.999, 3.090_232)]
        {
            assert!((normal_quantile(probability) - expected).abs() < 1e-5);
        }
        for (degrees, probability, expected) in [(9.0, 0.99, 21.666), (9.0, 0.95, 16.919), (2.0, 0.99, 9.210)]
        {
            let quantile = chi_square_quantile(degrees, probability);
            assert!((quantile / expected - 1.0).abs() < 0.01, "χ²({degrees}, {probability}) = {quantile}");
        }
    }

    #[test]
    fn few_trials_prove_little_and_many_prove_the_share() {
        assert_eq!(Share::new(0, 0).lower_bound(), 0.0);
        assert!(Share::new(1, 1).lower_bound() < 0.01);
        assert!(Share::new(3, 20).lower_bound() < 0.05);
        assert!(Share::new(500, 1_000).lower_bound() > 0.4);
        assert!(Share::new(95, 100).difference_lower_bound(Share::new(50, 100)) > 0.2);
        assert!(Share::new(19, 20).difference_lower_bound(Share::new(17, 20)) < 0.0);
    }
}
