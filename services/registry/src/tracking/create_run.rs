//! Use case: create a run. A sweep creates hundreds at the same time, so requests share transactions; see
//! [`group_commit`](crate::tracking::group_commit).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use slipway_api::events::RegistryChange;
use slipway_outbox::Prepared;

use crate::access::caller::proven;
use crate::change::Changes;
use crate::error::Error;
use crate::store::Pair;
use crate::store::experiments::{Homes, experiment_homes};
use crate::store::runs::{NewRun, Run, runs_create};
use crate::tracking::group_commit::{Batched, Queued};

/// A run to be created. Refused where the experiment is not there or deleted, or the id is taken.
#[derive(Debug)]
pub(crate) struct CreateRun {
    pub(crate) run_id: String,
    /// As the client wrote it.
    pub(crate) experiment_id: String,
    pub(crate) name: String,
    pub(crate) user_id: String,
    pub(crate) start_ms: i64,
    pub(crate) tags: Vec<Pair>,
}

impl Batched for CreateRun {
    type Answer = Run;

    fn key(&self) -> &str {
        &self.run_id
    }

    fn rows(&self) -> usize {
        1 + self.tags.len()
    }

    async fn write(changes: &Changes, batch: &[Queued<Self>]) -> Result<Vec<Result<Run, Error>>, Error> {
        let mut change = changes.begin().await?;
        let asked: BTreeSet<&str> = batch.iter().map(|one| one.entry.experiment_id.as_str()).collect();
        let homes = experiment_homes(change.db(), &asked).await?;
        let new: Vec<Result<NewRun<'_>, Error>> =
            batch.iter().map(|one| one.entry.at(&homes, proven(&one.actor))).collect();
        let valid: Vec<&NewRun<'_>> = new.iter().flatten().collect();
        if valid.is_empty() {
            return Ok(new.into_iter().map(|refused| Err(refused.err().unwrap_or_else(nothing))).collect());
        }
        let keys = runs_create(change.db(), &valid).await?;
        let made = batch.iter().zip(&new).filter(|(_, new)| new.is_ok());
        let events: Result<Vec<Prepared>, Error> = made.map(|(one, _)| event(one)).collect();
        change.publish_all(&events?).await?;
        change.wake_at_commit();
        change.commit().await?;
        let made = |new: NewRun<'_>| {
            let run_key = keys.get(new.run_id).ok_or_else(nothing)?;
            Ok(Run::fresh(*run_key, &new))
        };
        Ok(new.into_iter().map(|new| new.and_then(made)).collect())
    }
}

/// Unreachable: each request was either made or refused.
fn nothing() -> Error {
    Error::internal("a run was neither made nor refused")
}

fn event(one: &Queued<CreateRun>) -> Result<Prepared, Error> {
    let CreateRun { run_id, experiment_id, name, .. } = &one.entry;
    let event = RegistryChange {
        entity: "run".to_owned(),
        what: "created".to_owned(),
        id: run_id.clone(),
        details: json!({"experiment_id": experiment_id, "run_name": name}),
    };
    Ok(Prepared::new(&event, one.traceparent.clone())?.by(Arc::clone(&one.actor)))
}

impl CreateRun {
    /// The run's row within its experiment.
    fn at<'run>(&'run self, homes: &Homes, created_by: Option<&'run str>) -> Result<NewRun<'run>, Error> {
        let (experiment_id, location) = homes.active(&self.experiment_id)?;
        Ok(NewRun {
            run_id: &self.run_id,
            experiment_id,
            name: &self.name,
            user_id: &self.user_id,
            created_by,
            start_ms: self.start_ms,
            artifact_uri: format!("{}/{}/artifacts", location.trim_end_matches('/'), self.run_id),
            tags: &self.tags,
        })
    }
}
