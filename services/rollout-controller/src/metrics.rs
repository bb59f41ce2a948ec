//! Prometheus metrics of the rollout controller.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use slipway_domain::rollout::{Action, Phase, Rollout, Verdict};
use slipway_service_kit::metrics::Metrics;

/// Counters and gauges. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct RolloutMetrics {
    decisions: Family<DecisionLabels, Counter>,
    ended: Family<EndLabels, Counter>,
    weight: Family<DeploymentLabels, Gauge<f64, AtomicU64>>,
    drills: Family<DrillLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    /// `pass`, `fail` or `inconclusive`.
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    /// `promoted`, `rolled_back`, `failed` or `aborted`.
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DrillLabels {
    /// Whether the analysis failed the rehearsed version: `true` or `false`.
    noticed: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeploymentLabels {
    deployment: String,
}

impl RolloutMetrics {
    /// Registered with the service's metrics.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let own = Self::default();
        // From the start: Prometheus does not see the increase of a series that begins with 1.
        for phase in [Phase::Promoted, Phase::RolledBack, Phase::Failed, Phase::Aborted] {
            own.ended.get_or_create(&EndLabels { phase: phase.as_str() }).inc_by(0);
        }
        for noticed in ["true", "false"] {
            own.drills.get_or_create(&DrillLabels { noticed }).inc_by(0);
        }
        metrics.register("rollout_decisions", "Decisions about rollouts by verdict", own.decisions.clone());
        metrics.register("rollouts_ended", "Finished rollouts by outcome", own.ended.clone());
        let help = "Share of the traffic that the version being rolled out has";
        metrics.register("rollout_weight_percent", help, own.weight.clone());
        let help = "Finished fault drills by whether the analysis failed the rehearsed version";
        metrics.register("drills_ended", help, own.drills.clone());
        own
    }

    /// A drill has ended.
    pub(crate) fn drilled(&self, noticed: bool) {
        let noticed = if noticed { "true" } else { "false" };
        self.drills.get_or_create(&DrillLabels { noticed }).inc();
    }

    /// A change of a rollout was committed.
    pub(crate) fn changed(&self, rollout: &Rollout, actions: &[Action]) {
        for action in actions {
            if let Action::RecordDecision { verdict, .. } = action {
                let verdict = match verdict {
                    Verdict::Pass => "pass",
                    Verdict::Fail => "fail",
                    Verdict::Inconclusive => "inconclusive",
                };
                self.decisions.get_or_create(&DecisionLabels { verdict }).inc();
            }
        }
        let labels = DeploymentLabels { deployment: rollout.deployment().to_owned() };
        if rollout.phase().is_final() {
            self.ended.get_or_create(&EndLabels { phase: rollout.phase().as_str() }).inc();
            self.weight.remove(&labels);
        } else {
            self.weight.get_or_create(&labels).set(f64::from(rollout.weight_percent()));
        }
    }
}
