//! What runs log: requests that arrive while a transaction commits share the next one.
//!
//! A training loop logs small things often, and a commit costs the same for one point as for a thousand. So a lane takes what is
//! queued at once, never waits for more, and answers each request after the commit that holds it. A run keeps to one lane, so that
//! two lanes never wait for each other's rows.

use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use slipway_api::events::RegistryChange;
use slipway_event_bus::Prepared;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Error};
use crate::state::Registry;
use crate::store::Pair;
use crate::store::metrics::{self, Point};
use crate::store::runs::{self, RunInfo};

/// Transactions at once.
const LANES: usize = 2;
/// Requests that wait in a lane; further ones wait at its door.
const MAX_QUEUED: usize = 1_024;
/// Requests that share a transaction.
const MAX_SHARED: usize = 128;
/// Rows of a transaction after which it takes no further request.
const MAX_ROWS: usize = 10_000;

/// What one request logs. All of it is written, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) run_id: String,
    pub(crate) points: Vec<Point>,
    pub(crate) params: Vec<Pair>,
    pub(crate) tags: Vec<Pair>,
}

impl Entry {
    fn rows(&self) -> usize {
        self.points.len() + self.params.len() + self.tags.len()
    }
}

#[derive(Debug)]
struct Queued {
    entry: Entry,
    traceparent: Option<String>,
    done: oneshot::Sender<Result<(), Error>>,
}

/// The lanes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    lanes: Arc<[mpsc::Sender<Queued>]>,
}

/// The other ends of the lanes.
#[derive(Debug)]
pub(crate) struct Writers(Vec<mpsc::Receiver<Queued>>);

/// Lanes and their ends.
pub(crate) fn lanes() -> (Log, Writers) {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..LANES).map(|_| mpsc::channel(MAX_QUEUED)).unzip();
    (Log { lanes: senders.into() }, Writers(receivers))
}

impl Log {
    /// Writes an entry; returns when it is committed.
    ///
    /// # Errors
    /// The run is not there or deleted, a param has another value already, a model is not there, or Postgres is away.
    pub(crate) async fn write(&self, entry: Entry) -> Result<(), Error> {
        let mut hasher = DefaultHasher::new();
        entry.run_id.hash(&mut hasher);
        let place = hasher.finish() as usize % self.lanes.len();
        let lane = self.lanes.get(place).ok_or_else(|| Error::internal("no such lane"))?;
        let (done, written) = oneshot::channel();
        let queued = Queued { entry, traceparent: slipway_telemetry::current_traceparent(), done };
        // Closed only at the very end, when no request is left that could be answered.
        lane.send(queued).await.map_err(|_closed| Error::unavailable("the registry"))?;
        written.await.unwrap_or_else(|_closed| Err(Error::unavailable("the registry")))
    }
}

/// Writes until `end`, which comes after the last request.
pub(crate) async fn run(registry: Registry, writers: Writers, end: CancellationToken) {
    let lanes = writers.0.into_iter().map(|lane| run_lane(registry.clone(), lane, end.clone()));
    futures::future::join_all(lanes).await;
}

async fn run_lane(registry: Registry, mut lane: mpsc::Receiver<Queued>, end: CancellationToken) {
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
async fn write_shared(registry: &Registry, shared: Vec<Queued>) {
    let outcomes = match transaction(registry, &shared).await {
        Ok(outcomes) => outcomes,
        Err(error) if shared.len() == 1 || error.code == Code::TemporarilyUnavailable => {
            vec![Err(error); shared.len()]
        }
        Err(_) => {
            let mut outcomes = Vec::with_capacity(shared.len());
            for one in &shared {
                let outcome = transaction(registry, std::slice::from_ref(one)).await;
                outcomes.push(outcome.and_then(|mut only| only.pop().unwrap_or(Ok(()))));
            }
            outcomes
        }
    };
    for (one, outcome) in shared.into_iter().zip(outcomes) {
        // Whoever went away needs no answer.
        let _ = one.done.send(outcome);
    }
}

/// One outcome for each entry; an error spoiled the transaction for all.
async fn transaction(registry: &Registry, shared: &[Queued]) -> Result<Vec<Result<(), Error>>, Error> {
    let mut change = registry.change().await?;
    let ids: BTreeSet<&str> = shared.iter().map(|one| one.entry.run_id.as_str()).collect();
    let found = runs::run_infos(change.db(), &ids.into_iter().collect::<Vec<_>>()).await?;
    let run_of = |one: &Queued| match found.get(&one.entry.run_id) {
        Some(run) => run.writable().map(|()| run),
        None => Err(runs::absent(&one.entry.run_id)),
    };
    let runs_of: Vec<Result<&RunInfo, Error>> = shared.iter().map(run_of).collect();
    let written: Vec<(&RunInfo, &Queued)> = runs_of
        .iter()
        .zip(shared)
        .filter_map(|(run, one)| run.as_ref().ok().map(|run| (*run, one)))
        .filter(|(_, one)| one.entry.rows() > 0)
        .collect();
    if !written.is_empty() {
        let params: Vec<_> = written.iter().flat_map(|(run, one)| each(run, &one.entry.params)).collect();
        let points: Vec<_> = written.iter().flat_map(|(run, one)| each(run, &one.entry.points)).collect();
        let tags: Vec<_> = written.iter().flat_map(|(run, one)| each(run, &one.entry.tags)).collect();
        runs::run_params_log(change.db(), &params).await?;
        metrics::metrics_log(change.db(), &points).await?;
        runs::run_tags_set(change.db(), &tags).await?;
        change.publish_all(&events(&written)?).await?;
        change.commit().await?;
    }
    Ok(runs_of.into_iter().map(|run| run.map(drop)).collect())
}

fn each<'entry, T>(
    run: &'entry RunInfo,
    items: &'entry [T],
) -> impl Iterator<Item = (&'entry RunInfo, &'entry T)> {
    items.iter().map(move |item| (run, item))
}

/// One event for each run, which names all that was logged to it.
fn events(written: &[(&RunInfo, &Queued)]) -> Result<Vec<Prepared>, Error> {
    let runs: BTreeSet<&str> = written.iter().map(|(run, _)| run.run_id.as_str()).collect();
    let event = |run_id: &str| {
        let of_run = || written.iter().filter(|(run, _)| run.run_id == run_id).map(|(_, one)| *one);
        let metrics: BTreeSet<&str> =
            of_run().flat_map(|one| one.entry.points.iter().map(|point| point.key.as_str())).collect();
        let keys = |pairs: fn(&Entry) -> &[Pair]| -> BTreeSet<&str> {
            of_run().flat_map(|one| pairs(&one.entry).iter().map(|(key, _)| key.as_str())).collect()
        };
        let (params, tags) = (keys(|entry| &entry.params), keys(|entry| &entry.tags));
        let what = if metrics.is_empty() && params.is_empty() { "tagged" } else { "logged" };
        let event = RegistryChange {
            entity: "run".to_owned(),
            what: what.to_owned(),
            id: run_id.to_owned(),
            details: serde_json::json!({"metrics": metrics, "params": params, "tags": tags}),
        };
        let traceparent = of_run().find_map(|one| one.traceparent.clone());
        Ok(Prepared::new(&event, traceparent)?)
    };
    runs.into_iter().map(event).collect()
}
