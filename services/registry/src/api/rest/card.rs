//! REST v1: model cards.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header;
use serde::Deserialize;
use slipway_service_kit::Problem;
use slipway_service_kit::extract::{Path, Query};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::version_of;
use crate::access::Caller;
use crate::error::Error;
use crate::models::card;
use crate::models::lineage::Lineage;
use crate::state::Registry;

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
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<CardQuery>,
) -> Result<Response, Problem> {
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    let found = version_of(&mut db, &name, &version).await?;
    let lineage = Lineage::read(&mut db, found, registry.access.reader(&caller)).await?;
    Ok(match query.format {
        Format::Json => axum::Json(card::json(&lineage)).into_response(),
        Format::Markdown => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], card::markdown(&lineage))
                .into_response()
        }
    })
}
