//! The drift monitor: compares live predictions with the training data, detects drift, and acts on it.
//!
//! A monitor watches one deployment. Its baseline is the training profile of a model version; the
//! deployment's prediction records are read once for all of its monitors and gathered in windows; each closed
//! window is scored, and the policy turns scores into "detected" and "cleared". A window, its verdict, the
//! events, the actions and the position in the record stream commit together, so a restart counts nothing
//! twice and skips nothing.

mod actions;
mod api;
mod baseline;
mod close;
mod config;
mod evidence;
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
use slipway_api::proto::launcher::launcher_client::LauncherClient;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::rollout::rollout_controller_client::RolloutControllerClient;
use slipway_event_bus::EventBus;
use slipway_http_server::server;
use slipway_outbox::{Outbox, Relay};
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::registry::{registry_channel, service_channel};
use slipway_service_kit::{Tasks, db};
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
    let readiness = Readiness::default();
    readiness.waiting("nats", "connecting");
    let listener = config.listen.open(DEFAULT_PORT).await?;
    let migrators = [&MIGRATOR, &slipway_outbox::migrator()];
    let pool = db::connect(&config.postgres, "drift_monitor", &migrators, &shutdown).await?;
    let bus = EventBus::connect(&config.nats, "slipway-drift-monitor").await?;
    let metrics = Metrics::new();
    let access = AccessControl::new("drift-monitor", &config.access, &ACCESS_RULES, &metrics)
        .resolving(api::access::Models(pool.clone()));
    let token = &config.registry_token;
    let state = State {
        registry: RegistryClient::new(registry_channel(&config.registry_url, token)?)
            .max_decoding_message_size(MAX_PROFILE_BYTES as usize + MAX_ANSWER_OVERHEAD_BYTES),
        rollouts: RolloutControllerClient::new(service_channel(&config.rollout_controller_url, token)?),
        launcher: LauncherClient::new(service_channel(&config.launcher_url, token)?)
            .max_decoding_message_size(MAX_JOB_BYTES),
        outbox: Outbox::default(),
        changes: watch::Sender::new(0),
        actions_due: Arc::new(Notify::new()),
        metrics: DriftMetrics::register(&metrics),
        pool,
        bus,
    };
    let mut tasks = spawn_tasks(&state, &readiness, &shutdown);
    let routes = server::add_grpc(
        api::rest::router(state.clone()),
        DriftMonitorServer::new(api::grpc::Service::new(state.clone())),
    );
    let routes = access.protect(routes, &state.bus, &mut tasks, &readiness, &shutdown);
    server::serve(listener, routes, readiness, metrics, shutdown).await;
    tasks.wait().await
}

fn spawn_tasks(state: &State, readiness: &Readiness, shutdown: &CancellationToken) -> Tasks {
    let mut tasks = Tasks::new(shutdown.clone());
    let relay =
        Relay::new(state.pool.clone(), state.bus.clone(), state.outbox.clone(), "slipway/drift-monitor");
    tasks.spawn("relay", relay.run(shutdown.clone()));
    tasks.spawn("actions", actions::run(state.clone(), shutdown.clone()));
    tasks.spawn("streams", {
        let (state, readiness, shutdown) = (state.clone(), readiness.clone(), shutdown.clone());
        async move {
            if state.bus.wait_for_resources(&shutdown).await {
                readiness.ready("nats");
                tokio::join!(
                    reconcile::run(state.clone(), shutdown.clone()),
                    baseline::run(state.clone(), shutdown.clone()),
                    rename::run(state.clone(), shutdown.clone()),
                    promotions::run(state, shutdown)
                );
            }
        }
    });
    tasks
}
