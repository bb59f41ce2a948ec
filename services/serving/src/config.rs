//! Settings.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as _, FromArgMatches as _};
use slipway_artifact_store::S3Config;
use slipway_event_bus::{NatsConfig, StreamSettings};
use slipway_http_server::{ListenConfig, TlsConfig};
use slipway_runtime::id;
use slipway_service_kit::registry::RegistryToken;
use slipway_telemetry::TelemetryConfig;

use crate::api::access::AccessConfig;
use crate::api::settings::Settings;
use crate::deliver::DeliverConfig;
use crate::models::Limits;
use crate::models::currency::Currency;
use crate::models::engine_config::{EngineConfig, LoadProbeConfig, at_least_one};
use crate::records::cloudevents::CloudEventsConfig;
use crate::source::RecordPolicy;
use crate::traffic::selection::Selection;

const DEFAULT_NATS_URL: &str = "nats://127.0.0.1:4222";
/// The version before the current one.
const DEFAULT_KEEP_VERSIONS: usize = 1;
const MAX_DRAIN_DELAY_MS: u64 = 300_000;
const DEFAULT_MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

const DEFAULT_TABLES_WAIT_MS: u64 = 10_000;
const MAX_TABLES_WAIT_MS: u64 = 3_600_000;

/// Standard port of the REST API, as in Triton and other servers of the Open Inference Protocol.
pub const DEFAULT_PORT: u16 = 8000;
/// Standard port of the gRPC API.
pub const DEFAULT_GRPC_PORT: u16 = 8001;
/// Standard port of the metrics.
pub const DEFAULT_METRICS_PORT: u16 = 8002;

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// Settings of serving.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Serving")]
pub struct Config {
    /// Address of the gRPC listener.
    #[arg(long, env = "SLIPWAY_LISTEN_GRPC", default_value_t = loopback(DEFAULT_GRPC_PORT),
          value_name = "HOST:PORT")]
    pub listen_grpc: SocketAddr,
    /// Address of the metrics listener. While access control is off, metrics are also served at /metrics
    /// of the REST address.
    #[arg(long, env = "SLIPWAY_LISTEN_METRICS", default_value_t = loopback(DEFAULT_METRICS_PORT),
          value_name = "HOST:PORT")]
    pub listen_metrics: SocketAddr,
    /// gRPC address of the registry.
    #[arg(long, env = "SLIPWAY_REGISTRY_URL", default_value = "http://127.0.0.1:5000", value_name = "URL")]
    pub registry_url: String,
    /// ONNX Runtime library (libonnxruntime.so), version 1.23 to 1.31.
    #[arg(long, env = "SLIPWAY_ONNXRUNTIME_LIB", value_name = "FILE")]
    pub onnxruntime_lib: PathBuf,
    /// Whether to accept a version of ONNX Runtime that Slipway is not tested with. If false, serving
    /// does not start with such a version.
    #[arg(long, env = "SLIPWAY_ONNXRUNTIME_UNTESTED", default_value_t = false, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub onnxruntime_untested: bool,
    /// Directory of the model cache and of the last known traffic tables. Replicas on one machine may
    /// share it.
    #[arg(long, env = "SLIPWAY_CACHE_DIR", default_value = ".slipway/serving-cache", value_name = "DIR")]
    pub cache_dir: PathBuf,
    /// Maximum size of the on-disk model cache, in bytes. When full, versions that no deployment
    /// references are evicted first, least recently used first; versions in use are never evicted.
    /// [default: unlimited]
    #[arg(long, env = "SLIPWAY_CACHE_LIMIT_BYTES", value_name = "BYTES")]
    pub cache_limit_bytes: Option<u64>,
    /// Maximum memory of loaded versions, in bytes; 0 means unlimited. Least recently used versions are
    /// unloaded, and loaded again by the next request for them.
    #[arg(long, env = "SLIPWAY_SERVING_MEMORY_LIMIT_BYTES", default_value_t = 0, value_name = "BYTES")]
    pub memory_limit_bytes: u64,
    /// Number of versions per deployment that stay loaded after they leave its traffic, so that a
    /// rollback does not load anything. They are the first to be unloaded when memory is short.
    #[arg(long, env = "SLIPWAY_SERVING_KEEP_VERSIONS", default_value_t = DEFAULT_KEEP_VERSIONS,
          value_name = "N")]
    pub keep_versions: usize,
    /// Model repository in the layout of Triton (`<model>/<version>/model.onnx`), used instead of the
    /// registry. It is scanned every second; the highest version that loads is served. Neither the
    /// registry nor NATS is required.
    #[arg(long, visible_alias = "model-repository", env = "SLIPWAY_SERVING_MODEL_DIR", value_name = "DIR")]
    pub model_dir: Option<PathBuf>,
    /// Whether a new replica becomes ready only once every deployment can be served. If false, a
    /// deployment whose version does not load returns 503, and the replica becomes ready for the others.
    #[arg(long, env = "SLIPWAY_SERVING_STRICT_READINESS", default_value_t = true,
          action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub strict_readiness: bool,
    /// Maximum time that a new replica, or one whose process stood still, waits for the current traffic
    /// tables before it answers, in milliseconds. After that, it answers by the last tables that it knows,
    /// and says so in /readyz, its metrics and its status.
    #[arg(long, env = "SLIPWAY_SERVING_TABLES_WAIT_MS", default_value_t = DEFAULT_TABLES_WAIT_MS,
          value_name = "MS", value_parser = clap::value_parser!(u64).range(..=MAX_TABLES_WAIT_MS))]
    pub tables_wait_ms: u64,
    /// The only deployments that this replica answers for, separated by commas. `ALIAS=NAME` answers for a
    /// deployment under a second name as well. `*=PREFIX*` alone makes it a replica of a pool: it answers for
    /// the deployments of this prefix that have scaled to zero, also without the prefix. [default: all that
    /// are not dedicated]
    #[arg(long, env = "SLIPWAY_SERVING_DEPLOYMENTS", value_delimiter = ',', value_name = "NAMES")]
    pub deployments: Vec<String>,
    /// The only version that this replica serves of its deployments, where each version has replicas of its
    /// own and something in front of them splits the traffic. [default: all versions of the traffic table]
    #[arg(long, env = "SLIPWAY_SERVING_ONLY_VERSION", value_name = "VERSION")]
    pub only_version: Option<String>,
    /// Whether to bring the versions of the current traffic tables into the cache directory and to end,
    /// instead of serving: for an init container, or before a node gets replicas.
    #[arg(long, env = "SLIPWAY_SERVING_PREFETCH", default_value_t = false, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub prefetch: bool,
    /// Share of requests that leave a prediction record, in percent, 0 to 100; that of a version's own
    /// settings counts where it is smaller.
    #[arg(
        long,
        env = "SLIPWAY_SERVING_RECORD_SAMPLE_PERCENT",
        default_value_t = 100.0,
        value_name = "PERCENT"
    )]
    pub record_sample_percent: f64,
    /// Tensors (`NAME`) and columns of them (`NAME[INDEX]`), separated by commas, that are recorded as null,
    /// in addition to those of a version's own settings. A version that does not have them is not served.
    /// [default: none]
    #[arg(long, env = "SLIPWAY_SERVING_RECORD_REDACT", value_delimiter = ',', value_name = "FIELDS")]
    pub record_redact: Vec<String>,
    /// Name of this replica in its status and in prediction records: letters, digits, `-` and `_`
    /// [default: a new one at each start]
    #[arg(long, env = "SLIPWAY_REPLICA_ID")]
    pub replica_id: Option<String>,
    /// Maximum size of the body of a prediction, compressed or decompressed, in bytes.
    #[arg(long, env = "SLIPWAY_SERVING_MAX_BODY_BYTES", default_value_t = DEFAULT_MAX_BODY_BYTES,
          value_name = "BYTES",
          value_parser = at_least_one("SLIPWAY_SERVING_MAX_BODY_BYTES"))]
    pub max_body_bytes: usize,
    /// The same as --drain-seconds, in milliseconds, for the settings of earlier releases. At most 300000
    /// [default: --drain-seconds]
    #[arg(long, env = "SLIPWAY_SERVING_DRAIN_DELAY_MS", value_name = "MS",
          value_parser = clap::value_parser!(u64).range(..=MAX_DRAIN_DELAY_MS))]
    pub drain_delay_ms: Option<u64>,
    // Groups come last: flags that follow one would be listed under its heading.
    /// How serving authenticates to the registry.
    #[command(flatten)]
    pub registry_token: RegistryToken,
    /// How versions are run; settings of a version take precedence.
    #[command(flatten)]
    pub engine: EngineConfig,
    /// How versions are loaded in a child process first.
    #[command(flatten)]
    pub load_probe: LoadProbeConfig,
    /// Access control.
    #[command(flatten)]
    pub access: AccessConfig,
    /// TLS of the REST and gRPC listeners.
    #[command(flatten)]
    pub tls: TlsConfig,
    /// What is delivered to the registry, instead of serving.
    #[command(flatten)]
    pub deliver: DeliverConfig,
    /// Destination of requests and answers as CloudEvents.
    #[command(flatten)]
    pub cloudevents: CloudEventsConfig,
    /// What the process logs and traces, which clients may query. If unset, it is read from the
    /// environment.
    #[arg(skip)]
    pub telemetry: Option<TelemetryConfig>,
    /// REST listener.
    #[command(flatten)]
    pub listen: ListenConfig,
    /// NATS.
    #[command(flatten)]
    pub nats: OptionalNats,
    /// Streams and buckets that do not exist yet.
    #[command(flatten)]
    pub streams: StreamSettings,
    /// Artifact store.
    #[command(flatten)]
    pub s3: S3Config,
}

/// Where NATS is, if there is one.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "NATS")]
pub struct OptionalNats {
    /// NATS server with JetStream, e.g. `nats://127.0.0.1:4222`, or several servers of a cluster, separated
    /// by commas; may contain credentials. With --model-dir and without an address, no connection is made,
    /// and no prediction records are published [default: nats://127.0.0.1:4222, none with --model-dir].
    #[arg(long, env = "SLIPWAY_NATS_URL", hide_env_values = true, value_name = "URL")]
    pub nats_url: Option<String>,
}

impl Config {
    /// Time for which serving continues to answer after SIGTERM.
    pub fn drain_delay(&self) -> Duration {
        self.drain_delay_ms.map_or(self.listen.drain_seconds, Duration::from_millis)
    }

    /// Where NATS is; `None` where it is not needed and not named.
    pub(crate) fn nats(&self) -> Option<NatsConfig> {
        let default = || self.model_dir.is_none().then(|| DEFAULT_NATS_URL.to_owned());
        self.nats.nats_url.clone().or_else(default).map(|nats_url| NatsConfig { nats_url })
    }

    /// Whether tables have to be waited for, and how long.
    pub(crate) fn currency(&self) -> Currency {
        match self.model_dir {
            Some(_) => Currency::default(),
            None => Currency::waiting(Duration::from_millis(self.tables_wait_ms)),
        }
    }

    /// The name of this replica.
    pub(crate) fn replica_id(&self) -> anyhow::Result<String> {
        let Some(id) = &self.replica_id else { return Ok(format!("serving-{}", id::random().simple())) };
        // It is part of a NATS subject, of which the dot separates the parts.
        let is_valid = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        anyhow::ensure!(
            !id.is_empty() && id.chars().all(is_valid),
            "the replica id `{id}` may have letters, digits, - and _ only (--replica-id)"
        );
        Ok(id.clone())
    }

    /// What versions may take.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            cache_bytes: self.cache_limit_bytes,
            memory_bytes: Some(self.memory_limit_bytes).filter(|bytes| *bytes > 0),
            keep_versions: self.keep_versions,
        }
    }

    /// What this replica answers for.
    ///
    /// # Errors
    /// An entry is none; names the setting.
    pub(crate) fn selection(&self) -> anyhow::Result<Selection> {
        Ok(Selection::parse(&self.deployments)?.of_version(self.only_version.as_deref()))
    }

    /// What is recorded.
    ///
    /// # Errors
    /// The share is none; names the setting.
    pub(crate) fn records(&self) -> anyhow::Result<RecordPolicy> {
        let redact = self.record_redact.iter().map(|field| field.trim().to_owned());
        let redact = redact.filter(|field| !field.is_empty()).collect();
        let policy = RecordPolicy { sample_percent: self.record_sample_percent, redact };
        let setting = "--record-sample-percent or SLIPWAY_SERVING_RECORD_SAMPLE_PERCENT";
        policy.checked().map_err(|refused| anyhow::anyhow!("{setting}: {refused}"))
    }

    /// What clients may look at and change.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        if let Some(telemetry) = &self.telemetry {
            return Ok(Settings::new(telemetry));
        }
        let environment = TelemetryConfig::augment_args(clap::Command::new("serving"));
        let matches = environment.try_get_matches_from(["serving"])?;
        Ok(Settings::new(&TelemetryConfig::from_arg_matches(&matches)?))
    }
}
