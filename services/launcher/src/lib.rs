//! The launcher: training jobs, their attempts, logs and checkpoints.
//!
//! What a job does next is decided by `slipway_domain::training`; [`change`] stores such a decision with its
//! events, and [`reconcile`] performs it. An attempt runs under an agent that a launch backend starts; the
//! agent speaks to [`api::grpc`].

mod api;
mod backend;
mod capacity;
mod change;
mod collect;
mod config;
mod folders;
mod identity;
mod launch;
mod logs;
mod manage;
mod metrics;
mod observed;
mod placement;
mod reconcile;
mod state;
mod store;
mod tokens;
mod training_jobs;
mod uploads;
mod waiting;

pub use api::access::RULES as ACCESS_RULES;
pub use backend::kubernetes::{BackendName, KubernetesConfig};
pub use config::Config;

use anyhow::Context as _;
use axum::Router;
use slipway_access::AccessControl;
use slipway_api::proto::launcher::agents_server::AgentsServer;
use slipway_api::proto::launcher::launcher_server::LauncherServer;
use slipway_event_bus::EventBus;
use slipway_http_server::{Grpc, server};
use slipway_kubernetes_client::{ALL_NAMESPACES, Connection};
use slipway_lease::Lease;
use slipway_outbox::{Outbox, Relay};
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::{Drain, Tasks, db};
use tokio_util::sync::CancellationToken;

use crate::folders::{Folders, JobAccount};
use crate::identity::Identity;
use crate::state::State;
use crate::tokens::JobTokens;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/launcher");

/// Standard port of the REST and gRPC API.
pub const DEFAULT_PORT: u16 = 5010;
/// A submitted job carries its files, and JSON may escape every byte of them.
const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// Runs the service until `shutdown`.
///
/// # Errors
/// The port is taken, a setting is wrong, a migration fails, or a background task ended early.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let drain = Drain::new(shutdown.clone());
    let readiness = unconnected();
    let listener = config.listen.open(DEFAULT_PORT).await?;
    let address = listener.local_addr().context("the listener has no address")?;
    let account = JobAccount::find(config.jobs.job_user.as_deref())?;
    let folders = Folders::make(&config.data_dir, config.jobs.jobs_dir.as_deref(), account)?;
    let identity = Identity::of(&config.data_dir)?;
    let store = config.artifacts();
    let logs = logs::Logs::new(store.clone(), &folders.logs, config.max_log_bytes);
    let job_tokens = JobTokens::new(&config.jobs)?;
    let metrics = Metrics::new();

    let migrators = [&MIGRATOR, &slipway_outbox::migrator(), &slipway_lease::migrator()];
    let pool = db::connect(&config.postgres, "launcher", &migrators, &shutdown).await?;
    readiness.ready("postgres");
    let installation = store::installation::id(&pool).await.context("the installation has no id")?;
    let cluster = connected(&config.kubernetes).await?;
    let launch = launch::Launcher::new(&config, address, folders, account, installation, cluster.as_ref())?;
    let bus = EventBus::connect(&config.nats, "slipway-launcher").await?.with_streams(config.streams.clone());
    let outbox = Outbox::default();
    let own = launch.owner(identity.id);
    tracing::info!(launcher = %identity.id, node = own.node, "launcher of this node");
    let backend = launch.backend.clone();
    let state = State::new(
        pool.clone(),
        outbox.clone(),
        store,
        logs,
        drain.hang_up().clone(),
        &metrics,
        &config.jobs,
        own,
        backend.clone(),
    );

    let mut tasks = Tasks::new(shutdown.clone());
    let lease = Lease::new(pool.clone(), &metrics);
    tasks.spawn("lease", lease.clone().compete(shutdown.clone()));
    if let Some(cluster) = cluster.filter(|_| config.kubernetes.kubernetes_training_jobs) {
        tasks.spawn("training-jobs", training_jobs::run(state.clone(), cluster, &lease, shutdown.clone()));
    }
    let relay = Relay::new(pool, bus.clone(), outbox, "slipway/launcher", lease);
    relay.start(&mut tasks, &metrics, &readiness, &drain);
    let work_dir = (!config.jobs.keep_work_dirs).then(|| launch.work_dir.clone());
    tasks.spawn("collect", collect::run(state.clone(), work_dir, shutdown.clone()));
    tasks.spawn("job-tokens", job_tokens.clone().revoke_ended(state.pool.clone(), shutdown.clone()));
    let reconciler = reconcile::Reconciler::new(state.clone(), launch, job_tokens, identity.id);
    let reconciler = reconciler.registered().await;
    tasks.spawn("reconcile", reconciler.run(shutdown.clone()));
    let watch = shutdown.clone();
    tasks.spawn("backend", async move { backend.run(watch).await });
    tasks.spawn(
        "resources",
        wait_for_resources(bus.clone(), state.clone(), readiness.clone(), shutdown.clone()),
    );

    let access = AccessControl::new("launcher", &config.access, &ACCESS_RULES, &metrics)
        .resolving(api::access::Experiments(state.pool.clone()));
    let routes = access.protect(routes(state)?, &bus, &mut tasks, &readiness, &drain);
    server::serve(listener, routes, readiness, metrics, drain).await;
    tasks.wait().await
}

fn unconnected() -> Readiness {
    let readiness = Readiness::default();
    for service in ["postgres", "nats", "s3"] {
        readiness.waiting(service, "not connected yet");
    }
    readiness
}

/// The cluster in which jobs run; none where they run on this machine.
async fn connected(config: &KubernetesConfig) -> anyhow::Result<Option<Connection>> {
    if config.backend == BackendName::Kubernetes {
        let namespaces = &config.kubernetes_namespaces;
        anyhow::ensure!(
            !namespaces.iter().any(|name| name == ALL_NAMESPACES),
            "--kubernetes-namespaces: expected names of namespaces, got `{ALL_NAMESPACES}`"
        );
        return Connection::connect(namespaces).await.context("--backend kubernetes").map(Some);
    }
    anyhow::ensure!(
        !config.kubernetes_training_jobs,
        "--kubernetes-training-jobs: expected --backend kubernetes, got --backend local"
    );
    Ok(None)
}

/// REST and gRPC.
fn routes(state: State) -> anyhow::Result<Router> {
    let launcher = LauncherServer::new(api::grpc::jobs::Service::new(state.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let agents = AgentsServer::new(api::grpc::agents::Service::new(state.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let routes = Grpc::beside(api::rest::router(state)).with(launcher).with(agents);
    routes.reflected(&[slipway_api::DESCRIPTORS])
}

/// Makes streams, buckets and the S3 bucket, then stays until the shutdown.
async fn wait_for_resources(bus: EventBus, state: State, readiness: Readiness, shutdown: CancellationToken) {
    let nats = async {
        if bus.prepare(&shutdown, |error| readiness.waiting("nats", error.to_string())).await {
            readiness.ready("nats");
        }
    };
    tokio::join!(nats, collect::wait_for_bucket(&state, &readiness, &shutdown));
    shutdown.cancelled().await;
}
