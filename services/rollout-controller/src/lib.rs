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
mod copies;
mod drills;
mod facts;
mod manage;
mod metrics;
mod operator;
mod overrides;
mod reconcile;
mod rename;
mod replay;
mod replicas;
mod state;
mod store;
mod traffic_publisher;
mod update;

pub use api::access::RULES as ACCESS_RULES;
pub use config::Config;
pub use operator::{CustomMetricsConfig, OperatorConfig};

use std::sync::Arc;
use std::time::Duration;

use slipway_access::AccessControl;
use slipway_api::proto::drift::monitors_client::MonitorsClient;
use slipway_api::proto::registry::imports_client::ImportsClient;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::rollout::rollout_controller_server::RolloutControllerServer;
use slipway_event_bus::EventBus;
use slipway_grpc_client::TracedChannel;
use slipway_http_server::{Grpc, server};
use slipway_lease::Lease;
use slipway_outbox::{Outbox, Relay};
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::registry::{registry_channel, service_channel};
use slipway_service_kit::{Drain, Tasks, db};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::replicas::load::LoadMetrics;
use crate::state::State;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/rollout_controller");

/// Standard port of the REST and gRPC API.
pub const DEFAULT_PORT: u16 = 5020;
/// The registry describes versions with all their files.
const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// The services that this one calls.
struct Peers {
    registry: RegistryClient<TracedChannel>,
    imports: ImportsClient<TracedChannel>,
    monitors: Option<MonitorsClient<TracedChannel>>,
}

impl Peers {
    fn of(config: &Config) -> anyhow::Result<Self> {
        let token = config.registry_token.resolve()?;
        let channel = registry_channel(&config.registry_url, &token)?;
        let drift_monitor = config.operator.drift_monitor_url.as_ref().filter(|url| !url.is_empty());
        let monitors = drift_monitor.map(|url| service_channel(url, &token)).transpose()?;
        Ok(Self {
            imports: ImportsClient::new(channel.clone()),
            registry: RegistryClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES),
            monitors: monitors.map(MonitorsClient::new),
        })
    }
}

/// Runs the service until `shutdown`.
///
/// # Errors
/// The port is taken, a setting is wrong, a migration fails, or a background task ended early.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let drain = Drain::new(shutdown.clone());
    let readiness = Readiness::default();
    readiness.waiting("postgres", "not connected yet");
    readiness.waiting("nats", "not connected yet");
    let listener = config.listen.open(DEFAULT_PORT).await?;
    let Peers { registry, imports, monitors } = Peers::of(&config)?;
    let migrators = [&MIGRATOR, &slipway_outbox::migrator(), &slipway_lease::migrator()];
    let pool = db::connect(&config.postgres, "rollout_controller", &migrators, &shutdown).await?;
    readiness.ready("postgres");
    let cluster = operator::connect(&config.operator).await?;
    let bus = EventBus::connect(&config.nats, "slipway-rollout-controller")
        .await?
        .with_streams(config.streams.clone());
    let metrics = Metrics::new();
    let access = AccessControl::new("rollout-controller", &config.access, &ACCESS_RULES, &metrics);
    let copies = copies::Copies::default();
    let state = State {
        pool: pool.clone(),
        bus: bus.clone(),
        outbox: Outbox::default(),
        registry,
        imports,
        deliveries: None,
        monitors,
        replicas: replicas::Replicas::of(copies.clone()),
        copies: copies.clone(),
        facts: facts::Facts::default(),
        wake: Arc::new(Notify::new()),
        replays: replay::Replays::default(),
        metrics: metrics::RolloutMetrics::register(&metrics),
        acknowledge_timeout: Duration::from_millis(config.acknowledge_timeout_ms),
    };

    let mut tasks = Tasks::new(shutdown.clone());
    let lease = Lease::new(pool.clone(), &metrics);
    tasks.spawn("lease", lease.clone().compete(shutdown.clone()));
    let outbox = state.outbox.clone();
    let relay = Relay::new(pool, bus.clone(), outbox, "slipway/rollout-controller", lease.clone());
    relay.start(&mut tasks, &metrics, &readiness, &drain);
    let (heard, wake) = (state.replicas.clone(), Arc::clone(&state.wake));
    let watch = replicas::listen_for_reports(bus.clone(), heard, wake, drain.over().clone());
    tasks.spawn("replicas", watch);
    tasks.spawn("traffic-tables", copies::watch(bus.clone(), copies, drain.over().clone()));
    let (controlled, ended) = (state.clone(), shutdown.clone());
    let control = move |_| control(controlled.clone(), ended.clone());
    tasks.spawn("control", lease.clone().lead(shutdown.clone(), control));
    metrics.collect(LoadMetrics { loads: state.replicas.loads.clone(), copies: state.copies.clone() });
    operator::start(&mut tasks, &config.operator, cluster, &state, &lease, &shutdown).await?;
    let listening = listen(bus.clone(), state.clone(), lease, readiness.clone(), shutdown.clone());
    tasks.spawn("events", listening);

    let access = access.resolving(api::access::Models(state.pool.clone()));
    let asked = RolloutControllerServer::new(api::grpc::Service::new(state.clone()));
    let routes = Grpc::beside(api::rest::router(state)).with(asked).reflected(&[slipway_api::DESCRIPTORS])?;
    let routes = routes.layer(axum::middleware::from_fn(actor::acting));
    let routes = access.protect(routes, &bus, &mut tasks, &readiness, &drain);
    server::serve(listener, routes, readiness, metrics, drain).await;
    tasks.wait().await
}

/// Moves rollouts while this replica leads, until the shutdown. What it does is fenced, so it may be dropped
/// anywhere.
async fn control(state: State, shutdown: CancellationToken) {
    let controlling = Box::pin(reconcile::run(state));
    shutdown.run_until_cancelled_owned(controlling).await.unwrap_or_default();
}

/// Makes streams and buckets, then follows aliases and models while this replica leads, until the shutdown:
/// one that hangs takes no events.
async fn listen(
    bus: EventBus,
    state: State,
    lease: Lease,
    readiness: Readiness,
    shutdown: CancellationToken,
) {
    if !bus.prepare(&shutdown, |error| readiness.waiting("nats", error.to_string())).await {
        return;
    }
    readiness.ready("nats");
    let ended = shutdown.clone();
    let following = move |_| {
        let (bus, state, shutdown) = (bus.clone(), state.clone(), ended.clone());
        async move {
            let models = rename::run(bus.clone(), state.clone(), shutdown.clone());
            let identities = rename::identify(state.clone(), shutdown.clone());
            tokio::join!(Box::pin(alias::run(bus, state, shutdown)), Box::pin(models), Box::pin(identities));
        }
    };
    lease.lead(shutdown, following).await;
}
