//! Tells the rollout controller, through NATS KV, what this replica holds: one entry, written every second
//! and at each change.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::Store;
use slipway_api::traffic::{DeploymentLoad, REPLICA_STATUS_INTERVAL_S, REPLICAS_BUCKET, ReplicaStatus};
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::by_deployment::ByDeployment;
use super::usage;
use crate::models::report::Unsettleds;
use crate::models::routing::{Route, Routing};

/// Changes within this time share a message.
const GATHER_MS: u64 = 5;
/// Shortest time between two messages.
const MIN_PAUSE_MS: u64 = 20;
/// Pause after a write that failed.
const RETRY_DELAY_MS: u64 = 500;
/// A replica that serves more deployments does not tell what it does for each. Of a pool, those count that
/// were asked for.
const MAX_LOADS: usize = 20;
/// The same for a pool.
const MAX_POOL_LOADS: usize = 200;
/// The last words to NATS may take this long.
const FAREWELL_TIMEOUT_MS: u64 = 1_000;

/// What is told, and by whom.
pub(crate) struct Replica {
    /// Its name.
    pub(crate) id: String,
    /// What it holds, and whether its tables are the current ones.
    pub(crate) routing: Arc<Routing>,
}

/// Writes the status until the shutdown; then takes it back.
pub(crate) async fn publish(bus: EventBus, replica: Replica, shutdown: CancellationToken) {
    let mut changes = replica.routing.report.changes();
    let mut interval = tokio::time::interval(Duration::from_secs(REPLICA_STATUS_INTERVAL_S));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut store: Option<Store> = None;
    let mut by_deployment = ByDeployment::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = interval.tick() => {}
            changed = changes.changed() => {
                if changed.is_err() { break }
                tokio::time::sleep(Duration::from_millis(GATHER_MS)).await;
                interval.reset();
            }
        }
        changes.borrow_and_update();
        let written = tokio::select! {
            () = shutdown.cancelled() => break,
            written = write(&bus, &mut store, &replica, &mut by_deployment) => written,
        };
        match written {
            Ok(()) => {
                replica.routing.currency.contact();
                tokio::time::sleep(Duration::from_millis(MIN_PAUSE_MS - GATHER_MS)).await;
            }
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "replica status not written");
                store = None;
                interval.reset_after(Duration::from_millis(RETRY_DELAY_MS));
            }
        }
    }
    if let Some(store) = store {
        // The entries would expire by themselves.
        let farewell = async {
            let _ = store.delete(&replica.id).await;
            by_deployment.leave(&store, &replica.id).await;
        };
        let _ = tokio::time::timeout(Duration::from_millis(FAREWELL_TIMEOUT_MS), farewell).await;
    }
}

async fn write(
    bus: &EventBus,
    store: &mut Option<Store>,
    replica: &Replica,
    by_deployment: &mut ByDeployment,
) -> anyhow::Result<()> {
    // What is published without a connection waits in memory, and would be old news later.
    anyhow::ensure!(bus.is_connected(), "NATS is unreachable");
    let store = match store {
        Some(store) => store,
        None => store.insert(bus.bucket(REPLICAS_BUCKET).await?),
    };
    let Routing { report, currency, selection, drills, .. } = &*replica.routing;
    let Unsettleds { position, listed, silent_below_revision } = report.now();
    let status = ReplicaStatus {
        replica_id: replica.id.clone(),
        position,
        tables: currency.tables(),
        unsettled: listed,
        silent_below_revision,
        deployments: selection.only(),
        version: selection.version().map(str::to_owned),
        load: load(&replica.routing),
        drills: drills.reports(replica.routing.all().values().map(|route| &*route.table)),
        cpu_us: usage::cpu_us(),
        gpu_percent: usage::gpu_percent(&replica.routing),
        at_unix_ms: now_unix_ms(),
    };
    store.put(&replica.id, serde_json::to_vec(&status)?.into()).await?;
    bus.acknowledged();
    by_deployment.write(store, &replica.id, &replica.routing).await
}

/// What was done for the deployments, where the replica serves only some.
fn load(routing: &Routing) -> Vec<DeploymentLoad> {
    if routing.selection.is_pool() {
        let routes = routing.all();
        let loads = routes.iter().map(|(name, route)| load_of(name.clone(), route));
        let asked = loads.filter(|load| load.in_flight + load.requests + load.errors > 0);
        return asked.take(MAX_POOL_LOADS).collect();
    }
    let only = routing.selection.only().filter(|only| only.len() <= MAX_LOADS).unwrap_or_default();
    let routes = routing.all();
    only.into_iter().filter_map(|name| routes.get(&name).map(|route| load_of(name, route))).collect()
}

fn load_of(deployment: String, route: &Route) -> DeploymentLoad {
    let mut load = DeploymentLoad { deployment, ..DeploymentLoad::default() };
    for version in route.versions.values() {
        let done = version.stats.snapshot();
        load.in_flight += version.stats.in_flight();
        load.requests += done.success;
        load.errors += done.fail;
        load.latency_us += (done.success_ns + done.fail_ns) / 1_000;
        load.queue_us += done.queue_ns / 1_000;
    }
    load
}
