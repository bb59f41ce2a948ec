//! Use case: a run logs metrics, params and tags. A training loop logs small things often, so requests share
//! transactions; see [`group_commit`](crate::tracking::group_commit).

use std::collections::BTreeSet;
use std::sync::Arc;

use slipway_api::events::RegistryChange;
use slipway_audit::Actor;
use slipway_outbox::Prepared;

use crate::change::Changes;
use crate::error::Error;
use crate::store::Pair;
use crate::store::metrics::{self, Point};
use crate::store::runs::{self, RunInfo};
use crate::tracking::group_commit::{Batched, Queued};

/// What one request logs. All of it is written, or nothing. Refused where the run is not there or deleted, a
/// param has another value already, or a model is not there.
#[derive(Debug, Default)]
pub(crate) struct LogBatch {
    pub(crate) run_id: String,
    pub(crate) points: Vec<Point>,
    pub(crate) params: Vec<Pair>,
    pub(crate) tags: Vec<Pair>,
}

impl Batched for LogBatch {
    type Answer = ();

    fn key(&self) -> &str {
        &self.run_id
    }

    fn rows(&self) -> usize {
        self.points.len() + self.params.len() + self.tags.len()
    }

    async fn write(changes: &Changes, batch: &[Queued<Self>]) -> Result<Vec<Result<(), Error>>, Error> {
        transaction(changes, batch).await
    }
}

async fn transaction(changes: &Changes, batch: &[Queued<LogBatch>]) -> Result<Vec<Result<(), Error>>, Error> {
    let mut change = changes.begin().await?;
    let ids: BTreeSet<&str> = batch.iter().map(|one| one.entry.run_id.as_str()).collect();
    let found = runs::run_infos(change.db(), &ids.into_iter().collect::<Vec<_>>()).await?;
    let run_of = |one: &Queued<LogBatch>| match found.get(&one.entry.run_id) {
        Some(run) => run.writable().map(|()| run),
        None => Err(runs::absent(&one.entry.run_id)),
    };
    let runs_of: Vec<Result<&RunInfo, Error>> = batch.iter().map(run_of).collect();
    let written: Vec<(&RunInfo, &Queued<LogBatch>)> = runs_of
        .iter()
        .zip(batch)
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

/// One event for each run and caller, which names all that this caller logged to it.
fn events(written: &[(&RunInfo, &Queued<LogBatch>)]) -> Result<Vec<Prepared>, Error> {
    let whose: BTreeSet<(&str, &Arc<Actor>)> =
        written.iter().map(|(run, one)| (run.run_id.as_str(), &one.actor)).collect();
    let event = |(run_id, actor): (&str, &Arc<Actor>)| {
        let is_theirs = |run: &RunInfo, one: &Queued<LogBatch>| run.run_id == run_id && one.actor == *actor;
        let of_run = || written.iter().filter(move |(run, one)| is_theirs(run, one)).map(|(_, one)| *one);
        let metrics: BTreeSet<&str> =
            of_run().flat_map(|one| one.entry.points.iter().map(|point| point.key.as_str())).collect();
        let keys = |pairs: fn(&LogBatch) -> &[Pair]| -> BTreeSet<&str> {
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
        Ok(Prepared::new(&event, traceparent)?.by(Arc::clone(actor)))
    };
    whose.into_iter().map(event).collect()
}
