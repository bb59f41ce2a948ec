//! Work of a service that its replicas divide among themselves: each partition of it has one owner.
//!
//! A replica keeps a transaction open, in which it holds a shared advisory lock. Who holds one is a member;
//! `pg_locks` shows them to the others, who look every [`LOOK_INTERVAL_MS`]. Postgres ends the transaction
//! the moment that the replica dies, and after [`PARTITION_TIMEOUT_MS`] where it hangs, as it does with the
//! lease of the leader. From the members each replica computes which partitions are its own
//! ([`crate::assignment`]), and begins a term of each, which is the token that its writes name. Neither the
//! transaction nor the lock has a transaction id or a snapshot, so that vacuum is not held back.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use slipway_service_kit::metrics::Metrics;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::assignment::{self, Action, Member, Observation, Share};
use crate::compete::{ANSWER_TIMEOUT_MS, Error, RETRY_DELAY_MS, answer};
use crate::{PARTITION_TIMEOUT_MS, Term, this_replica};

/// How often a replica looks who is there, and renews its terms: one that has died is replaced after this
/// time at the latest.
pub const LOOK_INTERVAL_MS: u64 = 500;
/// The upper half of the lock's key; the lower one is the table's id.
const LOCK_CLASS: i64 = 0x51_1B_50;

/// Makes rows of partitions that have none.
const MAKE: &str = "INSERT INTO lease_partitions (partition, term, holder) \
    SELECT partition, 0, '' FROM generate_series(0, $1 - 1) AS partition ON CONFLICT DO NOTHING";
/// Becomes a member, and learns as which.
const JOIN: &str = "SELECT pg_backend_pid() FROM pg_advisory_xact_lock_shared( \
    ($1::BIGINT << 32) | 'lease_partitions'::REGCLASS::OID::BIGINT)";
/// The members, and which of one's own partitions are in a later term than one's own.
const LOOK: &str = "SELECT pid, NULL::INT AS taken FROM pg_locks \
      WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
        AND classid = $1::BIGINT::OID AND objid = 'lease_partitions'::REGCLASS::OID \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    UNION ALL \
    SELECT NULL, lease_partitions.partition FROM lease_partitions \
      JOIN unnest($2::INT[], $3::BIGINT[]) AS mine (partition, term) USING (partition) \
      WHERE lease_partitions.term <> mine.term";
/// Begins terms, while still a member: transactions of the terms before are waited for, and later ones fail.
/// Rows are locked in one order, so that no two replicas wait for each other.
const BEGIN: &str = "UPDATE lease_partitions SET term = term + 1, holder = $2, since = now() \
    FROM (SELECT partition FROM lease_partitions WHERE partition = ANY($1) ORDER BY 1 FOR UPDATE) AS due \
    WHERE lease_partitions.partition = due.partition AND EXISTS ( \
      SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = $4::BIGINT::OID \
        AND objid = 'lease_partitions'::REGCLASS::OID AND objsubid = 1 AND granted AND pid = $3 \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) \
    RETURNING lease_partitions.partition, term";

/// The partitions of a service's work, as one replica sees them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Partitions {
    pool: PgPool,
    holder: Arc<str>,
    count: u16,
    owned: watch::Sender<BTreeMap<u16, Term>>,
    gauge: Gauge,
}

impl Partitions {
    /// `count` partitions, the same number in every replica, in the schema of this pool. [`Self::compete`]
    /// has to run for them.
    pub fn new(pool: PgPool, metrics: &Metrics, count: u16) -> Self {
        let gauge = Gauge::default();
        metrics.register(
            "partitions",
            "Partitions of the service's work that this replica has",
            gauge.clone(),
        );
        Self { pool, holder: this_replica().into(), count, owned: watch::Sender::default(), gauge }
    }

    /// The partition of what has this key: the same in every replica.
    pub fn of(&self, key: &str) -> u16 {
        assignment::partition_of(key, self.count)
    }

    /// This replica's partitions, each with the term during which it owns it.
    pub fn owned(&self) -> watch::Receiver<BTreeMap<u16, Term>> {
        self.owned.subscribe()
    }

    /// Takes this replica's partitions and gives up those of others until `shutdown`. It uses one connection
    /// besides those of the pool.
    pub async fn compete(self, shutdown: CancellationToken) {
        let mut complained = false;
        loop {
            let ended = tokio::select! {
                () = shutdown.cancelled() => break,
                ended = self.take_part() => ended,
            };
            let Err(error) = ended;
            if self.end(|_| true) || !std::mem::replace(&mut complained, true) {
                tracing::warn!(%error, "this replica has no part in the service's work; retrying");
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)) => {}
            }
        }
        self.end(|_| true);
    }

    /// Is a member until something fails.
    async fn take_part(&self) -> Result<Infallible, Error> {
        let made = sqlx::query(MAKE).bind(i32::from(self.count)).execute(&self.pool);
        answer(ANSWER_TIMEOUT_MS, made).await?;
        // Of its own, as that of the leader's lease.
        let mut connection = self.pool.acquire().await?.detach();
        let me = join(&mut connection).await?;
        let mut share = Share::new(me, self.count);
        loop {
            let seen = self.look(&mut connection, me).await?;
            let (next, actions) = assignment::step(share, &seen);
            share = next;
            for action in actions {
                match action {
                    Action::GiveUp(partitions) => {
                        self.end(|partition| partitions.contains(&partition));
                    }
                    Action::Claim(partitions) => {
                        let began = self.begin(&mut connection, me, &partitions).await?;
                        (share, _) = assignment::step(share, &Observation::Began(began));
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
        }
    }

    /// Looks who is there, and renews the terms that hold.
    async fn look(&self, connection: &mut PgConnection, me: Member) -> Result<Observation, Error> {
        let asked = Instant::now();
        let owned = self.owned.borrow().clone();
        let (partitions, terms): (Vec<i32>, Vec<i64>) =
            owned.iter().map(|(partition, term)| (i32::from(*partition), term.number())).unzip();
        let looked = sqlx::query_as(LOOK).bind(LOCK_CLASS).bind(partitions).bind(terms);
        let found: Vec<(Option<i32>, Option<i32>)> =
            answer(ANSWER_TIMEOUT_MS, looked.fetch_all(connection)).await?;
        let members: BTreeSet<Member> = found.iter().filter_map(|(member, _)| *member).collect();
        let taken: BTreeSet<u16> =
            found.iter().filter_map(|(_, taken)| taken.and_then(|taken| u16::try_from(taken).ok())).collect();
        if !members.contains(&me) {
            return Err(Error::TakenOver);
        }
        for (partition, term) in owned.iter().filter(|(partition, _)| !taken.contains(partition)) {
            // Its work rests since then, and nothing would wake it.
            if !term.is_current() {
                tracing::debug!(partition, "renewed too late");
                return Err(Error::TooLate);
            }
            term.renew(asked);
        }
        Ok(Observation::Looked { members, taken })
    }

    /// Begins terms; which, as the transaction that makes this replica a member may have ended.
    async fn begin(
        &self,
        connection: &mut PgConnection,
        me: Member,
        partitions: &BTreeSet<u16>,
    ) -> Result<BTreeSet<u16>, Error> {
        let mut asked = Instant::now();
        // In a transaction of its own, as the rows have to be there for the others.
        let began = sqlx::query_as(BEGIN)
            .bind(partitions.iter().copied().map(i32::from).collect::<Vec<_>>())
            .bind(&*self.holder)
            .bind(me)
            .bind(LOCK_CLASS)
            .fetch_all(&self.pool);
        tokio::pin!(began);
        let rows: Vec<(i32, i64)> = loop {
            // Transactions of an owner that hangs take some time to end.
            tokio::select! {
                rows = &mut began => break rows?,
                () = tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)) => {
                    asked = Instant::now();
                    self.look(connection, me).await?;
                }
            }
        };
        let began: BTreeMap<u16, Term> = rows
            .into_iter()
            .filter_map(|(partition, number)| Some((u16::try_from(partition).ok()?, number)))
            .map(|(partition, number)| (partition, Term::of_partition(partition, number, asked)))
            .collect();
        tracing::debug!(?partitions, "taking over work of these partitions");
        let partitions = began.keys().copied().collect();
        self.owned.send_modify(|owned| {
            owned.extend(began);
            self.show(owned);
        });
        Ok(partitions)
    }

    /// Ends the terms of these partitions; whether there were some.
    fn end(&self, of: impl Fn(u16) -> bool) -> bool {
        self.owned.send_if_modified(|owned| {
            let before = owned.len();
            owned.retain(|partition, term| {
                let ends = of(*partition);
                if ends {
                    term.end();
                }
                !ends
            });
            self.show(owned);
            owned.len() != before
        })
    }

    fn show(&self, owned: &BTreeMap<u16, Term>) {
        self.gauge.set(i64::try_from(owned.len()).unwrap_or(i64::MAX));
    }
}

/// Opens the transaction that makes this replica a member.
async fn join(connection: &mut PgConnection) -> Result<Member, Error> {
    let prepare = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; \
         SET LOCAL idle_in_transaction_session_timeout = {PARTITION_TIMEOUT_MS}"
    );
    let prepared = sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *connection);
    answer(ANSWER_TIMEOUT_MS, prepared).await?;
    let joined = sqlx::query_scalar(JOIN).persistent(false).bind(LOCK_CLASS).fetch_one(connection);
    answer(ANSWER_TIMEOUT_MS, joined).await
}
