//! `/mlflow/logged-models`.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{delete as on_delete, get, patch, post};
use serde_json::{Value, json};
use slipway_domain::registry::filter::Entity;
use slipway_domain::registry::validate_logged_model_name;

use super::message::{Message, double};
use super::registrations::{merged_tags, refuse_search, visible_tags};
use super::runs::random_name;
use super::search::{Search, experiment_ids};
use super::{Answer, Fields, answer, empty, now_ms};
use crate::access::caller::Caller;
use crate::access::references;
use crate::error::Error;
use crate::state::Registry;
use crate::store::experiments::experiment_active;
use crate::store::logged_models::{self as table, LoggedModel, ModelMetric, ModelSearch, NewLoggedModel};
use crate::store::search::DatasetKey;

const DEFAULT_RESULTS: usize = 100;
const MAX_RESULTS: usize = 1_000;
const STATUSES: [&str; 3] = ["LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"];

pub(super) fn router(prefix: &str) -> Router<Registry> {
    let path = |rest: &str| format!("{prefix}/2.0/mlflow/logged-models{rest}");
    Router::new()
        .route(&path(""), post(create))
        .route(&path("/search"), post(search))
        .route(&path("/{model_id}"), get(by_id).patch(finalize).delete(delete))
        .route(&path("/{model_id}/tags"), patch(set_tags))
        .route(&path("/{model_id}/tags/{key}"), on_delete(delete_tag))
        .route(&path("/{model_id}/params"), post(add_params))
}

fn body(model: &LoggedModel, caller: &Caller) -> Message {
    let registrations = model
        .registrations
        .0
        .iter()
        .filter(|(name, _)| caller.sees_model(name))
        .map(|(name, version)| json!({"name": name, "version": version}))
        .collect();
    let info = Message::new()
        .put("model_id", model.model_id.clone())
        .put("experiment_id", model.experiment_id.to_string())
        .put("name", model.name.clone())
        .put("creation_timestamp_ms", model.created_ms)
        .put("last_updated_timestamp_ms", model.updated_ms)
        .put("artifact_uri", model.artifact_uri.clone())
        .put("status", model.status.clone())
        .put("model_type", model.model_type.clone())
        .put("source_run_id", model.source_run_id.clone().unwrap_or_default())
        .pairs("tags", &visible_tags(caller, &model.tags.0))
        .list("registrations", registrations);
    let metrics = model.metrics.0.iter().map(|metric| metric_body(metric, &model.model_id)).collect();
    let data = Message::new().pairs("params", &model.params.0).list("metrics", metrics);
    Message::new().put("info", info).put("data", data)
}

fn metric_body(metric: &ModelMetric, model_id: &str) -> Value {
    Message::new()
        .put("key", metric.key.clone())
        .put("value", double(metric.value.parse().unwrap_or(f64::NAN)))
        .put("timestamp", metric.at_ms)
        .put("step", metric.step)
        .put("model_id", model_id)
        .put("run_id", metric.run_id.clone())
        .maybe("dataset_name", metric.dataset_name.clone())
        .maybe("dataset_digest", metric.dataset_digest.clone())
        .into_value()
}

async fn create(State(registry): State<Registry>, caller: Caller, mut fields: Fields) -> Answer {
    let experiment = fields.required("experiment_id")?;
    let name = fields.non_empty("name")?.unwrap_or_else(random_name);
    validate_logged_model_name(&name)?;
    let (params, tags) = (fields.pairs("params")?, fields.pairs("tags")?);
    let model_type = fields.string("model_type")?.unwrap_or_default();
    let source_run_id = fields.non_empty("source_run_id")?;
    // Not in MLflow: an import keeps the ids that notebooks and links know.
    let model_id = match fields.non_empty("model_id")? {
        Some(asked) if is_model_id(&asked) => asked,
        Some(asked) => {
            return Err(Error::invalid(format!(
                "Invalid value \"{asked}\" for parameter 'model_id' supplied: expected 'm-' and 32 hexadecimal digits"
            )));
        }
        None => format!("m-{}", uuid::Uuid::new_v4().simple()),
    };
    let mut change = registry.change().await?;
    let (experiment_id, location) = experiment_active(change.db(), &experiment).await?;
    let source_run = match &source_run_id {
        Some(run_id) => Some(references::run(change.db(), &caller, run_id).await?),
        None => None,
    };
    let artifact_uri = format!("{}/models/{model_id}/artifacts", location.trim_end_matches('/'));
    let new = NewLoggedModel {
        model_id: &model_id,
        experiment_id,
        name: &name,
        artifact_uri: &artifact_uri,
        model_type: &model_type,
        source_run: source_run.as_ref(),
    };
    table::logged_model_create(change.db(), &new, &params, &tags, now_ms()).await?;
    let details = json!({"name": name, "source_run_id": source_run_id});
    change.tell("logged-model", "created", model_id.as_str(), details).await?;
    let model = table::logged_model_get(change.db(), &model_id).await?;
    change.commit().await?;
    Ok(answer(Message::new().put("model", body(&model, &caller))))
}

fn is_model_id(text: &str) -> bool {
    text.strip_prefix("m-")
        .is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

async fn by_id(
    State(registry): State<Registry>,
    caller: Caller,
    Path(model_id): Path<String>,
    fields: Fields,
) -> Answer {
    let deleted = fields.boolean("allow_deleted")?.unwrap_or(false);
    let mut db = registry.pool.acquire().await?;
    let model = table::logged_model_find(&mut db, &model_id, deleted).await?;
    Ok(answer(Message::new().put("model", body(&model, &caller))))
}

async fn finalize(
    State(registry): State<Registry>,
    caller: Caller,
    Path(model_id): Path<String>,
    fields: Fields,
) -> Answer {
    let status = fields.one_of("status", 1, &STATUSES)?.ok_or_else(|| fields.missing("status"))?;
    let mut change = registry.change().await?;
    table::logged_model_touch(change.db(), &model_id, Some(status), now_ms()).await?;
    change.tell("logged-model", "finalized", model_id.as_str(), json!({ "status": status })).await?;
    let model = table::logged_model_get(change.db(), &model_id).await?;
    change.commit().await?;
    Ok(answer(Message::new().put("model", body(&model, &caller))))
}

async fn delete(State(registry): State<Registry>, Path(model_id): Path<String>) -> Answer {
    let mut change = registry.change().await?;
    if table::logged_model_delete(change.db(), &model_id, now_ms()).await? {
        change.tell("logged-model", "deleted", model_id, json!({})).await?;
        change.commit().await?;
    }
    Ok(empty())
}

async fn set_tags(
    State(registry): State<Registry>,
    caller: Caller,
    Path(model_id): Path<String>,
    mut fields: Fields,
) -> Answer {
    let tags = fields.pairs("tags")?;
    let mut change = registry.change().await?;
    table::logged_model_touch(change.db(), &model_id, None, now_ms()).await?;
    let before = table::logged_model_get(change.db(), &model_id).await?;
    let tags = merged_tags(&caller, &before.tags.0, tags);
    table::logged_model_tags_set(change.db(), &model_id, &tags).await?;
    let keys: Vec<&str> = tags.iter().map(|(key, _)| key.as_str()).collect();
    change.tell("logged-model", "updated", model_id.as_str(), json!({ "tags": keys })).await?;
    let model = table::logged_model_get(change.db(), &model_id).await?;
    change.commit().await?;
    Ok(answer(Message::new().put("model", body(&model, &caller))))
}

async fn delete_tag(
    State(registry): State<Registry>,
    Path((model_id, key)): Path<(String, String)>,
) -> Answer {
    let mut change = registry.change().await?;
    table::logged_model_touch(change.db(), &model_id, None, now_ms()).await?;
    if !table::logged_model_tag_delete(change.db(), &model_id, &key).await? {
        return Err(Error::not_found(format!(
            "No tag with key '{key}' found for model with ID '{model_id}'."
        )));
    }
    change.tell("logged-model", "updated", model_id, json!({ "tags": [key] })).await?;
    change.commit().await?;
    Ok(empty())
}

async fn add_params(
    State(registry): State<Registry>,
    Path(model_id): Path<String>,
    mut fields: Fields,
) -> Answer {
    let params = fields.pairs("params")?;
    let mut change = registry.change().await?;
    table::logged_model_touch(change.db(), &model_id, None, now_ms()).await?;
    table::logged_model_params_add(change.db(), &model_id, &params).await?;
    let keys: Vec<&str> = params.iter().map(|(key, _)| key.as_str()).collect();
    change.tell("logged-model", "updated", model_id, json!({ "params": keys })).await?;
    change.commit().await?;
    Ok(empty())
}

/// One key of the order, and the dataset that its metric is about.
fn order(fields: &Fields) -> Result<(String, Option<DatasetKey>), Error> {
    let field = fields.non_empty("field_name")?;
    let field = field.ok_or_else(|| Error::invalid("Invalid order by field name: "))?;
    let direction = if fields.boolean("ascending")?.unwrap_or(true) { "ASC" } else { "DESC" };
    Ok((format!("{field} {direction}"), dataset(fields)?))
}

/// `dataset_name` with `dataset_digest`, where there is a name.
fn dataset(fields: &Fields) -> Result<Option<DatasetKey>, Error> {
    let digest = fields.non_empty("dataset_digest")?;
    Ok(fields.non_empty("dataset_name")?.map(|name| DatasetKey { name, digest }))
}

async fn search(State(registry): State<Registry>, caller: Caller, mut fields: Fields) -> Answer {
    fields.is_given("experiment_ids")?;
    let orders = fields.messages("order_by")?.iter().map(order).collect::<Result<Vec<_>, Error>>()?;
    let (order_by, order_datasets): (Vec<String>, Vec<_>) = orders.into_iter().unzip();
    let named = |fields: &Fields| {
        let missing = || Error::invalid("`dataset_name` in the `datasets` clause must be specified.");
        dataset(fields)?.ok_or_else(missing)
    };
    let datasets = fields.messages("datasets")?.iter().map(named).collect::<Result<Vec<_>, Error>>()?;
    let search = Search::ordered(Entity::LoggedModels, &fields, &order_by, (DEFAULT_RESULTS, MAX_RESULTS))?;
    let ids = experiment_ids(&fields, &caller)?;
    let mut db = registry.pool.acquire().await?;
    let (clauses, orders) = search.conditions();
    refuse_search(&caller, clauses, orders)?;
    let asked = ModelSearch {
        experiment_ids: &ids,
        datasets: &datasets,
        clauses,
        orders,
        order_datasets: &order_datasets,
    };
    let found = table::logged_model_search(&mut db, &asked, search.page()?).await?;
    let (found, token) = search.cut(found);
    let found = found.iter().map(|model| body(model, &caller).into_value()).collect();
    Ok(answer(Message::new().list("models", found).maybe("next_page_token", token)))
}
