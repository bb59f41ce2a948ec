//! Use cases of runs: finish, delete, restore, tag, look up and search. [`create_run`](super::create_run) and
//! [`log_batch`](super::log_batch) share transactions and stand apart.

use serde_json::{Value, json};
use slipway_domain::access::Visible;

use crate::access::caller::Caller;
use crate::clock::now_ms;
use crate::error::{Error, Thing};
use crate::state::Registry;
use crate::store::run_page::runs_with_everything;
use crate::store::run_search::{After, RunSearch};
use crate::store::runs::{self as table, Run, RunInfo};
use crate::store::tags::MODEL_HISTORY_TAG;

/// What changes of a run; unset fields stay as they are.
#[derive(Debug, Default)]
pub(crate) struct RunUpdate {
    pub(crate) status: Option<&'static str>,
    /// Unix milliseconds.
    pub(crate) end_ms: Option<i64>,
    pub(crate) name: Option<String>,
}

/// A run with its params, tags, inputs, outputs and newest metrics.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn get(registry: &Registry, run_id: &str) -> Result<Run, Error> {
    table::run_get(&mut *registry.pool.acquire().await?, run_id).await
}

/// A page of runs that match a filter, and where it ended if there are more.
///
/// # Errors
/// `after` belongs to another search, or Postgres is unreachable.
pub(crate) async fn search(
    registry: &Registry,
    asked: &RunSearch<'_>,
    after: Option<&After>,
    limit: usize,
) -> Result<(Vec<Run>, Option<After>), Error> {
    let mut db = registry.pool.acquire().await?;
    let (found, after) = asked.page(&mut db, after, limit).await?;
    Ok((runs_with_everything(&mut db, found).await?, after))
}

/// The experiments that the caller may read, of these. Fewer experiments keep a search on its index.
pub(crate) fn readable(caller: &Caller, mut experiment_ids: Vec<i64>) -> Vec<i64> {
    if let Visible::These(visible) = caller.grants.visible_experiments() {
        experiment_ids.retain(|id| visible.binary_search(id).is_ok());
    }
    experiment_ids
}

/// A page of the runs that the caller may read, the newest first, behind the run with that start and id.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn list(
    registry: &Registry,
    caller: &Caller,
    experiment_id: Option<i64>,
    after: Option<(i64, String)>,
    limit: i64,
) -> Result<Vec<RunInfo>, Error> {
    let visible = caller.grants.visible_experiments();
    table::run_list(&mut *registry.pool.acquire().await?, &visible, experiment_id, after, limit).await
}

/// Changes status, end and name of a run.
///
/// # Errors
/// The run does not exist or is deleted, or Postgres is unreachable.
pub(crate) async fn update(registry: &Registry, run_id: &str, update: &RunUpdate) -> Result<RunInfo, Error> {
    let mut change = registry.change().await?;
    let run = table::run_active(change.db(), run_id).await?;
    let run =
        table::run_update(change.db(), &run, update.status, update.end_ms, update.name.as_deref()).await?;
    let details = json!({"status": run.status, "run_name": run.name});
    change.tell("run", "updated", run_id, details).await?;
    change.commit().await?;
    Ok(run)
}

/// Deletes a run, or restores it. A run that is in that state already stays as it is.
///
/// # Errors
/// The run does not exist, or Postgres is unreachable.
pub(crate) async fn set_deleted(registry: &Registry, run_id: &str, deleted: bool) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let run = table::run_info(change.db(), run_id).await?;
    if run.deleted_ms.is_some() != deleted {
        table::run_set_deleted(change.db(), run.run_key, deleted.then(now_ms)).await?;
        let what = if deleted { "deleted" } else { "restored" };
        change.tell("run", what, run_id, json!({})).await?;
        change.commit().await?;
    }
    Ok(())
}

/// Removes a tag.
///
/// # Errors
/// The tag or the run does not exist, the run is deleted, or Postgres is unreachable.
pub(crate) async fn delete_tag(registry: &Registry, run_id: &str, key: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let run = table::run_active(change.db(), run_id).await?;
    if !table::run_tag_delete(change.db(), run.run_key, key).await? {
        return Err(Error::NotFound(Thing::RunTag { key: key.to_owned(), run: run_id.to_owned() }));
    }
    change.tell("run", "tagged", run_id, json!({ "tags": [key] })).await?;
    change.commit().await
}

/// Adds a model to the run's history of models, a tag that holds a JSON list.
///
/// # Errors
/// The run does not exist or is deleted, or Postgres is unreachable.
pub(crate) async fn add_to_model_history(
    registry: &Registry,
    run_id: &str,
    model: &Value,
) -> Result<(), Error> {
    let mut change = registry.change().await?;
    let run = table::run_active(change.db(), run_id).await?;
    table::run_models_add(change.db(), &run, model).await?;
    change.tell("run", "tagged", run_id, json!({ "tags": [MODEL_HISTORY_TAG] })).await?;
    change.commit().await
}
