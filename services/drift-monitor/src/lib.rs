//! slipway-drift-monitor: compares live predictions with the training data, says when they part, and acts on it.
//!
//! A monitor watches one deployment. Its baseline is the training profile of a model version; the deployment's prediction records
//! are read once for all of its monitors and gathered in windows; each closed window is scored, and the policy turns scores into "detected" and "cleared". A window, its verdict,
//! the events, the actions and the place in the record stream commit together, so a restart counts nothing twice and skips
//! nothing.

mod actions;
mod api;
mod baseline;
mod close;
mod evidence;
mod layout;
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

use slipway_api::MAX_PROFILE_BYTES;
use slipway_api::proto::drift::drift_monitor_server::DriftMonitorServer;
use slipway_api::proto::launcher::launcher_client::LauncherClient;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_api::proto::rollout::rollout_controller_client::RolloutControllerClient;
use slipway_event_bus::{EventBus, NatsConfig, Outbox, Relay};
use slipway_service_kit::db::{self, PostgresConfig};
use slipway_service_kit::grpc::{RegistryToken, channel, registry_channel};
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::{ListenConfig, Tasks, server};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::state::App;
use crate::metrics::DriftMetrics;
pub use crate::spec::{ActionKind, ActionSpec, MonitorSpec, WindowSpec};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/drift_monitor");

const DEFAULT_PORT: u16 = 5030;
/// What an answer holds beside the profile.
const MAX_ANSWER_OVERHEAD_BYTES: usize = 64 * 1024;
/// The launcher answers with the job, its files included.
const MAX_JOB_BYTES: usize = 32 * 1024 * 1024;

/// Settings of the drift monitor.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where it listens.
    #[command(flatten)]
    pub listen: ListenConfig,
    /// Where monitors, windows and verdicts are kept.
    #[command(flatten)]
    pub postgres: PostgresConfig,
    /// Where prediction records come from and events go.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// The registry: training profiles.
    #[arg(
        long,
        env = "SLIPWAY_REGISTRY_URL",
        default_value = "http://127.0.0.1:5000",
        help_heading = "Other services"
    )]
    pub registry_url: String,
    /// How it shows the registry who it is.
    #[command(flatten)]
    pub registry_token: RegistryToken,
    /// The launcher: jobs that policies submit.
    #[arg(
        long,
        env = "SLIPWAY_LAUNCHER_URL",
        default_value = "http://127.0.0.1:5010",
        help_heading = "Other services"
    )]
    pub launcher_url: String,
    /// The rollout controller: stable versions, and rollouts that policies pause.
    #[arg(
        long,
        env = "SLIPWAY_ROLLOUT_CONTROLLER_URL",
        default_value = "http://127.0.0.1:5020",
        help_heading = "Other services"
    )]
    pub rollout_controller_url: String,
}

/// Runs the service until `shutdown`.
///
/// # Errors
/// The port is taken, a setting is wrong, a migration fails, or a background task dies.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    readiness.waiting("nats", "connecting");
    let listener = config.listen.open(DEFAULT_PORT).await?;
    let pool = db::connect(&config.postgres, "drift_monitor", &MIGRATOR, &shutdown).await?;
    let bus = EventBus::connect(&config.nats, "slipway-drift-monitor").await?;
    let metrics = Metrics::new();
    let app = App {
        registry: RegistryClient::new(registry_channel(&config.registry_url, &config.registry_token)?)
            .max_decoding_message_size(MAX_PROFILE_BYTES as usize + MAX_ANSWER_OVERHEAD_BYTES),
        rollouts: RolloutControllerClient::new(channel(&config.rollout_controller_url)?),
        launcher: LauncherClient::new(channel(&config.launcher_url)?)
            .max_decoding_message_size(MAX_JOB_BYTES),
        outbox: Outbox::default(),
        changes: watch::Sender::new(0),
        actions_due: Arc::new(Notify::new()),
        metrics: DriftMetrics::register(&metrics),
        pool,
        bus,
    };
    let tasks = spawn_tasks(&app, &readiness, &shutdown);
    let routes =
        server::add_grpc(api::rest::router(app.clone()), DriftMonitorServer::new(api::grpc::Service::new(app)));
    server::serve(listener, routes, readiness, metrics, shutdown).await;
    tasks.wait().await
}

fn spawn_tasks(app: &App, readiness: &Readiness, shutdown: &CancellationToken) -> Tasks {
    let mut tasks = Tasks::new(shutdown.clone());
    let relay = Relay::new(app.pool.clone(), app.bus.clone(), app.outbox.clone(), "slipway/drift-monitor");
    tasks.spawn("relay", relay.run(shutdown.clone()));
    tasks.spawn("actions", actions::run(app.clone(), shutdown.clone()));
    tasks.spawn("streams", {
        let (app, readiness, shutdown) = (app.clone(), readiness.clone(), shutdown.clone());
        async move {
            if app.bus.wait_for_resources(&shutdown).await {
                readiness.ready("nats");
                tokio::join!(
                    reconcile::run(app.clone(), shutdown.clone()),
                    baseline::run(app.clone(), shutdown.clone()),
                    rename::run(app.clone(), shutdown.clone()),
                    promotions::run(app, shutdown)
                );
            }
        }
    });
    tasks
}
