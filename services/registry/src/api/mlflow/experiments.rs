//! `/mlflow/experiments`.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde_json::json;
use slipway_domain::registry::filter::Entity;
use slipway_domain::registry::{
    validate_artifact_location, validate_experiment_name, validate_experiment_tag,
};

use super::message::Message;
use super::search::{Search, view};
use super::{Answer, Fields, answer, empty, now_ms};
use crate::access::caller::Caller;
use crate::error::Error;
use crate::state::Registry;
use crate::store::experiments::{self as table, Experiment};

const DEFAULT_RESULTS: usize = 1_000;
const MAX_RESULTS: usize = 50_000;
/// The experiment that runs without one belong to.
const DEFAULT_EXPERIMENT: i64 = 0;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    let path = |name: &str| format!("{prefix}/2.0/mlflow/experiments/{name}");
    Router::new()
        .route(&path("create"), post(create))
        .route(&path("get"), get(by_id))
        .route(&path("get-by-name"), get(by_name))
        .route(&path("search"), get(search).post(search))
        .route(&path("update"), post(update))
        .route(&path("delete"), post(delete))
        .route(&path("restore"), post(restore))
        .route(&path("set-experiment-tag"), post(set_tag))
        .route(&path("delete-experiment-tag"), post(delete_tag))
}

fn body(experiment: &Experiment) -> Message {
    Message::new()
        .put("experiment_id", experiment.experiment_id.to_string())
        .put("name", experiment.name.clone())
        .put("artifact_location", experiment.artifact_location.clone())
        .put("lifecycle_stage", stage(experiment.deleted_ms))
        .put("last_update_time", experiment.updated_ms)
        .put("creation_time", experiment.created_ms)
        // MLflow's name for the only one there is where workspaces are off.
        .put("workspace", "default")
        .pairs("tags", &experiment.tags.0)
}

/// MLflow's name for a life stage.
pub(super) const fn stage(deleted_ms: Option<i64>) -> &'static str {
    if deleted_ms.is_some() { "deleted" } else { "active" }
}

async fn create(State(registry): State<Registry>, mut fields: Fields) -> Answer {
    let name = fields.required("name")?;
    validate_experiment_name(&name)?;
    let tags = fields.pairs("tags")?;
    for (key, value) in &tags {
        validate_experiment_tag(key, value)?;
    }
    let location = fields.non_empty("artifact_location")?;
    location.as_deref().map(validate_artifact_location).transpose()?;
    let mut change = registry.change().await?;
    let id = table::experiment_create(change.db(), &name, location.as_deref(), &tags, now_ms()).await?;
    change.tell("experiment", "created", id.to_string(), json!({ "name": name })).await?;
    change.commit().await?;
    Ok(answer(json!({ "experiment_id": id.to_string() })))
}

async fn by_id(State(registry): State<Registry>, fields: Fields) -> Answer {
    let id = fields.required("experiment_id")?;
    let mut db = registry.pool.acquire().await?;
    let experiment = table::experiment_get(&mut db, &id).await?;
    Ok(answer(Message::new().put("experiment", body(&experiment))))
}

async fn by_name(State(registry): State<Registry>, fields: Fields) -> Answer {
    let name = fields.required("experiment_name")?;
    let mut db = registry.pool.acquire().await?;
    let experiment = table::experiment_by_name(&mut db, &name)
        .await?
        .ok_or_else(|| Error::not_found(format!("Could not find experiment with name '{name}'")))?;
    Ok(answer(Message::new().put("experiment", body(&experiment))))
}

async fn search(State(registry): State<Registry>, caller: Caller, fields: Fields) -> Answer {
    let search = Search::read(Entity::Experiments, &fields, DEFAULT_RESULTS, MAX_RESULTS)?;
    let view = view(&fields, "view_type")?;
    let mut db = registry.pool.acquire().await?;
    let (clauses, orders) = search.conditions();
    let scope = (view, &caller.grants.visible_experiments());
    let found = table::experiment_search(&mut db, scope, clauses, orders, search.page()?).await?;
    let (found, token) = search.cut(found);
    let found = found.iter().map(|experiment| body(experiment).into_value()).collect();
    Ok(answer(Message::new().list("experiments", found).maybe("next_page_token", token)))
}

async fn update(State(registry): State<Registry>, fields: Fields) -> Answer {
    let id = fields.required("experiment_id")?;
    let name = fields.non_empty("new_name")?.ok_or_else(|| Error::missing("new_name"))?;
    validate_experiment_name(&name)?;
    let mut change = registry.change().await?;
    let (key, _) = table::experiment_active(change.db(), &id).await?;
    table::experiment_rename(change.db(), key, &name, now_ms()).await?;
    change.tell("experiment", "updated", id, json!({ "name": name })).await?;
    change.commit().await?;
    Ok(empty())
}

async fn delete(State(registry): State<Registry>, fields: Fields) -> Answer {
    set_deleted(&registry, &fields, true).await
}

async fn restore(State(registry): State<Registry>, fields: Fields) -> Answer {
    set_deleted(&registry, &fields, false).await
}

async fn set_deleted(registry: &Registry, fields: &Fields, deleted: bool) -> Answer {
    let id = fields.required("experiment_id")?;
    let mut change = registry.change().await?;
    let experiment = table::experiment_get(change.db(), &id).await?;
    if deleted && experiment.experiment_id == DEFAULT_EXPERIMENT {
        return Err(Error::invalid("The default experiment cannot be deleted"));
    }
    if experiment.deleted_ms.is_some() == deleted {
        // MLflow looks for it among those of the other life stage.
        return Err(table::absent(&id));
    }
    table::experiment_set_deleted(change.db(), experiment.experiment_id, deleted, now_ms()).await?;
    let what = if deleted { "deleted" } else { "restored" };
    change.tell("experiment", what, id, json!({ "name": experiment.name })).await?;
    change.commit().await?;
    Ok(empty())
}

async fn set_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (id, key) = (fields.required("experiment_id")?, fields.required("key")?);
    let value = fields.string("value")?.unwrap_or_default();
    validate_experiment_tag(&key, &value)?;
    let mut change = registry.change().await?;
    let (experiment, _) = table::experiment_active(change.db(), &id).await?;
    table::experiment_tag_set(change.db(), experiment, &key, &value).await?;
    change.tell("experiment", "updated", id, json!({ "tag": key })).await?;
    change.commit().await?;
    Ok(empty())
}

async fn delete_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (id, key) = (fields.required("experiment_id")?, fields.required("key")?);
    let mut change = registry.change().await?;
    let (experiment, _) = table::experiment_active(change.db(), &id).await?;
    if !table::experiment_tag_delete(change.db(), experiment, &key).await? {
        return Err(Error::not_found(format!("No tag with name: {key} in experiment with id {id}")));
    }
    change.tell("experiment", "updated", id, json!({ "tag": key })).await?;
    change.commit().await?;
    Ok(empty())
}
