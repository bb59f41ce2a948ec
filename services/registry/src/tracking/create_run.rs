//! Runs as they begin. A sweep begins hundreds at once, so requests share transactions; see [`crate::tracking::group_commit`].

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use slipway_api::events::RegistryChange;
use slipway_event_bus::Prepared;

use crate::access::proven;
use crate::error::Error;
use crate::state::Registry;
use crate::store::Pair;
use crate::store::experiments::{Homes, experiment_homes};
use crate::store::runs::{NewRun, Run, runs_create};
use crate::tracking::group_commit::{Queued, Shared};

/// A run that somebody asks for. Refused where the experiment is not there or deleted, or the id is taken.
#[derive(Debug)]
pub(crate) struct Creation {
    pub(crate) run_id: String,
    /// As the client wrote it.
    pub(crate) experiment_id: String,
    pub(crate) name: String,
    pub(crate) user_id: String,
    pub(crate) start_ms: i64,
    pub(crate) tags: Vec<Pair>,
}

impl Shared for Creation {
    type Answer = Run;

    fn place(&self) -> &str {
        &self.run_id
    }

    fn rows(&self) -> usize {
        1 + self.tags.len()
    }

    async fn write(registry: &Registry, shared: &[Queued<Self>]) -> Result<Vec<Result<Run, Error>>, Error> {
        let mut change = registry.change().await?;
        let asked: BTreeSet<&str> = shared.iter().map(|one| one.entry.experiment_id.as_str()).collect();
        let homes = experiment_homes(change.db(), &asked).await?;
        let new: Vec<Result<NewRun<'_>, Error>> =
            shared.iter().map(|one| one.entry.at(&homes, proven(&one.actor))).collect();
        let lawful: Vec<&NewRun<'_>> = new.iter().flatten().collect();
        if lawful.is_empty() {
            return Ok(new.into_iter().map(|refused| Err(refused.err().unwrap_or_else(nothing))).collect());
        }
        let keys = runs_create(change.db(), &lawful).await?;
        let made = shared.iter().zip(&new).filter(|(_, new)| new.is_ok());
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

/// Cannot be: each request was made or refused.
fn nothing() -> Error {
    Error::internal("a run was neither made nor refused")
}

fn event(one: &Queued<Creation>) -> Result<Prepared, Error> {
    let Creation { run_id, experiment_id, name, .. } = &one.entry;
    let event = RegistryChange {
        entity: "run".to_owned(),
        what: "created".to_owned(),
        id: run_id.clone(),
        details: json!({"experiment_id": experiment_id, "run_name": name}),
    };
    Ok(Prepared::new(&event, one.traceparent.clone())?.by(Arc::clone(&one.actor)))
}

impl Creation {
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
