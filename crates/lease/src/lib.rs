//! Which replica of a service leads: a lease in the service's schema that ends with its holder, and a fencing
//! token that every write of a leader names.
//!
//! A candidate opens a transaction and locks the view `lease_lock`. Postgres queues the candidates without a
//! poll, and hands the lock over the moment the holder's connection is closed. The holder renews with a
//! statement every [`RENEW_INTERVAL_MS`]; `idle_in_transaction_session_timeout` makes Postgres end the
//! connection of a holder that hangs or cannot be reached. A transaction also pins its connection in a pooler
//! such as PgBouncer, where locks of a session would be lost. The lock is of a kind that needs no transaction
//! id, and candidates wait for it without a snapshot: neither holds back vacuum.
//!
//! A holder may have lost the lease without knowing it. So each leader begins a new term ([`Term`]), and each
//! of its transactions starts with [`begin`] or [`Term::fence`], which fail as soon as the next leader has
//! begun its own.
//!
//! What one replica need not do alone is divided: each partition of it has an owner ([`Partitions`]), with
//! terms of the same kind.

mod assignment;
mod compete;
mod partitions;
mod term;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use slipway_service_kit::metrics::Metrics;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use partitions::{LOOK_INTERVAL_MS, Partitions};
pub use term::{Lost, Term, begin, carry, fence};

/// Postgres ends the connection of a holder that is silent for this long.
pub const TIMEOUT_MS: u64 = 4_000;
/// The same for an owner of partitions. It is shorter, as the others do not wait for the end of a connection,
/// but see it when they look next.
pub const PARTITION_TIMEOUT_MS: u64 = 3_000;
/// How often the holder renews its lease.
pub const RENEW_INTERVAL_MS: u64 = 1_500;
/// Work under way at the shutdown may end within this time, e.g. to give back what it has taken; only then is
/// the lease handed over.
pub const LEAVE_MS: u64 = 1_000;
/// Pause before work of a leader that ended or failed early starts again.
const RESTART_DELAY_MS: u64 = 1_000;

/// Makes the tables and the view in the first schema of the search path.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.dangerous_set_table_name("_lease_migrations");
    migrator
}

/// The lease of a service, as one replica sees it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lease {
    pool: PgPool,
    holder: Arc<str>,
    current: watch::Sender<Option<Term>>,
    leads: Gauge,
    /// Work that is done as the leader.
    work: TaskTracker,
}

impl Lease {
    /// The lease in the schema of this pool. [`Self::compete`] has to run for it.
    pub fn new(pool: PgPool, metrics: &Metrics) -> Self {
        let leads = Gauge::default();
        metrics.register("leader", "Whether this replica leads its service: 1, or 0", leads.clone());
        Self {
            pool,
            holder: this_replica().into(),
            current: watch::Sender::new(None),
            leads,
            work: TaskTracker::new(),
        }
    }

    /// Name of this replica, which the table shows while it leads: host and process.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Competes for the lease until `shutdown`, and renews it while this replica leads. At the shutdown the
    /// lease passes to another replica as soon as the work of this one has ended. It uses one connection
    /// besides those of the pool.
    pub async fn compete(self, shutdown: CancellationToken) {
        compete::run(&self, &shutdown).await;
    }

    /// The term of this replica; `None` while another one leads.
    pub fn term(&self) -> Option<Term> {
        self.current.borrow().clone().filter(Term::is_current)
    }

    /// Runs `work` during each term of this replica, until `shutdown`. It is dropped where it waits when the
    /// term is over, and starts again where it ends earlier. It has to end with `shutdown`, and is dropped
    /// where it does not within [`LEAVE_MS`]. Within it, [`begin`] and [`fence`] know the term.
    pub async fn lead<F, R>(self, shutdown: CancellationToken, mut work: F)
    where
        F: FnMut(Term) -> R + Send,
        R: Future<Output = ()> + Send,
    {
        let mut terms = self.current.subscribe();
        loop {
            let term = tokio::select! {
                () = shutdown.cancelled() => return,
                term = next(&mut terms) => term,
            };
            let working = self.work.track_future(term::within(term.clone(), work(term.clone())));
            let leave = async {
                shutdown.cancelled().await;
                tokio::time::sleep(Duration::from_millis(LEAVE_MS)).await;
            };
            tokio::select! {
                () = leave => return,
                () = term.over() => continue,
                () = working => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(RESTART_DELAY_MS)) => {}
            }
        }
    }
}

/// Host name and process id.
fn this_replica() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}", host.trim(), std::process::id())
}

/// Waits for a term.
async fn next(terms: &mut watch::Receiver<Option<Term>>) -> Term {
    loop {
        let term = terms.borrow_and_update().clone().filter(Term::is_current);
        if let Some(term) = term {
            return term;
        }
        if terms.changed().await.is_err() {
            // The lease that was followed is gone, and with it its terms.
            return std::future::pending().await;
        }
    }
}
