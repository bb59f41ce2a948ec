//! REST v1: model cards.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header;
use serde::Deserialize;
use slipway_service_kit::Problem;
use slipway_service_kit::extract::Query;

use super::version_of;
use crate::card;
use crate::error::Error;
use crate::lineage::Lineage;
use crate::state::Registry;

pub(super) fn router() -> Router<Registry> {
    Router::new().route("/api/v1/models/{name}/versions/{version}/card", get(show))
}

#[derive(Debug, Deserialize)]
struct CardQuery {
    #[serde(default)]
    format: Format,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Markdown,
}

async fn show(
    State(registry): State<Registry>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<CardQuery>,
) -> Result<Response, Problem> {
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    let found = version_of(&mut db, &name, &version).await?;
    let lineage = Lineage::read(&mut db, found).await?;
    Ok(match query.format {
        Format::Json => axum::Json(card::json(&lineage)).into_response(),
        Format::Markdown => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], card::markdown(&lineage))
                .into_response()
        }
    })
}
