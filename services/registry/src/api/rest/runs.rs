//! REST v1: runs.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use http::StatusCode;
use slipway_api::rest::registry as body;
use slipway_domain::registry::filter::Entity;
use slipway_domain::registry::{
    BatchSize, MAX_BATCH_BODY_BYTES, truncate_param_value, truncate_run_tag_value, validate_batch,
    validate_experiment_id, validate_metric, validate_param_key, validate_run_tag_key,
};
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::experiments::view;
use super::run_bodies::{run_body, run_details};
use super::search::{Asked, Search};
use crate::access::caller::Caller;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::Pair;
use crate::store::metrics::Point;
use crate::store::run_search::{After, RunSearch};
use crate::tracking::create_run::{self, CreateRun};
use crate::tracking::log_batch::LogBatch;
use crate::tracking::runs::{self as use_cases, RunUpdate};

pub(super) fn router() -> DocumentedRouter<Registry> {
    let large =
        DocumentedRouter::new().routes(routes!(log)).layer(DefaultBodyLimit::max(MAX_BATCH_BODY_BYTES));
    DocumentedRouter::new()
        .routes(routes!(list))
        .routes(routes!(search))
        .routes(routes!(create))
        .routes(routes!(one, update, delete))
        .routes(routes!(restore))
        .routes(routes!(delete_tag))
        .merge(large)
}

/// Lists runs, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(body::RunsQuery),
    responses((status = 200, body = body::RunPage)))]
async fn list(
    State(registry): State<Registry>,
    caller: Caller,
    Query(query): Query<body::RunsQuery>,
) -> Answer<body::RunPage> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<(i64, String)>()?);
    let experiment = query
        .experiment
        .map(|id| id.parse().map_err(|_| Problem::invalid("experiment", "expected an experiment's number")))
        .transpose()?;
    let found = use_cases::list(&registry, &caller, experiment, after, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |run| (run.start_ms, run.run_id.clone()));
    Ok(Json(body::RunPage { runs: found.into_iter().map(run_body).collect(), next_page_token }))
}

/// Searches runs by params, metrics, tags and attributes.
#[utoipa::path(post, path = "/api/v1/runs/search", tag = "runs", request_body = body::RunSearch,
    responses((status = 200, body = body::RunDetailsPage)))]
async fn search(
    State(registry): State<Registry>,
    caller: Caller,
    JsonBody(asked): JsonBody<body::RunSearch>,
) -> Answer<body::RunDetailsPage> {
    if asked.experiment_ids.is_empty() {
        return Err(Problem::invalid("experiment_ids", "expected at least one experiment"));
    }
    let id = |(index, id): (usize, &String)| {
        validate_experiment_id(id)
            .map_err(|violation| violation.about(&format!("experiment_ids[{index}]")))
            .map_err(|violation| Problem::from(Error::from(violation)))
    };
    let ids = asked.experiment_ids.iter().enumerate().map(id).collect::<Result<Vec<i64>, Problem>>()?;
    let search = Search::<After>::read(Asked {
        entity: Entity::Runs,
        filter: asked.filter.as_deref(),
        order_by: &asked.order_by,
        scope: &format!("{:?} {ids:?}", asked.view),
        limit: asked.limit,
        page_token: asked.page_token.as_deref(),
    })?;
    let wanted = RunSearch {
        experiment_ids: &use_cases::readable(&caller, ids),
        view: view(asked.view),
        clauses: &search.clauses,
        orders: &search.orders,
    };
    let limit = search.limit as usize;
    let (runs, after) = use_cases::search(&registry, &wanted, search.after.as_ref(), limit).await?;
    Ok(Json(body::RunDetailsPage {
        runs: runs.into_iter().map(run_details).collect(),
        next_page_token: after.map(|after| search.token(after)),
    }))
}

/// Tags as they are stored: keys checked, values cut to length.
fn tags(tags: BTreeMap<String, String>) -> Result<Vec<Pair>, Error> {
    let one = |(key, value): Pair| {
        validate_run_tag_key(&format!("tags.{key}"), &key)?;
        Ok((key, truncate_run_tag_value(&value).to_owned()))
    };
    tags.into_iter().map(one).collect()
}

/// Params as they are stored.
fn params(params: BTreeMap<String, String>) -> Result<Vec<Pair>, Error> {
    let one = |(key, value): Pair| {
        validate_param_key(&format!("params.{key}"), &key)?;
        Ok((key, truncate_param_value(&value).to_owned()))
    };
    params.into_iter().map(one).collect()
}

/// Creates a run in an experiment.
#[utoipa::path(post, path = "/api/v1/experiments/{experiment_id}/runs", tag = "runs",
    params(("experiment_id" = String, Path)), request_body = body::NewRun,
    responses((status = 201, body = body::RunDetails)))]
async fn create(
    State(registry): State<Registry>,
    caller: Caller,
    Path(experiment_id): Path<String>,
    JsonBody(new): JsonBody<body::NewRun>,
) -> Result<(StatusCode, Json<body::RunDetails>), Problem> {
    let mut tags = tags(new.tags)?;
    let name = create_run::name(new.run_name.filter(|name| !name.is_empty()), &mut tags)?;
    let caller_name = || Some(caller.actor.principal.clone()).filter(|_| !caller.is_anonymous());
    let creation = CreateRun {
        run_id: create_run::new_id(),
        experiment_id,
        name,
        user_id: new.user_id.or_else(caller_name).unwrap_or_default(),
        start_ms: new.start_time.unwrap_or_else(now_ms),
        tags,
    };
    let run = registry.new_runs.write(creation).await?;
    Ok((StatusCode::CREATED, Json(run_details(run))))
}

/// Shows a run with its params, latest metrics, tags, inputs and outputs.
#[utoipa::path(get, path = "/api/v1/runs/{run_id}", tag = "runs", params(("run_id" = String, Path)),
    responses((status = 200, body = body::RunDetails)))]
async fn one(State(registry): State<Registry>, Path(run_id): Path<String>) -> Answer<body::RunDetails> {
    Ok(Json(run_details(use_cases::get(&registry, &run_id).await?)))
}

/// Changes state, end or name of a run. A state other than `RUNNING` and `SCHEDULED` ends it.
#[utoipa::path(patch, path = "/api/v1/runs/{run_id}", tag = "runs", params(("run_id" = String, Path)),
    request_body = body::RunUpdate, responses((status = 200, body = body::Run)))]
async fn update(
    State(registry): State<Registry>,
    Path(run_id): Path<String>,
    JsonBody(update): JsonBody<body::RunUpdate>,
) -> Answer<body::Run> {
    let ends = update
        .status
        .is_some_and(|status| !matches!(status, body::RunStatus::Running | body::RunStatus::Scheduled));
    let changes = RunUpdate {
        status: update.status.map(body::RunStatus::name),
        end_ms: update.end_time.or_else(|| ends.then(now_ms)),
        name: update.run_name.filter(|name| !name.is_empty()),
    };
    Ok(Json(run_body(use_cases::update(&registry, &run_id, &changes).await?)))
}

/// Deletes a run. It can be restored until it is purged; a deleted run stays deleted.
#[utoipa::path(delete, path = "/api/v1/runs/{run_id}", tag = "runs", params(("run_id" = String, Path)),
    responses((status = 204, description = "It is deleted")))]
async fn delete(State(registry): State<Registry>, Path(run_id): Path<String>) -> Result<StatusCode, Problem> {
    use_cases::set_deleted(&registry, &run_id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restores a deleted run.
#[utoipa::path(post, path = "/api/v1/runs/{run_id}/restore", tag = "runs", params(("run_id" = String, Path)),
    responses((status = 200, body = body::RunDetails)))]
async fn restore(State(registry): State<Registry>, Path(run_id): Path<String>) -> Answer<body::RunDetails> {
    use_cases::set_deleted(&registry, &run_id, false).await?;
    Ok(Json(run_details(use_cases::get(&registry, &run_id).await?)))
}

/// A point of a metric, at its place in the request.
fn point(index: usize, metric: body::NewMetric) -> Result<Point, Error> {
    let value = metric.value.0;
    let value = if value.is_infinite() { f64::MAX.copysign(value) } else { value };
    let at_ms = metric.timestamp.unwrap_or_else(now_ms);
    validate_metric(&format!("metrics[{index}]."), &metric.key, value, at_ms)?;
    Ok(Point {
        key: metric.key,
        value,
        at_ms,
        step: metric.step,
        model_id: None,
        dataset_name: None,
        dataset_digest: None,
    })
}

/// Logs metrics, params and tags of a run in one transaction.
#[utoipa::path(post, path = "/api/v1/runs/{run_id}/log", tag = "runs", params(("run_id" = String, Path)),
    request_body = body::LogBatch, responses((status = 204, description = "All of it is stored")))]
async fn log(
    State(registry): State<Registry>,
    Path(run_id): Path<String>,
    JsonBody(batch): JsonBody<body::LogBatch>,
) -> Result<StatusCode, Problem> {
    let size = BatchSize { metrics: batch.metrics.len(), params: batch.params.len(), tags: batch.tags.len() };
    validate_batch(size, batch.params.keys().map(String::as_str)).map_err(Error::from)?;
    let points = batch.metrics.into_iter().enumerate().map(|(index, metric)| point(index, metric));
    let entry = LogBatch {
        run_id,
        points: points.collect::<Result<Vec<Point>, Error>>()?,
        params: params(batch.params)?,
        tags: tags(batch.tags)?,
    };
    registry.log.write(entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a tag of a run.
#[utoipa::path(delete, path = "/api/v1/runs/{run_id}/tags/{key}", tag = "runs",
    params(("run_id" = String, Path), ("key" = String, Path)),
    responses((status = 204, description = "It is deleted")))]
async fn delete_tag(
    State(registry): State<Registry>,
    Path((run_id, key)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    use_cases::delete_tag(&registry, &run_id, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
