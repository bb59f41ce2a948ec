//! Use case: create a run. A sweep creates hundreds at the same time, so requests share transactions; see
//! [`group_commit`](crate::tracking::group_commit).

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::seq::IndexedRandom as _;
use serde_json::json;
use slipway_api::events::RegistryChange;
use slipway_outbox::Prepared;

use crate::access::caller::proven;
use crate::change::Changes;
use crate::error::Error;
use crate::store::Pair;
use crate::store::experiments::{Homes, experiment_homes};
use crate::store::runs::{NewRun, Run, runs_create};
use crate::store::tags::RUN_NAME_TAG;
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

/// The ID of a run whose client chose none.
pub(crate) fn new_id() -> String {
    slipway_runtime::id::random().simple().to_string()
}

/// The name of a run. The tag of that name has the same value; it is added where there is none.
///
/// # Errors
/// The name and the tag differ.
pub(crate) fn name(asked: Option<String>, tags: &mut Vec<Pair>) -> Result<String, Error> {
    let tagged = tags.iter().rfind(|(key, _)| key == RUN_NAME_TAG).map(|(_, name)| name.clone());
    if let (Some(asked), Some(tagged)) = (&asked, &tagged)
        && asked != tagged
    {
        let message = format!(
            "Both 'run_name' argument and '{RUN_NAME_TAG}' tag are specified, but with different values \
             (run_name='{asked}', {RUN_NAME_TAG}='{tagged}')."
        );
        return Err(Error::invalid("run_name", message));
    }
    let name = asked.or_else(|| tagged.clone()).unwrap_or_else(random_name);
    if tagged.is_none() {
        tags.push((RUN_NAME_TAG.to_owned(), name.clone()));
    }
    Ok(name)
}

/// A name for what a client left unnamed.
pub(crate) fn random_name() -> String {
    // Words that names of the clients' own begin with as well, so that generated names are recognized.
    const QUALITIES: [&str; 12] = [
        "able", "bold", "bright", "calm", "capable", "clean", "gentle", "nimble", "orderly", "placid",
        "silent", "wise",
    ];
    const THINGS: [&str; 12] = [
        "anchor", "beacon", "bow", "current", "harbour", "keel", "mast", "pier", "rudder", "sail", "tide",
        "wave",
    ];
    let mut random = rand::rng();
    let quality = QUALITIES.choose(&mut random).copied().unwrap_or_default();
    let thing = THINGS.choose(&mut random).copied().unwrap_or_default();
    format!("{quality}-{thing}-{}", rand::random_range(100..1000))
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
