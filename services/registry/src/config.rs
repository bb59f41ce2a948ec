//! Settings of the registry.

use slipway_artifact_store::S3Config;
use slipway_event_bus::{NatsConfig, StreamSettings};
use slipway_http_server::ListenConfig;
use slipway_service_kit::db::PostgresConfig;

use crate::access::AccessConfig;
use crate::cleanup::retention::RetentionConfig;
use crate::imports::ImportConfig;
use crate::webhooks::WebhookConfig;

/// Settings of the registry.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Where it listens; port 5000 by default.
    #[command(flatten)]
    pub listen: ListenConfig,
    /// Its facts.
    #[command(flatten)]
    pub postgres: PostgresConfig,
    /// Its events.
    #[command(flatten)]
    pub nats: NatsConfig,
    /// Streams and buckets that do not exist yet.
    #[command(flatten)]
    pub streams: StreamSettings,
    /// Its bytes.
    #[command(flatten)]
    pub s3: S3Config,
    /// Public URL of the artifact store. If set, clients that support it transfer large files directly, using
    /// presigned URLs. [default: all data passes through the registry]
    #[arg(long, env = "SLIPWAY_S3_PUBLIC_ENDPOINT", value_name = "URL")]
    pub s3_public_endpoint: Option<String>,
    /// Globals that pickles of a model may import in addition to plain data and the classes of ordinary
    /// scikit-learn, XGBoost and LightGBM models, e.g. `my_package.models.MyEstimator`. A version that
    /// imports others is not served. [default: none]
    #[arg(long, env = "SLIPWAY_ALLOWED_PICKLE_GLOBALS", value_delimiter = ',', value_name = "MODULE.NAME")]
    pub allowed_globals: Vec<String>,
    /// How webhooks are called.
    #[command(flatten)]
    pub webhooks: WebhookConfig,
    /// Who may do what.
    #[command(flatten)]
    pub access: AccessConfig,
    /// Addresses from which models may be imported.
    #[command(flatten)]
    pub imports: ImportConfig,
    /// How often retention rules are applied.
    #[command(flatten)]
    pub retention: RetentionConfig,
}
