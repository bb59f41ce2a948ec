//! Tells the rollout controller, through NATS KV, what this replica holds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::Store;
use slipway_api::traffic::{REPLICA_STATUS_INTERVAL_S, REPLICAS_BUCKET, ReplicaStatus, VersionStatus};
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::models::routing::{Route, Routing};

/// Pause after a write that failed.
const RETRY_DELAY_MS: u64 = 500;
/// The last words to NATS may take this long.
const FAREWELL_TIMEOUT_MS: u64 = 1_000;

/// Writes the status of every deployment at each change and every few seconds, until the shutdown; then takes
/// it back.
pub(crate) async fn publish(
    bus: EventBus,
    replica_id: String,
    routing: Arc<Routing>,
    shutdown: CancellationToken,
) {
    let mut changes = routing.changes();
    let mut interval = tokio::time::interval(Duration::from_secs(REPLICA_STATUS_INTERVAL_S));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut store: Option<Store> = None;
    let mut shown = BTreeSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = interval.tick() => {}
            changed = changes.changed() => if changed.is_err() { break },
        }
        let written = tokio::select! {
            () = shutdown.cancelled() => break,
            written = write_all(&bus, &mut store, &replica_id, &routing, &mut shown) => written,
        };
        if let Err(error) = written {
            tracing::debug!(error = format!("{error:#}"), "replica status not written");
            store = None;
            interval.reset_after(Duration::from_millis(RETRY_DELAY_MS));
        }
    }
    if let Some(store) = store {
        let farewell = async {
            for deployment in shown {
                // The entry would expire by itself.
                let _ = store.delete(key(&replica_id, &deployment)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(FAREWELL_TIMEOUT_MS), farewell).await;
    }
}

async fn write_all(
    bus: &EventBus,
    store: &mut Option<Store>,
    replica_id: &str,
    routing: &Routing,
    shown: &mut BTreeSet<String>,
) -> anyhow::Result<()> {
    // What is published without a connection waits in memory, and would be old news later.
    anyhow::ensure!(bus.is_connected(), "NATS is unreachable");
    let store = match store {
        Some(store) => store,
        None => store.insert(bus.bucket(REPLICAS_BUCKET).await?),
    };
    let routes = routing.all();
    for (deployment, route) in routes.iter() {
        let status = serde_json::to_vec(&status_of(replica_id, deployment, route))?;
        store.put(key(replica_id, deployment), status.into()).await?;
        shown.insert(deployment.clone());
    }
    let gone: Vec<String> = shown.iter().filter(|name| !routes.contains_key(*name)).cloned().collect();
    for deployment in gone {
        store.delete(key(replica_id, &deployment)).await?;
        shown.remove(&deployment);
    }
    Ok(())
}

fn key(replica_id: &str, deployment: &str) -> String {
    format!("{replica_id}.{deployment}")
}

fn status_of(replica_id: &str, deployment: &str, route: &Route) -> ReplicaStatus {
    ReplicaStatus {
        replica_id: replica_id.to_owned(),
        deployment: deployment.to_owned(),
        table_revision: route.table.revision,
        versions: route
            .versions
            .values()
            .map(|version| VersionStatus {
                version: version.target.version.clone(),
                digest: version.target.digest.clone(),
                state: version.state,
                reason: version.reason.clone(),
            })
            .collect(),
        at_unix_ms: now_unix_ms(),
    }
}
