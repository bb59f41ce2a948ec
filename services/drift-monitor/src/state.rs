//! What the parts of the service share.

use std::sync::Arc;

use slipway_api::proto::launcher::launcher_client::LauncherClient;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::rollout::rollout_controller_client::RolloutControllerClient;
use slipway_event_bus::EventBus;
use slipway_grpc_client::TracedChannel;
use slipway_outbox::Outbox;
use sqlx::PgPool;
use tokio::sync::{Notify, watch};

use crate::metrics::DriftMetrics;

/// Connections and signals. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
    pub(crate) bus: EventBus,
    pub(crate) outbox: Outbox,
    pub(crate) registry: RegistryClient<TracedChannel>,
    pub(crate) rollouts: RolloutControllerClient<TracedChannel>,
    pub(crate) launcher: LauncherClient<TracedChannel>,
    /// Notified when monitors are created, changed or deleted, or their baselines are in doubt.
    pub(crate) changes: watch::Sender<u64>,
    /// The same for what this replica has changed itself.
    pub(crate) own_changes: watch::Sender<u64>,
    /// Notified when actions are added.
    pub(crate) actions_due: Arc<Notify>,
    pub(crate) metrics: DriftMetrics,
}

impl State {
    /// Wakes everything that looks at monitors: something was committed.
    pub(crate) fn monitors_changed(&self) {
        count(&self.changes);
        count(&self.own_changes);
        self.outbox.wake();
    }
}

pub(crate) fn count(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count = count.wrapping_add(1));
}
