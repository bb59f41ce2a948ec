//! What every handler and task of the service shares.

use std::sync::Arc;

use slipway_artifact_store::ArtifactStore;
use slipway_domain::training::Capacity;
use slipway_outbox::Outbox;
use slipway_service_kit::metrics::Metrics;
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::capacity::Machine;
use crate::config::JobsConfig;
use crate::logs::Logs;
use crate::metrics::LauncherMetrics;

/// Clients that read logs at the same time; each costs a task and a queue of half a MiB.
const MAX_LOG_READERS: usize = 512;

/// Shared state. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
    pub(crate) outbox: Outbox,
    pub(crate) store: ArtifactStore,
    pub(crate) logs: Logs,
    pub(crate) metrics: LauncherMetrics,
    /// What there is for jobs.
    pub(crate) machine: Arc<Machine>,
    /// Wakes the reconciler.
    pub(crate) wake: Arc<Notify>,
    pub(crate) shutdown: CancellationToken,
    /// Log followers: each ends with its client or the shutdown.
    pub(crate) followers: TaskTracker,
    /// Limits the number of log followers.
    pub(crate) log_readers: Arc<Semaphore>,
    /// For the jobs' MLFLOW_TRACKING_URI.
    pub(crate) registry_url: Arc<str>,
}

impl State {
    pub(crate) fn new(
        pool: PgPool,
        outbox: Outbox,
        store: ArtifactStore,
        logs: Logs,
        shutdown: CancellationToken,
        metrics: &Metrics,
        jobs: &JobsConfig,
    ) -> Self {
        let machine = Machine::detect(jobs);
        let Capacity { cpus, memory_bytes, gpus } = machine.capacity;
        tracing::info!(cpus, memory_bytes, gpus, "capacity for jobs");
        Self {
            pool,
            outbox,
            store,
            logs,
            metrics: LauncherMetrics::register(metrics, &machine.capacity),
            machine: Arc::new(machine),
            wake: Arc::new(Notify::new()),
            shutdown,
            followers: TaskTracker::new(),
            log_readers: Arc::new(Semaphore::new(MAX_LOG_READERS)),
            registry_url: jobs.registry_url.as_str().into(),
        }
    }

    /// Tells the relay and the reconciler that something was committed.
    pub(crate) fn committed(&self) {
        self.outbox.wake();
        self.wake.notify_one();
    }
}
