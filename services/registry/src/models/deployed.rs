//! Follows the traffic tables, so that no version is deleted that a deployment serves.
//!
//! The tables in NATS KV are the truth that serving replicas follow, and a watch begins with all of them: a
//! lost event, a registry that was restored from a backup and a bucket that was written again all end in the
//! right picture. Each table is read behind a lock on the deployment's row, so replicas of this service may
//! all follow. For the moment between the decision of the rollout controller to use a version and its table,
//! the controller holds the version (`for_deployment` of the gRPC API).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::kv::{Operation, Store};
use futures::StreamExt as _;
use slipway_api::traffic::{TABLES_HEAD_KEY, TRAFFIC_BUCKET, TrafficTable};
use slipway_event_bus::EventBus;
use slipway_service_kit::db::while_open;
use slipway_service_kit::health::Readiness;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::error::Error;
use crate::store::deployed::{self as table, Seen};

/// Delay before a lost watch is restarted.
const REWATCH_DELAY_MS: u64 = 250;
/// How often it is checked whether the connection was lost meanwhile…
const CHECK_MS: u64 = 500;
/// …and after how many checks whether a missing table is back.
const CHECKS_PER_LOOK: u32 = 10;
/// An empty bucket says nothing; silence for this long after the watch began means that it is empty.
const EMPTY_BUCKET_MS: u64 = 300;

/// The part of the readiness that the first reading of all tables is.
pub(crate) const READINESS_PART: &str = "traffic-tables";

/// How much is known. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Following {
    /// All tables were read since this process started.
    complete: Arc<AtomicBool>,
    /// They are being followed now.
    current: Arc<AtomicBool>,
}

impl Following {
    /// Whether the tables are followed now.
    pub(crate) fn is_current(&self) -> bool {
        self.current.load(Ordering::Acquire)
    }

    /// Refuses while it is not known which versions are in use.
    ///
    /// # Errors
    /// `Unavailable`.
    pub(crate) fn require_complete(&self) -> Result<(), Error> {
        if self.complete.load(Ordering::Acquire) { Ok(()) } else { Err(Error::deployments_unknown()) }
    }
}

/// Follows until `shutdown`.
pub(crate) async fn run(
    pool: PgPool,
    bus: EventBus,
    (following, readiness): (Following, Readiness),
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = follow(&pool, &bus, &following, &readiness) => {
                following.current.store(false, Ordering::Release);
                if let Err(error) = ended {
                    tracing::debug!(error = format!("{error:#}"),
                        "watch of the traffic tables lost; retrying");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(REWATCH_DELAY_MS)) => {}
        }
    }
}

async fn follow(
    pool: &PgPool,
    bus: &EventBus,
    following: &Following,
    readiness: &Readiness,
) -> anyhow::Result<()> {
    anyhow::ensure!(bus.is_connected(), "NATS is unreachable");
    let connections = || bus.client().statistics().connects.load(Ordering::Relaxed);
    let connected = connections();
    let store = bus.bucket(TRAFFIC_BUCKET).await?;
    let mut entries = store.watch_with_history(">").await?;
    let mut check = tokio::time::interval(Duration::from_millis(CHECK_MS));
    let empty = tokio::time::sleep(Duration::from_millis(EMPTY_BUCKET_MS));
    tokio::pin!(empty);
    let (mut any, mut seen, mut checks) = (false, BTreeSet::new(), 0_u32);
    loop {
        let entry = tokio::select! {
            entry = entries.next() => entry,
            () = &mut empty, if !any => {
                any = true;
                complete(pool, &store, following, &seen).await?;
                readiness.ready(READINESS_PART);
                continue;
            }
            _ = check.tick() => {
                // A watch may outlive its server without saying so; a new connection gets a new watch.
                if connections() != connected || !bus.is_connected() {
                    return Ok(());
                }
                checks += 1;
                if checks.is_multiple_of(CHECKS_PER_LOOK) {
                    missing(pool, &store).await?;
                }
                continue;
            }
        };
        let Some(entry) = entry.transpose()? else { return Ok(()) };
        any = true;
        let is_current = entry.seen_current;
        // The head is no deployment's table.
        if entry.key != TABLES_HEAD_KEY {
            read(pool, &store, &entry.key).await?;
            if !following.is_current() {
                seen.insert(entry.key);
            }
        }
        if is_current {
            complete(pool, &store, following, &seen).await?;
            readiness.ready(READINESS_PART);
        }
    }
}

/// Every table of the bucket was read: those that are known and were not among them are looked at once more.
async fn complete(
    pool: &PgPool,
    store: &Store,
    following: &Following,
    seen: &BTreeSet<String>,
) -> anyhow::Result<()> {
    if following.is_current() {
        return Ok(());
    }
    let known = table::tables(&mut *pool.acquire().await?).await?;
    for deployment in known.iter().filter(|known| !seen.contains(*known)) {
        read(pool, store, deployment).await?;
    }
    following.complete.store(true, Ordering::Release);
    following.current.store(true, Ordering::Release);
    Ok(())
}

async fn missing(pool: &PgPool, store: &Store) -> anyhow::Result<()> {
    // Not in the head of the loop, where the connection would be held until the loop ends.
    let missing = table::tables_missing(&mut *pool.acquire().await?).await?;
    for deployment in missing {
        read(pool, store, &deployment).await?;
    }
    Ok(())
}

/// Reads a deployment's table behind its lock, and stores which versions it names.
async fn read(pool: &PgPool, store: &Store, deployment: &str) -> anyhow::Result<()> {
    let mut transaction = slipway_service_kit::db::begin(pool).await?;
    table::table_lock(&mut transaction, deployment).await?;
    let seen = match while_open(&mut transaction, store.entry(deployment)).await?? {
        None => Seen::Nothing,
        Some(entry) if entry.operation != Operation::Put => {
            let created_ms = entry.created.unix_timestamp_nanos() / 1_000_000;
            Seen::Deleted(i64::try_from(created_ms).unwrap_or_default())
        }
        Some(entry) => match serde_json::from_slice::<TrafficTable>(&entry.value) {
            Ok(table) => Seen::Table(Box::new(table)),
            Err(error) => {
                // Serving keeps the table before, and so do we.
                tracing::error!(deployment, %error,
                    "traffic table does not parse; the previous one stays in use");
                return Ok(());
            }
        },
    };
    table::table_store(&mut transaction, deployment, &seen, now_ms()).await?;
    transaction.commit().await?;
    Ok(())
}
