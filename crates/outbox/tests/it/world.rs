//! A NATS server, a database with the tables of outbox, inbox and audit trail, and helpers to commit and read
//! events.

use std::time::Duration;

use slipway_event_bus::{EventBus, NatsConfig, Received};
use slipway_lease::Lease;
use slipway_outbox::{Outbox, Relay};
use slipway_service_kit::metrics::Metrics;
use slipway_testkit::TestNats;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stream::{self, LOOK_INTERVAL_MS, PATIENCE_S, alias};

/// Relays of this database whose transaction waits, after it has published.
const BLOCKED_RELAYS: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() \
    AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM outbox%'";
/// Ends their connections, as a failover of Postgres would; says how many.
pub(crate) const END_RELAYS: &str = "WITH blocked AS MATERIALIZED (SELECT pid FROM pg_stat_activity \
    WHERE datname = current_database() AND query LIKE 'DELETE FROM outbox%') \
    SELECT count(pg_terminate_backend(pid)) FROM blocked";

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
        slipway_outbox::migrator().run(&pool).await.unwrap();
        slipway_audit::migrator().run(&pool).await.unwrap();
        slipway_lease::migrator().run(&pool).await.unwrap();
        let bus = EventBus::connect(&NatsConfig { nats_url: nats.url.clone() }, "test").await.unwrap();
        let shutdown = CancellationToken::new();
        assert!(bus.wait_for_resources(&shutdown).await);
        Self { nats, pool, bus, outbox, shutdown }
    }

    /// Starts a relay, as each replica of a service has one.
    pub(crate) fn start_relay(&self) -> JoinHandle<()> {
        self.start_relay_of(self.pool.clone())
    }

    /// [`Self::start_relay`] for another database.
    pub(crate) fn start_relay_of(&self, pool: PgPool) -> JoinHandle<()> {
        self.start_relay_with(pool, self.outbox.clone())
    }

    /// [`Self::start_relay`] with an outbox of its own, as in a process of its own.
    pub(crate) fn start_relay_with(&self, pool: PgPool, outbox: Outbox) -> JoinHandle<()> {
        let lease = Lease::new(pool.clone(), &Metrics::new());
        let relay = Relay::new(pool, self.bus.clone(), outbox, "slipway/test", lease.clone());
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            tokio::join!(lease.compete(shutdown.clone()), relay.run(shutdown));
        })
    }

    /// Starts a relay that publishes a round and cannot commit it: rows of the outbox can be read, and not be
    /// deleted, until the returned lock is released. Returns when the relay waits for it.
    pub(crate) async fn start_blocked_relay(&self, published: usize) -> Transaction<'static, Postgres> {
        let mut lock = self.pool.begin().await.unwrap();
        sqlx::query("LOCK TABLE outbox IN SHARE MODE").execute(&mut *lock).await.unwrap();
        self.start_relay();
        self.wait_for_stored(published).await;
        self.wait_for_rows(BLOCKED_RELAYS, 1).await;
        lock
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
        stream::read(&self.bus, count).await;
        self.wait_for_rows("SELECT count(*) FROM outbox", 0).await;
        stream::read(&self.bus, count).await
    }

    /// Messages in the events stream.
    pub(crate) async fn stored(&self) -> usize {
        stream::stored(&self.bus).await
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
