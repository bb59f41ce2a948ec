//! REST v1: model cards.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header;
use serde::Deserialize;
use slipway_domain::registry::validate_version;
use slipway_service_kit::Problem;
use slipway_service_kit::extract::Query;

use crate::card::{self, Facts};
use crate::error::{Code, Error};
use crate::promotion;
use crate::state::Registry;
use crate::store::{model_versions, runs};

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
    let evidence = promotion::evidence(&mut db, &version).await?;
    let facts = Facts { version: &version, run: run.as_ref(), evidence: &evidence };
    Ok(match query.format {
        Format::Json => axum::Json(card::json(&facts)).into_response(),
        Format::Markdown => {
            ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], card::markdown(&facts)).into_response()
        }
    })
}
