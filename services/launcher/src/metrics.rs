//! Prometheus metrics of the launcher.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use slipway_domain::training::{Capacity, Resources};
use slipway_service_kit::metrics::Metrics;

/// Metrics of jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LauncherMetrics {
    jobs: Family<StatusLabels, Gauge<i64, AtomicI64>>,
    used: ByResource,
    /// Attempts that were started.
    pub(crate) attempts: Counter,
    /// Attempts that were lost with their agent.
    pub(crate) lost_attempts: Counter,
    /// Checkpoints that were committed.
    pub(crate) checkpoints: Counter,
    /// Calls of agents whose attempt had been replaced.
    pub(crate) fenced_calls: Counter,
}

type ByResource = Family<ResourceLabels, Gauge<f64, AtomicU64>>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResourceLabels {
    resource: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: String,
}

impl LauncherMetrics {
    pub(crate) fn register(metrics: &Metrics, capacity: &Capacity) -> Self {
        let own = Self {
            jobs: Family::default(),
            used: Family::default(),
            attempts: Counter::default(),
            lost_attempts: Counter::default(),
            checkpoints: Counter::default(),
            fenced_calls: Counter::default(),
        };
        let has = ByResource::default();
        let Capacity { cpus, memory_bytes, gpus } = *capacity;
        set_resources(&has, &Resources { cpus, memory_bytes, gpus });
        metrics.register(
            "launcher_capacity",
            "Capacity for all jobs together: cpus, memory_bytes, gpus",
            has,
        );
        metrics.register("launcher_capacity_used", "Resources requested by running jobs", own.used.clone());
        metrics.register("launcher_jobs", "Jobs by status", own.jobs.clone());
        metrics.register("launcher_attempts_started", "Attempts started", own.attempts.clone());
        metrics.register(
            "launcher_attempts_lost",
            "Attempts lost with their agent",
            own.lost_attempts.clone(),
        );
        metrics.register("launcher_checkpoints_committed", "Checkpoints committed", own.checkpoints.clone());
        metrics.register("launcher_fenced_calls", "Calls of replaced attempts", own.fenced_calls.clone());
        own
    }

    /// Sets what running jobs ask for together.
    pub(crate) fn set_used(&self, used: &Resources) {
        set_resources(&self.used, used);
    }

    /// Sets the number of jobs in each status; a status that is not named has none.
    pub(crate) fn set_jobs(&self, counts: &[(String, i64)]) {
        self.jobs.clear();
        for (status, count) in counts {
            self.jobs.get_or_create(&StatusLabels { status: status.clone() }).set(*count);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory stay below 2^53")]
fn set_resources(family: &ByResource, values: &Resources) {
    let values = [
        ("cpus", values.cpus),
        ("memory_bytes", values.memory_bytes as f64),
        ("gpus", f64::from(values.gpus)),
    ];
    for (resource, value) in values {
        family.get_or_create(&ResourceLabels { resource: resource.to_owned() }).set(value);
    }
}
