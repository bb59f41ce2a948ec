//! REST v1: model cards.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::header;
use serde::Deserialize;
use slipway_domain::registry::validate_version;
use slipway_service_kit::Problem;
use slipway_service_kit::extract::Query;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::card::{self, Facts};
use crate::error::{Code, Error};
use crate::state::Registry;
use crate::store::{model_versions, policies, runs};

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(show))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct CardQuery {
    /// `json` or `markdown`.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Markdown,
}

/// Writes the model card of a version.
#[utoipa::path(get, path = "/api/v1/models/{name}/versions/{version}/card", tag = "models",
    params(("name" = String, Path), ("version" = String, Path), CardQuery),
    responses((status = 200, content((Object = "application/json"), (String = "text/markdown")))))]
async fn show(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<CardQuery>,
) -> Result<Response, Problem> {
    let number = validate_version(&version).map_err(Error::from)?;
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    let version =
        model_versions::version_get(&mut db, &name, i32::try_from(number).unwrap_or(i32::MAX)).await?;
    let run = match &version.run_id {
        None => None,
        Some(run_id) => match runs::run_get(&mut db, run_id).await {
            Ok(run) => Some(run),
            // A run of another server, or one that was purged.
            Err(error) if error.code == Code::ResourceDoesNotExist => None,
            Err(error) => return Err(error.into()),
        },
    };
    let evidence = policies::evidence(&mut db, &version).await?;
    let facts = Facts { version: &version, run: run.as_ref(), evidence: &evidence };
    Ok(match query.format {
        Format::Json => axum::Json(card::json(&facts)).into_response(),
        Format::Markdown => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], card::markdown(&facts)).into_response()
        }
    })
}
