//! REST v1: where a version came from and where it went.

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};

use super::{Answer, version_of};
use crate::error::Error;
use crate::lineage::Lineage;
use crate::state::Registry;

pub(super) fn router() -> Router<Registry> {
    Router::new().route("/api/v1/models/{name}/versions/{version}/lineage", get(show))
}

async fn show(State(registry): State<Registry>, Path((name, version)): Path<(String, String)>) -> Answer {
    let mut db = registry.pool.acquire().await.map_err(Error::from)?;
    let found = version_of(&mut db, &name, &version).await?;
    Ok(Json(Lineage::read(&mut db, found).await?.body()))
}
