//! REST v1: registered models.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use slipway_api::rest::TagValue;
use slipway_api::rest::registry as body;
use slipway_domain::access::{Role, Scope};
use slipway_domain::registry::filter::Entity;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};

use super::Answer;
use super::bodies::model_body;
use super::search::{Asked, Search, terms};
use crate::access::caller::Caller;
use crate::models::registered_models::{self as use_cases, NewModel};
use crate::models::removal;
use crate::state::Registry;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(one, describe, delete))
        .routes(routes!(rename))
        .routes(routes!(set_tag, delete_tag))
}

/// Lists registered models by name, or those that match a filter in the given order.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", params(body::ModelsQuery),
    responses((status = 200, body = body::ModelPage)))]
async fn list(
    State(registry): State<Registry>,
    caller: Caller,
    Query(query): Query<body::ModelsQuery>,
) -> Answer<body::ModelPage> {
    let (found, next_page_token) = if query.filter.is_some() || query.order_by.is_some() {
        search(&registry, &caller, &query).await?
    } else {
        let paging = PageQuery { limit: query.limit, page_token: query.page_token };
        let (limit, after) = (paging.limit()?, paging.after::<String>()?);
        let found = use_cases::list(&registry, &caller, after.as_deref(), i64::from(limit) + 1).await?;
        cut(found, limit, |found| found.model.name.clone())
    };
    Ok(Json(body::ModelPage { models: found.iter().map(model_body).collect(), next_page_token }))
}

async fn search(
    registry: &Registry,
    caller: &Caller,
    query: &body::ModelsQuery,
) -> Result<(Vec<use_cases::Detailed>, Option<String>), Problem> {
    let search = Search::<i64>::read(Asked {
        entity: Entity::RegisteredModels,
        filter: query.filter.as_deref(),
        order_by: &terms(query.order_by.as_deref()),
        scope: "",
        limit: query.limit,
        page_token: query.page_token.as_deref(),
    })?;
    let conditions = (&search.clauses[..], &search.orders[..]);
    let found = use_cases::search(registry, caller, conditions, search.page()).await?;
    Ok(search.cut(found))
}

/// Registers a model.
#[utoipa::path(post, path = "/api/v1/models", tag = "models", request_body = body::NewModel,
    responses((status = 201, body = body::Model),
        (status = 409, description = "A model of this name exists")))]
async fn create(
    State(registry): State<Registry>,
    JsonBody(new): JsonBody<body::NewModel>,
) -> Result<(StatusCode, Json<body::Model>), Problem> {
    let body::NewModel { name, description, tags } = new;
    let new = NewModel { name, description, tags: tags.into_iter().collect() };
    let created = use_cases::create(&registry, &new).await?;
    Ok((StatusCode::CREATED, Json(model_body(&created))))
}

/// Shows a registered model.
#[utoipa::path(get, path = "/api/v1/models/{name}", tag = "models", params(("name" = String, Path)),
    responses((status = 200, body = body::Model)))]
async fn one(State(registry): State<Registry>, Path(name): Path<String>) -> Answer<body::Model> {
    Ok(Json(model_body(&use_cases::get(&registry, &name).await?)))
}

/// Changes the description of a model.
#[utoipa::path(patch, path = "/api/v1/models/{name}", tag = "models", params(("name" = String, Path)),
    request_body = body::Description, responses((status = 200, body = body::Model)))]
async fn describe(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    JsonBody(update): JsonBody<body::Description>,
) -> Answer<body::Model> {
    Ok(Json(model_body(&use_cases::describe(&registry, &name, Some(&update.description)).await?)))
}

/// Renames a model; deployments, watched aliases, monitors and grants follow. Requires the role deployer on
/// both names.
#[utoipa::path(post, path = "/api/v1/models/{name}/rename", tag = "models", params(("name" = String, Path)),
    request_body = body::Rename, responses((status = 200, body = body::Model),
        (status = 409, description = "A model of this name exists")))]
async fn rename(
    State(registry): State<Registry>,
    caller: Caller,
    Path(name): Path<String>,
    JsonBody(rename): JsonBody<body::Rename>,
) -> Answer<body::Model> {
    caller.require(Role::Deployer, &Scope::Model(rename.new_name.clone()))?;
    Ok(Json(model_body(&use_cases::rename(&registry, &name, &rename.new_name).await?)))
}

/// Deletes a registered model with its versions. Rejected with 409 while a deployment serves one of them.
#[utoipa::path(delete, path = "/api/v1/models/{name}", tag = "models",
    params(("name" = String, Path), body::Force), responses((status = 204, description = "It is deleted"),
    (status = 409, description = "Deployments serve it; the detail names them")))]
async fn delete(
    State(registry): State<Registry>,
    caller: Caller,
    Path(name): Path<String>,
    Query(body::Force { force }): Query<body::Force>,
) -> Result<StatusCode, Problem> {
    removal::model(&registry, &caller, &name, force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Sets a tag of a model.
#[utoipa::path(put, path = "/api/v1/models/{name}/tags/{key}", tag = "models",
    params(("name" = String, Path), ("key" = String, Path)), request_body = TagValue,
    responses((status = 204, description = "It is set")))]
async fn set_tag(
    State(registry): State<Registry>,
    Path((name, key)): Path<(String, String)>,
    JsonBody(tag): JsonBody<TagValue>,
) -> Result<StatusCode, Problem> {
    use_cases::set_tag(&registry, &name, (key, tag.value)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a tag of a model, if there is one.
#[utoipa::path(delete, path = "/api/v1/models/{name}/tags/{key}", tag = "models",
    params(("name" = String, Path), ("key" = String, Path)),
    responses((status = 204, description = "It is deleted")))]
async fn delete_tag(
    State(registry): State<Registry>,
    Path((name, key)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    use_cases::delete_tag(&registry, &name, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
