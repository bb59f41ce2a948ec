//! Requests that arrive while a transaction commits share the next one.
//!
//! A commit costs the same for one small change as for a hundred. So a lane takes what is queued at once, never waits for more, and
//! answers each request after the commit that holds it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use slipway_event_bus::Actor;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::access::current_actor;
use crate::error::{Code, Error};
use crate::state::Registry;

/// Transactions at once.
const LANES: usize = 2;
/// Requests that wait in a lane; further ones wait at its door.
const MAX_QUEUED: usize = 1_024;
/// Requests that share a transaction.
const MAX_SHARED: usize = 128;
/// Rows of a transaction after which it takes no further request.
const MAX_ROWS: usize = 10_000;

/// A kind of small change that many requests ask for at the same time.
pub(crate) trait Shared: Send + Sync + Sized + 'static {
    /// What the request is answered.
    type Answer: Send;

    /// Changes of one place keep to one lane, so that two lanes never wait for each other's rows.
    fn place(&self) -> &str;

    /// Rows that it writes, about.
    fn rows(&self) -> usize;

    /// Writes all in one transaction: one outcome for each, in their order. An error spoiled the transaction for all.
    fn write(
        registry: &Registry,
        shared: &[Queued<Self>],
    ) -> impl Future<Output = Result<Vec<Result<Self::Answer, Error>>, Error>> + Send;
}

/// A change that waits, with what its request was part of.
#[derive(Debug)]
pub(crate) struct Queued<S: Shared> {
    pub(crate) entry: S,
    pub(crate) traceparent: Option<String>,
    /// Who asked for it.
    pub(crate) actor: Arc<Actor>,
    done: oneshot::Sender<Result<S::Answer, Error>>,
}

/// The lanes. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Lanes<S: Shared> {
    senders: Arc<[mpsc::Sender<Queued<S>>]>,
}

impl<S: Shared> Clone for Lanes<S> {
    fn clone(&self) -> Self {
        Self { senders: Arc::clone(&self.senders) }
    }
}

/// The other ends of the lanes.
#[derive(Debug)]
pub(crate) struct Writers<S: Shared>(Vec<mpsc::Receiver<Queued<S>>>);

/// Lanes and their ends.
pub(crate) fn lanes<S: Shared>() -> (Lanes<S>, Writers<S>) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..LANES).map(|_| mpsc::channel(MAX_QUEUED)).unzip();
    (Lanes { senders: senders.into() }, Writers(receivers))
}

impl<S: Shared> Lanes<S> {
    /// Writes a change; returns when it is committed.
    ///
    /// # Errors
    /// What [`Shared::write`] has against this one, or Postgres is away.
    pub(crate) async fn write(&self, entry: S) -> Result<S::Answer, Error> {
        let mut hasher = DefaultHasher::new();
        entry.place().hash(&mut hasher);
        let place = hasher.finish() as usize % self.senders.len();
        let lane = self.senders.get(place).ok_or_else(|| Error::internal("no such lane"))?;
        let (done, written) = oneshot::channel();
        let traceparent = slipway_telemetry::current_traceparent();
        let queued = Queued { entry, traceparent, actor: current_actor(), done };
        // Closed only at the very end, when no request is left that could be answered.
        lane.send(queued).await.map_err(|_closed| Error::unavailable("the registry"))?;
        written.await.unwrap_or_else(|_closed| Err(Error::unavailable("the registry")))
    }
}

/// Writes until `end`, which comes after the last request.
pub(crate) async fn run<S: Shared>(registry: Registry, writers: Writers<S>, end: CancellationToken) {
    let lanes = writers.0.into_iter().map(|lane| run_lane(registry.clone(), lane, end.clone()));
    futures::future::join_all(lanes).await;
}

async fn run_lane<S: Shared>(
    registry: Registry,
    mut lane: mpsc::Receiver<Queued<S>>,
    end: CancellationToken,
) {
    loop {
        let first = tokio::select! {
            biased;
            first = lane.recv() => first,
            () = end.cancelled() => return,
        };
        let Some(first) = first else { return };
        let mut rows = first.entry.rows();
        let mut shared = vec![first];
        while shared.len() < MAX_SHARED
            && rows < MAX_ROWS
            && let Ok(next) = lane.try_recv()
        {
            rows += next.entry.rows();
            shared.push(next);
        }
        write_shared(&registry, shared).await;
    }
}

/// Writes all in one transaction. Where one of them spoils it, each is written on its own, so that the guilty one alone fails.
async fn write_shared<S: Shared>(registry: &Registry, shared: Vec<Queued<S>>) {
    let outcomes = match S::write(registry, &shared).await {
        Ok(outcomes) => outcomes,
        Err(error) if shared.len() == 1 || error.code == Code::TemporarilyUnavailable => {
            shared.iter().map(|_| Err(error.clone())).collect()
        }
        Err(_) => {
            let mut outcomes = Vec::with_capacity(shared.len());
            for one in &shared {
                let outcome = S::write(registry, std::slice::from_ref(one)).await;
                let alone =
                    |mut only: Vec<_>| only.pop().unwrap_or_else(|| Err(Error::internal("no outcome")));
                outcomes.push(outcome.and_then(alone));
            }
            outcomes
        }
    };
    for (one, outcome) in shared.into_iter().zip(outcomes) {
        // Whoever went away needs no answer.
        let _ = one.done.send(outcome);
    }
}
