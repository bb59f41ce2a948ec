//! The relay: publishes what was committed to the outbox, at least once and in order.
//!
//! It runs in the replica that leads. The others tell it of their commits by a message of core NATS, which
//! nothing stores: where one is lost, the relay finds the rows by itself.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::{StreamExt as _, stream};
use slipway_audit::{Actor, Entry, append};
use slipway_event_bus::{CloudEvent, EventBus};
use slipway_lease::{Lease, Lost, Term};
use slipway_service_kit::health::Readiness;
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::{Drain, Tasks};
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::outbox::count;
use crate::{Outbox, backlog};

/// Rows that one round publishes at most.
const BATCH_ROWS: i64 = 256;
/// The relay looks this often where nothing woke it.
const POLL_INTERVAL_MS: u64 = 5_000;
/// Two rounds begin at least so far apart, unless the first found more than it could publish: under load a
/// round has many events then, and not each its own transaction. The first event after a pause is published
/// immediately.
const MIN_ROUND_MS: u64 = 10;
/// Events that may wait a little wait this long for others.
const GATHER_MS: u64 = 200;
/// Key of the advisory lock of relays before there were leases.
const RELAY_LOCK_KEY: i32 = 0x51_1B_0A_4A;
/// Pause after a failure.
const RETRY_DELAY_MS: u64 = 500;

/// Why a round was not finished.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the outbox table: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Bus(#[from] slipway_event_bus::Error),
    #[error("NATS is unreachable")]
    Unreachable,
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Publishes what was committed. One relay of a service publishes at a time, whichever replica it runs in.
#[derive(Debug)]
pub struct Relay {
    pool: PgPool,
    bus: EventBus,
    outbox: Outbox,
    lease: Lease,
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
    pub const fn new(
        pool: PgPool,
        bus: EventBus,
        outbox: Outbox,
        source: &'static str,
        lease: Lease,
    ) -> Self {
        Self { pool, bus, outbox, lease, source }
    }

    /// Publishes while this replica leads, until it begins to end, and tells the leader of commits otherwise,
    /// until its last request is answered. Failures are logged and tried again: an event is late, never lost.
    pub async fn run(self, drain: impl Into<Drain>) {
        let drain = drain.into();
        let shutdown = drain.begun();
        let publishing = self.lease.clone().lead(shutdown.clone(), |term| self.publish(term, shutdown));
        let announcing = async {
            tokio::select! {
                () = drain.over().cancelled() => {}
                () = self.announce() => {}
            }
        };
        tokio::join!(publishing, announcing);
    }

    /// Starts the relay, and the look at how far it is behind ([`crate::backlog`]).
    pub fn start(self, tasks: &mut Tasks, metrics: &Metrics, readiness: &Readiness, drain: &Drain) {
        let (pool, bus) = (self.pool.clone(), self.bus.clone());
        let age = backlog::Age::register(metrics);
        tasks.spawn("backlog", backlog::watch(pool, bus, age, readiness.clone(), drain.begun().clone()));
        tasks.spawn("relay", self.run(drain.clone()));
    }

    /// The service's name, e.g. `registry`.
    fn service(&self) -> &'static str {
        self.source.rsplit_once('/').map_or(self.source, |(_, name)| name)
    }

    /// Tells the leader of what this replica commits.
    async fn announce(&self) {
        let mut commits = Waiting::new(&self.outbox);
        loop {
            commits.next().await;
            // A leader's own commits wake it without NATS.
            if self.lease.term().is_none()
                && self.bus.is_connected()
                && let Err(error) = self.bus.wake(self.service()).await
            {
                tracing::debug!(%error, "the leader was not told of a commit; it finds it by itself");
            }
            tokio::time::sleep(Duration::from_millis(MIN_ROUND_MS)).await;
        }
    }

    /// Publishes during a term of this replica, until the shutdown: a round that began is finished.
    async fn publish(&self, term: Term, shutdown: &CancellationToken) {
        let mut commits = Waiting::new(&self.outbox);
        let mut others = match self.bus.wakes(self.service()).await {
            Ok(others) => others.map(drop).boxed(),
            Err(error) => {
                tracing::warn!(%error, "commits of other replicas are found by polling");
                stream::pending().boxed()
            }
        };
        let mut failing = false;
        while !shutdown.is_cancelled() {
            let begun = Instant::now();
            let pause_ms = match self.round(&term).await {
                Ok(rows) if rows == BATCH_ROWS as usize => continue,
                Ok(_) => {
                    failing = false;
                    POLL_INTERVAL_MS
                }
                Err(Error::Lost(lost)) => {
                    tracing::debug!(%lost, "the relay ends");
                    return term.over().await;
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
                () = shutdown.cancelled() => return,
                () = commits.next(), if !failing => {}
                Some(()) = others.next(), if !failing => count(&self.outbox.elsewhere),
                () = tokio::time::sleep(Duration::from_millis(pause_ms)) => {}
            }
            let rest = Duration::from_millis(MIN_ROUND_MS).saturating_sub(begun.elapsed());
            if !rest.is_zero() {
                tokio::time::sleep(rest).await;
            }
        }
    }

    /// One round: publishes the oldest rows in order, and removes those that JetStream stored. Only the
    /// removal is fenced: what a leader whose term is over publishes once more, JetStream knows by its id.
    async fn round(&self, term: &Term) -> Result<usize, Error> {
        if !self.bus.is_connected() {
            return Err(Error::Unreachable);
        }
        let rows: Vec<OutboxRow> = sqlx::query_as(
            "SELECT seq, id, subject, entity, data, traceparent, occurred_at, principal, credential, origin \
             FROM outbox WHERE published_at IS NULL ORDER BY seq LIMIT $1",
        )
        .bind(BATCH_ROWS)
        .fetch_all(&self.pool)
        .await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let found = rows.len();
        let (stored, failure) = self.publish_rows(term, &rows).await;
        if !stored.is_empty() {
            let mut transaction = slipway_service_kit::db::begin(&self.pool).await?;
            term.fence(&mut transaction).await?;
            lock_against_predecessors(&mut transaction).await?;
            // JetStream keeps what was published; here it would only make the table slow.
            let removed: BTreeSet<i64> =
                sqlx::query_scalar("DELETE FROM outbox WHERE seq = ANY($1) RETURNING seq")
                    .bind(&stored)
                    .fetch_all(&mut *transaction)
                    .await?
                    .into_iter()
                    .collect();
            if self.outbox.audited {
                let removed = rows.into_iter().filter(|row| removed.contains(&row.seq));
                append(&mut transaction, removed.map(Entry::from)).await?;
            }
            transaction.commit().await?;
        }
        failure.map_or(Ok(found), Err)
    }

    /// Sends all, then awaits the acknowledgements in order; stops at the first failure so that the order
    /// holds.
    async fn publish_rows(&self, term: &Term, rows: &[OutboxRow]) -> (Vec<i64>, Option<Error>) {
        let mut pending = Vec::with_capacity(rows.len());
        let mut failure = None;
        for row in rows {
            // A process that was stopped goes on here.
            if !term.is_current() {
                failure = Some(Lost { term: term.number() }.into());
                break;
            }
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

/// During an upgrade, a replica without leases may publish the same rows. It holds this lock from reading
/// them to its commit.
async fn lock_against_predecessors(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext(current_schema()))")
        .bind(RELAY_LOCK_KEY)
        .execute(connection)
        .await
        .map(drop)
}

/// Waits for commits of this process.
struct Waiting {
    urgent: watch::Receiver<u64>,
    patient: watch::Receiver<u64>,
}

impl Waiting {
    fn new(outbox: &Outbox) -> Self {
        Self { urgent: outbox.own.urgent.subscribe(), patient: outbox.own.patient.subscribe() }
    }

    /// Waits for the next ones: until one is urgent, or patient ones have waited for others.
    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.urgent.changed() => {}
            _ = self.patient.changed() => {
                let gathered = tokio::time::sleep(Duration::from_millis(GATHER_MS));
                tokio::select! {
                    _ = self.urgent.changed() => {}
                    () = gathered => {}
                }
            }
        }
        self.patient.mark_unchanged();
    }
}
