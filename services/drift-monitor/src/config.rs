//! Settings of the drift monitor.

use slipway_access::CheckConfig;
use slipway_event_bus::{NatsConfig, StreamSettings};
use slipway_http_server::ListenConfig;
use slipway_service_kit::db::PostgresConfig;
use slipway_service_kit::registry::RegistryToken;

/// Settings of the drift monitor.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address to listen on [default port: 5030].
    #[command(flatten)]
    pub listen: ListenConfig,
    /// Monitors, windows and verdicts.
    #[command(flatten)]
    pub postgres: PostgresConfig,
    /// Prediction records and events.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// Streams and buckets that do not exist yet.
    #[command(flatten)]
    pub streams: StreamSettings,
    /// Who may do what.
    #[command(flatten)]
    pub access: CheckConfig,
    /// URL of the registry, which has the training profiles.
    #[arg(
        long,
        env = "SLIPWAY_REGISTRY_URL",
        default_value = "http://127.0.0.1:5000",
        help_heading = "Other services"
    )]
    pub registry_url: String,
    /// Token with which it authenticates to the registry.
    #[command(flatten)]
    pub registry_token: RegistryToken,
    /// URL of the launcher, which runs the jobs that policies submit.
    #[arg(
        long,
        env = "SLIPWAY_LAUNCHER_URL",
        default_value = "http://127.0.0.1:5010",
        help_heading = "Other services"
    )]
    pub launcher_url: String,
    /// URL of the rollout controller: stable versions, and rollouts that policies pause.
    #[arg(
        long,
        env = "SLIPWAY_ROLLOUT_CONTROLLER_URL",
        default_value = "http://127.0.0.1:5020",
        help_heading = "Other services"
    )]
    pub rollout_controller_url: String,
}
