//! The transactional outbox: an event is committed with the change that it tells of, and published afterwards.
//!
//! Expected table, in the service's own schema:
//!
//! ```sql
//! CREATE TABLE outbox (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id UUID NOT NULL UNIQUE,
//!   subject TEXT NOT NULL, event_type TEXT NOT NULL, entity TEXT NOT NULL, data JSONB NOT NULL, traceparent TEXT,
//!   occurred_at TIMESTAMPTZ NOT NULL DEFAULT now(), published_at TIMESTAMPTZ);
//! ```
//!
//! A service with an audit trail has more columns; see [`crate::audit`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use chrono::{DateTime, SecondsFormat, Utc};
use slipway_api::events::EventBody;
use sqlx::{PgConnection, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::audit::{self, Actor};
use crate::{Error, EventBus};

/// Rows that one round publishes at most.
const BATCH_ROWS: i64 = 256;
/// The relay looks this often where nobody woke it: another replica may have committed.
const POLL_INTERVAL_MS: u64 = 200;
/// Two rounds begin at least so far apart, unless the first found more than it could publish: under load a round has many
/// events then, and not each its own transaction. The first event after a pause goes at once.
const MIN_ROUND_MS: u64 = 10;
/// Pause after a failure.
const RETRY_DELAY_MS: u64 = 500;
/// Key of the advisory lock that makes one relay publish at a time, so that the order holds.
const RELAY_LOCK_KEY: i64 = 0x51_1B_0A_4A;

/// Adds events to the outbox and wakes the relay of this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outbox {
    wake: Arc<Notify>,
    audited: bool,
}

impl Outbox {
    /// The outbox of a service with an audit trail: what the relay publishes goes into the table `audit`.
    #[must_use]
    pub fn audited() -> Self {
        Self { audited: true, ..Self::default() }
    }

    /// Adds an event in the caller's transaction; its trace context is the current span's. Call [`Self::wake`] after the
    /// commit. Answers with the event's id.
    ///
    /// # Errors
    /// The insert fails.
    pub async fn enqueue<E: EventBody>(
        &self,
        connection: &mut PgConnection,
        event: &E,
    ) -> Result<Uuid, Error> {
        let prepared = Prepared::new(event, slipway_telemetry::current_traceparent())?;
        let id = prepared.id;
        self.enqueue_all(connection, std::slice::from_ref(&prepared)).await?;
        Ok(id)
    }

    /// [`Self::enqueue`] for many events in one statement, in their order.
    ///
    /// # Errors
    /// The insert fails.
    pub async fn enqueue_all(&self, connection: &mut PgConnection, events: &[Prepared]) -> Result<(), Error> {
        let column = |field: fn(&Prepared) -> &str| events.iter().map(field).collect::<Vec<&str>>();
        let statement = if self.audited {
            "INSERT INTO outbox (id, subject, event_type, entity, data, traceparent, principal, credential, origin) \
             SELECT id, subject, subject, entity, data::JSONB, traceparent, principal, credential, origin \
             FROM UNNEST($1::UUID[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[]) \
             AS given (id, subject, entity, data, traceparent, principal, credential, origin)"
        } else {
            "INSERT INTO outbox (id, subject, event_type, entity, data, traceparent) \
             SELECT id, subject, subject, entity, data::JSONB, traceparent \
             FROM UNNEST($1::UUID[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[]) \
             AS given (id, subject, entity, data, traceparent)"
        };
        let query = sqlx::query(statement)
            .bind(events.iter().map(|event| event.id).collect::<Vec<Uuid>>())
            .bind(column(|event| &event.subject))
            .bind(column(|event| &event.entity))
            .bind(column(|event| &event.data))
            .bind(events.iter().map(|event| event.traceparent.as_deref()).collect::<Vec<Option<&str>>>());
        let query = if self.audited {
            query
                .bind(column(|event| &event.actor.principal))
                .bind(column(|event| &event.actor.credential))
                .bind(column(|event| &event.actor.origin))
        } else {
            query
        };
        query.execute(connection).await?;
        Ok(())
    }

    /// Tells the relay that something was committed. Without it the relay finds out within its poll interval.
    pub fn wake(&self) {
        self.wake.notify_one();
    }
}

/// An event on its way into the outbox.
#[derive(Debug, Clone)]
pub struct Prepared {
    id: Uuid,
    subject: String,
    entity: String,
    data: String,
    traceparent: Option<String>,
    actor: Arc<Actor>,
}

impl Prepared {
    /// `traceparent` is the W3C context of the request that the event tells of.
    ///
    /// # Errors
    /// The event has no JSON form.
    pub fn new<E: EventBody>(event: &E, traceparent: Option<String>) -> Result<Self, Error> {
        let subject = event.subject();
        let data = serde_json::to_string(event)
            .map_err(|error| Error::Body { event_type: subject.clone(), reason: error.to_string() })?;
        Ok(Self {
            id: Uuid::now_v7(),
            subject,
            entity: event.entity(),
            data,
            traceparent,
            actor: Arc::default(),
        })
    }

    /// Says on whose behalf the change was made, for the audit trail.
    #[must_use]
    pub fn by(mut self, actor: Arc<Actor>) -> Self {
        self.actor = actor;
        self
    }
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
pub(crate) struct OutboxRow {
    seq: i64,
    pub(crate) id: Uuid,
    pub(crate) subject: String,
    event_type: String,
    pub(crate) entity: String,
    pub(crate) data: serde_json::Value,
    pub(crate) traceparent: Option<String>,
    pub(crate) occurred_at: DateTime<Utc>,
    #[sqlx(default)]
    pub(crate) principal: String,
    #[sqlx(default)]
    pub(crate) credential: String,
    #[sqlx(default)]
    pub(crate) origin: String,
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
        let statement = if self.outbox.audited {
            "SELECT seq, id, subject, event_type, entity, data, traceparent, occurred_at, principal, credential, origin
             FROM outbox WHERE published_at IS NULL ORDER BY seq LIMIT $1"
        } else {
            "SELECT seq, id, subject, event_type, entity, data, traceparent, occurred_at FROM outbox
             WHERE published_at IS NULL ORDER BY seq LIMIT $1"
        };
        let rows: Vec<OutboxRow> =
            sqlx::query_as(statement).bind(BATCH_ROWS).fetch_all(&mut *transaction).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let (stored, failure) = self.publish_rows(&rows).await;
        if self.outbox.audited {
            // What was stored are the first rows, in order.
            audit::append(&mut transaction, &rows[..stored.len()]).await?;
        }
        // JetStream keeps what was published; here it would only make the table slow.
        sqlx::query("DELETE FROM outbox WHERE seq = ANY($1)")
            .bind(&stored)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        failure.map_or(Ok(rows.len()), Err)
    }

    /// Sends all, then awaits the acknowledgements in order; stops at the first failure so that the order holds.
    async fn publish_rows(&self, rows: &[OutboxRow]) -> (Vec<i64>, Option<Error>) {
        let mut pending = Vec::with_capacity(rows.len());
        let mut failure = None;
        for row in rows {
            let payload = row.data.to_string().into();
            match self
                .bus
                .jetstream()
                .publish_with_headers(row.subject.clone(), self.headers(row), payload)
                .await
            {
                Ok(acknowledgement) => pending.push((row.seq, acknowledgement)),
                Err(error) => {
                    failure = Some(Error::nats(error));
                    break;
                }
            }
        }
        let mut stored = Vec::with_capacity(pending.len());
        for (seq, acknowledgement) in pending {
            match acknowledgement.await {
                Ok(_) => stored.push(seq),
                Err(error) => {
                    failure = Some(Error::nats(error));
                    break;
                }
            }
        }
        (stored, failure)
    }

    fn headers(&self, row: &OutboxRow) -> HeaderMap {
        let id = row.id.to_string();
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", id.as_str());
        headers.insert("ce-specversion", "1.0");
        headers.insert("ce-id", id.as_str());
        headers.insert("ce-source", self.source);
        headers.insert("ce-type", row.event_type.as_str());
        headers.insert("ce-subject", row.entity.replace(['\r', '\n'], " ").as_str());
        headers.insert("ce-time", row.occurred_at.to_rfc3339_opts(SecondsFormat::Millis, true).as_str());
        headers.insert("content-type", "application/json");
        if let Some(traceparent) = &row.traceparent {
            headers.insert(slipway_telemetry::context::TRACEPARENT, traceparent.as_str());
        }
        headers
    }
}
