//! What answers predictions.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::metrics::ServingMetrics;
use crate::models::routing::Routing;
use crate::records::Recorder;

/// Copies that run at the same time; more are dropped, so that shadows never take the machine from clients.
pub(super) const MAX_SHADOWS: usize = 64;

/// Answers predictions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Predictor {
    /// Current routes.
    pub routing: Arc<Routing>,
    pub(super) recorder: Recorder,
    pub(super) metrics: ServingMetrics,
    pub(super) shadow_permits: Arc<Semaphore>,
    pub(super) shadow_tasks: TaskTracker,
}

impl Predictor {
    /// A predictor over `routing`.
    pub(crate) fn new(routing: Arc<Routing>, recorder: Recorder, metrics: ServingMetrics) -> Self {
        let shadow_permits = Arc::new(Semaphore::new(MAX_SHADOWS));
        Self { routing, recorder, metrics, shadow_permits, shadow_tasks: TaskTracker::new() }
    }
}
