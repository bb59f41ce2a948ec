//! Says where an audit stopped the joining of a version's requests: in the log, and as an event where there
//! is NATS.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use slipway_api::events::JoiningStopped;
use slipway_event_bus::EventBus;
use slipway_inference::{Difference, Joining};
use slipway_runtime::id;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::models::routing::{Routing, Version};

/// Pause between two looks.
const LOOK_INTERVAL_MS: u64 = 500;
/// CloudEvents source.
const SOURCE: &str = "slipway/serving";

/// What was said of a version.
struct Said {
    /// Id of the event, so that it is stored once.
    id: Uuid,
    /// Whether it was.
    stored: bool,
}

/// Logs each version whose requests are no longer joined, and publishes an event for it, until the shutdown.
pub(crate) async fn watch(
    bus: Option<EventBus>,
    replica_id: String,
    routing: Arc<Routing>,
    shutdown: CancellationToken,
) {
    let mut interval = tokio::time::interval(Duration::from_millis(LOOK_INTERVAL_MS));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // By deployment and digest.
    let mut said: HashMap<(String, String), Said> = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => {}
        }
        for (deployment, route) in routing.all().iter() {
            for version in route.versions.values() {
                let Some(difference) = stopped(version) else { continue };
                let key = (deployment.clone(), version.target.digest.clone());
                let said = said.entry(key).or_insert_with(|| {
                    log(version, &difference);
                    Said { id: id::time_ordered(), stored: false }
                });
                // What is published without a connection waits in memory.
                let Some(bus) = bus.as_ref().filter(|bus| bus.is_connected() && !said.stored) else {
                    continue;
                };
                match bus.publish_event(SOURCE, said.id, &event(&replica_id, version, difference)).await {
                    Ok(()) => said.stored = true,
                    Err(error) => tracing::debug!(%error, "event queued: NATS unreachable"),
                }
            }
        }
    }
}

fn log(version: &Version, difference: &Difference) {
    let deployment = &version.source.deployment;
    tracing::warn!(
        deployment,
        version = version.target.version,
        %difference,
        "audit found a different answer; requests of the version are no longer joined"
    );
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
