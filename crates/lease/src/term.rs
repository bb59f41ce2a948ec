//! A term: the time during which one replica leads, and the token that its writes name.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio_util::sync::CancellationToken;

use crate::{PARTITION_TIMEOUT_MS, TIMEOUT_MS};

tokio::task_local! {
    static TERM: Term;
}

/// This replica leads no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this replica no longer leads: its term {term} is over")]
pub struct Lost {
    /// Number of the term that is over.
    pub term: i64,
}

impl Lost {
    /// Whether an error says that the term is over: it is no fault, and the next owner goes on.
    pub fn caused(error: &(dyn std::error::Error + 'static)) -> bool {
        let mut next = Some(error);
        while let Some(error) = next {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            if error.is::<Self>() || inner.is_some_and(|inner| inner.is::<Self>()) {
                return true;
            }
            next = error.source();
        }
        false
    }
}

impl From<Lost> for sqlx::Error {
    /// As a connection that broke: what was to be done may go well elsewhere, or later.
    fn from(lost: Lost) -> Self {
        Self::Io(io::Error::other(lost))
    }
}

/// A term of this replica. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Term {
    number: i64,
    /// `None` for the lead of the service.
    partition: Option<u16>,
    /// When the lease was asked to be renewed for the last time.
    renewed: Arc<Mutex<Instant>>,
    over: CancellationToken,
}

impl Term {
    /// A term of the leader.
    pub(crate) fn new(number: i64, renewed: Instant) -> Self {
        Self {
            number,
            partition: None,
            renewed: Arc::new(Mutex::new(renewed)),
            over: CancellationToken::new(),
        }
    }

    /// A term of a partition's owner.
    pub(crate) fn of_partition(partition: u16, number: i64, renewed: Instant) -> Self {
        Self { partition: Some(partition), ..Self::new(number, renewed) }
    }

    /// The fencing token: each leader has a greater one than the leader before it.
    pub const fn number(&self) -> i64 {
        self.number
    }

    /// Whether the lease cannot have passed to another replica yet. A process that was stopped and runs again
    /// knows by it that its term is over, before it has asked Postgres. What must never happen twice also
    /// needs [`Self::fence`].
    pub fn is_current(&self) -> bool {
        !self.over.is_cancelled() && self.renewed_at().elapsed() < Duration::from_millis(self.timeout_ms())
    }

    /// Waits until the term is over.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Holds the term in a transaction: the next leader's term begins only after the transaction's end, which
    /// Postgres enforces where this process hangs.
    ///
    /// # Errors
    /// The term is over ([`Lost`]), or Postgres is unreachable.
    pub async fn fence(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let statement = match self.partition {
            None => {
                "SELECT set_config('idle_in_transaction_session_timeout', $2, TRUE) FROM lease \
                 WHERE term = $1 FOR SHARE"
            }
            Some(_) => {
                "SELECT set_config('idle_in_transaction_session_timeout', $2, TRUE) FROM lease_partitions \
                 WHERE term = $1 AND partition = $3 FOR SHARE"
            }
        };
        let held = sqlx::query_scalar(statement).bind(self.number).bind(self.timeout_ms().to_string());
        let held = match self.partition {
            None => held,
            Some(partition) => held.bind(i32::from(partition)),
        };
        let held: Option<String> = held.fetch_optional(connection).await?;
        held.map(drop).ok_or_else(|| Lost { term: self.number }.into())
    }

    /// Does `work` during the term: `None` where the term ended first. Within it, [`begin`] and [`fence`]
    /// know the term.
    pub async fn carry<W: Future>(self, work: W) -> Option<W::Output> {
        tokio::select! {
            () = self.over() => None,
            done = within(self.clone(), work) => Some(done),
        }
    }

    /// Silence that ends it.
    const fn timeout_ms(&self) -> u64 {
        if self.partition.is_some() { PARTITION_TIMEOUT_MS } else { TIMEOUT_MS }
    }

    pub(crate) fn renew(&self, asked: Instant) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }

    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    pub(crate) fn renewed_at(&self) -> Instant {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` on behalf of a term, and no more of it once the term may be over: a process that was stopped
/// and goes on does not get to its next step.
pub(crate) async fn within<W: Future>(term: Term, work: W) -> W::Output {
    let mut work = Box::pin(TERM.scope(term.clone(), work));
    std::future::poll_fn(|context| {
        // Nothing wakes it again: whoever waits for it also waits for the end of the term.
        if term.is_current() { work.as_mut().poll(context) } else { Poll::Pending }
    })
    .await
}

/// `work` for another task, on behalf of the same term as this one: `None` where the term ended first.
pub fn carry<W>(work: W) -> impl Future<Output = Option<W::Output>> + Send
where
    W: Future<Output: Send> + Send,
{
    let term = TERM.try_with(Term::clone).ok();
    async move {
        match term {
            None => Some(work.await),
            Some(term) => term.carry(work).await,
        }
    }
}

/// Begins a transaction. In the work of a leader ([`crate::Lease::lead`]) it is fenced.
///
/// # Errors
/// The term is over ([`Lost`]), or Postgres is unreachable.
pub async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut transaction = slipway_service_kit::db::begin(pool).await?;
    fence(&mut transaction).await?;
    Ok(transaction)
}

/// [`Term::fence`] in the work of a leader; elsewhere, e.g. in a request, nothing.
///
/// # Errors
/// As for [`Term::fence`].
pub async fn fence(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    match TERM.try_with(Term::clone) {
        Ok(term) => term.fence(connection).await,
        Err(_) => Ok(()),
    }
}
