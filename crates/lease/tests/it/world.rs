//! A database with the table of the lease, and replicas that compete for it.

use std::time::{Duration, Instant};

use slipway_lease::{Lease, Term};
use slipway_service_kit::metrics::Metrics;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A slow machine needs this long at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Sessions that hold the lease, or wait for it.
pub(crate) const COMPETING: &str = "SELECT count(*) FROM pg_locks \
    WHERE relation = 'lease_lock'::REGCLASS AND mode = 'ExclusiveLock'";
/// Ends the session that holds it, as a failover of Postgres would.
pub(crate) const END_HOLDER: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks \
    WHERE relation = 'lease_lock'::REGCLASS AND mode = 'ExclusiveLock' AND granted";

pub(crate) struct World {
    pub(crate) url: String,
    pub(crate) pool: PgPool,
}

/// One that competes, until it is dropped.
pub(crate) struct Replica {
    pub(crate) lease: Lease,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: CancellationToken,
    pub(crate) competing: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.competing.abort();
    }
}

impl World {
    pub(crate) async fn begin() -> Self {
        let url = slipway_testkit::postgres().await.url;
        let pool = PgPool::connect(&url).await.unwrap();
        slipway_lease::migrator().run(&pool).await.unwrap();
        sqlx::raw_sql(
            "CREATE TABLE writes (seq BIGINT GENERATED ALWAYS AS IDENTITY, pid INT, term BIGINT); \
             CREATE TABLE notes (pid INT, what TEXT)",
        )
        .execute(&pool)
        .await
        .unwrap();
        Self { url, pool }
    }

    /// A replica in this process, once it stands in line.
    pub(crate) async fn replica(&self) -> Replica {
        let in_line = self.count(COMPETING).await;
        let (metrics, shutdown) = (Metrics::new(), CancellationToken::new());
        let lease = Lease::new(self.pool.clone(), &metrics);
        let competing = tokio::spawn(lease.clone().compete(shutdown.clone()));
        self.wait_for(COMPETING, in_line + 1).await;
        Replica { lease, metrics, shutdown, competing }
    }

    pub(crate) async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until a query counts that many at least.
    pub(crate) async fn wait_for(&self, query: &str, wanted: i64) {
        let started = Instant::now();
        while self.count(query).await < wanted {
            assert!(started.elapsed() < PATIENCE, "`{query}` gives less than {wanted}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Replica {
    /// Waits until it leads.
    pub(crate) async fn term(&self) -> Term {
        let started = Instant::now();
        loop {
            if let Some(term) = self.lease.term() {
                return term;
            }
            assert!(started.elapsed() < PATIENCE, "it does not become the leader");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
