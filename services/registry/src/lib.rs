//! The registry: experiments, runs, artifacts, models and their versions, over MLflow's REST API, REST v1 and gRPC.
//!
//! Facts live in Postgres, bytes in S3. A request is one transaction, which also holds the events that tell of it.

mod access;
mod card;
mod creating;
mod deployed;
mod deployments;
mod error;
mod gc;
mod grpc;
mod home;
mod job_tokens;
mod lanes;
mod lineage;
mod logging;
mod mlflow;
mod pages;
mod promotion;
mod purge;
mod removal;
mod rest;
mod retention;
mod state;
mod store;
mod sweep;
mod versions;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use slipway_api::proto::registry::job_tokens_server::JobTokensServer;
use slipway_api::proto::registry::registry_server::RegistryServer;
use slipway_artifact_store::{ArtifactStore, S3Config};
use slipway_event_bus::{EventBus, NatsConfig, Outbox, Relay};
use slipway_service_kit::db::PostgresConfig;
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::{ListenConfig, Tasks, db, server};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
pub use crate::access::{AccessConfig, Switch};
pub use crate::retention::RetentionConfig;
use crate::state::Registry;
pub use crate::webhooks::WebhookConfig;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/registry");

/// MLflow's own port, so that notebooks find it.
const DEFAULT_PORT: u16 = 5000;
const BUCKET_RETRY_MS: u64 = 300;
/// A version may have many files, each with its digest.
const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

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
    /// Its bytes.
    #[command(flatten)]
    pub s3: S3Config,
    /// Address of the artifact store as clients reach it. With it, clients that can are told to send and fetch large files there, at
    /// addresses signed for one file; without it, all bytes pass through the registry.
    #[arg(long, env = "SLIPWAY_S3_PUBLIC_ENDPOINT", value_name = "URL")]
    pub s3_public_endpoint: Option<String>,
    /// Globals that pickles of a model may import in addition to plain data and the classes of ordinary scikit-learn, XGBoost and
    /// LightGBM models, e.g. `my_package.models.MyEstimator`. A version that imports others is not served. [default: none]
    #[arg(long, env = "SLIPWAY_ALLOWED_PICKLE_GLOBALS", value_delimiter = ',', value_name = "MODULE.NAME")]
    pub allowed_globals: Vec<String>,
    /// How webhooks are called.
    #[command(flatten)]
    pub webhooks: WebhookConfig,
    /// Who may do what.
    #[command(flatten)]
    pub access: AccessConfig,
    /// How often retention rules are applied.
    #[command(flatten)]
    pub retention: RetentionConfig,
}

/// Runs the service until `shutdown`.
///
/// # Errors
/// The port is taken, a setting is wrong, a migration fails, or a background task ended early.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let readiness = Readiness::default();
    readiness.waiting("postgres", "not connected yet");
    readiness.waiting("nats", "not connected yet");
    readiness.waiting("s3", "not connected yet");
    let listener = config.listen.open(DEFAULT_PORT).await?.guarded(pages::guard);
    let pool = db::connect(&config.postgres, "registry", &MIGRATOR, &shutdown).await?;
    readiness.ready("postgres");
    let bus = EventBus::connect(&config.nats, "slipway-registry").await?;
    let outbox = Outbox::audited();
    let (log, entries) = lanes::lanes();
    let (creations, begun) = lanes::lanes();
    let registry = Registry {
        pool: pool.clone(),
        artifacts: artifacts(&config),
        direct_artifacts: config.s3_public_endpoint.is_some(),
        outbox: outbox.clone(),
        scan_policy: Arc::new(versions::scan::policy(&config.allowed_globals)),
        log,
        creations,
        uploads: TaskTracker::new(),
        webhooks: webhooks::Webhooks::new(&config.webhooks, bus.clone())?,
        access: Access::new(&config.access, pool.clone())?,
        following: deployed::Following::default(),
    };

    let mut tasks = Tasks::new(shutdown.clone());
    tasks.spawn("relay", Relay::new(pool, bus.clone(), outbox, "slipway/registry").run(shutdown.clone()));
    tasks.spawn("sweep", sweep::run(registry.clone(), shutdown.clone()));
    tasks.spawn("inspections", versions::upgrade::run(registry.clone(), shutdown.clone()));
    tasks.spawn("webhook-intake", webhooks::intake::run(registry.clone(), shutdown.clone()));
    tasks.spawn("webhooks", webhooks::worker::run(registry.clone(), shutdown.clone()));
    tasks.spawn("deployments", deployments::run(registry.pool.clone(), bus.clone(), shutdown.clone()));
    let following = registry.following.clone();
    readiness.waiting(deployed::READINESS_PART, "not read yet");
    let following = (following, readiness.clone());
    let followed = deployed::run(registry.pool.clone(), bus.clone(), following, shutdown.clone());
    tasks.spawn("deployed-versions", followed);
    tasks.spawn("retention", retention::run(registry.clone(), config.retention, shutdown.clone()));
    let resources = wait_for_resources(bus, registry.artifacts.clone(), readiness.clone(), shutdown.clone());
    tasks.spawn("resources", resources);

    // Requests that are still answered during the drain may write.
    let drained = CancellationToken::new();
    let logging = lanes::run(registry.clone(), entries, drained.clone());
    let creating = lanes::run(registry.clone(), begun, drained.clone());
    let writing = tokio::spawn(futures::future::join(logging, creating));

    let questions = RegistryServer::new(grpc::Service::new(registry.clone()))
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let guarded = axum::middleware::from_fn_with_state(registry.access.clone(), access::guard);
    let job_tokens = JobTokensServer::new(job_tokens::Service::new(registry.clone(), config.access.job_role));
    let routes =
        server::add_grpc(server::add_grpc(routes(registry.clone()), questions), job_tokens).layer(guarded);
    server::serve(listener, routes, readiness, Metrics::new(), shutdown).await;
    drained.cancel();
    writing.await?;
    registry.uploads.close();
    registry.uploads.wait().await;
    tasks.wait().await
}

fn artifacts(config: &Config) -> ArtifactStore {
    let store = ArtifactStore::new(&config.s3);
    match &config.s3_public_endpoint {
        Some(endpoint) => store.with_public_endpoint(&config.s3, endpoint),
        None => store,
    }
}

fn routes(registry: Registry) -> axum::Router {
    home::router().merge(mlflow::router()).merge(rest::router()).with_state(registry)
}

/// Makes the streams and the bucket, however long their servers stay away, then stays until the shutdown.
async fn wait_for_resources(
    bus: EventBus,
    artifacts: ArtifactStore,
    readiness: Readiness,
    shutdown: CancellationToken,
) {
    let nats = async {
        if bus.wait_for_resources(&shutdown).await {
            readiness.ready("nats");
        }
    };
    let bucket = async {
        let mut complained = false;
        while let Err(error) = artifacts.ensure_bucket().await {
            if !std::mem::replace(&mut complained, true) {
                tracing::warn!(%error, "waiting for the artifact store");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(BUCKET_RETRY_MS)) => {}
            }
        }
        readiness.ready("s3");
    };
    tokio::join!(nats, bucket);
    shutdown.cancelled().await;
}
