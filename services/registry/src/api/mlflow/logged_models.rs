//! `/mlflow/logged-models`.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{delete as on_delete, get, patch, post};
use serde_json::{Value, json};
use slipway_domain::registry::filter::Entity;

use super::error::Failure;
use super::message::{Message, double};
use super::registrations::{merged_tags, refuse_search, visible_tags};
use super::search::{Search, experiment_ids};
use super::{Answer, Fields, answer, empty};
use crate::access::caller::Caller;
use crate::state::Registry;
use crate::store::Pair;
use crate::store::logged_models::{LoggedModel, ModelMetric, ModelSearch};
use crate::store::search::DatasetKey;
use crate::tracking::create_run::random_name;
use crate::tracking::logged_models::{self as use_cases, NewLoggedModel};

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

fn whole(model: &LoggedModel, caller: &Caller) -> Message {
    Message::new().put("model", body(model, caller))
}

async fn create(State(registry): State<Registry>, caller: Caller, mut fields: Fields) -> Answer {
    let new = NewLoggedModel {
        experiment_id: fields.required("experiment_id")?,
        name: fields.non_empty("name")?.unwrap_or_else(random_name),
        params: fields.pairs("params")?,
        tags: fields.pairs("tags")?,
        model_type: fields.string("model_type")?.unwrap_or_default(),
        source_run_id: fields.non_empty("source_run_id")?,
        // Not in MLflow: an import keeps the ids that notebooks and links know.
        model_id: fields.non_empty("model_id")?,
    };
    let model = use_cases::create(&registry, &caller, new).await?;
    Ok(answer(whole(&model, &caller)))
}

async fn by_id(
    State(registry): State<Registry>,
    caller: Caller,
    Path(model_id): Path<String>,
    fields: Fields,
) -> Answer {
    let deleted = fields.boolean("allow_deleted")?.unwrap_or(false);
    let model = use_cases::get(&registry, &model_id, deleted).await?;
    Ok(answer(whole(&model, &caller)))
}

async fn finalize(
    State(registry): State<Registry>,
    caller: Caller,
    Path(model_id): Path<String>,
    fields: Fields,
) -> Answer {
    let status = fields.one_of("status", 1, &STATUSES)?.ok_or_else(|| fields.missing("status"))?;
    let model = use_cases::finalize(&registry, &model_id, status).await?;
    Ok(answer(whole(&model, &caller)))
}

async fn delete(State(registry): State<Registry>, Path(model_id): Path<String>) -> Answer {
    use_cases::delete(&registry, &model_id).await?;
    Ok(empty())
}

async fn set_tags(
    State(registry): State<Registry>,
    caller: Caller,
    Path(model_id): Path<String>,
    mut fields: Fields,
) -> Answer {
    let tags = fields.pairs("tags")?;
    let merge = |before: &[Pair]| merged_tags(&caller, before, tags);
    let model = use_cases::set_tags(&registry, &model_id, merge).await?;
    Ok(answer(whole(&model, &caller)))
}

async fn delete_tag(
    State(registry): State<Registry>,
    Path((model_id, key)): Path<(String, String)>,
) -> Answer {
    use_cases::delete_tag(&registry, &model_id, &key).await?;
    Ok(empty())
}

async fn add_params(
    State(registry): State<Registry>,
    Path(model_id): Path<String>,
    mut fields: Fields,
) -> Answer {
    let params = fields.pairs("params")?;
    use_cases::add_params(&registry, &model_id, &params).await?;
    Ok(empty())
}

/// One key of the order, and the dataset that its metric is about.
fn order(fields: &Fields) -> Result<(String, Option<DatasetKey>), Failure> {
    let field = fields.non_empty("field_name")?;
    let field = field.ok_or_else(|| Failure::invalid("Invalid order by field name: "))?;
    let direction = if fields.boolean("ascending")?.unwrap_or(true) { "ASC" } else { "DESC" };
    Ok((format!("{field} {direction}"), dataset(fields)?))
}

/// `dataset_name` and `dataset_digest`, where one of them is given.
fn dataset(fields: &Fields) -> Result<Option<DatasetKey>, Failure> {
    let (name, digest) = (fields.non_empty("dataset_name")?, fields.non_empty("dataset_digest")?);
    Ok((name.is_some() || digest.is_some()).then_some(DatasetKey { name, digest }))
}

async fn search(State(registry): State<Registry>, caller: Caller, mut fields: Fields) -> Answer {
    fields.is_given("experiment_ids")?;
    let orders = fields.messages("order_by")?.iter().map(order).collect::<Result<Vec<_>, Failure>>()?;
    let (order_by, order_datasets): (Vec<String>, Vec<_>) = orders.into_iter().unzip();
    let named = |fields: &Fields| {
        let missing = || Failure::invalid("`dataset_name` in the `datasets` clause must be specified.");
        dataset(fields)?.filter(|dataset| dataset.name.is_some()).ok_or_else(missing)
    };
    let datasets = fields.messages("datasets")?.iter().map(named).collect::<Result<Vec<_>, Failure>>()?;
    let (on, by) = (format!("{datasets:?}"), format!("{order_datasets:?}"));
    let limits = (DEFAULT_RESULTS, MAX_RESULTS);
    let search = Search::ordered(Entity::LoggedModels, &fields, &order_by, [&on, &by], limits)?;
    let ids = experiment_ids(&fields, &caller)?;
    let (clauses, orders) = search.conditions();
    refuse_search(&caller, clauses, orders)?;
    let asked = ModelSearch {
        experiment_ids: &ids,
        datasets: &datasets,
        clauses,
        orders,
        order_datasets: &order_datasets,
    };
    let found = use_cases::search(&registry, &asked, search.page()?).await?;
    let (found, token) = search.cut(found);
    let found = found.iter().map(|model| body(model, &caller).into_value()).collect();
    Ok(answer(Message::new().list("models", found).maybe("next_page_token", token)))
}
