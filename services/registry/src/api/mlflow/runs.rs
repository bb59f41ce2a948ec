//! `/mlflow/runs`: life of a run, its params and tags.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use slipway_domain::registry::filter::Entity;
use slipway_domain::registry::{
    truncate_param_value, truncate_run_tag_value, validate_param_key, validate_run_id, validate_run_tag_key,
};

use super::error::Failure;
use super::run_body::{OneInfo, OneRun, Runs};
use super::search::{Search, experiment_ids, view};
use super::{Answer, Fields, empty, now_ms};
use crate::access::caller::Caller;
use crate::state::Registry;
use crate::store::Pair;
use crate::store::run_search::RunSearch;
use crate::tracking::create_run::{self, CreateRun};
use crate::tracking::log_batch::LogBatch;
use crate::tracking::runs::{self as use_cases, RunUpdate};

const DEFAULT_RESULTS: usize = 1_000;
const MAX_RESULTS: usize = 50_000;
const USER_TAG: &str = "mlflow.user";
const MODEL_FIELDS: [&str; 4] = ["run_id", "artifact_path", "utc_time_created", "flavors"];
const STATUSES: [&str; 5] = ["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"];

pub(super) fn router(prefix: &str) -> Router<Registry> {
    let path = |name: &str| format!("{prefix}/2.0/mlflow/runs/{name}");
    Router::new()
        .route(&path("create"), post(create))
        .route(&path("get"), get(by_id))
        .route(&path("search"), post(search))
        .route(&path("update"), post(update))
        .route(&path("delete"), post(delete))
        .route(&path("restore"), post(restore))
        .route(&path("log-parameter"), post(log_parameter))
        .route(&path("set-tag"), post(set_tag))
        .route(&path("delete-tag"), post(delete_tag))
        .route(&path("log-model"), post(log_model))
}

async fn create(State(registry): State<Registry>, mut fields: Fields) -> Result<Json<OneRun>, Failure> {
    let experiment_id = fields.non_empty("experiment_id")?.unwrap_or_else(|| "0".to_owned());
    let mut tags = tags(fields.pairs("tags")?)?;
    let name = create_run::name(fields.non_empty("run_name")?, &mut tags)?;
    let tagged_user = tags.iter().find(|(key, _)| key == USER_TAG).map(|(_, user)| user.clone());
    let user_id = fields.non_empty("user_id")?.or(tagged_user).unwrap_or_default();
    let start_ms = fields.integer("start_time")?.unwrap_or_else(now_ms);
    // Not in MLflow: an import keeps the ids that notebooks and links know.
    let run_id = match fields.non_empty("run_id")? {
        Some(asked) => validate_run_id(&asked).map(|()| asked)?,
        None => create_run::new_id(),
    };
    let creation = CreateRun { run_id, experiment_id, name, user_id, start_ms, tags };
    let run = registry.new_runs.write(creation).await?;
    Ok(Json(OneRun { run }))
}

/// Tags as they are stored: keys checked, values cut to length.
pub(super) fn tags(pairs: Vec<Pair>) -> Result<Vec<Pair>, Failure> {
    let one = |(index, (key, value)): (usize, Pair)| {
        validate_run_tag_key(&format!("tags[{index}].key"), &key)?;
        Ok((key, truncate_run_tag_value(&value).to_owned()))
    };
    pairs.into_iter().enumerate().map(one).collect()
}

/// Params as they are stored.
pub(super) fn params(pairs: Vec<Pair>) -> Result<Vec<Pair>, Failure> {
    let one = |(index, (key, value)): (usize, Pair)| {
        validate_param_key(&format!("params[{index}].key"), &key)?;
        Ok((key, truncate_param_value(&value).to_owned()))
    };
    pairs.into_iter().enumerate().map(one).collect()
}

async fn by_id(State(registry): State<Registry>, fields: Fields) -> Result<Json<OneRun>, Failure> {
    let run = use_cases::get(&registry, &fields.run_id()?).await?;
    Ok(Json(OneRun { run }))
}

async fn search(
    State(registry): State<Registry>,
    caller: Caller,
    fields: Fields,
) -> Result<Json<Runs>, Failure> {
    let search = Search::read(Entity::Runs, &fields, DEFAULT_RESULTS, MAX_RESULTS)?;
    let view = view(&fields, "run_view_type")?;
    let ids = experiment_ids(&fields, &caller)?;
    let (clauses, orders) = search.conditions();
    let asked = RunSearch { experiment_ids: &ids, view, clauses, orders };
    let (runs, after) = use_cases::search(&registry, &asked, search.after()?.as_ref(), search.limit).await?;
    let token = after.map(|after| search.token(&after)).transpose()?;
    Ok(Json(Runs { runs, next_page_token: token }))
}

async fn update(State(registry): State<Registry>, fields: Fields) -> Result<Json<OneInfo>, Failure> {
    let run_id = fields.run_id()?;
    let update = RunUpdate {
        status: fields.one_of("status", 1, &STATUSES)?,
        end_ms: fields.integer("end_time")?,
        name: fields.non_empty("run_name")?,
    };
    let run_info = use_cases::update(&registry, &run_id, &update).await?;
    Ok(Json(OneInfo { run_info }))
}

/// Deleting a run twice is deleting it, as is restoring one.
async fn delete(State(registry): State<Registry>, fields: Fields) -> Answer {
    use_cases::set_deleted(&registry, &fields.run_id()?, true).await?;
    Ok(empty())
}

async fn restore(State(registry): State<Registry>, fields: Fields) -> Answer {
    use_cases::set_deleted(&registry, &fields.run_id()?, false).await?;
    Ok(empty())
}

async fn log_parameter(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (run_id, key) = (fields.run_id()?, fields.required("key")?);
    let value = fields.string("value")?.unwrap_or_default();
    validate_param_key("key", &key)?;
    let params = vec![(key, truncate_param_value(&value).to_owned())];
    registry.log.write(LogBatch { run_id, params, ..LogBatch::default() }).await?;
    Ok(empty())
}

async fn set_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (run_id, key) = (fields.run_id()?, fields.required("key")?);
    let value = fields.string("value")?.unwrap_or_default();
    validate_run_tag_key("key", &key)?;
    let tags = vec![(key, truncate_run_tag_value(&value).to_owned())];
    registry.log.write(LogBatch { run_id, tags, ..LogBatch::default() }).await?;
    Ok(empty())
}

async fn delete_tag(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (run_id, key) = (fields.run_id()?, fields.required("key")?);
    use_cases::delete_tag(&registry, &run_id, &key).await?;
    Ok(empty())
}

/// Adds a model to the run's history of models, a tag that holds a JSON list. Only old clients ask for it.
async fn log_model(State(registry): State<Registry>, fields: Fields) -> Answer {
    let (run_id, text) = (fields.run_id()?, fields.required("model_json")?);
    let model: Value = serde_json::from_str(&text).map_err(|error| {
        tracing::debug!(%error, "a model's description is not JSON");
        Failure::invalid(format!("Malformed model info. \n {text} \n is not a valid JSON."))
    })?;
    let missing: Vec<&str> = MODEL_FIELDS.into_iter().filter(|field| model.get(field).is_none()).collect();
    if !missing.is_empty() {
        return Err(Failure::invalid(format!(
            "Model json is missing mandatory fields: {}",
            missing.join(", ")
        )));
    }
    use_cases::add_to_model_history(&registry, &run_id, &model).await?;
    Ok(empty())
}
