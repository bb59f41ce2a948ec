//! Arguments of `slipway up`.

use clap::Args;
use slipway_event_bus::StreamSettings;
use slipway_registry::Switch;
use slipway_telemetry::LogFormat;
use slipway_toolbox::DEFAULT_ACCOUNT;

use super::ports;

/// Arguments of `slipway up`.
#[derive(Debug, Clone, Args)]
pub struct UpOptions {
    /// Ports of the services: standard ports (5000, 8000, …) or free ones.
    #[arg(long, value_enum, default_value = "default")]
    pub(crate) ports: ports::Choice,
    /// Runs in the background; returns when every part is ready.
    #[arg(long)]
    pub(crate) detach: bool,
    /// URL of an existing Postgres [default: a private one].
    #[arg(long, env = "SLIPWAY_POSTGRES_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) postgres_url: Option<String>,
    /// URL of an existing NATS server with JetStream [default: a private one].
    #[arg(long, env = "SLIPWAY_NATS_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) nats_url: Option<String>,
    /// Streams and buckets of the private NATS server that do not exist yet.
    #[command(flatten)]
    pub(crate) streams: StreamSettings,
    /// URL of an existing S3 endpoint [default: a private one]. Its keys are read from SLIPWAY_S3_ACCESS_KEY
    /// and SLIPWAY_S3_SECRET_KEY.
    #[arg(long, env = "SLIPWAY_S3_ENDPOINT", value_name = "URL")]
    pub(crate) s3_endpoint: Option<String>,
    /// S3 bucket of all artifacts.
    #[arg(long, env = "SLIPWAY_S3_BUCKET", value_name = "NAME", default_value = "slipway")]
    pub(crate) s3_bucket: String,
    /// Restores a backup before the services start: a folder, or s3://BUCKET/PREFIX. The platform has to be
    /// new.
    #[arg(long, value_name = "PLACE")]
    pub(crate) restore: Option<String>,
    /// OTLP/gRPC endpoint for the traces of all services [default: no traces].
    #[arg(long, env = "SLIPWAY_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
    /// Access control of the registry: whether callers require a token and roles.
    #[arg(long, env = "SLIPWAY_AUTH", value_enum, default_value = "off")]
    pub(crate) auth: Switch,
    /// System account that Postgres, NATS and S3 run as if root starts the platform. [default: slipway,
    /// created if it does not exist]
    #[arg(long, env = "SLIPWAY_SERVERS_RUN_AS", default_value = DEFAULT_ACCOUNT, hide_default_value = true,
          value_name = "NAME")]
    pub(crate) run_as: String,
    /// Log filter of the services, e.g. info or slipway_registry=debug,info.
    #[arg(long, env = "SLIPWAY_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
    /// Log format of the services.
    #[arg(long, env = "SLIPWAY_LOG_FORMAT", default_value = "text", value_enum)]
    pub(crate) log_format: LogFormat,
}
