//! Statistics shared by the gate of a rollout and by drift.
//!
//! A gate is looked at every interval, so its bounds have to hold however often they are looked at. A
//! fixed-size test does not do that: at 20 looks it raises a false alarm in about a quarter of all harmless
//! rollouts.

/// A bound is wrong at any time with at most this probability.
const ALPHA: f64 = 0.01;
/// Mixing parameter ρ² of the sequence: 1 makes it tightest at a few dozen samples of a share, where a gate
/// has to decide.
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

    /// Variance of one trial, drawn towards one half by one success and one failure so that a run of equal
    /// outcomes is not taken for certainty.
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
        // Two independent means behave as one mean of `pooled` trials whose variance gives the same standard
        // error.
        let pooled = 1.0 / (1.0 / self.trials + 1.0 / other.trials);
        let variance = pooled * (self.variance() / self.trials + other.variance() / other.trials);
        (self.rate() - other.rate() - sequence_margin(pooled, variance)).max(-1.0)
    }
}

/// Half-width of the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas
/// (2021), "Time-uniform central limit theory and asymptotic confidence sequences", equation 5:
/// sqrt((nvρ²+1)/(n²ρ²) · ln((nvρ²+1)/α²)).
fn sequence_margin(trials: f64, variance: f64) -> f64 {
    let mixed = trials * variance * RHO_SQUARED + 1.0;
    ((mixed / (trials * trials * RHO_SQUARED)) * (mixed / (ALPHA * ALPHA)).ln()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

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
