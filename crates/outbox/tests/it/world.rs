//! A NATS server, a database with the tables of outbox, inbox and audit trail, and helpers to commit and read events.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use slipway_api::events::{AliasSet, EVENTS_STREAM};
use slipway_event_bus::{EventBus, NatsConfig, Outbox, Received, Relay, records};
use slipway_testkit::TestNats;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TABLES: &str = "CREATE TABLE outbox (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id UUID NOT NULL UNIQUE, \
    subject TEXT NOT NULL, event_type TEXT NOT NULL, entity TEXT NOT NULL, data JSONB NOT NULL, traceparent TEXT, \
    occurred_at TIMESTAMPTZ NOT NULL DEFAULT now(), published_at TIMESTAMPTZ, principal TEXT NOT NULL DEFAULT '', \
    credential TEXT NOT NULL DEFAULT '', origin TEXT NOT NULL DEFAULT ''); \
    CREATE TABLE inbox (consumer TEXT NOT NULL, event_id TEXT NOT NULL, handled_at TIMESTAMPTZ NOT NULL DEFAULT now(), \
    PRIMARY KEY (consumer, event_id)); \
    CREATE TABLE audit (seq BIGINT PRIMARY KEY, event_id UUID NOT NULL UNIQUE, at_ms BIGINT NOT NULL, \
    principal TEXT NOT NULL, credential TEXT NOT NULL, origin TEXT NOT NULL, trace_id TEXT NOT NULL, \
    entity TEXT NOT NULL, what TEXT NOT NULL, id TEXT NOT NULL, details TEXT NOT NULL, hash BYTEA NOT NULL); \
    CREATE TABLE audit_head (seq BIGINT NOT NULL, hash BYTEA NOT NULL); \
    INSERT INTO audit_head VALUES (0, decode(repeat('00', 32), 'hex'));";

/// Relays of this database whose transaction waits, after it has published.
pub(crate) const BLOCKED_RELAYS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
    AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM outbox%'";
/// Ends their connections, as a failover of Postgres would; says how many.
pub(crate) const END_RELAYS: &str = "WITH blocked AS MATERIALIZED (SELECT pid FROM pg_stat_activity \
    WHERE datname = current_database() AND query LIKE 'DELETE FROM outbox%') \
    SELECT count(pg_terminate_backend(pid)) FROM blocked";

/// A slow machine needs this long at most.
const PATIENCE_S: u64 = 60;
const LOOK_INTERVAL_MS: u64 = 25;

/// The servers of one test.
pub(crate) struct World {
    pub(crate) nats: TestNats,
    pub(crate) pool: PgPool,
    pub(crate) bus: EventBus,
    pub(crate) outbox: Outbox,
    pub(crate) shutdown: CancellationToken,
}

impl World {
    /// Servers without a relay: what is committed stays in the outbox.
    pub(crate) async fn begin() -> Self {
        Self::with(Outbox::default()).await
    }

    /// [`Self::begin`] with an outbox of another kind.
    pub(crate) async fn with(outbox: Outbox) -> Self {
        let nats = slipway_testkit::nats().await;
        let pool = PgPool::connect(&slipway_testkit::postgres().await.url).await.unwrap();
        sqlx::raw_sql(TABLES).execute(&pool).await.unwrap();
        let bus = EventBus::connect(&NatsConfig { nats_url: nats.url.clone() }, "test").await.unwrap();
        let shutdown = CancellationToken::new();
        assert!(bus.wait_for_resources(&shutdown).await);
        Self { nats, pool, bus, outbox, shutdown }
    }

    /// Starts a relay, as each replica of a service has one.
    pub(crate) fn start_relay(&self) -> JoinHandle<()> {
        let relay = Relay::new(self.pool.clone(), self.bus.clone(), self.outbox.clone(), "slipway/test");
        tokio::spawn(relay.run(self.shutdown.clone()))
    }

    /// Commits one event in a transaction of its own.
    pub(crate) async fn set_alias(&self, version: u32) {
        self.set_aliases([version]).await;
    }

    /// Commits events in one transaction.
    pub(crate) async fn set_aliases(&self, versions: impl IntoIterator<Item = u32>) {
        let mut transaction = self.pool.begin().await.unwrap();
        for version in versions {
            self.outbox.enqueue(&mut transaction, &alias(version)).await.unwrap();
        }
        transaction.commit().await.unwrap();
        self.outbox.wake();
    }

    /// Everything in the stream, once `count` messages are there and the outbox is empty.
    pub(crate) async fn published(&self, count: usize) -> Vec<Received> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let end = CancellationToken::new();
        let (bus, sink, until) = (self.bus.clone(), Arc::clone(&seen), end.clone());
        let reader = tokio::spawn(async move {
            records::read_from(&bus, EVENTS_STREAM, SystemTime::UNIX_EPOCH, &until, |message| {
                sink.lock().unwrap().push(Received::from_message(message));
            })
            .await;
        });
        wait_for("the events in the stream", || seen.lock().unwrap().len() >= count).await;
        self.wait_for_rows("SELECT count(*) FROM outbox", 0).await;
        let total = self.stored().await;
        wait_for("every message of the stream", || seen.lock().unwrap().len() >= total).await;
        end.cancel();
        reader.await.unwrap();
        let seen = seen.lock().unwrap();
        seen.clone()
    }

    /// Messages in the events stream.
    pub(crate) async fn stored(&self) -> usize {
        let mut stream = self.bus.jetstream().get_stream(EVENTS_STREAM).await.unwrap();
        usize::try_from(stream.info().await.unwrap().state.messages).unwrap()
    }

    /// Waits until the events stream holds this many messages.
    pub(crate) async fn wait_for_stored(&self, count: usize) {
        for _ in 0..PATIENCE_S * 1_000 / LOOK_INTERVAL_MS {
            if self.stored().await >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
        }
        panic!("the stream holds {} messages after {PATIENCE_S} s; expected {count}", self.stored().await);
    }

    /// The result of a query that counts.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        let query = sqlx::query_as::<_, (i64,)>(sqlx::AssertSqlSafe(query));
        let (count,) = query.fetch_one(&self.pool).await.unwrap();
        count
    }

    /// Waits until a query counts `wanted`.
    pub(crate) async fn wait_for_rows(&self, query: &str, wanted: i64) {
        for _ in 0..PATIENCE_S * 1_000 / LOOK_INTERVAL_MS {
            if self.count(query).await == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
        }
        panic!("`{query}` gives {} after {PATIENCE_S} s; expected {wanted}", self.count(query).await);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// An event of a model's alias.
pub(crate) fn alias(version: u32) -> AliasSet {
    AliasSet {
        model: "m".into(),
        alias: "champion".into(),
        version: version.to_string(),
        unchanged: false,
        model_id: String::new(),
    }
}

/// The version that an event names.
pub(crate) fn version(event: &Received) -> u32 {
    event.parse::<AliasSet>().unwrap().version.parse().unwrap()
}

/// The versions that events name.
pub(crate) fn versions(events: &[Received]) -> Vec<u32> {
    events.iter().map(version).collect()
}

/// Waits until something is so.
pub(crate) async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..PATIENCE_S * 1_000 / LOOK_INTERVAL_MS {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
    }
    panic!("waited {PATIENCE_S} s in vain for {what}");
}
