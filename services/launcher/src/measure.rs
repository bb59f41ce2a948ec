//! What the launcher counts.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use slipway_service_kit::metrics::Metrics;

/// Metrics of jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Measures {
    jobs: Family<StatusLabels, Gauge<i64, AtomicI64>>,
    /// Attempts that were started.
    pub(crate) attempts: Counter,
    /// Attempts that were lost with their agent.
    pub(crate) lost_attempts: Counter,
    /// Checkpoints that were committed.
    pub(crate) checkpoints: Counter,
    /// Calls of agents whose attempt had been replaced.
    pub(crate) fenced_calls: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: String,
}

impl Measures {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let measures = Self {
            jobs: Family::default(),
            attempts: Counter::default(),
            lost_attempts: Counter::default(),
            checkpoints: Counter::default(),
            fenced_calls: Counter::default(),
        };
        metrics.register("launcher_jobs", "Jobs by status", measures.jobs.clone());
        metrics.register("launcher_attempts_started", "Attempts started", measures.attempts.clone());
        metrics.register(
            "launcher_attempts_lost",
            "Attempts lost with their agent",
            measures.lost_attempts.clone(),
        );
        metrics.register(
            "launcher_checkpoints_committed",
            "Checkpoints committed",
            measures.checkpoints.clone(),
        );
        metrics.register(
            "launcher_fenced_calls",
            "Calls of replaced attempts",
            measures.fenced_calls.clone(),
        );
        measures
    }

    /// Sets the number of jobs in each status; a status that is not named has none.
    pub(crate) fn set_jobs(&self, counts: &[(String, i64)]) {
        self.jobs.clear();
        for (status, count) in counts {
            self.jobs.get_or_create(&StatusLabels { status: status.clone() }).set(*count);
        }
    }
}
