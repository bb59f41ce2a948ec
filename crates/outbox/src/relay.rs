//! The relay: publishes what was committed to the outbox, at least once and in order.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use slipway_audit::{Actor, Entry, append};
use slipway_event_bus::{CloudEvent, EventBus};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Outbox;

/// Rows that one round publishes at most.
const BATCH_ROWS: i64 = 256;
/// The relay looks this often where nothing woke it: another replica may have committed.
const POLL_INTERVAL_MS: u64 = 200;
/// Two rounds begin at least so far apart, unless the first found more than it could publish: under load a
/// round has many events then, and not each its own transaction. The first event after a pause is published
/// immediately.
const MIN_ROUND_MS: u64 = 10;
/// Pause after a failure.
const RETRY_DELAY_MS: u64 = 500;
/// Key of the advisory lock that makes one relay publish at a time, so that the order holds.
const RELAY_LOCK_KEY: i64 = 0x51_1B_0A_4A;

/// Why a round was not finished.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the outbox table: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Bus(#[from] slipway_event_bus::Error),
}

/// Publishes what was committed. One relay of a service publishes at a time, whichever replica it runs in.
#[derive(Debug)]
pub struct Relay {
    pool: PgPool,
    bus: EventBus,
    outbox: Outbox,
    source: &'static str,
}

#[derive(Debug, sqlx::FromRow)]
struct OutboxRow {
    seq: i64,
    id: Uuid,
    subject: String,
    entity: String,
    data: serde_json::Value,
    traceparent: Option<String>,
    occurred_at: DateTime<Utc>,
    principal: String,
    credential: String,
    origin: String,
}

impl OutboxRow {
    fn event<'row>(&'row self, source: &'row str) -> CloudEvent<'row> {
        CloudEvent {
            id: self.id,
            source,
            subject: &self.subject,
            entity: &self.entity,
            time: self.occurred_at,
            traceparent: self.traceparent.as_deref(),
            data: self.data.to_string().into(),
        }
    }
}

impl From<OutboxRow> for Entry {
    fn from(row: OutboxRow) -> Self {
        Self {
            event_id: row.id,
            at_ms: row.occurred_at.timestamp_millis(),
            actor: Actor { principal: row.principal, credential: row.credential, origin: row.origin },
            traceparent: row.traceparent,
            subject: row.subject,
            id: row.entity,
            details: row.data.to_string(),
        }
    }
}

impl Relay {
    /// `source` is the CloudEvents source, e.g. `slipway/registry`.
    pub const fn new(pool: PgPool, bus: EventBus, outbox: Outbox, source: &'static str) -> Self {
        Self { pool, bus, outbox, source }
    }

    /// Publishes until `shutdown`. Failures are logged and tried again: an event is late, never lost.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut failing = false;
        while !shutdown.is_cancelled() {
            let begun = Instant::now();
            let published = tokio::select! {
                () = shutdown.cancelled() => break,
                published = self.publish_batch() => published,
            };
            let pause_ms = match published {
                Ok(rows) if rows == BATCH_ROWS as usize => continue,
                Ok(_) => {
                    failing = false;
                    POLL_INTERVAL_MS
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "events queued in the outbox");
                    }
                    failing = true;
                    RETRY_DELAY_MS
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.outbox.wake.notified(), if !failing => {}
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
            }
            let rest = Duration::from_millis(MIN_ROUND_MS).saturating_sub(begun.elapsed());
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
            }
        }
    }

    /// One round: takes the lock, publishes the oldest rows in order, removes those that JetStream stored.
    async fn publish_batch(&self) -> Result<usize, Error> {
        let mut transaction = self.pool.begin().await?;
        let (locked,): (bool,) =
            sqlx::query_as("SELECT pg_try_advisory_xact_lock($1, hashtext(current_schema()))")
                .bind(RELAY_LOCK_KEY as i32)
                .fetch_one(&mut *transaction)
                .await?;
        if !locked {
            return Ok(0);
        }
        let rows: Vec<OutboxRow> = sqlx::query_as(
            "SELECT seq, id, subject, entity, data, traceparent, occurred_at, principal, credential, origin \
             FROM outbox WHERE published_at IS NULL ORDER BY seq LIMIT $1",
        )
        .bind(BATCH_ROWS)
        .fetch_all(&mut *transaction)
        .await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let found = rows.len();
        let (stored, failure) = self.publish_rows(&rows).await;
        if self.outbox.audited {
            // What was stored are the first rows, in order.
            append(&mut transaction, rows.into_iter().take(stored.len()).map(Entry::from)).await?;
        }
        // JetStream keeps what was published; here it would only make the table slow.
        sqlx::query("DELETE FROM outbox WHERE seq = ANY($1)")
            .bind(&stored)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        failure.map_or(Ok(found), Err)
    }

    /// Sends all, then awaits the acknowledgements in order; stops at the first failure so that the order
    /// holds.
    async fn publish_rows(&self, rows: &[OutboxRow]) -> (Vec<i64>, Option<Error>) {
        let mut pending = Vec::with_capacity(rows.len());
        let mut failure = None;
        for row in rows {
            match self.bus.publish(row.event(self.source)).await {
                Ok(publishing) => pending.push((row.seq, publishing)),
                Err(error) => {
                    failure = Some(error.into());
                    break;
                }
            }
        }
        let mut stored = Vec::with_capacity(pending.len());
        for (seq, publishing) in pending {
            match publishing.stored().await {
                Ok(()) => stored.push(seq),
                Err(error) => {
                    failure = Some(error.into());
                    break;
                }
            }
        }
        (stored, failure)
    }
}
