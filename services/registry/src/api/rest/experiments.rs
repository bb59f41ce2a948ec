//! REST v1: experiments.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use slipway_api::rest::registry as body;
use slipway_api::rest::{TagValue, registry::ExperimentsQuery};
use slipway_domain::registry::filter::Entity;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::search::{Asked, Search, terms};
use crate::access::caller::Caller;
use crate::state::Registry;
use crate::store::experiments::{Experiment, View};
use crate::tracking::experiments::{self as use_cases, NewExperiment};

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(one, rename, delete))
        .routes(routes!(restore))
        .routes(routes!(set_tag, delete_tag))
}

pub(super) const fn view(view: body::View) -> View {
    match view {
        body::View::Active => View::Active,
        body::View::Deleted => View::Deleted,
        body::View::All => View::All,
    }
}

pub(super) const fn stage(deleted_ms: Option<i64>) -> body::LifecycleStage {
    if deleted_ms.is_some() { body::LifecycleStage::Deleted } else { body::LifecycleStage::Active }
}

fn experiment_body(experiment: Experiment) -> body::Experiment {
    body::Experiment {
        experiment_id: experiment.experiment_id.to_string(),
        name: experiment.name,
        artifact_location: experiment.artifact_location,
        lifecycle_stage: stage(experiment.deleted_ms),
        tags: experiment.tags.0.into_iter().collect(),
        created_at_unix_ms: experiment.created_ms,
        updated_at_unix_ms: experiment.updated_ms,
    }
}

async fn shown(registry: &Registry, id: &str) -> Answer<body::Experiment> {
    Ok(Json(experiment_body(use_cases::get(registry, id).await?)))
}

/// Lists experiments that match a filter.
#[utoipa::path(get, path = "/api/v1/experiments", tag = "experiments", params(ExperimentsQuery),
    responses((status = 200, body = body::ExperimentPage)))]
async fn list(
    State(registry): State<Registry>,
    caller: Caller,
    Query(query): Query<ExperimentsQuery>,
) -> Answer<body::ExperimentPage> {
    let search = Search::<i64>::read(Asked {
        entity: Entity::Experiments,
        filter: query.filter.as_deref(),
        order_by: &terms(query.order_by.as_deref()),
        scope: &format!("{:?}", query.view),
        limit: query.limit,
        page_token: query.page_token.as_deref(),
    })?;
    let conditions = (&search.clauses[..], &search.orders[..]);
    let found = use_cases::search(&registry, &caller, view(query.view), conditions, search.page()).await?;
    let (found, next_page_token) = search.cut(found);
    let experiments = found.into_iter().map(experiment_body).collect();
    Ok(Json(body::ExperimentPage { experiments, next_page_token }))
}

/// Creates an experiment.
#[utoipa::path(post, path = "/api/v1/experiments", tag = "experiments", request_body = body::NewExperiment,
    responses((status = 201, body = body::Experiment),
        (status = 409, description = "An experiment of this name exists")))]
async fn create(
    State(registry): State<Registry>,
    JsonBody(new): JsonBody<body::NewExperiment>,
) -> Result<(StatusCode, Json<body::Experiment>), Problem> {
    let body::NewExperiment { name, artifact_location, tags } = new;
    let new = NewExperiment { name, artifact_location, tags: tags.into_iter().collect() };
    let id = use_cases::create(&registry, &new).await?;
    Ok((StatusCode::CREATED, shown(&registry, &id.to_string()).await?))
}

/// Shows an experiment.
#[utoipa::path(get, path = "/api/v1/experiments/{experiment_id}", tag = "experiments",
    params(("experiment_id" = String, Path)), responses((status = 200, body = body::Experiment)))]
async fn one(State(registry): State<Registry>, Path(id): Path<String>) -> Answer<body::Experiment> {
    shown(&registry, &id).await
}

/// Renames an experiment.
#[utoipa::path(patch, path = "/api/v1/experiments/{experiment_id}", tag = "experiments",
    params(("experiment_id" = String, Path)), request_body = body::ExperimentUpdate,
    responses((status = 200, body = body::Experiment),
        (status = 409, description = "An experiment of this name exists")))]
async fn rename(
    State(registry): State<Registry>,
    Path(id): Path<String>,
    JsonBody(update): JsonBody<body::ExperimentUpdate>,
) -> Answer<body::Experiment> {
    use_cases::rename(&registry, &id, &update.name).await?;
    shown(&registry, &id).await
}

/// Deletes an experiment and its runs. Both can be restored until they are purged.
#[utoipa::path(delete, path = "/api/v1/experiments/{experiment_id}", tag = "experiments",
    params(("experiment_id" = String, Path)), responses((status = 204, description = "It is deleted")))]
async fn delete(State(registry): State<Registry>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    use_cases::set_deleted(&registry, &id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restores a deleted experiment and its runs.
#[utoipa::path(post, path = "/api/v1/experiments/{experiment_id}/restore", tag = "experiments",
    params(("experiment_id" = String, Path)), responses((status = 200, body = body::Experiment)))]
async fn restore(State(registry): State<Registry>, Path(id): Path<String>) -> Answer<body::Experiment> {
    use_cases::set_deleted(&registry, &id, false).await?;
    shown(&registry, &id).await
}

/// Sets a tag of an experiment.
#[utoipa::path(put, path = "/api/v1/experiments/{experiment_id}/tags/{key}", tag = "experiments",
    params(("experiment_id" = String, Path), ("key" = String, Path)), request_body = TagValue,
    responses((status = 204, description = "It is set")))]
async fn set_tag(
    State(registry): State<Registry>,
    Path((id, key)): Path<(String, String)>,
    JsonBody(tag): JsonBody<TagValue>,
) -> Result<StatusCode, Problem> {
    use_cases::set_tag(&registry, &id, &key, &tag.value).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a tag of an experiment.
#[utoipa::path(delete, path = "/api/v1/experiments/{experiment_id}/tags/{key}", tag = "experiments",
    params(("experiment_id" = String, Path), ("key" = String, Path)),
    responses((status = 204, description = "It is deleted")))]
async fn delete_tag(
    State(registry): State<Registry>,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    use_cases::delete_tag(&registry, &id, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
