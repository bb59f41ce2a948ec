//! What every handler and task of the service shares.

use std::sync::{Arc, PoisonError, RwLock};

use slipway_access::Places;
use slipway_artifact_store::ArtifactStore;
use slipway_domain::training::{Capacity, Lease, Owner};
use slipway_outbox::Outbox;
use slipway_service_kit::metrics::Metrics;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::Backend;
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
    /// What the own node has for jobs.
    pub(crate) machine: Arc<Machine>,
    /// Where this launcher runs jobs.
    pub(crate) backend: Arc<dyn Backend>,
    /// This launcher, as the owner of attempts.
    pub(crate) own: Arc<Owner>,
    /// Of every attempt.
    pub(crate) lease: Lease,
    /// Where agents reach this launcher and the others.
    launcher_urls: Arc<RwLock<Vec<String>>>,
    /// Wakes the reconciler.
    pub(crate) wake: Arc<Notify>,
    /// Tells the collector that retention has released checkpoints.
    pub(crate) released: Arc<Notify>,
    pub(crate) hang_up: CancellationToken,
    /// Log followers: each ends with its client or the shutdown.
    pub(crate) followers: TaskTracker,
    /// Limits the number of log followers.
    pub(crate) log_readers: Places,
    /// For the jobs' MLFLOW_TRACKING_URI.
    pub(crate) registry_url: Arc<str>,
}

impl State {
    #[expect(clippy::too_many_arguments, reason = "each is another part of the service")]
    pub(crate) fn new(
        pool: PgPool,
        outbox: Outbox,
        store: ArtifactStore,
        logs: Logs,
        hang_up: CancellationToken,
        metrics: &Metrics,
        jobs: &JobsConfig,
        own: Owner,
        backend: Arc<dyn Backend>,
    ) -> Self {
        let machine = Machine::of(backend.kind(), jobs);
        let Capacity { cpus, memory_bytes, gpus } = machine.capacity;
        tracing::info!(cpus, memory_bytes, gpus, "capacity for jobs");
        Self {
            pool,
            outbox,
            store,
            logs,
            metrics: LauncherMetrics::register(metrics, &machine.capacity),
            machine: Arc::new(machine),
            backend,
            own: Arc::new(own),
            lease: Lease::of_ms(jobs.lease_ms),
            launcher_urls: Arc::default(),
            wake: Arc::new(Notify::new()),
            released: Arc::new(Notify::new()),
            hang_up,
            followers: TaskTracker::new(),
            log_readers: Places::new(MAX_LOG_READERS),
            registry_url: jobs.registry_url.as_str().into(),
        }
    }

    /// Where agents reach launchers, this one first.
    pub(crate) fn launcher_urls(&self) -> Vec<String> {
        self.launcher_urls.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets what [`Self::launcher_urls`] answers.
    pub(crate) fn set_launcher_urls(&self, urls: Vec<String>) {
        *self.launcher_urls.write().unwrap_or_else(PoisonError::into_inner) = urls;
    }

    /// Tells the relay and the reconciler that something was committed.
    pub(crate) fn committed(&self) {
        self.outbox.wake();
        self.wake.notify_one();
    }
}
