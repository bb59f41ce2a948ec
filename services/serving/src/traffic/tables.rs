//! Watches the traffic tables in NATS KV. What is known stays known while NATS is unreachable.
//!
//! Each watch begins with the whole bucket, which is handed on as one: what the bucket does not have any more
//! is gone, whether or not its deletion was heard.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv::{Entry as KvEntry, Operation};
use slipway_api::traffic::{TABLES_HEAD_KEY, TRAFFIC_BUCKET, TablesPosition, TrafficTable};
use slipway_event_bus::EventBus;
use slipway_event_bus::bucket::Followed;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::selection::Selection;
use crate::models::routing::Routing;
use crate::models::{AllTables, Entry, Update};

/// Delay before a lost watch is restarted.
const REWATCH_DELAY_MS: u64 = 250;

/// Sends everything in the bucket, and every change, to the manager until the shutdown.
pub(crate) async fn watch(
    bus: EventBus,
    routing: Arc<Routing>,
    updates: mpsc::Sender<Update>,
    shutdown: CancellationToken,
) {
    let Routing { currency, selection, .. } = &*routing;
    let mut suspensions = currency.suspensions();
    loop {
        let before = *suspensions.borrow_and_update();
        let again_at_once = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = suspensions.changed() => true,
            ended = follow(&bus, selection, before, &updates) => match ended {
                Ok(Ended::HeadWritten) => true,
                Ok(Ended::Lost) => false,
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "watch of the traffic tables restarts");
                    false
                }
            },
        };
        currency.lost();
        if again_at_once {
            continue;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(REWATCH_DELAY_MS)) => {}
        }
    }
}

/// The tables in the bucket that this replica answers for.
///
/// # Errors
/// The bucket cannot be read.
pub(crate) async fn all(bus: &EventBus, selection: &Selection) -> anyhow::Result<Vec<TrafficTable>> {
    let (entries, _followed) = bus.follow_bucket(TRAFFIC_BUCKET).await?;
    let tables = entries.into_iter().filter_map(|entry| match read(entry, selection) {
        Some(Update::Table(entry)) => Some(entry.table),
        _ => None,
    });
    Ok(tables.collect())
}

/// Why a watch ended.
enum Ended {
    /// The connection or the consumer is another one.
    Lost,
    /// The bucket says from now on that it has all tables.
    HeadWritten,
}

async fn follow(
    bus: &EventBus,
    selection: &Selection,
    suspensions: u64,
    updates: &mpsc::Sender<Update>,
) -> anyhow::Result<Ended> {
    let read = |entry| read(entry, selection);
    let (entries, mut followed) = bus.follow_bucket(TRAFFIC_BUCKET).await?;
    let is_head = |entry: &KvEntry| entry.key == TABLES_HEAD_KEY && entry.operation == Operation::Put;
    let complete = entries.iter().any(is_head);
    // What is not there is gone.
    let tables = entries.into_iter().filter_map(read).filter(|update| !matches!(update, Update::Deleted(_)));
    let all = AllTables { updates: tables.collect(), complete, position: position(&followed), suspensions };
    updates.send(Update::All(Box::new(all))).await?;
    loop {
        let Some(entry) = followed.next().await? else { return Ok(Ended::Lost) };
        if is_head(&entry) && !complete {
            return Ok(Ended::HeadWritten);
        }
        if let Some(update) = read(entry) {
            updates.send(update).await?;
        }
        updates.send(Update::Applied(position(&followed))).await?;
    }
}

const fn position(followed: &Followed) -> TablesPosition {
    TablesPosition { bucket_created_unix_ms: followed.created_unix_ms(), revision: followed.revision() }
}

/// What an entry means to this replica; a table that it does not answer for is like none.
fn read(entry: KvEntry, selection: &Selection) -> Option<Update> {
    if entry.key == TABLES_HEAD_KEY {
        return None;
    }
    let KvEntry { key, value, revision, operation, .. } = entry;
    let refused = |reason: String| {
        tracing::error!(key, reason, "traffic table cannot be used; the previous one stays in use");
        Some(Update::Refused { deployment: key.clone(), revision, reason })
    };
    if operation != Operation::Put || !selection.may_take(&key) {
        return Some(Update::Deleted(key));
    }
    match serde_json::from_slice::<TrafficTable>(&value) {
        Ok(table) if table.deployment == key && !selection.takes(&table) => Some(Update::Deleted(key)),
        Ok(table) if table.deployment != key => {
            refused(format!("it is the table of the deployment `{}`", table.deployment))
        }
        Ok(table) => match table.validate() {
            Ok(()) => Some(Update::Table(Box::new(Entry { table: selection.part_of(table), revision }))),
            Err(invalid) => refused(format!("it is invalid: {invalid}")),
        },
        Err(error) => refused(format!("it does not parse: {error}")),
    }
}
