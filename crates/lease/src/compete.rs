//! The candidate's and the holder's side of the lease.

use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::{Lease, RENEW_INTERVAL_MS, TIMEOUT_MS, Term};

/// A candidate stands in line again after this time, so that one which hangs is not in line for longer.
const WAIT_MS: u64 = 60_000;
/// A candidate that does not hear of the end of its wait has lost its connection.
const WAIT_MARGIN_MS: u64 = 5_000;
/// An answer that takes longer counts as none.
pub(crate) const ANSWER_TIMEOUT_MS: u64 = 2_000;
pub(crate) const RETRY_DELAY_MS: u64 = 500;
/// `lock_not_available`: the time to wait is over.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Why a replica does not lead, or no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Postgres(#[from] sqlx::Error),
    #[error("Postgres did not answer within {0} ms")]
    NoAnswer(u64),
    #[error("another replica has taken over")]
    TakenOver,
    #[error("the lease was renewed too late")]
    TooLate,
}

/// Competes until `shutdown`, and leads until the work of this replica has ended.
pub(crate) async fn run(lease: &Lease, shutdown: &CancellationToken) {
    let mut complained = false;
    loop {
        let left = async {
            shutdown.cancelled().await;
            lease.work.close();
            lease.work.wait().await;
        };
        let ended = tokio::select! {
            () = left => break,
            ended = one(lease) => ended,
        };
        let led = end_term(lease);
        match ended {
            // It goes on until something fails.
            Ok(()) => {}
            Err(error) if led => {
                complained = false;
                tracing::warn!(%error, "no longer the leader of this service");
            }
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(%error, "cannot compete for the lease; retrying");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)) => {}
        }
    }
    end_term(lease);
}

/// Ends the term, if there is one; whether there was.
fn end_term(lease: &Lease) -> bool {
    let ended = lease.current.send_replace(None);
    lease.leads.set(0);
    if let Some(term) = &ended {
        term.end();
    }
    ended.is_some()
}

/// Stands in line, and leads until the lease is lost.
async fn one(lease: &Lease) -> Result<(), Error> {
    // Of its own, so that requests which use all of the pool's do not cost the lease.
    let mut connection = lease.pool.acquire().await?.detach();
    while !wait(&mut connection).await? {
        answer(ANSWER_TIMEOUT_MS, sqlx::raw_sql("ROLLBACK").execute(&mut connection)).await?;
    }
    let term = begin_term(lease, &mut connection).await?;
    tracing::info!(term = term.number(), "leading: this replica does the background work of the service");
    lease.leads.set(1);
    lease.current.send_replace(Some(term.clone()));
    loop {
        tokio::time::sleep(Duration::from_millis(RENEW_INTERVAL_MS)).await;
        renew(&mut connection, &term).await?;
    }
}

/// Waits for the lock. `false` where the time in line was over.
async fn wait(connection: &mut PgConnection) -> Result<bool, Error> {
    // Names are looked up here, and not while waiting: that would hold a snapshot. Nobody waits for this
    // lock.
    let prepare = format!(
        "BEGIN; SET LOCAL idle_in_transaction_session_timeout = {TIMEOUT_MS}; \
         SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {WAIT_MS}; \
         LOCK TABLE lease_lock IN ACCESS SHARE MODE"
    );
    let prepared = sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *connection);
    answer(ANSWER_TIMEOUT_MS, prepared).await?;
    // Not ACCESS EXCLUSIVE: that takes a transaction id, which holds back vacuum as long as it lasts.
    let locked = sqlx::raw_sql("LOCK TABLE lease_lock IN EXCLUSIVE MODE").execute(connection);
    match answer(WAIT_MS + WAIT_MARGIN_MS, locked).await {
        Ok(_) => Ok(true),
        Err(Error::Postgres(sqlx::Error::Database(error)))
            if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Begins a term, if the lock is still held: transactions of the term before are waited for, and later ones
/// fail.
async fn begin_term(lease: &Lease, connection: &mut PgConnection) -> Result<Term, Error> {
    let mut asked = Instant::now();
    let backend = sqlx::query_scalar("SELECT pg_backend_pid()").persistent(false);
    let backend: i32 = answer(ANSWER_TIMEOUT_MS, backend.fetch_one(&mut *connection)).await?;
    // In a transaction of its own, as the row has to be there for the others. A candidate that was stopped
    // while it was in line may have lost the lock already.
    let began = sqlx::query_scalar(
        "UPDATE lease SET term = term + 1, holder = $2, since = now() \
         WHERE EXISTS (SELECT FROM pg_locks WHERE relation = 'lease_lock'::REGCLASS AND pid = $1 \
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
           AND mode = 'ExclusiveLock' AND granted) \
         RETURNING term",
    )
    .bind(backend)
    .bind(&*lease.holder)
    .fetch_optional(&lease.pool);
    tokio::pin!(began);
    loop {
        // Transactions of a leader that hangs take some time to end.
        tokio::select! {
            number = &mut began => {
                let number: Option<i64> = number?;
                return Ok(Term::new(number.ok_or(Error::TakenOver)?, asked));
            }
            () = tokio::time::sleep(Duration::from_millis(RENEW_INTERVAL_MS)) => {
                asked = Instant::now();
                answer(ANSWER_TIMEOUT_MS, sqlx::raw_sql("SELECT").execute(&mut *connection)).await?;
            }
        }
    }
}

/// Keeps the connection from being ended as idle, and sees whether the term still holds.
async fn renew(connection: &mut PgConnection, term: &Term) -> Result<(), Error> {
    let asked = Instant::now();
    let current = sqlx::query_scalar("SELECT term FROM lease").persistent(false).fetch_one(connection);
    let current: i64 = answer(ANSWER_TIMEOUT_MS, current).await?;
    if current != term.number() {
        return Err(Error::TakenOver);
    }
    // Work of the leader rests since then, and nothing would wake it.
    if !term.is_current() {
        return Err(Error::TooLate);
    }
    term.renew(asked);
    Ok(())
}

/// What Postgres answers in time.
pub(crate) async fn answer<T>(
    limit_ms: u64,
    asked: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(Duration::from_millis(limit_ms), asked).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(Error::NoAnswer(limit_ms)),
    }
}
