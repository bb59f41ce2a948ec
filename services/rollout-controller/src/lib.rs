//! The rollout controller: deployments, and how their versions take over.
//!
//! `slipway_domain::rollout` decides; [`change`] stores what was decided, [`traffic_publisher`] tells the
//! serving replicas, and [`reconcile`] keeps every rollout in progress moving. Whatever is killed when:
//! Postgres has the whole state, and the next round goes on from it.

mod acknowledge;
mod actor;
mod alias;
mod api;
mod change;
mod config;
mod facts;
mod manage;
mod metrics;
mod overrides;
mod reconcile;
mod rename;
mod replicas;
mod state;
mod store;
mod traffic_publisher;
mod update;

pub use api::access::RULES as ACCESS_RULES;
pub use config::Config;

use std::sync::Arc;
use std::time::Duration;

use slipway_access::AccessControl;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::rollout::rollout_controller_server::RolloutControllerServer;
use slipway_event_bus::EventBus;
use slipway_http_server::server;
use slipway_outbox::{Outbox, Relay};
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::registry::registry_channel;
use slipway_service_kit::{Tasks, db};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::state::State;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/rollout_controller");

/// Standard port of the REST and gRPC API.
pub const DEFAULT_PORT: u16 = 5020;
/// The registry describes versions with all their files.
const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// Runs the service until `shutdown`.
///
/// # Errors
/// The port is taken, a setting is wrong, a migration fails, or a background task ended early.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    readiness.waiting("postgres", "not connected yet");
    readiness.waiting("nats", "not connected yet");
    let listener = config.listen.open(DEFAULT_PORT).await?;
    let channel = registry_channel(&config.registry_url, &config.registry_token)?;
    let registry = RegistryClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let migrators = [&MIGRATOR, &slipway_outbox::migrator()];
    let pool = db::connect(&config.postgres, "rollout_controller", &migrators, &shutdown).await?;
    readiness.ready("postgres");
    let bus = EventBus::connect(&config.nats, "slipway-rollout-controller").await?;
    let metrics = Metrics::new();
    let access = AccessControl::new("rollout-controller", &config.access, &ACCESS_RULES, &metrics);
    let state = State {
        pool: pool.clone(),
        bus: bus.clone(),
        outbox: Outbox::default(),
        registry,
        replicas: replicas::Replicas::default(),
        facts: facts::Facts::default(),
        wake: Arc::new(Notify::new()),
        metrics: metrics::RolloutMetrics::register(&metrics),
        acknowledge_timeout: Duration::from_millis(config.acknowledge_timeout_ms),
    };

    let mut tasks = Tasks::new(shutdown.clone());
    let relay = Relay::new(pool, bus.clone(), state.outbox.clone(), "slipway/rollout-controller");
    tasks.spawn("relay", relay.run(shutdown.clone()));
    let watch = replicas::listen_for_reports(
        bus.clone(),
        state.replicas.clone(),
        Arc::clone(&state.wake),
        shutdown.clone(),
    );
    tasks.spawn("replicas", watch);
    tasks.spawn("control", reconcile::run(state.clone(), shutdown.clone()));
    tasks.spawn("events", listen(bus.clone(), state.clone(), readiness.clone(), shutdown.clone()));

    let access = access.resolving(api::access::Models(state.pool.clone()));
    let asked = RolloutControllerServer::new(api::grpc::Service::new(state.clone()));
    let routes = server::add_grpc(api::rest::router(state), asked);
    let routes = routes.layer(axum::middleware::from_fn(actor::acting));
    let routes = access.protect(routes, &bus, &mut tasks, &readiness, &shutdown);
    server::serve(listener, routes, readiness, metrics, shutdown).await;
    tasks.wait().await
}

/// Makes streams and buckets, then follows aliases until the shutdown.
async fn listen(bus: EventBus, state: State, readiness: Readiness, shutdown: CancellationToken) {
    if bus.wait_for_resources(&shutdown).await {
        readiness.ready("nats");
        let models = rename::run(bus.clone(), state.clone(), shutdown.clone());
        let identities = rename::identify(state.clone(), shutdown.clone());
        tokio::join!(Box::pin(alias::run(bus, state, shutdown)), Box::pin(models), Box::pin(identities));
    }
}
