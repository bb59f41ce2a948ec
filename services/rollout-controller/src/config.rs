//! Settings of the rollout controller.

use slipway_access::CheckConfig;
use slipway_event_bus::{NatsConfig, StreamSettings};
use slipway_http_server::ListenConfig;
use slipway_service_kit::db::PostgresConfig;
use slipway_service_kit::registry::RegistryToken;

use crate::operator::OperatorConfig;

/// Settings of the rollout controller.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Address to listen on [default port: 5020].
    #[command(flatten)]
    pub listen: ListenConfig,
    /// Deployments, rollouts and decisions.
    #[command(flatten)]
    pub postgres: PostgresConfig,
    /// Traffic tables, records, labels and events.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// Streams and buckets that do not exist yet.
    #[command(flatten)]
    pub streams: StreamSettings,
    /// Who may do what.
    #[command(flatten)]
    pub access: CheckConfig,
    /// URL of the registry, which stores versions and aliases.
    #[arg(long, env = "SLIPWAY_REGISTRY_URL", default_value = "http://127.0.0.1:5000", value_name = "URL")]
    pub registry_url: String,
    /// Maximum time that a command which changes traffic (kill switch, rules, rollback, promote, abort) waits
    /// for the serving replicas to follow, in milliseconds. The response lists those that have not.
    #[arg(long, env = "SLIPWAY_ACKNOWLEDGE_TIMEOUT_MS", default_value_t = 3_000, value_name = "MS")]
    pub acknowledge_timeout_ms: u64,
    /// Token with which it authenticates to the registry.
    #[command(flatten)]
    pub registry_token: RegistryToken,
    /// ModelDeployments.
    #[command(flatten)]
    pub operator: OperatorConfig,
}
