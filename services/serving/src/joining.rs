//! Tells on NATS where an audit stopped the joining of a version's requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use slipway_api::events::JoiningStopped;
use slipway_event_bus::EventBus;
use slipway_inference::{Difference, Joining};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::routing::{Routing, Version};

/// Pause between two looks.
const LOOK_INTERVAL_MS: u64 = 500;
/// CloudEvents source.
const SOURCE: &str = "slipway/serving";

/// Publishes one event for each version whose requests are no longer joined, until the shutdown.
pub(crate) async fn publish(
    bus: EventBus,
    replica_id: String,
    routing: Arc<Routing>,
    shutdown: CancellationToken,
) {
    let mut interval = tokio::time::interval(Duration::from_millis(LOOK_INTERVAL_MS));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // By deployment and digest: the event's id, so that it is stored once, and whether it was.
    let mut events: HashMap<(String, String), (Uuid, bool)> = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        // What is published without a connection waits in memory.
        if !bus.is_connected() {
            continue;
        }
        for (deployment, route) in routing.all().iter() {
            for version in route.versions.values() {
                let Some(difference) = stopped(version) else { continue };
                let key = (deployment.clone(), version.target.digest.clone());
                let (id, stored) = events.entry(key).or_insert_with(|| (Uuid::now_v7(), false));
                if *stored {
                    continue;
                }
                match bus.publish_event(SOURCE, *id, &event(&replica_id, version, difference)).await {
                    Ok(()) => *stored = true,
                    Err(error) => tracing::debug!(%error, "an event waits for NATS"),
                }
            }
        }
    }
}

fn stopped(version: &Version) -> Option<Difference> {
    match version.resident.served()?.joining() {
        Joining::Stopped(difference) => Some(difference),
        _ => None,
    }
}

fn event(replica_id: &str, version: &Version, difference: Difference) -> JoiningStopped {
    JoiningStopped {
        replica_id: replica_id.to_owned(),
        deployment: version.source.deployment.clone(),
        model: version.source.model.clone(),
        version: version.target.version.clone(),
        output: difference.output,
        element: difference.element as u64,
        joined: difference.joined,
        alone: difference.alone,
        run_rows: difference.run_rows,
        request_rows: difference.request_rows,
    }
}
