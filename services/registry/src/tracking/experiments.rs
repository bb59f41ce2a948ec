//! Use cases of experiments: create, rename, delete, restore, tag, look up and search.

use serde_json::json;
use slipway_domain::registry::filter::{Clause, Order};
use slipway_domain::registry::{
    validate_artifact_location, validate_experiment_name, validate_experiment_tag,
};

use crate::access::caller::Caller;
use crate::clock::now_ms;
use crate::error::{Error, Thing};
use crate::state::Registry;
use crate::store::Pair;
use crate::store::experiments::{self as table, Experiment, View};

/// The experiment of runs that name none.
const DEFAULT_EXPERIMENT: i64 = 0;

/// An experiment to be created.
#[derive(Debug)]
pub(crate) struct NewExperiment {
    pub(crate) name: String,
    /// If unset, its artifacts go through the artifact proxy.
    pub(crate) artifact_location: Option<String>,
    pub(crate) tags: Vec<Pair>,
}

/// Creates an experiment; its id.
///
/// # Errors
/// The name is taken, a value is invalid, or Postgres is unreachable.
pub(crate) async fn create(registry: &Registry, new: &NewExperiment) -> Result<i64, Error> {
    let NewExperiment { name, artifact_location, tags } = new;
    validate_experiment_name(name)?;
    for (key, value) in tags {
        validate_experiment_tag(key, value)?;
    }
    let location = artifact_location.as_deref();
    location.map(validate_artifact_location).transpose()?;
    let mut change = registry.change().await?;
    let id = table::experiment_create(change.db(), name, location, tags, now_ms()).await?;
    change.tell("experiment", "created", id.to_string(), json!({ "name": name })).await?;
    change.commit().await?;
    Ok(id)
}

/// The experiment of that id, deleted or not.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn get(registry: &Registry, id: &str) -> Result<Experiment, Error> {
    table::experiment_get(&mut *registry.pool.acquire().await?, id).await
}

/// The experiment of that name, deleted or not.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn get_by_name(registry: &Registry, name: &str) -> Result<Experiment, Error> {
    let found = table::experiment_by_name(&mut *registry.pool.acquire().await?, name).await?;
    found.ok_or_else(|| Error::NotFound(Thing::ExperimentNamed(name.to_owned())))
}

/// A page of the experiments that the caller may read, which match a filter.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn search(
    registry: &Registry,
    caller: &Caller,
    view: View,
    (clauses, orders): (&[Clause], &[Order]),
    page: (i64, i64),
) -> Result<Vec<Experiment>, Error> {
    let scope = (view, &caller.grants.visible_experiments());
    let mut db = registry.pool.acquire().await?;
    table::experiment_search(&mut db, scope, clauses, orders, page).await
}

/// Renames an experiment.
///
/// # Errors
/// It does not exist or is deleted, the name is taken or invalid, or Postgres is unreachable.
pub(crate) async fn rename(registry: &Registry, id: &str, name: &str) -> Result<(), Error> {
    validate_experiment_name(name)?;
    let mut change = registry.change().await?;
    let (key, _) = table::experiment_active(change.db(), id).await?;
    table::experiment_rename(change.db(), key, name, now_ms()).await?;
    change.tell("experiment", "updated", id, json!({ "name": name })).await?;
    change.commit().await
}

/// Deletes an experiment with its runs, or restores both.
///
/// # Errors
/// It is the default experiment, does not exist or is in that state already, or Postgres is unreachable.
pub(crate) async fn set_deleted(registry: &Registry, id: &str, deleted: bool) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let experiment = table::experiment_get(change.db(), id).await?;
    if deleted && experiment.experiment_id == DEFAULT_EXPERIMENT {
        return Err(Error::invalid("experiment_id", "The default experiment cannot be deleted"));
    }
    if experiment.deleted_ms.is_some() == deleted {
        // Only those in the other state are looked for.
        return Err(table::absent(id));
    }
    table::experiment_set_deleted(change.db(), experiment.experiment_id, deleted, now_ms()).await?;
    let what = if deleted { "deleted" } else { "restored" };
    change.tell("experiment", what, id, json!({ "name": experiment.name })).await?;
    change.commit().await
}

/// Sets a tag.
///
/// # Errors
/// The tag is invalid, the experiment does not exist or is deleted, or Postgres is unreachable.
pub(crate) async fn set_tag(registry: &Registry, id: &str, key: &str, value: &str) -> Result<(), Error> {
    validate_experiment_tag(key, value)?;
    let mut change = registry.change().await?;
    let (experiment, _) = table::experiment_active(change.db(), id).await?;
    table::experiment_tag_set(change.db(), experiment, key, value).await?;
    change.tell("experiment", "updated", id, json!({ "tag": key })).await?;
    change.commit().await
}

/// Removes a tag.
///
/// # Errors
/// The tag or the experiment does not exist, the experiment is deleted, or Postgres is unreachable.
pub(crate) async fn delete_tag(registry: &Registry, id: &str, key: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let (experiment, _) = table::experiment_active(change.db(), id).await?;
    if !table::experiment_tag_delete(change.db(), experiment, key).await? {
        let tag = Thing::ExperimentTag { key: key.to_owned(), experiment: id.to_owned() };
        return Err(Error::NotFound(tag));
    }
    change.tell("experiment", "updated", id, json!({ "tag": key })).await?;
    change.commit().await
}
