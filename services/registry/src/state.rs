//! What every use case shares.

use std::sync::Arc;

use slipway_artifact_store::ArtifactStore;
use slipway_model_scan::Policy;
use sqlx::PgPool;
use tokio_util::task::TaskTracker;

use crate::access::authenticator::Access;
use crate::change::{Change, Changes};
use crate::error::Error;
use crate::events::Events;
use crate::imports::sources::Sources;
use crate::models::deployed::Following;
use crate::tracking::create_run::CreateRun;
use crate::tracking::group_commit::GroupCommit;
use crate::tracking::log_batch::LogBatch;
use crate::webhooks::Webhooks;

/// The registry's clients. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    /// Postgres, this service's schema.
    pub(crate) pool: PgPool,
    /// The bucket of all artifacts.
    pub(crate) artifacts: ArtifactStore,
    /// Clients transfer large files directly to and from the artifact store.
    pub(crate) direct_artifacts: bool,
    /// Opens transactions that change something.
    pub(crate) changes: Changes,
    /// What pickles of a model may import.
    pub(crate) scan_policy: Arc<Policy>,
    /// What runs log, many requests to a transaction.
    pub(crate) log: GroupCommit<LogBatch>,
    /// New runs, many requests to a transaction.
    pub(crate) new_runs: GroupCommit<CreateRun>,
    /// Uploads under way. They outlive their request, so that a client that goes away leaves nothing
    /// half-made.
    pub(crate) uploads: TaskTracker,
    /// Addresses from which models may be imported, and what reads them.
    pub(crate) imports: Sources,
    /// Who is called when something happens.
    pub(crate) webhooks: Webhooks,
    /// Who may do what.
    pub(crate) access: Access,
    /// How much is known of the versions that deployments use.
    pub(crate) following: Following,
    /// Limits and end of event streams.
    pub(crate) events: Events,
}

impl Registry {
    /// Begins a change.
    ///
    /// # Errors
    /// Postgres is unreachable.
    pub(crate) async fn change(&self) -> Result<Change, Error> {
        self.changes.begin().await
    }

    /// Has pending deliveries of webhooks made, by whichever replica leads.
    pub(crate) fn deliveries_changed(&self) {
        self.webhooks.wake.notify_one();
        self.changes.committed();
    }
}
