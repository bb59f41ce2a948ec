//! What handlers and tasks share.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use slipway_api::events::AliasSet;
use slipway_api::proto::drift::monitors_client::MonitorsClient;
use slipway_api::proto::registry::imports_client::ImportsClient;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::registry::{GetModelVersionRequest, ModelVersion, ResolveAliasRequest};
use slipway_api::traffic::Target;
use slipway_event_bus::EventBus;
use slipway_grpc_client::TracedChannel;
use slipway_http_server::Problem;
use slipway_outbox::Outbox;
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::copies::Copies;
use crate::facts::Facts;
use crate::metrics::RolloutMetrics;
use crate::operator::Deliveries;
use crate::replay::Replays;
use crate::replicas::Replicas;

/// Shared state. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
    pub(crate) bus: EventBus,
    pub(crate) outbox: Outbox,
    pub(crate) registry: RegistryClient<TracedChannel>,
    /// Has the registry import models from elsewhere.
    pub(crate) imports: ImportsClient<TracedChannel>,
    /// Has Jobs of a cluster read what the registry cannot.
    pub(crate) deliveries: Option<Deliveries>,
    /// Makes the monitors of ModelDeployments, where there is a drift monitor.
    pub(crate) monitors: Option<MonitorsClient<TracedChannel>>,
    /// What the bucket of traffic tables has.
    pub(crate) copies: Copies,
    /// What serving replicas say.
    pub(crate) replicas: Replicas,
    /// What came of the requests since each step began.
    pub(crate) facts: Facts,
    /// Recorded requests that are sent for drills.
    pub(crate) replays: Replays,
    /// Wakes the control loop.
    pub(crate) wake: Arc<Notify>,
    pub(crate) metrics: RolloutMetrics,
    /// Longest wait of a command for the replicas to follow.
    pub(crate) acknowledge_timeout: Duration,
}

impl State {
    /// Tells the relay and the control loop that something was committed.
    pub(crate) fn committed(&self) {
        self.outbox.wake();
        self.wake.notify_one();
    }

    /// A version, pinned to its bytes. The registry keeps it from being deleted until the deployment's
    /// traffic table names it.
    ///
    /// # Errors
    /// It does not exist, cannot be served, or the registry is unavailable.
    pub(crate) async fn resolve_version(
        &self,
        deployment: &str,
        model: &str,
        version: &str,
    ) -> Result<Target, Problem> {
        let request = GetModelVersionRequest {
            model: model.to_owned(),
            version: version.to_owned(),
            for_deployment: deployment.to_owned(),
            digest: String::new(),
        };
        let found =
            self.registry.clone().get_model_version(request).await.map_err(Problem::from)?.into_inner();
        if found.model != model && !found.model.is_empty() {
            return Err(renamed(model, &found.model));
        }
        servable(found, "version")
    }

    /// The newest version with a manifest digest.
    ///
    /// # Errors
    /// As for [`Self::resolve_version`].
    pub(crate) async fn resolve_digest(
        &self,
        deployment: &str,
        model: &str,
        digest: &str,
    ) -> Result<Target, Problem> {
        let request = GetModelVersionRequest {
            model: model.to_owned(),
            version: String::new(),
            for_deployment: deployment.to_owned(),
            digest: digest.to_owned(),
        };
        let found = self.registry.clone().get_model_version(request).await.map_err(Problem::from)?;
        servable(found.into_inner(), "digest")
    }

    /// The version that an alias was pointed at; `None` where the alias has moved on since, which is news of
    /// its own.
    ///
    /// # Errors
    /// As for [`Self::resolve_version`].
    pub(crate) async fn resolve_move(
        &self,
        deployment: &str,
        moved: &AliasSet,
    ) -> Result<Option<Target>, Problem> {
        let request = GetModelVersionRequest {
            model: moved.model.clone(),
            version: moved.version.clone(),
            for_deployment: deployment.to_owned(),
            digest: String::new(),
        };
        let found = self.registry.clone().get_model_version(request).await.map_err(Problem::from)?;
        let found = found.into_inner();
        if !found.aliases.contains(&moved.alias) {
            return Ok(None);
        }
        servable(found, "version").map(Some)
    }

    /// The version that an alias points at now.
    ///
    /// # Errors
    /// As for [`Self::resolve_version`].
    pub(crate) async fn resolve_alias(
        &self,
        deployment: &str,
        model: &str,
        alias: &str,
    ) -> Result<Target, Problem> {
        let request = ResolveAliasRequest {
            model: model.to_owned(),
            alias: alias.to_owned(),
            for_deployment: deployment.to_owned(),
        };
        let found = self.registry.clone().resolve_alias(request).await.map_err(Problem::from)?;
        servable(found.into_inner(), "alias")
    }
}

fn renamed(from: &str, to: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "Not found",
        format!("the registered model `{from}` was renamed to `{to}`; use that name"),
    )
}

/// `field` is the one that named the version.
fn servable(found: ModelVersion, field: &str) -> Result<Target, Problem> {
    if found.servable {
        return Ok(Target { version: found.version, digest: found.digest });
    }
    let detail =
        format!("version {} of {} cannot be served: {}", found.version, found.model, found.unservable_reason);
    Err(Problem::invalid(field, detail))
}
