//! Group commit: requests that arrive while a transaction commits share the next one.
//!
//! A commit costs the same for one small change as for a hundred. So a writer takes the queued requests,
//! never waits for more, and answers each request after the commit that contains it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use slipway_audit::Actor;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::access::caller::current_actor;
use crate::change::Changes;
use crate::error::Error;

/// Concurrent transactions.
const WRITERS: usize = 2;
/// Requests queued for one writer; senders of further ones wait.
const MAX_QUEUED: usize = 1_024;
/// Requests that share a transaction.
const MAX_SHARED: usize = 128;
/// Rows of a transaction after which it takes no further request.
const MAX_ROWS: usize = 10_000;

/// A kind of small change that many requests make at the same time.
pub(crate) trait Batched: Send + Sync + Sized + 'static {
    /// What the request is answered.
    type Answer: Send;

    /// Changes with the same key go to the same writer, so that two writers never wait for each other's rows.
    fn key(&self) -> &str;

    /// Rows that it writes, about.
    fn rows(&self) -> usize;

    /// Writes all in one transaction: one outcome for each, in their order. An error aborts the transaction
    /// for all.
    fn write(
        changes: &Changes,
        batch: &[Queued<Self>],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer, Error>>, Error>> + Send;
}

/// A queued change, with the context of its request.
#[derive(Debug)]
pub(crate) struct Queued<S: Batched> {
    pub(crate) entry: S,
    pub(crate) traceparent: Option<String>,
    /// Who requested it.
    pub(crate) actor: Arc<Actor>,
    done: oneshot::Sender<Result<S::Answer, Error>>,
}

/// The sending side. Cheap to clone.
#[derive(Debug)]
pub(crate) struct GroupCommit<S: Batched> {
    senders: Arc<[mpsc::Sender<Queued<S>>]>,
}

impl<S: Batched> Clone for GroupCommit<S> {
    fn clone(&self) -> Self {
        Self { senders: Arc::clone(&self.senders) }
    }
}

/// The writing side.
#[derive(Debug)]
pub(crate) struct Writers<S: Batched>(Vec<mpsc::Receiver<Queued<S>>>);

/// Both sides of a group commit.
pub(crate) fn group_commit<S: Batched>() -> (GroupCommit<S>, Writers<S>) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..WRITERS).map(|_| mpsc::channel(MAX_QUEUED)).unzip();
    (GroupCommit { senders: senders.into() }, Writers(receivers))
}

impl<S: Batched> GroupCommit<S> {
    /// Writes a change; returns when it is committed.
    ///
    /// # Errors
    /// The error that [`Batched::write`] returned for this change, or `Unavailable` if Postgres cannot be
    /// reached.
    pub(crate) async fn write(&self, entry: S) -> Result<S::Answer, Error> {
        let mut hasher = DefaultHasher::new();
        entry.key().hash(&mut hasher);
        let writer = hasher.finish() as usize % self.senders.len();
        let sender = self.senders.get(writer).ok_or_else(|| Error::internal("no such writer"))?;
        let (done, written) = oneshot::channel();
        let traceparent = slipway_telemetry::current_traceparent();
        let queued = Queued { entry, traceparent, actor: current_actor(), done };
        // Closed only at the very end, when no request is left that could be answered.
        sender.send(queued).await.map_err(|_closed| Error::unavailable("the registry"))?;
        written.await.unwrap_or_else(|_closed| Err(Error::unavailable("the registry")))
    }
}

/// Writes until `end`, which comes after the last request.
pub(crate) async fn run<S: Batched>(changes: Changes, writers: Writers<S>, end: CancellationToken) {
    let writers = writers.0.into_iter().map(|queue| write_all(changes.clone(), queue, end.clone()));
    futures::future::join_all(writers).await;
}

async fn write_all<S: Batched>(
    changes: Changes,
    mut queue: mpsc::Receiver<Queued<S>>,
    end: CancellationToken,
) {
    loop {
        let first = tokio::select! {
            biased;
            first = queue.recv() => first,
            () = end.cancelled() => return,
        };
        let Some(first) = first else { return };
        let mut rows = first.entry.rows();
        let mut batch = vec![first];
        while batch.len() < MAX_SHARED
            && rows < MAX_ROWS
            && let Ok(next) = queue.try_recv()
        {
            rows += next.entry.rows();
            batch.push(next);
        }
        write_batch(&changes, batch).await;
    }
}

/// Writes all in one transaction. If one of them aborts it, each is written on its own, so that only the
/// failing request is rejected.
async fn write_batch<S: Batched>(changes: &Changes, batch: Vec<Queued<S>>) {
    let outcomes = match S::write(changes, &batch).await {
        Ok(outcomes) => outcomes,
        Err(error) if batch.len() == 1 || matches!(error, Error::Unavailable(_)) => {
            batch.iter().map(|_| Err(error.clone())).collect()
        }
        Err(_) => {
            let mut outcomes = Vec::with_capacity(batch.len());
            for one in &batch {
                let outcome = S::write(changes, std::slice::from_ref(one)).await;
                let alone =
                    |mut only: Vec<_>| only.pop().unwrap_or_else(|| Err(Error::internal("no outcome")));
                outcomes.push(outcome.and_then(alone));
            }
            outcomes
        }
    };
    for (one, outcome) in batch.into_iter().zip(outcomes) {
        // A client that disconnected needs no answer.
        let _ = one.done.send(outcome);
    }
}
