//! REST v1, for dashboards and the command line: models, versions and runs; and what MLflow's API has no word for.
//!
//! Each handler carries `#[utoipa::path]` and is mounted with `routes!`: so the OpenAPI document is made of the same words as the router.

pub(crate) mod access;
pub(crate) mod approvals;
mod audit;
mod bodies;
mod card;
mod docs;
mod error;
mod gc;
mod lineage;
mod openapi;
mod policies;
mod purge;
pub(crate) mod reports;
mod retention;
mod signatures;
mod webhooks;

use axum::extract::State;
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use slipway_domain::registry::validate_version;
use slipway_http_server::Problem;
use slipway_http_server::extract::{Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::bodies::{Model, Models, Run, Runs, Version, VersionDetails, Versions};
use crate::access::caller::Caller;
use crate::error::Error;
use crate::models::registered_models as use_cases;
use crate::models::removal;
use crate::models::versions::read;
use crate::state::Registry;
use crate::store::model_versions::VersionName;
use crate::tracking;

/// The version that a path names.
fn version_name<'name>(model: &'name str, version: &str) -> Result<VersionName<'name>, Error> {
    Ok(VersionName { model, version: validate_version(version)? })
}

type Answer = Result<Json<Value>, Problem>;

pub(crate) fn router() -> Router<Registry> {
    described().split_for_parts().0
}

/// The routes together with their description.
fn described() -> OpenApiRouter<Registry> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(models))
        .routes(routes!(model, delete_model))
        .routes(routes!(versions))
        .routes(routes!(version, delete_version))
        .routes(routes!(list_runs))
        .merge(access::router())
        .merge(approvals::router())
        .merge(audit::router())
        .merge(card::router())
        .merge(lineage::router())
        .merge(policies::router())
        .merge(purge::router())
        .merge(reports::router())
        .merge(signatures::router())
        .merge(gc::router())
        .merge(retention::router())
        .merge(webhooks::router())
        .merge(openapi::router())
}

/// A page whose items are made of JSON.
fn page(name: &str, items: Vec<Value>, token: Option<String>) -> Json<Value> {
    let mut body = Map::from_iter([(name.to_owned(), Value::from(items))]);
    if let Some(token) = token {
        body.insert("next_page_token".to_owned(), token.into());
    }
    Json(Value::Object(body))
}

/// Lists registered models by name.
#[utoipa::path(get, path = "/api/v1/models", tag = "models", params(PageQuery), responses((status = 200, body = Models)))]
async fn models(
    State(registry): State<Registry>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Models>, Problem> {
    let (limit, after) = (query.limit()?, query.after::<String>()?);
    let found = use_cases::list(&registry, &caller, after.as_deref(), i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |found| found.model.name.clone());
    Ok(Json(Models { models: found.into_iter().map(Model::from).collect(), next_page_token }))
}

/// Shows a registered model.
#[utoipa::path(get, path = "/api/v1/models/{name}", tag = "models", params(("name" = String, Path)),
    responses((status = 200, body = Model)))]
async fn model(State(registry): State<Registry>, Path(name): Path<String>) -> Result<Json<Model>, Problem> {
    Ok(Json(use_cases::get(&registry, &name).await?.into()))
}

/// Lists versions of a model, the newest first.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions", tag = "models", params(("name" = String, Path), PageQuery),
    responses((status = 200, body = Versions)))]
async fn versions(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Versions>, Problem> {
    let (limit, below) = (query.limit()?, query.after::<i32>()?);
    let found = read::list(&registry, &name, below, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |version| version.version);
    Ok(Json(Versions { versions: found.iter().map(Version::new).collect(), next_page_token }))
}

/// Shows a version with its files, its signature and what was found in it.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}", tag = "models",
    params(("name" = String, Path), ("version" = String, Path)), responses((status = 200, body = VersionDetails)))]
async fn version(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<VersionDetails>, Problem> {
    let (found, files, judged) = read::details(&registry, version_name(&name, &version)?).await?;
    Ok(Json(VersionDetails::new(&found, files, serde_json::json!(judged.verdict))))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Force {
    /// Deletes it although deployments serve it; needs the role admin on the model [default: false].
    #[serde(default)]
    force: bool,
}

/// Deletes a registered model with its versions. Refused with 409 while a deployment serves one of them.
#[utoipa::path(delete, path = "/api/v1/models/{name}", tag = "models", params(("name" = String, Path), Force),
    responses((status = 204, description = "It is deleted"), (status = 409, description = "Deployments serve it; the detail names them")))]
async fn delete_model(
    State(registry): State<Registry>,
    caller: Caller,
    Path(name): Path<String>,
    Query(Force { force }): Query<Force>,
) -> Result<StatusCode, Problem> {
    removal::model(&registry, &caller, &name, force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a version. Refused with 409 while a deployment serves it.
#[utoipa::path(delete, path = "/api/v1/models/{name}/versions/{version}", tag = "models",
    params(("name" = String, Path), ("version" = String, Path), Force),
    responses((status = 204, description = "It is deleted"), (status = 409, description = "Deployments serve it; the detail names them")))]
async fn delete_version(
    State(registry): State<Registry>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    Query(Force { force }): Query<Force>,
) -> Result<StatusCode, Problem> {
    let number = validate_version(&version).map_err(Error::from)?;
    removal::version(&registry, &caller, &name, number, force).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RunsQuery {
    /// Only runs of this experiment.
    experiment: Option<String>,
    // No `flatten`: with it a query string's numbers arrive as text.
    /// Items wanted, 1 to 1000; 50 without it.
    limit: Option<u32>,
    /// `next_page_token` of the page before.
    page_token: Option<String>,
}

/// Lists runs, the newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", params(RunsQuery), responses((status = 200, body = Runs)))]
async fn list_runs(
    State(registry): State<Registry>,
    caller: Caller,
    Query(query): Query<RunsQuery>,
) -> Result<Json<Runs>, Problem> {
    let paging = PageQuery { limit: query.limit, page_token: query.page_token };
    let (limit, after) = (paging.limit()?, paging.after::<(i64, String)>()?);
    let experiment = query
        .experiment
        .map(|id| id.parse().map_err(|_| Problem::invalid("experiment", "expected an experiment's number")))
        .transpose()?;
    let found = tracking::runs::list(&registry, &caller, experiment, after, i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |run| (run.start_ms, run.run_id.clone()));
    Ok(Json(Runs { runs: found.into_iter().map(Run::from).collect(), next_page_token }))
}
