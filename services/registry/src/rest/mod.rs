//! REST v1, for dashboards and the command line: models, versions and runs; and what MLflow's API has no word for.

pub(crate) mod approvals;
mod card;
mod lineage;
mod policies;
mod purge;
pub(crate) mod reports;
mod signatures;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use slipway_domain::registry::validate_version;
use slipway_service_kit::Problem;
use slipway_service_kit::extract::Query;
use slipway_service_kit::page::{PageQuery, cut};

use crate::error::Error;
use crate::state::Registry;
use crate::store::model_versions::{self, ModelVersion};
use crate::store::registered_models::{self, RegisteredModel};
use crate::store::runs::{self, RunInfo};
use crate::versions::signing;

/// The version that a path names, with its model's row for a change.
async fn version_of(db: &mut sqlx::PgConnection, name: &str, version: &str) -> Result<ModelVersion, Error> {
    let number = validate_version(version)?;
    model_versions::version_get(db, name, i32::try_from(number).unwrap_or(i32::MAX)).await
}

type Answer = Result<Json<Value>, Problem>;

pub(crate) fn router() -> Router<Registry> {
    Router::new()
        .route("/api/v1/models", get(models))
        .route("/api/v1/models/{name}", get(model))
        .route("/api/v1/models/{name}/versions", get(versions))
        .route("/api/v1/models/{name}/versions/{version}", get(version))
        .route("/api/v1/runs", get(list_runs))
        .merge(approvals::router())
        .merge(card::router())
        .merge(lineage::router())
        .merge(policies::router())
        .merge(purge::router())
        .merge(reports::router())
        .merge(signatures::router())
}

fn page(name: &str, items: Vec<Value>, token: Option<String>) -> Json<Value> {
    let mut body = Map::from_iter([(name.to_owned(), Value::from(items))]);
    if let Some(token) = token {
        body.insert("next_page_token".to_owned(), token.into());
    }
    Json(Value::Object(body))
}

fn model_body(model: &RegisteredModel, latest: Option<i32>) -> Value {
    let aliases: Map<String, Value> =
        model.aliases.0.iter().map(|(alias, version)| (alias.clone(), version.clone().into())).collect();
    json!({
        "name": model.name,
        "description": model.description,
        "latest_version": latest.map(|version| version.to_string()),
        "aliases": aliases,
        "tags": tags(&model.tags.0),
        "created_at_unix_ms": model.created_ms,
        "updated_at_unix_ms": model.updated_ms,
    })
}

fn tags(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect()
}

fn version_body(version: &ModelVersion) -> Value {
    let facts = &version.facts.0;
    json!({
        "model": version.name,
        "version": version.version.to_string(),
        "status": version.status,
        "stage": version.stage,
        "digest": version.digest,
        "servable": version.servable,
        "unservable_reason": facts.unservable_reason,
        "aliases": version.aliases,
        "run_id": version.run_id,
        "source": version.source,
        "description": version.description,
        "tags": tags(&version.tags.0),
        "inputs": facts.inputs,
        "outputs": facts.outputs,
        "created_at_unix_ms": version.created_ms,
        "updated_at_unix_ms": version.updated_ms,
    })
}

fn run_body(run: &RunInfo) -> Value {
    json!({
        "run_id": run.run_id,
        "run_name": run.name,
        "experiment_id": run.experiment_id.to_string(),
        "status": run.status,
        "user_id": run.user_id,
        "start_time": run.start_ms,
        "end_time": run.end_ms,
    })
}

async fn latest(db: &mut sqlx::PgConnection, model_keys: &[i64]) -> Result<Vec<(i64, i32)>, Error> {
    let newest = model_versions::versions_latest(db, model_keys).await?;
    Ok(newest.iter().map(|version| (version.model_key, version.version)).collect())
}

fn latest_of(latest: &[(i64, i32)], model_key: i64) -> Option<i32> {
    latest.iter().filter(|(key, _)| *key == model_key).map(|(_, version)| *version).max()
}

async fn models(State(registry): State<Registry>, Query(query): Query<PageQuery>) -> Answer {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let mut db = registry.pool.acquire().await?;
    let found = registered_models::model_list(&mut db, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |model| model.name.clone());
    let keys: Vec<i64> = found.iter().map(|model| model.model_key).collect();
    let latest = latest(&mut db, &keys).await?;
    let items = found.iter().map(|model| model_body(model, latest_of(&latest, model.model_key))).collect();
    Ok(page("models", items, token))
}

async fn model(State(registry): State<Registry>, Path(name): Path<String>) -> Answer {
    let mut db = registry.pool.acquire().await?;
    let model = registered_models::model_get(&mut db, &name).await?;
    let latest = latest(&mut db, &[model.model_key]).await?;
    Ok(Json(model_body(&model, latest_of(&latest, model.model_key))))
}

async fn versions(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Answer {
    let (limit, below) = (query.limit()?, query.after::<i32>()?);
    let mut db = registry.pool.acquire().await?;
    let model = registered_models::model_get(&mut db, &name).await?;
    let found = model_versions::version_list(&mut db, model.model_key, below, i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |version| version.version);
    Ok(page("versions", found.iter().map(version_body).collect(), token))
}

async fn version(State(registry): State<Registry>, Path((name, version)): Path<(String, String)>) -> Answer {
    let number = validate_version(&version).map_err(Error::from)?;
    let mut db = registry.pool.acquire().await?;
    let found =
        model_versions::version_get(&mut db, &name, i32::try_from(number).unwrap_or(i32::MAX)).await?;
    let files = model_versions::version_files(&mut db, found.model_key, found.version).await?;
    let files: Vec<Value> = files
        .iter()
        .map(|file| json!({"path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256}))
        .collect();
    let mut body = version_body(&found);
    body["files"] = files.into();
    body["scan"] = json!(found.facts.0.scan);
    body["signing"] = json!(signing::judge(&mut db, found.model_key, found.version).await?.verdict);
    body["signature"] = found
        .facts
        .0
        .signature
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    Ok(Json(body))
}

#[derive(Debug, Deserialize)]
struct RunsQuery {
    experiment: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    limit: Option<u32>,
    page_token: Option<String>,
}

async fn list_runs(State(registry): State<Registry>, Query(query): Query<RunsQuery>) -> Answer {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<(i64, String)>()?);
    let experiment = query
        .experiment
        .map(|id| id.parse().map_err(|_| Problem::invalid("experiment", "expected an experiment's number")))
        .transpose()?;
    let mut db = registry.pool.acquire().await?;
    let found = runs::run_list(&mut db, experiment, after, i64::from(limit) + 1).await?;
    let (found, token) = cut(found, limit, |run| (run.start_ms, run.run_id.clone()));
    Ok(page("runs", found.iter().map(run_body).collect(), token))
}
