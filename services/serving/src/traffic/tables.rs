//! Watches the traffic tables in NATS KV. What is known stays known while NATS is unreachable.

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::kv::{Entry, Operation};
use futures::StreamExt as _;
use slipway_api::traffic::{TRAFFIC_BUCKET, TrafficTable};
use slipway_event_bus::EventBus;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::models::Update;

/// Delay before a lost watch is restarted.
const REWATCH_DELAY_MS: u64 = 250;
/// How often it is checked whether the connection was lost meanwhile.
const CONNECTION_CHECK_MS: u64 = 250;
/// An empty bucket says nothing; silence for this long after the watch began means that it is empty.
const EMPTY_BUCKET_MS: u64 = 300;

/// Sends every table, and every change, to the manager until the shutdown.
pub(crate) async fn watch(bus: EventBus, updates: mpsc::Sender<Update>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = follow(&bus, &updates) => {
                if let Err(error) = ended {
                    tracing::debug!(error = format!("{error:#}"), "watch of the traffic tables restarts");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(REWATCH_DELAY_MS)) => {}
        }
    }
}

async fn follow(bus: &EventBus, updates: &mpsc::Sender<Update>) -> anyhow::Result<()> {
    anyhow::ensure!(bus.is_connected(), "NATS is unreachable");
    let connections = || bus.client().statistics().connects.load(Ordering::Relaxed);
    let connected = connections();
    let store = bus.bucket(TRAFFIC_BUCKET).await?;
    let mut entries = store.watch_with_history(">").await?;
    let mut check = tokio::time::interval(Duration::from_millis(CONNECTION_CHECK_MS));
    let empty = tokio::time::sleep(Duration::from_millis(EMPTY_BUCKET_MS));
    tokio::pin!(empty);
    let mut any = false;
    loop {
        // Only what may be dropped half-way is awaited here; an entry that was taken is handed on below.
        let entry = tokio::select! {
            entry = entries.next() => entry,
            () = &mut empty, if !any => {
                any = true;
                updates.send(Update::Current).await?;
                continue;
            }
            // A watch may outlive its server without saying so; a new connection gets a new watch.
            _ = check.tick() => if connections() == connected { continue } else { return Ok(()) },
        };
        let Some(entry) = entry.transpose()? else { return Ok(()) };
        any = true;
        let current = entry.seen_current;
        if let Some(update) = read(entry) {
            updates.send(update).await?;
        }
        if current {
            updates.send(Update::Current).await?;
        }
    }
}

fn read(entry: Entry) -> Option<Update> {
    match entry.operation {
        Operation::Delete | Operation::Purge => Some(Update::Deleted(entry.key)),
        Operation::Put => match serde_json::from_slice::<TrafficTable>(&entry.value) {
            Ok(table) if table.deployment == entry.key => Some(Update::Table(Box::new(table))),
            Ok(table) => {
                tracing::error!(
                    key = entry.key,
                    deployment = table.deployment,
                    "traffic table under the key of another deployment"
                );
                None
            }
            Err(error) => {
                tracing::error!(key = entry.key, %error, "traffic table does not parse; the previous one \
                    stays in use");
                None
            }
        },
    }
}
