//! The registry: experiments, runs, artifacts, models and their versions, over MLflow's REST API, REST v1 and
//! gRPC.
//!
//! Facts live in Postgres, bytes in S3. A request is one transaction, which also holds the events that tell
//! of it.

mod access;
mod api;
mod change;
mod cleanup;
mod clock;
mod config;
mod error;
mod events;
mod imports;
mod models;
mod state;
mod store;
mod tracking;
mod trust;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::future::BoxFuture;
use slipway_api::proto::registry::imports_server::ImportsServer;
use slipway_api::proto::registry::job_tokens_server::JobTokensServer;
use slipway_api::proto::registry::registry_server::RegistryServer;
use slipway_artifact_store::ArtifactStore;
use slipway_domain::access::Role;
use slipway_event_bus::EventBus;
use slipway_http_server::{Grpc, server};
use slipway_lease::Lease;
use slipway_outbox::{Outbox, Relay};
use slipway_runtime::task;
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::{Drain, Tasks, db};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::authenticator::Access;
pub use crate::access::{AccessConfig, Switch};
use crate::access::{calls, publishing};
pub use crate::api::access::access_rules;
use crate::api::{grpc, pages};
use crate::change::Changes;
pub use crate::cleanup::retention::RetentionConfig;
use crate::cleanup::{retention, unreferenced};
pub use crate::config::Config;
pub use crate::imports::ImportConfig;
use crate::models::{deployed, deployments, versions};
use crate::state::Registry;
use crate::tracking::group_commit;
pub use crate::webhooks::WebhookConfig;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/registry");

/// Standard port of the REST, gRPC and MLflow API: MLflow's own, so that notebooks find it.
pub const DEFAULT_PORT: u16 = 5000;
const BUCKET_RETRY_MS: u64 = 300;
/// A version may have many files, each with its digest.
const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// Runs the service until `shutdown`.
///
/// # Errors
/// The port is taken, a setting is wrong, a migration fails, or a background task ended early.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let drain = Drain::new(shutdown.clone());
    let readiness = Readiness::default();
    for part in ["postgres", "nats", "s3"] {
        readiness.waiting(part, "not connected yet");
    }
    let listener = config.listen.open(DEFAULT_PORT).await?.guarded(pages::guard);
    let (outboxes, audit, leases) =
        (slipway_outbox::migrator(), slipway_audit::migrator(), slipway_lease::migrator());
    let migrators = [&MIGRATOR, &outboxes, &audit, &leases];
    let pool = db::connect(&config.postgres, "registry", &migrators, &shutdown).await?;
    readiness.ready("postgres");
    let bus = EventBus::connect(&config.nats, "slipway-registry").await?.with_streams(config.streams.clone());
    let outbox = Outbox::audited();
    let ((log, batches), (new_runs, runs)) = (group_commit::group_commit(), group_commit::group_commit());
    let (refusals, refused) = access::refusals::refusals();
    let changes = Changes::new(pool.clone(), outbox.clone());
    let registry = Registry {
        pool: pool.clone(),
        artifacts: artifacts(&config),
        imports: imports::sources::Sources::new(&config.imports, artifacts(&config))?,
        direct_artifacts: config.s3_public_endpoint.is_some(),
        changes,
        scan_policy: Arc::new(versions::scan::policy(&config.allowed_globals)),
        log,
        new_runs,
        uploads: TaskTracker::new(),
        webhooks: webhooks::Webhooks::new(
            &config.webhooks,
            bus.clone(),
            api::mlflow::webhook_events::DIALECT,
        )?,
        access: Access::new(&config.access, pool.clone(), refusals)?,
        following: deployed::Following::default(),
        events: events::Events::new(drain.hang_up().clone()),
    };

    let mut tasks = Tasks::new(shutdown.clone());
    let metrics = Metrics::new();
    let lease = Lease::new(pool.clone(), &metrics);
    tasks.spawn("lease", lease.clone().compete(shutdown.clone()));
    let relay = Relay::new(pool, bus.clone(), outbox, "slipway/registry", lease.clone());
    relay.start(&mut tasks, &metrics, &readiness, &drain);
    readiness.waiting(deployed::READINESS_PART, "not read yet");
    let following = (registry.following.clone(), readiness.clone());
    let followed = deployed::run(registry.pool.clone(), bus.clone(), following, drain.over().clone());
    tasks.spawn("deployed-versions", followed);
    // In every replica: the leader may be of an earlier release, which inspects as before.
    tasks.spawn("inspections", versions::upgrade::run(registry.clone(), shutdown.clone()));
    tasks.spawn("refused-calls", calls::write_refused(registry.clone(), refused, drain.over().clone()));
    lead(&mut tasks, &registry, &bus, &lease, config.retention, &shutdown);
    let resources = wait_for_resources(bus, registry.artifacts.clone(), readiness.clone(), shutdown.clone());
    tasks.spawn("resources", resources);

    let log = group_commit::run(registry.changes.clone(), batches, drain.over().clone());
    let new_runs = group_commit::run(registry.changes.clone(), runs, drain.over().clone());
    let writing = task::detached("group-commit", futures::future::join(log, new_runs));

    let routes = routes(&registry, config.access.job_role)?;
    server::serve(listener, routes, readiness, metrics, drain).await;
    writing.await?;
    end_uploads(&registry.uploads).await;
    tasks.wait().await
}

/// Starts what one replica at a time does: a replica that hangs takes no events, claims no deliveries and
/// holds no locks.
fn lead(
    tasks: &mut Tasks,
    registry: &Registry,
    bus: &EventBus,
    lease: &Lease,
    retention: RetentionConfig,
    shutdown: &CancellationToken,
) {
    let mut spawn = |name: &'static str, work: Work| {
        let (registry, bus, ended) = (registry.clone(), bus.clone(), shutdown.clone());
        let work = move |_| work(registry.clone(), bus.clone(), ended.clone());
        tasks.spawn(name, lease.clone().lead(shutdown.clone(), work));
    };
    spawn("sweep", Box::new(|registry, _, end| Box::pin(unreferenced::run(registry, end))));
    spawn("webhook-intake", Box::new(|registry, _, end| Box::pin(webhooks::intake::run(registry, end))));
    spawn("webhooks", Box::new(|registry, _, end| Box::pin(webhooks::worker::run(registry, end))));
    spawn("deployments", Box::new(|registry, bus, end| Box::pin(deployments::run(registry.pool, bus, end))));
    spawn("imports", Box::new(|registry, _, end| Box::pin(imports::run(registry, end))));
    spawn("calls", Box::new(|registry, bus, end| Box::pin(calls::receive(registry, bus, end))));
    spawn("access", Box::new(|registry, bus, end| Box::pin(publishing::run(registry, bus, end))));
    spawn(
        "retention",
        Box::new(move |registry, _, end| Box::pin(retention::run(registry, retention.clone(), end))),
    );
}

/// Background work of the leader.
type Work = Box<dyn Fn(Registry, EventBus, CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// Waits for the uploads in progress.
async fn end_uploads(uploads: &TaskTracker) {
    uploads.close();
    uploads.wait().await;
}

/// Every protocol, behind access control.
///
/// # Errors
/// The descriptors of the gRPC services cannot be read.
fn routes(registry: &Registry, job_role: Role) -> anyhow::Result<Router> {
    let registry_server = RegistryServer::new(grpc::registry::Service::new(registry.clone()))
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let job_tokens = JobTokensServer::new(grpc::job_tokens::Service::new(registry.clone(), job_role));
    let imports = ImportsServer::new(grpc::imports::Service::new(registry.clone()));
    let routes = Grpc::beside(api::routes().with_state(registry.clone()))
        .with(registry_server)
        .with(job_tokens)
        .with(imports);
    let guard = axum::middleware::from_fn_with_state(registry.access.clone(), api::access::guard);
    Ok(routes.reflected(&[slipway_api::DESCRIPTORS])?.layer(guard))
}

fn artifacts(config: &Config) -> ArtifactStore {
    let store = ArtifactStore::new(&config.s3);
    match &config.s3_public_endpoint {
        Some(endpoint) => store.with_public_endpoint(&config.s3, endpoint),
        None => store,
    }
}

/// Makes the streams and the bucket, however long their servers stay away, then stays until the shutdown.
async fn wait_for_resources(
    bus: EventBus,
    artifacts: ArtifactStore,
    readiness: Readiness,
    shutdown: CancellationToken,
) {
    let nats = async {
        if bus.prepare(&shutdown, |error| readiness.waiting("nats", error.to_string())).await {
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
