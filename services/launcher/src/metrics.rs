//! Prometheus metrics of the launcher.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use slipway_domain::training::{Capacity, Resources, Status};
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
    ended: Family<StatusLabels, Counter>,
    checkpoint_age: Gauge<f64, AtomicU64>,
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
            ended: Family::default(),
            checkpoint_age: Gauge::default(),
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
        // From the start: Prometheus does not see the increase of a series that begins with 1.
        for status in [Status::Succeeded, Status::Failed, Status::Cancelled] {
            own.ended.get_or_create(&StatusLabels { status: status.as_str().to_owned() }).inc_by(0);
        }
        metrics.register("launcher_jobs_ended", "Jobs that this replica ended, by status", own.ended.clone());
        let help =
            "Longest time since the last checkpoint of a running job that has made some; 0 without one";
        metrics.register("launcher_oldest_checkpoint_age_seconds", help, own.checkpoint_age.clone());
        own
    }

    /// Counts a job if this status ends it.
    pub(crate) fn changed(&self, status: Status) {
        if status.is_final() {
            self.ended.get_or_create(&StatusLabels { status: status.as_str().to_owned() }).inc();
        }
    }

    /// Sets the time since the last checkpoint of the running job that made one longest ago.
    pub(crate) fn set_checkpoint_age(&self, seconds: f64) {
        self.checkpoint_age.set(seconds);
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
