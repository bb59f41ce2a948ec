//! `/mlflow/experiments`.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde_json::json;
use slipway_domain::registry::filter::Entity;

use super::error::Failure;
use super::message::Message;
use super::search::{Search, view};
use super::{Answer, Fields, answer, empty};
use crate::access::caller::Caller;
use crate::state::Registry;
use crate::store::experiments::Experiment;
use crate::tracking::experiments::{self as use_cases, NewExperiment};

const DEFAULT_RESULTS: usize = 1_000;
const MAX_RESULTS: usize = 50_000;

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
    let new = NewExperiment {
        name: fields.required("name")?,
        tags: fields.pairs("tags")?,
        artifact_location: fields.non_empty("artifact_location")?,
    };
    let id = use_cases::create(&registry, &new).await?;
    Ok(answer(json!({ "experiment_id": id.to_string() })))
}

async fn by_id(State(registry): State<Registry>, fields: Fields) -> Answer {
    let experiment = use_cases::get(&registry, &fields.required("experiment_id")?).await?;
    Ok(answer(Message::new().put("experiment", body(&experiment))))
}

async fn by_name(State(registry): State<Registry>, fields: Fields) -> Answer {
    let experiment = use_cases::get_by_name(&registry, &fields.required("experiment_name")?).await?;
    Ok(answer(Message::new().put("experiment", body(&experiment))))
}

async fn search(State(registry): State<Registry>, caller: Caller, fields: Fields) -> Answer {
    let search = Search::read(Entity::Experiments, &fields, DEFAULT_RESULTS, MAX_RESULTS)?;
    let view = view(&fields, "view_type")?;
    let found = use_cases::search(&registry, &caller, view, search.conditions(), search.page()?).await?;
    let (found, token) = search.cut(found);
    let found = found.iter().map(|experiment| body(experiment).into_value()).collect();
    Ok(answer(Message::new().list("experiments", found).maybe("next_page_token", token)))
}

async fn update(State(registry): State<Registry>, fields: Fields) -> Answer {
    let id = fields.required("experiment_id")?;
    let name = fields.non_empty("new_name")?.ok_or_else(|| Failure::missing("new_name"))?;
    use_cases::rename(&registry, &id, &name).await?;
    Ok(empty())
}

async fn delete(State(registry): State<Registry>, fields: Fields) -> Answer {
    use_cases::set_deleted(&registry, &fields.required("experiment_id")?, true).await?;
    Ok(empty())
}

async fn restore(State(registry): State<Registry>, fields: Fields) -> Answer {
    use_cases::set_deleted(&registry, &fields.required("experiment_id")?, false).await?;
    Ok(empty())
}

async fn set_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (id, key) = (fields.required("experiment_id")?, fields.required("key")?);
    let value = fields.string("value")?.unwrap_or_default();
    use_cases::set_tag(&registry, &id, &key, &value).await?;
    Ok(empty())
}

async fn delete_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (id, key) = (fields.required("experiment_id")?, fields.required("key")?);
    use_cases::delete_tag(&registry, &id, &key).await?;
    Ok(empty())
}
