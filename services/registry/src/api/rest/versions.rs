//! REST v1: versions of registered models.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use slipway_api::rest::TagValue;
use slipway_api::rest::registry as body;
use slipway_domain::registry::filter::Entity;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::bodies::{version_body, version_details, version_name};
use super::search::{Asked, Search, terms};
use crate::access::caller::Caller;
use crate::models::removal;
use crate::models::versions::{change, create as creation, read};
use crate::state::Registry;
use crate::store::model_versions::VersionName;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(search))
        .routes(routes!(one, describe, delete))
        .routes(routes!(set_stage))
        .routes(routes!(set_tag, delete_tag))
}

async fn details(registry: &Registry, name: VersionName<'_>) -> Result<body::VersionDetails, Problem> {
    let (found, files, judged) = read::details(registry, name).await?;
    Ok(version_details(&found, files, &judged.verdict))
}

/// Lists versions of a model, newest first.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions", tag = "versions",
    params(("name" = String, Path), PageQuery), responses((status = 200, body = body::VersionPage)))]
async fn list(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Answer<body::VersionPage> {
    let (limit, below) = (query.limit()?, query.after::<i32>()?);
    let found = read::list(&registry, &name, below, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |version| version.version);
    Ok(Json(body::VersionPage { versions: found.iter().map(version_body).collect(), next_page_token }))
}

/// Searches the versions of all models.
#[utoipa::path(get, path = "/api/v1/model-versions", tag = "versions", params(body::VersionsQuery),
    responses((status = 200, body = body::VersionPage)))]
async fn search(
    State(registry): State<Registry>,
    caller: Caller,
    Query(query): Query<body::VersionsQuery>,
) -> Answer<body::VersionPage> {
    let search = Search::<i64>::read(Asked {
        entity: Entity::ModelVersions,
        filter: query.filter.as_deref(),
        order_by: &terms(query.order_by.as_deref()),
        scope: "",
        limit: query.limit,
        page_token: query.page_token.as_deref(),
    })?;
    let conditions = (&search.clauses[..], &search.orders[..]);
    let found = read::search(&registry, &caller, conditions, search.page()).await?;
    let (found, next_page_token) = search.cut(found);
    Ok(Json(body::VersionPage { versions: found.iter().map(version_body).collect(), next_page_token }))
}

/// Creates the next version of a model: its files are inspected, scanned and pinned. A version that serving
/// cannot load is registered, too; `unservable_reason` explains it.
#[utoipa::path(post, path = "/api/v1/models/{name}/versions", tag = "versions",
    params(("name" = String, Path)), request_body = body::NewVersion,
    responses((status = 201, body = body::VersionDetails),
        (status = 409, description = "The files changed while they were read")))]
async fn create(
    State(registry): State<Registry>,
    caller: Caller,
    Path(name): Path<String>,
    JsonBody(new): JsonBody<body::NewVersion>,
) -> Result<(StatusCode, Json<body::VersionDetails>), Problem> {
    let request = creation::Request {
        name,
        source: new.source,
        run_id: new.run_id,
        model_id: new.model_id,
        run_link: None,
        description: new.description,
        tags: new.tags.into_iter().collect(),
        version: None,
    };
    let made = creation::create(&registry, &caller, &request).await?;
    let name = VersionName { model: &made.name, version: made.version };
    Ok((StatusCode::CREATED, Json(details(&registry, name).await?)))
}

/// Shows a version with its files, its signature and what was found in it.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}", tag = "versions",
    params(("name" = String, Path), ("version" = String, Path)),
    responses((status = 200, body = body::VersionDetails)))]
async fn one(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
) -> Answer<body::VersionDetails> {
    Ok(Json(details(&registry, version_name(&name, &version)?).await?))
}

/// Changes the description of a version.
#[utoipa::path(patch, path = "/api/v1/models/{name}/versions/{version}", tag = "versions",
    params(("name" = String, Path), ("version" = String, Path)), request_body = body::Description,
    responses((status = 200, body = body::VersionDetails)))]
async fn describe(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    JsonBody(update): JsonBody<body::Description>,
) -> Answer<body::VersionDetails> {
    let name = version_name(&name, &version)?;
    change::describe(&registry, name, Some(&update.description)).await?;
    Ok(Json(details(&registry, name).await?))
}

/// Moves a version to a stage.
#[utoipa::path(put, path = "/api/v1/models/{name}/versions/{version}/stage", tag = "versions",
    params(("name" = String, Path), ("version" = String, Path)), request_body = body::StageChange,
    responses((status = 200, body = body::VersionDetails)))]
async fn set_stage(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    JsonBody(asked): JsonBody<body::StageChange>,
) -> Answer<body::VersionDetails> {
    let name = version_name(&name, &version)?;
    change::transition(&registry, name, asked.stage.name(), asked.archive_existing).await?;
    Ok(Json(details(&registry, name).await?))
}

/// Deletes a version. Rejected with 409 while a deployment serves it.
#[utoipa::path(delete, path = "/api/v1/models/{name}/versions/{version}", tag = "versions",
    params(("name" = String, Path), ("version" = String, Path), body::Force),
    responses((status = 204, description = "It is deleted"),
    (status = 409, description = "Deployments serve it; the detail names them")))]
async fn delete(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    Query(body::Force { force }): Query<body::Force>,
) -> Result<StatusCode, Problem> {
    let name = version_name(&name, &version)?;
    removal::version(&registry, &caller, name.model, name.version, force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets a tag of a version.
#[utoipa::path(put, path = "/api/v1/models/{name}/versions/{version}/tags/{key}", tag = "versions",
    params(("name" = String, Path), ("version" = String, Path), ("key" = String, Path)),
    request_body = TagValue,
    responses((status = 204, description = "It is set")))]
async fn set_tag(
    State(registry): State<Registry>,
    Path((name, version, key)): Path<(String, String, String)>,
    JsonBody(tag): JsonBody<TagValue>,
) -> Result<StatusCode, Problem> {
    change::set_tag(&registry, version_name(&name, &version)?, (key, tag.value)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a tag of a version, if there is one.
#[utoipa::path(delete, path = "/api/v1/models/{name}/versions/{version}/tags/{key}", tag = "versions",
    params(("name" = String, Path), ("version" = String, Path), ("key" = String, Path)),
    responses((status = 204, description = "It is deleted")))]
async fn delete_tag(
    State(registry): State<Registry>,
    Path((name, version, key)): Path<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    change::delete_tag(&registry, version_name(&name, &version)?, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
