//! Follows the access entries in NATS KV. What is known stays known while NATS is unreachable, and ages.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::kv::{Entry, Operation};
use futures::StreamExt as _;
use slipway_api::access::{ACCESS_BUCKET, HEAD_KEY};
use slipway_event_bus::EventBus;
use slipway_service_kit::health::Readiness;
use tokio_util::sync::CancellationToken;

use crate::Verifier;
use crate::directory::Directory;

/// Name of this part of a service's readiness.
const READINESS_PART: &str = "access";
/// Pause before a lost watch is started again.
const REWATCH_DELAY_MS: u64 = 250;
/// How often it is checked whether the connection was lost meanwhile.
const CONNECTION_CHECK_MS: u64 = 250;

/// Follows the bucket until the shutdown. The service is not ready before it has received tokens and roles
/// for the first time.
pub fn follow(
    bus: EventBus,
    verifier: Verifier,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> impl Future<Output = ()> + Send {
    if verifier.age_s().is_none() {
        readiness.waiting(READINESS_PART, "tokens and roles not received from the registry yet");
    }
    async move {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                ended = watch(&bus, &verifier, &readiness) => {
                    if let Err(error) = ended {
                        let error = format!("{error:#}");
                        tracing::debug!(error, "watch of the access entries lost; retrying");
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(REWATCH_DELAY_MS)) => {}
            }
        }
    }
}

async fn watch(bus: &EventBus, verifier: &Verifier, readiness: &Readiness) -> anyhow::Result<()> {
    anyhow::ensure!(bus.is_connected(), "NATS is unreachable");
    let connections = || bus.client().statistics().connects.load(Ordering::Relaxed);
    let connected = connections();
    let store = bus.bucket(ACCESS_BUCKET).await?;
    let mut entries = store.watch_with_history(">").await?;
    let mut check = tokio::time::interval(Duration::from_millis(CONNECTION_CHECK_MS));
    // Entries that were deleted while this service was not connected are not among those that arrive now, so
    // what arrives is collected apart, and replaces what was known before once it is whole.
    let mut collected = Some(Directory::default());
    loop {
        let entry = tokio::select! {
            entry = entries.next() => entry,
            // A watch may outlive its server without saying so; a new connection gets a new watch.
            _ = check.tick() => if connections() == connected { continue } else { return Ok(()) },
        };
        let Some(entry) = entry.transpose()? else { return Ok(()) };
        let (is_whole, is_head) = (entry.seen_current, entry.key == HEAD_KEY);
        match &mut collected {
            Some(directory) => take(directory, &entry),
            None => {
                let mut directory = verifier.write();
                take(&mut directory, &entry);
                anyhow::ensure!(!is_head || directory.is_consistent(), "entries were missed");
            }
        }
        // The head follows what it describes. A bucket that was made again has none before the registry has
        // written all of it.
        if (is_whole || is_head)
            && let Some(directory) = collected.take_if(|directory| directory.published_at_ms().is_some())
        {
            *verifier.write() = directory;
            readiness.ready(READINESS_PART);
        }
        if is_head {
            verifier.keep().await;
        }
    }
}

fn take(directory: &mut Directory, entry: &Entry) {
    let value = match entry.operation {
        Operation::Put => Some(entry.value.as_ref()),
        Operation::Delete | Operation::Purge => None,
    };
    if let Err(error) = directory.apply(&entry.key, value) {
        tracing::error!(%error, "an access entry grants nothing");
    }
}
