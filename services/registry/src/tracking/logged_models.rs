//! Use cases of logged models: create, finalize, delete, tag, add params, look up and search.

use serde_json::json;
use slipway_domain::registry::validate_logged_model_name;
use slipway_runtime::id;

use crate::access::caller::Caller;
use crate::access::references;
use crate::clock::now_ms;
use crate::error::{Error, Thing};
use crate::state::Registry;
use crate::store::Pair;
use crate::store::experiments::experiment_active;
use crate::store::logged_models::{self as table, LoggedModel, ModelSearch};

/// A logged model to be created, pending until its files are uploaded.
#[derive(Debug)]
pub(crate) struct NewLoggedModel {
    /// `m-` and 32 hexadecimal digits; a new one if unset.
    pub(crate) model_id: Option<String>,
    pub(crate) experiment_id: String,
    pub(crate) name: String,
    pub(crate) model_type: String,
    pub(crate) source_run_id: Option<String>,
    pub(crate) params: Vec<Pair>,
    pub(crate) tags: Vec<Pair>,
}

fn is_model_id(text: &str) -> bool {
    text.strip_prefix("m-")
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Creates a logged model.
///
/// # Errors
/// A value is invalid, the experiment does not exist or is deleted, the id is taken, the caller may not read
/// the run, or Postgres is unreachable.
pub(crate) async fn create(
    registry: &Registry,
    caller: &Caller,
    new: NewLoggedModel,
) -> Result<LoggedModel, Error> {
    validate_logged_model_name(&new.name)?;
    let model_id = match new.model_id {
        Some(given) if is_model_id(&given) => given,
        Some(given) => {
            let message = format!(
                "Invalid value \"{given}\" for parameter 'model_id' supplied: expected 'm-' and 32 \
                 hexadecimal digits"
            );
            return Err(Error::invalid("model_id", message));
        }
        None => format!("m-{}", id::random().simple()),
    };
    let mut change = registry.change().await?;
    let (experiment_id, location) = experiment_active(change.db(), &new.experiment_id).await?;
    let source_run = match &new.source_run_id {
        Some(run_id) => Some(references::run(change.db(), caller, run_id).await?),
        None => None,
    };
    let artifact_uri = format!("{}/models/{model_id}/artifacts", location.trim_end_matches('/'));
    let row = table::NewLoggedModel {
        model_id: &model_id,
        experiment_id,
        name: &new.name,
        artifact_uri: &artifact_uri,
        model_type: &new.model_type,
        source_run: source_run.as_ref(),
    };
    table::logged_model_create(change.db(), &row, &new.params, &new.tags, now_ms()).await?;
    let details = json!({"name": new.name, "source_run_id": new.source_run_id});
    change.tell("logged-model", "created", model_id.as_str(), details).await?;
    let model = table::logged_model_get(change.db(), &model_id).await?;
    change.commit().await?;
    Ok(model)
}

/// The logged model of that id; with `deleted` also a deleted one.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn get(registry: &Registry, model_id: &str, deleted: bool) -> Result<LoggedModel, Error> {
    table::logged_model_find(&mut *registry.pool.acquire().await?, model_id, deleted).await
}

/// A page of logged models that match a filter.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn search(
    registry: &Registry,
    asked: &ModelSearch<'_>,
    page: (i64, i64),
) -> Result<Vec<LoggedModel>, Error> {
    table::logged_model_search(&mut *registry.pool.acquire().await?, asked, page).await
}

/// Sets the status, once the files are uploaded or the upload failed.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn finalize(
    registry: &Registry,
    model_id: &str,
    status: &'static str,
) -> Result<LoggedModel, Error> {
    let mut change = registry.change().await?;
    table::logged_model_touch(change.db(), model_id, Some(status), now_ms()).await?;
    change.tell("logged-model", "finalized", model_id, json!({ "status": status })).await?;
    let model = table::logged_model_get(change.db(), model_id).await?;
    change.commit().await?;
    Ok(model)
}

/// Deletes a logged model. One that is deleted already stays so.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn delete(registry: &Registry, model_id: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    if table::logged_model_delete(change.db(), model_id, now_ms()).await? {
        change.tell("logged-model", "deleted", model_id, json!({})).await?;
        change.commit().await?;
    }
    Ok(())
}

/// Sets tags. `merge` gets the tags that are there and returns those to set.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn set_tags(
    registry: &Registry,
    model_id: &str,
    merge: impl FnOnce(&[Pair]) -> Vec<Pair> + Send,
) -> Result<LoggedModel, Error> {
    let mut change = registry.change().await?;
    table::logged_model_touch(change.db(), model_id, None, now_ms()).await?;
    let before = table::logged_model_get(change.db(), model_id).await?;
    let tags = merge(&before.tags.0);
    table::logged_model_tags_set(change.db(), model_id, &tags).await?;
    let keys: Vec<&str> = tags.iter().map(|(key, _)| key.as_str()).collect();
    change.tell("logged-model", "updated", model_id, json!({ "tags": keys })).await?;
    let model = table::logged_model_get(change.db(), model_id).await?;
    change.commit().await?;
    Ok(model)
}

/// Removes a tag.
///
/// # Errors
/// The tag or the logged model does not exist, or Postgres is unreachable.
pub(crate) async fn delete_tag(registry: &Registry, model_id: &str, key: &str) -> Result<(), Error> {
    let mut change = registry.change().await?;
    table::logged_model_touch(change.db(), model_id, None, now_ms()).await?;
    if !table::logged_model_tag_delete(change.db(), model_id, key).await? {
        let tag = Thing::LoggedModelTag { key: key.to_owned(), model_id: model_id.to_owned() };
        return Err(Error::NotFound(tag));
    }
    change.tell("logged-model", "updated", model_id, json!({ "tags": [key] })).await?;
    change.commit().await
}

/// Adds params; one that is there stays as it is.
///
/// # Errors
/// It does not exist, or Postgres is unreachable.
pub(crate) async fn add_params(registry: &Registry, model_id: &str, params: &[Pair]) -> Result<(), Error> {
    let mut change = registry.change().await?;
    table::logged_model_touch(change.db(), model_id, None, now_ms()).await?;
    table::logged_model_params_add(change.db(), model_id, params).await?;
    let keys: Vec<&str> = params.iter().map(|(key, _)| key.as_str()).collect();
    change.tell("logged-model", "updated", model_id, json!({ "params": keys })).await?;
    change.commit().await
}
