//! Serving: ONNX versions behind the Open Inference Protocol, with traffic splitting, shadows and prediction records.
//!
//! It owns nothing durable. The traffic table (NATS KV) says which versions a deployment answers with; their bytes come from the
//! registry by digest into a disk cache. Requests never wait for NATS, the registry or S3, and go on when all of them are away.

mod api;
mod codec;
mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod metrics;
mod models;
mod predict;
mod records;
mod source;
mod stats;
mod traffic;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::middleware::{from_fn_with_state, map_request, map_response_with_state};
use axum::{Extension, Router};
use clap::{Args as _, FromArgMatches as _};
use slipway_api::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use slipway_api::proto::registry::registry_client::RegistryClient;
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_event_bus::{EventBus, NatsConfig};
use slipway_inference::Environment;
use slipway_service_kit::grpc::{RegistryToken, registry_channel};
use slipway_service_kit::health::{Readiness, metrics_router};
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::server::{Port, add_grpc, bind_as, serve_behind, serve_plain};
use slipway_service_kit::tls::Tls;
use slipway_service_kit::{ListenConfig, Tasks, TlsConfig};
use slipway_telemetry::TelemetryConfig;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic_health::pb::health_server::HealthServer;
use uuid::Uuid;

pub use crate::api::access::{ALL_MODELS, AccessConfig, TokenEntry, TokenFile};
use crate::api::access::{Access, guard_grpc};
use crate::api::drain::{HangUp, end_idle};
use crate::api::log_settings::Settings;
use crate::api::{grpc, rest, web_guard};
use crate::metrics::ServingMetrics;
use crate::models::collector::Versions;
use crate::models::engine_config;
pub use crate::models::engine_config::{EngineConfig, LoadProbeConfig};
use crate::models::routing::Routing;
pub use crate::models::run_if_asked as load_model_if_asked;
use crate::models::{Cache, Limits, LoadMeters, Loader, Manager};
use crate::predict::Predictor;
use crate::records::cloudevents::EventSender;
pub use crate::records::cloudevents::{CloudEventsConfig, EventsMode};
use crate::traffic::{joining, status, tables};

/// `inference.GRPCInferenceService` and its messages, encoded.
const INFERENCE_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.bin"));
const REST_PORT: u16 = 8000;
const DEFAULT_NATS_URL: &str = "nats://127.0.0.1:4222";
/// The version before the current one.
const DEFAULT_KEEP_VERSIONS: usize = 1;
const DEFAULT_MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// The rest of the time that a process has for its end is for requests in flight and for records.
const MAX_DRAIN_DELAY_MS: u64 = 5_000;
/// Part of the readiness that is missing from the shutdown on.
pub(crate) const PROCESS_PART: &str = "process";
/// News about tables that may wait for the manager.
const UPDATES_LIMIT: usize = 256;

/// Settings of serving.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Serving")]
pub struct Config {
    /// Address for gRPC.
    #[arg(long, env = "SLIPWAY_LISTEN_GRPC", default_value = "127.0.0.1:8001", value_name = "HOST:PORT")]
    pub listen_grpc: SocketAddr,
    /// Address for metrics alone. Where callers need no tokens, they are at /metrics of the REST address, too.
    #[arg(long, env = "SLIPWAY_LISTEN_METRICS", default_value = "127.0.0.1:8002", value_name = "HOST:PORT")]
    pub listen_metrics: SocketAddr,
    /// The registry's gRPC address.
    #[arg(long, env = "SLIPWAY_REGISTRY_URL", default_value = "http://127.0.0.1:5000", value_name = "URL")]
    pub registry_url: String,
    /// ONNX Runtime: libonnxruntime.so, version 1.23 to 1.31.
    #[arg(long, env = "SLIPWAY_ONNXRUNTIME_LIB", value_name = "FILE")]
    pub onnxruntime_lib: PathBuf,
    /// Whether a version of ONNX Runtime is used that Slipway is not tested with. If false, serving does not start with it.
    #[arg(long, env = "SLIPWAY_ONNXRUNTIME_UNTESTED", default_value_t = false, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub onnxruntime_untested: bool,
    /// Directory for models and the last known traffic tables; replicas of one machine may share the models by sharing it.
    #[arg(long, env = "SLIPWAY_CACHE_DIR", default_value = ".slipway/serving-cache", value_name = "DIR")]
    pub cache_dir: PathBuf,
    /// What the models in the cache directory may take. Versions that no deployment names go first, those used longest ago before others;
    /// what is in use stays. Without it: everything is kept.
    #[arg(long, env = "SLIPWAY_CACHE_LIMIT_BYTES", value_name = "BYTES")]
    pub cache_limit_bytes: Option<u64>,
    /// What loaded versions may take of the memory, in bytes; 0: no limit. Those used longest ago are unloaded, and loaded again when a
    /// request asks for them.
    #[arg(long, env = "SLIPWAY_SERVING_MEMORY_LIMIT_BYTES", default_value_t = 0, value_name = "BYTES")]
    pub memory_limit_bytes: u64,
    /// Versions of a deployment that stay loaded after they left its traffic, so that a rollback loads nothing. They are the first to go
    /// where memory is short.
    #[arg(long, env = "SLIPWAY_SERVING_KEEP_VERSIONS", default_value_t = DEFAULT_KEEP_VERSIONS, value_name = "N")]
    pub keep_versions: usize,
    /// Folder of models, `<model>/<version>/model.onnx` as Triton has them, in place of the registry's. It is looked at every second;
    /// the highest version that loads answers. Neither registry nor NATS is needed then.
    #[arg(long, visible_alias = "model-repository", env = "SLIPWAY_SERVING_MODEL_DIR", value_name = "DIR")]
    pub model_dir: Option<PathBuf>,
    /// Whether a new replica is ready only when every deployment answers. If false, a deployment whose version does not load answers 503
    /// and does not keep the replica from being ready for the others.
    #[arg(long, env = "SLIPWAY_SERVING_STRICT_READINESS", default_value_t = true, action = clap::ArgAction::Set,
          num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub strict_readiness: bool,
    /// Name of this replica in its status and records; letters, digits, `-` and `_`. Without it: a new one at each start.
    #[arg(long, env = "SLIPWAY_REPLICA_ID")]
    pub replica_id: Option<String>,
    /// Largest body of a prediction, packed or unpacked, in bytes.
    #[arg(long, env = "SLIPWAY_SERVING_MAX_BODY_BYTES", default_value_t = DEFAULT_MAX_BODY_BYTES, value_name = "BYTES",
          value_parser = engine_config::at_least_one("SLIPWAY_SERVING_MAX_BODY_BYTES"))]
    pub max_body_bytes: usize,
    /// How long the ports go on after SIGTERM, so that balancers and clients notice: the replica is not ready, and each answer over
    /// HTTP/1 ends its connection. At most 5000.
    #[arg(long, env = "SLIPWAY_SERVING_DRAIN_DELAY_MS", default_value_t = 500, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(..=MAX_DRAIN_DELAY_MS))]
    pub drain_delay_ms: u64,
    // Groups come last: flags that follow one would be listed under its heading.
    /// How it shows the registry who it is.
    #[command(flatten)]
    pub registry_token: RegistryToken,
    /// How versions are run, where their own settings say nothing.
    #[command(flatten)]
    pub engine: EngineConfig,
    /// How versions are loaded in a child process first.
    #[command(flatten)]
    pub load_probe: LoadProbeConfig,
    /// Who may call what.
    #[command(flatten)]
    pub access: AccessConfig,
    /// How the REST and gRPC ports are secured.
    #[command(flatten)]
    pub tls: TlsConfig,
    /// Who gets requests and answers as CloudEvents.
    #[command(flatten)]
    pub cloudevents: CloudEventsConfig,
    /// What the process logs and traces, which clients may ask for. Without it: what the environment says.
    #[arg(skip)]
    pub telemetry: Option<TelemetryConfig>,
    /// REST listener.
    #[command(flatten)]
    pub listen: ListenConfig,
    /// NATS.
    #[command(flatten)]
    pub nats: OptionalNats,
    /// Artifact store.
    #[command(flatten)]
    pub s3: S3Config,
}

/// Where NATS is, if there is one.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "NATS")]
pub struct OptionalNats {
    /// NATS server with JetStream, e.g. `nats://127.0.0.1:4222`; may contain credentials. With --model-dir and without an address, no
    /// connection is made, and no prediction records are published [default: nats://127.0.0.1:4222, none with --model-dir].
    #[arg(long, env = "SLIPWAY_NATS_URL", hide_env_values = true, value_name = "URL")]
    pub nats_url: Option<String>,
}

impl Config {
    /// Where NATS is; `None` where it is not needed and not named.
    fn nats(&self) -> Option<NatsConfig> {
        let default = || self.model_dir.is_none().then(|| DEFAULT_NATS_URL.to_owned());
        self.nats.nats_url.clone().or_else(default).map(|nats_url| NatsConfig { nats_url })
    }

    fn replica_id(&self) -> anyhow::Result<String> {
        let Some(id) = &self.replica_id else { return Ok(format!("serving-{}", Uuid::new_v4().simple())) };
        // It is part of a NATS subject, of which the dot separates the parts.
        let lawful = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        anyhow::ensure!(
            !id.is_empty() && id.chars().all(lawful),
            "the replica id `{id}` may have letters, digits, - and _ only (--replica-id)"
        );
        Ok(id.clone())
    }

    fn limits(&self) -> Limits {
        Limits {
            cache_bytes: self.cache_limit_bytes,
            memory_bytes: Some(self.memory_limit_bytes).filter(|bytes| *bytes > 0),
            keep_versions: self.keep_versions,
        }
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        if let Some(telemetry) = &self.telemetry {
            return Ok(Settings::new(telemetry));
        }
        let environment = TelemetryConfig::augment_args(clap::Command::new("serving"));
        let matches = environment.try_get_matches_from(["serving"])?;
        Ok(Settings::new(&TelemetryConfig::from_arg_matches(&matches)?))
    }
}

/// Runs serving until `shutdown`.
///
/// # Errors
/// A port is taken, a setting cannot be used, ONNX Runtime does not load, or a background task ended.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let replica_id = config.replica_id()?;
    let options = config.engine.options()?;
    let settings = Arc::new(config.settings()?);
    let tls = config.tls.load()?;
    let listeners = Listeners::bind(&config).await?;
    let environment = load_environment(&config)?;
    let cache = Cache::open(&config.cache_dir)
        .with_context(|| format!("the cache directory {} (--cache-dir)", config.cache_dir.display()))?;
    if let Some(folder) = &config.model_dir {
        std::fs::read_dir(folder)
            .with_context(|| format!("the models' folder {} (--model-dir)", folder.display()))?;
    }
    let bus = match config.nats() {
        Some(nats) => Some(EventBus::connect(&nats, "slipway-serving").await?),
        None => None,
    };
    let registry = RegistryClient::new(registry_channel(&config.registry_url, &config.registry_token)?);
    let metrics = Metrics::new();
    let load_meters = LoadMeters::register(&metrics);
    let loader = Loader::new(
        cache.clone(),
        (registry, ArtifactStore::new(&config.s3)),
        environment,
        options,
        config.model_dir.clone(),
        config.limits(),
        (config.load_probe.options(config.onnxruntime_untested), load_meters.clone()),
    );

    let readiness = Readiness::default();
    let routing = Arc::new(Routing::default());
    let serving_metrics = ServingMetrics::register(&metrics);
    let access = Access::load(&config.access, &metrics)?;
    metrics.collect(Versions(Arc::clone(&routing)));
    if let Some(tls) = &tls {
        tls.register(&metrics, "serving");
    }
    let manager = Manager::new(
        loader,
        Arc::clone(&routing),
        readiness.clone(),
        serving_metrics.clone(),
        load_meters,
        config.strict_readiness,
    );
    let optional = config.model_dir.is_some();
    let (recorder, publisher) =
        records::channel(bus.clone(), replica_id.clone(), serving_metrics.clone(), optional);
    let (events, event_sender) =
        records::cloudevents::channel(&config.cloudevents, bus.as_ref(), &replica_id, &metrics)?.unzip();
    let predictor = Predictor::new(Arc::clone(&routing), recorder.with_events(events), serving_metrics);

    let mut tasks = Tasks::new(shutdown.clone());
    let (updates, news) = mpsc::channel(UPDATES_LIMIT);
    watch_files(&mut tasks, tls.as_ref(), &access, &shutdown);
    if let Some(sink) = event_sender.as_ref().and_then(EventSender::http) {
        tasks.spawn("cloudevents-files", sink.watch(shutdown.clone()));
    }
    tasks.spawn("farewell", say_farewell(readiness.clone(), shutdown.clone()));
    tasks.spawn("models", manager.run(news, shutdown.clone()));
    let joining = joining::watch(bus.clone(), replica_id.clone(), Arc::clone(&routing), shutdown.clone());
    tasks.spawn("joining", joining);
    if let Some(bus) = &bus {
        tasks.spawn("streams", ensure_streams(bus.clone(), shutdown.clone()));
    }
    match (config.model_dir.clone(), &bus) {
        (Some(folder), _) => {
            tasks.spawn("models-folder", models::folder::watch(folder, updates, shutdown.clone()));
        }
        (None, Some(bus)) => follow_tables(&mut tasks, bus, &replica_id, &routing, updates, &shutdown),
        (None, None) => anyhow::bail!("without --model-dir, a NATS address is needed (--nats-url)"),
    }
    // Records of requests in flight still come while the listeners drain; the publisher ends after them.
    let drained = CancellationToken::new();
    let leaving = tokio::spawn(records::send_off(publisher, event_sender, drained.clone()));
    tracing::info!(replica_id, rest = %listeners.rest.local_addr()?, grpc = %listeners.grpc.local_addr()?, "serving");

    let state = rest::RestState {
        routing,
        predictor: predictor.clone(),
        bus,
        settings,
        access: access.clone(),
        readiness: readiness.clone(),
        max_body_bytes: config.max_body_bytes,
    };
    let listeners = listeners.secured(tls, &access, config.drain_delay_ms);
    let served = listeners.serve(state, &metrics, &readiness, &config, &shutdown).await;
    shutdown.cancel();
    predictor.drain().await;
    drained.cancel();
    leaving.await.context("the publisher of prediction records panicked")?;
    tasks.wait().await?;
    served
}

fn load_environment(config: &Config) -> anyhow::Result<Environment> {
    let library = &config.onnxruntime_lib;
    if config.onnxruntime_untested {
        Environment::load_untested(library)
    } else {
        Environment::load(library)
    }
    .map_err(|error| {
        let advice = match error {
            slipway_inference::Error::Untested { .. } => {
                "name a tested version (--onnxruntime-lib, SLIPWAY_ONNXRUNTIME_LIB), or set --onnxruntime-untested \
                 (SLIPWAY_ONNXRUNTIME_UNTESTED=true) to use this one"
            }
            _ => "set --onnxruntime-lib or SLIPWAY_ONNXRUNTIME_LIB",
        };
        anyhow::Error::from(error).context(advice)
    })
}

/// Follows what may change on disk.
fn watch_files(tasks: &mut Tasks, tls: Option<&Tls>, access: &Access, shutdown: &CancellationToken) {
    if let Some(tls) = tls {
        tasks.spawn("tls-files", tls.clone().watch(shutdown.clone()));
    }
    tasks.spawn("token-file", access.clone().watch(shutdown.clone()));
}

/// Takes the traffic tables from NATS, and says there what became of them.
fn follow_tables(
    tasks: &mut Tasks,
    bus: &EventBus,
    replica_id: &str,
    routing: &Arc<Routing>,
    updates: mpsc::Sender<models::Update>,
    shutdown: &CancellationToken,
) {
    tasks.spawn("traffic-tables", tables::watch(bus.clone(), updates, shutdown.clone()));
    let told = status::publish(bus.clone(), replica_id.to_owned(), Arc::clone(routing), shutdown.clone());
    tasks.spawn("replica-status", told);
}

struct Listeners {
    rest: Port,
    grpc: Port,
    metrics: Port,
}

impl Listeners {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let guard = config.listen.guard.guard()?;
        let grpc = bind_as(config.listen_grpc, "--listen-grpc or SLIPWAY_LISTEN_GRPC").await?;
        let metrics = bind_as(config.listen_metrics, "--listen-metrics or SLIPWAY_LISTEN_METRICS").await?;
        Ok(Self {
            rest: config.listen.open(REST_PORT).await?.guarded(web_guard::guard),
            grpc: Port::from(grpc).with_guard(guard.clone()),
            metrics: Port::from(metrics).with_guard(guard),
        })
    }

    /// Metrics name every model; where callers need tokens, they are on their own port only.
    fn secured(self, tls: Option<Tls>, access: &Access, drain_delay_ms: u64) -> Self {
        let secured = |port: Port| {
            let port = port.with_tls(tls.clone()).with_drain_delay(Duration::from_millis(drain_delay_ms));
            if access.is_on() { port.without_metrics() } else { port }
        };
        Self { rest: secured(self.rest), grpc: secured(self.grpc), ..self }
    }

    async fn serve(
        self,
        state: rest::RestState,
        metrics: &Metrics,
        readiness: &Readiness,
        config: &Config,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let (settings, access) = (Arc::clone(&state.settings), state.access.clone());
        let service =
            grpc::Service::new(state.predictor.clone(), settings, access.clone(), readiness.clone());
        let server = GrpcInferenceServiceServer::new(service.clone())
            .max_decoding_message_size(config.max_body_bytes)
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Deflate);
        let health_service = HealthServer::new(grpc::HealthService::new(
            Arc::clone(&state.routing),
            readiness.clone(),
            access.clone(),
        ));
        let grpc_front = grpc::GrpcFront(Arc::new(grpc::Infer {
            service,
            server: server.clone(),
            access: access.clone(),
            max_message_bytes: config.max_body_bytes,
        }));
        let hang_up = HangUp::default();
        let idle = add_grpc(add_grpc(Router::new(), health_service), reflection().build_v1()?);
        let idle = add_grpc(idle, reflection().build_v1alpha()?)
            .layer(map_response_with_state(hang_up.clone(), end_idle));
        let mut grpc_routes = add_grpc(Router::new(), server)
            .layer(Extension(hang_up.clone()))
            .merge(idle)
            .layer(map_request(grpc::answer_as_asked));
        if access.is_on() {
            grpc_routes = grpc_routes.layer(from_fn_with_state(access, guard_grpc));
        }

        let rest_front = rest::RestFront(Arc::new(state.clone()));
        let rest = serve_behind(
            rest_front,
            self.rest,
            rest::router(state),
            readiness.clone(),
            metrics.clone(),
            shutdown.clone(),
        );
        let grpc = serve_behind(
            grpc_front,
            self.grpc,
            grpc_routes,
            readiness.clone(),
            metrics.clone(),
            shutdown.clone(),
        );
        let metrics = serve_plain(self.metrics, metrics_router(metrics.clone()), shutdown.clone());
        let leave = hang_up.after(shutdown, Duration::from_millis(config.drain_delay_ms));
        tokio::join!(rest, grpc, metrics, leave);
        Ok(())
    }
}

/// The descriptors of every gRPC service here, for tools such as grpcurl.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(INFERENCE_DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
}

/// Not ready from the shutdown on, so that nobody sends more here.
async fn say_farewell(readiness: Readiness, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    readiness.waiting(PROCESS_PART, "it is stopping");
}

async fn ensure_streams(bus: EventBus, shutdown: CancellationToken) {
    bus.wait_for_resources(&shutdown).await;
    shutdown.cancelled().await;
}
