//! The drift monitor: compares live predictions with the training data, detects drift, and acts on it.
//!
//! A monitor watches one deployment. Its baseline is the training profile of a model version; the
//! deployment's prediction records are read once for all of its monitors and gathered in windows; each closed
//! window is scored, and the policy turns scores into "detected" and "cleared". A window, its verdict, the
//! events, the actions and the position in the record stream commit together, so a restart counts nothing
//! twice and skips nothing. Deployments are divided among the replicas, each to one at a time.

mod actions;
mod api;
mod baseline;
mod close;
mod config;
mod evidence;
mod hints;
mod layout;
mod manage;
mod metrics;
mod promotions;
mod reader;
mod received;
mod reconcile;
mod rename;
mod rows;
mod spec;
mod state;
mod store;
mod template;
mod watcher;

use std::sync::Arc;

use slipway_access::AccessControl;
use slipway_api::MAX_PROFILE_BYTES;
use slipway_api::proto::drift::drift_monitor_server::DriftMonitorServer;
use slipway_api::proto::drift::monitors_server::MonitorsServer;
use slipway_api::proto::launcher::launcher_client::LauncherClient;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::rollout::rollout_controller_client::RolloutControllerClient;
use slipway_event_bus::EventBus;
use slipway_http_server::{Grpc, server};
use slipway_lease::{Lease, Partitions};
use slipway_outbox::{Outbox, Relay};
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::registry::{registry_channel, service_channel};
use slipway_service_kit::{Drain, Tasks, db};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use crate::api::access::RULES as ACCESS_RULES;
pub use crate::config::Config;
use crate::metrics::DriftMetrics;
pub use crate::spec::{ActionKind, ActionSpec, MonitorSpec, WindowSpec};
use crate::state::State;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/drift_monitor");

/// Standard port of the REST and gRPC API.
pub const DEFAULT_PORT: u16 = 5030;
/// Size of a response in addition to the profile.
const MAX_ANSWER_OVERHEAD_BYTES: usize = 64 * 1024;
/// The launcher answers with the job, its files included.
const MAX_JOB_BYTES: usize = 32 * 1024 * 1024;

/// Runs the service until `shutdown`.
///
/// # Errors
/// The port is taken, a setting is wrong, a migration fails, or a background task dies.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let drain = Drain::new(shutdown.clone());
    let readiness = Readiness::default();
    readiness.waiting("nats", "connecting");
    let listener = config.listen.open(DEFAULT_PORT).await?;
    let migrators = [&MIGRATOR, &slipway_outbox::migrator(), &slipway_lease::migrator()];
    let mut postgres = config.postgres.clone();
    // Without the one of its partitions.
    postgres.postgres_max_connections = postgres.postgres_max_connections.saturating_sub(1).max(2);
    let pool = db::connect(&postgres, "drift_monitor", &migrators, &shutdown).await?;
    let bus =
        EventBus::connect(&config.nats, "slipway-drift-monitor").await?.with_streams(config.streams.clone());
    let metrics = Metrics::new();
    let access = AccessControl::new("drift-monitor", &config.access, &ACCESS_RULES, &metrics)
        .resolving(api::access::Models(pool.clone()));
    let token = &config.registry_token.resolve()?;
    let state = State {
        registry: RegistryClient::new(registry_channel(&config.registry_url, token)?)
            .max_decoding_message_size(MAX_PROFILE_BYTES as usize + MAX_ANSWER_OVERHEAD_BYTES),
        rollouts: RolloutControllerClient::new(service_channel(&config.rollout_controller_url, token)?),
        launcher: LauncherClient::new(service_channel(&config.launcher_url, token)?)
            .max_decoding_message_size(MAX_JOB_BYTES),
        outbox: Outbox::default(),
        changes: watch::Sender::new(0),
        own_changes: watch::Sender::new(0),
        actions_due: Arc::new(Notify::new()),
        metrics: DriftMetrics::register(&metrics),
        pool,
        bus,
    };
    let mut tasks = spawn_tasks(&state, &metrics, &readiness, &drain);
    let service = api::grpc::Service::new(state.clone());
    let (asked, told) = (DriftMonitorServer::new(service.clone()), MonitorsServer::new(service));
    let routes = Grpc::beside(api::rest::router(state.clone())).with(asked).with(told);
    let routes = routes.reflected(&[slipway_api::DESCRIPTORS])?;
    let routes = access.protect(routes, &state.bus, &mut tasks, &readiness, &drain);
    server::serve(listener, routes, readiness, metrics, drain).await;
    tasks.wait().await
}

fn spawn_tasks(state: &State, metrics: &Metrics, readiness: &Readiness, drain: &Drain) -> Tasks {
    let shutdown = drain.begun();
    let mut tasks = Tasks::new(shutdown.clone());
    let lease = Lease::new(state.pool.clone(), metrics);
    tasks.spawn("lease", lease.clone().compete(shutdown.clone()));
    let (pool, bus, outbox) = (state.pool.clone(), state.bus.clone(), state.outbox.clone());
    let relay = Relay::new(pool, bus, outbox, "slipway/drift-monitor", lease.clone());
    relay.start(&mut tasks, metrics, readiness, drain);
    let (acting, ended) = (state.clone(), shutdown.clone());
    let act = move |_| actions::run(acting.clone(), ended.clone());
    tasks.spawn("actions", lease.clone().lead(shutdown.clone(), act));
    tasks.spawn("hints", hints::run(state.clone(), drain.over().clone()));
    let partitions = Partitions::new(state.pool.clone(), metrics, reconcile::PARTITIONS);
    tasks.spawn("streams", streams(state.clone(), lease, partitions, readiness.clone(), shutdown.clone()));
    tasks
}

/// Makes the streams. Then it reads the records of its partitions, and events while it leads: a replica that
/// hangs takes neither.
async fn streams(
    state: State,
    lease: Lease,
    partitions: Partitions,
    readiness: Readiness,
    shutdown: CancellationToken,
) {
    let bus = state.bus.clone();
    if !bus.prepare(&shutdown, |error| readiness.waiting("nats", error.to_string())).await {
        return;
    }
    readiness.ready("nats");
    let (leading, ended) = (state.clone(), shutdown.clone());
    let following = move |_| {
        let (state, shutdown) = (leading.clone(), ended.clone());
        async move {
            tokio::join!(
                shutdown.run_until_cancelled(hear(&state)),
                Box::pin(reconcile::count(state.clone(), shutdown.clone())),
                Box::pin(baseline::run(state.clone(), shutdown.clone())),
                Box::pin(rename::run(state.clone(), shutdown.clone())),
                Box::pin(promotions::run(state.clone(), shutdown.clone()))
            );
        }
    };
    tokio::join!(
        lease.lead(shutdown.clone(), following),
        partitions.clone().compete(shutdown.clone()),
        reconcile::run(state, partitions, shutdown)
    );
}

/// Passes on that another replica has added actions.
async fn hear(state: &State) {
    let mut elsewhere = state.outbox.commits_elsewhere();
    while elsewhere.changed().await.is_ok() {
        state.actions_due.notify_one();
    }
}
